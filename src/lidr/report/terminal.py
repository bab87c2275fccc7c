"""Tables for the terminal: what an iteration did per language, why pairs were dropped, what a run still owes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from lidr.config import Config
from lidr.report.formatting import VERDICTS
from lidr.report.measures import read_cell
from lidr.report.metrics import KINDS
from lidr.report.unreliable import cut_off, unscored
from lidr.run_dir import RunDir

# What the terminal shows of a benchmark; results.json and the report have all of it.
MAIN_METRICS = (
    "accuracy",
    "accuracy_held_out",
    "win",
    "tie",
    "lose",
    "win_rate",
    "lc_win_rate",
    "score",
    "lpr",
    "wpr",
    "off_target",
)

_INTERVALS = {kind.key: kind.interval_key for kind in KINDS}


def print_iteration(config: Config, run: RunDir, results: dict[str, Any], iteration: int) -> None:
    """Pairs, drops and benchmark figures of one iteration, before and after, a column per language."""
    counts = next(item for item in results["iterations"] if item["iteration"] == iteration)
    models = {model["name"]: model["benchmarks"] for model in results["models"]}
    before, after = models.get(f"M{iteration - 1}", {}), models.get(f"M{iteration}", {})
    measured = {code for metrics in after.values() for code in metrics}
    codes = [*config.languages, *sorted(measured - set(config.languages))]
    table = Table(title=f"{config.name}: iteration {iteration}, M{iteration - 1} -> M{iteration}")
    table.add_column("")
    for code in codes:
        role = "dominant" if code == config.dominant else "" if code in config.languages else "transfer"
        table.add_column(f"{code}\n{role}", justify="right")
    dropped = {code: sum(counts["dropped_by_language"].get(code, {}).values()) for code in codes}
    table.add_row("pairs", *(str(counts["pairs"].get(code, "")) for code in codes))
    table.add_row("dropped", *(str(dropped[code] or "") for code in codes), end_section=True)
    _add_metrics(table, after, codes, lambda name, code, metric: _change(before, after, name, code, metric))
    print_table(table)
    for model in results["models"]:  # an iteration that made no pair has no model
        if model["name"] == f"M{iteration}":
            _print_unreliable(model)


def print_evaluation(title: str, model: dict[str, Any]) -> None:
    """The figures of one model of results.json, a row per metric and a column per language."""
    measured = model["benchmarks"]
    codes = list(dict.fromkeys(code for found in measured.values() for code in found))
    table = Table(title=title)
    table.add_column("")
    for code in codes:
        table.add_column(code, justify="right")
    _add_metrics(table, measured, codes, lambda name, code, metric: _figure(measured[name].get(code, {}), metric))
    print_table(table)
    _print_unreliable(model)


def _print_unreliable(model: dict[str, Any]) -> None:
    """What makes a model's figures doubtful."""
    if places := cut_off(model):
        _say(f"{model['name']}: answers cut off by evaluation.max_new_tokens: {', '.join(places)}")
    if places := unscored(model):
        _say(f"{model['name']}: the judge's reply was no verdict: {', '.join(places)}; the report shows some")


def _add_metrics(
    table: Table, names: Iterable[str], codes: Sequence[str], cell: Callable[[str, str, str], str]
) -> None:
    """A row per benchmark and metric that has a figure; `cell` gives it by benchmark, language and metric."""
    for name in names:
        for metric in MAIN_METRICS:
            cells = [cell(name, code, metric) for code in codes]
            if any(cells):
                table.add_row(f"{name} {metric.replace('_', ' ')}", *cells)
        table.add_section()


def _figure(metrics: dict[str, Any], metric: str) -> str:
    """A value with its 95 % interval, where it has one."""
    cell = read_cell(metrics, metric, _INTERVALS.get(metric, ""))
    if cell is None:
        return ""
    return f"{cell.value:.3f} ({cell.interval[0]:.2f}-{cell.interval[1]:.2f})" if cell.interval else f"{cell.value:.3f}"


def print_probe(config: Config, found: dict[str, Any] | None) -> None:
    """What the probe of M_0 says, a row per language; nothing if there was none."""
    if found is None:
        return
    by = found["by"][0]
    quality = "accuracy" if by == "verified" else "score"
    table = Table(title=f"{config.name}: imbalance probe of M0, {found['prompts']} prompts, {by}")
    headings = ("language", f"own {quality}", "translated", "reward accuracy", "off-target", "failed", "verdict")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("language", "verdict") else "right")
    for code, entry in found["languages"].items():
        reward = entry.get("reward_accuracy", {}).get(by)
        table.add_row(
            code,
            _figure(entry["own"], quality),
            _figure(entry["translated"], quality) if "translated" in entry else "",
            f"{_number(reward['value'])} ({reward['ci95'][0]:.2f}-{reward['ci95'][1]:.2f})" if reward else "",
            _number(entry["off_target"]),
            _number(entry.get("translation_failed")),
            VERDICTS[entry["verdict"]],
        )
    print_table(table)
    if found["dominant"] != config.dominant and not (config.probe and config.probe.obey):
        _say(f"the probe finds {found['dominant']} dominant; the recipe says {config.dominant}")


def print_progress(config: Config, found: dict[str, Any] | None, iteration: int) -> bool:
    """What the stop rule says of M_t, if it was asked; whether to stop."""
    if found is None:
        return False
    by = found["by"][0]
    parts = []
    for code, entry in [*found["languages"].items(), ("together", {"better": {by: found["together"]}})]:
        better = entry["better"][by]
        parts.append(f"{code} {better['wins']}:{better['losses']}")
    _say(f"M{iteration} against M{iteration - 1}, answers better : worse  {', '.join(parts)}")
    if found["stop"]:
        _say(f"stop: {found['reason']}; keep M{found['keep']}")
    return bool(found["stop"])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


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
    print_table(table)


def print_status(rows: list[tuple[str, str, str, str]]) -> None:
    """(iteration, stage, state, detail) of every step of a run."""
    table = Table()
    for heading in ("iteration", "stage", "state", "detail"):
        table.add_column(heading)
    for row in rows:
        table.add_row(*row)
    print_table(table)


def print_recipes(rows: list[tuple[str, str]]) -> None:
    table = Table()
    table.add_column("recipe")
    table.add_column("what it is")
    for row in rows:
        table.add_row(*row)
    print_table(table)


def _change(before: dict[str, Any], after: dict[str, Any], name: str, code: str, metric: str) -> str:
    new = after[name].get(code, {}).get(metric)
    old = before.get(name, {}).get(code, {}).get(metric)
    if new is None:
        return ""
    return f"{new:.2f}" if old is None else f"{old:.2f} -> {new:.2f}"


def print_table(table: Table) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    console.print(table)
