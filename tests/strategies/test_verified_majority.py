"""Verified majority: which number counts as right, and which two samples become a pair."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from lidr.config import dump_config, load_config
from lidr.engines.base import Completion, Request
from lidr.errors import ConfigError
from lidr.records import Prompt, Response
from lidr.strategies.base import Answers, Candidate, strategy_of
from lidr.strategies.verified_majority import majority
from tests.conftest import ToyEngine, ToyRun, make_config

VERIFIED = {"type": "verified_majority", "samples": 3}
PAIRS = {"strategy": VERIFIED, "dominant_rejected": "none"}


def found(samples: dict[str, list[str]], cut_off: tuple[str, ...] = (), **pairs: Any) -> dict[str, Candidate]:
    """The candidates by language; texts in `cut_off` ended at the length limit."""
    config = make_config(Path("prompts"), pairs=PAIRS | pairs)
    answers = Answers(0, "p", {code: Prompt("p", code, "x") for code in samples})
    for code, texts in samples.items():
        answers.responses[code] = [
            Response("", "p", code, text, "length" if text in cut_off else "stop", 1, sample=number)
            for number, text in enumerate(texts)
        ]
    return {candidate.language: candidate for candidate in strategy_of(config).candidates(answers, config)}


@pytest.mark.parametrize(
    ("votes", "agreed"),
    [([], None), ([7], None), ([7, 7], 7), ([7, 7, 8], None), ([7, 7, 7, 8], 7), ([7, 7, 8, 8], None)],
)
def test_the_majority_has_a_lead_of_two_votes(votes: list[int], agreed: int | None) -> None:
    assert majority([Decimal(vote) for vote in votes], lead=2) == agreed


def test_the_sides_are_samples_in_the_language_nearest_in_length() -> None:
    by_language = found(
        {
            "en": ["It is 7.", "It is 7.", "It is 9."],
            "es": ["Son 7.", "Quedan ahora 7 manzanas.", "Le quedan 9 manzanas."],
            "fr": ["Il y en a 7.", "Il y en a 7.", "Il y en a 7."],
            "de": ["Es sind 4.", "Es sind 5.", "Das ist schwer."],
        }
    )
    assert set(by_language) == {"es", "fr", "de"}
    spanish = by_language["es"]
    assert (spanish.chosen.text, spanish.rejected.text) == ("Quedan ahora 7 manzanas.", "Le quedan 9 manzanas.")
    assert (spanish.chosen.origin, spanish.rejected.origin) == ("es", "es")
    assert by_language["fr"].chosen.problem == "no_sample_differs"
    assert by_language["de"].chosen.problem == "no_sample_agrees"


def test_english_gets_pairs_unless_they_are_switched_off() -> None:
    samples = {"en": ["It is 7.", "It is 7.", "It is 9."], "es": ["Son 7."] * 3}
    assert found(samples, dominant_rejected="one")["en"].rejected.text == "It is 9."
    assert "en" not in found(samples)


def test_what_is_cut_off_has_no_vote_and_is_rejected_for_want_of_others_only() -> None:
    long = "Son 8 y luego " * 4
    samples = {"en": ["It is 7."] * 3, "es": ["Son 7.", long, "Primero sumamos, y al final son 9."]}
    chosen = {"gates": {"truncated": "chosen"}}
    assert found(samples, (long,), **chosen)["es"].rejected.text == samples["es"][2]
    samples["es"][2] = "Es difícil."  # no number: nothing is known of it
    candidate = found(samples, (long,), **chosen)["es"]
    assert (candidate.rejected.text, candidate.rejected.cut_off) == (long, True)
    assert found(samples, (long,))["es"].chosen.problem == "no_sample_differs"


def test_without_a_majority_no_language_has_a_pair() -> None:
    by_language = found({"en": ["1", "2", "3"], "es": ["4", "5", "6"]})
    assert by_language["es"].chosen.problem == "no_majority"


def test_samples_are_kept_one_by_one_and_more_of_them_keep_the_first(toy_run: ToyRun) -> None:
    def numbered(request: Request, text: str) -> Completion:
        return Completion(request.request_id, f"{text} {int(request.request_id, 16) % 3}", "stop", 5, 7)

    engine = ToyEngine(fail=numbered)
    toy_run.use(engine)
    config = make_config(toy_run.prompts, pairs=PAIRS)
    toy_run.run("prompts", "responses", "translations", "pairs", config=config)
    assert not list(toy_run.run_dir.path.rglob("3_translations/*"))
    rows = toy_run.rows(toy_run.run_dir.responses(1, "es"))
    assert [row["sample"] for row in rows] == [0, 1, 2] * (len(rows) // 3)
    pairs = toy_run.rows(toy_run.run_dir.pairs(1, "es"))
    assert pairs and all(row["chosen"] != row["rejected"] for row in pairs)
    asked = len(engine.asked)
    more = make_config(toy_run.prompts, pairs=PAIRS | {"strategy": VERIFIED | {"samples": 4}})
    toy_run.run("responses", config=more)
    assert len(engine.asked) - asked == asked // 3
    assert [row for row in toy_run.rows(toy_run.run_dir.responses(1, "es")) if row["sample"] < 3] == rows


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"samples": 1}, "greater than or equal to 2"),
        ({"temperature": 0}, "greater than or equal to 0.01"),
        ({"sample": 4}, "did you mean samples"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], says: str, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    strategy = {"type": "verified_majority"} | settings
    recipe.write_text(dump_config(make_config(Path("prompts"))), encoding="utf-8")
    with pytest.raises(ConfigError, match=f"pairs.strategy.*{says}"):
        load_config(recipe, [f"pairs.strategy={json.dumps(strategy)}"])
