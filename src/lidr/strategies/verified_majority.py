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

from lidr.config import Config
from lidr.numbers import extract_answer
from lidr.strategies.base import Answers, Candidate, Kind, Side, direct, rejected

_LEAD = 2  # votes by which a* is ahead of every other number


def directions(config: Config) -> list[tuple[str, str]]:
    """Nothing is translated."""
    return []


def translations(answers: Answers, config: Config) -> list[tuple[str, str]]:
    """Nothing is translated."""
    return []


def candidates(answers: Answers, config: Config) -> Iterator[Candidate]:
    """One candidate per language; none in the dominant one if `pairs.dominant_rejected` is `none`."""
    numbers = {code: _numbers(answers, code, config) for code in config.languages}
    agreed = majority([number for found in numbers.values() for number in found if number is not None])
    for code in config.languages:
        kind: Kind = "dominant" if code == config.dominant else "non_dominant"
        if kind == "dominant" and config.pairs.dominant_rejected == "none":
            continue
        sides = _sides(answers, code, config, numbers[code], agreed)
        yield Candidate(answers.prompt_id, code, kind, answers.prompts.get(code), *sides)


def majority(votes: list[Decimal]) -> Decimal | None:
    """The number with the most votes; None if its lead is too small to say anything."""
    counted = Counter(votes).most_common(2)
    if not counted or counted[0][1] - (counted[1][1] if len(counted) > 1 else 0) < _LEAD:
        return None
    return counted[0][0]


def _numbers(answers: Answers, language: str, config: Config) -> list[Decimal | None]:
    """The number that each sample ends in; None for one that is cut off, cannot be used, or ends in none."""
    samples = [direct(answers, language, config, k) for k in range(len(answers.responses.get(language, ())))]
    return [
        None if side.text is None or side.problem or side.cut_off else extract_answer(side.text, language)
        for side in samples
    ]


def _sides(
    answers: Answers, language: str, config: Config, numbers: list[Decimal | None], agreed: Decimal | None
) -> tuple[Side, Side]:
    """Chosen and rejected: the two samples nearest in length. One that was cut off is rejected only for want of others.

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
