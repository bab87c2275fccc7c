"""A document as one self-contained page. Texts of models are untrusted: every value is escaped."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

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
    Plot,
    Plots,
    Row,
    Sample,
    Section,
    Table,
    Text,
    Tiles,
)
from lidr.templates import fill_template, read_template


def page(document: Document) -> str:
    """The whole page; `templates/report.html` has its head and its style."""
    facts = (f"<div><dt>{escape(name)}</dt><dd>{_inline(value)}</dd></div>" for name, value in document.facts)
    named = [section for section in document.sections if section.title]
    links = (f'<a href="#{section.anchor}">{escape(section.name)}</a>' for section in named)
    return fill_template(
        read_template("report.html"),
        fingerprint=document.fingerprint,
        title=escape(document.title),
        description=f"<p>{escape(document.description)}</p>" if document.description else "",
        facts="\n".join(facts),
        contents="\n".join(links),
        sections="\n\n".join(map(_section, document.sections)),
    )


def _section(section: Section) -> str:
    title = f"<h2>{escape(section.title)}</h2>" if section.title else ""
    address = f'id="{section.anchor}"' if section.title else 'aria-label="Summary"'
    return f"<section {address}>{title}\n{_blocks(section.blocks)}\n</section>"


def _blocks(blocks: Iterable[Block]) -> str:
    return "\n".join(map(_block, blocks))


def _block(block: Block) -> str:
    match block:
        case Text(parts, style):
            return f"<p{_class(style)}>{_inlines(parts)}</p>"
        case Bullets(items):
            return _lines('<ul class="plain">', *(f"<li>{_inlines(item)}</li>" for item in items), "</ul>")
        case Heading(text, level):
            return f"<h{level}>{escape(text)}</h{level}>"
        case Table():
            return _table(block) + (f'\n<p class="note">{escape(block.note)}</p>' if block.note else "")
        case Plot():
            return _plot(block)
        case Plots(plots, are_small):
            return _lines(f'<div class="{"curves" if are_small else "plots"}">', *map(_plot, plots), "</div>")
        case Beside(plot, table):
            return f'<div class="columns">{_plot(plot)}{_table(table)}</div>'
        case Listing(text):
            return f'<pre tabindex="0">{escape(text)}</pre>'
        case Sample():
            return _sample(block)
        case Tiles(tiles):
            shown = (
                f'<div class="tile {tile.tone}"><p class="label">{escape(tile.label)}<br>{escape(tile.who)}</p>'
                f'<p class="figures">{escape(tile.figures)}</p><p class="verdict">{escape(tile.verdict)}</p></div>'
                for tile in tiles
            )
            return _lines('<div class="tiles">', *shown, "</div>")
        case Folded(title, aside, blocks, is_open):
            opening = (
                f"<details{' open' if is_open else ''}><summary>{escape(title)} <span>{escape(aside)}</span></summary>"
            )
            return _lines(f'{opening}<div class="inside">', _blocks(blocks), "</div></details>")


def _lines(*lines: str) -> str:
    return "\n".join(lines)


def _class(style: str) -> str:
    return f' class="{style}"' if style else ""


def _inlines(parts: Iterable[Inline]) -> str:
    return "".join(map(_inline, parts))


def _inline(part: Inline) -> str:
    match part:
        case Bold(text):
            return f"<strong>{escape(text)}</strong>"
        case Italic(text):
            return f"<em>{escape(text)}</em>"
        case Code(text):
            return f"<code>{escape(text)}</code>"
        case Link(text, address):
            return f'<a href="{escape(address)}" rel="noreferrer">{escape(text)}</a>'
        case _:
            return escape(part)


def _table(table: Table) -> str:
    """A table that scrolls by itself if it is too wide for the page."""
    styles = [cell.style for cell in table.rows[0].cells] if table.rows else []
    words = {number for number, style in enumerate(styles, 1) if style == "words"}
    header = "".join(
        f'<th scope="col"{_class("words" if number in words else "")}>{escape(title)}</th>'
        for number, title in enumerate(table.header)
    )
    rows = "\n".join(map(_row, table.rows))
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.label)}">\n<table>\n'
        f"<thead><tr>{header}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>"
    )


def _row(row: Row) -> str:
    cells = "".join(f"<td{_class(cell.style)}>{_entry(cell)}</td>" for cell in row.cells)
    return f'<tr{_class(row.style)}><th scope="row">{_entry(row.title)}</th>{cells}</tr>'


def _entry(entry: Entry) -> str:
    text = escape(entry.text)
    text = {"strong": f"<strong>{text}</strong>", "code": f"<code>{text}</code>"}.get(entry.style, text)
    badge = f'<span class="role {escape(entry.badge)}">{escape(entry.badge)}</span>' if entry.badge else ""
    return text + badge + "".join(f"<small>{escape(small)}</small>" for small in entry.small)


def _plot(plot: Plot) -> str:
    caption = f"<figcaption>{escape(plot.caption)}</figcaption>" if plot.caption else ""
    wide = f' tabindex="0" role="region" aria-label="{escape(plot.caption)}"' if plot.is_wide else ""
    return f'<figure class="plot{" wide" if plot.is_wide else ""}"{wide}>{caption}{plot.svg}</figure>'


def _sample(sample: Sample) -> str:
    sides = "".join(
        f'<div class="side {tone}"><h5>{escape(title)} <span>{escape(answer.origin)}</span></h5>{_answer(answer)}</div>'
        for title, tone, answer in sample.sides
    )
    title, prompt = _inlines(sample.title), _answer(sample.prompt)
    return f'<article class="sample"><h4>{title}</h4>\n{prompt}\n<div class="sides">{sides}</div>\n</article>'


def _answer(answer: Answer) -> str:
    lang = escape(answer.code)
    return f'<div class="text" tabindex="0" dir="auto" lang="{lang}">{escape(answer.text)}</div>'
