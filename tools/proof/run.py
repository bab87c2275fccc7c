"""The proof on a real model: LIDR, the SFT baseline and the control with random sides, on the same answers.

python tools/proof/run.py --model FOLDER --questions FOLDER --msvamp FOLDER --out OUT [--set a.b=c] [--only lidr]

`--questions` is what `prepare.py` wrote. Each of the three is a run of its own under OUT, as `lidr run` makes it; the
two baselines take over M0's answers and those of the first iteration, so that only their training and their
measurement are paid for. The same command goes on where an earlier one stopped. `evidence.py OUT` then writes the page.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from lidr import loop
from lidr.config import load_config
from lidr.errors import LidrError
from lidr.replacing import open_run

RECIPE = "qwen2.5-0.5b-msvamp"
# Multilingual Alignment is trained for one iteration, the control as well: what they show is seen after one.
RUNS = {
    "lidr": [],
    "sft": ["iterations=1", "training.objective=sft"],
    "random": ["iterations=1"],  # and the recipe's strategy with its sides drawn, see `main`
}
_TAKEN_OVER = ("iteration_0/6_evaluation", "iteration_1/1_prompts.jsonl", "iteration_1/2_responses",
               "iteration_1/3_translations")  # fmt: skip


def take_over(source: Path, target: Path) -> None:
    """Copy what does not depend on the training, unless it is there. lidr checks what it was made from."""
    for name in _TAKEN_OVER:
        for path in sorted(source.glob(f"{name}*")):  # a seal lies beside its file
            copied = target / path.relative_to(source)
            if not copied.exists():
                copied.parent.mkdir(parents=True, exist_ok=True)
                (shutil.copytree if path.is_dir() else shutil.copy)(path, copied)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="the model's folder, or lab for a rehearsal")
    for name in ("questions", "msvamp", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--only", choices=RUNS, action="append", help="one of the runs; the first must be there")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="for all runs")
    options = parser.parse_args()
    for name in options.only or RUNS:
        given = [
            f"model.path={options.model}",
            f"prompts.path={options.questions / 'prompts'}",
            f"evaluation.benchmarks.msvamp.path={options.msvamp}",
            "report.samples=0",  # the questions are not ours to publish
            *options.set,
            *RUNS[name],
        ]
        config = load_config(RECIPE, given)
        if name == "random":
            strategy = {"type": "random_sides", "of": config.pairs.strategy.as_recipe()}
            config = load_config(RECIPE, [*given, f"pairs.strategy={json.dumps(strategy)}"])
        run_dir = open_run(config, options.out / name, lambda line: print(line, file=sys.stderr))
        if name != "lidr":
            take_over(options.out / "lidr", run_dir.path)
        loop.run(config, run_dir)


if __name__ == "__main__":
    try:
        main()
    except LidrError as error:
        sys.exit(f"error: {error}")
