"""A document as Markdown, and what the cards' templates need: escaped texts, fenced blocks and tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from lidr.report.document import (
    Answer,
    Beside,
    Block,
    Bold,
    Bullets,
    Code,
    Document,
    Entry,
    Folded,
    Heading,
    Inline,
    Italic,
    Link,
    Listing,
    Sample,
    Table,
    Text,
)
from lidr.report.formatting import clipped, printable

_LONGEST_ANSWER = 2000  # characters; the page has all of it


class SafeMarkdown(str):
    """Text that is Markdown already; all other values are escaped."""

    __slots__ = ()


def text_of(document: Document) -> str:
    """The whole document; its plots, tiles and facts are for the page."""
    parts = [f"# {one_line(document.title)}"]
    if document.description:
        parts.append(one_line(document.description))
    for section in document.sections:
        if section.title:
            parts.append(f"## {one_line(section.title)}")
        parts += [part for part in _blocks(section.blocks) if part]
    return "\n\n".join(parts) + "\n"


def _blocks(blocks: Iterable[Block]) -> Iterator[str]:
    for block in blocks:
        match block:
            case Text(parts):
                yield _inlines(parts)
            case Bullets(items):
                yield "\n".join(f"- {_inlines(item)}" for item in items)
            case Heading(text, level):
                yield f"{'#' * level} {one_line(text)}"
            case Table():
                yield table(block)
                yield one_line(block.note)
            case Beside(_, beside):
                yield table(beside)
            case Listing(text, language):
                yield fenced(text, language)
            case Sample():
                yield from _sample(block)
            case Folded(title, _, inside):
                yield f"### {one_line(title)}"
                yield from _blocks(inside)


def _sample(sample: Sample) -> Iterator[str]:
    yield _inlines(sample.title)
    yield _answer(sample.prompt)
    for title, _, answer in sample.sides:
        yield f"{one_line(title)}: {one_line(answer.origin)}"
        yield _answer(answer)


def _answer(answer: Answer) -> str:
    return fenced(answer.text, limit=_LONGEST_ANSWER)


def _inlines(parts: Iterable[Inline]) -> str:
    return "".join(map(_inline, parts))


def _inline(part: Inline) -> str:
    match part:
        case Bold(text):
            return f"**{one_line(text)}**"
        case Italic(text):
            return f"*{one_line(text)}*"
        case Code(text):
            return one_line(text)
        case Link(text, address):
            return f"[{one_line(text)}]({address})"
        case _:
            start, end = (" " if part[at : at + 1].isspace() else "" for at in (0, len(part) - 1))
            return f"{start}{one_line(part)}{end}"


def one_line(value: object) -> SafeMarkdown:
    """A value as one line of Markdown without meaning of its own, in a table's cell as well."""
    if isinstance(value, SafeMarkdown):
        return value
    line = " ".join(printable(str(value)).split())
    # An underscore inside a word is one: it needs no escape.
    escaped = re.sub(r"([\\`*\[\]<>|$~#]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", line)
    return SafeMarkdown(escaped.replace("&", "&amp;"))


def fenced(text: str, kind: str = "text", limit: int | None = None) -> SafeMarkdown:
    """A text between fences that are longer than any row of backticks in it; clipped to `limit` characters."""
    text = printable(text).rstrip("\n")
    if limit is not None:
        text = clipped(text, limit)
    fence = "`" * max(3, 1 + max((len(row) for row in re.findall(r"`+", text)), default=0))
    return SafeMarkdown(f"{fence}{kind}\n{text}\n{fence}")


def table(shown: Table) -> SafeMarkdown:
    """A table whose first column is words, and the rest figures."""
    rows = [[_entry(row.title), *map(_entry, row.cells)] for row in shown.rows]
    return lines_table(shown.header, rows)


def lines_table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> SafeMarkdown:
    """A table of plain values."""
    lines = [header, [SafeMarkdown("---"), *[SafeMarkdown("---:")] * (len(header) - 1)], *rows]
    return SafeMarkdown("\n".join(f"| {' | '.join(one_line(value) for value in line)} |" for line in lines))


def _entry(entry: Entry) -> str:
    """Small print and badges of the page, in brackets."""
    aside = [entry.badge, *entry.small] if entry.badge else entry.small
    return f"{entry.text} ({', '.join(aside)})" if aside else entry.text
