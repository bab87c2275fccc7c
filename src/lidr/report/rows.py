"""What the report needs from single answers and verdicts, which results.json does not have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from lidr.config import Config
from lidr.records import Json
from lidr.report.measures import PLAIN, Cell, Measure
from lidr.results import finite
from lidr.run_dir import RunDir
from lidr.seals import read_rows
from lidr.statistics import bootstrap_interval, compare_mean, compare_paired


def rows_file(config: Config, run_dir: RunDir, model: str, benchmark: str, language: str) -> Path:
    """The scored rows of one model, benchmark and language. Outside a run there is one model, whatever its name."""
    iteration = int(model[1:]) if config.iterations else 0
    return run_dir.evaluation(iteration, benchmark) / f"{language}.jsonl"


def read_scored(config: Config, run_dir: RunDir, model: str, benchmark: str, language: str) -> Iterator[Json]:
    """The scored rows of a benchmark, empty if it was not measured. Raises RunError if they are gone."""
    path = rows_file(config, run_dir, model, benchmark, language)
    measured = path.exists() or (path.parent / "metrics.json").exists()
    return read_rows(path) if measured else iter(())


def with_rows(measures: Sequence[Measure], config: Config, run_dir: RunDir) -> list[Measure]:
    """The measures with tests between the first and the last model, if rows say which answers are right.

    McNemar's test for every language, and one over the questions for the mean of several.
    """
    found = []
    for measure in measures:
        if measure.kind.groups and len(measure.models) > 1:
            measure = _tested(measure, config, run_dir)
        found.append(measure)
    return found


def _tested(measure: Measure, config: Config, run_dir: RunDir) -> Measure:
    rows, scored = [], {}
    for row in measure.rows:
        if row.change is not None:
            scored[row.code] = [
                _scored(measure, row.code, model, config, run_dir) for model in (measure.models[0], measure.models[-1])
            ]
            row = replace(row, p=compare_paired(*scored[row.code]).p)
        rows.append(row)
    averaged = [row.code for row in rows if row.role in PLAIN and row.code in scored and all(row.cells)]
    before, after = ({code: scored[code][side] for code in averaged} for side in (0, 1))
    mean_gain = compare_mean(before, after) if len(averaged) > 1 else None
    return replace(measure, rows=rows, mean_gain=mean_gain)


def _scored(measure: Measure, code: str, model: str, config: Config, run_dir: RunDir) -> list[Json]:
    return [
        scored
        for scored in read_scored(config, run_dir, model, measure.benchmark, code)
        if "correct" in scored and scored.get("group", "") in measure.kind.groups
    ]


def first_position(verdicts: Iterable[Json]) -> list[float]:
    """How far the judge preferred the answer that it saw first, for every comparison that it judged in both orders."""
    judged = (row for row in verdicts if row.get("preference") is not None)
    both = [(finite(row.get("shown_first")), finite(row.get("shown_second"))) for row in judged]
    return [(first + 1 - second) / 2 for first, second in both if first is not None and second is not None]


def mean_by_question(ratings: Sequence[Json]) -> Cell | None:
    """The mean rating with a bootstrap interval over the questions, whose languages and turns are not independent."""
    by_question: dict[str, list[float]] = defaultdict(list)
    for row in ratings:
        if (rating := finite(row.get("rating"))) is not None:
            by_question[str(row["question_id"]).rpartition(".")[0]].append(rating)
    means = [sum(values) / len(values) for values in by_question.values()]
    return bootstrap_cell(means)


def bootstrap_cell(values: Sequence[float]) -> Cell | None:
    """A mean with its bootstrap interval; without one if the values do not differ."""
    if not values:
        return None
    return Cell(sum(values) / len(values), bootstrap_interval(values) if len(set(values)) > 1 else None)
