"""Audits and their agreement with labels as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lidr.commands.audit.agreement import Agreement, Interval
from lidr.commands.audit.audit import Audit, Finding, JudgedBy
from lidr.report.formatting import interval, number, printable
from lidr.report.variables import BY_NAME

_LONGEST = 200  # characters of evidence; the files have all of it


def print_audits(audits: Sequence[Audit]) -> None:
    """One document with its evidence, or several with only their values, a row per document."""
    if len(audits) == 1:
        _print_one(audits[0])
        return
    who = sorted({judge_name(audit.judge) for audit in audits})
    table = Table(title=Text(f"{len(audits)} documents, {' and '.join(who)}"))
    table.add_column("document")
    for variable in BY_NAME.values():
        table.add_column(variable.title, overflow="fold")
    for audit in audits:
        values = [finding.value if finding.value is not None else "unscored" for finding in audit.findings]
        table.add_row(Text(audit.document), *values)
    _print(table)


def judge_name(judge: JudgedBy) -> str:
    return "judged by rules" if judge["kind"] == "rules" else f"judged by {judge['model']}"


def _print_one(audit: Audit) -> None:
    table = Table(title=Text(f"{audit.document}, {judge_name(audit.judge)}"))
    for title in ("variable", "value", "evidence"):
        table.add_column(title)
    for finding in audit.findings:
        value = finding.value if finding.value is not None else "unscored"
        table.add_row(BY_NAME[finding.variable].title, value, Text(_evidence(finding)))
    _print(table)


def _evidence(finding: Finding) -> str:
    if finding.unscored is not None:
        return printable(finding.unscored)
    if not finding.evidence:
        return ""
    first = finding.evidence[0]
    text = first.text if len(first.text) <= _LONGEST else f"{first.text[:_LONGEST]} ..."
    more = f", and {len(finding.evidence) - 1} more" if len(finding.evidence) > 1 else ""
    return f'"{printable(text)}" ({first.place}{more})'


def print_agreement(agreements: Sequence[Agreement]) -> None:
    """Accuracy and kappa per variable; precision and recall of the value that is listed first, such as `yes`."""
    table = Table(title="agreement with the labels (95 % intervals in brackets)")
    table.add_column("")
    for title in ("n", "unscored", "accuracy", "right of all", "kappa", "of value", "precision", "recall"):
        table.add_column(title, justify="right")
    for row in agreements:
        first = next((item for item in row.classes if item.labelled or item.judged), row.classes[0])
        table.add_row(
            BY_NAME[row.variable].title, str(row.n), str(row.unscored), _share(row.accuracy, row.accuracy_interval),
            number(row.right_of_all), _share(row.kappa, row.kappa_interval), first.value,
            _share(first.precision, first.precision_interval), _share(first.recall, first.recall_interval),
        )  # fmt: skip
    _print(table)


def _share(value: float | None, bounds: Interval | None) -> str:
    return f"{number(value)} ({interval(bounds)})" if value is not None and bounds else number(value)


def _print(table: Table) -> None:
    console = Console()
    console = console if console.is_terminal else Console(width=140)
    console.print(table)
