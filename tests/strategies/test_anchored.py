"""Anchored rejection: the base model's answers are rejected, whatever strategy chooses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lidr.records import Prompt, Response, Translation
from lidr.strategies.base import Answers, strategy_of
from tests.conftest import make_config


def response(code: str, text: str, finish_reason: Any = "stop") -> Response:
    return Response("", "p", code, text, finish_reason, 1)


def test_the_rejected_side_is_m0s_own_answer() -> None:
    config = make_config(Path("prompts"), pairs={"strategy": {"type": "anchored", "of": "imbalance"}})
    answers = Answers(0, "p", {code: Prompt("p", code, "x") for code in ("en", "es", "fr", "de")})
    for code in answers.prompts:
        answers.responses[code] = [response(code, f"new {code}")]
        answers.initial[code] = [response(code, f"old {code}", "length" if code == "de" else "stop")]
        answers.translations["en", code] = Translation("", "p", "en", code, f"translated {code}")
        answers.translations[code, "en"] = Translation("", "p", code, "en", f"back from {code}")
    strategy = strategy_of(config)
    assert strategy.needs_initial(config)
    found = {made.language: made for made in strategy.candidates(answers, config)}
    assert (found["es"].chosen.text, found["es"].rejected.text) == ("translated es", "old es")
    assert found["de"].rejected.problem == "truncated"
    assert (found["en"].chosen.text, found["en"].rejected.text) == ("new en", "back from es")


def test_it_goes_around_any_strategy() -> None:
    inner = {"type": "random_sides", "of": {"type": "verified_majority", "samples": 2}}
    pairs = {"strategy": {"type": "anchored", "of": inner}, "dominant_rejected": "none"}
    config = make_config(Path("prompts"), pairs=pairs)
    assert strategy_of(config).draws(config).samples == 2
    assert "the base model's answers" in strategy_of(config).rejected_in_words()
