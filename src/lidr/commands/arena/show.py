"""The standings on a terminal."""

from __future__ import annotations

from rich.table import Table

from lidr.commands.arena.standings import Spread, Standings
from lidr.report.terminal import print_table


def print_standings(standings: Standings) -> None:
    """A table per benchmark, best first."""
    codes = [*standings.trained, standings.dominant]
    for name in standings.benchmarks:
        title = f"{standings.recipe}: gains on {name} in points, {standings.budget:,} tokens per iteration"
        table = Table(title=title)
        for header in ("", "mean", "against imbalance", *codes, "prompts", "pairs"):
            table.add_column(header, justify="right" if header else "left", no_wrap=True)
        for each in standings.standings:
            gain = each.gains[name]
            against = _shown(gain.against.seeds) if gain.against else ""
            languages = [_points(gain.by_language.get(code)) for code in codes]
            table.add_row(
                each.entry, _shown(gain.trained), against, *languages, f"{each.prompts:,}", f"{each.pairs:,.0f}"
            )
        print_table(table)


def _points(found: Spread | None) -> str:
    return "" if found is None else f"{100 * found.mean:+.1f}"


def _shown(found: Spread) -> str:
    """Percentage points, with the standard deviation over the seeds."""
    return _points(found) + ("" if found.sd is None else f" ± {100 * found.sd:.1f}")
