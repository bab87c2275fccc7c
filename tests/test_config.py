"""Recipes: the shipped ones load, and what cannot work fails at load with the field and the remedy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from lidr.config import Config, dump_config, load_config, shipped_recipes
from lidr.errors import ConfigError
from lidr.plugins import built_in, load


def test_some_prompts_are_left_to_train_on() -> None:
    load_config("quickstart", ["prompts.limit=40", "training.held_out=39"])
    with pytest.raises(ConfigError, match=r"training\.held_out 40: no prompt of 40 \(prompts\.limit\) is left"):
        load_config("quickstart", ["prompts.limit=40", "training.held_out=40"])


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_every_shipped_recipe_loads_and_survives_a_round_trip(name: str, tmp_path: Path) -> None:
    config = load_config(name)
    assert config.name == name
    assert config.description
    written = tmp_path / "recipe.yaml"
    written.write_text(dump_config(config), encoding="utf-8")
    assert load_config(written) == config


def test_the_papers_numbers_are_in_the_paper_recipes() -> None:
    general, arithmetic = load_config("llama3-8b-instruct"), load_config("llama3-8b-mgsm")
    baseline = load_config("multilingual-alignment")
    assert (general.training.learning_rate, general.training.batch_size, general.training.epochs) == (5e-7, 16, 1)
    assert (arithmetic.training.learning_rate, arithmetic.training.batch_size) == (5e-6, 64)
    assert (baseline.training.learning_rate, baseline.training.batch_size, baseline.training.epochs) == (1e-5, 128, 3)
    assert baseline.training.objective == "sft"
    for config in (general, arithmetic):
        assert (config.training.beta, config.training.alpha, config.training.warmup_ratio) == (0.1, 1.0, 0.03)
        assert (config.responses.max_new_tokens, config.responses.repetition_penalty) == (2400, 1.1)
        assert (config.translations.max_new_tokens, config.translations.repetition_penalty) == (4096, 1.0)
        assert (config.seed, config.iterations) == (42, 2)


def test_overrides_change_one_field() -> None:
    config = load_config("quickstart", ["training.beta=0.25", "languages=[en, ru]", "pairs.gates.max_similarity=null"])
    assert config.training.beta == 0.25
    assert config.languages == ["en", "ru"]
    assert config.pairs.gates.max_similarity is None
    assert load_config("quickstart", ["training.learning_rate=5e-7"]).training.learning_rate == 5e-7


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.learning_rat=1", "training.learning_rat: no such field; did you mean learning_rate?"),
        ("training.beta=0", "training.beta"),
        ("training.micro_batch_size=3", "training.micro_batch_size: no such field"),
        ("training.lora={rank: 0}", "training.lora.rank"),
        ("training.report_to=[comet]", "training.report_to"),
        ("responses.temperature=1e-320", "responses.temperature: logits divided by so small a number overflow"),
        ("evaluation.temperature=0.0001", "evaluation.temperature"),
        ("dominant=ja", "dominant 'ja' is not among languages"),
        ("languages=[en]", "at least two languages"),
        ("languages=[en, xx]", "unknown language 'xx'"),
        ("languages=[en, es, es]", "listed twice"),
        ("pairs.dominant_rejected=it", "use one, all, none or one of"),
        ("evaluation.benchmarks.mgms={}", "did you mean mgsm?"),
        ("training.objective=ppo", "training.objective"),
        ("model={}", "model.path: missing"),
        ("prompts.task=arithmetic", "the laboratory has general prompts only"),
        ("novalue", "write it as field=value"),
        ("name.inner=3", "name has no fields of its own"),
    ],
)
def test_a_wrong_recipe_fails_with_field_and_remedy(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("quickstart", [override])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=-1", "seed: "),
        ("seed=4294967296", "seed: "),
        ("seed=true", "seed: a number is needed"),
        ("seed=1.5", "seed: "),
        ("iterations=1.5", "iterations: "),
        ("iterations=true", "iterations: a number is needed"),
        ("training.beta=true", "training.beta: a number is needed"),
        ("training.epochs=99999999999999999999", "training.epochs: "),
        ("prompts.limit=0", "prompts.limit: "),
        ("name=..", "name: letters, digits"),
        ("name=.", "name: letters, digits"),
        ("name=.hidden", "name: letters, digits"),
        ("name=-rf", "name: letters, digits"),
        ("name=a/b", "name: letters, digits"),
        ('name="a\\n"', "name: letters, digits"),
        ("name=" + "x" * 101, "name: letters, digits"),
        ("name=" + "字" * 40, "name: letters, digits"),
        ("name=''", "name: letters, digits"),
        ("name=2026", "put it in quotes"),
        ("name=true", "put it in quotes"),
        ("name=null", "name: "),
        ("engine.device=banana", "engine.device: no device of this form"),
        ("engine.device=cuda:x", "engine.device: no device of this form"),
        ("engine.device=cuda:1000", "engine.device: no device of this form"),
        ("engine.device=", "engine.device: "),
        ("languages=en", "languages: "),
        ("languages=[en, no]", "put it in quotes"),
        ("languages={en: 1}", "languages: "),
        ("model.path=''", "model.path: a path or a name is needed"),
        ("model.path=' lab'", "model.path: a path or a name is needed"),
        ('prompts.path="a\\nb"', "prompts.path: a path or a name is needed"),
        ("training.lora={targets: []}", "training.lora.targets"),
        ("engine={type: openai, api_key_env: 'MY KEY'}", "engine.api_key_env the name of an environment variable"),
    ],
)
def test_a_value_out_of_range_fails_at_load(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("quickstart", [override])
    assert message in str(caught.value) and len(str(caught.value)) < 500


def test_values_at_the_ends_of_their_range_load() -> None:
    for override in ("seed=0", "seed=4294967295", "name=2026-13-01", "name=1e3", "name=_x.y-z", "name='2026'",
                     "name=" + "x" * 99,
                     "engine.device=cuda:99", "engine.device=cpu:0", "engine.device=mps"):  # fmt: skip
        config = load_config("quickstart", [override])
        assert str(override.partition("=")[2]).strip("'") in (str(config.seed), config.name, config.device)


def test_many_problems_are_a_few_lines() -> None:
    with pytest.raises(ConfigError, match="and 90 more") as caught:
        load_config("quickstart", [f"field{number}=1" for number in range(100)])
    assert str(caught.value).count("\n") < 13


def test_sft_without_nll_is_refused() -> None:
    with pytest.raises(ConfigError, match="leaves no loss"):
        load_config("multilingual-alignment", ["training.alpha=0"])


def test_an_unknown_recipe_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean quickstart"):
        load_config("quikstart")
    broken = tmp_path / "broken.yaml"
    broken.write_text("model: [unclosed")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(broken)


def test_every_knob_is_documented_and_read_somewhere() -> None:
    source = Path(__file__).parents[1] / "src/lidr"
    code = "\n".join(path.read_text(encoding="utf-8") for path in source.glob("**/*.py") if path.name != "config.py")
    keywords = "\n".join(path.read_text(encoding="utf-8") for path in source.glob("benchmarks/*.py"))

    def check(section: Any, prefix: str) -> None:
        for name, field in section.model_fields.items():
            assert field.description, f"{prefix}{name} has no docstring"
            # a benchmark's settings are handed to its constructor whole
            is_read = re.search(rf"\.{name}\b", code) or f"{name}: " in keywords
            assert is_read, f"{prefix}{name} is never read"
            for option in (field.annotation, *getattr(field.annotation, "__args__", ())):
                if hasattr(option, "model_fields"):
                    check(option, f"{prefix}{name}.")

    check(Config, "")
    for kind in ("strategies", "engines", "benchmarks", "judges"):
        for name in built_in(kind):
            check(load(kind, name)[0], f"{name}.")


def test_rows_without_ids_cannot_be_skipped() -> None:
    with pytest.raises(ConfigError, match=r"on_missing skip needs fields\.id"):
        load_config("quickstart", ["prompts.path=p", "prompts.fields.id=null", "prompts.on_missing=skip"])


@pytest.mark.parametrize("url", ["http://localhost:8000/v1?x=1", "http://localhost:8000/v1#x", "localhost:8000/v1"])
def test_a_server_is_named_by_a_plain_url(url: str) -> None:
    with pytest.raises(ConfigError, match="a URL is needed"):
        load_config("evaluation", [f"engine={{type: openai, base_url: '{url}'}}"])


def test_settings_of_a_strategy_that_the_recipe_has_by_name() -> None:
    config = load_config("quickstart", ["pairs.strategy=verified_majority", "pairs.strategy.samples=3"])
    strategy = config.model_dump()["pairs"]["strategy"]
    assert (strategy["type"], strategy["samples"], strategy["lead"]) == ("verified_majority", 3, 2)


def test_a_field_that_moved_is_named_and_still_read_in_a_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"reference is training\.reference now"):
        load_config("quickstart", ["reference=initial"])
    recipe = tmp_path / "recipe.yaml"
    old = dump_config(load_config("quickstart")) + "reference: initial\n"
    recipe.write_text(old, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"is training\.reference now"):
        load_config(recipe)
    (tmp_path / "environment.json").write_text("{}")
    assert load_config(recipe).training.reference == "initial"
