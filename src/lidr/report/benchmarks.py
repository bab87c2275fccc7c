"""The benchmarks' part of the report: what is shown together, and in which order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lidr.config import Config
from lidr.report.document import Beside, Block, Entry, Folded, Heading, Plot, Row, Section, Table, figure, note
from lidr.report.formatting import language_name, p_value, signed
from lidr.report.judged import HEAD_TO_HEAD, Outcomes, Scored, categories, read_outcomes
from lidr.report.measures import Change, Measure, MeasureRow, mean_cell
from lidr.report.paper import MEAN, MODEL, SOURCE, PaperTable, paper_table
from lidr.report.plots import dot_plot
from lidr.results import Results

_TITLES = {"accuracy": "Accuracy", "judged": "Judged answers", "language": "Language of the answers"}
_INTERVALS = "Small figures, or those in brackets, are 95 % intervals, as are the lines of a plot."
_TESTS = (
    " p: exact McNemar test on the same questions in a language, sign-flip test over the questions for the mean; not "
    "corrected for their number."
)


def benchmark_sections(
    results: Results, measures: Sequence[Measure], config: Config, scored: Scored
) -> Iterator[Section]:
    """Every metric that a benchmark describes, by section and benchmark."""
    outcomes = read_outcomes(results, config)
    for anchor, title in _TITLES.items():
        shown = [measure for measure in measures if measure.kind.section == anchor]
        names = dict.fromkeys(measure.benchmark for measure in shown)
        if anchor == "judged" and outcomes:
            names = dict.fromkeys([HEAD_TO_HEAD, *names])
        blocks: list[Block] = []
        for name in names:
            own = [measure for measure in shown if measure.benchmark == name]
            judged = anchor == "judged"
            against = outcomes if judged and name == HEAD_TO_HEAD else []
            for outcome in against:
                blocks += outcome.blocks()
            for measure in own:
                blocks += measure_blocks(measure)
            if judged and name == "mt_bench":
                blocks += categories(results, config, scored)
            own_task = getattr(config.evaluation.benchmarks.get(name), "task", None)
            paper = beside_paper(name, own, against) if anchor != "language" and not own_task else None
            if paper:
                blocks.append(Folded(f"{name}: {paper.label}", "in the paper, and here", [paper]))
        if blocks:
            yield Section(anchor, title, blocks)


def other_section(measures: Sequence[Measure]) -> Section | None:
    """The numbers that no benchmark describes."""
    blocks: list[Block] = []
    for measure in measures:
        if measure.kind.section == "other":
            title = Heading(f"{measure.benchmark}: {measure.kind.title}")
            blocks += [title, note(f"{measure.notes}."), measure_table(measure)]
    return Section("other", "Other metrics", blocks) if blocks else None


def measure_blocks(measure: Measure) -> list[Block]:
    """A metric's title and notes, and its plot beside its table."""
    intervals = f" {_INTERVALS}" if measure.has_intervals else ""
    return [
        Heading(f"{measure.benchmark}: {measure.kind.title.lower()}"),
        note(f"{measure.notes}.{intervals}{_TESTS if measure.is_tested else ''}"),
        Beside(Plot(dot_plot(measure)), measure_table(measure)),
    ]


def measure_table(measure: Measure) -> Table:
    """Languages by models, and what changed between the first and the last."""
    is_compared = len(measure.models) > 1
    rows = [Row(Entry(row.name, badge=row.label), _cells(row, is_compared)) for row in measure.rows]
    if mean := measure.mean_row:
        rows.append(Row(Entry("Mean", (mean.name,)), _cells(mean, is_compared), "mean"))
    change = [f"{measure.models[0]} → {measure.models[-1]}"] if is_compared else []
    label = f"{measure.benchmark}, {measure.kind.title}: table"
    return Table(label, ["Language", *measure.models, *change], rows)


def _cells(row: MeasureRow, is_compared: bool) -> list[Entry]:
    return [*map(figure, row.cells), *([_change(row.change)] if is_compared else [])]


def _change(change: Change | None) -> Entry:
    if change is None:
        return Entry("–")
    small = [change.verdict]
    if change.of_gain:
        small.insert(0, f"95 %: {signed(change.of_gain[0])} to {signed(change.of_gain[1])}")
    if change.p is not None:
        small.append(p_value(change.p))
    return Entry(signed(change.delta), tuple(small), "clear" if change.is_clear else "noise")


def beside_paper(benchmark: str, measures: Sequence[Measure], outcomes: Sequence[Outcomes]) -> Table | None:
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


def _paper_grid(table: PaperTable, lines: Sequence[tuple[str, list[float | None]]]) -> Table:
    header = ["Mean over languages" if code == MEAN else language_name(code) for code in table.languages]
    digits = 2 if any(value and value > 1 for _, values in table.rows for value in values) else 3
    rows = [
        Row(Entry(name), [Entry("–" if value is None else f"{value:.{digits}f}") for value in values])
        for name, values in lines
    ]
    how = f"{table.title}; {MODEL}. Another model, other prompts and another judge give other numbers. {SOURCE}."
    return Table(f"The paper's {table.model}", ["", *header], rows, how)
