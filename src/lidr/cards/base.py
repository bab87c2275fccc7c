"""What both cards need: names on the Hub, the licence in the Hub's form, and the page itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lidr.config import LABORATORIES, Config, may_be_hub_id
from lidr.errors import ConfigError
from lidr.report.formatting import PAPER
from lidr.report.markdown import SafeMarkdown, fenced, one_line

if TYPE_CHECKING:
    from huggingface_hub import CardData

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)

# Identifiers that the Hub accepts as `license` (its documentation, "Licenses"). It refuses a card with any other word,
# so a licence that is missing here becomes `license: other` with its name.
_KNOWN_LICENSES = (
    "afl-3.0", "agpl-3.0", "apache-2.0", "artistic-2.0", "bigcode-openrail-m", "bigscience-bloom-rail-1.0",
    "bigscience-openrail-m", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "bsl-1.0", "c-uda", "cc",
    "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0",
    "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0",
    "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0",
    "creativeml-openrail-m", "deepfloyd-if-license", "ecl-2.0", "epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1",
    "gemma", "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "isc", "lgpl", "lgpl-2.1", "lgpl-3.0", "lgpl-lr", "llama2",
    "llama3", "llama3.1", "llama3.2", "llama3.3", "lppl-1.3c", "mit", "mpl-2.0", "ms-pl", "ncsa", "odbl", "odc-by",
    "ofl-1.1", "openrail", "openrail++", "osl-3.0", "pddl", "postgresql", "unknown", "unlicense", "wtfpl", "zlib",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Published:
    """What only the publisher knows; None if it is not given.

    The repositories' names on the Hub, the licence in place of the recipe's `about.license`, and the base model's name
    on the Hub if the recipe has it in a local folder.
    """

    model_repo: str | None = None
    data_repo: str | None = None
    license: str | None = None
    base_model: str | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError for a name that the Hub does not allow."""
        for option, name in (
            ("--model-repo", self.model_repo),
            ("--data-repo", self.data_repo),
            ("--base-model", self.base_model),
        ):
            if name is not None and not _NAME.fullmatch(name):
                raise ConfigError(f"{option} {name}: a name on the Hub is needed, such as my-organisation/my-name")


def license_fields(name: str | None) -> dict[str, str]:
    """A licence as fields of a card that the Hub accepts."""
    if name is None:
        return {"license": "unknown"}
    known = name.strip().lower()
    if known in _KNOWN_LICENSES:
        return {"license": known}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.+-]+", "-", known).strip("-") or "other"}


def given_license(config: Config, published: Published) -> str | None:
    return published.license or config.about.license


def hub_id(path: str) -> str | None:
    """The Hub's name of a model or data set that a recipe names by its id or an `hf://` URL; None if it has none.

    A relative path of two parts looks like an id, too; only the run can tell whether it was one.
    """
    if path.startswith("hf://"):
        parts = path.removeprefix("hf://").removeprefix("datasets/").removeprefix("models/").split("/")
        name = "/".join(parts[:2]).partition("@")[0]
    elif may_be_hub_id(path):
        name = path
    else:
        return None
    return name if _NAME.fullmatch(name) else None


def base_model(config: Config, found: str | None, published: Published) -> tuple[str | None, SafeMarkdown]:
    """(the base model's name on the Hub or None, how a sentence names it). Of a folder only the last part is named.

    `found` is the name on the Hub that the run has it from.
    """
    if name := published.base_model or found:
        return name, hub_link(name)
    if config.model.path in LABORATORIES:
        return None, SafeMarkdown("the laboratory's model (it comes with lidr)")
    return None, SafeMarkdown(f"the model in a folder called {one_line(Path(config.model.path).name)}")


def hub_link(name: str, kind: str = "") -> SafeMarkdown:
    return SafeMarkdown(f"[{one_line(name)}](https://huggingface.co/{kind}{name})")


def code_block(lines: Sequence[str]) -> SafeMarkdown:
    """Our own Python code; values in it are written with `repr`, so a fence cannot be closed from within."""
    return fenced("\n".join(lines), "python")


def render_card(template: str, metadata: CardData, context: Mapping[str, object]) -> str:
    """The metadata as YAML between dashes, then the page."""
    from lidr.report.templates import render

    page = render(template, {**context, "paper": PAPER})
    return f"---\n{metadata.to_yaml()}\n---\n\n{page}"
