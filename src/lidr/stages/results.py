"""results.json, collected from the outputs of the stages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

from lidr.benchmarks.base import benchmarks_of
from lidr.config import Config
from lidr.errors import DamagedError, RunError
from lidr.results import IterationResults, ModelResults, Probe, Results, read_imbalance, read_metrics, read_progress
from lidr.run_dir import RunDir, say_once
from lidr.seals import Outputs, is_sealed, read_seal, stale_because
from lidr.stages import evaluation, pairs, probe, training
from lidr.stages.pairs import read_summary
from lidr.storage import write_text


def collect_results(config: Config, run: RunDir) -> Results:
    """What is known so far: metrics of every measured model, counts of every iteration, and findings of the probe."""
    models = (_model(config, run, iteration) for iteration in range(config.iterations + 1))
    iterations = (_iteration(config, run, iteration) for iteration in range(1, config.iterations + 1))
    probes = (_probe(config, run, iteration) for iteration in range(config.iterations + 1))
    return Results(tuple(filter(None, models)), tuple(filter(None, iterations)), tuple(filter(None, probes)))


def write_results(config: Config, run: RunDir) -> Results:
    """Write results.json and return it."""
    results = collect_results(config, run)
    write_text(run.results, results.to_json())
    return results


def _model(config: Config, run: RunDir, iteration: int) -> ModelResults | None:
    folder = run.model_folder(iteration)
    if iteration and not _is_current(training.outputs, config, run, iteration, folder):
        return None
    path = str(folder.relative_to(run.path)) if iteration else config.model.path
    measured = {
        name: read_metrics(run, iteration, name)
        for name in benchmarks_of(config)
        if _is_current(
            partial(evaluation.output, benchmark=name), config, run, iteration, run.evaluation(iteration, name)
        )
    }
    return ModelResults(f"M{iteration}", path, measured)


def _probe(config: Config, run: RunDir, iteration: int) -> Probe | None:
    """What the probe found of M_0, and of a later model against the one before it."""

    def output(config: Config, run: RunDir, iteration: int) -> Outputs:
        return [(run.probe(iteration), probe.inputs(config, run, iteration))]

    if config.probe is None or not _is_current(output, config, run, iteration, run.probe(iteration)):
        return None
    return read_progress(run, iteration) if iteration else read_imbalance(run)


def _is_current(outputs: Callable[..., Outputs], config: Config, run: RunDir, iteration: int, path: Path) -> bool:
    """Whether a stage's output is complete for the current recipe. The output of an older recipe does not count.

    That of an older version of lidr does. Both are reported if `path`, a part of the output, exists.
    """
    try:
        found = outputs(config, run, iteration)
        if all(is_sealed(file, inputs) for file, inputs in found):
            return True
        reasons = sorted({reason for file, inputs in found for reason in stale_because(file, inputs)})
        why = "; ".join(reasons) or "not all of its files are complete"
        complete = all(read_seal(file) for file, _ in found)
        if complete and reasons and all(reason.startswith("format:") for reason in reasons):
            say_once(f"{path} was made by an older version of lidr ({why}); `lidr run` makes it again")
            return True
    except DamagedError:
        raise
    except RunError as error:  # a step before it is not complete
        why = str(error)
    if path.exists():
        say_once(f"{path} is left out of the results: {why}")
    return False


def _iteration(config: Config, run: RunDir, iteration: int) -> IterationResults | None:
    if not _is_current(pairs.outputs, config, run, iteration, run.pair_summary(iteration)):
        return None
    summary = read_summary(run, iteration)
    dropped = summary.by_reason()
    trained = _is_current(training.outputs, config, run, iteration, run.model_folder(iteration))
    training_summary = training.read_training_summary(run, iteration) if trained else None
    too_long = training_summary.too_long if training_summary else {}
    if too_long:
        dropped["too_long"] = sum(too_long.values())
    return IterationResults(
        iteration,
        {code: count - too_long.get(code, 0) for code, count in summary.pairs.items()},
        dict(sorted(dropped.items())),
        {
            code: reasons | ({"too_long": too_long[code]} if code in too_long else {})
            for code, reasons in summary.dropped.items()
        },
        stage_seconds(run, iteration),
        training_summary.saved if training_summary else None,
    )


def stage_seconds(run: RunDir, iteration: int) -> dict[str, float]:
    """Seconds of work per stage, all finished attempts together, since the stage was last restarted."""
    seconds: dict[str, float] = defaultdict(float)
    for row in run.read_log():
        if row.get("iteration") != iteration:
            continue
        if row["event"] == "stage":
            seconds[row["stage"]] += row["seconds"]
        elif row["event"] == "recompute":
            seconds.pop(row["stage"], None)
    return {stage: round(value, 1) for stage, value in seconds.items()}
