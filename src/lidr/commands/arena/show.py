"""The standings on a terminal."""

from __future__ import annotations

from rich.table import Table

from lidr.commands.arena.standings import Scale, Spread, Standings
from lidr.report.terminal import print_table


def print_standings(standings: Standings) -> None:
    """A table per benchmark, best first."""
    for name, scale in standings.benchmarks.items():
        codes = list(dict.fromkeys([*standings.compared[name], standings.dominant]))
        unit = "percentage points" if scale.is_share else scale.metric
        table = Table(title=f"{standings.recipe}: gains on {name} in {unit}, {standings.budget:,} tokens per iteration")
        for header in ("", "mean", "against imbalance", *codes, "prompts", "pairs"):
            table.add_column(header, justify="right" if header else "left", no_wrap=True)
        for each in standings.standings:
            gain = each.gains[name]
            against = _shown(gain.against.seeds, scale) if gain.against else ""
            found = (gain.by_language.get(code) for code in codes)
            languages = ["" if spread is None else scale.signed(spread.mean) for spread in found]
            figures = [_shown(gain.trained, scale), against, *languages, f"{each.prompts:,}", f"{each.pairs:,.0f}"]
            table.add_row(each.entry, *figures)
        print_table(table)


def _shown(found: Spread, scale: Scale) -> str:
    """A mean, with the standard deviation over the seeds."""
    return scale.signed(found.mean) + ("" if found.sd is None else f" {scale.size(found.sd)}")
