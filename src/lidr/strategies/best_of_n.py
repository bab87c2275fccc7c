"""Best of n: the dominant answer is chosen among several before it is translated.

A teacher that is right more often teaches more that is right. Which of its answers is the best one is seen from the
others: the one that they agree with most (self-consistency, arXiv 2203.11171, for answers that end in a number; the
least expected distance to the others, minimum Bayes risk, for all others). Nobody is asked for a right answer.

l != d:  chosen y^{d->l} of the best dominant answer;  rejected y^l, a direct answer
d:       chosen the best dominant answer;               rejected y^{l->d}, a translated non-dominant answer
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated

from pydantic import Field

from lidr.config import Config
from lidr.numbers import extract_answer
from lidr.strategies.base import Answers, Draws, Side, direct
from lidr.strategies.imbalance import Imbalance


class BestOfN(Imbalance):
    """The translation of the best of several dominant answers is preferred to the direct answer."""

    samples: Annotated[int, Field(ge=2, le=1024)] = 4
    """Answers to each prompt in the dominant language; every other language has one."""
    temperature: Annotated[float, Field(ge=0.01, le=100)] = 0.7
    """All answers are drawn at this temperature."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus sampling; 1 is off."""

    def draws(self, config: Config) -> Draws:
        drawn = {"temperature": self.temperature, "top_p": self.top_p}
        return Draws(1, config.responses.model_copy(update=drawn), {config.dominant: self.samples})

    def translated_sample(self, answers: Answers, source: str, config: Config) -> int:
        if source != config.dominant:
            return 0
        sides = [direct(answers, source, config, sample) for sample in range(len(answers.responses[source]))]
        return best(sides, source)

    def chosen_in_words(self) -> str:
        return f"translations of the best of {self.samples} of its own answers in the dominant language"

    def pairs_in_words(self, config: Config) -> list[str]:
        first = "y[i, d] <- of the y[i, d, k] the one that the others agree with most   for every i"
        return [first, *super().pairs_in_words(config)]


def best(sides: list[Side], language: str) -> int:
    """The answer that the others agree with most: by their final numbers if two agree, else by their words.

    Answers that cannot be used lose to those that can; of equals the first wins.
    """
    usable = [k for k, side in enumerate(sides) if not side.problem and side.text is not None]
    texts = {k: sides[k].text or "" for k in usable}
    numbers = {k: found for k in usable if (found := extract_answer(texts[k], language)) is not None}
    votes = Counter(numbers.values())
    if votes and max(votes.values()) > 1:
        agreed = {number for number, count in votes.items() if count == max(votes.values())}
        usable = [k for k in usable if numbers.get(k) in agreed]
    words = {k: set(texts[k].casefold().split()) for k in texts}
    return max(usable, key=lambda k: (sum(_overlap(words[k], words[other]) for other in texts), -k), default=0)


def _overlap(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other) if one or other else 1.0
