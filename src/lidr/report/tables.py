"""A table as text: what the sections that are not one metric by language and model show beside their plots."""

from __future__ import annotations

from dataclasses import dataclass

from lidr.report.formatting import interval, number
from lidr.report.measures import Cell

# What a cell shows, and in small letters under it.
Entry = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Grid:
    """`header` names the first column, too. `note` says how to read it."""

    label: str
    header: list[str]
    rows: list[tuple[str, list[Entry]]]
    note: str = ""


def figure(cell: Cell | None) -> Entry:
    """A value above its interval."""
    return (number(cell.value if cell else None), interval(cell.interval) if cell and cell.interval else "")
