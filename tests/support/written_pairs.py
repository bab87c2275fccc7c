"""A run whose pairs are written by hand, so that a test of training has no answers to wait for."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from lidr.config import Config, load_config
from lidr.records import PreferencePair, content_id
from lidr.run_dir import RunDir
from lidr.seals import write_sealed
from lidr.stages import STAGES

LANGUAGES = ("en", "es")


def written_run(path: Path, *settings: str, pairs: int = 6, model: object = "lab") -> tuple[RunDir, Config]:
    """A run of one iteration with so many pairs in each of two languages, four of them in an optimiser step."""
    config = with_settings(*settings, model=model)
    run = RunDir.start(config, path, say=print)
    for code in LANGUAGES:
        kind = "dominant" if code == LANGUAGES[0] else "non_dominant"
        rows = [
            PreferencePair(
                content_id(code, n), f"p{n}", code, kind, f"Where is {n}?", f"It is in {n * n}. " * (1 + n % 3),
                "Nowhere" + "!" * n, "en->es", code,
            )
            for n in range(pairs)
        ]  # fmt: skip
        write_sealed(run.pairs(1, code), {}, [row.to_json() for row in rows])
    summary = {"pairs": dict.fromkeys(LANGUAGES, pairs), "dropped": {code: {} for code in LANGUAGES}}
    write_sealed(run.dropped(1), {}, [])
    write_sealed(run.pair_summary(1), {}, [json.dumps(summary)])
    return run, config


def with_settings(*settings: str, model: object = "lab") -> Config:
    small = [f"languages=[{', '.join(LANGUAGES)}]", "iterations=1", "training.batch_size=4", "training.epochs=2"]
    return load_config("quickstart", [f"model.path={model}", *small, *settings])


def train(run: RunDir, config: Config) -> dict[str, torch.Tensor]:
    """Run the stage; returns the weights that it made."""
    with run.lock():
        STAGES["training"].run(config, run, 1)
    return load_file(run.model_folder(1) / "model.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
