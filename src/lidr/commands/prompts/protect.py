"""What a translation must leave alone: code, addresses, placeholders, numbers and line breaks.

`cut` divides a text into what is translated and what stays unchanged, `check` says what a translation lost.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from lidr.languages.identification import LanguageIdentifier

Cut = Literal["whole", "paragraphs", "blocks", "lines", "spans"]

_FENCED = re.compile(r"^[ \t]*(```|~~~).*?(?:^[ \t]*\1[^\S\n]*$|\Z)", re.M | re.S)
# In this order: code may hold an address, an address a placeholder.
_KINDS = {
    "code": r"`[^`\n]+`",
    "address": r"(?:https?://|www\.)[^\s<>()\[\]{}\"'，。]*[^\s<>()\[\]{}\"'.,;:!?，。]|[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
    "placeholder": (
        r"\{\{[^{}\n]*\}\}|\$\{[^{}\n]*\}|\{[^{}\n]*\}|%\(\w+\)[sdif]|%[sdif]\b|</?[A-Za-z][^<>\n]*>"
        r"|\[[A-Z][A-Z0-9_ ]*\]|<<[^<>\n]*>>"
    ),
}
_SPAN = re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in _KINDS.items()))
_MASK = re.compile(r"__\s?(\d+)\s?__")
# Separators inside of a number, in any language's convention; a space only between groups of three digits.
_SEPARATED = re.compile(r"(?<=\d)[.,'’٬٫\u00a0\u202f\u2009](?=\d)")
_GROUPED = re.compile(r"(?<=\d) (?=\d{3}(?!\d))")
_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a text. `kept` are the spans behind the masks `__0__`, `__1__` ... of a part that is translated."""

    text: str
    translated: bool
    kept: tuple[str, ...] = ()


def cut(text: str, how: Cut) -> list[Part]:
    """Parts that give the text again when joined (masks filled in).

    `whole` is one part. The others leave out code blocks: `paragraphs` are not masked; `blocks` (what is between code
    blocks) and `lines` are; `spans` are the texts between protected spans.
    """
    if how == "whole":
        return [Part(text, True)]
    parts: list[Part] = []
    end = 0
    for block in _FENCED.finditer(text):
        parts += _cut_prose(text[end : block.start()], how)
        parts.append(Part(block[0], False))
        end = block.end()
    return parts + _cut_prose(text[end:], how)


def _cut_prose(text: str, how: Cut) -> list[Part]:
    separator = {"paragraphs": r"(\n[ \t]*\n\s*)", "blocks": r"(\A\s+|\s+\Z)"}.get(how, r"(\n)")
    parts = []
    for piece in re.split(separator, text):
        for inner in _between_spans(piece) if how == "spans" else [piece]:
            parts += _part(inner, masked=how in ("blocks", "lines"))
    return parts


def _between_spans(text: str) -> list[str]:
    pieces, end = [], 0
    for span in _SPAN.finditer(text):
        pieces += [text[end : span.start()], span[0]]
        end = span.end()
    return [*pieces, text[end:]]


def _part(text: str, masked: bool) -> list[Part]:
    """One piece with the spaces around it as parts of their own; what has no letters is not translated."""
    inside = text.strip()
    if not any(map(str.isalpha, _SPAN.sub("", inside))):
        return [Part(text, False)] if text else []
    start = text.index(inside)
    around = [Part(space, False) if space else None for space in (text[:start], text[start + len(inside) :])]
    spans = tuple(span[0] for span in _SPAN.finditer(inside)) if masked else ()
    numbers = iter(range(len(spans)))
    shown = _SPAN.sub(lambda _: f"__{next(numbers)}__", inside) if masked else inside
    return [part for part in (around[0], Part(shown, True, spans), around[1]) if part]


def join(parts: list[Part], translations: dict[str, str]) -> str | None:
    """The text with its parts translated (part's text -> translation); None if a mask was lost or doubled."""
    pieces = []
    for part in parts:
        text = translations[part.text] if part.translated else part.text
        if part.kept:
            found = [int(number) for number in _MASK.findall(text)]
            if sorted(found) != list(range(len(part.kept))):
                return None
            text = _MASK.sub(lambda mask, kept=part.kept: kept[int(mask[1])], text)  # type: ignore[misc]
        pieces.append(text)
    return "".join(pieces)


def protected(text: str) -> list[str]:
    """The spans that have to survive, code blocks included."""
    return [block[0] for block in _FENCED.finditer(text)] + [span[0] for span in _SPAN.finditer(_FENCED.sub("", text))]


def check(source: str, translation: str, languages: tuple[str, str], identifier: LanguageIdentifier) -> str:
    """Why a text is not a good translation; empty if it is one. `languages` are those of the two texts.

    "empty", "code", "address", "placeholder", "numbers", "line_breaks", "not_translated" (still in the source's
    language), "wrong_language". Numbers are compared by their digits, in whatever script and with whatever separators;
    one that was written out in words counts as lost.
    """
    if not translation.strip():
        return "empty"
    if Counter(_blocks(source)) != Counter(_blocks(translation)):
        return "code"
    before, after = _FENCED.sub("", source), _FENCED.sub("", translation)
    for kind in _KINDS:
        if _spans(before, kind) != _spans(after, kind):
            return kind
    before, after = _SPAN.sub(" ", before), _SPAN.sub(" ", after)
    if not _same_numbers(before, after):
        return "numbers"
    if _shape(source) != _shape(translation):
        return "line_breaks"
    found = identifier.identify(after)
    if found not in (None, languages[1]):
        return "not_translated" if found == languages[0] else "wrong_language"
    letters = sum(map(str.isalpha, before))
    return "not_translated" if letters >= 20 and before.strip() == after.strip() else ""


def _blocks(text: str) -> list[str]:
    return [block[0].strip() for block in _FENCED.finditer(text)]


def _spans(text: str, kind: str) -> Counter[str]:
    return Counter(span[0] for span in _SPAN.finditer(text) if span.lastgroup == kind)


def _same_numbers(a: str, b: str) -> bool:
    return any(_numbers(a, grouped_a) == _numbers(b, grouped_b) for grouped_a in (0, 1) for grouped_b in (0, 1))


def _numbers(text: str, grouped: int) -> Counter[str]:
    """The digits of every number; with `grouped` also across a plain space before three digits."""
    plain = "".join(str(unicodedata.decimal(char)) if char.isdecimal() else char for char in text)
    plain = _SEPARATED.sub("", plain)
    return Counter(_DIGITS.findall(_GROUPED.sub("", plain) if grouped else plain))


def _shape(text: str) -> list[bool]:
    """Which lines are blank."""
    return [bool(line.strip()) for line in text.strip().split("\n")]
