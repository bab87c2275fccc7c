"""Files of verdicts, checked entry by entry, and joined with the pairs that they are about."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lidr.commands.review.sheet import SCHEMA, VERDICTS_KIND, Sheet
from lidr.errors import DataError
from lidr.records import Row

Answer = Literal["A", "B", "tie", "unsure"]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Entry(_Closed):
    """The verdict on one pair, by the sides as they were shown; None if there is only a comment so far."""

    pair: str
    verdict: Answer | None
    comment: str = Field(max_length=10_000)


class Reviewer(_Closed):
    name: str = Field(min_length=1, max_length=200)
    level: Literal["native", "fluent", "learner"]

    @property
    def identity(self) -> str:
        """The name without differences in spaces and case."""
        return " ".join(self.name.casefold().split())


class VerdictFile(_Closed):
    """What the page saves: which sheet, who, when (ISO 8601), and one entry per edited pair."""

    schema_: Literal[1] = Field(alias="schema")
    kind: Literal["lidr-review-verdicts"]
    run: str
    iteration: int
    language: str
    sheet: str
    seed: int
    reviewer: Reviewer
    saved: str
    verdicts: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Judged(Row):
    """A verdict joined with its pair. `prefers` is "chosen", "rejected", "tie" or "unsure".

    `answer` is the verdict as given; the sheet showed the chosen side as A if `is_chosen_first`.
    """

    pair_id: str
    prompt_id: str
    iteration: int
    language: str
    reviewer: str
    level: str
    prefers: str
    answer: str
    is_chosen_first: bool
    comment: str

    @property
    def result(self) -> int | None:
        """1 if the chosen side is preferred, -1 if the rejected one is, 0 for a tie, None if not judged."""
        return {"chosen": 1, "rejected": -1, "tie": 0}.get(self.prefers)


def parse_verdicts(text: str, name: str) -> VerdictFile:
    """A file of verdicts. Raises DataError that names the file `name` and the field or entry that is wrong."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: no JSON ({error}); give the file as the review page saved it") from None
    if not isinstance(content, dict) or content.get("kind") != VERDICTS_KIND:
        raise DataError(
            f"{name}: no file of verdicts (kind {VERDICTS_KIND!r}); the review page's Save button makes one"
        )
    if content.get("schema") != SCHEMA:
        raise DataError(f"{name}: schema {content.get('schema')!r}; this version of lidr reads schema {SCHEMA}")
    try:
        return VerdictFile.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
        given = "" if first["type"] in ("missing", "extra_forbidden") else f", not {json.dumps(first['input'])[:60]}"
        raise DataError(f"{name}: {where}: {first['msg']}{given}") from None


def check_sheet(found: VerdictFile, sheet: Sheet, name: str) -> None:
    """Check that verdicts are about this sheet's pairs. If not, raises DataError that says what to do."""
    if found.sheet != sheet.fingerprint:
        raise DataError(
            f"{name}: these verdicts are about other pairs than run {sheet.run!r} has for {sheet.language!r} in "
            f"iteration {sheet.iteration}: the sheet was made from run {found.run!r} (sheet {found.sheet[:40]}, "
            f"here it would be {sheet.fingerprint}). Read them with the run that made the sheet; if that is this "
            "one, its pairs have been made again since, and a new sheet is needed"
        )


def join(found: VerdictFile, sheet: Sheet, pairs: Iterable[Mapping[str, object]], name: str) -> list[Judged]:
    """The judged entries of a file that is about `sheet`, with the pairs that they are about.

    `pairs` are all the pairs of the iteration and language. Raises DataError that names the entry, for a pair that is
    not among them and for one that occurs twice.
    """
    wanted: dict[str, int] = {}
    for number, entry in enumerate(found.verdicts):
        if entry.pair in wanted:
            raise DataError(
                f"{name}: verdicts[{number}]: pair {entry.pair!r} occurs twice (first in "
                f"verdicts[{wanted[entry.pair]}]); delete one of the two"
            )
        wanted[entry.pair] = number
    ids = {}
    for row in pairs:
        pair_id = str(row["id"])
        if (pair := sheet.pair_name(pair_id)) in wanted:
            ids[pair] = (pair_id, str(row["prompt_id"]))
    judged = []
    for number, entry in enumerate(found.verdicts):
        if entry.pair not in ids:
            raise DataError(
                f"{name}: verdicts[{number}]: pair {entry.pair[:40]!r} is not among the pairs of run {sheet.run!r}, "
                f"iteration {sheet.iteration}, {sheet.language}"
            )
        if entry.verdict is not None:
            judged.append(_judged(found, entry, sheet, *ids[entry.pair]))
    return judged


def _judged(found: VerdictFile, entry: Entry, sheet: Sheet, pair_id: str, prompt_id: str) -> Judged:
    assert entry.verdict is not None
    is_first = sheet.is_chosen_first(pair_id)
    prefers = {"A": "chosen" if is_first else "rejected", "B": "rejected" if is_first else "chosen"}
    name = " ".join(found.reviewer.name.split())
    return Judged(
        pair_id, prompt_id, sheet.iteration, sheet.language, name, found.reviewer.level,
        prefers.get(entry.verdict, entry.verdict), entry.verdict, is_first, entry.comment,
    )  # fmt: skip


def check_once(files: Sequence[tuple[str, VerdictFile, Sequence[Judged]]]) -> None:
    """Nobody judges a pair twice. Raises DataError that names the two files; `files` are (name, file, its verdicts)."""
    seen: dict[tuple[str, str], str] = {}
    for name, found, judged in files:
        for verdict in judged:
            known = seen.setdefault((found.reviewer.identity, verdict.pair_id), name)
            if known != name:
                raise DataError(
                    f"{name}: reviewer {found.reviewer.name!r} has judged pair {verdict.pair_id} (prompt "
                    f"{verdict.prompt_id}) in {known} already; give one of the two files alone, and "
                    f"delete {known} if the run's review/verdicts keeps it and this one is to count"
                )
