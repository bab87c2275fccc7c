"""What the benchmarks measured: tables of languages by models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from lidr.benchmarks.base import BenchmarkSettings
from lidr.benchmarks.metrics import COMMON, MetricKind
from lidr.config import Config
from lidr.report.formatting import interval, language_name, number, p_value, signed
from lidr.results import Interval, Metric, Metrics, Results
from lidr.statistics import MeanGain, wilson_interval

# The roles of ordinary languages: those that were trained, or in an evaluation outside a run all of them.
PLAIN = ("trained", "measured")
# Counts that every benchmark may have, and that are shown beside its metrics.
_COUNTS = {"n", "failed", "undecided", "unscored", "ruled", "truncated", "thinking"}
_AS_GIVEN = "as the benchmark reports it"


@dataclass(frozen=True, slots=True)
class Cell:
    """A measured value, with its 95 % interval if one is known."""

    value: float
    interval: Interval | None = None


def cell_of(metric: Metric | None) -> Cell | None:
    """A metric as the report shows it; None if it is a gap.

    An interval without width is left out: it comes from a bootstrap over equal values, and looks like certainty.
    """
    if metric is None or metric.value is None:
        return None
    return Cell(metric.value, metric.interval and _with_width(metric.interval))


def with_interval(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    return f"{number(cell.value)} ({interval(cell.interval)})" if cell.interval else number(cell.value)


@dataclass(frozen=True, slots=True)
class Change:
    """From the first measured model to the last.

    `p` is of the test on the same questions, if there was one: McNemar's exact one in a language, the sign-flip test
    for a mean, whose gain has an interval of its own.
    """

    before: Cell
    after: Cell
    p: float | None = None
    of_gain: Interval | None = None

    @property
    def delta(self) -> float:
        return self.after.value - self.before.value

    @property
    def is_clear(self) -> bool | None:
        """Whether the change is more than noise: by the test if there was one, else by whether the intervals are apart.

        None if there is neither.
        """
        if self.p is not None:
            return self.p < 0.05
        a, b = self.before.interval, self.after.interval
        return None if a is None or b is None else a[1] < b[0] or b[1] < a[0]

    @property
    def verdict(self) -> str:
        clear = "intervals apart" if self.p is None else "beyond noise"
        return {True: clear, False: "within noise", None: "no interval"}[self.is_clear]

    @property
    def words(self) -> str:
        """The verdict, with the test if there was one."""
        around = f"95 % interval {signed(self.of_gain[0])} to {signed(self.of_gain[1])}, " if self.of_gain else ""
        return self.verdict if self.p is None else f"{around}{self.verdict}, {p_value(self.p)}"


@dataclass(frozen=True, slots=True)
class MeasureRow:
    """One language (or the mean of several), one cell per model.

    `role` is dominant, trained, transfer or mean, or measured if nothing was trained.
    """

    code: str
    name: str
    role: str
    cells: list[Cell | None]
    p: float | None = None
    of_gain: Interval | None = None

    @property
    def label(self) -> str:
        """The role if it is shown, else empty."""
        return self.role if self.role in ("dominant", "transfer") else ""

    @property
    def title(self) -> str:
        return f"{self.name} ({self.label})" if self.label else self.name

    @property
    def change(self) -> Change | None:
        first, last = self.cells[0], self.cells[-1]
        return Change(first, last, self.p, self.of_gain) if len(self.cells) > 1 and first and last else None


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric of one benchmark: languages by models."""

    benchmark: str
    kind: MetricKind
    models: list[str]
    rows: list[MeasureRow]
    counts: list[int]  # questions per language, as far as they are known
    asides: list[list[float]]  # per model, for each of MetricKind.asides
    mean_gain: MeanGain | None = None  # of `plain_mean`

    def mean(self, *roles: str) -> MeasureRow | None:
        """The mean over the languages of some roles that every model was measured in."""
        rows = [row for row in self.rows if row.role in roles and all(row.cells)]
        if not rows:
            return None
        cells: list[Cell | None] = [mean_cell([row.cells[i] for row in rows]) for i in range(len(self.models))]
        return MeasureRow("", " · ".join(row.name for row in rows), "mean", cells)

    @property
    def plain_mean(self) -> MeasureRow | None:
        """The mean over the trained languages, or over all of an evaluation outside a run, with its test."""
        mean, gain = self.mean(*PLAIN), self.mean_gain
        return replace(mean, p=gain.p, of_gain=_with_width(gain.interval)) if mean and gain else mean

    @property
    def mean_row(self) -> MeasureRow | None:
        """`plain_mean`, if it is over several languages."""
        return self.plain_mean if sum(row.role in PLAIN for row in self.rows) > 1 else None

    @property
    def has_intervals(self) -> bool:
        return any(cell and cell.interval for row in self.rows for cell in row.cells)

    @property
    def is_tested(self) -> bool:
        return any(row.p is not None for row in self.rows)

    @property
    def notes(self) -> str:
        """What the metric is, how many questions were asked, and how many answers say nothing here."""
        notes = [f"{self.kind.note[:1].upper()}{self.kind.note[1:]}"]
        if self.counts:
            low, high = min(self.counts), max(self.counts)
            notes.append(f"{low:,} questions per language" if low == high else f"{low:,} to {high:,} per language")
        for aside, counts in zip(self.kind.asides, self.asides, strict=True):
            if any(counts):
                by_model = ", ".join(f"{count:,.0f} ({name})" for name, count in zip(self.models, counts, strict=True))
                notes.append(f"{aside.words}: {by_model}")
        return "; ".join(notes)


def _with_width(bounds: Interval) -> Interval | None:
    """None for an interval without width; see `cell_of`."""
    return bounds if bounds[0] < bounds[1] else None


def mean_cell(cells: Sequence[Cell | None]) -> Cell:
    """Mean of values and of interval bounds. The latter holds even if the errors of the languages are correlated."""
    known = [cell for cell in cells if cell]
    intervals = [cell.interval for cell in known if cell.interval]
    value = sum(cell.value for cell in known) / len(known)
    if len(intervals) < len(known):
        return Cell(value)
    low, high = (sum(bounds) / len(known) for bounds in zip(*intervals, strict=True))
    return Cell(value, (low, high))


def read_measures(results: Results, config: Config) -> list[Measure]:
    """All that was measured, benchmark by benchmark; numbers that the benchmark does not describe come last."""
    measures = []
    for name in results.benchmarks:
        by_model = {model.name: found for model in results.models if (found := model.benchmarks.get(name))}
        kinds = kinds_of(config, name)
        known = {key for kind in kinds for key in kind.known}
        undescribed = dict.fromkeys(
            key
            for languages in by_model.values()
            for metrics in languages.values()
            for key in (*metrics.values, *metrics.counts)
            if key not in known and key not in _COUNTS and metrics.metric(key)
        )
        others = (MetricKind(key, key.replace("_", " "), key, _AS_GIVEN, "other") for key in undescribed)
        measures += [_measure(name, kind, by_model, config) for kind in (*kinds, *others)]
    return [measure for measure in measures if measure]


def kinds_of(config: Config, benchmark: str) -> tuple[MetricKind, ...]:
    """The descriptions of a benchmark's metrics."""
    settings = config.evaluation.benchmarks.get(benchmark)
    return settings.metrics if isinstance(settings, BenchmarkSettings) else COMMON


def language_order(found: Iterable[str], config: Config) -> list[str]:
    """The dominant language, the others of the recipe, and the rest in the order found."""
    codes = list(dict.fromkeys(found))
    order = [config.dominant, *config.non_dominant] if config.iterations else config.languages
    return [code for code in order if code in codes] + [code for code in codes if code not in order]


def role(code: str, config: Config) -> str:
    if not config.iterations:
        return "measured"
    return "dominant" if code == config.dominant else "trained" if code in config.languages else "transfer"


def _measure(
    benchmark: str, kind: MetricKind, by_model: Mapping[str, Mapping[str, Metrics]], config: Config
) -> Measure | None:
    table = {
        model: {code: cell for code, metrics in languages.items() if (cell := _cell(metrics, kind))}
        for model, languages in by_model.items()
    }
    table = {model: cells for model, cells in table.items() if cells}
    codes = language_order((code for cells in table.values() for code in cells), config)
    if not codes:
        return None
    rows = [
        MeasureRow(code, language_name(code), role(code, config), [cells.get(code) for cells in table.values()])
        for code in codes
    ]
    counts = [count for metrics in by_model[next(iter(table))].values() if (count := metrics.count(*kind.counts))]
    asides = []
    for aside in kind.asides:
        found = [[metrics.value(aside.key) or 0.0 for metrics in by_model[model].values()] for model in table]
        asides.append([sum(values) / (len(values) if aside.is_mean else 1) for values in found])
    return Measure(benchmark, kind, list(table), rows, counts, asides)


def _cell(metrics: Metrics, kind: MetricKind) -> Cell | None:
    cell, count = cell_of(metrics.metric(kind.key)), metrics.count(*kind.counts)
    if cell and cell.interval is None and count and kind.is_share and 0 <= cell.value <= 1:
        return Cell(cell.value, wilson_interval(round(cell.value * count), count))
    return cell
