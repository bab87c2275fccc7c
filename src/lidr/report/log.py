"""What a run logged of its training and its times."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lidr.progress_bar import duration
from lidr.records import Row as Record
from lidr.report.document import Entry, Row, Section, Table
from lidr.report.telemetry import Step
from lidr.results import Results

STAGES = {
    "probe": "Probing",
    "responses": "Answering",
    "translations": "Translating",
    "scores": "Scoring",
    "pairs": "Pairing",
    "training": "Training",
    "evaluation": "Evaluating",
}


@dataclass(slots=True)
class Work:
    """What a stage did in one iteration, all attempts together."""

    seconds: float = 0.0
    rows: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Alarm:
    """What a training warned of, and when it first did."""

    iteration: int
    step: int
    name: str
    message: str

    @property
    def title(self) -> str:
        return self.name.replace("_", " ").replace("logp", "log-probability").capitalize()


@dataclass(frozen=True, slots=True)
class TrainingCost(Record):
    """What one training took, see `lidr.training.cost`; `mfu` is None on a CPU."""

    seconds: float = 0.0
    tokens: int = 0
    tokens_per_second: float = 0.0
    peak_gib: float = 0.0
    tflops_per_second: float = 0.0
    mfu: float | None = None


@dataclass(slots=True)
class Log:
    """metrics.jsonl: curves and held-out values as iteration -> step -> values, the costs of training by iteration, and
    work as (iteration, stage) -> sums."""

    curves: dict[int, dict[int, Step]] = field(default_factory=lambda: defaultdict(dict))
    held_out: dict[int, dict[int, Step]] = field(default_factory=lambda: defaultdict(dict))
    costs: dict[int, TrainingCost] = field(default_factory=dict)
    alarms: dict[tuple[int, str], Alarm] = field(default_factory=dict)
    work: dict[tuple[int, str], Work] = field(default_factory=lambda: defaultdict(Work))


def digest_log(events: Iterable[Mapping[str, Any]]) -> Log:
    """Sum up the log. Steps and stages that were repeated replace their earlier entries."""
    log = Log()
    for event in events:
        key = (int(event.get("iteration", 0)), str(event.get("stage", "")))
        if event.get("event") == "train":
            curve = log.curves[key[0]]
            step = int(event["step"])
            if curve and step <= next(reversed(curve)):  # resumed from a checkpoint: later steps are void
                for values in (curve, log.held_out[key[0]]):
                    for later in [known for known in values if known >= step]:
                        del values[later]
            curve[step] = event
        elif event.get("event") == "held_out":
            log.held_out[key[0]][int(event["step"])] = event
        elif event.get("event") == "alarm":
            alarm = Alarm(key[0], int(event["step"]), str(event["alarm"]), str(event["message"]))
            log.alarms.setdefault((alarm.iteration, alarm.name), alarm)
        elif event.get("event") == "cost":
            log.costs[key[0]] = TrainingCost.from_dict(event)
        elif event.get("event") == "stage":
            work = log.work[key]
            work.seconds += event.get("seconds") or 0
            work.rows += event.get("rows") or 0
            work.tokens += event.get("tokens") or 0
        elif event.get("event") == "recompute":
            log.work.pop(key, None)
            if key[1] == "training":
                log.curves.pop(key[0], None)
                log.held_out.pop(key[0], None)
                log.costs.pop(key[0], None)
                log.alarms = {known: alarm for known, alarm in log.alarms.items() if known[0] != key[0]}
    return log


@dataclass(frozen=True, slots=True)
class TimeTable:
    """Seconds by stage (rows) and iteration (columns, M0's evaluation first); None if a stage has not run."""

    columns: list[str]
    rows: list[tuple[str, list[float | None], str]]  # name, seconds, throughput

    @property
    def totals(self) -> list[float]:
        return [sum(row[1][column] or 0 for row in self.rows) for column in range(len(self.columns))]

    @property
    def total(self) -> float:
        return sum(self.totals)

    def section(self) -> Section | None:
        rows = [
            Row(Entry(name), [*(Entry(duration(value)) for value in seconds), Entry(throughput)])
            for name, seconds, throughput in self.rows
        ]
        rows.append(Row(Entry("Sum"), [*(Entry(duration(value)) for value in self.totals), Entry("")], "total"))
        table = Table("Times", ["Stage", *self.columns, "Throughput"], rows)
        return Section("times", "Times", [table]) if self.rows else None


def time_table(results: Results, log: Log) -> TimeTable:
    """Times from results.json; what it does not cover (M0, an unfinished iteration) from the log."""
    seconds: dict[int, dict[str, float]] = defaultdict(dict)
    for (iteration, stage), work in log.work.items():
        seconds[iteration][stage] = work.seconds
    for entry in results.iterations:
        seconds[entry.iteration] |= entry.seconds
    iterations = sorted(seconds)
    names = [*STAGES, *dict.fromkeys(stage for stages in seconds.values() for stage in stages if stage not in STAGES)]
    rows = [
        (STAGES.get(name, name), [seconds[i].get(name) for i in iterations], _throughput(name, log))
        for name in names
        if any(name in stages for stages in seconds.values())
    ]
    return TimeTable([f"Iteration {i}" if i else "M0" for i in iterations], rows)


def _throughput(stage: str, log: Log) -> str:
    works = [work for (_, name), work in log.work.items() if name == stage]
    seconds = sum(work.seconds for work in works)
    tokens, rows = sum(work.tokens for work in works), sum(work.rows for work in works)
    if not seconds or not (tokens or rows):
        return ""
    return f"{tokens / seconds:,.0f} tokens/s" if tokens else f"{rows / seconds:,.1f} rows/s"
