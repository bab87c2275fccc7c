"""Shared by the tests of cards and of the upload: a run with pairs, a model and measurements, without any training."""

from __future__ import annotations

import json
import shutil
from typing import Any

from lidr.config import Config, load_config
from lidr.lab import MODEL_PATH
from lidr.models import fingerprint
from lidr.run_dir import RunDir
from lidr.seals import seal
from lidr.stages import training
from lidr.stages.pairs import read_summary
from lidr.storage import partial_path, write_text
from tests.conftest import ToyRun


def metrics(accuracy: float, off_target: float = 0.0) -> dict[str, Any]:
    """Of one language, as the laboratory gives them."""
    bounds = [round(max(0.0, accuracy - 0.1), 4), round(min(1.0, accuracy + 0.1), 4)]
    return {"accuracy": accuracy, "ci95": bounds, "n": 80, "off_target": off_target}


def results(models: int = 2) -> dict[str, Any]:
    gains = [{"en": 0.95, "es": 0.4, "fr": 0.5, "it": 0.3}, {"en": 0.94, "es": 0.8, "fr": 0.9, "it": 0.35}]
    return {
        "schema": 1,
        "models": [
            {
                "name": f"M{number}",
                "path": "lab",
                "benchmarks": {"lab": {code: metrics(x, 0.25 - number / 4) for code, x in gains[number].items()}},
            }
            for number in range(models)
        ],
        "iterations": [],
    }


def make_pairs(toy_run: ToyRun) -> tuple[Config, RunDir]:
    """The first steps of the loop, on toy answers."""
    toy_run.run("prompts", "responses", "translations", "pairs")
    return toy_run.config, toy_run.run_dir


def add_model(run: RunDir, iteration: int = 1, pairs: str | None = None, too_long: int = 0) -> None:
    """The laboratory's model in the place of a trained one, with what a training might leave beside the weights."""
    folder = partial_path(run.model_folder(iteration))
    shutil.copytree(MODEL_PATH, folder, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    for name in ("optimizer.pt", "trainer_state.json", "training_args.bin", ".env", "notes.md"):
        (folder / name).write_text("not for others", encoding="utf-8")
    made_from = training.inputs(load_config(run.recipe), run, iteration)
    made_from |= {"pairs": pairs or made_from["pairs"]}
    count = read_summary(run, iteration).total - too_long
    seal(folder, run.model_folder(iteration), made_from, count, fingerprint(folder))


def finish(toy_run: ToyRun) -> tuple[Config, RunDir]:
    """Pairs, a model, results.json and report."""
    config, run = make_pairs(toy_run)
    add_model(run)
    write_text(run.results, json.dumps(results()))
    for name in ("report.html", "report.md", "reproducibility.md"):
        write_text(run.path / name, f"the {name}")
    (run.path / "judge_replies.sqlite").write_bytes(b"what the judge said")
    return config, run
