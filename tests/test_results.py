"""results.json as types: what is written is read back, and what is damaged is named."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from lidr.results import DuelCounts, ImbalanceProbe, JudgeUsage, LanguageProbe, Metric, Metrics, Results, probe_json

FLAT = {
    "accuracy": 0.5, "ci95": [0.4, 0.6], "accuracy_held_out": None, "ci95_held_out": None, "score": 7.0,
    "ci95_score": [6.5, 7.5], "by_category": {"math": 3.0}, "n": 120, "failed": 0, "task": "arc",
    "judge": {"requests": 3, "prompt_tokens": 10, "completion_tokens": 5, "cost_usd": None, "passing": 0},
}  # fmt: skip


def test_metrics_are_read_and_written_without_loss() -> None:
    metrics = Metrics.from_json(FLAT)
    assert metrics.to_json() == FLAT
    assert metrics.values["accuracy"] == Metric(0.5, (0.4, 0.6)) and metrics.metric("accuracy_held_out") is None
    assert metrics.count("n", "failed", "unknown") == 120 and metrics.notes == {"task": "arc"}
    assert metrics.judge == JudgeUsage(3, 10, 5, None)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_a_gap(bad: float) -> None:
    metrics = Metrics.from_json({"accuracy": bad, "ci95": [bad, 1.0], "n": 12.0, "seen": [bad]})
    assert metrics.metric("accuracy") is None and metrics.count("n") == 12
    assert metrics.notes == {"seen": [None]}
    assert Metrics.from_json(json.loads(json.dumps(metrics.to_json()))) == metrics


def test_metrics_are_joined_also_with_a_flat_object() -> None:
    joined = Metrics({"accuracy": Metric(0.5)}, {"n": 3}) | {"n": 4, "off_target": 0.25}
    assert joined.count("n") == 4 and joined.value("off_target") == 0.25 and joined.value("accuracy") == 0.5


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ({"models": [{"name": "M0", "benchmarks": {"lab": {"en": 5}}}]}, "models.0.benchmarks.lab.en"),
        ({"models": [{"name": "N0"}]}, "models.0.name"),
        ({"iterations": [{"iteration": 1, "pairs": {"en": "x"}, "dropped": {}}]}, "iterations.0.pairs.en"),
        ({"models": 3}, "models"),
    ],
)
def test_what_is_damaged_is_named(content: object, where: str) -> None:
    with pytest.raises(ValidationError) as error:
        Results.from_json(content)
    assert ".".join(map(str, error.value.errors()[0]["loc"])) == where


def test_a_probe_says_nothing_of_what_it_has_not_found() -> None:
    counted = {"verified": DuelCounts(0.8, (0.6, 0.9), 8, 2, 0.1, 5)}
    taught = LanguageProbe(Metrics(), 0.1, "train", translated=Metrics(), reward_accuracy=counted)
    probe = ImbalanceProbe(
        "M0", "en", ("verified",), 15, {"en": LanguageProbe(Metrics(), 0.0, "dominant"), "es": taught}
    )
    written = json.loads(probe_json(probe))
    assert "judge" not in written and "reward_accuracy" not in written["languages"]["en"]
    assert written["languages"]["es"]["reward_accuracy"]["verified"]["wins"] == 8
    results = Results(probe=(probe,))
    assert Results.from_json(json.loads(results.to_json())) == results
