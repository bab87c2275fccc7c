"""Step 1: the prompts, x_i^l, aligned by id over the languages."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING

from lidr.config import LABORATORIES, Config, PromptsConfig
from lidr.errors import ConfigError, DataError
from lidr.languages import get_language
from lidr.records import Json, Prompt, content_id
from lidr.run_dir import RunDir
from lidr.seals import Inputs, Outputs, is_sealed, read_rows, write_sealed
from lidr.stages.prompt_files import (
    LanguageRow,
    blank,
    language_cell,
    language_code,
    make_prompt,
    read_hub_rows,
    scratch_table,
    twice,
)
from lidr.storage import local_path, stamps
from lidr.tables import SUFFIXES, language_files, read_table

if TYPE_CHECKING:
    from lidr.lab import World

_LOADER_VERSION = 2
_FIELD = "prompts.path"


def inputs(config: Config, run: RunDir, iteration: int) -> Inputs:
    """Everything that the prompts depend on; a file counts by its size and time of change."""
    found = _source_inputs(config, config.languages) | {"dominant": config.dominant}
    return found | {"held_out": content_id(held_out_inputs(config))} if config.probe else found


def outputs(config: Config, run: RunDir, iteration: int) -> Outputs:
    return [(run.prompts(iteration), inputs(config, run, iteration))]


def run(config: Config, run_dir: RunDir, iteration: int) -> None:
    """Read, check and align the prompts, and write them to one file, all languages of a prompt together."""
    rows = load_prompts(config, _held_out_ids(config, run_dir))
    write_sealed(run_dir.prompts(iteration), inputs(config, run_dir, iteration), (row.to_json() for row in rows))


def hold_out(config: Config, run_dir: RunDir) -> list[dict[str, Prompt]]:
    """The probe's sample, by language, which is drawn by the seed and kept out of training.

    Raises DataError if it would leave nothing to train on.
    """
    made_from = held_out_inputs(config)
    if not is_sealed(run_dir.held_out(), made_from):
        wanted = config.model_copy(update={"languages": made_from["languages"]})
        write_sealed(run_dir.held_out(), made_from, (prompt.to_json() for prompt in load_held_out(wanted)))
    return list(_groups(run_dir.held_out()))


def held_out_inputs(config: Config) -> Inputs:
    """Everything that the probe's sample depends on."""
    assert config.probe is not None
    languages = config.probe.languages or config.languages
    return _source_inputs(config, languages) | {"sample": config.probe.prompts, "seed": config.seed}


def _held_out_ids(config: Config, run_dir: RunDir) -> frozenset[str]:
    if config.probe is None:
        return frozenset()
    return frozenset(next(iter(group.values())).prompt_id for group in hold_out(config, run_dir))


def _source_inputs(config: Config, languages: list[str]) -> Inputs:
    return {
        "format": _LOADER_VERSION,
        "prompts": config.prompt_source.model_dump(),
        "languages": languages,
        "files": stamps(config.prompt_source.path, _FIELD),
        "seed": config.seed if config.prompt_source.path in LABORATORIES else None,  # they draw their facts
    }


def read_groups(run_dir: RunDir, iteration: int) -> Iterator[dict[str, Prompt]]:
    """The sealed prompts one id at a time, by language."""
    return _groups(run_dir.prompts(iteration))


def _groups(path: Path) -> Iterator[dict[str, Prompt]]:
    return grouped(Prompt.from_dict(row) for row in read_rows(path))


def grouped(rows: Iterable[Prompt]) -> Iterator[dict[str, Prompt]]:
    """One id at a time, by language, of rows in which an id's languages are together."""
    for _, group in groupby(rows, key=lambda prompt: prompt.prompt_id):
        yield {prompt.language: prompt for prompt in group}


def load_prompts(config: Config, held_out: Collection[str] = ()) -> Iterator[Prompt]:
    """The recipe's prompts in the order of the dominant language's file, all languages of an id together.

    Those in `held_out` are left out. Rows are aligned in a temporary database on disk, so a million of them need no
    memory. Raises DataError for bad rows, duplicate ids and, with `on_missing: error`, ids that a language lacks.
    """
    if config.prompt_source.path in LABORATORIES:
        rows = _laboratory(config).training_prompts(config.languages, seed=config.seed)
        yield from islice(rows, _rows_in_limit(config))
        return
    with _aligned(config) as table:
        ids = "SELECT id FROM prompt GROUP BY id ORDER BY MIN(language != ?), MIN(number)"
        kept = (prompt_id for (prompt_id,) in table.execute(ids, (config.dominant,)) if prompt_id not in held_out)
        found = 0
        for prompt_id in islice(kept, config.prompt_source.limit):
            yield from _prompt(table, config, prompt_id)
            found += 1
        if not found and held_out:
            raise DataError(f"probe.prompts: the sample of {len(held_out)} leaves nothing to train on; make it smaller")
        if not found:
            path = config.prompt_source.path
            raise DataError(f"{path}: no prompts in it; check prompts.path and prompts.split")


def load_held_out(config: Config) -> Iterator[Prompt]:
    """A sample of the recipe's prompts for the probe: those whose ids come first in an order drawn by the seed.

    In the laboratory, what the training prompts ask for in a form that they never use.
    """
    assert config.probe is not None
    if config.prompt_source.path in LABORATORIES:
        rows = _laboratory(config).held_out_prompts(config.languages, seed=config.seed)
        yield from islice(rows, config.probe.prompts * len(config.languages))
        return
    with _aligned(config) as table:
        table.create_function("drawn", 1, lambda prompt_id: content_id(config.seed, prompt_id), deterministic=True)
        ids = table.execute("SELECT id FROM prompt GROUP BY id ORDER BY drawn(id) LIMIT ?", (config.probe.prompts,))
        for (prompt_id,) in ids:
            yield from _prompt(table, config, prompt_id)


def _laboratory(config: Config) -> World:
    """The world that the prompts are about. Raises ConfigError for languages that it does not have."""
    from lidr.lab import read_world

    found = read_world(config.prompt_source.path)
    unknown = [code for code in config.languages if code not in found.LANGUAGES]
    if unknown:
        raise ConfigError(f"the laboratory has no {', '.join(unknown)}; it has {', '.join(found.LANGUAGES)}")
    return found


@contextmanager
def _aligned(config: Config) -> Iterator[sqlite3.Connection]:
    """All rows of the source in a temporary database on disk."""
    # Rows lie in the order in which they come. In the index of the key, which also holds `number`, all languages of an
    # id are together: finding the order of the ids, and an id's rows, reads no other row.
    columns = "number INTEGER PRIMARY KEY, language, id, text, answer, place, UNIQUE (id, language)"
    with scratch_table(columns) as table:
        found: Counter[str] = Counter()
        for number, (language, place, row) in enumerate(_read_source(config)):
            found[language] += 1
            _insert(table, config.prompt_source, language, place, row, (number, found[language]))
        yield table


def _insert(
    table: sqlite3.Connection, prompts: PromptsConfig, language: str, place: str, row: Json, numbers: tuple[int, int]
) -> None:
    """Keep one row; `numbers` are its places among all rows and, from 1, in its language."""
    made = make_prompt(row, place, numbers[1], prompts.fields, language)
    if not made.text.strip():
        raise blank(place, made.prompt_id, prompts.fields)
    try:
        values = (numbers[0], language, made.prompt_id, made.text, made.answer, place)
        table.execute("INSERT INTO prompt VALUES (?, ?, ?, ?, ?, ?)", values)
    except sqlite3.IntegrityError:
        query = "SELECT place FROM prompt WHERE language = ? AND id = ?"
        first = table.execute(query, (language, made.prompt_id)).fetchone()[0]
        raise twice(place, made.prompt_id, first) from None


def _prompt(table: sqlite3.Connection, config: Config, prompt_id: str) -> Iterator[Prompt]:
    """One id in all languages. Raises DataError if one lacks it and the recipe does not skip such ids."""
    query = "SELECT language, text, answer, place FROM prompt WHERE id = ?"
    rows = {row[0]: row for row in table.execute(query, (prompt_id,))}
    missing = [code for code in config.languages if code not in rows]
    if missing and config.prompt_source.on_missing == "error":
        raise DataError(
            f"{next(iter(rows.values()))[3]}: prompt {prompt_id!r} is missing in {', '.join(missing)}; "
            "add it there, or set prompts.on_missing=skip to leave it out in those languages"
        )
    for code in config.languages:
        if code in rows:
            _, text, right, _ = rows[code]
            arithmetic = config.prompt_source.task == "arithmetic"
            instruction = get_language(code).answer_instruction if arithmetic else "{question}"
            yield Prompt(prompt_id, code, instruction.replace("{question}", text), right)


def _rows_in_limit(config: Config) -> int | None:
    return None if config.prompt_source.limit is None else config.prompt_source.limit * len(config.languages)


def _read_source(config: Config) -> Iterator[tuple[str, str, Json]]:
    """(language, place for messages, row) of every row of the recipe's languages."""
    source = config.prompt_source
    path = local_path(source.path, _FIELD)
    if path.is_file():
        yield from _with_language_column(config, ((None, place, row) for place, row in read_table(path)))
    elif (files := language_files(path)) and any(code in files for code in config.languages):
        for code in config.languages:
            if code not in files:
                raise DataError(f"{path}: no file for language {code} (wanted {', '.join(code + s for s in SUFFIXES)})")
            yield from ((code, place, row) for place, row in read_table(files[code]))
    else:
        name = str(path) if path.exists() else source.path
        yield from _with_language_column(
            config, read_hub_rows(name, config.languages, source.split, source.configuration)
        )


def _with_language_column(config: Config, rows: Iterator[LanguageRow]) -> Iterator[tuple[str, str, Json]]:
    """Rows with their language; if the source does not say it, their column does."""
    fields = config.prompt_source.fields
    for language, place, row in rows:
        if language is None:
            name = language_cell(row, place, fields)
            if not name:
                raise DataError(
                    f"{place}: no field {fields.language!r}, which one table of all languages needs: set "
                    "prompts.fields.language; if it is in one language, lidr prompts localize makes the others"
                )
            if fields.id is None:
                raise DataError(
                    f"{place}: one table with all languages needs ids that say which rows are the same prompt; set "
                    "prompts.fields.id, or take one language of it with lidr prompts sample and translate that"
                )
            language = language_code(name)
        if language in config.languages:
            yield language, place, row
