"""`lidr plan --strategies`: what each strategy takes per prompt, and how many prompts the method's tokens pay for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from lidr.commands.arena.entries import Entry
from lidr.commands.plan.plan import Plan, make_plan
from lidr.commands.plan.work import count_prompts
from lidr.config import Config
from lidr.machine.hardware import Hardware
from lidr.progress_bar import duration
from lidr.report.terminal import print_table


@dataclass(frozen=True, slots=True)
class Price:
    """What an entry takes in the first iteration, for each prompt. `seconds` are those of the whole run.

    `prompts` is the number for which it takes as many tokens as the first entry does for all.
    """

    entry: str
    generations: float
    scores: float
    tokens: float
    pairs: float
    seconds: float
    prompts: int


def find_prices(entries: Sequence[tuple[Entry, Config]], hardware: Hardware | None, folder: Path) -> list[Price]:
    """The prices of all entries, by the plan of each one's run; the first is what the others are compared with.

    What a run in `folder` has measured takes the place of estimates. Tokens of scores are those read, prompts included.
    """
    found: list[Price] = []
    for entry, config in entries:
        plan, prompts = make_plan(config, hardware, folder), count_prompts(config).groups
        generated = _sum(plan, ("respond", "translate"), "requests"), _sum(plan, ("score",), "requests")
        tokens = _sum(plan, ("respond", "translate"), "tokens_written") + _sum(plan, ("score",), "tokens_read")
        method = found[0].tokens * prompts if found else tokens
        each = tokens / prompts
        found.append(
            Price(
                entry.name,
                generated[0] / prompts,
                generated[1] / prompts,
                each,
                plan.pairs / prompts,
                plan.seconds,
                int(method / each + 1e-6) if each else prompts,
            )
        )
    return found


def _sum(plan: Plan, steps: Sequence[str], field: str) -> float:
    """Of the steps of the first iteration."""
    return sum(float(getattr(step, field)) for step in plan.steps if step.name in steps and 1 in step.iterations)


def print_prices(found: Sequence[Price]) -> None:
    table = Table(title=f"the first iteration, for each prompt; compared with {found[0].entry}")
    for header in (
        "",
        "generations",
        "scores",
        "tokens",
        "pairs at most",
        "prompts for the same tokens",
        "whole run, all prompts",
    ):
        table.add_column(header, justify="right" if header else "left")
    for each in found:
        figures = [f"{each.generations:.1f}", f"{each.scores:.0f}" if each.scores else "", f"{each.tokens:,.0f}"]
        table.add_row(each.entry, *figures, f"{each.pairs:.1f}", f"{each.prompts:,}", duration(each.seconds))
    print_table(table)
