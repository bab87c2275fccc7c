"""The whole loop on the laboratory: it teaches, it is the preference that teaches, and nothing is lost on the way."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lidr import loop
from lidr.config import Config, load_config
from lidr.replacing import open_run
from lidr.stages.shortage import TooFewPairsError
from lidr.strategies.base import Answers, Candidate
from lidr.strategies.imbalance import Imbalance

WEAK = ["es", "fr", "de", "ru"]
# A run small enough to be killed and resumed several times.
SMALL = ["languages=[en, es, ru]", "prompts.limit=36", "training.save_steps=4", "pairs.minimum=1",
         "evaluation.benchmarks.lab.languages=[en, es, ru]"]  # fmt: skip


def run(path: Path, *settings: str) -> dict[str, Any]:
    """Run the quickstart recipe with settings, in this process, whatever it replaces; returns results.json."""
    config = load_config("quickstart", list(settings))
    loop.run(config, open_run(config, path, print, replace=True))
    return json.loads((path / "results.json").read_text())  # type: ignore[no-any-return]


def measure(results: dict[str, Any], model: str, metric: str, languages: list[str]) -> float:
    """The mean of a laboratory metric over languages."""
    found = next(item["benchmarks"]["lab"] for item in results["models"] if item["name"] == model)
    return sum(found[code][metric] for code in languages) / len(languages)


def outcome(path: Path) -> dict[str, bytes | Any]:
    """Everything that has to be the same however often a run was interrupted."""
    results = json.loads((path / "results.json").read_text())
    for iteration in results["iterations"]:
        del iteration["seconds"]  # the only thing that may differ
    files = {
        str(file.relative_to(path)): file.read_bytes() for file in sorted(path.glob("iteration_*/[1-4]_*/*.json*"))
    }
    return files | {"results": results}


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """One iteration of the quickstart."""
    path = tmp_path_factory.mktemp("runs") / "finished"
    return path, run(path, "iterations=1")


@pytest.fixture
def copy(finished: tuple[Path, Any], tmp_path: Path) -> Path:
    """The finished run, to be changed."""
    return Path(shutil.copytree(finished[0], tmp_path / "copy"))


def test_one_iteration_lifts_the_weak_languages_and_keeps_english(finished: tuple[Path, dict[str, Any]]) -> None:
    results = finished[1]
    assert measure(results, "M1", "accuracy", WEAK) >= measure(results, "M0", "accuracy", WEAK) + 0.10
    assert measure(results, "M1", "off_target", WEAK) < measure(results, "M0", "off_target", WEAK)
    assert measure(results, "M1", "accuracy", ["en"]) >= measure(results, "M0", "accuracy", ["en"]) - 0.03


def test_results_have_the_documented_form(finished: tuple[Path, dict[str, Any]]) -> None:
    path, results = finished
    assert results["schema"] == 1
    assert [(model["name"], model["path"]) for model in results["models"]] == [
        ("M0", "lab"),
        ("M1", "iteration_1/5_model"),
    ]
    spanish = results["models"][1]["benchmarks"]["lab"]["es"]
    assert {"accuracy", "accuracy_held_out", "off_target", "n", "ci95"} <= set(spanish)
    assert spanish["ci95"][0] <= spanish["accuracy"] <= spanish["ci95"][1]
    (iteration,) = results["iterations"]
    assert sum(iteration["pairs"].values()) + sum(iteration["dropped"].values()) == 5 * 120
    assert set(iteration["seconds"]) == {"responses", "translations", "pairs", "training", "evaluation"}
    assert iteration["saved"]["measure"] == "margin" and iteration["saved"]["kept"] == pytest.approx(1, abs=0.05)
    assert "Saved model, iteration 1" in (path / "report.md").read_text(encoding="utf-8")
    for name in ("report.html", "report.md", "recipe.yaml", "environment.json", "metrics.jsonl"):
        assert (path / name).stat().st_size > 100


def test_the_model_is_a_plain_hugging_face_folder(finished: tuple[Path, Any]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = finished[0] / "iteration_1" / "5_model"
    assert AutoModelForCausalLM.from_pretrained(folder).num_parameters() > 500_000
    assert AutoTokenizer.from_pretrained(folder).chat_template
    assert not list(folder.glob("*.bin"))


def test_a_finished_run_owes_nothing(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_work(*arguments: Any) -> None:
        raise AssertionError("a finished run must not work again")

    for stage in loop.STAGES.values():
        monkeypatch.setattr(stage, "run", no_work)
    before = outcome(copy)
    run(copy, "iterations=1")
    assert outcome(copy) == before


def test_a_changed_recipe_makes_anew_what_it_changes_and_no_more(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stamps = {path: path.stat().st_mtime_ns for path in copy.glob("iteration_[01]/[2-6]_*/**/*.json*")}
    run(copy, "iterations=1", "training.beta=0.2")
    changed = {path.relative_to(copy).parts[1] for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp}
    unchanged = {path.relative_to(copy).parts[1] for path, stamp in stamps.items() if path.stat().st_mtime_ns == stamp}
    assert changed == {"5_training", "5_model", "6_evaluation"}
    assert unchanged >= {"2_responses", "3_translations", "4_pairs", "6_evaluation"}
    assert "training: regenerated because training.beta: 0.1 -> 0.2" in capsys.readouterr().err


CANDIDATES = Imbalance.candidates


def swapped(strategy: Imbalance, answers: Answers, config: Config) -> Iterator[Candidate]:
    for candidate in CANDIDATES(strategy, answers, config):
        yield replace(candidate, chosen=candidate.rejected, rejected=candidate.chosen)


def test_swapped_pairs_make_it_worse(copy: Path, finished: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Imbalance, "candidates", swapped)
    shutil.rmtree(copy / "iteration_1" / "4_pairs")
    results = run(copy, "iterations=1", "pairs.gates.wrong_language=null")
    assert measure(results, "M1", "accuracy", WEAK) < measure(results, "M0", "accuracy", WEAK)
    assert measure(results, "M1", "accuracy", WEAK) < measure(finished[1], "M1", "accuracy", WEAK) - 0.2


def equal(strategy: Imbalance, answers: Answers, config: Config) -> Iterator[Candidate]:
    for candidate in CANDIDATES(strategy, answers, config):
        yield replace(candidate, chosen=candidate.rejected)


def test_a_run_ends_where_no_pair_is_left(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Imbalance, "candidates", equal)
    results = run(copy, "iterations=2")  # the first iteration's pairs are there already
    assert [model["name"] for model in results["models"]] == ["M0", "M1"]
    assert results["iterations"][1]["dropped"] == {"identical": 600}
    assert "identical" in (copy / "report.md").read_text()
    assert "Iteration 2 was not trained" in (copy / "report.md").read_text()
    assert "the run ends with M1" in capsys.readouterr().err

    shutil.rmtree(copy / "iteration_1" / "4_pairs")
    (copy / "report.html").unlink()
    with pytest.raises(TooFewPairsError, match=r"iteration 1 was not trained: 0 pairs of 600 .*identical 600"):
        run(copy, "iterations=1")
    assert (copy / "report.html").exists()


def test_without_nll_english_suffers_more(copy: Path, tmp_path: Path) -> None:
    hard = ["iterations=1", "training.learning_rate=1e-3", "training.epochs=3"]
    other = Path(shutil.copytree(copy, tmp_path / "other"))
    without = measure(run(copy, *hard, "training.alpha=0"), "M1", "accuracy", ["en"])
    with_nll = measure(run(other, *hard, "training.alpha=1"), "M1", "accuracy", ["en"])
    assert without < with_nll - 0.03


def test_sft_on_translated_answers_trains_too(copy: Path) -> None:
    results = run(copy, "iterations=1", "training.objective=sft", "pairs.dominant_rejected=none")
    assert results["iterations"][0]["pairs"]["en"] == 0
    assert measure(results, "M1", "accuracy", WEAK) > measure(results, "M0", "accuracy", WEAK) + 0.10
    logs = [json.loads(line) for line in (copy / "metrics.jsonl").read_text().splitlines()]
    assert "dpo" not in next(row for row in reversed(logs) if row["event"] == "train")


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("runs") / "small"
    run(path, *SMALL)
    return outcome(path)


def command(path: Path, *settings: str) -> list[str]:
    options = [part for setting in settings for part in ("--set", setting)]
    return [sys.executable, "-m", "lidr", "run", "quickstart", "--run-dir", str(path), *options]


def test_killed_three_times_and_resumed_equals_uninterrupted(tmp_path: Path, uninterrupted: dict[str, Any]) -> None:
    """kill -9 at random moments; the seed is printed so that a failure can be repeated, as far as time allows."""
    seed = time.time_ns() % 10_000
    print(f"seed {seed}")
    moments, path = random.Random(seed), tmp_path / "killed"
    kills = 0
    while kills < 3:
        before = time.monotonic()
        process = subprocess.Popen(command(path, *SMALL), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Start-up takes some seconds in which nothing is at risk; wait until the run writes, then strike.
        log = path / "metrics.jsonl"
        size = log.stat().st_size if log.exists() else 0
        while process.poll() is None and (log.stat().st_size if log.exists() else 0) <= size:
            time.sleep(0.01)
            assert time.monotonic() - before < 120, "the run makes no progress"
        time.sleep(moments.uniform(0, 1.2))
        if process.poll() is not None:
            break  # it got to its end between two kills
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert kills >= 2, f"only {kills} kills before the run ended"
    done = subprocess.run(command(path, *SMALL), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert outcome(path) == uninterrupted


def test_stages_in_processes_of_their_own_give_the_same(tmp_path: Path, uninterrupted: dict[str, Any]) -> None:
    settings = [*SMALL, "isolation=process", "iterations=1"]
    done = subprocess.run(command(tmp_path / "run", *settings), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = outcome(tmp_path / "run")
    assert found["results"]["models"] == uninterrupted["results"]["models"][:2]
    first = {name: value for name, value in uninterrupted.items() if name.startswith("iteration_1/")}
    assert {name: value for name, value in found.items() if name != "results"} == first


def test_an_interrupt_says_how_to_go_on(tmp_path: Path) -> None:
    def heed_interrupts() -> None:  # a shell's background jobs, of which this suite may be one, are told to ignore them
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    process = subprocess.Popen(
        command(tmp_path / "run", *SMALL), stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    )
    while not (tmp_path / "run" / "metrics.jsonl").exists():
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command continues" in err
