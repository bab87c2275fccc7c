"""What was found, as types: the metrics of a benchmark, the counts of an iteration, and results.json (schema 1).

results.json is a stable interface: fields are added, never renamed. A metric has its 95 % interval in a field of its
own: `ci95` is that of `accuracy`, `ci95_held_out` of `accuracy_held_out`, and `ci95_<metric>` of every other one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, PlainSerializer, TypeAdapter, ValidationError

from lidr.errors import DamagedError
from lidr.records import Json
from lidr.run_dir import RunDir
from lidr.seals import read_document, read_json, read_seal

SCHEMA = 1
Interval = tuple[float, float]
# Counts that every benchmark may have; others are known by being whole numbers.
_COUNTS = {"n", "n_held_out", "failed", "undecided", "unscored", "ruled", "truncated", "thinking"}
_INTERVAL_KEYS = {"accuracy": "ci95", "accuracy_held_out": "ci95_held_out"}


@dataclass(frozen=True, slots=True)
class Metric:
    """A measured value with its 95 % interval, if one is known. `value` is None if there was nothing to measure."""

    value: float | None
    interval: Interval | None = None


@dataclass(frozen=True, slots=True)
class JudgeUsage:
    """What the judge's replies took. `passing` requests got no reply for now; the next run asks them again.

    `cost_usd` is None if the recipe names no prices.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    passing: int = 0


@dataclass(frozen=True, slots=True)
class Metrics:
    """What was measured in one language.

    `values` are shares, ratings and p-values; `counts` are numbers of questions or answers (`n`, `failed` ...);
    `by_category` are mean ratings; `notes` are what else a benchmark says of itself.
    """

    values: Mapping[str, Metric] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    by_category: Mapping[str, float] | None = None
    judge: JudgeUsage | None = None
    notes: Mapping[str, object] = field(default_factory=dict)

    def metric(self, name: str) -> Metric | None:
        """A metric that has a value, also if that was written as a whole number; None for a gap."""
        found = self.values.get(name)
        if found is None and name in self.counts:
            found = Metric(self.counts[name])
        return found if found and found.value is not None else None

    def value(self, name: str) -> float | None:
        found = self.metric(name)
        return found.value if found else None

    def count(self, *names: str) -> int:
        """The sum of some counts; those that a benchmark does not have are 0."""
        return sum(self.counts.get(name, 0) for name in names)

    def __or__(self, other: Metrics | Mapping[str, object]) -> Metrics:
        """Both together, the second also as one flat object; what both have is taken from it."""
        other = Metrics.from_json(other)
        return Metrics(
            {**self.values, **other.values},
            {**self.counts, **other.counts},
            self.by_category if other.by_category is None else other.by_category,
            other.judge or self.judge,
            {**self.notes, **other.notes},
        )

    def to_json(self) -> Json:
        """As results.json has it: one flat object."""
        found: Json = {}
        for name, metric in self.values.items():
            found[name] = metric.value
            if metric.interval is not None or metric.value is None:
                found[_interval_key(name)] = list(metric.interval) if metric.interval else None
        if self.by_category is not None:
            found["by_category"] = dict(self.by_category)
        found |= {**self.counts, **self.notes}
        return found | ({"judge": asdict(self.judge)} if self.judge else {})

    @classmethod
    def from_json(cls, content: object) -> Metrics:
        """The reverse of `to_json`. Raises ValueError for what is no such object.

        Numbers that are not finite are gaps, and so are intervals of anything but two numbers.
        """
        if isinstance(content, cls):
            return content
        if not isinstance(content, Mapping):
            raise ValueError(f"an object is needed, not {content!r:.60}")
        values: dict[str, Metric] = {}
        counts: dict[str, int] = {}
        notes: Json = {}
        of_metrics = {_interval_key(str(name)) for name in content}
        for name, value in content.items():
            if name in of_metrics or name in ("judge", "by_category"):
                continue
            interval_key = _interval_key(name)
            if isinstance(value, bool) or not (value is None or isinstance(value, int | float)):
                notes[name] = json.loads(json.dumps(value), parse_constant=lambda _: None)  # NaN is no JSON
            elif name in _COUNTS and isinstance(value, float) and value.is_integer():
                counts[name] = int(value)
            elif isinstance(value, int) and interval_key not in content:
                counts[name] = value
            else:
                values[name] = Metric(finite(value), _interval(content.get(interval_key)))
        categories, judge = content.get("by_category"), content.get("judge")
        return cls(
            values,
            counts,
            None if categories is None else _CATEGORIES.validate_python(categories),
            None if judge is None else _USAGE.validate_python(judge),
            notes,
        )


_CATEGORIES: TypeAdapter[dict[str, float]] = TypeAdapter(dict[str, float])
_USAGE = TypeAdapter(JudgeUsage)
MetricsField = Annotated[
    Metrics, BeforeValidator(Metrics.from_json), PlainSerializer(Metrics.to_json, return_type=dict[str, object])
]


@dataclass(frozen=True, slots=True)
class ModelResults:
    """What was measured of M_t: benchmark -> language -> metrics. `path` is its folder."""

    name: Annotated[str, Field(pattern=r"^M\d+$")]
    path: str = ""
    benchmarks: dict[str, dict[str, MetricsField]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Saved:
    """What a training gained over M_t on `pairs` of its pairs, and how much of it the saved model has.

    `measure` is `margin` (DPO: the mean reward margin, beta times nats) or `chosen_logp` (SFT: the mean log-probability
    of the chosen answer, nats). `stored` and `loaded` are the number formats on disk and in the engine. `kept` is the
    share of the gain that is left; None if training gained nothing that can be measured.
    """

    pairs: int
    measure: Literal["margin", "chosen_logp"]
    trained: float  # of the model as training left it
    saved: float  # of the model on disk, as the engine loads it
    stored: str
    loaded: str
    kept: float | None


@dataclass(frozen=True, slots=True)
class IterationResults:
    """The pairs of an iteration by language, its drops by reason, and the seconds of its stages.

    `saved` is None while nothing was trained, and in runs of versions that did not measure it.
    """

    iteration: int
    pairs: dict[str, int]
    dropped: dict[str, int]
    dropped_by_language: dict[str, dict[str, int]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    saved: Saved | None = None


@dataclass(frozen=True, slots=True)
class DuelCounts:
    """How often the first of two answers is better, over the duels that are not ties, with Wilson's 95 % interval.

    `p` is of the sign test. `unscored` duels got no verdict.
    """

    value: float | None
    ci95: Interval
    wins: int
    losses: int
    p: float
    ties: int
    unscored: int = 0

    @property
    def metric(self) -> Metric:
        return Metric(self.value, self.ci95)

    @property
    def direction(self) -> int:
        """1 if the first side is better beyond noise, -1 if the second is, else 0."""
        low, high = self.ci95
        return int(low > 0.5) - int(high < 0.5)


@dataclass(frozen=True, slots=True)
class FailedByLength:
    """Translations that failed, of answers from one length to below another (None: without an end), in characters."""

    from_characters: int
    to_characters: int | None
    n: int
    failed: int


ProbeVerdict = Literal["dominant", "train", "weak", "drop", "unknown"]


@dataclass(frozen=True, slots=True)
class LanguageProbe:
    """What the probe of M_0 found in one language; of the dominant one only its own answers.

    `reward_accuracy` has an entry for each who judged (`verified`, `judge`). `lpr` is the share of its own answers
    without a line in another language; older probes have none.
    """

    own: MetricsField
    off_target: float | None
    verdict: ProbeVerdict
    ci95_off_target: Interval | None = None
    undecided: int = 0
    truncated: int = 0
    thinking: int = 0
    translated: MetricsField | None = None
    reward_accuracy: dict[str, DuelCounts] | None = None
    translations: int = 0
    translation_failed: float | None = None
    failed_by_length: tuple[FailedByLength, ...] = ()
    lpr: float | None = None
    ci95_lpr: Interval | None = None

    @property
    def mostly_failed(self) -> bool:
        """Whether more than half of the translations failed."""
        return (self.translation_failed or 0.0) > 0.5


@dataclass(frozen=True, slots=True)
class ImbalanceProbe:
    """The probe of M_0. `by` says who judged; the first of them decides."""

    model: str
    dominant: str
    by: tuple[str, ...]
    prompts: int
    languages: dict[str, LanguageProbe]
    judge: JudgeUsage | None = None


@dataclass(frozen=True, slots=True)
class LanguageProgress:
    """The direct answers of M_t and of the model before it, in one language."""

    before: MetricsField
    after: MetricsField
    better: dict[str, DuelCounts]


@dataclass(frozen=True, slots=True)
class ProgressProbe:
    """The stop rule: M_t against the model before it, by the same held-out prompts.

    `gains` and `losses` are the languages that changed beyond noise; `keep` is the number of the model to be kept.
    """

    model: str
    by: tuple[str, ...]
    prompts: int
    languages: dict[str, LanguageProgress]
    together: DuelCounts
    gains: list[str]
    losses: list[str]
    stop: bool
    keep: int
    reason: str
    judge: JudgeUsage | None = None

    @property
    def opponent(self) -> str:
        return f"M{int(self.model[1:]) - 1}"


Probe = ImbalanceProbe | ProgressProbe
P = TypeVar("P", ImbalanceProbe, ProgressProbe)


@dataclass(frozen=True, slots=True)
class Results:
    """What is known of a run: every measured model, the counts of every iteration, and what the probe found."""

    models: tuple[ModelResults, ...] = ()
    iterations: tuple[IterationResults, ...] = ()
    probe: tuple[Probe, ...] = ()

    @property
    def benchmarks(self) -> list[str]:
        """All that a model was measured on, in their order."""
        return list(dict.fromkeys(name for model in self.models for name in model.benchmarks))

    def to_json(self) -> str:
        content = {"schema": SCHEMA} | _RESULTS.dump_python(self, mode="json")
        content["probe"] = [_without_absent(found) for found in content["probe"]]
        return json.dumps(content, indent=1) + "\n"

    @classmethod
    def from_json(cls, content: object) -> Results:
        """The reverse of `to_json`. Raises pydantic's ValidationError for fields that are not as they should be."""
        return _RESULTS.validate_python(content)


_RESULTS = TypeAdapter(Results)
_METRICS: TypeAdapter[dict[str, Metrics]] = TypeAdapter(dict[str, MetricsField])


def read_results(run: RunDir) -> Results:
    """results.json as it is on disk, empty if there is none.

    Raises DamagedError if it is damaged, or if its figures are not those that the run has measured.
    """
    remedy = f"`lidr report {run.path}` writes it again"
    content = read_json(run.results, remedy)
    try:
        results = Results.from_json(content)
    except ValidationError as error:
        raise DamagedError(f"{run.results}: damaged ({_first(error)}); {remedy}") from None
    for model in results.models:
        for benchmark, metrics in model.benchmarks.items():
            iteration = int(model.name[1:])
            path = run.evaluation(iteration, benchmark) / "metrics.json"
            if read_seal(path) and read_metrics(run, iteration, benchmark) != metrics:
                raise DamagedError(f"{run.results}: {model.name}'s {benchmark} is not what {path} says; {remedy}")
    return results


def read_metrics(run: RunDir, iteration: int, benchmark: str) -> dict[str, Metrics]:
    """The metrics of a complete benchmark by language."""
    path = run.evaluation(iteration, benchmark) / "metrics.json"
    try:
        return _METRICS.validate_python(read_document(path))
    except ValidationError as error:
        remedy = "delete it, and start the run again, which scores the answers again"
        raise DamagedError(f"{path}: damaged ({_first(error)}); {remedy}") from None


def read_imbalance(run: RunDir) -> ImbalanceProbe | None:
    """What the probe of M_0 found; None if there was none."""
    return _read_probe(run, 0, _IMBALANCE)


def read_progress(run: RunDir, iteration: int) -> ProgressProbe | None:
    """What the stop rule says of M_t, t > 0; None if it was not asked."""
    return _read_probe(run, iteration, _PROGRESS)


def _read_probe(run: RunDir, iteration: int, kind: TypeAdapter[P]) -> P | None:
    path = run.probe(iteration)
    if not path.exists():
        return None
    try:
        return kind.validate_python({"model": f"M{iteration}", **read_document(path)})
    except ValidationError as error:
        raise DamagedError(f"{path}: damaged ({_first(error)}); delete it, and start the run again") from None


_IMBALANCE = TypeAdapter(ImbalanceProbe)
_PROGRESS = TypeAdapter(ProgressProbe)


def probe_json(found: Probe) -> str:
    """A probe's findings as its file has them."""
    kind: TypeAdapter[Probe] = TypeAdapter(type(found))
    return json.dumps(_without_absent(kind.dump_python(found, mode="json", exclude={"model"})), indent=1)


def _without_absent(probe: dict[str, Any]) -> dict[str, Any]:
    """A probe's JSON without the fields that it has no findings for: there is no judge, or it is the dominant language.

    An older reader asks whether they are there.
    """
    for entry in probe["languages"].values():
        if entry.get("translated", entry) is None:
            for name in ("translated", "reward_accuracy", "translations", "translation_failed", "failed_by_length"):
                del entry[name]
    return {name: value for name, value in probe.items() if name != "judge" or value is not None}


def _first(error: ValidationError) -> str:
    """Where the first fault is, and what it is."""
    found = error.errors()[0]
    return f"{'.'.join(map(str, found['loc']))}: {found['msg']}"


def _interval_key(name: str) -> str:
    return _INTERVAL_KEYS.get(name, f"ci95_{name}")


def finite(value: object) -> float | None:
    """The value if it is a finite number; None for everything else, which is a gap."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def _interval(bounds: object) -> Interval | None:
    if not isinstance(bounds, list | tuple) or len(bounds) != 2:
        return None
    low, high = map(finite, bounds)
    return None if low is None or high is None else (low, high)
