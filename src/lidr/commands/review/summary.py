"""Human reward accuracy, how far reviewers agree, and what the probe says of the same kind of pairs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from lidr.benchmarks.shared.duels import Duel, count_duels, count_together
from lidr.commands.review.read import Judged
from lidr.results import DuelCounts, ImbalanceProbe

SUMMARY_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class ReviewerCounts:
    """What one reviewer said in one language; `said_a` and `said_b` show whether they favour a place on the page."""

    name: str
    level: str
    human: DuelCounts
    said_a: int
    said_b: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two reviewers agree on the pairs that both judged: share of equal verdicts, and Cohen's kappa."""

    reviewers: tuple[str, str]
    pairs: int
    agreement: float | None
    kappa: float | None


@dataclass(frozen=True, slots=True)
class LanguageSummary:
    """One iteration and language.

    `human` is how often the chosen side is preferred. It counts every pair once, by the sum of its reviewers; its
    `unscored` are pairs that nobody could judge. `probe` is the probe's reward accuracy by who judged, if it is about
    the same model.
    """

    iteration: int
    language: str
    pairs: int
    human: DuelCounts
    probe: dict[str, DuelCounts] | None
    reviewers: list[ReviewerCounts]
    agreement: list[Agreement]


@dataclass(frozen=True, slots=True)
class ReviewSummary:
    """What summary.json has. `files` are the names of the verdicts that it is about."""

    schema: int
    run: str
    languages: list[LanguageSummary]
    files: list[str]


def summarise(
    run: str, judged: Sequence[Judged], probe: ImbalanceProbe | None, files: Sequence[str] = ()
) -> ReviewSummary:
    """The verdicts by iteration and language."""
    groups = sorted({(verdict.iteration, verdict.language) for verdict in judged})
    languages = [
        _language([v for v in judged if (v.iteration, v.language) == group], *group, probe) for group in groups
    ]
    return ReviewSummary(SUMMARY_SCHEMA, run, languages, sorted(files))


def _language(judged: Sequence[Judged], iteration: int, language: str, probe: ImbalanceProbe | None) -> LanguageSummary:
    by_identity: dict[str, list[Judged]] = defaultdict(list)
    for verdict in judged:
        by_identity[verdict.reviewer.casefold()].append(verdict)
    by_reviewer = {verdicts[0].reviewer: verdicts for _, verdicts in sorted(by_identity.items())}
    # The probe compares answers of M0, which only the pairs of iteration 1 are made of.
    probed = probe.languages.get(language) if probe and iteration == 1 else None
    return LanguageSummary(
        iteration,
        language,
        len({verdict.pair_id for verdict in judged}),
        count_together(_duels(judged)),
        probed.reward_accuracy if probed else None,
        [_reviewer(name, verdicts) for name, verdicts in by_reviewer.items()],
        [agreement(one, other) for one, other in combinations(by_reviewer.values(), 2)],
    )


def _reviewer(name: str, verdicts: Sequence[Judged]) -> ReviewerCounts:
    said = [verdict.answer for verdict in verdicts]
    return ReviewerCounts(
        name, verdicts[0].level, count_duels(list(_duels(verdicts))), said.count("A"), said.count("B")
    )


def _duels(judged: Iterable[Judged]) -> Iterable[Duel]:
    return (Duel(verdict.pair_id, verdict.language, verdict.result) for verdict in judged)


def agreement(first: Sequence[Judged], second: Sequence[Judged]) -> Agreement:
    """How far two reviewers agree on the pairs that both judged.

    Verdicts are A, B and tie by the first one's sheet; pairs that one of them could not judge are left out. The labels
    are A and B, since reviewers do not see which side is chosen: agreement by chance is agreement without reading, such
    as always A.
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
    return Agreement(
        (first[0].reviewer, second[0].reviewer),
        len(labels),
        round(same / len(labels), 4) if labels else None,
        None if kappa is None else round(kappa, 4),
    )


def cohens_kappa(labels: Sequence[tuple[int, int]]) -> float | None:
    """Agreement of two raters beyond chance; 1 is full agreement, 0 is chance.

    J. Cohen, "A Coefficient of Agreement for Nominal Scales", Educational and Psychological Measurement 20 (1960),
    37-46. None if nothing was rated by both, or if both always give the same rating.
    """
    n = len(labels)
    first, second = Counter(a for a, _ in labels), Counter(b for _, b in labels)
    by_chance = sum(first[label] * second[label] for label in first)  # times n squared
    if n == 0 or by_chance == n * n:
        return None
    observed: int = sum(a == b for a, b in labels)
    return (n * observed - by_chance) / (n * n - by_chance)
