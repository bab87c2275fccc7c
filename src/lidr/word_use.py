"""Which words of a text are those of another language, by how often the texts of a run use them in each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

_COMMAND = re.compile(r"\\[A-Za-z]+")  # of LaTeX: \times is not an English word, the content of \text{} may be
# Scripts without spaces (Han, kana, Thai) count by the letter.
_DENSE = r"\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f"
_WORD = re.compile(
    rf"[{_DENSE}]|[^\W\d_{_DENSE}](?:[^\W\d_{_DENSE}]|[\u0900-\u0dff])*"
)  # Indic vowel signs stay inside
_LETTER = re.compile(rf"[{_DENSE}]")
_TIMES = 5  # as often in the other language: names and shared words are equally frequent in both


def split_words(text: str) -> list[str]:
    """The words of a text in lower case. Single letters of alphabets are left out: they are variables and units."""
    return [word for word in _WORD.findall(_COMMAND.sub(" ", text.lower())) if len(word) > 1 or _LETTER.match(word)]


def count_words(texts: Iterable[str]) -> Counter[str]:
    """How often each word occurs."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(split_words(text))
    return counts


class WordUse:
    """Two languages, distinguished word by word.

    A word is foreign if the other language's texts use it at least five times as often, relative to their length, as
    the own language's do (with half an occurrence added there). Both should be about the same things, so that names
    and topics are equally frequent.
    """

    def __init__(self, own: Counter[str], other: Counter[str]) -> None:
        ratio = _TIMES * max(1, other.total()) / max(1, own.total())
        self._foreign = {word for word, count in other.items() if count >= ratio * (own[word] + 0.5)}

    def foreign_words(self, text: str) -> list[str]:
        """The foreign words of a text, in their order, each as often as it occurs."""
        return [word for word in split_words(text) if word in self._foreign]

    def foreign_share(self, text: str) -> float:
        """The share of foreign words among all words of a text, from 0 to 1."""
        words = split_words(text)
        return sum(word in self._foreign for word in words) / len(words) if words else 0.0
