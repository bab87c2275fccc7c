"""Fills the templates of the report, the cards and the records."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from lidr.progress import duration
from lidr.report import markdown
from lidr.report.formatting import interval, language_name, number, p_value, percent, signed
from lidr.report.plots import dot_plot

PAPER = "https://arxiv.org/abs/2410.08964"


def render(template: str, context: dict[str, Any]) -> str:
    """Fill `templates/report.html` or `templates/report.md`; every value is escaped unless it is marked as safe."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    is_html = template.endswith(".html")
    environment = Environment(
        loader=FileSystemLoader(str(files("lidr") / "templates")),
        autoescape=is_html,
        finalize=None if is_html else markdown.one_line,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "number": number, "signed": signed, "interval": interval, "duration": duration, "percent": percent,
        "language_name": language_name, "listed": markdown.listed, "block": markdown.block,
        "measure_table": markdown.measure_table, "pair_table": markdown.pair_table,
        "time_table": markdown.time_table, "step_table": markdown.step_table,
        "group_table": markdown.group_table, "environment_table": markdown.environment_table,
        "grid_table": markdown.grid_table, "p_value": p_value,
        "dot_plot": dot_plot, "svg": Markup,  # only for what `plots.draw` made, which escapes its texts
    }  # fmt: skip
    return environment.get_template(template).render(context)
