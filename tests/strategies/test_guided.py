"""Guided answers, around any strategy that translates; and the recipes that had a switch for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lidr.config import dump_config, load_config
from lidr.errors import ConfigError
from lidr.strategies.base import all_translating, strategy_of, translating_of
from tests.conftest import WORDS, ToyEngine, ToyRun, make_config

MIXED = {"type": "mixture", "of": {"imbalance": 1, "guided": 1}}


def test_guided_answers_take_the_place_of_another_strategys_translations(toy_run: ToyRun) -> None:
    engine = toy_run.use(ToyEngine())
    strategy = {"type": "guided", "of": {"type": "best_of_n", "samples": 2}}
    config = make_config(toy_run.prompts, pairs={"strategy": strategy, "gates": {"max_similarity": None}})
    toy_run.run("prompts", "responses", "translations", "pairs", config=config)
    assert len(toy_run.rows(toy_run.run_dir.responses(1, "en"))) == 12
    assert sum(len(request.messages) == 4 for request in engine.asked) == 24
    assert not any("<sentence>" in request.messages[-1][1] for request in engine.asked)
    made = {row["text"] for row in toy_run.rows(toy_run.run_dir.translations(1, "en", "es"))}
    dropped = toy_run.rows(toy_run.run_dir.dropped(1))
    assert made == {f"{WORDS['es']} {number} own es" for number in range(6)}
    assert {row["reason"] for row in dropped} == {"identical"}  # the toy's guided answer is its direct one


@pytest.mark.parametrize(
    ("strategy", "changes", "says"),
    [
        ("guided", {"translations": {"text_first": True}}, "text_first is about translations"),
        ({"type": "guided", "of": "translation_pairs"}, {}, "translation_pairs compares translations"),
        ({"type": "guided", "of": "confusion"}, {}, "nothing is translated that could be guided"),
        (MIXED, {}, "some of its parts translate and others are guided"),
    ],
)
def test_what_cannot_be_guided_is_refused(strategy: Any, changes: dict[str, Any], says: str) -> None:
    config = make_config(Path("prompts"), pairs={"strategy": strategy}, **changes)
    with pytest.raises(ConfigError, match=says):
        all_translating(config)


def test_parts_that_translate_nothing_may_be_mixed_with_guided_ones() -> None:
    strategy = {"type": "mixture", "of": {"confusion": 1, "guided": 1}}
    assert translating_of(make_config(Path("prompts"), pairs={"strategy": strategy})).guided


def test_pairs_depend_on_the_strategy_that_guided_goes_around(tmp_path: Path) -> None:
    """A finished run whose translations were guided by a switch is as complete as it was."""
    found = [
        strategy_of(make_config(tmp_path, pairs={"strategy": strategy})).pair_identity()
        for strategy in ("guided", "imbalance", "best_of_n", {"type": "guided", "of": "best_of_n"})
    ]
    assert found[0] == found[1] != found[2] == found[3]


def test_the_data_card_says_what_was_preferred(tmp_path: Path) -> None:
    said = {
        name: " ".join(strategy.steps_in_words(config))
        for name in ("imbalance", "guided", "random_sides")
        for config in [make_config(tmp_path, pairs={"strategy": name})]
        for strategy in [strategy_of(config)]
    }
    assert "In Spanish, French and German, the translation of the English answer is preferred" in said["imbalance"]
    assert "translat" not in said["guided"] and "random side" in said["random_sides"]


def test_the_switch_of_older_recipes_names_the_strategy_and_is_still_read_in_a_run(tmp_path: Path) -> None:
    best = "pairs.strategy={type: best_of_n, samples: 3}"
    with pytest.raises(ConfigError, match=r"set pairs\.strategy: \{type: guided, of: imbalance\}"):
        load_config("quickstart", ["translations.guided=true"])
    with pytest.raises(ConfigError, match=r"of: \{type: best_of_n, samples: 3\}\}"):
        load_config("quickstart", ["translations.guided=true", best])
    for switch, strategy in (
        ("false", "imbalance"),
        ("true", "confusion"),
        ("true", "{type: anchored, of: confusion}"),
    ):
        nothing = ["translations.guided=" + switch, f"pairs.strategy={strategy}"]  # it had no effect
        assert not translating_of(load_config("quickstart", nothing)).guided
    recipe = tmp_path / "recipe.yaml"
    (tmp_path / "environment.json").write_text("{}")
    for switch, name in (("true", "guided"), ("false", "best_of_n")):
        text = dump_config(load_config("quickstart", [best]))
        recipe.write_text(text.replace("translations:\n", f"translations:\n  guided: {switch}\n"), encoding="utf-8")
        strategy = strategy_of(load_config(recipe))
        assert strategy.type == name and strategy.draws(load_config(recipe)).of("en") == 3
