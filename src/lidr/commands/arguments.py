"""What the commands share in reading their arguments: paths and lists of names, refused where they cannot be meant."""

from __future__ import annotations

from pathlib import Path

import typer

_PACKAGE = Path(__file__).resolve().parents[1]


def text(value: str) -> str:
    """A path or a name as text. Raises BadParameter for one that is empty or holds control characters."""
    if not value.strip() or not value.isprintable():
        raise typer.BadParameter(f"{value!r} is neither a path nor a name")
    return value


def path(value: str | Path) -> Path:
    """A path. Raises BadParameter as `text`."""
    return Path(text(str(value)))


def new_path(value: str | Path) -> Path:
    """A path to write to. Raises BadParameter as `path`, and for one inside of this package."""
    found = path(value)
    if found.expanduser().resolve().is_relative_to(_PACKAGE):
        raise typer.BadParameter(f"{found} is inside of lidr's own package; name a folder elsewhere")
    return found


def names(value: str | None, option: str) -> list[str]:
    """The names in a list with commas, each once; none without the option. Raises BadParameter for an empty list."""
    found = list(dict.fromkeys(name.strip() for name in (value or "").split(",") if name.strip()))
    if value is not None and not found:
        raise typer.BadParameter(
            f"{value!r} names nothing; leave {option} out, or name some with commas", param_hint=option
        )
    return found
