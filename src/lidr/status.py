"""What a run has done and what it owes, from its seals and file sizes: nothing is loaded and nothing is written."""

from __future__ import annotations

from collections.abc import Iterator

from lidr.config import Config
from lidr.errors import DamagedError, RunError
from lidr.results import read_progress
from lidr.run_dir import RunDir
from lidr.seals import Outputs, is_sealed, sealed, stale_because
from lidr.stages import STAGES
from lidr.storage import partial_path
from lidr.strategies.base import scorers_of, strategy_of

StepStatus = tuple[str, str, str, str]
_WAITING = "waiting", "for the step before it"


def run_status(config: Config, run: RunDir) -> list[StepStatus]:
    """(iteration, stage, state, detail) in the order of the loop.

    The states are done, partial, stale, owed, waiting and damaged.

    A run that its stop rule has ended owes no later iteration.
    """
    rows = [_state(config, run, 0, stage) for stage in ("probe", "evaluation") if _has(config, stage, 0)]
    for iteration in range(1, config.iterations + 1):
        rows += [_state(config, run, iteration, stage) for stage in STAGES if _has(config, stage, iteration)]
        found = read_progress(run, iteration) if rows[-1][1:3] == ("probe", "done") else None
        if found and found.stop:
            break
    return list(_named_once(rows))


def _named_once(rows: list[StepStatus]) -> Iterator[StepStatus]:
    """Report a damaged file only at its own step; later steps wait for it."""
    named: set[str] = set()
    for iteration, stage, state, detail in rows:
        if state == "damaged" and detail in named:
            yield iteration, stage, *_WAITING
        else:
            named.add(detail)
            yield iteration, stage, state, detail


def _has(config: Config, stage: str, iteration: int) -> bool:
    """Whether a stage has anything to do in this recipe."""
    if stage == "translations":
        return bool(strategy_of(config).directions(config))
    if stage == "scores":
        return bool(scorers_of(config))
    return stage != "probe" or (config.probe is not None and (iteration == 0 or config.probe.stop))


def first_owed(config: Config, run: RunDir, stage: str) -> int:
    """The first iteration in which a stage is not complete, or the last one."""
    start = 0 if stage == "evaluation" else 1
    for iteration in range(start, config.iterations + 1):
        if _state(config, run, iteration, stage)[2] != "done":
            return iteration
    return config.iterations


def _state(config: Config, run: RunDir, iteration: int, stage: str) -> StepStatus:
    try:
        outputs = STAGES[stage].outputs(config, run, iteration)
        done = [path for path, inputs in outputs if is_sealed(path, inputs)]
        seals = [sealed(path) for path in done]
    except DamagedError as error:
        return str(iteration), stage, "damaged", str(error)
    except RunError:
        return str(iteration), stage, *_WAITING
    if len(done) == len(outputs):
        counted = [seal.rows for path, seal in zip(done, seals, strict=True) if path.suffix != ".json"]
        return str(iteration), stage, "done", f"{sum(counted or (seal.rows for seal in seals))} rows"
    reasons = sorted({reason for path, inputs in outputs for reason in stale_because(path, inputs)})
    if reasons:
        return str(iteration), stage, "stale", "; ".join(reasons)
    kept = _partial_rows(outputs)
    if done or kept:
        return str(iteration), stage, "partial", f"{len(done)} of {len(outputs)} files, {kept} rows of the next"
    return str(iteration), stage, "owed", ""


def _partial_rows(outputs: Outputs) -> int:
    files = [partial for path, _ in outputs if (partial := partial_path(path)).is_file()]
    return sum(line.endswith("\n") for file in files for line in file.open(encoding="utf-8", errors="replace"))
