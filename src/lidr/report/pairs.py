"""What became of the candidates, and some of the pairs to read."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from lidr.config import Config
from lidr.records import PreferencePair
from lidr.report.document import Answer, Block, Entry, Folded, Heading, Row, Sample, Section, Table, note
from lidr.report.formatting import language_name, percent, printable
from lidr.results import IterationResults
from lidr.stages.pairs import REASONS
from lidr.strategies.base import strategy_of

T = TypeVar("T")
# Reasons whose detail differs by row, a number or words of the text, so that counting the details says nothing.
_OWN_DETAIL = {
    "length_ratio", "near_identical", "chosen_switches_language", "chosen_mixed_languages", "result_changed",
    "same_result",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class DropRow:
    """One reason: its counts by language, in the order of the table's languages, and in all."""

    reason: str
    meaning: str
    examples: str
    counts: list[int]
    total: int


@dataclass(frozen=True, slots=True)
class PairTable:
    """What became of the candidates of one iteration."""

    iteration: int
    codes: list[str]
    kept: list[int]
    rows: list[DropRow]

    @property
    def total(self) -> int:
        return sum(self.kept)

    @property
    def dropped(self) -> int:
        return sum(row.total for row in self.rows)

    def title(self) -> str:
        return f"Iteration {self.iteration}: {self.total:,} pairs, {self.dropped:,} dropped"

    def table(self) -> Table:
        """Languages in columns: pairs, their share of the candidates, and a row per reason."""
        candidates = [kept + sum(row.counts[i] for row in self.rows) for i, kept in enumerate(self.kept)]
        shares = [
            kept / count if count else None
            for kept, count in zip([*self.kept, self.total], [*candidates, sum(candidates)], strict=True)
        ]
        rows = [
            Row(
                Entry("Pairs", style="strong"),
                [
                    *(Entry(f"{count:,}", style="strong") for count in (*self.kept, self.total)),
                    Entry("What the model was trained on.", style="words"),
                ],
            ),
            Row(
                Entry("Share kept"),
                [*map(Entry, map(percent, shares)), Entry("Pairs among the candidates.", style="words")],
            ),
        ]
        for row in self.rows:
            counts = [Entry(f"{count:,}", style="" if count else "zero") for count in row.counts]
            often = (f"Most often: {row.examples}",) if row.examples else ()
            meaning = Entry(row.meaning, often, "words")
            rows.append(Row(Entry(row.reason, style="code"), [*counts, Entry(f"{row.total:,}"), meaning]))
        header = ["", *map(language_name, self.codes), "All", "Meaning"]
        return Table(f"Iteration {self.iteration}: pairs and drops", header, rows)


def pairs_section(tables: Sequence[PairTable]) -> Section | None:
    blocks: list[Block] = [note("A candidate becomes a pair or is counted under exactly one reason.")]
    for table in tables:
        blocks += [Heading(table.title()), table.table()]
    return Section("pairs", "Pairs, and what was dropped", blocks, short="Pairs") if tables else None


def pair_table(iteration: IterationResults, details: dict[str, Counter[str]], config: Config) -> PairTable:
    """One iteration of results.json as a table; the most frequent reason first."""
    pairs, by_language = iteration.pairs, iteration.dropped_by_language
    found = dict.fromkeys((*pairs, *by_language))
    codes = [code for code in config.languages if code in found] + [c for c in found if c not in config.languages]
    totals = Counter(iteration.dropped)
    for reason in {reason for reasons in by_language.values() for reason in reasons}:
        totals[reason] = max(totals[reason], sum(reasons.get(reason, 0) for reasons in by_language.values()))
    rows, reasons = [], REASONS | strategy_of(config).meanings()
    for reason, total in sorted(totals.items(), key=lambda item: (-item[1], item[0])):
        counts = [by_language.get(code, {}).get(reason, 0) for code in codes]
        common = [] if reason in _OWN_DETAIL else details.get(reason, Counter()).most_common(3)
        examples = ", ".join(f"{detail.replace('->', ' → ')} ({count:,})" for detail, count in common if detail)
        rows.append(DropRow(reason, reasons.get(reason, "No description."), examples, counts, total))
    return PairTable(iteration.iteration, codes, [pairs.get(code, 0) for code in codes], rows)


def drop_details(rows: Iterable[Mapping[str, object]]) -> dict[str, Counter[str]]:
    """Reason -> how often each detail (an origin, a language, a side) was given for it."""
    details: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        reason = str(row.get("reason", ""))
        if reason not in _OWN_DETAIL:
            details[reason][str(row.get("detail", ""))] += 1
    return details


def reservoir(rows: Iterable[T], size: int, seed: str) -> list[T]:
    """`size` rows at random, in their order; no more than these are in memory (Vitter 1985, algorithm R)."""
    draw = random.Random(seed)
    kept: list[tuple[int, T]] = []
    for position, row in enumerate(rows):
        if len(kept) < size:
            kept.append((position, row))
        elif (slot := draw.randrange(position + 1)) < size:
            kept[slot] = (position, row)
    return [row for _, row in sorted(kept, key=lambda item: item[0])]


def samples_section(iteration: int | None, samples: Mapping[str, Sequence[Sample]]) -> Section | None:
    """Some of an iteration's pairs by language."""
    if not samples:
        return None
    said = f"Drawn at random from iteration {iteration}. The answers are the model's own; nobody has checked them."
    folded = [
        Folded(language_name(code), f"{len(pairs)} pairs", pairs, is_open=number == 0)
        for number, (code, pairs) in enumerate(samples.items())
    ]
    return Section("samples", "Pairs to read", [note(said), *folded])


def sample(pair: PreferencePair) -> Sample:
    """A pair as the report shows it."""
    code = pair.language
    chosen, rejected = (
        Answer(printable(text), _target(origin) or code, _origin_in_words(origin))
        for text, origin in ((pair.chosen, pair.chosen_from), (pair.rejected, pair.rejected_from))
    )
    title = (f"Prompt {printable(pair.prompt_id)}",)
    prompt = Answer(printable(pair.prompt), code)
    return Sample(title, prompt, [("Chosen", "chosen", chosen), ("Rejected", "rejected", rejected)])


def _target(origin: str) -> str:
    code = origin.rpartition("->")[2]
    return code if re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]+)*", code) else ""


def _origin_in_words(origin: str) -> str:
    """`en->es` and `es` as people say it."""
    source, arrow, target = origin.partition("->")
    if arrow:
        return f"{language_name(source)} answer, translated into {language_name(target)} by the model"
    return f"direct answer to the {language_name(origin)} prompt"
