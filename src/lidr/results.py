"""results.json: the machine-readable outcome of a run. Its format is a stable interface (schema 1)."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

from lidr.config import Config
from lidr.errors import RunError
from lidr.run_dir import Outputs, RunDir, is_sealed, write_text
from lidr.stages import evaluation, pairs, probe, training
from lidr.stages.evaluation import benchmarks_of, read_metrics
from lidr.stages.pairs import read_summary

SCHEMA = 1


def collect_results(config: Config, run: RunDir) -> dict[str, Any]:
    """What is known so far: metrics of every measured model, counts of every iteration, and findings of the probe."""
    models = [_model(config, run, iteration) for iteration in range(config.iterations + 1)]
    iterations = [_iteration(config, run, iteration) for iteration in range(1, config.iterations + 1)]
    probes = [_probe(config, run, iteration) for iteration in range(config.iterations + 1)]
    return {
        "schema": SCHEMA,
        "models": [model for model in models if model],
        "iterations": [iteration for iteration in iterations if iteration],
        "probe": [found for found in probes if found],
    }


def write_results(config: Config, run: RunDir) -> dict[str, Any]:
    """Write results.json and return it."""
    results = collect_results(config, run)
    write_text(run.results, json.dumps(results, indent=1) + "\n")
    return results


def _model(config: Config, run: RunDir, iteration: int) -> dict[str, Any] | None:
    if iteration and not _is_current(training.outputs, config, run, iteration):
        return None
    path = str(run.model_folder(iteration).relative_to(run.path)) if iteration else config.model.path
    measured = {
        name: read_metrics(run, iteration, name)
        for name in benchmarks_of(config)
        if _is_current(partial(evaluation.output, benchmark=name), config, run, iteration)
    }
    return {"name": f"M{iteration}", "path": path, "benchmarks": measured}


def _probe(config: Config, run: RunDir, iteration: int) -> dict[str, Any] | None:
    """What the probe found of M_0, and of a later model against the one before it."""

    def output(config: Config, run: RunDir, iteration: int) -> Outputs:
        return [(run.probe(iteration), probe.inputs(config, run, iteration))]

    if config.probe is None or not _is_current(output, config, run, iteration):
        return None
    return {"model": f"M{iteration}", **(probe.read_probe(run, iteration) or {})}


def _is_current(outputs: Callable[..., Outputs], config: Config, run: RunDir, iteration: int) -> bool:
    """Whether a stage's output is complete for the recipe as it is now; what an older recipe left does not count."""
    try:
        return all(is_sealed(path, inputs) for path, inputs in outputs(config, run, iteration))
    except RunError:  # a step before it is not complete
        return False


def _iteration(config: Config, run: RunDir, iteration: int) -> dict[str, Any] | None:
    if not _is_current(pairs.outputs, config, run, iteration):
        return None
    summary = read_summary(run, iteration)
    dropped: Counter[str] = Counter()
    for reasons in summary["dropped"].values():
        dropped.update(reasons)
    summary_file = run.training(iteration) / "summary.json"
    trained = _is_current(training.outputs, config, run, iteration)
    training_summary = json.loads(summary_file.read_text(encoding="utf-8")) if trained else {}
    too_long = training_summary.get("too_long", {})
    if too_long:
        dropped["too_long"] = sum(too_long.values())
    return {
        "iteration": iteration,
        "pairs": {code: count - too_long.get(code, 0) for code, count in summary["pairs"].items()},
        "dropped": dict(sorted(dropped.items())),
        "dropped_by_language": {
            code: reasons | ({"too_long": too_long[code]} if code in too_long else {})
            for code, reasons in summary["dropped"].items()
        },
        "seconds": stage_seconds(run, iteration),
        "saved": training_summary.get("saved"),  # null in runs of versions that did not measure it
    }


def stage_seconds(run: RunDir, iteration: int) -> dict[str, float]:
    """Seconds of work per stage, all finished attempts together, since the stage was last begun anew."""
    seconds: dict[str, float] = defaultdict(float)
    for row in run.read_log():
        if row.get("iteration") != iteration:
            continue
        if row["event"] == "stage":
            seconds[row["stage"]] += row["seconds"]
        elif row["event"] == "recompute":
            seconds.pop(row["stage"], None)
    return {stage: round(value, 1) for stage, value in seconds.items()}
