"""A plan on the terminal: a row per step, then totals, assumptions, and what to change."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lidr.commands.plan.afterwards import Measured
from lidr.commands.plan.plan import Plan, Step
from lidr.progress_bar import duration

_SHOWN_WIDTH = 100  # if the output is not a terminal


def print_plan(plan: Plan) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=_SHOWN_WIDTH)
    console.print(_table(plan))
    usd = "" if plan.usd == 0 else "   cost unknown (prices are not in the recipe)" if plan.usd is None else (
        f"   {plan.usd:,.2f} USD")  # fmt: skip
    console.print(Text(f"together  {duration(plan.seconds)}   {plan.disk_gib:.1f} GiB of disk{usd}", style="bold"))
    _bullets(console, "assumed", plan.assumptions)
    _bullets(console, "note", plan.warnings)
    for problem in plan.problems:
        console.print(_indented("does not fit", problem.text, "bold red"))
        remedy = " ".join(f"--set {change}" for change in problem.fix) if problem.fix else problem.advice
        console.print(_indented("  it fits with" if problem.fix else "  instead", remedy))


def print_measured(rows: list[Measured]) -> None:
    """What the run took so far beside its plan; nothing if it has not begun."""
    if not rows:
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=_SHOWN_WIDTH)
    table = Table(title="compared with the run's own log", title_justify="left")
    table.add_column("stage")
    for heading in ("planned", "for these answers and pairs", "measured", "times", "GiB planned", "measured"):
        table.add_column(heading, justify="right")
    for row in rows:
        gib = ["" if value is None else f"{value:.1f}" for value in (row.planned_gib, row.measured_gib)]
        times = [duration(value) for value in (row.planned_s, row.estimated_s, row.measured_s)]
        name = f"{row.stage}{' of M0' if row.iterations == [0] else ''}"
        table.add_row(name, *times, f"{row.ratio:.2f}", *gib)
    console.print(table)


def _table(plan: Plan) -> Table:
    size = "" if plan.parameters is None else f", {_number(plan.parameters)} parameters"
    table = Table(title=f"{plan.recipe}: {plan.model}{size}\non {plan.hardware}", title_justify="left")
    table.add_column("step")
    for heading in ("requests", "tokens read", "written", "GiB a device", "time"):
        table.add_column(heading, justify="right")
    if plan.usd != 0:
        table.add_column("USD", justify="right")
    before = None
    for step in plan.steps:
        if step.iterations != before:
            table.add_section()
            table.add_row(Text(_when(step), style="italic"))
            before = step.iterations
        table.add_row(*_cells(step, plan.usd != 0))
    return table


def _when(step: Step) -> str:
    if step.iterations == [0]:
        return "the base model"
    return "iteration 1" if step.iterations == [1] else f"each of {len(step.iterations)} iterations"


def _cells(step: Step, with_usd: bool) -> list[Text | str]:
    memory = "" if step.gib is None else f"{step.gib:.1f} of {step.device_gib:.0f}"
    time = "in train" if step.measured and not step.seconds else duration(step.seconds)
    cells: list[Text | str] = [
        f"  {step.name}",
        f"{step.requests:,}",
        _number(step.tokens_read),
        _number(step.tokens_written) if step.tokens_written else "",
        memory if step.fits else Text(f"{memory} - too much", style="bold red"),
        f"{time}{' *' if step.measured else ''}",
    ]
    return [*cells, "?" if step.usd is None else f"{step.usd:.2f}" if step.usd else ""] if with_usd else cells


def _number(value: float) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= 10 * size or (value >= size and size >= 1e6):
            return f"{value / size:.2f} {unit}" if value < 10 * size else f"{value / size:.1f} {unit}"
    return f"{value:.0f}"


def _bullets(console: Console, heading: str, lines: list[str], style: str = "") -> None:
    for line in lines:
        console.print(_indented(heading, line, style))
        heading = ""


def _indented(heading: str, line: str, style: str = "") -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(width=16, style=style)
    grid.add_column(overflow="fold")
    grid.add_row(heading, Text(line))
    return grid
