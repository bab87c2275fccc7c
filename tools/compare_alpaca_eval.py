"""Our length-controlled win rate against alpaca-eval's, on the same files: needs `lidr` and `alpaca-eval==0.6.6`.

`python tools/compare_alpaca_eval.py MODEL REFERENCE [LANGUAGE ...]`, where MODEL and REFERENCE are folders of
`<language>.json` outputs in AlpacaEval's format with the same instructions in the same order.

The judge is a stand-in. Its preference for the model is logistic(a + b * tanh(length difference / its standard
deviation) + noise), the noise normal with standard deviation 1 and drawn with seed 0; every 50th pair is unscored.
Two such judges: one that likes the model and length, and one that likes neither much.

Annotations are written with our writer and read and scored by alpaca-eval's code; alpaca-eval writes them again as
`alpaca_eval evaluate` does, and we read and score that. Exits with 1 where a figure differs by more than its tolerance:

- win rate and its standard error: 1e-9;
- length-controlled win rate against alpaca-eval's regression without cross-validation and all but without penalty
  (`n_splits=0, C=1e4`): 1e-4;
- length-controlled win rate against `length_controlled_minimal` as it is shipped: 0.02. It chooses its L1 penalty by
  cross-validation, which pulls the intercept towards 0 if it is small (see `benchmarks/shared/length_control.py`).
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from lidr.benchmarks.shared import alpaca_files
from lidr.benchmarks.shared.alpaca_files import read_annotations, read_model_outputs, write_rows
from lidr.benchmarks.shared.length_control import LengthControlled, length_controlled_win_rate
from lidr.judges import Comparison
from lidr.records import Verdict

JUDGES = {"likes length": (0.4, 1.0), "likes neither": (0.1, 0.0)}
NO_PENALTY = {
    "formula": "np.tanh(std_delta_len) + not_gamed_baseline.astype(float) - 1",
    "regularize_to_baseline_lambda": None,
    "kwargs": {"n_splits": 0, "C": 1e4},
}


def judged(model: Path, reference: Path, language: str, strength: float, length: float) -> list[dict[str, Any]]:
    """Annotations by the stand-in judge."""
    pairs = list(zip(read_model_outputs(model, language), read_model_outputs(reference, language), strict=True))
    assert all(ours.instruction == theirs.instruction for ours, theirs in pairs), "the instructions differ"
    difference = np.array([len(ours.output) - len(theirs.output) for ours, theirs in pairs], dtype=float)
    noise = np.random.default_rng(0).normal(size=len(pairs))
    logits = strength + length * np.tanh(difference / difference.std(ddof=1)) + noise
    preferences = [None if n % 50 == 49 else float(1 / (1 + np.exp(-logit))) for n, logit in enumerate(logits)]
    comparisons = [
        Comparison(str(n), language, ours.instruction, ours.output, theirs.output)
        for n, (ours, theirs) in enumerate(pairs)
    ]
    verdicts = [
        Verdict(question_id=str(n), language=language, preference=preference, outcome=None)
        for n, preference in enumerate(preferences)
    ]
    return alpaca_files.annotations(comparisons, verdicts, pairs[0][0].generator, pairs[0][1].generator, "stand-in")


def score(path: Path) -> LengthControlled:
    rows = read_annotations(path)
    return length_controlled_win_rate(
        [row.preference for row in rows], [row.model_length for row in rows], [row.reference_length for row in rows]
    )


def score_with_package(path: Path, rewritten: Path) -> dict[str, float]:
    """Fractions by alpaca-eval's own reader and metrics; the annotations are written again to `rewritten`."""
    from alpaca_eval import utils
    from alpaca_eval.metrics import get_length_controlled_winrate

    rows = utils.load_or_convert_to_dataframe(path)
    shipped = get_length_controlled_winrate(rows.copy(), "length_controlled_minimal", save_weights_dir=None)
    plain = get_length_controlled_winrate(rows.copy(), glm_info=NO_PENALTY, save_weights_dir=None)
    utils.convert_to_dataframe(rows).to_json(rewritten, orient="records", indent=2)
    return {
        "win_rate": shipped["win_rate"] / 100,
        "standard_error": shipped["standard_error"] / 100,
        "without_penalty": plain["length_controlled_winrate"] / 100,
        "shipped": shipped["length_controlled_winrate"] / 100,
        "shipped_error": shipped["lc_standard_error"] / 100,
    }


def without_download(folder: Path) -> None:
    """Let alpaca-eval read a table of zeros for the instructions' difficulties, which the regressions here do not use.

    It downloads the table from the Hub in any case.
    """
    import pandas
    from alpaca_eval.metrics import glm_winrate

    table = folder / "df_gamed.csv"
    pandas.DataFrame({"model": "", "index": range(100_000), "instruction_difficulty": 0.0}).to_csv(table, index=False)
    glm_winrate.hf_hub_download = lambda **_: str(table)


def compare(ours: LengthControlled, again: LengthControlled, theirs: dict[str, float], title: str) -> bool:
    """Print one block of the report; whether all is within tolerance."""
    assert ours.raw_win_rate is not None and ours.raw_standard_error is not None and ours.win_rate is not None
    rows = [
        ("win rate", ours.raw_win_rate, theirs["win_rate"], 1e-9),
        ("standard error", ours.raw_standard_error, theirs["standard_error"], 1e-9),
        ("LC win rate, theirs without penalty", ours.win_rate, theirs["without_penalty"], 1e-4),
        ("LC win rate, theirs as shipped", ours.win_rate, theirs["shipped"], 0.02),
        ("LC win rate, ours from their file", ours.win_rate, again.win_rate or 0.0, 1e-9),
    ]
    print(f"{title}: {ours.n} scored, {ours.unscored} unscored")
    for name, left, right, tolerance in rows:
        verdict = "ok" if abs(left - right) <= tolerance else "DIFFERS"
        print(f"  {name:36} {left:.6f} {right:.6f}  difference {left - right:+.1e} (<= {tolerance:g}) {verdict}")
    print(f"  LC standard error                    {ours.standard_error:.6f} {theirs['shipped_error']:.6f}", end="")
    print(f"  ours: 95 % from {ours.ci95[0]:.4f} to {ours.ci95[1]:.4f}" if ours.ci95 else "")
    return all(abs(left - right) <= tolerance for _, left, right, tolerance in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Our length-controlled win rate against alpaca-eval's")
    parser.add_argument("model", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("languages", nargs="*", default=["en"])
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # scikit-learn's and pandas' deprecations in alpaca-eval
    logging.disable(logging.WARNING)  # its notes on unscored pairs and on large corrections
    good = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        without_download(folder)
        for language in options.languages:
            for judge, (strength, length) in JUDGES.items():
                path, rewritten = folder / "annotations.json", folder / "rewritten.json"
                write_rows(path, judged(options.model, options.reference, language, strength, length))
                theirs = score_with_package(path, rewritten)
                title = f"{language}, a judge that {judge}"
                good &= compare(score(path), score(rewritten), theirs, title)
    sys.exit(not good)


if __name__ == "__main__":
    main()
