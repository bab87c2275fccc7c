from __future__ import annotations

import random
from fractions import Fraction
from math import comb
from typing import Any

import pytest

from lidr.statistics import (
    Paired,
    bootstrap_interval,
    compare_mean,
    compare_paired,
    mcnemar,
    sign_flip_test,
    sign_test,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(0, 0, 0.0, 1.0), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (114, 250, 0.3954, 0.5180)],
)
def test_wilson_interval(successes: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=1e-4)


def test_wilson_interval_refuses_the_impossible() -> None:
    with pytest.raises(ValueError, match="impossible"):
        wilson_interval(3, 2)
    assert wilson_interval(5, 10, 0.5)[0] > wilson_interval(5, 10, 0.99)[0]


@pytest.mark.parametrize(
    ("wins", "losses", "p"),
    [  # scipy.stats.binomtest(wins, wins + losses).pvalue, SciPy 1.17.1
        (8, 2, 0.109375),
        (60, 40, 0.05688793364098089),
        (10, 30, 0.0022214337732293643),
        (150, 100, 0.0018833009350761602),
        (49_500, 50_500, 0.0015823598788515154),
        (49_000, 51_000, 2.5887160383468943e-10),
        (3, 400, 1.056134041536089e-114),
    ],
)
def test_sign_test_equals_scipy(wins: int, losses: int, p: float) -> None:
    assert sign_test(wins, losses) == pytest.approx(p, rel=1e-9)
    assert sign_test(losses, wins) == sign_test(wins, losses)


def test_sign_test_equals_the_sum_over_all_outcomes() -> None:
    for n in range(1, 30):
        for wins in range(n + 1):
            distance = abs(2 * wins - n)
            exact = Fraction(sum(comb(n, k) for k in range(n + 1) if abs(2 * k - n) >= distance), 2**n)
            assert sign_test(wins, n - wins) == pytest.approx(float(exact), rel=1e-12)


def test_sign_test_at_its_borders() -> None:
    assert sign_test(0, 0) == sign_test(7, 7) == sign_test(3, 4) == 1.0
    assert sign_test(0, 100_000) == 0.0  # below the smallest float
    assert sign_test(50_000, 50_000) == 1.0
    with pytest.raises(ValueError, match="impossible"):
        sign_test(-1, 2)


def test_bootstrap_interval_equals_scipy() -> None:
    values = [0, 0, 0.5, 1, 1, 1, 0.5, 0, 1, 1] * 20
    # scipy.stats.bootstrap, 200,000 resamples, method "percentile", SciPy 1.17.1
    assert bootstrap_interval(values, samples=50_000) == pytest.approx((0.54, 0.66), abs=0.003)


def test_bootstrap_interval_is_deterministic_and_blind_to_order() -> None:
    source = random.Random(1)
    values = [source.random() for _ in range(300)]
    low, high = bootstrap_interval(values)
    assert low < sum(values) / 300 < high
    assert bootstrap_interval(values[::-1]) == bootstrap_interval(values) == (low, high)
    assert bootstrap_interval(values, seed=1) != (low, high)
    wider = bootstrap_interval(values, confidence=0.99)
    assert wider[0] < low < high < wider[1]


def test_bootstrap_interval_covers_the_mean_as_often_as_it_says() -> None:
    source = random.Random(7)
    intervals = [bootstrap_interval([source.random() for _ in range(100)], samples=500) for _ in range(400)]
    covered = sum(low <= 0.5 <= high for low, high in intervals) / len(intervals)
    assert 0.91 <= covered <= 0.98


def test_bootstrap_interval_goes_with_the_scale_in_parts_too() -> None:
    values = [float(number % 7) for number in range(60_000)]  # more than is resampled at once
    low, high = bootstrap_interval(values, samples=100)
    assert bootstrap_interval([1 + 2 * value for value in values], samples=100) == pytest.approx(
        (1 + 2 * low, 1 + 2 * high)
    )
    assert (low, high) == pytest.approx((3 - 1.96 * 2 / 245, 3 + 1.96 * 2 / 245), abs=0.004)  # sigma 2, sqrt(n) 245


def test_bootstrap_interval_refuses_what_has_no_mean() -> None:
    for values in ([], [1.0, float("nan")], [float("inf")]):
        with pytest.raises(ValueError, match="nothing to resample"):
            bootstrap_interval(values)
    assert bootstrap_interval([0.5] * 9) == (0.5, 0.5)


def scored(**correct: bool) -> list[dict[str, Any]]:
    return [{"question_id": key, "correct": value, "language": "es"} for key, value in correct.items()]


def test_paired_rows_are_joined_by_question() -> None:
    before = scored(a=True, b=False, c=False, d=True, gone=True)
    after = scored(new=False, d=True, c=True, b=True, a=False)
    assert compare_paired(before, iter(after)) == Paired(4, 1, 2, 1.0)


def test_paired_test_is_mcnemars() -> None:
    before = scored(**{f"q{number}": number < 30 for number in range(100)})
    after = scored(**{f"q{number}": 10 <= number < 60 for number in range(100)})
    assert compare_paired(before, after) == Paired(100, 10, 30, mcnemar(10, 30))
    assert mcnemar(10, 30) == pytest.approx(0.0022214337732293643)
    assert compare_paired(before, before).p == 1.0


def test_nothing_shared_gives_no_p_value_and_doubles_are_refused() -> None:
    assert compare_paired(scored(a=True), scored(b=True)) == Paired(0, 0, 0, None)
    with pytest.raises(ValueError, match="question 'a' occurs twice"):
        compare_paired(scored(a=True), scored(a=True) + scored(a=False))


def test_the_mean_gain_is_over_questions_that_all_languages_share() -> None:
    before = {"es": scored(a=False, b=False, c=True, x=True), "fr": scored(a=False, b=True, c=True)}
    after = {"es": scored(a=True, b=False, c=True), "fr": scored(a=True, b=False, c=True, y=False)}
    found = compare_mean(before, after)
    assert found is not None
    assert (found.n, found.gain) == (3, round(1 / 6, 4))  # a: +1, b: -1/2, c: 0
    assert found.interval[0] < 0 < found.interval[1]
    assert compare_mean({"es": scored(a=True)}, {"es": scored(b=True)}) is None
    assert compare_mean({}, {}) is None


def test_questions_that_all_languages_gain_are_no_more_than_one_question() -> None:
    """Four languages that rise and fall together say as much as one: neither interval nor p may shrink."""
    before = scored(**{f"q{number}": number % 3 == 0 for number in range(60)})
    after = scored(**{f"q{number}": number % 2 == 0 for number in range(60)})
    one = compare_mean({"es": before}, {"es": after})
    four = compare_mean(dict.fromkeys(("es", "fr", "de", "ru"), before), dict.fromkeys(("es", "fr", "de", "ru"), after))
    assert one == four


def test_sign_flip_test() -> None:
    assert sign_flip_test([1.0] * 8, samples=20_000) == pytest.approx(2 / 2**8, abs=2e-3)  # exact: all signs alike
    assert sign_flip_test([0.0, 0.0, 0.0]) == 1.0
    assert sign_flip_test([0.5, -0.5, 0.25, -0.25]) == 1.0
    random.seed(1)
    gains = [random.choice([-1.0, 0.0, 1.0]) for _ in range(300)]
    wins, losses = gains.count(1.0), gains.count(-1.0)
    assert sign_flip_test(gains) == pytest.approx(sign_test(wins, losses), abs=0.02)
