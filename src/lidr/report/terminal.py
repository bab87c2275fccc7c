"""Tables for the terminal: what an iteration did per language, why pairs were dropped, what a run still owes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence

from rich.console import Console
from rich.table import Table

from lidr.config import Config
from lidr.report.formatting import VERDICTS
from lidr.report.measures import cell_of, kinds_of
from lidr.report.unreliable import cut_off, unscored
from lidr.results import Metrics, ModelResults, ProgressProbe, Results, read_imbalance
from lidr.run_dir import RunDir
from lidr.stages.pairs import PairSummary


def print_iteration(config: Config, results: Results, iteration: int) -> None:
    """Pairs, drops and benchmark figures of one iteration, before and after, a column per language."""
    counts = next(entry for entry in results.iterations if entry.iteration == iteration)
    models = {model.name: model.benchmarks for model in results.models}
    before, after = models.get(f"M{iteration - 1}", {}), models.get(f"M{iteration}", {})
    measured = {code for languages in after.values() for code in languages}
    codes = [*config.languages, *sorted(measured - set(config.languages))]
    table = Table(title=f"{config.name}: iteration {iteration}, M{iteration - 1} -> M{iteration}")
    table.add_column("")
    for code in codes:
        role = "dominant" if code == config.dominant else "" if code in config.languages else "transfer"
        table.add_column(f"{code}\n{role}", justify="right")
    dropped = {code: sum(counts.dropped_by_language.get(code, {}).values()) for code in codes}
    table.add_row("pairs", *(str(counts.pairs.get(code, "")) for code in codes))
    table.add_row("dropped", *(str(dropped[code] or "") for code in codes), end_section=True)

    def change(benchmark: str, code: str, name: str) -> str:
        new, old = (_value(found.get(benchmark, {}).get(code), name) for found in (after, before))
        if new is None:
            return ""
        return f"{new:.2f}" if old is None else f"{old:.2f} -> {new:.2f}"

    _add_metrics(table, config, after, codes, change)
    print_table(table)
    for model in results.models:  # an iteration that made no pair has no model
        if model.name == f"M{iteration}":
            _print_unreliable(model)
    for found in results.probe:
        if isinstance(found, ProgressProbe) and found.model == f"M{iteration}":
            print_progress(found)


def print_evaluation(config: Config, title: str, model: ModelResults) -> None:
    """The figures of one model, a row per metric and a column per language."""
    measured = model.benchmarks
    codes = list(dict.fromkeys(code for found in measured.values() for code in found))
    table = Table(title=title)
    table.add_column("")
    for code in codes:
        table.add_column(code, justify="right")

    def figure(benchmark: str, code: str, name: str) -> str:
        return _figure(measured[benchmark].get(code), name)

    _add_metrics(table, config, measured, codes, figure)
    print_table(table)
    _print_unreliable(model)


def _print_unreliable(model: ModelResults) -> None:
    """What makes a model's figures doubtful."""
    if places := cut_off(model):
        _say(f"{model.name}: answers cut off by evaluation.max_new_tokens: {', '.join(places)}")
    if places := unscored(model):
        _say(
            f"{model.name}: no verdict can be read from the judge's replies: {', '.join(places)}; the report shows some"
        )


def _add_metrics(
    table: Table, config: Config, benchmarks: Iterable[str], codes: Sequence[str], cell: Callable[[str, str, str], str]
) -> None:
    """A row per benchmark and metric that has a figure; `cell` gives it by benchmark, language and metric."""
    for benchmark in benchmarks:
        for kind in kinds_of(config, benchmark):
            for name in (kind.key,) if kind.in_terminal is None else kind.in_terminal:
                cells = [cell(benchmark, code, name) for code in codes]
                if any(cells):
                    table.add_row(f"{benchmark} {name.replace('_', ' ')}", *cells)
        table.add_section()


def _value(metrics: Metrics | None, name: str) -> float | None:
    return metrics.value(name) if metrics else None


def _figure(metrics: Metrics | None, name: str) -> str:
    """A value with its 95 % interval, if it has one."""
    cell = cell_of(metrics.metric(name)) if metrics else None
    if cell is None:
        return ""
    return f"{cell.value:.3f} ({cell.interval[0]:.2f}-{cell.interval[1]:.2f})" if cell.interval else f"{cell.value:.3f}"


def print_probe(config: Config, run_dir: RunDir) -> None:
    """What the probe of M_0 says, a row per language; nothing if there was none."""
    found = read_imbalance(run_dir)
    if found is None:
        return
    by = found.by[0]
    quality = "accuracy" if by == "verified" else "score"
    table = Table(title=f"{config.name}: imbalance probe of M0, {found.prompts} prompts, {by}")
    headings = (
        "language",
        f"own {quality}",
        "translated",
        "reward accuracy",
        "off-target",
        "lines pass",
        "failed",
        "verdict",
    )
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("language", "verdict") else "right")
    for code, entry in found.languages.items():
        reward = (entry.reward_accuracy or {}).get(by)
        table.add_row(
            code,
            _figure(entry.own, quality),
            _figure(entry.translated, quality),
            f"{_number(reward.value)} ({reward.ci95[0]:.2f}-{reward.ci95[1]:.2f})" if reward else "",
            _number(entry.off_target),
            _number(entry.lpr),
            _number(entry.translation_failed),
            VERDICTS[entry.verdict],
        )
    print_table(table)
    if found.dominant != config.dominant and not (config.probe and config.probe.obey):
        _say(f"the probe finds {found.dominant} dominant; the recipe says {config.dominant}")


def print_progress(found: ProgressProbe | None) -> None:
    """What the stop rule says of M_t; nothing if it was not asked."""
    if found is None:
        return
    counted = {code: entry.better[found.by[0]] for code, entry in found.languages.items()}
    counted["together"] = found.together
    parts = [f"{name} {better.wins}:{better.losses}" for name, better in counted.items()]
    _say(f"{found.model} against {found.opponent}, answers better : worse  {', '.join(parts)}")
    if found.stop:
        _say(f"stop: {found.reason}; keep M{found.keep}")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def print_drops(config: Config, summary: PairSummary, iteration: int) -> None:
    """Pairs made and the reasons of those that were not, a column per language."""
    table = Table(title=f"iteration {iteration}: pairs and drop reasons")
    table.add_column("")
    for code in config.languages:
        table.add_column(code, justify="right")
    table.add_row("pairs", *(str(summary.pairs[code]) for code in config.languages), end_section=True)
    reasons = sorted({reason for found in summary.dropped.values() for reason in found})
    for reason in reasons:
        table.add_row(reason, *(str(summary.dropped[code].get(reason, "")) for code in config.languages))
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


def print_table(table: Table) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    console.print(table)
