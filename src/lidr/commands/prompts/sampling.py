"""A sample of a prompt set: drawn by a seed, without duplicates, within bounds, in the proportions of its strata."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lidr.cells import is_blank, text_cell
from lidr.commands.prompts.near_duplicates import NearDuplicates, normalized
from lidr.config import PromptFields
from lidr.errors import ConfigError, DataError
from lidr.languages import LANGUAGES
from lidr.records import Prompt, content_id, writable
from lidr.stages.prompt_files import note_id, scan_prompts, scratch_table, twice
from lidr.storage import local_path, write_text
from lidr.tables import language_files


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a sample should be like.

    Lengths are in characters; `near` is the Jaccard index from which a prompt is a near duplicate, None keeps these.
    """

    n: int
    seed: int = 42
    min_characters: int = 1
    max_characters: int | None = None
    near: float | None = 0.8
    stratify: str | None = None


@dataclass(slots=True)
class Sample:
    """The prompts in the order in which they were drawn, each with its stratum, and what was left out, by reason.

    `strata` are the numbers of (eligible, drawn) prompts of each stratum.
    """

    prompts: list[tuple[Prompt, str]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    strata: dict[str, tuple[int, int]] = field(default_factory=dict)


def draw_sample(
    rows: Iterable[tuple[str, Prompt, Mapping[str, object]]],
    wanted: Wanted,
    elsewhere: Mapping[str, Collection[str]] = {},
) -> Sample:
    """Draw `wanted.n` prompts, or as many as there are, of (place for messages, prompt, row).

    `elsewhere` are the ids that other languages have; what one of them lacks is left out. A prompt's place depends on
    the seed and its id alone, so the order of the rows makes no difference, and rows that are added change the sample
    as little as possible. Of equal prompts the one with the first id is kept, of nearly equal ones the first drawn.
    Rows are in a temporary database on disk. Raises DataError if nothing is left, and for an id with two texts.
    """
    sample = Sample()
    columns = "number INTEGER, place, id UNIQUE, language, text, answer, stratum, drawn, same UNIQUE"
    with scratch_table(columns) as table:
        kept = 0
        for number, (place, prompt, row) in enumerate(rows):
            if reason := _unwanted(prompt, wanted, elsewhere):
                sample.left_out[reason] += 1
            else:
                _insert(table, number, place, prompt, _stratum(row, wanted.stratify, place), wanted.seed)
                kept += 1
        eligible = dict(table.execute("SELECT stratum, COUNT(*) FROM prompt GROUP BY stratum ORDER BY stratum"))
        if kept > sum(eligible.values()):
            sample.left_out["duplicate"] = kept - sum(eligible.values())
        if not eligible:
            said = ", ".join(f"{count:,} {reason}" for reason, count in sorted(sample.left_out.items()))
            raise DataError(f"no prompt is left to draw from ({said or 'the source is empty'}); widen the bounds")
        _fill(sample, table, allocate(eligible, wanted.n), wanted)
    drawn = Counter(stratum for _, stratum in sample.prompts)
    sample.strata = {stratum: (count, drawn[stratum]) for stratum, count in eligible.items()}
    return sample


def _fill(sample: Sample, table: sqlite3.Connection, quotas: dict[str, int], wanted: Wanted) -> None:
    """Draw in order, first within the quotas; then fill the places of near duplicates from all strata."""
    near = NearDuplicates(wanted.near) if wanted.near is not None else None
    decided: set[int] = set()
    query = "SELECT number, id, language, text, answer, stratum FROM prompt ORDER BY drawn, id"
    for within_quotas in (True, False):
        for number, prompt_id, language, text, answer, stratum in table.execute(query):
            if len(sample.prompts) == wanted.n:
                return
            if number in decided or (within_quotas and not quotas[stratum]):
                continue
            decided.add(number)
            if near and near.seen(text):
                sample.left_out["near duplicate"] += 1
                continue
            sample.prompts.append((Prompt(prompt_id, language, text, answer), stratum))
            quotas[stratum] -= 1


def allocate(sizes: dict[str, int], n: int) -> dict[str, int]:
    """How many of `n` to take of each stratum: in proportion to the sizes, by largest remainders (ties by name)."""
    total = sum(sizes.values())
    n = min(n, total)
    quotas = {name: n * size // total for name, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda name: (-(n * sizes[name] % total), name))
    for name in by_remainder[: n - sum(quotas.values())]:
        quotas[name] += 1
    return quotas


def _unwanted(prompt: Prompt, wanted: Wanted, elsewhere: Mapping[str, Collection[str]]) -> str:
    """Why a prompt is left out; empty if it is not."""
    if not prompt.text.strip():
        return "empty"
    if len(prompt.text) < wanted.min_characters:
        return "too short"
    if wanted.max_characters is not None and len(prompt.text) > wanted.max_characters:
        return "too long"
    return next((f"missing in {code}" for code, ids in elsewhere.items() if prompt.prompt_id not in ids), "")


def _stratum(row: Mapping[str, object], name: str | None, place: str) -> str:
    if name is None:
        return ""
    if name not in row:
        raise DataError(f"{place}: no field {name!r} to stratify by (it has: {', '.join(map(str, row))})")
    value = row[name]
    if isinstance(value, str | bytes):
        return text_cell(value, place, name)
    value = None if is_blank(value) else value
    return writable(json.dumps(value, ensure_ascii=False, sort_keys=True, default=str))


def _insert(table: sqlite3.Connection, number: int, place: str, prompt: Prompt, stratum: str, seed: int) -> None:
    """Keep a prompt unless an equal one with an earlier id is there. Ids compare by length, then by text: 9 < 10."""
    drawn, same = content_id(seed, prompt.prompt_id), content_id(normalized(prompt.text))
    first = table.execute("SELECT same, place FROM prompt WHERE id = ?", (prompt.prompt_id,)).fetchone()
    if first and first[0] != same:
        raise twice(place, prompt.prompt_id, first[1])
    if not first:
        columns = ("number", "place", "id", "language", "text", "answer", "stratum", "drawn", "same")
        replaced = ", ".join(f"{name} = excluded.{name}" for name in columns)
        table.execute(
            f"INSERT INTO prompt VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (same) DO UPDATE SET {replaced} "
            "WHERE (LENGTH(excluded.id), excluded.id) < (LENGTH(prompt.id), prompt.id)",
            (number, place, prompt.prompt_id, prompt.language, prompt.text, prompt.answer, stratum, drawn, same),
        )


def write_sample(
    source: str,
    out: Path,
    wanted: Wanted,
    fields: PromptFields,
    split: str,
    configuration: str | None,
    language: str,
    task: str,
    force: bool,
) -> Sample:
    """Draw from `source` and write `out`: a file, or the same ids in every language of a folder of tables.

    A file with the same content is left alone. Raises ConfigError if `out` would replace something else.
    """
    if language not in LANGUAGES:
        raise ConfigError(f"--language {language}: unknown language; the known ones are {' '.join(LANGUAGES)}")
    folder = local_path(source, "source")
    codes = list(language_files(folder))
    if codes and language not in codes:
        raise ConfigError(f"{source}: it has {', '.join(codes)}, and no {language}; give --language")
    targets = _targets(out, codes, language, folder)
    others = [code for code in codes if code != language]
    elsewhere = {code: {prompt.prompt_id for prompt in _with_text(source, fields, code)} for code in others}
    scanned = scan_prompts(source, fields, split=split, configuration=configuration, language=language)
    sample = draw_sample(scanned, wanted, elsewhere)
    drawn = {language: [prompt for prompt, _ in sample.prompts]}
    drawn |= {code: _same_ids(_with_text(source, fields, code), drawn[language]) for code in others}
    strata = {prompt.prompt_id: stratum for prompt, stratum in sample.prompts}
    texts = {}
    for code, path in targets.items():
        instruction = LANGUAGES[code].answer_instruction if task == "arithmetic" else "{question}"
        texts[path] = "".join(_line(prompt, instruction, strata, wanted.stratify) for prompt in drawn[code])
    _write(texts, force)
    return sample


def _targets(out: Path, codes: list[str], language: str, source: Path) -> dict[str, Path]:
    """The file of each language. Raises ConfigError if writing them would do harm."""
    if not codes and out.suffix != ".jsonl":
        raise ConfigError(f"--out {out}: the sample is one table; name it with .jsonl at the end")
    targets = {code: out / f"{code}.jsonl" for code in codes} or {language: out}
    if source.resolve() in (out.resolve(), *(path.resolve() for path in targets.values())):
        raise ConfigError(f"--out {out}: that is the source itself; give another --out")
    if out.is_dir() != bool(codes) and out.exists():
        wanted = "a folder, since the source is one of <language> tables" if codes else "a file"
        raise ConfigError(f"--out {out}: it must be {wanted}; give another --out")
    stale = [code for code, file in language_files(out).items() if file not in targets.values()]
    if stale:
        raise ConfigError(f"{out}: it has tables that are not of this sample ({', '.join(stale)}); give another --out")
    return targets


def _write(texts: dict[Path, str], force: bool) -> None:
    for path, text in texts.items():
        if path.exists() and not force and path.read_text(encoding="utf-8", errors="replace") != text:
            raise ConfigError(f"{path} is there already and differs; give another --out, or --force to replace it")
    for path, text in texts.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
        except OSError as error:
            raise ConfigError(f"--out {path}: cannot be written: {error.strerror}; give another --out") from None


def _with_text(source: str, fields: PromptFields, code: str) -> Iterator[Prompt]:
    """One table of a folder; blank prompts count as missing. Raises DataError for an id that comes twice."""
    with scratch_table("id PRIMARY KEY, place") as seen:
        for place, prompt, _ in scan_prompts(source, fields, language=code, needs_answer=False):
            if prompt.text.strip():
                note_id(seen, prompt.prompt_id, place)
                yield prompt


def _same_ids(prompts: Iterable[Prompt], drawn: list[Prompt]) -> list[Prompt]:
    ids = {prompt.prompt_id for prompt in drawn}
    found = {prompt.prompt_id: prompt for prompt in prompts if prompt.prompt_id in ids}
    return [found[prompt.prompt_id] for prompt in drawn]


def _line(prompt: Prompt, instruction: str, strata: dict[str, str], stratify: str | None) -> str:
    row = {"id": prompt.prompt_id, "instruction": instruction.replace("{question}", prompt.text)}
    if prompt.answer is not None:
        row["answer"] = prompt.answer
    if stratify is not None:
        row.setdefault(stratify, strata[prompt.prompt_id])
    return json.dumps(row, ensure_ascii=False) + "\n"
