"""Writes docs/recipes.md and docs/commands.md from the code: `python tools/make_docs.py [--check]`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from lidr.config import Config, load_config, shipped_recipes
from lidr.plugins import Plugin, built_in, load

DOCS = Path(__file__).parents[1] / "docs"
PARTS = {"engine": "engines", "pairs.strategy": "strategies", "evaluation.judge.protocol": "judges",
         "evaluation.benchmarks.NAME": "benchmarks"}  # fmt: skip
COMMANDS = ("", "run", "plan", "probe", "respond", "translate", "score", "pair", "train", "evaluate", "report",
            "status", "recipes", "import-gguf", "prompts sample", "prompts localize", "prompts invent", "arena",
            "export", "card", "push",
            "review", "audit", "lab pretrain")  # fmt: skip


def recipes_page() -> str:
    """Every field of a recipe with its default and docstring, and the shipped recipes."""
    lines = ["# Recipes", "", "A recipe is a YAML file with these fields. Unknown fields are errors; `--set a.b=c` "
             "overrides one.", "This page is made by `tools/make_docs.py` from `src/lidr/config.py` and the parts.", "",
             "## Shipped recipes", ""]  # fmt: skip
    lines += [f"- `{name}`: {load_config(name).description}" for name in shipped_recipes()]
    lines += ["", "## Fields", ""]
    for name, field in fields(Config, ""):
        lines.append(f"- **`{name}`** ({default_of(field)}): {' '.join((field.description or '').split())}")
    lines += ["", "## Fields of built-in parts", "", "Beside `type`, which may be given alone if nothing else is set; "
              "parts of your own: [extending.md](extending.md).", ""]  # fmt: skip
    for where, kind in PARTS.items():
        for part in built_in(kind):
            found = load(kind, part)[0]
            lines.append(f"- **`{where}: {{type: {part}}}`**: {' '.join((found.__doc__ or '').split())}")
            for name, field in found.model_fields.items():
                lines.append(f"  - `{name}` ({default_of(field)}): {' '.join((field.description or '').split())}")
    return "\n".join(lines) + "\n"


def fields(section: type[BaseModel], prefix: str) -> list[tuple[str, Any]]:
    """(dotted name, field) of everything that can be set below a section."""
    found: list[tuple[str, Any]] = []
    for name, field in section.model_fields.items():
        sections = list(_sections(field.annotation))
        for inner in sections:
            found += fields(inner, f"{prefix}{name}.")
        if not sections:
            found.append((f"{prefix}{name}", field))
    return found


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that a field may hold: one, or in the case of the engine one of several."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and not issubclass(annotation, Plugin):
        yield annotation
    elif get_origin(annotation) in (Union, UnionType, Annotated):
        for option in get_args(annotation):
            yield from _sections(option)


def default_of(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return "default: null" if value is None else f"default: `{value}`" if value != "" else "default: empty"


def commands_page() -> str:
    """The help of every command, as the terminal shows it."""
    lines = ["# Commands", "", "This page is made by `tools/make_docs.py` from the commands' own help.", ""]
    environment = os.environ | {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1"}
    for command in COMMANDS:
        arguments = [sys.executable, "-m", "lidr", *command.split(), "--help"]
        text = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment).stdout
        text = text.replace("python -m lidr", "lidr")
        body = "\n".join(line.rstrip() for line in text.strip().splitlines())
        lines += [f"## lidr {command}".rstrip(), "", "```", body, "```", ""]
    return "\n".join(lines)


def main() -> int:
    pages = {"recipes.md": recipes_page(), "commands.md": commands_page()}
    stale = [name for name, text in pages.items() if not (DOCS / name).exists() or (DOCS / name).read_text() != text]
    if "--check" in sys.argv:
        for name in stale:
            print(f"docs/{name} is out of date; run python tools/make_docs.py")
        return bool(stale)
    for name, text in pages.items():
        (DOCS / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
