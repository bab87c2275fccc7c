"""The standings as a document: one plot that tells it, the table, the languages, the costs, and how to repeat it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lidr.commands.arena.entries import REFERENCE, Arena
from lidr.commands.arena.standings import Gain, Spread, Standing, Standings
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
    note,
)
from lidr.report.formatting import join_names, language_name, p_value
from lidr.report.plots import draw, series_style
from lidr.results import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    first = standings.benchmarks[0]
    sections = [
        Section("summary", "", [Text((_lead(standings),), "lead"), Plot(gain_plot(standings, first), _CAPTION)]),
        *(Section(f"on-{name}", f"Standings on {name}", _benchmark(standings, name)) for name in standings.benchmarks),
        Section("costs", "What it took", [_costs(standings), *_drops(standings)]),
        _how(arena, standings),
    ]
    return Document(f"Arena: {standings.recipe}", "Strategies at equal budget.", facts, sections)


_CAPTION = (
    "Mean gain over the trained languages against the tokens that were generated or scored, from M0 over every "
    "iteration. Lines: the standard deviation over the seeds, at the last model."
)
_READ = (
    "Gain: percentage points over M0, the mean of the trained languages, then of the seeds. ±: standard deviation over "
    "the seeds. Against the method: the mean difference with Student's 95 % interval over the seeds, then the "
    "bootstrap interval and the p-value of the sign-flip test over the questions of these seeds. p-values are not "
    "corrected for the number of entries."
)


def _lead(standings: Standings) -> str:
    first = standings.benchmarks[0]
    best, method = standings.standings[0], _method(standings)
    gain = best.gains[first]
    told = (
        f"For the same {standings.budget:,} tokens per iteration, {best.entry} gained most on {first}: "
        f"{_points(gain.trained.mean)} percentage points over M0 in the mean of {len(standings.trained)} trained "
        f"languages and {_seeds(standings)}."
    )
    if best.entry == REFERENCE:
        return f"{told} It is the method itself."
    against = gain.against
    interval = against.seeds.ci95 if against else None
    told += f" The method ({REFERENCE}) gained {_points(method.gains[first].trained.mean)}"
    if interval is None:
        return f"{told}; with one seed nothing can be said of the spread."
    return f"{told}; the difference is {'beyond' if interval[0] > 0 else 'within'} the spread of the seeds."


def _method(standings: Standings) -> Standing:
    return next(each for each in standings.standings if each.entry == REFERENCE)


def _seeds(standings: Standings) -> str:
    count = len(standings.seeds)
    return "one seed" if count == 1 else f"{count} seeds"


def gain_plot(standings: Standings, benchmark: str) -> str:
    """Mean gain against tokens: a line per entry, a point per model."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axhline(0, color="#20252a", linewidth=0.8)
        for number, each in enumerate(standings.standings):
            colour, marker = series_style(number)
            tokens = [tokens / 1e6 for tokens, _ in each.path]
            gains = [100 * found[benchmark] for _, found in each.path]
            axes.plot(tokens, gains, color=colour, marker=marker, markersize=5, linewidth=1.6, label=each.entry)
            trained = each.gains[benchmark].trained
            if trained.sd:
                axes.errorbar(
                    [each.tokens / 1e6], [100 * trained.mean], yerr=[100 * trained.sd], color=colour, capsize=3,
                    elinewidth=1.2,
                )  # fmt: skip
        axes.set_xlabel("million tokens generated or scored")
        axes.set_ylabel(f"gain on {benchmark}, points")
        axes.set_xlim(left=0)
        axes.grid(color="#dde1e5", linewidth=0.6)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.8)

    return draw(paint, (7.4, 3.8), f"Gain on {benchmark} against tokens")


def _benchmark(standings: Standings, name: str) -> list[Block]:
    rows = [_standing_row(each, each.gains[name]) for each in standings.standings]
    header = ["", "gain", "per million tokens", "off target", "against the method", "over questions", "pairs"]
    codes = list(standings.before[name])
    trained = [code for code in codes if code in standings.trained]
    order = [*trained, *(code for code in codes if code not in trained)]
    titles = [language_name(code) + ("" if code in trained else _role(code, standings)) for code in order]
    by_language = [
        Row(Entry("M0"), [Entry(f"{100 * standings.before[name][code]:.1f}") for code in order]),
        *(
            Row(Entry(each.entry), [_spread(each.gains[name].by_language.get(code)) for code in order])
            for each in standings.standings
        ),
    ]
    plots: list[Block] = []
    if name != standings.benchmarks[0]:
        plots = [Plot(gain_plot(standings, name), _CAPTION)]
    return [
        *plots,
        Table(f"Standings on {name}", header, rows, _READ),
        Heading("By language"),
        Table(
            f"Gains on {name} by language", ["", *titles], by_language,
            "M0: share of right answers in percent over all questions. Entries: percentage points over M0, ± the "
            "standard deviation over the seeds.",
        ),
    ]  # fmt: skip


def _role(code: str, standings: Standings) -> str:
    return " (dominant)" if code == standings.dominant else " (not trained)"


def _standing_row(standing: Standing, gain: Gain) -> Row:
    against, off_target = gain.against, gain.off_target
    seeds = over = Entry("–")
    if against:
        interval = against.seeds.ci95
        seeds = Entry(_points(against.seeds.mean), (_interval(interval),) if interval else ())
        if against.questions and against.p is not None:
            over = Entry(_interval(against.questions), (p_value(against.p),))
    return Row(
        Entry(standing.entry),
        [
            _spread(gain.trained),
            Entry("–" if gain.per_million is None else _points(gain.per_million)),
            Entry("–" if off_target is None else f"{100 * off_target.mean:.1f} %"),
            seeds,
            over,
            Entry(f"{standing.pairs:,.0f}"),
        ],
    )


def _spread(found: Spread | None) -> Entry:
    if found is None:
        return Entry("–")
    return Entry(_points(found.mean), () if found.sd is None else (f"± {100 * found.sd:.1f}",))


def _points(value: float) -> str:
    """A share as signed percentage points."""
    text = f"{100 * value:+.1f}".replace("-", "−")
    return "0.0" if text[1:] == "0.0" else text


def _interval(bounds: Interval) -> str:
    return f"{_points(bounds[0])} to {_points(bounds[1])}"


def _costs(standings: Standings) -> Table:
    rows = [
        Row(
            Entry(each.entry),
            [
                Entry(f"{each.prompts:,}"),
                Entry(f"{each.tokens / max(1, len(each.path) - 1):,.0f}"),
                Entry(f"{each.pairs:,.0f}"),
                Entry(f"{each.seconds:,.0f}"),
                Entry(str(each.untrained or "")),
            ],
        )
        for each in standings.standings
    ]
    header = ["", "prompts", "tokens per iteration", "pairs, all iterations", "seconds", "seeds without a model"]
    return Table(
        "Costs", header, rows,
        "Means over the seeds. Tokens: generated as answers and translations or scored. Seconds: without evaluation; "
        "what an entry shares with others was made once, so its own run took less.",
    )  # fmt: skip


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
    entries = "\n".join(
        f"{each.entry}: {{{', '.join(f'{name}: {value}' for name, value in each.settings.items())}}}"
        for each in standings.standings
    )
    names = join_names([each.entry for each in standings.standings])
    said = (
        f"All of {names} started from the same model and prompts; who needs more tokens per prompt got fewer prompts. "
        "Each folder below seed_*/ is a run of its own, with its report. To add a line to a table of others, paste the "
        "row of an entry from "
    )
    return Section(
        "how",
        "How it was made",
        [
            Text((said, Code("arena.md"), ".")),
            Folded("Entries", "what each sets in the recipe", [Listing(entries, "yaml")], is_open=True),
            Folded("Recipe", "what all have in common", [Listing(dump_config(arena.base), "yaml")]),
            note("Seeds draw the decoding, the order of training and, in the laboratory, the prompts."),
            Text((Bold("lidr arena"), " goes on where it was stopped, and takes further entries and seeds.")),
        ],
    )
