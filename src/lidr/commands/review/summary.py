"""Human reward accuracy, how far reviewers agree, and what the probe says of the same kind of pairs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

from lidr.benchmarks.shared.duels import Duel, count_duels, count_together
from lidr.commands.review.read import Judged

SUMMARY_SCHEMA = 1


def summarise(run: str, judged: Sequence[Judged], probe: dict[str, Any] | None) -> dict[str, Any]:
    """What summary.json has: an entry per iteration and language.

    `human` counts every pair once, by the sum of its reviewers: `value` is the share of decided pairs in which the
    chosen side is preferred (`wins`), with its Wilson interval `ci95`; `ties`, and `unscored` for pairs that nobody
    could judge, are not in it. `probe` is the probe's reward accuracy by who judged, where it is about the same model.
    """
    groups = sorted({(verdict.iteration, verdict.language) for verdict in judged})
    return {
        "schema": SUMMARY_SCHEMA,
        "run": run,
        "languages": [
            _language([v for v in judged if (v.iteration, v.language) == group], *group, probe) for group in groups
        ],
    }


def _language(judged: Sequence[Judged], iteration: int, language: str, probe: dict[str, Any] | None) -> dict[str, Any]:
    by_identity: dict[str, list[Judged]] = defaultdict(list)
    for verdict in judged:
        by_identity[verdict.reviewer.casefold()].append(verdict)
    by_reviewer = {verdicts[0].reviewer: verdicts for _, verdicts in sorted(by_identity.items())}
    # The probe compares answers of M0, of which the pairs of iteration 1 are made; those of later ones are not.
    entry = (probe or {}).get("languages", {}).get(language, {}) if iteration == 1 else {}
    return {
        "iteration": iteration,
        "language": language,
        "pairs": len({verdict.pair_id for verdict in judged}),
        "human": count_together(_duels(judged)),
        "probe": entry.get("reward_accuracy"),
        "reviewers": [
            {
                "name": name,
                "level": verdicts[0].level,
                "human": count_duels(list(_duels(verdicts))),
                "said_a": sum(verdict.answer == "A" for verdict in verdicts),
                "said_b": sum(verdict.answer == "B" for verdict in verdicts),
            }
            for name, verdicts in by_reviewer.items()
        ],
        "agreement": [
            {"reviewers": [first, second]} | agreement(by_reviewer[first], by_reviewer[second])
            for first, second in combinations(by_reviewer, 2)
        ],
    }


def _duels(judged: Iterable[Judged]) -> Iterable[Duel]:
    return (Duel(verdict.pair_id, verdict.language, verdict.result) for verdict in judged)


def agreement(first: Sequence[Judged], second: Sequence[Judged]) -> dict[str, Any]:
    """How far two reviewers agree on the pairs that both judged: share of equal verdicts and Cohen's kappa.

    Verdicts are A, B and tie by the first one's sheet; pairs that one of them could not judge are left out. By A and B,
    not by chosen and rejected: the reviewers cannot see these, and chance is what they would agree on without reading,
    such as always A.
    """
    others = {verdict.pair_id: verdict for verdict in second}
    labels = []
    for verdict in first:
        other = others.get(verdict.pair_id)
        if other is not None and verdict.result is not None and other.result is not None:
            turned = 1 if verdict.is_chosen_first else -1
            labels.append((turned * verdict.result, turned * other.result))
    same = sum(a == b for a, b in labels)
    kappa = cohens_kappa(labels)
    return {
        "pairs": len(labels),
        "agreement": round(same / len(labels), 4) if labels else None,
        "kappa": None if kappa is None else round(kappa, 4),
    }


def cohens_kappa(labels: Sequence[tuple[Any, Any]]) -> float | None:
    """Agreement of two raters beyond chance; 1 is full agreement, 0 is chance.

    J. Cohen, "A Coefficient of Agreement for Nominal Scales", Educational and Psychological Measurement 20 (1960),
    37-46. None if nothing was rated by both, or where both always say the same one thing.
    """
    n = len(labels)
    first, second = Counter(a for a, _ in labels), Counter(b for _, b in labels)
    by_chance = sum(first[label] * second[label] for label in first)  # times n squared
    if n == 0 or by_chance == n * n:
        return None
    observed: int = sum(a == b for a, b in labels)
    return (n * observed - by_chance) / (n * n - by_chance)
