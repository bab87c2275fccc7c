"""How all commands read paths, lists of names and settings from their arguments."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from lidr.engine_settings import EngineSettings
    from lidr.records import Json

_PACKAGE = Path(__file__).resolve().parents[1]


def text(value: str) -> str:
    """A path or a name as text. Raises BadParameter for one that is empty or holds control characters."""
    if not value.strip() or not value.isprintable():
        raise typer.BadParameter(f"{value!r} is neither a path nor a name")
    return value


def path(value: str | Path) -> Path:
    """A path. Raises BadParameter as `text` does."""
    return Path(text(str(value)))


def new_path(value: str | Path) -> Path:
    """A path to write to. Raises BadParameter as `path` does, and for one inside this package."""
    found = path(value)
    if found.expanduser().resolve().is_relative_to(_PACKAGE):
        raise typer.BadParameter(f"{found} is inside of lidr's own package; name a folder elsewhere")
    return found


def names(value: str | None, option: str) -> list[str]:
    """The names in a comma-separated list, each once; none without the option. Raises BadParameter if it is empty."""
    found = list(dict.fromkeys(name.strip() for name in (value or "").split(",") if name.strip()))
    if value is not None and not found:
        raise typer.BadParameter(
            f"{value!r} names nothing; leave {option} out, or name some with commas", param_hint=option
        )
    return found


def parse_setting(item: str) -> tuple[str, object]:
    """Name and value of `--set name=value`. Raises ConfigError for another form."""
    from lidr.errors import ConfigError
    from lidr.yaml_input import read_value

    name, equals, value = item.partition("=")
    if not equals:
        raise ConfigError(f"--set {item}: write it as field=value, for example batch_size=32")
    return name.strip(), read_value(value, f"--set {name}")


def parse_engine(base_url: str | None, given: list[str] | None) -> EngineSettings:
    """The engine of a command outside of recipes. Raises ConfigError for a field that it does not have."""
    from pydantic import ValidationError

    from lidr.config import explain
    from lidr.errors import ConfigError
    from lidr.plugins import reader

    values: Json = {"type": "openai", "base_url": base_url} if base_url else {"type": "transformers"}
    for item in given or []:
        name, value = parse_setting(item)
        values[name.removeprefix("engine.")] = value
    try:
        engine: EngineSettings = reader("engines", "transformers")(values)
    except ValidationError as error:
        problem = error.errors()[0]
        said = explain(problem | {"loc": ("engine", *problem["loc"])}).removeprefix("engine.")
        raise ConfigError(f"--set {said}") from None
    except ValueError as error:
        raise ConfigError(f"--set {getattr(error, 'field', '') or 'type'}: {error}") from None
    return engine
