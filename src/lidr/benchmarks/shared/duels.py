"""Two answers to the same prompt: which is the better one, and is that more than noise?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lidr.numbers import extract_answer, parse_number, same_number
from lidr.statistics import rounded, sign_test, wilson_interval


@dataclass(frozen=True, slots=True)
class Duel:
    """One prompt in one language. `result` is 1 where the first answer is better, -1 the second, 0 neither.

    It is None if a judge's verdict did not parse.
    """

    prompt_id: str
    language: str
    result: int | None


def is_right(text: str, known: str, language: str) -> bool:
    """Whether an answer gives the known one: the same number where that is a number, else the same text.

    GSM8K's solutions, which end in `#### 18`, are numbers, too.
    """
    number = extract_answer(known, "en") if "####" in known else parse_number(known, "en")
    if number is not None:
        return same_number(extract_answer(text, language), number)
    return text.strip() == known.strip()


def count_duels(duels: Sequence[Duel]) -> dict[str, Any]:
    """How often the first side wins, over the duels that are not ties (`value`), with its Wilson 95 % interval."""
    results = [duel.result for duel in duels]
    wins, losses = results.count(1), results.count(-1)
    return _shares(wins, losses) | {"ties": results.count(0), "unscored": results.count(None)}


def count_together(duels: Iterable[Duel]) -> dict[str, Any]:
    """All languages as one: each prompt counts once, by the sum of its duels, which are not independent.

    A prompt is unscored where all of its duels are.
    """
    scored: dict[str, list[int]] = defaultdict(list)
    for duel in duels:
        scored[duel.prompt_id] += [] if duel.result is None else [duel.result]
    sums = [sum(results) for results in scored.values() if results]
    wins, losses = sum(total > 0 for total in sums), sum(total < 0 for total in sums)
    return _shares(wins, losses) | {"ties": len(sums) - wins - losses, "unscored": len(scored) - len(sums)}


def direction(counted: dict[str, Any]) -> int:
    """1 where the first side is better beyond noise, -1 where the second is, else 0."""
    low, high = counted["ci95"]
    return int(low > 0.5) - int(high < 0.5)


def _shares(wins: int, losses: int) -> dict[str, Any]:
    decided = wins + losses
    return {
        "value": round(wins / decided, 4) if decided else None,
        "ci95": rounded(wilson_interval(wins, decided)),
        "wins": wins,
        "losses": losses,
        "p": float(f"{sign_test(wins, losses):.4g}"),
    }
