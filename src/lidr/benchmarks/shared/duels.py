"""Two answers to the same prompt: which is the better one, and is that more than noise?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lidr.numbers import extract_answer, parse_number, same_number
from lidr.results import DuelCounts
from lidr.statistics import rounded, sign_test, wilson_interval


@dataclass(frozen=True, slots=True)
class Duel:
    """One prompt in one language. `result` is 1 if the first answer is better, -1 if the second is, else 0.

    It is None if no verdict could be read from the judge's reply.
    """

    prompt_id: str
    language: str
    result: int | None


def is_right(text: str, known: str, language: str) -> bool:
    """Whether an answer gives the known one: the same number if that is a number, else the same text.

    GSM8K's solutions, which end in `#### 18`, are numbers, too.
    """
    number = extract_answer(known, "en") if "####" in known else parse_number(known, "en")
    if number is not None:
        return same_number(extract_answer(text, language), number)
    return text.strip() == known.strip()


def count_duels(duels: Sequence[Duel]) -> DuelCounts:
    """How often the first side wins, over the duels that are not ties (`value`), with its Wilson 95 % interval."""
    results = [duel.result for duel in duels]
    wins, losses = results.count(1), results.count(-1)
    return _counted(wins, losses, results.count(0), results.count(None))


def count_together(duels: Iterable[Duel]) -> DuelCounts:
    """All languages as one: each prompt counts once, by the sum of its duels, which are not independent.

    A prompt is unscored if all of its duels are.
    """
    scored: dict[str, list[int]] = defaultdict(list)
    for duel in duels:
        scored[duel.prompt_id] += [] if duel.result is None else [duel.result]
    sums = [sum(results) for results in scored.values() if results]
    wins, losses = sum(total > 0 for total in sums), sum(total < 0 for total in sums)
    return _counted(wins, losses, len(sums) - wins - losses, len(scored) - len(sums))


def _counted(wins: int, losses: int, ties: int, unscored: int) -> DuelCounts:
    decided = wins + losses
    value = round(wins / decided, 4) if decided else None
    p = float(f"{sign_test(wins, losses):.4g}")
    return DuelCounts(value, rounded(wilson_interval(wins, decided)), wins, losses, p, ties, unscored)
