"""The report's Markdown: escaped texts, fenced blocks and tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from lidr.progress import duration
from lidr.report.contents import PairTable
from lidr.report.formatting import clipped, finite, language_name, number, printable, signed
from lidr.report.log import TimeTable
from lidr.report.measures import Measure, with_interval
from lidr.report.tables import Grid
from lidr.report.telemetry import GroupTable


class SafeMarkdown(str):
    """Text that is Markdown already; all other values are escaped."""

    __slots__ = ()


def one_line(value: Any) -> SafeMarkdown:
    """A value as one line of Markdown without meaning of its own, in a table's cell as well."""
    if isinstance(value, SafeMarkdown):
        return value
    line = " ".join(printable(str(value)).split())
    # An underscore inside a word is one: it needs no escape.
    escaped = re.sub(r"([\\`*\[\]<>|$~#]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", line)
    return SafeMarkdown(escaped.replace("&", "&amp;"))


def block(text: str, kind: str = "text", limit: int | None = None) -> SafeMarkdown:
    """A text between fences that are longer than any row of backticks in it; clipped to `limit` characters."""
    text = printable(text).rstrip("\n")
    if limit is not None:
        text = clipped(text, limit)
    fence = "`" * max(3, 1 + max((len(row) for row in re.findall(r"`+", text)), default=0))
    return SafeMarkdown(f"{fence}{kind}\n{text}\n{fence}")


def table(header: Sequence[Any], rows: Iterable[Sequence[Any]]) -> SafeMarkdown:
    """A table whose first column is words and the rest figures."""
    lines = [header, [SafeMarkdown("---"), *[SafeMarkdown("---:")] * (len(header) - 1)], *rows]
    return SafeMarkdown("\n".join(f"| {' | '.join(one_line(value) for value in line)} |" for line in lines))


def measure_table(measure: Measure) -> SafeMarkdown:
    compared = len(measure.models) > 1
    rows = list(measure.rows)
    if mean := measure.mean_row:
        rows.append(mean)
    lines = []
    for row in rows:
        name = f"Mean of {row.name}" if row.role == "mean" else row.title
        change = f"{signed(row.change.delta)}, {row.change.words}" if row.change else "–"
        lines.append([name, *map(with_interval, row.cells), *([change] if compared else [])])
    arrow = [f"{measure.models[0]} → {measure.models[-1]}"] if compared else []
    return table(["Language", *measure.models, *arrow], lines)


def grid_table(grid: Grid) -> SafeMarkdown:
    """Small print of the page, in brackets."""
    rows = [[name, *(f"{main} ({small})" if small else main for main, small in cells)] for name, cells in grid.rows]
    return table(grid.header, rows)


def pair_table(pairs: PairTable) -> SafeMarkdown:
    lines = [("pairs", [*pairs.kept, pairs.total], "What the model was trained on.")]
    lines += [(row.reason, [*row.counts, row.total], row.meaning) for row in pairs.rows]
    rows = [[name, *(f"{count:,}" for count in counts), meaning] for name, counts, meaning in lines]
    return table(["", *map(language_name, pairs.codes), "All", "Meaning"], rows)


def time_table(times: TimeTable) -> SafeMarkdown:
    rows = [[name, *map(duration, seconds), throughput] for name, seconds, throughput in times.rows]
    return table(["Stage", *times.columns, "Throughput"], [*rows, ["Sum", *map(duration, times.totals), ""]])


def step_table(steps: Sequence[tuple[int, int, dict[str, Any]]]) -> SafeMarkdown:
    """(iteration, number of steps, values of the last step) of every training."""
    names = ["loss", "nll", "dpo", "reward_accuracy", "margin"]
    names = [name for name in names if any(name in last for _, _, last in steps)]
    rows = [[iteration, count, *(number(finite(last.get(name))) for name in names)] for iteration, count, last in steps]
    return table(["Iteration", "steps", *(name.replace("_", " ") for name in names)], rows)


def group_table(groups: GroupTable) -> SafeMarkdown:
    return table(["", *groups.header], [[name, *cells] for name, cells in groups.rows])


def environment_table(environment: dict[str, Any]) -> SafeMarkdown:
    if not environment:
        return SafeMarkdown("Not recorded.")
    return table(["What", "Value"], [[name, listed(value)] for name, value in environment.items()])


def listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
