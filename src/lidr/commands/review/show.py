"""The summary of a review for the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lidr.commands.review.summary import Agreement, LanguageSummary, ReviewSummary
from lidr.report.formatting import printable
from lidr.results import DuelCounts

_WHO = {"verified": "known answers", "judge": "judge"}


def print_summary(summary: ReviewSummary) -> None:
    """Human reward accuracy beside the probe's by language, then every reviewer, then how far they agree."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    entries = summary.languages
    console.print(_accuracies(f"{printable(summary.run)}: does the chosen answer win?", entries))
    console.print(_reviewers(entries))
    pairs = [(entry, item) for entry in entries for item in entry.agreement]
    if pairs:
        console.print(_agreement(pairs))


def missing_judge(summary: ReviewSummary, run: str) -> str:
    """What to do if there is no judge's figure to compare with; empty if there is."""
    entries = summary.languages
    if not entries or any(entry.probe for entry in entries):
        return ""
    if all(entry.iteration > 1 for entry in entries):
        return "no judge beside it: the probe measures M0, whose answers are the pairs of iteration 1"
    return (
        f"no judge beside it: `lidr probe {run}` measures the reward accuracy by known answers (prompts.fields.answer) "
        "or by the recipe's evaluation.judge"
    )


def _table(title: str, words: tuple[str, ...], numbers: tuple[str, ...]) -> Table:
    table = Table(title=escape(title))
    for heading in words:
        table.add_column(heading)
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def _accuracies(title: str, entries: list[LanguageSummary]) -> Table:
    judges = list(dict.fromkeys(by for entry in entries for by in entry.probe or {}))
    columns = ("pairs", "human reward accuracy", "chosen : rejected", "ties", "can't judge")
    table = _table(title, ("iteration", "language"), columns + tuple(f"probe of M0, {_WHO[by]}" for by in judges))
    for entry in entries:
        human = entry.human
        counts = f"{human.wins} : {human.losses}", str(human.ties), str(human.unscored)
        probed = [_share((entry.probe or {}).get(by)) for by in judges]
        table.add_row(
            str(entry.iteration), entry.language, str(entry.pairs), _share(human), *counts, *probed
        )  # fmt: skip
    return table


def _reviewers(entries: list[LanguageSummary]) -> Table:
    columns = ("reward accuracy", "chosen : rejected", "ties", "can't judge", "A : B")
    table = _table("reviewers", ("iteration", "language", "reviewer", "level"), columns)
    for entry in entries:
        for item in entry.reviewers:
            human = item.human
            table.add_row(
                str(entry.iteration), entry.language, escape(printable(item.name)), item.level,
                _share(human),
                f"{human.wins} : {human.losses}", str(human.ties), str(human.unscored),
                f"{item.said_a} : {item.said_b}",
            )  # fmt: skip
    return table


def _agreement(pairs: list[tuple[LanguageSummary, Agreement]]) -> Table:
    table = _table("agreement", ("iteration", "language", "reviewers"), ("pairs", "same verdict", "Cohen's kappa"))
    for entry, item in pairs:
        names = " and ".join(escape(printable(name)) for name in item.reviewers)
        figures = ("" if value is None else f"{value:.2f}" for value in (item.agreement, item.kappa))
        table.add_row(str(entry.iteration), entry.language, names, str(item.pairs), *figures)
    return table


def _share(counted: DuelCounts | None) -> str:
    if counted is None or counted.value is None:
        return "–"
    low, high = counted.ci95
    return f"{counted.value:.3f} ({low:.2f}-{high:.2f})"
