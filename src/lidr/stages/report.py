"""The report: what a run was, what came of it and what it cost, as one self-contained page and as Markdown.

Pure functions turn what the run left on disk into plain values and SVG strings; two templates lay these out. Model
text is data of unknown intent: both templates escape every value unless it is marked as safe.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from importlib.resources import files
from typing import Any

from lidr.config import Config, dump_config, flatten
from lidr.languages import LANGUAGES
from lidr.run_dir import RunDir, read_rows, read_seal, write_text

_VERSION = 1  # a report of an older layout is written anew
_FINGERPRINT = '<meta name="lidr-inputs" content="{}">'
PAPER = "https://arxiv.org/abs/2410.08964"

STAGES = {
    "responses": "Answering",
    "translations": "Translating",
    "pairs": "Pairing",
    "training": "Training",
    "evaluation": "Evaluating",
}

REASONS = {
    "prompt_missing": "The prompt does not exist in this language (or in the dominant one).",
    "translation_task": "The prompt itself asks for a translation; translating its answer would destroy it.",
    "response_empty": "The model gave an empty answer.",
    "response_error": "The engine returned an error instead of an answer.",
    "truncated": "An answer was cut off by the length limit.",
    "translation_missing": "The answer that this pair needs was not translated.",
    "translation_error": "The engine returned an error instead of a translation.",
    "translation_empty": "The translation was empty.",
    "translation_cut_off": "The translation was cut off by the length limit, paragraph by paragraph as well.",
    "translation_unparsed": "The translation did not keep to the requested format.",
    "identical": "Both sides are the same text, so there is nothing to prefer.",
    "near_identical": "Both sides share nearly all of their words.",
    "length_ratio": "One side is many times longer than the other.",
    "repeated_lines": "A side repeats the same line over and over.",
    "loop": "A side ends in a loop, the same phrase over and over.",
    "chosen_wrong_language": "The chosen side is not in the prompt's language.",
    "rejected_wrong_language": "The rejected side is not in the prompt's language.",
    "too_long": "Prompt and answer together exceed the training length.",
}
# Reasons whose detail is a number of its own for each row, which says nothing when counted.
_NUMBERED = {"length_ratio", "near_identical"}

Interval = tuple[float, float]


# --- what was measured ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cell:
    """A measured value, with its 95 % interval where one is known."""

    value: float
    interval: Interval | None = None


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


ACCURACY = MeasureKind("accuracy", "Accuracy", "accuracy", "share of right answers", "ci95", ("n",))
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
)
KINDS = (ACCURACY, HELD_OUT, OFF_TARGET)
_KNOWN_KEYS = {key for kind in KINDS for key in (kind.key, kind.interval_key, *kind.count_keys)}


@dataclass(frozen=True)
class Measure:
    """One metric of one benchmark: languages by models."""

    benchmark: str
    kind: MeasureKind
    models: list[str]
    rows: list[MeasureRow]
    counts: list[int]  # questions per language, as far as they are known

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

    @cached_property
    def svg(self) -> str:
        return dot_plot(self)

    @property
    def counts_note(self) -> str:
        if not self.counts:
            return ""
        low, high = min(self.counts), max(self.counts)
        return f"{low:,} questions per language" if low == high else f"{low:,} to {high:,} questions per language"


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
            if key not in _KNOWN_KEYS and _number(value) is not None
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
    return Measure(benchmark, kind, list(table), rows, counts)


def _role(code: str, config: Config) -> str:
    return "dominant" if code == config.dominant else "trained" if code in config.languages else "transfer"


def _cell(metrics: dict[str, Any], kind: MeasureKind) -> Cell | None:
    value = _number(metrics.get(kind.key))
    if value is None:
        return None
    given = metrics.get(kind.interval_key)
    if isinstance(given, list) and len(given) == 2 and None not in (bounds := [_number(bound) for bound in given]):
        return Cell(value, (bounds[0], bounds[1]))  # type: ignore[arg-type]
    count = _count(metrics, kind)
    if count and 0 <= value <= 1:
        from lidr.benchmarks.statistics import wilson_interval

        return Cell(value, wilson_interval(round(value * count), count))
    return Cell(value)


def _count(metrics: dict[str, Any], kind: MeasureKind) -> int:
    return int(sum(_number(metrics.get(key)) or 0 for key in kind.count_keys))


def _number(value: Any) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


# --- the headline -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one metric in one language or a group of them: in figures for a tile, and as a sentence."""

    topic: str
    who: str
    figures: str
    verdict: str
    tone: str  # good, bad or flat
    sentence: str
    is_key: bool


def findings(measures: Iterable[Measure], config: Config) -> list[Finding]:
    """The mean of the trained languages, the dominant one, and those left out of training, for each known metric."""
    found = []
    for measure in measures:
        mean, transfer = measure.mean("trained"), measure.mean("transfer")
        if mean:
            names = mean.name.split(" · ")
            short = names[0] if len(names) == 1 else f"mean of {len(names)} trained languages"
            full = names[0] if len(names) == 1 else f"mean of {_and(names)}"
            found.append(_finding(measure, mean, short, full, is_key=True))
        dominant = next((row for row in measure.rows if row.role == "dominant" and all(row.cells)), None)
        if dominant:
            name = f"{dominant.name} (dominant)"
            found.append(_finding(measure, dominant, name, name, is_key=measure.kind is ACCURACY))
        if transfer:
            name = f"{_and(transfer.name.split(' · '))} (not trained)"
            found.append(_finding(measure, transfer, name, name))
    return found


def _finding(measure: Measure, row: MeasureRow, short: str, full: str, is_key: bool = False) -> Finding:
    topic = f"{measure.benchmark}, {measure.kind.short}"
    change, first = row.change, row.cells[0]
    who = full[:1].upper() + full[1:]
    if change is None:
        sentence = f"{who}: {with_interval(first)} for {measure.models[0]}; there is nothing to compare it with yet."
        figures = number(first.value if first else None)
        return Finding(topic, short, figures, measure.models[0], "flat", sentence, is_key)
    figures = f"{number(change.before.value)} → {number(change.after.value)}"
    result = f"{signed(change.delta)}, {change.verdict}"
    sentence = f"{who}: {with_interval(change.before)} to {with_interval(change.after)}, {result}."
    improved = (change.delta < 0) == measure.kind.lower_is_better
    tone = ("good" if improved else "bad") if change.is_clear else "flat"
    return Finding(topic, short, figures, result, tone, sentence, is_key)


def paragraphs(found: Iterable[Finding]) -> list[tuple[str, str]]:
    """(topic, all that is to be said about it), in the order of the findings."""
    topics: dict[str, list[str]] = defaultdict(list)
    for finding in found:
        topics[finding.topic].append(finding.sentence)
    return [(topic, " ".join(sentences)) for topic, sentences in topics.items()]


def introduction(config: Config, results: dict[str, Any]) -> list[str]:
    """What the run was, and what it still lacks, in sentences."""
    weak = _and([language_name(code) for code in config.non_dominant])
    method = {
        "dpo": "to prefer translations of its own answers in the dominant language to its direct answers (DPO + NLL)",
        "sft": "on translations of its own answers in the dominant language (plain supervised fine-tuning)",
    }[config.training.objective]
    iterations = f"{config.iterations} iteration{'s' if config.iterations > 1 else ''}"
    sentences = [
        f"The model {config.model.path} was to be improved in {weak}, in {iterations}, with "
        f"{language_name(config.dominant)} as the dominant language: it was trained {method}, without human labels."
    ]
    models = results.get("models", [])
    trained = [model for model in models if model["name"] != "M0"]
    if len(trained) < config.iterations:
        sentences.append(f"This run is not finished: {len(trained)} of {iterations} trained so far.")
    unmeasured = [model["name"] for model in models if not model.get("benchmarks")]
    if unmeasured and any(config.evaluation.benchmarks.model_dump().values()):
        sentences.append(f"Not measured yet: {_and(unmeasured)}.")
    if not any(model.get("benchmarks") for model in models):
        sentences.append("Nothing was measured, so this report cannot say whether the model got better.")
    return sentences


# --- pairs and drops --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DropRow:
    """One reason: its counts by language, in the order of the table's languages, and in all."""

    reason: str
    meaning: str
    examples: str
    counts: list[int]
    total: int


@dataclass(frozen=True, slots=True)
class PairTable:
    """What became of the candidates of one iteration."""

    iteration: int
    codes: list[str]
    kept: list[int]
    rows: list[DropRow]

    @property
    def total(self) -> int:
        return sum(self.kept)

    @property
    def dropped(self) -> int:
        return sum(row.total for row in self.rows)

    def share_kept(self, column: int) -> float | None:
        candidates = self.kept[column] + sum(row.counts[column] for row in self.rows)
        return self.kept[column] / candidates if candidates else None


def pair_table(iteration: dict[str, Any], details: dict[str, Counter[str]], config: Config) -> PairTable:
    """One entry of `results["iterations"]` as a table; the most frequent reason first."""
    pairs: dict[str, int] = iteration.get("pairs", {})
    by_language: dict[str, dict[str, int]] = iteration.get("dropped_by_language", {})
    found = {**pairs, **by_language}
    codes = [code for code in config.languages if code in found] + [c for c in found if c not in config.languages]
    totals = Counter(iteration.get("dropped", {}))
    for reason in {reason for reasons in by_language.values() for reason in reasons}:
        totals[reason] = max(totals[reason], sum(reasons.get(reason, 0) for reasons in by_language.values()))
    rows = []
    for reason, total in sorted(totals.items(), key=lambda item: (-item[1], item[0])):
        counts = [by_language.get(code, {}).get(reason, 0) for code in codes]
        common = [] if reason in _NUMBERED else details.get(reason, Counter()).most_common(3)
        examples = ", ".join(f"{detail.replace('->', ' → ')} ({count:,})" for detail, count in common if detail)
        rows.append(DropRow(reason, REASONS.get(reason, "No description."), examples, counts, total))
    return PairTable(iteration.get("iteration", 0), codes, [pairs.get(code, 0) for code in codes], rows)


def drop_details(rows: Iterable[dict[str, Any]]) -> dict[str, Counter[str]]:
    """Reason -> how often each detail (an origin, a language, a side) was given for it."""
    details: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        reason = str(row.get("reason", ""))
        if reason not in _NUMBERED:
            details[reason][str(row.get("detail", ""))] += 1
    return details


@dataclass(frozen=True, slots=True)
class Text:
    """A text of the model or a prompt, with its language and, for an answer, where it comes from."""

    text: str
    code: str
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """A pair to read."""

    prompt_id: str
    prompt: Text
    chosen: Text
    rejected: Text


def reservoir(rows: Iterable[dict[str, Any]], size: int, seed: str) -> list[dict[str, Any]]:
    """`size` rows at random, in their order, with memory for no more than these (Vitter 1985, algorithm R)."""
    draw = random.Random(seed)
    kept: list[tuple[int, dict[str, Any]]] = []
    for position, row in enumerate(rows):
        if len(kept) < size:
            kept.append((position, row))
        elif (slot := draw.randrange(position + 1)) < size:
            kept[slot] = (position, row)
    return [row for _, row in sorted(kept, key=lambda item: item[0])]


def sample(row: dict[str, Any]) -> Sample:
    """A pair's row made fit to be shown."""
    code = str(row["language"])
    chosen, rejected = (
        Text(printable(row[side]), _target(row[f"{side}_from"]) or code, origin_in_words(row[f"{side}_from"]))
        for side in ("chosen", "rejected")
    )
    return Sample(printable(row["prompt_id"]), Text(printable(row["prompt"]), code), chosen, rejected)


def _target(origin: str) -> str:
    code = origin.rpartition("->")[2]
    return code if re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]+)*", code) else ""


def origin_in_words(origin: str) -> str:
    """`en->es` and `es` as people say it."""
    source, arrow, target = origin.partition("->")
    if arrow:
        return f"{language_name(source)} answer, translated into {language_name(target)} by the model"
    return f"direct answer to the {language_name(origin)} prompt"


def printable(text: str) -> str:
    """Text that every reader of UTF-8 accepts: lone surrogates and control characters become U+FFFD."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", "\ufffd", text.replace("\r\n", "\n"))


# --- what was logged --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Work:
    """What a stage did in one iteration, all attempts together."""

    seconds: float = 0.0
    rows: int = 0
    tokens: int = 0


@dataclass(slots=True)
class Log:
    """metrics.jsonl: training curves as iteration -> step -> values, and work as (iteration, stage) -> sums."""

    curves: dict[int, dict[int, dict[str, Any]]] = field(default_factory=lambda: defaultdict(dict))
    work: dict[tuple[int, str], Work] = field(default_factory=lambda: defaultdict(Work))


def digest_log(events: Iterable[dict[str, Any]]) -> Log:
    """Sum up the log. Steps and stages that were done again replace what was logged of them before."""
    log = Log()
    for event in events:
        key = (int(event.get("iteration", 0)), str(event.get("stage", "")))
        if event.get("event") == "train":
            curve = log.curves[key[0]]
            step = int(event["step"])
            if curve and step <= next(reversed(curve)):  # resumed from a checkpoint: what came after it is void
                for later in [known for known in curve if known >= step]:
                    del curve[later]
            curve[step] = event
        elif event.get("event") == "stage":
            work = log.work[key]
            work.seconds += event.get("seconds") or 0
            work.rows += event.get("rows") or 0
            work.tokens += event.get("tokens") or 0
        elif event.get("event") == "recompute":
            log.work.pop(key, None)
            if key[1] == "training":
                log.curves.pop(key[0], None)
    return log


@dataclass(frozen=True, slots=True)
class TimeTable:
    """Seconds by stage (rows) and iteration (columns, M0's evaluation first); None where a stage has not run."""

    columns: list[str]
    rows: list[tuple[str, list[float | None], str]]  # name, seconds, throughput

    @property
    def totals(self) -> list[float]:
        return [sum(row[1][column] or 0 for row in self.rows) for column in range(len(self.columns))]

    @property
    def total(self) -> float:
        return sum(self.totals)


def time_table(results: dict[str, Any], log: Log) -> TimeTable:
    """Times from results.json; what it does not cover (M0, an unfinished iteration) from the log."""
    seconds: dict[int, dict[str, float]] = defaultdict(dict)
    for (iteration, stage), work in log.work.items():
        seconds[iteration][stage] = work.seconds
    for entry in results.get("iterations", []):
        seconds[entry.get("iteration", 0)] |= entry.get("seconds", {})
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


# --- plots ------------------------------------------------------------------------------------------------------------

# Okabe and Ito's palette, told apart with every common kind of colour vision; shapes differ, too.
_MODEL_COLOURS = ("#7a7a7a", "#e69f00", "#0072b2", "#009e73", "#cc79a7", "#d55e00")
_MODEL_MARKERS = ("o", "s", "D", "^", "v", "P")
_LINES = (("#0072b2", "-"), ("#d55e00", "--"), ("#009e73", ":"))
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text: small, selectable, and in the page's font
    "text.parse_math": False,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that the layout is the same everywhere
    "font.size": 9.5,
    "axes.edgecolor": "#8b929a",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": "#3c434a",
    "ytick.color": "#3c434a",
    "text.color": "#20252a",
    "axes.labelcolor": "#3c434a",
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


def draw(paint: Callable[[Any], None], size: tuple[float, float], label: str) -> str:
    """`paint(figure)` as an `<svg>` element without date, size, script or outside reference: equal in, equal out."""
    from io import StringIO

    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's matplotlibrc must not change the report
        matplotlib.rcParams.update(_STYLE | {"svg.hashsalt": label})
        figure = Figure(figsize=size, layout="constrained")
        paint(figure)
        buffer = StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    root = re.search(r"<svg[^>]*viewBox=\"([^\"]*)\"[^>]*>", svg)
    assert root is not None
    body = re.sub(r"<g id=\"[^\"]*\"", "<g", svg[root.end() :]).replace("xlink:href=", "href=")
    return f'<svg viewBox="{root[1]}" role="img" aria-label="{escape(label)}">{body.strip()}'


def dot_plot(measure: Measure) -> str:
    """A row per language, a dot per model, a line per 95 % interval."""
    rows, models = measure.rows, measure.models
    gap = 0.62 / max(1, len(models))

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        for y in range(0, len(rows), 2):
            axes.axhspan(y - 0.5, y + 0.5, color="#eef1f4", linewidth=0, zorder=0)
        for i, model in enumerate(models):
            known = [
                (y + (i - (len(models) - 1) / 2) * gap, cell) for y, row in enumerate(rows) if (cell := row.cells[i])
            ]
            bounds = [cell.interval or (cell.value, cell.value) for _, cell in known]
            below = [max(0.0, cell.value - low) for (_, cell), (low, _) in zip(known, bounds, strict=True)]
            above = [max(0.0, high - cell.value) for (_, cell), (_, high) in zip(known, bounds, strict=True)]
            axes.errorbar(
                [cell.value for _, cell in known], [y for y, _ in known], xerr=[below, above], label=model,
                color=_MODEL_COLOURS[i % 6], fmt=_MODEL_MARKERS[i % 6], markersize=5, elinewidth=1.6, zorder=3,
            )  # fmt: skip
        highest = max(
            bound for row in rows for cell in row.cells if cell for bound in (cell.value, *(cell.interval or ()))
        )
        axes.set_xlim(-0.02, min(1.02, max(0.2, highest * 1.08)) if measure.kind.lower_is_better else 1.02)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        names = [row.name if row.role == "trained" else f"{row.name} ({row.role})" for row in rows]
        axes.set_yticks(range(len(rows)), names)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color="#c9ced4", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(models), handletextpad=0.3, borderaxespad=0.2)

    height = 0.75 + len(rows) * max(0.36, 0.1 + 0.14 * len(models))
    return draw(paint, (5.0, height), f"{measure.benchmark}: {measure.kind.title} by language and model")


def line_plot(
    curve: dict[int, dict[str, Any]], names: Sequence[str], label: str, limits: Interval | None = None
) -> str:
    """Training values over the optimiser steps; long trainings as means of equally many steps."""
    steps = list(curve)
    block = max(1, math.ceil(len(steps) / 250))

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        for (colour, dashes), name in zip(_LINES, names, strict=False):
            known = [(step, value) for step in steps if (value := _number(curve[step].get(name))) is not None]
            blocks = [known[i : i + block] for i in range(0, len(known), block)]
            axes.plot(
                [sum(step for step, _ in part) / len(part) for part in blocks],
                [sum(value for _, value in part) / len(part) for part in blocks],
                color=colour, linestyle=dashes, linewidth=1.6, label=name.removesuffix("_reward").replace("_", " "),
                marker="o" if len(blocks) == 1 else "",
            )  # fmt: skip
        if limits:
            axes.set_ylim(*limits)
        axes.set_xlabel("optimiser step")
        axes.grid(color="#dde1e5", linewidth=0.6)
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=3, handlelength=1.6, columnspacing=1.2, borderaxespad=0.2
        )

    return draw(paint, (4.2, 2.9), label)


def curve_plots(iteration: int, curve: dict[int, dict[str, Any]]) -> list[tuple[str, str]]:
    """(caption, SVG) of what one training logged; SFT has a loss and nothing to compare."""
    panels: list[tuple[str, tuple[str, ...], Interval | None]] = [
        ("Loss, and its parts DPO and NLL", ("loss", "nll", "dpo"), None),
        ("Pairs whose chosen answer has the higher reward", ("reward_accuracy",), (-0.03, 1.03)),
        ("Implicit rewards, against the reference model", ("margin", "chosen_reward", "rejected_reward"), None),
    ]
    present = {name for values in curve.values() for name in values}
    if "dpo" not in present:
        panels = [("Loss: NLL of the chosen answers", ("loss",), None)]
    plots = []
    for caption, names, limits in panels:
        shown = [name for name in names if name in present]
        if shown:
            plots.append((caption, line_plot(curve, shown, f"Iteration {iteration}: {caption}", limits)))
    return plots


# --- words and numbers ------------------------------------------------------------------------------------------------


def language_name(code: str) -> str:
    """English name of a language, or its code where the table lacks it."""
    return LANGUAGES[code].name if code in LANGUAGES else code


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def signed(value: float) -> str:
    """With its sign, and a true minus."""
    text = f"{value:+.3f}".replace("-", "−")
    return "±0.000" if text[1:] == "0.000" else text


def interval(bounds: Interval | None) -> str:
    return "" if bounds is None else f"{bounds[0]:.2f}–{bounds[1]:.2f}"


def with_interval(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    return f"{number(cell.value)} ({interval(cell.interval)})" if cell.interval else number(cell.value)


def duration(seconds: float | None) -> str:
    """Seconds as people say them."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


# --- laying it out ----------------------------------------------------------------------------------------------------


class SafeMarkdown(str):
    """Text that is Markdown already; all other values are escaped."""

    __slots__ = ()


def markdown_text(value: Any) -> SafeMarkdown:
    """A value as one line of Markdown without meaning of its own, in a table's cell as well."""
    if isinstance(value, SafeMarkdown):
        return value
    line = " ".join(printable(str(value)).split())
    # An underscore inside a word is one: it needs no escape.
    escaped = re.sub(r"([\\`*\[\]<>|$~#]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", line)
    return SafeMarkdown(escaped.replace("&", "&amp;"))


def markdown_block(text: str, kind: str = "text", limit: int | None = None) -> SafeMarkdown:
    """A text between fences that are longer than any row of backticks in it; clipped to `limit` characters."""
    text = printable(text).rstrip("\n")
    if limit is not None and len(text) > limit:
        text = f"{text[:limit]}\n[… {len(text) - limit:,} more characters]"
    fence = "`" * max(3, 1 + max((len(row) for row in re.findall(r"`+", text)), default=0))
    return SafeMarkdown(f"{fence}{kind}\n{text}\n{fence}")


def markdown_table(header: Sequence[Any], rows: Iterable[Sequence[Any]]) -> SafeMarkdown:
    """A table whose first column is words and the rest figures."""
    lines = [header, [SafeMarkdown("---"), *[SafeMarkdown("---:")] * (len(header) - 1)], *rows]
    return SafeMarkdown("\n".join(f"| {' | '.join(markdown_text(value) for value in line)} |" for line in lines))


def markdown_measures(measure: Measure) -> SafeMarkdown:
    compared = len(measure.models) > 1
    rows = list(measure.rows)
    if mean := measure.mean_row:
        rows.append(mean)
    lines = []
    for row in rows:
        name = {"trained": row.name, "mean": f"Mean of {row.name}"}.get(row.role, f"{row.name} ({row.role})")
        change = f"{signed(row.change.delta)}, {row.change.verdict}" if row.change else "–"
        lines.append([name, *map(with_interval, row.cells), *([change] if compared else [])])
    arrow = [f"{measure.models[0]} → {measure.models[-1]}"] if compared else []
    return markdown_table(["Language", *measure.models, *arrow], lines)


def markdown_pairs(table: PairTable) -> SafeMarkdown:
    lines = [("pairs", [*table.kept, table.total], "What the model was trained on.")]
    lines += [(row.reason, [*row.counts, row.total], row.meaning) for row in table.rows]
    rows = [[name, *(f"{count:,}" for count in counts), meaning] for name, counts, meaning in lines]
    return markdown_table(["", *map(language_name, table.codes), "All", "Meaning"], rows)


def markdown_times(times: TimeTable) -> SafeMarkdown:
    rows = [[name, *map(duration, seconds), throughput] for name, seconds, throughput in times.rows]
    return markdown_table(["Stage", *times.columns, "Throughput"], [*rows, ["Sum", *map(duration, times.totals), ""]])


def markdown_steps(steps: Sequence[tuple[int, int, dict[str, Any]]]) -> SafeMarkdown:
    """(iteration, number of steps, values of the last step) of every training."""
    names = ["loss", "nll", "dpo", "reward_accuracy", "margin"]
    names = [name for name in names if any(name in last for _, _, last in steps)]
    rows = [
        [iteration, count, *(number(_number(last.get(name))) for name in names)] for iteration, count, last in steps
    ]
    return markdown_table(["Iteration", "steps", *(name.replace("_", " ") for name in names)], rows)


def markdown_environment(environment: dict[str, Any]) -> SafeMarkdown:
    if not environment:
        return SafeMarkdown("Not recorded.")
    return markdown_table(["What", "Value"], [[name, listed(value)] for name, value in environment.items()])


def listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def render(template: str, context: dict[str, Any]) -> str:
    """Fill `templates/report.html` or `templates/report.md`; every value is escaped unless it is marked as safe."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    is_html = template.endswith(".html")
    environment = Environment(
        loader=FileSystemLoader(str(files("lidr") / "templates")),
        autoescape=is_html,
        finalize=None if is_html else markdown_text,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "number": number, "signed": signed, "interval": interval, "with_interval": with_interval,
        "duration": duration, "percent": percent, "language_name": language_name, "listed": listed,
        "block": markdown_block, "measure_table": markdown_measures, "pair_table": markdown_pairs,
        "time_table": markdown_times, "step_table": markdown_steps, "environment_table": markdown_environment,
        "svg": Markup,  # only for what `draw` made, which escapes its texts
    }  # fmt: skip
    return environment.get_template(template).render(context)


def make_context(
    config: Config, results: dict[str, Any], log: Log, tables: list[PairTable], samples: dict[str, list[Sample]],
    sampled_iteration: int | None, recipe: str, environment: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """All that the templates show."""
    measures = read_measures(results, config)
    times = time_table(results, log)
    known = [measure for measure in measures if measure.kind in KINDS]
    headline = findings(known, config)
    return {
        "config": config,
        "introduction": introduction(config, results),
        "tiles": [finding for finding in headline if finding.is_key],
        "paragraphs": paragraphs(headline),
        "costs": _costs(tables, times),
        "accuracy": [measure for measure in known if measure.kind is not OFF_TARGET],
        "off_target": [measure for measure in known if measure.kind is OFF_TARGET],
        "other": [measure for measure in measures if measure.kind not in KINDS],
        "tables": tables,
        "curves": {
            iteration: curve_plots(iteration, curve) for iteration, curve in sorted(log.curves.items()) if curve
        },
        "final_steps": [
            (i, len(curve), curve[next(reversed(curve))]) for i, curve in sorted(log.curves.items()) if curve
        ],
        "times": times,
        "recipe": recipe,
        "environment": {key: "" if value is None else value for key, value in flatten(environment).items()},
        "samples": samples,
        "sampled_iteration": sampled_iteration,
        "paper": PAPER,
    }


def _costs(tables: list[PairTable], times: TimeTable) -> list[tuple[str, str]]:
    """(topic, sentence) of what it took."""
    sentences = []
    if tables:
        pairs = _and([f"{table.total:,} in iteration {table.iteration}" for table in tables])
        dropped = sum(table.dropped for table in tables)
        sentences.append(("Pairs", f"{pairs}; {dropped:,} candidates were dropped, each under a reason given below."))
    if times.total:
        parts = [f"{name.lower()} {duration(sum(s or 0 for s in seconds))}" for name, seconds, _ in times.rows]
        sentences.append(("Time", f"{duration(times.total)} in the stages: {', '.join(parts)}."))
    return sentences


# --- reading the run, writing the report ------------------------------------------------------------------------------


def run(config: Config, run_dir: RunDir) -> None:
    """Write report.html and report.md from what the run has on disk so far."""
    fingerprint = _fingerprint(run_dir)
    results = _read_json(run_dir, "results.json")
    iterations = [entry["iteration"] for entry in results.get("iterations", [])]
    tables = [
        pair_table(entry, drop_details(_rows_of(run_dir, entry["iteration"], None)), config)
        for entry in results.get("iterations", [])
    ]
    sampled = max((i for i in iterations if _has_pairs(config, run_dir, i)), default=None)
    recipe = run_dir.recipe.read_text(encoding="utf-8") if run_dir.recipe.exists() else dump_config(config)
    samples = {} if sampled is None else _read_samples(config, run_dir, sampled)
    environment = _read_json(run_dir, "environment.json")
    log = digest_log(run_dir.read_log())
    context = make_context(config, results, log, tables, samples, sampled, recipe, environment)
    context["fingerprint"] = fingerprint
    write_text(run_dir.path / "report.md", render("report.md", context))
    write_text(run_dir.path / "report.html", render("report.html", context))


def is_outdated(run_dir: RunDir) -> bool:
    """Whether the report is missing, or was made from something else than what the run has now."""
    page = run_dir.path / "report.html"
    if not page.exists() or not (run_dir.path / "report.md").exists():
        return True
    with page.open(encoding="utf-8") as handle:
        return _FINGERPRINT.format(_fingerprint(run_dir)) not in handle.read(2000)


def _fingerprint(run_dir: RunDir) -> str:
    """Hash of what the report is made from; the pairs by their seals, which is quick."""
    known = hashlib.sha256(str(_VERSION).encode())
    for name in ("results.json", "recipe.yaml", "environment.json", "metrics.jsonl"):
        path = run_dir.path / name
        known.update(hashlib.sha256(path.read_bytes() if path.exists() else b"").digest())
    for entry in _read_json(run_dir, "results.json").get("iterations", []):
        seal = read_seal(run_dir.pair_summary(entry["iteration"])) or {}
        known.update(str(seal.get("sha256")).encode())
    return known.hexdigest()[:16]


def _read_json(run_dir: RunDir, name: str) -> dict[str, Any]:
    path = run_dir.path / name
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return content


def _rows_of(run_dir: RunDir, iteration: int, language: str | None) -> Iterator[dict[str, Any]]:
    """The pairs of a language, or the drops of all; nothing where there is no such file."""
    path = run_dir.pairs(iteration, language) if language else run_dir.dropped(iteration)
    return read_rows(path) if path.exists() else iter(())


def _has_pairs(config: Config, run_dir: RunDir, iteration: int) -> bool:
    return any(run_dir.pairs(iteration, code).exists() for code in config.languages)


def _read_samples(config: Config, run_dir: RunDir, iteration: int) -> dict[str, list[Sample]]:
    order = [*config.non_dominant, config.dominant]
    rows = {
        code: reservoir(_rows_of(run_dir, iteration, code), config.report.samples, f"{config.seed} {code}")
        for code in order
    }
    return {code: [sample(row) for row in found] for code, found in rows.items() if found}
