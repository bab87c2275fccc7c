"""Intervals around what a benchmark measures, and whether two models differ on the same items."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, fsum, isfinite, lgamma, log, sqrt
from statistics import NormalDist

from lidr.results import Interval, Metric

_RESAMPLED_AT_ONCE = 2_000_000  # values of all resamples in memory, 16 MB of indices


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of a proportion, (low, high); (0.0, 1.0) if nothing was counted.

    E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22 (1927), 209-212.
    Unlike p +- z * sqrt(p(1-p)/n) it stays inside [0, 1] and does not vanish at 0 or n successes.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} trials is impossible")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} is not between 0 and 1")
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / n
    centre = share + z * z / (2 * n)
    margin = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - margin) / scale), min(1.0, (centre + margin) / scale)


def share(successes: int, n: int) -> Metric:
    """A proportion with its Wilson 95 % interval, to 4 digits; without a value if n is 0."""
    if not n:
        return Metric(None)
    return Metric(round(successes / n, 4), rounded(wilson_interval(successes, n)))


def rounded(interval: Interval, digits: int = 4) -> Interval:
    """An interval, rounded as in results.json."""
    low, high = interval
    return round(low, digits), round(high, digits)


def bootstrap_interval(
    values: Sequence[float], confidence: float = 0.95, samples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """The percentile bootstrap interval of a mean over items, (low, high), for scores that are not plain shares.

    B. Efron, "Bootstrap Methods: Another Look at the Jackknife", Annals of Statistics 7 (1979), 1-26; percentile
    method: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13. It depends on the values and
    the seed, not on the order of the items. If all values are equal, it has no width, whatever their number.
    """
    import numpy as np

    if not values or not all(map(isfinite, values)):
        raise ValueError(f"nothing to resample in {len(values)} values; all must be finite, and there must be one")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} is not between 0 and 1")
    items = np.sort(np.asarray(values, dtype=np.float64))  # (n,)
    random = np.random.default_rng(seed)
    means = np.empty(samples)
    step = max(1, _RESAMPLED_AT_ONCE // len(items))
    for start in range(0, samples, step):
        part = means[start : start + step]
        part[:] = items[random.integers(len(items), size=(len(part), len(items)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


# The 97.5 % quantile of Student's t with 1, 2, 3 ... degrees of freedom (a table in any textbook).
_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


def t_interval(values: Sequence[float]) -> Interval | None:
    """Student's 95 % interval of a mean over repetitions such as seeds, (low, high); None for fewer than two.

    Student, "The Probable Error of a Mean", Biometrika 6 (1908), 1-25. Beyond 30 degrees of freedom the last quantile
    of the table is used, which is slightly too wide.
    """
    n = len(values)
    if n < 2:
        return None
    mean = fsum(values) / n
    spread = sqrt(fsum((value - mean) ** 2 for value in values) / (n - 1))
    margin = _T[min(n - 1, len(_T)) - 1] * spread / sqrt(n)
    return mean - margin, mean + margin


def sign_test(wins: int, losses: int) -> float:
    """The p-value of the two-sided exact sign test, ties left out: how often a fair coin would be at least as uneven.

    W. J. Dixon and A. M. Mood, "The Statistical Sign Test", JASA 41 (1946), 557-566. 1.0 if nothing was decided;
    log-gamma keeps the relative error below 1e-9 up to 100,000 decisions.
    """
    if wins < 0 or losses < 0:
        raise ValueError(f"{wins} wins and {losses} losses are impossible")
    n = wins + losses
    log_all = lgamma(n + 1) - n * log(2)
    tail = fsum(exp(log_all - lgamma(k + 1) - lgamma(n - k + 1)) for k in range(min(wins, losses) + 1))
    return min(1.0, 2 * tail)


def mcnemar(only_first: int, only_second: int) -> float:
    """The p-value of the exact McNemar test: do two models answer the same questions equally well?

    Q. McNemar, "Note on the Sampling Error of the Difference Between Correlated Proportions or Percentages",
    Psychometrika 12 (1947), 153-157. Only the questions count that exactly one of the models has right, and the exact
    test is the sign test on them.
    """
    return sign_test(only_first, only_second)


@dataclass(frozen=True, slots=True)
class Paired:
    """Two models on the same `n` questions. `p` is McNemar's exact test; None if no question is shared."""

    n: int
    only_before: int  # right in the first model alone
    only_after: int
    p: float | None


def compare_paired(before: Iterable[Mapping[str, object]], after: Iterable[Mapping[str, object]]) -> Paired:
    """Two models, from the scored rows of one language (`question_id`, `correct`).

    Raises ValueError for a question that occurs twice.
    """
    first, second = _correct_by_question(before), _correct_by_question(after)
    shared = first.keys() & second.keys()
    only_before = sum(first[key] and not second[key] for key in shared)
    only_after = sum(second[key] and not first[key] for key in shared)
    return Paired(len(shared), only_before, only_after, mcnemar(only_before, only_after) if shared else None)


@dataclass(frozen=True, slots=True)
class MeanGain:
    """The gain in mean accuracy over several languages, on `n` questions that were scored in all of them."""

    n: int
    gain: float
    interval: Interval  # 95 %
    p: float


def compare_mean(
    before: Mapping[str, Iterable[Mapping[str, object]]],
    after: Mapping[str, Iterable[Mapping[str, object]]],
    samples: int = 10_000,
    seed: int = 0,
) -> MeanGain | None:
    """Two models on the same questions in several languages; None if no question is shared.

    Rows are those of `compare_paired`, by language. A question in all languages is one item, because its translations
    are not independent: the interval is the percentile bootstrap over questions (see `bootstrap_interval`), and `p`
    is of the two-sided sign-flip test on the questions' gains (R. A. Fisher, "The Design of Experiments" (1935),
    section 21), by `samples` draws. Raises ValueError as `compare_paired` does.
    """
    tables = [(_correct_by_question(before[code]), _correct_by_question(after[code])) for code in before]
    shared = set.intersection(*(first.keys() & second.keys() for first, second in tables)) if tables else set()
    if not shared:
        return None
    gains = [sum(second[key] - first[key] for first, second in tables) / len(tables) for key in sorted(shared)]
    interval = rounded(bootstrap_interval(gains, seed=seed))
    return MeanGain(len(gains), round(fsum(gains) / len(gains), 4), interval, sign_flip_test(gains, samples, seed))


def sign_flip_test(gains: Sequence[float], samples: int = 10_000, seed: int = 0) -> float:
    """The two-sided p-value of a mean gain: how often random signs make one at least as far from zero.

    The observed signs count as one of the draws, so the smallest value is 1 / (samples + 1).
    """
    import numpy as np

    items = np.sort(np.asarray(gains, dtype=np.float64))  # (n,)
    random, wanted, extreme = np.random.default_rng(seed), abs(items.sum()) - 1e-9, 0
    step = max(1, _RESAMPLED_AT_ONCE // len(items))
    for start in range(0, samples, step):
        signs = random.integers(2, size=(min(step, samples - start), len(items)), dtype=np.int8) * 2 - 1
        extreme += int((np.abs(signs @ items) >= wanted).sum())
    return (extreme + 1) / (samples + 1)


def _correct_by_question(rows: Iterable[Mapping[str, object]]) -> dict[str, bool]:
    correct: dict[str, bool] = {}
    for row in rows:
        question_id = str(row["question_id"])
        if question_id in correct:
            raise ValueError(f"question {question_id!r} occurs twice among the rows of one model and language")
        correct[question_id] = bool(row["correct"])
    return correct
