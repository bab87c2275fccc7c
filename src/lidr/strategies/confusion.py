"""Confusion: purity of the language as a signal of its own.

A model that switches to another language within an answer learns to stay in one from about a thousand pairs that
differ in nothing else (arXiv 2505.19116, 2601.03589; this form is ours). An answer is judged line by line, and word by
word if its script is not Latin (`lidr.languages.confusion`); code, names and numbers are excused.

chosen    a sample in the prompt's language throughout
rejected  a sample that switches, nearest to it in length
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import ClassVar

from lidr.config import Config
from lidr.languages.confusion import check_answer
from lidr.languages.identification import LanguageIdentifier
from lidr.languages.names import asks_for_other_language
from lidr.strategies.base import Answers, Candidate, Side, direct
from lidr.strategies.sampled import Sampled, per_language


class Confusion(Sampled):
    """An answer in one language throughout is preferred to one that switches."""

    reasons: ClassVar[dict[str, str]] = {
        "no_pure_sample": "Every answer in this language switches to another one, or its language is undecided.",
        "no_mixed_sample": "No answer in this language switches to another one.",
        "wants_other_language": "The prompt asks for another language than its own.",
    }

    def candidates(self, answers: Answers, config: Config) -> Iterator[Candidate]:
        """One candidate per language."""
        yield from per_language(answers, config, lambda code: self._sides(answers, code, config))

    def _sides(self, answers: Answers, language: str, config: Config) -> tuple[Side, Side]:
        """The two samples nearest in length."""
        none, prompt = Side(None, language), answers.prompts.get(language)
        if prompt is None:
            return Side(None, language, "prompt_missing"), none
        if asks_for_other_language(prompt.text, language):
            return Side(None, language, "wants_other_language"), none
        drawn = [direct(answers, language, config, k) for k in range(len(answers.responses.get(language, ())))]
        usable = [side for side in drawn if side.text is not None and not side.problem]
        if not usable:
            return (drawn[0] if drawn else Side(None, language, "response_error")), none
        found = [(side, stays_in(side.text or "", language, config)) for side in usable]
        pure = [side for side, stays in found if stays]
        mixed = [side for side, stays in found if stays is False]
        if not pure:
            return Side(None, language, "no_pure_sample"), none
        if not mixed:
            return Side(None, language, "no_mixed_sample"), none
        return min(product(pure, mixed), key=lambda pair: abs(len(pair[0].text or "") - len(pair[1].text or "")))

    def chosen_in_words(self) -> str:
        return "those of its own answers that are in one language throughout"

    def rejected_in_words(self) -> str:
        return "those that switch to another one"

    def pairs_in_words(self, config: Config) -> list[str]:
        return [
            "P <- {(prompt x[i, l], chosen y[i, l, k] in l throughout, rejected y[i, l, m] that switches)}",
            "     for every i, l; of all k, m the two nearest in length",
        ]


def stays_in(text: str, language: str, config: Config) -> bool | None:
    """Whether a text is in one language throughout, by lines and sentences, as the gate judges it.

    None if the language of no line can be told.
    """
    seen = check_answer(text, language, _identifier(tuple(config.languages)), by_sentence=True)
    if seen.wrong_lines or seen.wrong_words:
        return False
    return True if seen.lines else None


@cache
def _identifier(languages: tuple[str, ...]) -> LanguageIdentifier:
    return LanguageIdentifier.among(languages)
