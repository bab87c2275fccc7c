"""The measurements of docs/laboratory.md: `python tools/laboratory_seeds.py OUT [--seeds 5] [--jobs 2] [SETTING ...]`.

Runs the quickstart recipe under several settings and seeds (a seed draws the facts of the training prompts and the
order of training) and prints one Markdown table: the mean over the seeds, and the standard deviation of the weak mean.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, stdev
from typing import Any

WEAK = ("es", "fr", "de", "ru")
SETTINGS: dict[str, list[str]] = {
    "quickstart": [],
    "six iterations": ["iterations=6"],
    "3 epochs": ["training.epochs=3"],
    "equal sides kept, 1 epoch": [
        "pairs.gates.identical=false",
        "pairs.gates.max_similarity=null",
        "training.epochs=1",
    ],
    "rejected in the language, too": ["pairs.gates.wrong_language=either"],
    "alpha 0": ["training.alpha=0"],
    "LR 1e-3, 3 epochs": ["training.learning_rate=1e-3", "training.epochs=3"],
    "LR 1e-3, 3 epochs, alpha 0": ["training.learning_rate=1e-3", "training.epochs=3", "training.alpha=0"],
    "SFT (Multilingual Alignment)": ["training.objective=sft", "pairs.dominant_rejected=none"],
    "reference always M0": ["training.reference=initial"],
    "English rejected: all languages": ["pairs.dominant_rejected=all"],
}


def run(out: Path, setting: str, seed: int) -> list[dict[str, Any]]:
    """The models of results.json of one run, as far as it came; a run that is already there is not repeated."""
    folder = out / f"{setting.replace(' ', '_').replace('/', '-')}_{seed}"
    options = [part for change in [*SETTINGS[setting], f"seed={seed}"] for part in ("--set", change)]
    command = [sys.executable, "-m", "lidr", "run", "quickstart", "--run-dir", str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if done.returncode:
        print(f"{setting}, seed {seed}: {done.stderr.splitlines()[-1]}", file=sys.stderr)
    return json.loads((folder / "results.json").read_text())["models"]  # type: ignore[no-any-return]


def rows(setting: str, runs: list[list[dict[str, Any]]]) -> list[str]:
    """One table row per model, over the runs that came to it; M0 only once for all settings."""
    lines = []
    for number in range(max(len(models) for models in runs)):
        name = f"M{number}"
        if number == 0 and setting != "quickstart":
            continue
        found = [models[number]["benchmarks"]["lab"] for models in runs if len(models) > number]

        def average(metric: str, *codes: str, found: list[Any] = found) -> list[float]:
            return [mean(metrics[code][metric] for code in codes) for metrics in found]

        weak = average("accuracy", *WEAK)
        spread = f" ± {stdev(weak):.3f}" if len(weak) > 1 else ""
        cells = [f"{mean(average('accuracy', code)):.2f}" for code in ("en", *WEAK, "it")]
        held_out = [f"{mean(average('accuracy_held_out', *codes)):.3f}" for codes in (("en",), WEAK)]
        off = f"{mean(average('off_target', *WEAK)):.3f}"
        label = "the base model" if number == 0 else setting
        label += f" ({len(found)} of {len(runs)} runs)" if len(found) < len(runs) else ""
        lines.append(
            f"| {label} | {name} | {' | '.join(cells)} | {mean(weak):.3f}{spread} | {' | '.join(held_out)} | {off} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("settings", nargs="*")
    options = parser.parse_intermixed_args()
    settings = options.settings or list(SETTINGS)
    print(
        "| setting | model | en | es | fr | de | ru | it | weak mean | en held out | weak held out | weak off-target |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        jobs = {name: [pool.submit(run, options.out, name, seed) for seed in range(options.seeds)] for name in settings}
        for name, futures in jobs.items():
            print("\n".join(rows(name, [future.result() for future in futures])), flush=True)


if __name__ == "__main__":
    main()
