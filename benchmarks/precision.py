"""What products in bfloat16 change in a training: losses and held-out margins against those in float32.

    python benchmarks/precision.py RUN --held-out 12

RUN is a run that has the pairs of iteration 1 (`lidr pair RUN -i 1`). A copy of it is trained twice by `lidr train`, on
the same pairs in the same order, with the recipe's settings and each precision. Nothing is written into the run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lidr.config import load_config
from lidr.run_dir import RunDir

PRECISIONS = ("float32", "bfloat16")


def main() -> None:
    """Print one row per optimiser step, and one per measurement on held-out pairs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--held-out", type=int, default=12, help="prompts whose pairs are not trained on")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="override a field of the recipe")
    parser.add_argument("--out", type=Path, help="write everything measured as JSON")
    arguments = parser.parse_args()
    settings = [*arguments.set, f"training.held_out={arguments.held_out}", "training.eval_steps=4"]
    with tempfile.TemporaryDirectory() as folder:
        logs = {name: train(arguments.run, Path(folder) / name, [*settings, f"training.precision={name}"])
                for name in PRECISIONS}  # fmt: skip
    Console(width=110).print(table(logs))
    if arguments.out:
        arguments.out.write_text(json.dumps(logs, indent=1) + "\n", encoding="utf-8")


def train(run: Path, copy: Path, settings: list[str]) -> list[dict[str, Any]]:
    """What the training of iteration 1 logs, in a copy of the run."""
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("5_model", "5_training", "6_evaluation", "metrics.jsonl"))
    RunDir(copy).write_recipe(load_config(str(copy / "recipe.yaml"), settings))
    subprocess.run([sys.executable, "-m", "lidr", "train", str(copy), "-i", "1", "--replace"], check=True)
    events = RunDir(copy).read_log()
    return [event for event in events if event["event"] in ("train", "held_out", "cost", "saved")]


def table(logs: dict[str, list[dict[str, Any]]]) -> Table:
    found = Table("step", "what", *PRECISIONS, box=None)
    of = {name: {(row["event"], row.get("step")): row for row in rows} for name, rows in logs.items()}
    for key in of["float32"]:
        rows = [of[name][key] for name in PRECISIONS]
        if key[0] == "train":
            found.add_row(str(key[1]), "loss", *(f"{row['loss']:.4f}" for row in rows))
        elif key[0] == "held_out":
            for what in ("loss", "margin"):
                found.add_row(str(key[1]), f"held-out {what}", *(f"{row[what]:.4f}" for row in rows))
        elif key[0] == "cost":
            found.add_row("", "seconds", *(f"{row['seconds']:.0f}" for row in rows))
            found.add_row("", "peak GiB", *(f"{row['peak_gib']:.2f}" for row in rows))
    return found


if __name__ == "__main__":
    main()
