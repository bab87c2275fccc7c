"""Tables for the terminal: what an iteration did per language, why pairs were dropped, what a run still owes."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from lidr.config import Config
from lidr.run_dir import RunDir


def print_iteration(config: Config, run: RunDir, results: dict[str, Any], iteration: int) -> None:
    """Pairs, drops and benchmark figures of one iteration, a row per language."""
    counts = next(item for item in results["iterations"] if item["iteration"] == iteration)
    models = {model["name"]: model["benchmarks"] for model in results["models"]}
    before, after = models.get(f"M{iteration - 1}", {}), models.get(f"M{iteration}", {})
    table = Table(title=f"{config.name}: iteration {iteration}")
    for heading in ("language", "pairs", "dropped"):
        table.add_column(heading, justify="left" if heading == "language" else "right")
    for name in after:
        table.add_column(f"{name} accuracy", justify="right")
        table.add_column("off-target", justify="right")
    measured = {code for metrics in after.values() for code in metrics}
    for code in [*config.languages, *sorted(measured - set(config.languages))]:
        label = (
            f"{code} (dominant)"
            if code == config.dominant
            else code
            if code in config.languages
            else f"{code} (transfer)"
        )
        dropped = sum(counts["dropped_by_language"].get(code, {}).values())
        row = [label, str(counts["pairs"].get(code, "")), str(dropped or "")]
        for name in after:
            row += [_change(before, after, name, code, "accuracy"), _change(before, after, name, code, "off_target")]
        table.add_row(*row)
    _print(table)


def print_drops(config: Config, summary: dict[str, Any], iteration: int) -> None:
    """Pairs made and the reasons of those that were not, a column per language."""
    table = Table(title=f"iteration {iteration}: pairs and drop reasons")
    table.add_column("")
    for code in config.languages:
        table.add_column(code, justify="right")
    table.add_row("pairs", *(str(summary["pairs"][code]) for code in config.languages), end_section=True)
    reasons = sorted({reason for found in summary["dropped"].values() for reason in found})
    for reason in reasons:
        table.add_row(reason, *(str(summary["dropped"][code].get(reason, "")) for code in config.languages))
    _print(table)


def print_status(rows: list[tuple[str, str, str, str]]) -> None:
    """(iteration, stage, state, detail) of every step of a run."""
    table = Table()
    for heading in ("iteration", "stage", "state", "detail"):
        table.add_column(heading)
    for row in rows:
        table.add_row(*row)
    _print(table)


def print_recipes(rows: list[tuple[str, str]]) -> None:
    table = Table()
    table.add_column("recipe")
    table.add_column("what it is")
    for row in rows:
        table.add_row(*row)
    _print(table)


def _change(before: dict[str, Any], after: dict[str, Any], name: str, code: str, metric: str) -> str:
    new = after[name].get(code, {}).get(metric)
    old = before.get(name, {}).get(code, {}).get(metric)
    if new is None:
        return ""
    return f"{new:.3f}" if old is None else f"{old:.3f} -> {new:.3f}"


def _print(table: Table) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    console.print(table)
