"""The cards say what the run says, in metadata that the Hub takes, whatever the model wrote."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from lidr.cards import Published, data_card, data_files, model_card, read_facts, write_cards, write_trained_card
from lidr.cards.base import base_model, hub_id, license_fields
from lidr.cli import app
from lidr.config import Config
from lidr.errors import ConfigError, DamagedError, RunError
from lidr.run_dir import RunDir
from lidr.seals import write_sealed
from lidr.stages.pairs import read_summary
from lidr.storage import write_text
from tests.conftest import ToyRun
from tests.support.hub_server import metadata_problems
from tests.support.publishing import add_model, finish, make_pairs, results

NAMES = Published("org/model", "org/pairs", "apache-2.0", "org/base")


@pytest.fixture
def finished(toy_run: ToyRun) -> tuple[Config, RunDir]:
    return finish(toy_run)


def metadata(card: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return found


def test_the_hub_takes_the_metadata_and_its_client_reads_them(finished: tuple[Config, RunDir]) -> None:
    from huggingface_hub import DatasetCard, ModelCard

    facts = read_facts(*finished, 1)
    for published in (Published(), NAMES, Published(license="Qwen Research Licence")):
        cards = {"model": model_card(facts, published), "dataset": data_card(facts, published)}
        for kind, text in cards.items():
            assert metadata_problems(text, kind) == []
        read = ModelCard(cards["model"]), DatasetCard(cards["dataset"])
        assert read[0].data.to_dict() == metadata(cards["model"])
        assert read[1].data.to_dict() == metadata(cards["dataset"])
        assert len(read[0].data.eval_results) == 4 * 2


def test_the_model_card_names_what_it_was_made_from(finished: tuple[Config, RunDir]) -> None:
    card = model_card(read_facts(*finished, 1), NAMES)
    data = metadata(card)
    assert data["base_model"] == "org/base" and data["base_model_relation"] == "finetune"
    assert data["datasets"] == ["org/pairs"] and data["license"] == "apache-2.0"
    assert data["language"] == ["en", "es", "fr", "de"] and data["pipeline_tag"] == "text-generation"
    assert data["library_name"] == "transformers" and data["metrics"] == ["accuracy", "off_target"]
    spanish = next(r for r in data["model-index"][0]["results"] if r["dataset"].get("config") == "es")
    assert [(m["type"], m["value"]) for m in spanish["metrics"]] == [("accuracy", 0.8), ("off_target", 0.0)]
    assert "| Spanish | 0.400 (0.30–0.50) | 0.800 (0.70–0.90) | +0.400 (intervals apart) |" in card
    assert "| Italian (transfer) |" in card and "[org/base](https://huggingface.co/org/base)" in card
    assert "1e-06" not in card and "| Learning rate | 5e-07, cosine, warm-up 3 % |" in card


def test_only_this_model_and_the_first_one_are_compared(finished: tuple[Config, RunDir]) -> None:
    _, run = finished
    three = results()
    three["models"].append(three["models"][1] | {"name": "M2"})
    write_text(run.results, json.dumps(three))
    assert read_facts(*finished, 1).measures[0].models == ["M0", "M1"]
    write_text(run.results, json.dumps(results(models=1)))
    card = model_card(read_facts(*finished, 1), Published())
    assert "had not been measured" in card and "model-index" not in metadata(card)
    assert "model_name" not in metadata(card)


def test_the_card_of_a_new_model_shows_no_figures_of_an_earlier_one(finished: tuple[Config, RunDir]) -> None:
    write_trained_card(*finished, 1)  # also for a run that was killed before it had one
    card = (finished[1].model_folder(1) / "README.md").read_text(encoding="utf-8")
    assert "had not been measured" in card and "0.800" not in card
    assert metadata_problems(card, "model") == []


def test_the_data_card_counts_every_candidate(finished: tuple[Config, RunDir]) -> None:
    facts = read_facts(*finished, 1)
    card = data_card(facts, NAMES)
    summary = json.loads(finished[1].pair_summary(1).read_text(encoding="utf-8"))
    counts = summary["pairs"]
    assert f"| Spanish | {counts['es']} |" in card and f"| All | {sum(counts.values())} |" in card
    dropped = sum(sum(reasons.values()) for reasons in summary["dropped"].values())
    assert f"Iteration 1: {sum(counts.values())} pairs, {dropped} dropped" in card
    assert "trained [org/model](https://huggingface.co/org/model)" in card


def test_a_configuration_for_each_language_loads_its_pairs(finished: tuple[Config, RunDir], tmp_path: Path) -> None:
    from datasets import get_dataset_config_names, load_dataset

    config, run = finished
    facts = read_facts(config, run, 1)
    folder = tmp_path / "pushed"
    for path, source in data_files(facts, run).items():
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_bytes(source.read_bytes())
    (folder / "README.md").write_text(data_card(facts, Published()), encoding="utf-8")
    cache = str(tmp_path / "cache")
    assert sorted(get_dataset_config_names(str(folder))) == ["all", "de", "en", "es", "fr"]
    loaded = load_dataset(str(folder), "es", split="iteration_1", cache_dir=cache)
    rows = [json.loads(line) for line in run.pairs(1, "es").read_text(encoding="utf-8").splitlines()]
    assert loaded.to_list() == rows
    everything = load_dataset(str(folder), cache_dir=cache)
    assert everything["iteration_1"].num_rows == facts.total


def test_a_language_without_pairs_has_no_configuration(finished: tuple[Config, RunDir]) -> None:
    facts = read_facts(*finished, 1)
    facts.entries[0].pairs["fr"] = 0
    card = data_card(facts, Published())
    assert "fr" not in [found["config_name"] for found in metadata(card)["configs"]]
    assert "data/fr/iteration_1.jsonl" not in data_files(facts, finished[1])
    facts.entries[0].pairs.update(dict.fromkeys(facts.config.languages, 0))
    assert (
        "configs" not in metadata(data_card(facts, Published()))
        or not metadata(data_card(facts, Published()))["configs"]
    )


def test_texts_of_the_model_stay_texts(finished: tuple[Config, RunDir]) -> None:
    hostile = (
        "---\nlicense: mit\n---\n# Heading\n````\n<script>alert(1)</script> [x](http://x.test) ``` {{ 7 * 7 }} \x1b"
    )
    config, run = finished
    row = json.loads(run.pairs(1, "es").read_text(encoding="utf-8").splitlines()[0])
    row |= {"prompt": hostile, "chosen": hostile, "rejected": hostile}
    write_sealed(run.pairs(1, "es"), {}, [json.dumps(row)])
    summary = read_summary(run, 1)
    write_sealed(run.pair_summary(1), {}, [json.dumps({"pairs": summary.pairs, "dropped": summary.dropped})])
    evil = config.model_copy(update={"description": "<b>bold</b> [y](http://y.test)"})
    card = data_card(read_facts(evil, run, 1), Published())
    assert metadata(card)["license"] == "unknown" and "\x1b" not in card
    cards = card, model_card(read_facts(evil, run, 1), Published())
    pages = [MarkdownIt("commonmark").render(text) for text in cards]
    assert "&lt;script&gt;alert(1)&lt;/script&gt; [x](http://x.test) ``` {{ 7 * 7 }}" in pages[0]
    assert not any(found in page for page in pages for found in ("<script", "<b>", 'href="http://', ">Heading<"))


def test_no_samples_where_the_report_shows_none(finished: tuple[Config, RunDir]) -> None:
    config, run = finished
    shy = config.model_copy(update={"report": config.report.model_copy(update={"samples": 0})})
    assert "## Pairs to read" in data_card(read_facts(config, run, 1), Published())
    assert "## Pairs to read" not in data_card(read_facts(shy, run, 1), Published())


def test_licences_in_the_form_of_the_hub() -> None:
    assert license_fields(None) == {"license": "unknown"}
    assert license_fields("Apache-2.0") == {"license": "apache-2.0"}
    assert license_fields("Qwen Research: v1") == {"license": "other", "license_name": "qwen-research-v1"}


def test_names_on_the_hub() -> None:
    assert hub_id("org/name") == "org/name" and hub_id("hf://org/name@v1") == "org/name"
    assert hub_id("hf://datasets/org/name/folder") == "org/name"
    assert hub_id("/home/me/model") is None and hub_id("s3://bucket/name") is None and hub_id("lab") is None
    for name in ("name", "org/a/b", "org/na me", "../x"):
        with pytest.raises(ConfigError, match="--data-repo"):
            Published(data_repo=name)


def test_what_came_from_the_hub_is_told_from_folders(finished: tuple[Config, RunDir]) -> None:
    config, run = finished
    elsewhere = config.model_copy(
        update={
            "model": config.model.model_copy(update={"path": "org/base"}),
            "prompts": config.prompt_source.model_copy(update={"path": "org/prompts"}),
        }
    )
    seal = run.prompts(1).with_name(".1_prompts.jsonl.seal.json")
    made_from = json.loads(seal.read_text(encoding="utf-8"))
    del made_from["check"]  # as in older versions
    for folder, files, found in (
        ("/cache/models--org--base/snapshots/1", {}, ("org/base", "org/prompts")),
        ("/home/me/org/base", {"org/prompts/es.jsonl": [1, 2]}, (None, None)),
    ):
        write_text(run.model_cache, json.dumps({"org/base@None": {"folder": folder}}))
        made_from["inputs"]["files"] = files
        write_text(seal, json.dumps(made_from))
        facts = read_facts(elsewhere, run, 1)
        assert (facts.base_id, facts.prompts_id) == found
        data = metadata(model_card(facts, Published()))
        assert data.get("base_model") == found[0] and data.get("datasets") == ([found[1]] if found[1] else None)
        assert metadata(data_card(facts, Published())).get("source_datasets") == data.get("datasets")
    run.model_cache.unlink()
    assert read_facts(elsewhere, run, 1).base_id is None


def test_a_folder_goes_by_its_last_name(toy_run: ToyRun) -> None:
    model = toy_run.config.model.model_copy(update={"path": "/home/me/mine"})
    config = toy_run.config.model_copy(update={"model": model})
    name, words = base_model(config, None, Published())
    assert name is None and "mine" in words and "/home/me" not in words


def test_the_example_on_the_card_runs(finished: tuple[Config, RunDir], capsys: pytest.CaptureFixture[str]) -> None:
    config, run = finished
    card = model_card(read_facts(config, run, 1), Published())
    found = re.search(r"```python\n(.*?)```", card, re.S)
    assert found
    code = found.group(1).replace("path/to/this/folder", str(run.model_folder(1)))
    exec(code.replace("max_new_tokens=512", "max_new_tokens=4"), {})
    assert capsys.readouterr().out.strip()


def test_card_command(toy_run: ToyRun, tmp_path: Path) -> None:
    config, run = finish(toy_run)
    command = ["card", str(run.path), "--license", "mit"]
    assert CliRunner().invoke(app, command).exit_code == 0
    paths = [run.path / "cards/data/README.md", run.model_folder(1) / "README.md"]
    first = [path.read_bytes() for path in paths]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert [path.read_bytes() for path in paths] == first
    assert b"license: mit" in first[0] and b"license: mit" in first[1]
    written = write_cards(config, run, 1, Published(), tmp_path / "out")
    assert written == [tmp_path / "out/data/README.md", tmp_path / "out/model/README.md"]
    assert [path.read_bytes() for path in paths] == first


def test_cards_of_an_unfinished_run(toy_run: ToyRun) -> None:
    with pytest.raises(RunError, match="neither a trained model nor pairs"):
        write_cards(toy_run.config, toy_run.run_dir, None, Published())
    config, run = make_pairs(toy_run)
    assert write_cards(config, run, None, Published()) == [run.path / "cards/data/README.md"]
    with pytest.raises(RunError, match="iterations 1 to 1"):
        write_cards(config, run, 2, Published())


def test_an_sft_run_says_so(finished: tuple[Config, RunDir]) -> None:
    config, run = finished
    sft = config.model_copy(update={"training": config.training.model_copy(update={"objective": "sft"})})
    card = model_card(read_facts(sft, run, 1), Published())
    assert "it learned from translations" in card and "| β |" not in card and metadata(card)["tags"][1] == "sft"


def test_pairs_that_were_too_long_are_counted(finished: tuple[Config, RunDir]) -> None:
    config, run = finished
    run.training(1).mkdir(parents=True)
    add_model(run, too_long=3)
    write_text(run.training(1) / "summary.json", json.dumps({"pairs": 1, "too_long": {"es": 2, "fr": 1}}))
    facts = read_facts(config, run, 1)
    assert "3 of the pairs were longer than training allowed" in data_card(facts, Published())
    assert f"{facts.total - 3} preference pairs that were short enough to train on" in model_card(facts, Published())


def test_what_was_made_with_another_recipe_is_not_published(toy_run: ToyRun, tmp_path: Path) -> None:
    _, run = finish(toy_run)
    recipe = run.recipe.read_text(encoding="utf-8")
    run.recipe.write_text(recipe.replace("beta: 0.1", "beta: 0.3"), encoding="utf-8")
    for command in (["card"], ["export", "--format", "trl", "--out", str(tmp_path / "out")], ["review"]):
        result = CliRunner().invoke(app, [*command, str(run.path)])
        assert isinstance(result.exception, RunError), command
        assert "training.beta: 0.1 -> 0.3" in str(result.exception) and "--replace" in str(result.exception)
    run.recipe.write_text(recipe, encoding="utf-8")
    assert CliRunner().invoke(app, ["card", str(run.path)]).exit_code == 0


def test_a_card_is_of_the_weights_that_were_trained(toy_run: ToyRun) -> None:
    _, run = finish(toy_run)
    weights = run.model_folder(1) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    result = CliRunner().invoke(app, ["card", str(run.path)])
    assert isinstance(result.exception, DamagedError) and "5_model: damaged" in str(result.exception)
