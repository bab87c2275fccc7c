"""Rows of a benchmark by language: from a folder of files, on disk or behind a URL, or a Hugging Face data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lidr.benchmarks.base import Question
from lidr.cells import answer_cell, dataset_rows, is_blank, read_json_rows, read_lines, text_cell
from lidr.config import may_be_hub_id
from lidr.errors import DataError
from lidr.languages import LANGUAGES
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
    if path.suffix != ".tsv":
        yield from ((place, _object(row, place)) for place, row in read_json_rows(path))
        return
    for number, line in enumerate(read_lines(path), 1):
        if line.strip():
            yield f"{path}:{number}", _columns(line, f"{path}:{number}")


def read_instructions(path: str, language: str, limit: int | None, field: str) -> list[Question]:
    """The instructions of one language, for benchmarks without a gold answer. Raises DataError."""
    way_out = f"set {field}.path to a folder of <language>.json or .jsonl files with an instruction per row"
    questions: list[Question] = []
    for place, row in read_language(path, language, ("{}.json", "{}.jsonl"), field, way_out):
        text = text_field(row, _INSTRUCTION_FIELDS, place, strip=False)  # answers are joined by the exact text
        part = text_cell(row.get("dataset"), place, "dataset")
        questions.append(Question(str(len(questions) + 1), language, text, group=part))
        if len(questions) == limit:
            break
    if not questions:
        raise DataError(f"{path}: no instructions in {language}; {way_out}")
    return questions


def _columns(line: str, place: str) -> dict[str, Any]:
    # Split by hand: the questions hold quotation marks, which a CSV reader takes for its own.
    columns = line.rstrip("\r\n").split("\t")
    if len(columns) != 2:
        raise DataError(f"{place}: {len(columns)} columns, expected question TAB answer; correct the line")
    return {"question": columns[0], "answer_number": columns[1]}


def _object(row: Any, place: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise DataError(f"{place}: a row must be an object with fields, this is {str(row)[:60]!r}; correct it")
    return row


def _read_dataset(path: str, language: str, split: str, way_out: str) -> Iterator[tuple[str, dict[str, Any]]]:
    import datasets

    try:
        # A folder is streamed: its cached copy would be known by its name and card, not by its files.
        rows = datasets.load_dataset(path, language, split=split, streaming=Path(path).exists())
        yield from ((f"{path}/{language} row {number}", row) for number, row in enumerate(dataset_rows(rows), 1))
    except Exception as error:  # what its readers of formats, archives and networks raise, has no base in common
        said = " ".join(str(error).split())[:400]
        raise DataError(f"{path}: cannot load language {language!r}, split {split!r}: {said}; {way_out}") from error


def text_field(row: dict[str, Any], names: tuple[str, ...], place: str, strip: bool = True) -> str:
    """The text of the first of the fields that is filled. Raises DataError if none is, or if it is no text."""
    name = _filled(row, names, place)
    text = text_cell(row[name], place, name)
    return text.strip() if strip else text


def answer_field(row: dict[str, Any], names: tuple[str, ...], place: str) -> str:
    """The right answer, a text or a number, in the first of the fields that is filled. Raises DataError as above."""
    name = _filled(row, names, place)
    return answer_cell(row[name], place, name).strip()


def _filled(row: dict[str, Any], names: tuple[str, ...], place: str) -> str:
    for name in names:
        if not is_blank(row.get(name)):
            return name
    have = ", ".join(map(str, row)) or "none"
    raise DataError(f"{place}: no value in {' or '.join(map(repr, names))} (fields: {have}); add it or remove the row")
