"""Verified majority, for prompts that ask for a number: most answers over all languages say which ones are right.

Answers agree if they are right and scatter if they are wrong (self-consistency, arXiv 2203.11171; across languages,
arXiv 2606.01464). Both sides are the model's own samples in the language (as arXiv 2404.19733 has them, which knows
the right number; no right number is used here), so the pairs teach no other style.

a*        the number that most samples of a prompt end in, over all languages
chosen    a sample in the language that ends in a*
rejected  a sample in the language that ends in another number, nearest to it in length
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from itertools import product
from typing import Annotated, ClassVar

from pydantic import Field

from lidr.config import Config
from lidr.numbers import extract_answer
from lidr.settings import PositiveInt
from lidr.strategies.base import Answers, Candidate, Side, direct, rejected
from lidr.strategies.sampled import Sampled, per_language


class VerifiedMajority(Sampled):
    """An answer that ends in the majority's number is preferred to one in the same language that does not."""

    samples: Annotated[int, Field(ge=2, le=1024)] = 8
    """Answers to each prompt in each language."""
    temperature: Annotated[float, Field(ge=0.01, le=100)] = 0.9
    """They are drawn at this temperature."""
    lead: PositiveInt = 2
    """Votes by which a number is ahead of every other one to count as right."""

    reasons: ClassVar[dict[str, str]] = {
        "no_majority": "No number leads clearly enough among the prompt's answers in all languages.",
        "no_sample_agrees": "No answer in this language ends in the number that most answers end in.",
        "no_sample_differs": "No answer in this language ends in another number than most answers do.",
    }

    def candidates(self, answers: Answers, config: Config) -> Iterator[Candidate]:
        """One candidate per language; the majority is of all languages together."""
        numbers = {code: _numbers(answers, code, config) for code in config.languages}
        agreed = majority([number for found in numbers.values() for number in found if number is not None], self.lead)
        yield from per_language(answers, config, lambda code: _sides(answers, code, config, numbers[code], agreed))

    def chosen_in_words(self) -> str:
        return "those of its own answers that end in the number that most of them end in, over all languages"

    def rejected_in_words(self) -> str:
        return "those that end in another one"

    def pairs_in_words(self, config: Config) -> list[str]:
        which = "l" if config.pairs.dominant_rejected == "none" else "l and d"
        return [
            f"a[i] <- the number that most y[i, l, k] end in, over all l, d and k, by {self.lead} votes or more   "
            "for every i",
            "P <- {(prompt x[i, l], chosen y[i, l, k] that ends in a[i], rejected y[i, l, m] that ends elsewhere)}",
            f"     for every i, {which}; of all k, m the two nearest in length",
        ]


def majority(votes: list[Decimal], lead: int) -> Decimal | None:
    """The number with the most votes; None if it is not ahead of every other one by `lead`."""
    counted = Counter(votes).most_common(2)
    if not counted or counted[0][1] - (counted[1][1] if len(counted) > 1 else 0) < lead:
        return None
    return counted[0][0]


def _numbers(answers: Answers, language: str, config: Config) -> list[Decimal | None]:
    """The number that each sample ends in; None for one that is cut off, cannot be used, or ends in no number."""
    samples = [direct(answers, language, config, k) for k in range(len(answers.responses.get(language, ())))]
    return [
        None if side.text is None or side.problem or side.cut_off else extract_answer(side.text, language)
        for side in samples
    ]


def _sides(
    answers: Answers, language: str, config: Config, numbers: list[Decimal | None], agreed: Decimal | None
) -> tuple[Side, Side]:
    """Chosen and rejected: the two samples nearest in length. A cut-off one is rejected only if there is no other.

    If there are none, the first side says why.
    """
    none = Side(None, language)
    if not numbers:
        return Side(None, language, "prompt_missing"), none
    if agreed is None:
        return Side(None, language, "no_majority"), none
    worse = [rejected(answers, language, config, k) for k in range(len(numbers))]
    right = [k for k, number in enumerate(numbers) if number == agreed]
    wrong = [
        k
        for k, number in enumerate(numbers)
        if number != agreed and not worse[k].problem and (number is not None or worse[k].cut_off)
    ]
    if not right:
        return Side(None, language, "no_sample_agrees"), none
    if not wrong:
        return Side(None, language, "no_sample_differs"), none

    def distance(pair: tuple[int, int]) -> tuple[bool, int]:
        chosen, other = (len(worse[k].text or "") for k in pair)
        return worse[pair[1]].cut_off, abs(chosen - other)

    best, worst = min(product(right, wrong), key=distance)
    return direct(answers, language, config, best), worse[worst]
