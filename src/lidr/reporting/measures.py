"""What the benchmarks measured: tables of languages by models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lidr.benchmarks.statistics import wilson_interval
from lidr.config import Config
from lidr.reporting.words import Interval, finite, interval, language_name, number


@dataclass(frozen=True, slots=True)
class Cell:
    """A measured value, with its 95 % interval where one is known."""

    value: float
    interval: Interval | None = None


def with_interval(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    return f"{number(cell.value)} ({interval(cell.interval)})" if cell.interval else number(cell.value)


@dataclass(frozen=True, slots=True)
class Change:
    """From the first measured model to the last."""

    before: Cell
    after: Cell

    @property
    def delta(self) -> float:
        return self.after.value - self.before.value

    @property
    def is_clear(self) -> bool | None:
        """Whether the intervals are apart; None where one of them is unknown."""
        a, b = self.before.interval, self.after.interval
        return None if a is None or b is None else a[1] < b[0] or b[1] < a[0]

    @property
    def verdict(self) -> str:
        return {True: "intervals apart", False: "within noise", None: "no interval"}[self.is_clear]


@dataclass(frozen=True, slots=True)
class MeasureRow:
    """One language (or the mean of several), one cell per model. `role` is dominant, trained, transfer or mean."""

    code: str
    name: str
    role: str
    cells: list[Cell | None]

    @property
    def change(self) -> Change | None:
        first, last = self.cells[0], self.cells[-1]
        return Change(first, last) if len(self.cells) > 1 and first and last else None


@dataclass(frozen=True, slots=True)
class MeasureKind:
    """A metric of results.json: its keys there, and its words here."""

    key: str
    title: str
    short: str
    note: str
    interval_key: str = ""
    count_keys: tuple[str, ...] = ()
    lower_is_better: bool = False
    aside_key: str = ""
    aside: str = ""  # what the answers counted under `aside_key` are


ACCURACY = MeasureKind(
    "accuracy",
    "Accuracy",
    "accuracy",
    "share of right answers",
    "ci95",
    ("n",),
    aside_key="failed",
    aside="questions without an answer, left out",
)
HELD_OUT = MeasureKind(
    "accuracy_held_out",
    "Accuracy on held-out items",
    "held-out accuracy",
    "share of right answers to what no training prompt asked for",
    "ci95_held_out",
    ("n_held_out",),
)
OFF_TARGET = MeasureKind(
    "off_target",
    "Off-target answers",
    "off-target share",
    "share of answers in another language than the question's; lower is better",
    "ci95_off_target",
    ("n", "n_held_out"),
    lower_is_better=True,
    aside_key="undecided",
    aside="language not told, counted as on target",
)
KINDS = (ACCURACY, HELD_OUT, OFF_TARGET)
_KNOWN_KEYS = {key for kind in KINDS for key in (kind.key, kind.interval_key, kind.aside_key, *kind.count_keys)}


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric of one benchmark: languages by models."""

    benchmark: str
    kind: MeasureKind
    models: list[str]
    rows: list[MeasureRow]
    counts: list[int]  # questions per language, as far as they are known
    asides: list[int]  # per model, all languages together: see MeasureKind.aside

    def mean(self, role: str) -> MeasureRow | None:
        """The mean over the languages of a role that every model was measured in."""
        rows = [row for row in self.rows if row.role == role and all(row.cells)]
        if not rows:
            return None
        cells: list[Cell | None] = [_mean_cell([row.cells[i] for row in rows]) for i in range(len(self.models))]
        return MeasureRow("", " · ".join(row.name for row in rows), "mean", cells)

    @property
    def mean_row(self) -> MeasureRow | None:
        """The mean over the trained languages, where there is more than one."""
        return self.mean("trained") if sum(row.role == "trained" for row in self.rows) > 1 else None

    @property
    def counts_note(self) -> str:
        """How many questions were asked, and how many answers say nothing here."""
        notes = []
        if self.counts:
            low, high = min(self.counts), max(self.counts)
            notes.append(f"{low:,} questions per language" if low == high else f"{low:,} to {high:,} per language")
        if any(self.asides):
            by_model = ", ".join(f"{count:,} ({name})" for name, count in zip(self.models, self.asides, strict=True))
            notes.append(f"{self.kind.aside}: {by_model}")
        return "; ".join(notes)


def _mean_cell(cells: Sequence[Cell | None]) -> Cell:
    """Mean of values and of interval bounds. The latter holds even if the languages err together, as they may do."""
    known = [cell for cell in cells if cell]
    intervals = [cell.interval for cell in known if cell.interval]
    value = sum(cell.value for cell in known) / len(known)
    if len(intervals) < len(known):
        return Cell(value)
    low, high = (sum(bounds) / len(known) for bounds in zip(*intervals, strict=True))
    return Cell(value, (low, high))


def read_measures(results: dict[str, Any], config: Config) -> list[Measure]:
    """Everything in `results["models"]`, benchmark by benchmark; metrics unknown here come last, as plain numbers."""
    models = results.get("models", [])
    names = dict.fromkeys(name for model in models for name in model.get("benchmarks", {}))
    measures = []
    for name in names:
        by_model = {model["name"]: found for model in models if (found := model.get("benchmarks", {}).get(name))}
        unknown = dict.fromkeys(
            key
            for languages in by_model.values()
            for metrics in languages.values()
            for key, value in metrics.items()
            if key not in _KNOWN_KEYS and finite(value) is not None
        )
        others = tuple(MeasureKind(key, key.replace("_", " "), key, "as the benchmark reports it") for key in unknown)
        for kind in KINDS + others:
            measures.append(_measure(name, kind, by_model, config))
    return [measure for measure in measures if measure]


def _measure(benchmark: str, kind: MeasureKind, by_model: dict[str, Any], config: Config) -> Measure | None:
    table = {
        model: {code: cell for code, metrics in languages.items() if (cell := _cell(metrics, kind))}
        for model, languages in by_model.items()
    }
    table = {model: cells for model, cells in table.items() if cells}
    found = dict.fromkeys(code for cells in table.values() for code in cells)
    if not found:
        return None
    order = [config.dominant, *config.non_dominant]
    codes = [code for code in order if code in found] + [code for code in found if code not in order]
    rows = [
        MeasureRow(code, language_name(code), _role(code, config), [cells.get(code) for cells in table.values()])
        for code in codes
    ]
    counts = [count for metrics in by_model[next(iter(table))].values() if (count := _count(metrics, kind))]
    asides = [int(sum(finite(m.get(kind.aside_key)) or 0 for m in by_model[model].values())) for model in table]
    return Measure(benchmark, kind, list(table), rows, counts, asides)


def _role(code: str, config: Config) -> str:
    return "dominant" if code == config.dominant else "trained" if code in config.languages else "transfer"


def _cell(metrics: dict[str, Any], kind: MeasureKind) -> Cell | None:
    value = finite(metrics.get(kind.key))
    if value is None:
        return None
    given = metrics.get(kind.interval_key)
    if isinstance(given, list) and len(given) == 2 and None not in (bounds := [finite(bound) for bound in given]):
        return Cell(value, (bounds[0], bounds[1]))  # type: ignore[arg-type]
    count = _count(metrics, kind)
    if count and 0 <= value <= 1:
        return Cell(value, wilson_interval(round(value * count), count))
    return Cell(value)


def _count(metrics: dict[str, Any], kind: MeasureKind) -> int:
    return int(sum(finite(metrics.get(key)) or 0 for key in kind.count_keys))
