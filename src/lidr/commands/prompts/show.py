"""What became of prompts that were sampled or translated, as tables for the terminal."""

from __future__ import annotations

import sys

from rich.table import Table
from rich.text import Text

from lidr.commands.prompts.invention import Invented
from lidr.commands.prompts.sampling import Sample, Wanted
from lidr.commands.prompts.translation import Outcome
from lidr.commands.prompts.user_turns import REASONS
from lidr.report.terminal import print_table


def print_sample(sample: Sample, wanted: Wanted) -> None:
    """What was drawn, of which strata, and what was left out, by reason."""
    table = Table(title=f"{len(sample.prompts):,} prompts drawn")
    table.add_column(Text(wanted.stratify or ""))
    for heading in ("eligible", "drawn"):
        table.add_column(heading, justify="right")
    for stratum, (eligible, drawn) in sample.strata.items():
        table.add_row(Text(stratum or "all"), f"{eligible:,}", f"{drawn:,}")
    for reason, count in sorted(sample.left_out.items()):
        table.add_row(reason, f"{count:,}", "left out")
    print_table(table)
    if len(sample.prompts) < wanted.n:
        print(f"{wanted.n:,} were asked for; there are no more", file=sys.stderr)


def print_invented(made: Invented, count: int) -> None:
    """How many of the turns that a model wrote are prompts, and why the others are not."""
    table = Table(title=f"{len(made.prompts):,} prompts of {made.turns:,} turns that the model wrote")
    for heading, how in (("dropped", "left"), ("turns", "right"), ("meaning", "left")):
        table.add_column(heading, justify=how)  # type: ignore[arg-type]
    for reason, number in sorted(made.by_reason().items()):
        table.add_row(reason, f"{number:,}", REASONS[reason])
    print_table(table)
    if len(made.prompts) < count:
        print(f"{count:,} were asked for; hardly any turn of this model is a prompt", file=sys.stderr)


def print_translation(outcomes: dict[str, Outcome]) -> None:
    """What became of the prompts in every language; those set aside by reason."""
    table = Table(title="translated prompts")
    table.add_column("")
    for code in outcomes:
        table.add_column(code, justify="right")
    table.add_row("translated", *(f"{outcome.translated:,}" for outcome in outcomes.values()))
    table.add_row("of which retried", *(str(outcome.retried - outcome.aside.total()) for outcome in outcomes.values()))
    for reason in sorted({reason for outcome in outcomes.values() for reason in outcome.aside}):
        table.add_row(f"set aside: {reason}", *(str(outcome.aside[reason] or "") for outcome in outcomes.values()))
    table.add_row("characters sent now", *(f"{outcome.characters:,}" for outcome in outcomes.values()))
    if any(outcome.usd is not None for outcome in outcomes.values()):
        table.add_row("their price in USD", *(f"{outcome.usd or 0:.2f}" for outcome in outcomes.values()))
    print_table(table)
    if count := sum(outcome.aside.total() for outcome in outcomes.values()):
        print(
            f"{count:,} prompt{'s' * (count > 1)} set aside, with reasons and what was offered, in "
            "<language>.failed.jsonl; run the recipe with prompts.on_missing=skip",
            file=sys.stderr,
        )
