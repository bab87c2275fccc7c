"""Settings tried on held-out training questions, so that MGSM is asked once: learning rate, epochs, gates ...

Each makes M1 of the same answers and translations. The one with the best mean accuracy over the languages is taken;
every one of them stands in OUT/tuning.json.
"""

from __future__ import annotations

import json
import shutil
from typing import Any


def tune(proof: Any, recipe: str) -> list[str]:
    """The overrides of the best setting, after `proof.options.tries` have all been trained and asked."""
    settings = {f"tuning/{number}": text.split(",") for number, text in enumerate(proof.options.tries, 1)}
    languages = [path.stem for path in sorted(proof.options.held_out.glob("??.jsonl"))]
    held_out = [
        f"evaluation.benchmarks.mgsm.path={proof.options.held_out}",
        f"evaluation.benchmarks.mgsm.languages={json.dumps(languages)}",
    ]
    for name, setting in settings.items():
        proof.start(recipe, name, [*setting, *held_out])
        proof.take_over(name)
        proof.pairs(name, 1)
    first = next(iter(settings))
    asked = {(first, 0): proof.ask(first, 0)}
    trained = {name: proof.train(name, 1) for name in settings}  # one after the other, while others are asked
    for name, model in trained.items():
        model.result()
        asked[name, 1] = proof.ask(name, 1)
    for (name, iteration), answers in asked.items():
        proof.score(name, iteration, answers)
    rows = [_row(proof, first, 0, ["M0"]), *(_row(proof, name, 1, setting) for name, setting in settings.items())]
    (proof.out / "tuning.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    best = max(settings, key=lambda name: _mean(_row(proof, name, 1, [])))
    proof.note("setting taken", setting=settings[best])
    _keep(proof, best, recipe)
    return settings[best]


def _row(proof: Any, name: str, iteration: int, setting: list[str]) -> dict[str, Any]:
    from lidr.stages.evaluation import read_metrics

    return {"setting": setting, "languages": read_metrics(proof.runs[name][0], iteration, "mgsm")}


def _mean(row: dict[str, Any]) -> float:
    found = [metrics["accuracy"] for metrics in row["languages"].values()]
    return sum(found) / len(found)


def _keep(proof: Any, best: str, recipe: str) -> None:
    """The best model is M1 of our run, so that it need not be trained again."""
    target = proof.runs[recipe][0].path / "iteration_1"
    for part in ("4_pairs", "5_model"):
        shutil.rmtree(target / part, ignore_errors=True)
        shutil.copytree(proof.runs[best][0].path / "iteration_1" / part, target / part)
