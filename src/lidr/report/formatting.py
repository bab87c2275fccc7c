"""How the report writes numbers, languages and lists, and makes untrusted texts printable."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lidr.languages import LANGUAGES
from lidr.results import Interval

PAPER = "https://arxiv.org/abs/2410.08964"
VERDICTS = {"dominant": "dominant", "train": "train", "weak": "weak signal", "drop": "drop", "unknown": "no data"}


def language_name(code: str) -> str:
    """English name of a language, or its code if the table lacks it."""
    return LANGUAGES[code].name if code in LANGUAGES else code


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def signed(value: float) -> str:
    """A number with its sign, with U+2212 as the minus."""
    text = f"{value:+.3f}".replace("-", "−")
    return "±0.000" if text[1:] == "0.000" else text


def interval(bounds: Interval) -> str:
    return f"{bounds[0]:.2f}–{bounds[1]:.2f}"


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def join_names(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def printable(text: str) -> str:
    """Text that every reader of UTF-8 accepts: lone surrogates and control characters become U+FFFD."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", "\ufffd", text.replace("\r\n", "\n"))


def clipped(text: str, limit: int) -> str:
    """At most `limit` characters of a text, and how many more there are."""
    return text if len(text) <= limit else f"{text[:limit]}\n[… {len(text) - limit:,} more characters]"


def p_value(value: float) -> str:
    """The p-value with spaces that do not break."""
    text = "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
    return text.replace(" ", "\N{NO-BREAK SPACE}")
