"""Which of a few languages a text is in, or None where it is too short or too little language to tell."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from copy import copy
from functools import cache
from typing import Any

# What carries no language: code blocks, inline code, formulas, links, tags.
NOT_LANGUAGE = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]*`|\$\$.*?\$\$|\\\[.*?\\\]|\\\(.*?\\\)|https?://\S+|<[^<>\n]{1,80}>", re.S
)
# Scripts in which one character carries about as much as a syllable or a word.
_DENSE = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
MIN_LETTERS = 12  # DESIGN's measurement: 98.8 % right at 20 characters; shorter answers are mostly names and numbers
MIN_DENSE_LETTERS = 4
MIN_PROBABILITY = 0.8
MAX_CHARACTERS = 800  # a text is sure long before; see the 99.9 % at 60 characters
# Candidates in every run, its own languages beside them. All 44 of the table would leave far more short texts
# undecided: of the first 20 characters of X-AlpacaEval and MGSM texts 53 % in Spanish and 55 % in Russian, against
# 23 % and none (39 % and none with Portuguese and Dutch added). What is decided is right in 99.9 % either way.
CANDIDATES = ("en", "es", "fr", "de", "ru", "it", "zh", "ja", "ko", "th", "sw", "bn", "te", "ar")
# The vowel signs of Indic scripts are marks to Python, and not letters; they stay in their word.
_WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|[\u0900-\u0dff])*")


@cache
def _load_model() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@cache
def _load_identifier(codes: tuple[str, ...]) -> Any:
    identifier = copy(_load_model())  # the large arrays are shared; a choice of languages replaces, and writes nothing
    unknown = sorted(set(codes) - set(identifier.labels))
    if unknown:
        raise ValueError(f"language identification does not know {', '.join(unknown)}")
    identifier.set_languages(list(codes))
    return identifier


class LanguageIdentifier:
    """py3langid restricted to a few candidates, which makes it nearly as good on a short answer as on a long one.

    `languages` are the candidate codes, by default those of CANDIDATES: with fewer, an answer in a language that is
    none of them is taken for one that is (of 805 French texts, 446 for Spanish where Spanish and English are the
    candidates); with more, close relatives are mixed up. Raises ValueError for fewer than two, between which there is
    nothing to tell apart.
    """

    def __init__(self, languages: Sequence[str] = CANDIDATES) -> None:
        if len(set(languages)) < 2:
            raise ValueError("language identification needs at least two candidate languages")
        self._identifier = _load_identifier(tuple(sorted(set(languages))))

    @classmethod
    def among(cls, languages: Iterable[str]) -> LanguageIdentifier:
        """One whose candidates are CANDIDATES and these languages, for texts that ought to be in one of these."""
        return cls((*CANDIDATES, *languages))

    def identify(self, text: str) -> str | None:
        """The code of the text's language, or None when undecided (too few letters, or two languages as likely)."""
        text = NOT_LANGUAGE.sub(" ", text)[:MAX_CHARACTERS]
        letters = sum(character.isalpha() for character in text)
        if letters < MIN_LETTERS and len(_DENSE.findall(text)) < MIN_DENSE_LETTERS:
            return None
        # Digits and punctuation tell nothing.
        words = text if _DENSE.search(text) else " ".join(_WORD.findall(text))
        code, probability = self._identifier.classify(words)
        return str(code) if probability >= MIN_PROBABILITY else None

    def is_other(self, text: str, language: str) -> bool:
        """Whether a text is in another language than this one; where it is undecided, it is not."""
        return self.identify(text) not in (None, language)
