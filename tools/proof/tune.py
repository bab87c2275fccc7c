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
    from lidr.stages.evaluation import read_metrics

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
    found = {key: read_metrics(proof.runs[key[0]][0], key[1], "mgsm") for key in asked}
    rows = [
        {"setting": settings[name] if iteration else ["M0"], "languages": metrics}
        for (name, iteration), metrics in found.items()
    ]
    (proof.out / "tuning.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    best = max(settings, key=lambda name: _mean(found[name, 1]))
    proof.note("setting taken", setting=settings[best])
    _keep(proof, best, recipe)
    return settings[best]


def _mean(languages: dict[str, Any]) -> float:
    return sum(metrics["accuracy"] for metrics in languages.values()) / len(languages)


def _keep(proof: Any, best: str, recipe: str) -> None:
    """The best model is M1 of our run, so that it need not be trained again."""
    target = proof.runs[recipe][0].path / "iteration_1"
    for part in ("4_pairs", "5_model"):
        shutil.rmtree(target / part, ignore_errors=True)
        shutil.copytree(proof.runs[best][0].path / "iteration_1" / part, target / part)
