"""Rows of a benchmark by language: from a folder of files, on disk or behind a URL, or a Hugging Face data set."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lidr.benchmarks.base import Question
from lidr.config import may_be_hub_id
from lidr.errors import DataError
from lidr.languages import LANGUAGES
from lidr.records import writable
from lidr.storage import local_path

_INSTRUCTION_FIELDS = ("instruction", "prompt", "question", "query", "text")


def read_language(
    path: str, language: str, files: Sequence[str], field: str, way_out: str, split: str = "test"
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place for messages, row) of every row of one language.

    `files` are the names to look for in a folder, with `{}` for the language; `field` is the recipe's field that names
    the benchmark, and `way_out` what to do about a path that holds nothing. Raises DataError.
    """
    folder = local_path(path, f"{field}.path")
    found = {code: file for code in LANGUAGES for name in files if (file := folder / name.format(code)).is_file()}
    if language in found:
        yield from read_file(found[language])
    elif found:
        wanted = " or ".join(name.format(language) for name in files)
        raise DataError(
            f"{folder}: no file for language {language!r} (wanted {wanted}; it has {', '.join(found)}); add it, or "
            f"take {language} out of {field}.languages"
        )
    elif not folder.exists() and not may_be_hub_id(path):
        raise DataError(f"{path}: no such folder; {way_out}")
    else:
        yield from _read_dataset(str(folder) if folder.exists() else path, language, split, way_out)


def read_file(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a `.json` list, a `.jsonl` file, or a `.tsv` file of questions and answers."""
    try:
        with path.open(encoding="utf-8-sig") as handle:
            if path.suffix == ".json":
                yield from _items(path, handle.read())
                return
            for number, line in enumerate(handle, 1):
                if line.strip():
                    yield f"{path}:{number}", _parse(line, f"{path}:{number}", path.suffix)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error}); convert it") from None


def read_instructions(path: str, language: str, limit: int | None, field: str) -> list[Question]:
    """The instructions of one language, for benchmarks without a gold answer. Raises DataError."""
    way_out = f"set {field}.path to a folder of <language>.json or .jsonl files with an instruction per row"
    questions: list[Question] = []
    for place, row in read_language(path, language, ("{}.json", "{}.jsonl"), field, way_out):
        text = text_field(row, _INSTRUCTION_FIELDS, place, strip=False)  # answers are joined by the exact text
        questions.append(Question(str(len(questions) + 1), language, text, group=str(row.get("dataset") or "")))
        if len(questions) == limit:
            break
    if not questions:
        raise DataError(f"{path}: no instructions in {language}; {way_out}")
    return questions


def _items(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{path}:{error.lineno}"
        raise DataError(f"{place}: not valid JSON (column {error.colno}: {error.msg}); repair it") from None
    if not isinstance(rows, list):
        raise DataError(f"{path}: a .json file must hold a list of rows; use .jsonl for one row per line")
    for number, row in enumerate(rows, 1):
        yield f"{path} item {number}", _object(row, f"{path} item {number}")


def _parse(line: str, place: str, suffix: str) -> dict[str, Any]:
    if suffix == ".tsv":
        # Split by hand: the questions hold quotation marks, which a CSV reader takes for its own.
        columns = line.rstrip("\r\n").split("\t")
        if len(columns) != 2:
            raise DataError(f"{place}: {len(columns)} columns, expected question TAB answer; correct the line")
        return {"question": columns[0], "answer_number": columns[1]}
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{place}: not valid JSON (column {error.colno}: {error.msg}); repair or remove it") from None
    return _object(row, place)


def _object(row: Any, place: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise DataError(f"{place}: a row must be an object with fields, this is {str(row)[:60]!r}; correct it")
    return {name: _whole(value) for name, value in row.items()}


def _whole(value: Any) -> Any:
    """A field's texts as `writable` ones: JSON may hold half of a surrogate pair, "\\ud83d"."""
    if isinstance(value, str):
        return writable(value)
    return [_whole(item) for item in value] if isinstance(value, list) else value


def _read_dataset(path: str, language: str, split: str, way_out: str) -> Iterator[tuple[str, dict[str, Any]]]:
    import datasets

    try:
        # A folder is streamed: its cached copy would be known by its name and card, not by its files.
        rows = datasets.load_dataset(path, language, split=split, streaming=Path(path).exists())
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"{path}: cannot load language {language!r}, split {split!r}: {error}; {way_out}") from error
    for number, row in enumerate(rows, 1):
        yield f"{path}/{language} row {number}", row


def text_field(row: dict[str, Any], names: tuple[str, ...], place: str, strip: bool = True) -> str:
    """The first of the fields that has a value, as text."""
    for name in names:
        value = row.get(name)
        if value is not None and not isinstance(value, bool) and str(value).strip():
            return str(value).strip() if strip else str(value)
    have = ", ".join(map(str, row)) or "none"
    raise DataError(f"{place}: no value in {' or '.join(map(repr, names))} (fields: {have}); add it or remove the row")
