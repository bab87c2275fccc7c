"""The standings as a document: one plot that tells it, the table, the languages, the costs, and how to repeat it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import yaml

from lidr.commands.arena.entries import REFERENCE, Arena
from lidr.commands.arena.standings import Gain, Scale, Spread, Standing, Standings
from lidr.config import dump_config
from lidr.report.document import (
    Block,
    Bold,
    Code,
    Document,
    Entry,
    Folded,
    Heading,
    Inline,
    Listing,
    Plot,
    Row,
    Section,
    Table,
    Text,
)
from lidr.report.formatting import join_names, language_name, p_value
from lidr.report.plots import draw, series_style
from lidr.results import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_CAPTION = (
    "Mean gain over the trained languages against the tokens that were generated or scored, from M0 over every "
    "iteration. Upright lines: the standard deviation over the seeds, at the last model."
)
_READ = (
    "Gain: over M0, the mean of the trained languages, then of the seeds; percentage points for shares. ±: standard "
    "deviation over the seeds. Against the method: the mean difference with Student's 95 % interval over the seeds, "
    "then the bootstrap interval and the p-value of the sign-flip test over the questions of these seeds. Neither is "
    "corrected for the number of entries, of which the first one was picked as the best."
)
_OFF = 0.05  # of the budget; more is said in the lead


def make_document(arena: Arena, standings: Standings) -> Document:
    """The page of an arena, whether all of its runs have ended or not."""
    seeds = f"{len(standings.seeds)} ({', '.join(map(str, standings.seeds))})"
    facts: list[tuple[str, Inline]] = [
        ("Model", Code(standings.model)),
        ("Trained languages", ", ".join(map(language_name, standings.trained))),
        ("Iterations", str(standings.iterations)),
        ("Tokens per iteration", f"{standings.budget:,}"),
        ("Seeds", seeds),
    ]
    first = next(iter(standings.benchmarks))
    lead: list[Block] = [Text((_lead(standings, first),), "lead"), *_warnings(standings)]
    sections = [
        Section("summary", "", [*lead, Plot(gain_plot(standings, first), _CAPTION)]),
        *(
            Section(f"on-{name}", f"Standings on {name}", _benchmark(standings, name, scale, name == first))
            for name, scale in standings.benchmarks.items()
        ),
        Section("costs", "What it took", [_costs(standings), *_drops(standings)]),
        _how(arena, standings),
    ]
    return Document(f"Arena: {standings.recipe}", "Strategies at equal budget.", facts, sections)


def _lead(standings: Standings, name: str) -> str:
    best, scale = standings.standings[0], standings.benchmarks[name]
    method = next(each for each in standings.standings if each.entry == REFERENCE)
    gain, count = best.gains[name], len(standings.seeds)
    unit = "percentage points" if scale.is_share else scale.metric
    told = (
        f"For {standings.budget:,} tokens per iteration, {best.entry} gained most on {name}: "
        f"{scale.signed(gain.trained.mean)} {unit} over M0, the mean of "
        f"{join_names([language_name(code) for code in standings.compared[name]])} and of "
        f"{'one seed' if count == 1 else f'{count} seeds'}."
    )
    if best.entry == REFERENCE:
        return f"{told} It is the method itself."
    told += f" The method ({REFERENCE}) gained {scale.signed(method.gains[name].trained.mean)}"
    interval = gain.against.seeds.ci95 if gain.against else None
    if interval is None:
        return f"{told}; with one seed nothing can be said of the spread."
    return f"{told}; the difference is {'beyond' if interval[0] > 0 else 'within'} the spread of the seeds."


def _warnings(standings: Standings) -> list[Text]:
    """Entries that did not use what the others used."""
    off = [
        f"{each.entry} ({each.tokens / standings.budget - 1:+.0%})"
        for each in standings.standings
        if abs(each.tokens / standings.budget - 1) > _OFF
    ]
    if not off:
        return []
    said = f"Their tokens per iteration differ from the budget by more than {_OFF:.0%}: {join_names(off)}."
    return [Text((Bold("Not quite equal. "), said), "alarm")]


def gain_plot(standings: Standings, benchmark: str) -> str:
    """Mean gain against tokens: a line per entry, a point per model."""
    scale = standings.benchmarks[benchmark]
    factor = 100 if scale.is_share else 1

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axhline(0, color="#20252a", linewidth=0.8)
        for number, each in enumerate(standings.standings):
            colour, marker, line = series_style(number)
            tokens = [tokens / 1e6 for tokens, _ in each.path]
            gains = [factor * found[benchmark] for _, found in each.path]
            axes.plot(tokens, gains, line, color=colour, marker=marker, markersize=5, linewidth=1.6, label=each.entry)
            if spread := each.gains[benchmark].trained.sd:
                beside = tokens[-1] * (1.02 + 0.015 * number)  # all end in about the same place
                axes.errorbar(
                    [beside], gains[-1:], yerr=[factor * spread], color=colour, fmt=marker, markersize=3, capsize=2
                )
        axes.set_xlabel("million tokens generated or scored")
        axes.set_ylabel(f"gain on {benchmark}, {'points' if scale.is_share else scale.metric}")
        axes.set_xlim(left=0)
        axes.grid(color="#dde1e5", linewidth=0.6)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.8)

    return draw(paint, (7.4, 3.8), f"Gain on {benchmark} against tokens")


def _benchmark(standings: Standings, name: str, scale: Scale, is_first: bool) -> list[Block]:
    rows = [_standing_row(each, each.gains[name], scale) for each in standings.standings]
    header = ["", "gain", "per million tokens", "off target", "against the method", "over questions", "pairs"]
    codes = list(standings.before[name])
    trained = [code for code in codes if code in standings.trained]
    order = [*trained, *(code for code in codes if code not in trained)]
    titles = [language_name(code) + ("" if code in trained else _role(code, standings)) for code in order]
    by_language = [
        Row(Entry("M0"), [Entry(scale.plain(standings.before[name][code])) for code in order]),
        *(
            Row(Entry(each.entry), [_spread(each.gains[name].by_language.get(code), scale) for code in order])
            for each in standings.standings
        ),
    ]
    plots: list[Block] = [] if is_first else [Plot(gain_plot(standings, name), _CAPTION)]
    said = f"M0: its {scale.metric}{', in percent over all questions' if scale.is_share else ''}. Entries: their gains."
    return [
        *plots,
        Table(f"Standings on {name}", header, rows, _READ),
        Heading("By language"),
        Table(f"Gains on {name} by language", ["", *titles], by_language, said),
    ]


def _role(code: str, standings: Standings) -> str:
    return " (dominant)" if code == standings.dominant else " (not trained)"


def _standing_row(standing: Standing, gain: Gain, scale: Scale) -> Row:
    against, off_target = gain.against, gain.off_target
    seeds = over = Entry("–")
    if against:
        interval = against.seeds.ci95
        seeds = Entry(scale.signed(against.seeds.mean), (_interval(interval, scale),) if interval else ())
        if against.questions and against.p is not None:
            over = Entry(_interval(against.questions, scale), (p_value(against.p),))
    return Row(
        Entry(standing.entry),
        [
            _spread(gain.trained, scale),
            Entry("–" if gain.per_million is None else scale.signed(gain.per_million)),
            Entry("–" if off_target is None else f"{100 * off_target.mean:.1f} %"),
            seeds,
            over,
            Entry(f"{standing.pairs:,.0f}"),
        ],
    )


def _spread(found: Spread | None, scale: Scale) -> Entry:
    if found is None:
        return Entry("–")
    return Entry(scale.signed(found.mean), () if found.sd is None else (scale.size(found.sd),))


def _interval(bounds: Interval, scale: Scale) -> str:
    return f"{scale.signed(bounds[0])} to {scale.signed(bounds[1])}"


def _costs(standings: Standings) -> Table:
    rows = [
        Row(
            Entry(each.entry),
            [
                Entry(f"{each.prompts:,}"),
                Entry(f"{each.tokens:,.0f}"),
                Entry(f"{100 * each.tokens / standings.budget:.0f} %"),
                Entry(f"{each.pairs:,.0f}"),
                Entry(f"{each.seconds:,.0f}"),
                Entry(str(each.untrained or "")),
            ],
        )
        for each in standings.standings
    ]
    header = ["", "prompts", "tokens per iteration", "of the budget", "pairs", "seconds", "seeds without a model"]
    said = (
        "Means over the seeds; pairs and seconds of all iterations. Tokens: generated as answers and translations or "
        "scored. Seconds: without evaluation; rows that were taken from another run took none, so they cannot be "
        "compared between entries that share answers."
    )
    return Table("Costs", header, rows, said)


def _drops(standings: Standings) -> Sequence[Block]:
    lines = [
        Row(
            Entry(each.entry),
            [Entry(", ".join(f"{name} {count}" for name, count in each.dropped.items()), (), "words")],
        )
        for each in standings.standings
        if each.dropped
    ]
    table = Table("Pairs that were dropped", ["", "reasons, all seeds and iterations"], lines)
    return [Folded("Pairs that were dropped", "by reason", [table])] if lines else []


def _how(arena: Arena, standings: Standings) -> Section:
    entries = {each.entry: each.settings for each in standings.standings}
    said = (
        "All entries start from the same model and prompts; who needs more tokens per prompt got fewer prompts. Each "
        "folder below seed_*/ is a run of its own, with its report. "
    )
    return Section(
        "how",
        "How it was made",
        [
            Text((said, Bold("lidr arena"), " goes on where it was stopped, and takes further entries and seeds.")),
            Folded(
                "Entries", "what each sets in the recipe",
                [Listing(yaml.safe_dump(entries, sort_keys=False, allow_unicode=True), "yaml")], is_open=True,
            ),
            Folded("Recipe", "what all have in common", [Listing(dump_config(arena.base), "yaml")]),
        ],
    )  # fmt: skip
