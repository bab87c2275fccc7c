"""Fills the templates of the cards and the records, which are Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

from lidr.report import markdown
from lidr.report.formatting import interval, language_name, number


def render(template: str, context: Mapping[str, object]) -> str:
    """Fill a template of `templates/`; every value is escaped unless it is Markdown already (`SafeMarkdown`)."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(str(files("lidr") / "templates")),
        finalize=markdown.one_line,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "language_name": language_name, "number": number, "interval": interval,
        "block": markdown.fenced, "table": markdown.table,
    }  # fmt: skip
    return environment.get_template(template).render(context)
