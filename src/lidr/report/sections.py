"""The benchmarks' part of the report: what is shown together, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lidr.config import Config
from lidr.report.formatting import language_name
from lidr.report.judged import HEAD_TO_HEAD, Categories, Outcomes, Scored, read_categories, read_outcomes
from lidr.report.measures import Measure, mean_cell
from lidr.report.paper import MEAN, MODEL, SOURCE, PaperTable, paper_table
from lidr.report.tables import Entry, Grid
from lidr.results import Results

_TITLES = {"accuracy": "Accuracy", "judged": "Judged answers", "language": "Language of the answers"}


@dataclass(frozen=True, slots=True)
class Block:
    """One benchmark within a section."""

    benchmark: str
    outcomes: list[Outcomes] = field(default_factory=list)
    measures: list[Measure] = field(default_factory=list)
    categories: Categories | None = None
    paper: Grid | None = None


@dataclass(frozen=True, slots=True)
class Section:
    anchor: str
    title: str
    blocks: list[Block]


def read_sections(results: Results, measures: Sequence[Measure], config: Config, scored: Scored) -> list[Section]:
    """Every metric that the report knows, by section and benchmark."""
    outcomes = read_outcomes(results, config)
    sections = []
    for anchor, title in _TITLES.items():
        shown = [measure for measure in measures if measure.kind.section == anchor]
        names = dict.fromkeys(measure.benchmark for measure in shown)
        if anchor == "judged" and outcomes:
            names = dict.fromkeys([HEAD_TO_HEAD, *names])
        blocks = []
        for name in names:
            own = [measure for measure in shown if measure.benchmark == name]
            judged = anchor == "judged"
            against = outcomes if judged and name == HEAD_TO_HEAD else []
            categories = read_categories(results, config, scored) if judged and name == "mt_bench" else None
            own_task = getattr(config.evaluation.benchmarks.get(name), "task", None)
            paper = beside_paper(name, own, against) if anchor != "language" and not own_task else None
            blocks.append(Block(name, against, own, categories, paper))
        if blocks:
            sections.append(Section(anchor, title, blocks))
    return sections


def beside_paper(benchmark: str, measures: Sequence[Measure], outcomes: Sequence[Outcomes]) -> Grid | None:
    """The paper's numbers of a benchmark, and this run's own under them; None if no language is in both."""
    main = next((m for m in measures if m.kind.is_key and m.kind.section != "language"), None)
    rows = outcomes[-1].rows if outcomes else main.rows if main else []
    table = paper_table(benchmark, [row.code for row in rows])
    if table is None or not rows:
        return None
    if outcomes:
        names = [f"{outcomes[-1].model} {word}" for word in ("wins", "tie", "loses")]
    else:
        names = main.models if main else []
    lines = [(f"Paper: {name}", list(values)) for name, values in table.rows]
    for i, name in enumerate(names):
        cells = {row.code: row.cells[i] for row in rows}
        if table.languages == (MEAN,):
            known = [cell for cell in cells.values() if cell]
            cells[MEAN] = mean_cell(known) if len(known) == len(rows) else None
        lines.append((f"Here: {name}", [cell.value if (cell := cells.get(code)) else None for code in table.languages]))
    return _paper_grid(table, lines)


def _paper_grid(table: PaperTable, lines: Sequence[tuple[str, list[float | None]]]) -> Grid:
    header = ["Mean over languages" if code == MEAN else language_name(code) for code in table.languages]
    digits = 2 if any(value and value > 1 for _, values in table.rows for value in values) else 3
    rows: list[tuple[str, list[Entry]]] = [
        (name, [("–" if value is None else f"{value:.{digits}f}", "") for value in values]) for name, values in lines
    ]
    note = f"{table.title}; {MODEL}. Another model, other prompts and another judge give other numbers. {SOURCE}."
    return Grid(f"The paper's {table.model}", ["", *header], rows, note)
