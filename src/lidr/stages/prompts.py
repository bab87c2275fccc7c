"""Step 1: the prompts, x_i^l, aligned by id over the languages."""

from __future__ import annotations

import csv
import json
import sqlite3
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from lidr.config import Config, PromptsConfig, may_be_hub_id
from lidr.errors import ConfigError, DataError
from lidr.languages import get_language
from lidr.records import Prompt, content_id, writable
from lidr.run_dir import Inputs, Outputs, RunDir, is_sealed, read_rows, write_sealed
from lidr.storage import local_path, stamps

_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
_LOADER_VERSION = 1
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

    Raises DataError where it would leave nothing to train on.
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
        "seed": config.seed if config.prompt_source.path == "lab" else None,  # the laboratory draws its facts
    }


def read_groups(run_dir: RunDir, iteration: int) -> Iterator[dict[str, Prompt]]:
    """The sealed prompts one id at a time, by language."""
    return _groups(run_dir.prompts(iteration))


def _groups(path: Path) -> Iterator[dict[str, Prompt]]:
    return grouped(Prompt.from_dict(row) for row in read_rows(path))


def grouped(rows: Iterable[Prompt]) -> Iterator[dict[str, Prompt]]:
    """One id at a time, by language, of rows in which an id's languages stand together."""
    for _, group in groupby(rows, key=lambda prompt: prompt.prompt_id):
        yield {prompt.language: prompt for prompt in group}


def load_prompts(config: Config, held_out: Collection[str] = ()) -> Iterator[Prompt]:
    """The recipe's prompts in the order of the dominant language's file, all languages of an id together.

    Those in `held_out` are left out. Rows are aligned in a temporary database on disk, so a million of them need no
    memory. Raises DataError for bad rows, duplicate ids and, with `on_missing: error`, ids that a language lacks.
    """
    if config.prompt_source.path == "lab":
        from lidr.lab.world import training_prompts

        _check_laboratory(config)
        yield from islice(training_prompts(config.languages, seed=config.seed), _rows_in_limit(config))
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
    if config.prompt_source.path == "lab":
        from lidr.lab.world import held_out_prompts

        _check_laboratory(config)
        rows = held_out_prompts(config.languages, seed=config.seed)
        yield from islice(rows, config.probe.prompts * len(config.languages))
        return
    with _aligned(config) as table:
        table.create_function("drawn", 1, lambda prompt_id: content_id(config.seed, prompt_id), deterministic=True)
        ids = table.execute("SELECT id FROM prompt GROUP BY id ORDER BY drawn(id) LIMIT ?", (config.probe.prompts,))
        for (prompt_id,) in ids:
            yield from _prompt(table, config, prompt_id)


def _check_laboratory(config: Config) -> None:
    from lidr.lab.world import LANGUAGES

    unknown = [code for code in config.languages if code not in LANGUAGES]
    if unknown:
        raise ConfigError(f"the laboratory has no {', '.join(unknown)}; it has {', '.join(LANGUAGES)}")


@contextmanager
def _aligned(config: Config) -> Iterator[sqlite3.Connection]:
    """All rows of the source in a temporary database on disk."""
    with tempfile.TemporaryDirectory() as folder, closing(sqlite3.connect(Path(folder) / "align.db")) as table:
        columns = "language, id, text, answer, place, number INTEGER, PRIMARY KEY (language, id)"
        table.execute(f"CREATE TABLE prompt ({columns})")
        for number, (language, place, row) in enumerate(_read_source(config)):
            _insert(table, config.prompt_source, language, place, row, number)
        yield table


def _insert(
    table: sqlite3.Connection, prompts: PromptsConfig, language: str, place: str, row: Any, number: int
) -> None:
    fields = prompts.fields
    if not isinstance(row, dict):
        raise DataError(f"{place}: a row must be an object with fields, this is {str(row)[:60]!r}")
    for option, name in (("id", fields.id), ("text", fields.text)):
        if row.get(name) is None:
            have = ", ".join(map(str, row)) or "none"
            raise DataError(f"{place}: no field {name!r} (it has: {have}); set prompts.fields.{option}")
    prompt_id, text = writable(str(row[fields.id])), writable(str(row[fields.text]))
    if not text.strip():
        raise DataError(
            f"{place}: the text of prompt {prompt_id!r} ({fields.text}) is empty; fill it or remove the row"
        )
    right = None if fields.answer is None or row.get(fields.answer) is None else writable(str(row[fields.answer]))
    try:
        table.execute("INSERT INTO prompt VALUES (?, ?, ?, ?, ?, ?)", (language, prompt_id, text, right, place, number))
    except sqlite3.IntegrityError:
        query = "SELECT place FROM prompt WHERE language = ? AND id = ?"
        first = table.execute(query, (language, prompt_id)).fetchone()[0]
        raise DataError(f"{place}: id {prompt_id!r} stands in {first} already; ids must be unique") from None


def _prompt(table: sqlite3.Connection, config: Config, prompt_id: str) -> Iterator[Prompt]:
    """One id in all languages. Raises DataError where one lacks it and the recipe does not skip such ids."""
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


def _read_source(config: Config) -> Iterator[tuple[str, str, Any]]:
    """(language, place for messages, row) of every row of the recipe's languages."""
    path = local_path(config.prompt_source.path, _FIELD)
    if path.is_file():
        yield from _with_language_column(config, _read_file(path))
    elif path.is_dir() and any(_language_file(path, code) for code in config.languages):
        for code in config.languages:
            file = _language_file(path, code)
            if file is None:
                raise DataError(f"{path}: no file for language {code} (wanted {code}.jsonl, .json, .csv or .parquet)")
            yield from ((code, place, row) for place, row in _read_file(file))
    else:
        yield from _read_dataset(config, str(path) if path.exists() else config.prompt_source.path)


def _with_language_column(config: Config, rows: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, str, Any]]:
    column = config.prompt_source.fields.language
    for place, row in rows:
        if not isinstance(row, dict) or row.get(column) is None:
            raise DataError(f"{place}: no field {column!r}; one table needs it: set prompts.fields.language")
        if row[column] in config.languages:
            yield row[column], place, row


def _language_file(folder: Path, code: str) -> Path | None:
    return next((file for suffix in _SUFFIXES if (file := folder / f"{code}{suffix}").is_file()), None)


def _read_file(path: Path) -> Iterator[tuple[str, Any]]:
    """(place, row) of every row of one table; the place is `file:line` for text formats."""
    if path.suffix == ".jsonl":
        with path.open(encoding="utf-8") as handle:
            for number, line in enumerate(handle, 1):
                if line.strip():
                    yield f"{path}:{number}", _parse_json(line, f"{path}:{number}")
    elif path.suffix == ".json":
        rows = _parse_json(path.read_text(encoding="utf-8"), str(path))
        if not isinstance(rows, list):
            raise DataError(f"{path}: a .json file must hold a list of rows; use .jsonl for one row per line")
        yield from ((f"{path} item {number}", row) for number, row in enumerate(rows, 1))
    elif path.suffix == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            yield from ((f"{path}:{reader.line_num}", row) for row in reader)
    elif path.suffix == ".parquet":
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import ParquetFile

        try:
            batches = ParquetFile(path).iter_batches()
        except ArrowInvalid as error:
            raise DataError(f"{path}: not a readable Parquet file: {error}") from None
        rows = (row for batch in batches for row in batch.to_pylist())
        yield from ((f"{path} row {number}", row) for number, row in enumerate(rows, 1))
    else:
        raise DataError(
            f"{path}: prompts come as {', '.join(_SUFFIXES)}, not as {path.suffix or 'a file without suffix'}"
        )


def _parse_json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{place}: not valid JSON (column {error.colno}: {error.msg}); repair or remove it") from None


def _read_dataset(config: Config, path: str) -> Iterator[tuple[str, str, Any]]:
    """A Hugging Face data set: one configuration per language, or one table with a language column."""
    split = config.prompt_source.split
    if not Path(path).exists() and (not may_be_hub_id(path) or Path(path).suffix in _SUFFIXES):
        raise DataError(
            f"prompts.path {path}: no such file or folder, and not a hub id such as org/name; "
            "--set prompts.path=... names the prompts"
        )
    import datasets

    try:
        if (Path(path) / "dataset_info.json").exists() or (Path(path) / "dataset_dict.json").exists():
            saved = datasets.load_from_disk(path)
            names, load = [], lambda name: saved[split] if isinstance(saved, datasets.DatasetDict) else saved
        else:
            names = datasets.get_dataset_config_names(path)
            load = lambda name: datasets.load_dataset(path, name, split=split)  # noqa: E731
        if set(config.languages) <= set(names):
            for code in config.languages:
                yield from ((code, f"{path}/{code} row {n}", row) for n, row in enumerate(load(code), 1))
        else:
            rows = ((f"{path} row {n}", row) for n, row in enumerate(load(None), 1))
            yield from _with_language_column(config, rows)
    except (OSError, KeyError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"prompts.path {path}: neither a file, a folder nor a readable data set: {error}") from error
