"""Finished work is only replaced if the user asks for it: what counts as replaced, the refusal, and `--replace`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lidr.config import Config, load_config
from lidr.errors import ReplaceError
from lidr.loop import step
from lidr.replacing import Replaced, check, find_replaced, free_folder, open_run
from lidr.run_dir import RunDir
from lidr.seals import is_released, is_sealed, seal, sealed
from lidr.stages import pairs, responses, training
from lidr.stages.results import collect_results
from lidr.storage import partial_path
from tests.conftest import ToyEngine, ToyRun, make_config


@pytest.fixture
def paired(toy_run: ToyRun) -> ToyRun:
    """A run with pairs, of which no model has learned yet."""
    toy_run.run("prompts", "responses", "translations", "pairs")
    return toy_run


@pytest.fixture
def trained(paired: ToyRun) -> ToyRun:
    """A run with a folder in the place of M1."""
    pretend_to_train(paired)
    return paired


def pretend_to_train(run: ToyRun) -> None:
    """A model's folder as a training would seal it."""
    folder = run.run_dir.model_folder(1)
    aside = partial_path(folder)
    aside.mkdir(parents=True)
    (aside / "config.json").write_text("{}")
    seal(aside, folder, training.inputs(run.config, run.run_dir, 1), 1, "0" * 64)


def changed(run: ToyRun, **fields: Any) -> Config:
    return make_config(run.prompts, **fields)


def stages(found: list[Replaced]) -> dict[str, tuple[int, int]]:
    """Stage -> its rows, and those that are kept, in iteration 1."""
    counted: dict[str, tuple[int, int]] = {}
    for item in found:
        assert item.iteration == 1
        rows, kept = counted.get(item.stage, (0, 0))
        counted[item.stage] = rows + item.rows, kept + item.kept
    return counted


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"iterations": 5},
        {"description": "other words", "about": {"license": "apache-2.0"}, "report": {"samples": 1}},
        {"engine": {"batch_size": 3}, "isolation": "inline"},
        {"training": {"save_steps": 7, "token_budget": 99, "report_to": ["wandb"]}},
        {"pairs": {"minimum": 1, "max_fault_share": 1}},
        {"evaluation": {"benchmarks": {"lab": {}}}},
        {"pairs": {"gates": {"max_line_repeats": 9}}},  # a gate at which no pair fails, before and after
    ],
)
def test_changes_that_replace_nothing_go_on(trained: ToyRun, fields: dict[str, Any]) -> None:
    assert find_replaced(changed(trained, **fields), trained.run_dir) == []
    open_run(changed(trained, **fields), trained.run_dir.path, print)
    assert not is_sealed(trained.run_dir.model_folder(1), {})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"training": {"beta": 0.3}}, {"training"}),
        ({"training": {"reference": "initial"}}, set()),  # M0 is the reference of the first iteration anyhow
        ({"pairs": {"gates": {"max_similarity": 0.2}}}, {"pairs", "training"}),
        ({"translations": {"text_first": True}}, {"translations", "pairs", "training"}),
        ({"responses": {"max_new_tokens": 9}}, {"responses", "translations", "pairs", "training"}),
        ({"seed": 1}, {"responses", "translations", "pairs", "training"}),
        ({"system_prompt": None}, {"responses", "translations", "pairs", "training"}),
        ({"languages": ["en", "es"]}, {"pairs", "training"}),
        ({"dominant": "es"}, {"translations", "pairs", "training"}),
    ],
)
def test_what_a_change_replaces(trained: ToyRun, fields: dict[str, Any], expected: set[str]) -> None:
    assert set(stages(find_replaced(changed(trained, **fields), trained.run_dir))) == expected


def test_an_added_language_is_seen_before_its_answers_are_paid(trained: ToyRun, tmp_path: Path) -> None:
    small = trained.config.model_copy(update={"languages": ["en", "es", "fr"]})
    run = ToyRun(trained.prompts, tmp_path / "small", trained.monkeypatch)
    run.config = small
    run.run("prompts", "responses", "translations", "pairs")
    pretend_to_train(run)
    assert find_replaced(small, run.run_dir) == []
    assert {"pairs", "training"} <= set(stages(find_replaced(trained.config, run.run_dir)))


def test_rows_that_are_still_owed_are_kept(paired: ToyRun) -> None:
    fewer = changed(paired, prompts={"path": str(paired.prompts), "limit": 4})
    found = stages(find_replaced(fewer, paired.run_dir))
    assert found["responses"] == (24, 16) and found["pairs"] == (24, 0)
    shutil.rmtree(paired.run_dir.pair_summary(1).parent)
    shutil.rmtree(paired.run_dir.translations(1, "en", "es").parent)
    assert stages(find_replaced(fewer, paired.run_dir)) == {"responses": (24, 16)}
    for code in ("en", "es", "fr", "de"):  # of the first four prompts only
        with (paired.prompts / f"{code}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"id": "p6", "instruction": f"{code}: 6"}) + "\n")
    assert find_replaced(paired.config, paired.run_dir) == [], "more prompts replace no answer"


def test_rows_of_an_interrupted_stage_are_finished_work(toy_run: ToyRun) -> None:
    toy_run.use(ToyEngine(stop_after=9))
    with pytest.raises(ConnectionError):
        toy_run.run("prompts", "responses")
    assert find_replaced(toy_run.config, toy_run.run_dir) == []
    found = stages(find_replaced(changed(toy_run, seed=3), toy_run.run_dir))
    assert found == {"responses": (9, 0)}
    assert find_replaced(changed(toy_run, prompts={"path": str(toy_run.prompts), "limit": 99}), toy_run.run_dir) == []
    before = toy_run.run_dir.recipe.read_bytes()
    with pytest.raises(ReplaceError, match="9 rows, of which none are kept"):
        open_run(changed(toy_run, seed=3), toy_run.run_dir.path, print)
    assert toy_run.run_dir.recipe.read_bytes() == before


def test_touched_prompts_replace_nothing_and_changed_ones_do(trained: ToyRun) -> None:
    file = trained.prompts / "es.jsonl"
    os.utime(file, ns=(1, 1))
    assert find_replaced(trained.config, trained.run_dir) == []
    file.write_text(file.read_text().replace("es: 3", "es: 33"))
    found = stages(find_replaced(trained.config, trained.run_dir))
    assert found["responses"] == (6, 5) and "training" in found


def test_another_model_file_replaces_everything(trained: ToyRun, tmp_path: Path) -> None:
    from lidr.lab import MODEL_PATH

    copy = shutil.copytree(MODEL_PATH, tmp_path / "model")
    same = changed(trained, model={"path": str(copy)})
    assert find_replaced(same, trained.run_dir) == [], "the same weights in another place are the same model"
    (copy / "generation_config.json").write_text("{}")
    assert {"responses", "training"} <= set(stages(find_replaced(same, trained.run_dir)))


def test_a_probe_leaves_finished_pairs_alone(trained: ToyRun) -> None:
    with pytest.raises(ReplaceError, match=r"probe\.prompts: None -> 2"):
        open_run(changed(trained, probe={"prompts": 2}), trained.run_dir.path, print)


def test_the_refusal_names_difference_consequences_and_ways_out(trained: ToyRun) -> None:
    path = trained.run_dir.path
    path.with_name("run-2").mkdir()
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.name != ".lock"}
    with pytest.raises(ReplaceError) as refused:
        open_run(changed(trained, training={"beta": 0.3}), path, print)
    message = str(refused.value)
    assert "recipe: training.beta: 0.1 -> 0.3" in message
    assert "iteration 1  training M1 (training.beta: 0.1 -> 0.3)" in message
    assert f"--run-dir {path}-3" in message and "--replace" in message
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.name != ".lock"} == before
    assert free_folder(path).name == "run-3"


def test_a_stage_refuses_what_changed_behind_its_back(trained: ToyRun) -> None:
    """Whoever goes round `open_run`: nothing sealed is replaced all the same."""
    other = changed(trained, seed=5)
    for stage in ("responses", "translations", "pairs", "training"):
        if stage == "responses":
            with trained.run_dir.lock() as lock, pytest.raises(ReplaceError):
                step(stage, other, trained.run_dir, 1, lock)
    assert is_sealed(trained.run_dir.responses(1, "en"), responses.inputs(trained.config, trained.run_dir, 1))


def test_replace_says_what_and_later_starts_go_on(trained: ToyRun) -> None:
    said: list[str] = []
    other = changed(trained, seed=5)
    open_run(other, trained.run_dir.path, said.append, replace=True)
    assert any("iteration 1  responses en, es, fr, de: 24 rows, of which none are kept" in line for line in said)
    assert any("training M1" in line for line in said)
    assert trained.run_dir.responses(1, "en").exists(), "it is there until its stage comes"
    open_run(other, trained.run_dir.path, print)  # killed, and started again without --replace
    with trained.run_dir.lock() as lock:
        for stage in ("responses", "translations", "pairs"):
            assert step(stage, other, trained.run_dir, 1, lock)
    open_run(other, trained.run_dir.path, print)
    assert not is_released(trained.run_dir.responses(1, "en"), other)


def test_a_permission_is_for_one_recipe(trained: ToyRun) -> None:
    path = trained.run_dir.path
    open_run(changed(trained, training={"beta": 0.2}), path, print, replace=True)
    other = changed(trained, training={"beta": 0.3})
    with pytest.raises(ReplaceError, match=r"training\.beta: 0\.1 -> 0\.3"):
        open_run(other, path, print)
    with trained.run_dir.lock() as lock, pytest.raises(ReplaceError):
        step("training", other, trained.run_dir, 1, lock)
    open_run(other, path, print, replace=True)
    open_run(other, path, print)


def test_a_permission_ends_when_the_recipe_is_what_it_was(trained: ToyRun) -> None:
    path = trained.run_dir.path
    open_run(changed(trained, seed=5), path, print, replace=True)
    open_run(trained.config, path, print)
    with pytest.raises(ReplaceError):
        open_run(changed(trained, seed=6), path, print)


def rewrite_seal(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    note = path.parent / f".{path.name}.seal.json"
    content = json.loads(note.read_text())
    content.pop("check", None)  # as older versions wrote it
    change(content["inputs"])
    note.write_text(json.dumps(content))


def test_what_an_older_version_made_is_still_shown(paired: ToyRun, capsys: pytest.CaptureFixture[str]) -> None:
    run = paired.run_dir
    rewrite_seal(run.pair_summary(1), lambda inputs: inputs.update(format=1))
    assert len(collect_results(paired.config, run).iterations) == 1
    assert "was made by an older version of lidr (format: 1 -> " in capsys.readouterr().err
    rewrite_seal(run.pair_summary(1), lambda inputs: inputs.update(dominant="es"))
    assert collect_results(paired.config, run).iterations == ()


def test_fields_that_an_older_version_lacked_count_as_their_defaults(trained: ToyRun) -> None:
    run = trained.run_dir
    rewrite_seal(run.pair_summary(1), lambda inputs: inputs["pairs"]["gates"].pop("loops"))
    rewrite_seal(run.model_folder(1), lambda inputs: inputs["training"].pop("nll_normalization"))
    for path in (run.translations(1, "en", "es"), run.translations(1, "es", "en")):
        rewrite_seal(path, lambda inputs: inputs["translations"].pop("text_first"))
    assert find_replaced(trained.config, run) == []
    assert is_sealed(run.model_folder(1), training.inputs(trained.config, run, 1))
    found = find_replaced(changed(trained, training={"nll_normalization": "batch_token"}), run)
    assert set(stages(found)) == {"training"}


def test_newer_rules_make_unused_pairs_again_without_asking(
    paired: ToyRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pairs, "_VERSION", 99)
    monkeypatch.setattr(pairs, "failed_gate", lambda *arguments: ("loop", ""))
    assert find_replaced(paired.config, paired.run_dir) == []
    pretend_to_train(paired)
    with pytest.raises(ReplaceError, match="this version of lidr makes it otherwise"):
        check(paired.config, paired.run_dir, print)


def test_newer_rules_that_make_the_same_pairs_keep_the_model(trained: ToyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "_VERSION", 99)
    assert find_replaced(trained.config, trained.run_dir) == []
    with trained.run_dir.lock() as lock:
        assert step("pairs", trained.config, trained.run_dir, 1, lock)
    assert is_sealed(trained.run_dir.model_folder(1), training.inputs(trained.config, trained.run_dir, 1))


def test_checkpoints_are_finished_work(paired: ToyRun) -> None:
    run = paired.run_dir
    (run.training(1) / "checkpoints" / "checkpoint-4").mkdir(parents=True)
    training.inputs_note(run, 1).write_text(json.dumps(training.inputs(paired.config, run, 1)))
    assert find_replaced(paired.config, run) == []
    (found,) = find_replaced(changed(paired, training={"beta": 0.3}), run)
    assert found.stage == "training" and "checkpoint" in found.what
    assert "pairs" in stages(find_replaced(changed(paired, pairs={"gates": {"max_similarity": 0.2}}), run))


def test_a_deleted_file_may_be_made_again(trained: ToyRun) -> None:
    """The way out of a damaged file: nothing says that what is made again will differ."""
    for path in (trained.run_dir.responses(1, "es"), trained.run_dir.translations(1, "en", "de")):
        path.unlink()
        assert find_replaced(trained.config, trained.run_dir) == []
    with trained.run_dir.lock() as lock:
        for stage in ("responses", "translations"):
            step(stage, trained.config, trained.run_dir, 1, lock)
        assert not step("pairs", trained.config, trained.run_dir, 1, lock)


# --- the command line -------------------------------------------------------------------------------------------------

_SMALL = ["languages=[en, es]", "prompts.limit=12", "iterations=1", "training.epochs=1",
          "evaluation.benchmarks.lab.languages=[en, es]"]  # fmt: skip


def lidr(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "lidr", *arguments], capture_output=True, text=True, cwd=cwd)


def sets(*settings: str) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of the quickstart in runs/quickstart."""
    folder = tmp_path_factory.mktemp("finished")
    done = lidr("run", "quickstart", *sets(*_SMALL, "pairs.minimum=1"), cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished / "runs", tmp_path / "runs")
    return tmp_path


def content(run: Path) -> dict[str, bytes]:
    """The files that a refused command must leave alone."""
    return {str(file): file.read_bytes() for file in run.rglob("*") if file.is_file() and file.name != ".lock"}


@pytest.mark.parametrize(
    "command",
    [
        ["run", "quickstart"],  # another recipe than the run's own: the shipped one
        ["run", "quickstart", *sets(*_SMALL, "seed=7")],
        ["run", "quickstart", *sets(*_SMALL, "responses.repetition_penalty=1.3")],
        ["evaluate", "runs/quickstart", *sets("evaluation.max_new_tokens=9")],
        ["evaluate", "runs/quickstart", "--benchmarks", "lab", *sets("seed=1")],
        ["probe", "runs/quickstart", *sets("languages=[en, es, fr]")],
        ["probe", "quickstart", *sets("seed=3")],
    ],
)
def test_every_command_refuses_before_it_writes(copy: Path, command: list[str]) -> None:
    before = content(copy / "runs")
    done = lidr(*command, cwd=copy)
    assert done.returncode == 2 and "--replace" in done.stderr and "Traceback" not in done.stderr
    if command[0] == "run":
        assert "--run-dir runs/quickstart-2" in done.stderr
    assert content(copy / "runs") == before


@pytest.mark.parametrize("command", ["respond", "translate", "pair", "train", "evaluate"])
def test_steps_refuse_a_recipe_that_was_edited(copy: Path, command: str) -> None:
    recipe = copy / "runs/quickstart/recipe.yaml"
    recipe.write_text(recipe.read_text().replace("seed: 42", "seed: 43"))
    before = content(copy / "runs")
    done = lidr(command, "runs/quickstart", cwd=copy)
    assert done.returncode == 2 and "responses en, es: 24 rows" in done.stderr and "--replace" in done.stderr
    assert content(copy / "runs") == before


def test_replace_replaces_what_it_says_and_harmless_changes_go_on(copy: Path) -> None:
    settings = sets(*_SMALL, "pairs.minimum=1")
    run = RunDir(copy / "runs/quickstart")
    model = sealed(run.model_folder(1)).sha256
    harmless = sets("training.save_steps=3", "report.samples=2", "engine.batch_size=7", "about.license=mit")
    done = lidr("run", "quickstart", *settings, *harmless, cwd=copy)
    assert done.returncode == 0 and "regenerated" not in done.stderr
    assert sealed(run.model_folder(1)).sha256 == model
    done = lidr("run", "quickstart", *settings, "--set", "training.beta=0.7", "--replace", cwd=copy)
    assert done.returncode == 0, done.stderr
    assert "replaced: iteration 1  training M1 (training.beta: 0.1 -> 0.7)" in done.stderr
    assert "responses" not in done.stderr.partition("recipe changed")[0]
    assert sealed(run.model_folder(1)).inputs["training"]["beta"] == 0.7
    assert load_config(run.recipe).training.beta == 0.7


def test_a_probe_of_a_finished_laboratory_run_goes_on_beside_its_pairs(copy: Path) -> None:
    """The laboratory's sample is no part of its prompts, so nothing is held out that was trained on."""
    before = (copy / "runs/quickstart/iteration_1/4_pairs/summary.json").read_bytes()
    done = lidr("probe", "runs/quickstart", *sets("probe.prompts=4"), cwd=copy)
    assert done.returncode == 0, done.stderr
    again = lidr("run", "runs/quickstart/recipe.yaml", "--run-dir", "runs/quickstart", cwd=copy)
    assert again.returncode == 0, again.stderr
    assert (copy / "runs/quickstart/iteration_1/4_pairs/summary.json").read_bytes() == before
