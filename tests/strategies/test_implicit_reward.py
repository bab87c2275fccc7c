"""Implicit reward: which samples become a pair, and that their length alone does not decide."""

from __future__ import annotations

from pathlib import Path

import pytest

from lidr.records import Prompt, Response, Score
from lidr.strategies.base import Answers, Candidate, Likelihood, strategy_of
from lidr.strategies.implicit_reward import without_length
from tests.conftest import make_config

Sample = tuple[str, float, float, int]  # text, log-probability under the policy and the reference, tokens


def found(samples: dict[str, list[Sample]], **settings: object) -> dict[str, Candidate]:
    strategy = {"type": "implicit_reward", "samples": 3} | settings
    config = make_config(Path("prompts"), pairs={"strategy": strategy, "dominant_rejected": "none"})
    answers = Answers(0, "p", {code: Prompt("p", code, "x") for code in ("en", *samples)})
    for code, drawn in samples.items():
        answers.responses[code] = [
            Response("", "p", code, text, "stop", 1, sample=k) for k, (text, *_) in enumerate(drawn)
        ]
        for k, (_, policy, reference, tokens) in enumerate(drawn):
            for model, logp in (("policy", policy), ("initial", reference)):
                answers.scores[Likelihood(model, "en", code, k)] = Score("", "p", "en", code, k, logp, tokens)
    return {candidate.language: candidate for candidate in strategy_of(config).candidates(answers, config)}


def test_what_the_training_made_likelier_is_preferred_to_what_it_made_less_likely() -> None:
    spanish = found({"es": [("a", -9.0, -9.0, 5), ("b", -5.0, -8.0, 5), ("c", -30.0, -20.0, 5)]})["es"]
    assert (spanish.chosen.text, spanish.rejected.text) == ("b", "c")
    assert (spanish.chosen.score, spanish.rejected.score) == (3.0, -10.0)


def test_a_reward_that_only_grows_with_the_length_prefers_nothing() -> None:
    spanish = found({"es": [("a", -9.0, -10.0, 10), ("b", -18.0, -20.0, 20), ("c", -27.0, -30.0, 30)]})["es"]
    assert spanish.chosen.problem == "same_reward"


def test_answers_without_both_log_probabilities_do_not_count() -> None:
    assert found({"es": [("a", -9.0, -9.0, 5)]})["es"].chosen.problem == "no_reward"
    assert found({"es": [("a", -1.0, -1.0, 5), ("b", -1.0, -1.0, 5)]})["es"].chosen.problem == "same_reward"


@pytest.mark.parametrize("lengths", [[4, 4, 4], [1, 2, 9]])
def test_the_residual_has_no_trend(lengths: list[int]) -> None:
    rewards = without_length([1.0, 5.0, -2.0], lengths)
    mean = sum(lengths) / 3
    assert sum(rewards) == pytest.approx(4.0)
    assert sum((length - mean) * reward for length, reward in zip(lengths, rewards, strict=True)) == pytest.approx(0)
