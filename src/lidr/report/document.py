"""What a report is made of: sections of texts, tables, plots and samples, without a word about how they look.

`report/html.py` and `report/markdown.py` each write any document, so that its content is described once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lidr.report.formatting import interval, number
from lidr.report.measures import Cell


@dataclass(frozen=True, slots=True)
class Bold:
    text: str


@dataclass(frozen=True, slots=True)
class Italic:
    text: str


@dataclass(frozen=True, slots=True)
class Code:
    text: str


@dataclass(frozen=True, slots=True)
class Link:
    text: str
    address: str


Inline = str | Bold | Italic | Code | Link


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph. `note` is small print, `alarm` a conspicuous box."""

    parts: tuple[Inline, ...]
    style: Literal["", "lead", "note", "alarm"] = ""


@dataclass(frozen=True, slots=True)
class Bullets:
    items: Sequence[tuple[Inline, ...]]


@dataclass(frozen=True, slots=True)
class Heading:
    text: str
    level: Literal[3, 4] = 3


@dataclass(frozen=True, slots=True)
class Entry:
    """A cell of a table: what it shows, and below that, or in brackets, in small letters."""

    text: str
    small: tuple[str, ...] = ()
    style: Literal["", "words", "strong", "code", "clear", "noise", "zero"] = ""
    badge: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    title: Entry
    cells: Sequence[Entry]
    style: Literal["", "mean", "total"] = ""


@dataclass(frozen=True, slots=True)
class Table:
    """`header` names the first column, too. `label` is for screen readers, `note` says how to read the table."""

    label: str
    header: Sequence[str]
    rows: Sequence[Row]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Plot:
    """`svg` is what `plots.draw` made, which escapes its texts. Only HTML shows it."""

    svg: str
    caption: str = ""
    is_wide: bool = False


@dataclass(frozen=True, slots=True)
class Plots:
    """Several plots beside one another."""

    plots: Sequence[Plot]
    are_small: bool = False


@dataclass(frozen=True, slots=True)
class Beside:
    """A plot, and the table of the same figures."""

    plot: Plot
    table: Table


@dataclass(frozen=True, slots=True)
class Listing:
    """A file."""

    text: str
    language: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A text of a model, or a prompt. `code` is its language, `origin` says where it is from."""

    text: str
    code: str
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """A prompt and two answers to it, each with its title and tone."""

    title: tuple[Inline, ...]
    prompt: Answer
    sides: Sequence[tuple[str, Literal["chosen", "rejected", "even"], Answer]]


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure in large print; its sentence is in the summary."""

    label: str
    who: str
    figures: str
    verdict: str
    tone: str  # good, bad or flat


@dataclass(frozen=True, slots=True)
class Tiles:
    tiles: Sequence[Tile]


@dataclass(frozen=True, slots=True)
class Folded:
    """Blocks under a title that opens them; in Markdown they simply follow the title."""

    title: str
    aside: str
    blocks: Sequence[Block]
    is_open: bool = False


Block = Text | Bullets | Heading | Table | Plot | Plots | Beside | Listing | Sample | Tiles | Folded


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a document; `anchor` is its address within the page. The first one has no title."""

    anchor: str
    title: str
    blocks: Sequence[Block]
    short: str = ""  # in the list of contents

    @property
    def name(self) -> str:
        return self.short or self.title


@dataclass(frozen=True, slots=True)
class Document:
    """`facts` are (name, value) pairs of its head, `fingerprint` identifies what it was made from."""

    title: str
    description: str
    facts: Sequence[tuple[str, Inline]]
    sections: Sequence[Section]
    fingerprint: str = ""


def note(text: str) -> Text:
    return Text((text,), "note")


def figure(cell: Cell | None) -> Entry:
    """A value above its interval."""
    return Entry(number(cell.value if cell else None), (interval(cell.interval),) if cell and cell.interval else ())
