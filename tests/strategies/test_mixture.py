"""A mixture: each prompt is one strategy's, and only what that one needs is generated for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lidr.commands.plan.work import count_prompts
from lidr.config import Config, dump_config, explain, load_config
from lidr.engines.base import Completion, Request, Sampling
from lidr.replacing import open_run
from lidr.strategies.base import draws_of, strategy_of
from tests.conftest import ToyEngine, ToyRun, make_config

CONFUSION = {"strategy": {"type": "confusion", "samples": 3}, "weight": 1}
MIXED = {"type": "mixture", "of": [{"strategy": "imbalance", "weight": 1}, CONFUSION]}


def mixed(prompts: Path, strategy: Any = MIXED) -> Config:
    return make_config(prompts, pairs={"strategy": strategy, "gates": {"max_foreign_words": None}})


class Noting(ToyEngine):
    """Notes at which temperature each conversation is continued."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__(stop_after=stop_after)
        self.temperatures: dict[str, set[float]] = {}

    def generate(
        self, requests: Iterable[Request], sampling: Sampling, done: Collection[str] = frozenset()
    ) -> Iterator[Completion]:
        every = list(requests)
        for request in every:
            self.temperatures.setdefault(request.messages[-1][1], set()).add(sampling.temperature)
        yield from super().generate(every, sampling, done)


def test_prompts_are_shared_out_by_weight_and_always_alike() -> None:
    strategy = {"type": "mixture", "of": {"imbalance": 3, "confusion": 1}}
    config = mixed(Path("prompts"), strategy)
    parts = [strategy_of(config).part_of(f"p{number}", config) for number in range(4000)]
    assert 2900 < Counter(parts)[0] < 3100
    again = config.model_copy(update={"seed": 43})
    assert parts != [strategy_of(again).part_of(f"p{number}", again) for number in range(4000)]


def test_each_prompt_gets_what_its_own_strategy_needs(toy_run: ToyRun) -> None:
    config = mixed(toy_run.prompts)
    engine = Noting()
    toy_run.use(engine)
    toy_run.run("prompts", "responses", "translations", "pairs", config=config)
    part_of = {f"p{number}": strategy_of(config).part_of(f"p{number}", config) for number in range(6)}
    assert set(part_of.values()) == {0, 1}
    run = toy_run.run_dir
    counts = Counter(row["prompt_id"] for row in toy_run.rows(run.responses(1, "es")))
    assert counts == {prompt_id: 3 if part else 1 for prompt_id, part in part_of.items()}
    for prompt_id, part in part_of.items():
        assert engine.temperatures[f"es: {prompt_id[1]}"] == {1.0 if part else 0.0}
    translated = {row["prompt_id"] for row in toy_run.rows(run.translations(1, "en", "es"))}
    assert translated == {prompt_id for prompt_id, part in part_of.items() if not part}
    reasons = {(part_of[row["prompt_id"]], row["reason"]) for row in toy_run.rows(run.dropped(1))}
    assert reasons == {(1, "no_mixed_sample")}
    assert {part_of[row["prompt_id"]] for row in toy_run.rows(run.pairs(1, "es"))} == {0}
    planned = count_prompts(config)
    assert planned.responses.total() + planned.translations.total() == len(engine.asked)


def test_translations_of_several_samplings_are_in_one_file(toy_run: ToyRun) -> None:
    config = mixed(toy_run.prompts, {"type": "mixture", "of": {"imbalance": 1, "translation_pairs": 1}})
    engine = Noting()
    toy_run.use(engine)
    toy_run.run("prompts", "responses", "translations", config=config)
    part_of = {f"p{number}": strategy_of(config).part_of(f"p{number}", config) for number in range(6)}
    counts = Counter(row["prompt_id"] for row in toy_run.rows(toy_run.run_dir.translations(1, "en", "es")))
    assert counts == {prompt_id: 4 if part else 1 for prompt_id, part in part_of.items()}
    asked = {text: found for text, found in engine.temperatures.items() if "into Spanish" in text}
    assert sorted(found for temperatures in asked.values() for found in temperatures) == sorted(
        0.9 if part else 0.0 for part in part_of.values()
    )


def test_a_queue_that_dies_in_the_second_sampling_loses_nothing(toy_run: ToyRun) -> None:
    config = mixed(toy_run.prompts)
    toy_run.run("prompts", config=config)
    first = Noting(stop_after=20)
    toy_run.use(first)
    with pytest.raises(ConnectionError):
        toy_run.run("responses", config=config)
    assert {temperature for found in first.temperatures.values() for temperature in found} == {0.0, 1.0}
    second = toy_run.use(ToyEngine())
    toy_run.run("responses", config=config)
    assert len(second.asked) == count_prompts(config).responses.total() - 20


def test_another_strategy_may_go_around_it(toy_run: ToyRun) -> None:
    config = mixed(toy_run.prompts, {"type": "anchored", "of": MIXED})
    toy_run.run("prompts", "responses", "translations", "pairs", config=config)
    rows = toy_run.rows(toy_run.run_dir.responses(1, "es"))
    assert len(rows) == count_prompts(config).responses["es"] and draws_of(config).of("es") == 3
    assert toy_run.rows(toy_run.run_dir.pairs(1, "es"))


def test_files_of_ones_own_are_kept_with_the_run(toy_run: ToyRun, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from lidr.strategies.imbalance import Imbalance\nclass Mine(Imbalance):\n    pass\n")
    config = mixed(toy_run.prompts, {"type": "mixture", "of": {f"{file}:Mine": 1, "confusion": 1}})
    assert strategy_of(config).source
    open_run(config, tmp_path / "kept", print)
    assert (tmp_path / "kept" / "plugins" / "mine.py").exists()
    recipe = tmp_path / "again.yaml"
    recipe.write_text(dump_config(config), encoding="utf-8")
    assert load_config(recipe) == config


@pytest.mark.parametrize(
    ("of", "says"),
    [
        ({"imbalance": 1}, "at least 2"),
        ({"imbalance": 1, "confusion": 0}, "greater than 0"),
        ({"imbalance": 1, "nothing": 1}, "there is no nothing"),
        ([{"strategy": MIXED, "weight": 1}, CONFUSION], "a mixture inside a mixture"),
        ([{"strategy": {"type": "anchored", "of": MIXED}, "weight": 1}, CONFUSION], "a mixture inside a mixture"),
        ([CONFUSION, CONFUSION | {"share": 1}], "share: no such field|Extra inputs"),
    ],
)
def test_what_is_no_mixture_is_said(of: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says) as raised:
        mixed(Path("prompts"), {"type": "mixture", "of": of})
    assert all("pairs.strategy" in explain(problem) for problem in raised.value.errors())  # type: ignore[attr-defined]
