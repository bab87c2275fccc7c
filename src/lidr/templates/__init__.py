"""Templates as text files beside this module; `{{name}}` marks a value."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")


@cache
def read_template(name: str) -> str:
    """The text of a file, or of `<name>.txt`, without its final newline."""
    return (files(__name__) / (name if "." in name else f"{name}.txt")).read_text(encoding="utf-8").removesuffix("\n")


def fill_template(template: str, **values: str) -> str:
    """Replace every `{{name}}` in one pass, so that braces or placeholders inside a value stay as they are.

    Raises KeyError for a placeholder without a value.
    """
    return _PLACEHOLDER.sub(lambda match: values[match.group(1)], template)
