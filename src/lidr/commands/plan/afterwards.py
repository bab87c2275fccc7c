"""What a run took beside what its plan says: how far the plan can be trusted on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lidr.commands.plan.plan import Plan, Step, make_plan
from lidr.commands.plan.previous import Earlier, read_earlier
from lidr.config import Config
from lidr.report.log import Log, digest_log
from lidr.run_dir import RunDir

# The stage of the log that a step of the plan belongs to.
_STAGES = {
    "respond": "responses",
    "translate": "translations",
    "score": "scores",
    "reference": "training",
    "train": "training",
    "evaluate": "evaluation",
    "harness": "evaluation",
    "judge": "evaluation",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of a stage in the iterations that the log has, and what the plan says of the same ones.

    `planned_s` is the plan before the run, `estimated_s` the plan for the answers and pairs that came out, whose
    speeds are still estimates. GiB are None if the log has no peak.
    """

    stage: str
    iterations: list[int]
    planned_s: float
    estimated_s: float
    measured_s: float
    planned_gib: float | None = None
    measured_gib: float | None = None

    @property
    def ratio(self) -> float:
        """Measured time by estimated time."""
        return self.measured_s / self.estimated_s if self.estimated_s else float("inf")


def compare_with_log(config: Config, folder: Path) -> list[Measured]:
    """`compare` for the run in `folder`; empty if there is none, or it was on other hardware."""
    run = RunDir(folder)
    earlier = read_earlier(config, run, here=True)
    if earlier is None or not earlier.same_machine:
        return []
    knowing = Earlier(lengths=earlier.lengths, pairs=earlier.pairs)
    before, after = (make_plan(config, None, folder, known) for known in (Earlier(), knowing))
    return compare(before, after, digest_log(run.read_log()))


def compare(before: Plan, knowing: Plan, log: Log) -> list[Measured]:
    """Compare a run's log with its plan, made `before` it and `knowing` the lengths of answers and the number of pairs.

    M0 and the later iterations are compared separately. What a killed attempt did is not in the log.
    """
    found = []
    for stage, iterations in _groups(before.steps):
        seconds = {number: log.work[number, stage].seconds for number in iterations if (number, stage) in log.work}
        done = [number for number, measured in seconds.items() if measured]
        if not done:
            continue
        peaks = [log.costs[number].peak_gib for number in done if stage == "training" and number in log.costs]
        gib = [step.gib for step in _of(before.steps, stage, iterations) if step.gib is not None]
        found.append(
            Measured(
                stage,
                done,
                round(len(done) * _seconds(before.steps, stage, iterations), 1),
                round(len(done) * _seconds(knowing.steps, stage, iterations), 1),
                round(sum(seconds.values()), 1),
                max(gib, default=None) if peaks else None,
                max(peaks, default=None),
            )
        )
    return found


def _groups(steps: Sequence[Step]) -> list[tuple[str, list[int]]]:
    """(stage, iterations) in the plan's order, each once."""
    found: list[tuple[str, list[int]]] = []
    for step in steps:
        group = (_stage(step), step.iterations)
        if group not in found:
            found.append(group)
    return found


def _stage(step: Step) -> str:
    return _STAGES.get(step.name, "probe")


def _of(steps: Sequence[Step], stage: str, iterations: list[int]) -> list[Step]:
    return [step for step in steps if _stage(step) == stage and step.iterations == iterations]


def _seconds(steps: Sequence[Step], stage: str, iterations: list[int]) -> float:
    return sum(step.seconds for step in _of(steps, stage, iterations))
