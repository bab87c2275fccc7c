"""What the judge said: win, tie and lose by language, ratings by category, and the judge's own habits and cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lidr.config import Config
from lidr.judges import read_replies, usage
from lidr.records import Json
from lidr.report.document import Beside, Block, Entry, Heading, Plot, Row, Section, Table, Text, figure, note
from lidr.report.formatting import join_names, language_name, number, p_value, percent
from lidr.report.measures import Cell, MeasureRow, cell_of, language_order, mean_cell, role
from lidr.report.plots import interval_plot, outcome_plot
from lidr.report.rows import bootstrap_cell, first_position, mean_by_question
from lidr.report.unreliable import NOTABLE
from lidr.results import Metrics, Results
from lidr.run_dir import RunDir

# (model, benchmark, language) -> the rows that were scored.
Scored = Callable[[str, str, str], Iterator[Json]]

HEAD_TO_HEAD = "head_to_head"
_LARGE_BIAS = 0.1


@dataclass(frozen=True, slots=True)
class Outcomes:
    """One model against another: a row per language, whose cells are the shares of wins, ties and losses."""

    benchmark: str
    model: str
    opponent: str
    rows: list[MeasureRow]  # p is the sign test of wins against losses
    counts: list[int]

    @property
    def title(self) -> str:
        return f"{self.model} against {self.opponent}"

    @property
    def mean(self) -> MeasureRow:
        """The mean over the trained languages; over all if none was trained."""
        rows = [row for row in self.rows if row.role == "trained"] or self.rows
        cells: list[Cell | None] = [mean_cell([row.cells[part] for row in rows]) for part in range(3)]
        return MeasureRow("", " · ".join(row.name for row in rows), "mean", cells)

    def blocks(self) -> list[Block]:
        """The bars beside their figures."""
        label = f"{self.benchmark}: {self.title}"
        bars = outcome_plot(
            [(row.title, row.cells) for row in self.rows], ["wins", "ties", "losses"], f"{label}, by language"
        )
        how = (
            "Both orders are judged; if they contradict each other it is a tie. p: sign test of wins against losses, "
            "per language, not corrected for their number. The line in a bar is the 95 % interval of the share of wins."
        )
        return [Heading(label), note(how), Beside(Plot(bars), self._table())]

    def _table(self) -> Table:
        rows = [
            Row(
                Entry(row.name, badge=row.label),
                [*map(figure, row.cells), Entry("–" if row.p is None else p_value(row.p)), Entry(f"{count:,}")],
            )
            for row, count in zip(self.rows, self.counts, strict=True)
        ]
        if len(self.rows) > 1:
            name = f"Mean of {len(self.mean.name.split(' · '))} languages"
            rows.append(Row(Entry(name), [*map(figure, self.mean.cells), Entry(""), Entry("")], "mean"))
        header = ["Language", "Wins", "Ties", "Losses", "Sign test", "Questions"]
        return Table(f"{self.benchmark}, {self.title}", header, rows)


def read_outcomes(results: Results, config: Config) -> list[Outcomes]:
    """One entry per model that was compared."""
    against = getattr(config.evaluation.benchmarks.get(HEAD_TO_HEAD), "against", "M0")
    opponent = against if against == "M0" else Path(against).name
    found = []
    for model in results.models:
        languages = {
            code: metrics
            for code, metrics in model.benchmarks.get(HEAD_TO_HEAD, {}).items()
            if all(metrics.metric(part) for part in ("win", "tie", "lose"))
        }
        codes = language_order(languages, config)
        rows = [
            MeasureRow(
                code, language_name(code), role(code, config),
                [cell_of(languages[code].metric(part)) for part in ("win", "tie", "lose")],
                languages[code].value("sign_test_p"),
            )
            for code in codes
        ]  # fmt: skip
        if rows:
            counts = [languages[code].count("n") for code in codes]
            found.append(Outcomes(HEAD_TO_HEAD, model.name, opponent, rows, counts))
    return found


def categories(results: Results, config: Config, scored: Scored) -> list[Block]:
    """MT-Bench by turn and category: first and last model, all languages together, and a table by language."""
    found = {model.name: languages for model in results.models if (languages := model.benchmarks.get("mt_bench"))}
    if not found:
        return []
    names = list(dict.fromkeys((next(iter(found)), list(found)[-1])))  # first and last
    known = list(
        dict.fromkeys(
            name for model in names for metrics in found[model].values() for name in metrics.by_category or ()
        )
    )
    if not known:
        return []
    codes = language_order((code for model in names for code in found[model]), config)
    ratings = {model: [row for code in found[model] for row in scored(model, "mt_bench", code)] for model in names}
    turns = [("First turn", "1"), ("Second turn", "2")]
    series = []
    for model, rows in ratings.items():
        cells = [mean_by_question([row for row in rows if str(row["question_id"]).endswith(f".{t}")]) for _, t in turns]
        cells += [mean_by_question([row for row in rows if row["group"] == name]) for name in known]
        series.append((model, cells))
    labels = [*(title for title, _ in turns), *(name.capitalize() or "No category" for name in known)]
    plot = interval_plot(labels, series, "mt_bench: score by turn and category", (1.0, 10.0))
    table = _category_table(labels[2:], known, codes, [found[model] for model in names], names)
    return [Heading("mt_bench: score by turn and category"), Plot(plot), table]


def _category_table(
    labels: Sequence[str], known: Sequence[str], codes: Sequence[str],
    found: Sequence[Mapping[str, Metrics]], names: Sequence[str],
) -> Table:  # fmt: skip
    rows = []
    for label, category in zip(labels, known, strict=True):
        cells = []
        for code in codes:
            rated = [languages[code].by_category or {} if code in languages else {} for languages in found]
            values = [by_category.get(category) for by_category in rated]
            cells.append(Entry(" → ".join("–" if value is None else f"{value:.2f}" for value in values)))
        rows.append(Row(Entry(label), cells))
    how = (
        f"{' → '.join(names)}, the judge's mean rating. In the plot all languages together, with 95 % intervals by "
        "bootstrap over the questions."
    )
    return Table("mt_bench by category", ["Category", *map(language_name, codes)], rows, how)


@dataclass(frozen=True, slots=True)
class JudgeRow:
    """What the judge did for one benchmark in one language, all models together."""

    benchmark: str
    code: str
    requests: int
    read: int  # tokens
    written: int
    cost: float | None  # USD
    verdicts: int
    unscored: int
    ruled: int
    first_position: Cell | None
    consistent: float | None

    @property
    def name(self) -> str:
        return f"{self.benchmark}, {language_name(self.code)}"

    @property
    def share_unscored(self) -> float | None:
        return self.unscored / self.verdicts if self.verdicts else None


def read_judge(results: Results, config: Config, scored: Scored) -> list[JudgeRow]:
    """A row per judged benchmark and language."""
    rows = []
    for benchmark in results.benchmarks:
        by_model = {
            model.name: {code: metrics for code, metrics in model.benchmarks[benchmark].items() if metrics.judge}
            for model in results.models
            if benchmark in model.benchmarks
        }
        for code in language_order((code for languages in by_model.values() for code in languages), config):
            parts = {name: languages[code] for name, languages in by_model.items() if code in languages}
            values = [value for name in parts for value in first_position(scored(name, benchmark, code))]
            rows.append(_judge_row(benchmark, code, list(parts.values()), bootstrap_cell(values)))
    return rows


def _judge_row(benchmark: str, code: str, parts: Sequence[Metrics], drawn: Cell | None) -> JudgeRow:
    """`parts` are the metrics of the models; `drawn` is the preference for the first answer, by the verdicts."""
    usages = [part.judge for part in parts if part.judge]
    costs = [usage.cost_usd for usage in usages]

    def mean(key: str) -> float | None:
        known = [(part.value(key), part.count("n") - part.count("ruled")) for part in parts]
        judged = sum(count for value, count in known if value is not None)
        return sum(value * count for value, count in known if value is not None) / judged if judged else None

    is_compared = any("first_position" in part.values for part in parts)
    unscored, ruled = (sum(part.count(name) for part in parts) for name in ("unscored", "ruled"))
    requests = sum(usage.requests for usage in usages)
    # For ratings, `n` counts questions, which have two turns; each turn took a request or was decided by a rule.
    verdicts = sum(part.count("n") for part in parts) + unscored if is_compared else requests + ruled
    position = mean("first_position")
    return JudgeRow(
        benchmark, code, requests, sum(usage.prompt_tokens for usage in usages),
        sum(usage.completion_tokens for usage in usages),
        None if None in costs else sum(cost or 0.0 for cost in costs), verdicts, unscored, ruled,
        drawn or (None if position is None else Cell(position)), mean("consistent"),
    )  # fmt: skip


def judge_section(rows: Sequence[JudgeRow], config: Config, run_dir: RunDir) -> Section | None:
    """What the judge did and cost, and whether it prefers the answer that it is shown first."""
    if not rows:
        return None
    caption = "Position bias: preference for the answer shown first, with 95 % intervals; 0.5 is no bias"
    plot = position_plot(rows, config)
    blocks: list[Block] = [Text((judge_total(rows, config, run_dir),)), *([Plot(plot, caption)] if plot else [])]
    return Section("judge", "Judge", [*blocks, _judge_table(rows)])


def _judge_table(rows: Sequence[JudgeRow]) -> Table:
    lines = []
    for row in rows:
        counts = [f"{count:,}" for count in (row.requests, row.read, row.written)]
        counts += [_usd(row.cost), *(f"{count:,}" for count in (row.verdicts, row.unscored, row.ruled))]
        cells = [*map(Entry, counts), figure(row.first_position), Entry(number(row.consistent))]
        lines.append(Row(Entry(row.name), cells))
    header = ["Benchmark, language", "Requests", "Tokens read", "Tokens written", "Cost (USD)", "Verdicts", "Unscored",
              "By rule", "First position", "Consistent"]  # fmt: skip
    how = (
        "All models together. Unscored: no verdict can be read from the judge's reply, and the answer counts on "
        "neither side. By rule: equal, empty or in the wrong language, not asked. First position: mean preference for "
        "the answer shown first, 0.5 is no bias; both orders are asked, so that it cancels out. Consistent: share of "
        "the pairs judged alike in both orders."
    )
    return Table("The judge", header, lines, how)


def position_plot(rows: Sequence[JudgeRow], config: Config) -> str | None:
    """The judge's preference for the first answer, by language and benchmark."""
    known = [row for row in rows if row.first_position]
    codes = language_order((row.code for row in known), config)
    if not codes:
        return None
    series = []
    for benchmark in dict.fromkeys(row.benchmark for row in known):
        by_code = {row.code: row.first_position for row in known if row.benchmark == benchmark}
        series.append((benchmark, [by_code.get(code) for code in codes]))
    label = "The judge's preference for the answer shown first, by language"
    return interval_plot([language_name(code) for code in codes], series, label, middle=0.5)


def judge_total(rows: Sequence[JudgeRow], config: Config, run_dir: RunDir) -> str:
    """One sentence on what the judge cost, by all of its replies that the run keeps."""
    judge = config.evaluation.judge
    if not (rows and judge):
        return ""
    total = usage(judge, read_replies(run_dir.judge_replies, judge.model))
    if not total.requests:  # the replies are gone
        return f"{judge.model}: {sum(row.requests for row in rows):,} requests."
    cost = "" if total.cost_usd is None else f", {_usd(total.cost_usd)} USD"
    return (
        f"{judge.model}: {total.requests:,} requests in all, {total.prompt_tokens:,} tokens read and "
        f"{total.completion_tokens:,} written{cost}. What two benchmarks or the probe ask alike is asked once."
    )


def judge_warnings(rows: Sequence[JudgeRow]) -> list[tuple[str, str]]:
    """(topic, sentence) if the judge should be checked before anybody relies on it."""
    found = []
    biased = [row for row in rows if row.first_position and abs(row.first_position.value - 0.5) > _LARGE_BIAS]
    if biased:
        places = _places([(row, figure(row.first_position).text) for row in biased])
        found.append(
            ("Judge's position bias", f"Its preference for the answer shown first is far from 0.5: {places}. Both "
             "orders are asked, so it cancels out, but it makes ties where another judge would decide.")
        )  # fmt: skip
    silent = [row for row in rows if (row.share_unscored or 0) > NOTABLE]
    if silent:
        places = _places([(row, percent(row.share_unscored)) for row in silent])
        found.append(("Judge without verdict", f"From more than 5 % of its replies no verdict can be read: {places}."))
    return found


def _places(found: Sequence[tuple[JudgeRow, str]]) -> str:
    """`head_to_head in Spanish (0.63) and French (0.71); mt_bench in ...`."""
    by_benchmark: dict[str, list[str]] = defaultdict(list)
    for row, value in found:
        by_benchmark[row.benchmark].append(f"{language_name(row.code)} ({value})")
    return "; ".join(f"{benchmark} in {join_names(names)}" for benchmark, names in by_benchmark.items())


def _usd(cost: float | None) -> str:
    return "—" if cost is None else f"{cost:,.2f}"
