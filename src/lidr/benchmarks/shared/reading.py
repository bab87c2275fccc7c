"""Rows of a benchmark by language: from a folder of files, on disk or behind a URL, or a Hugging Face data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lidr.benchmarks.base import Question
from lidr.cells import answer_cell, is_blank, text_cell
from lidr.config import may_be_hub_id
from lidr.errors import DataError
from lidr.records import Json
from lidr.storage import local_path
from lidr.tables import PATTERNS, PlacedRow, language_files, read_dataset, read_table

_INSTRUCTION_FIELDS = ("instruction", "prompt", "question", "query", "text")


def read_language(
    path: str, language: str, field: str, way_out: str, split: str = "test", patterns: Sequence[str] = PATTERNS,
    columns: Sequence[str] = (),
) -> Iterator[PlacedRow]:  # fmt: skip
    """(place for messages, row) of every row of one language.

    `patterns` are the names to look for in a folder, with `{}` for the language; `columns` are those of `.tsv` files,
    see `read_table`. `field` is the recipe's field that names the benchmark, and `way_out` what to do about a path that
    holds nothing. Raises DataError.
    """
    folder = local_path(path, f"{field}.path")
    found = language_files(folder, patterns)
    if language in found:
        yield from read_table(found[language], columns)
    elif found:
        wanted = " or ".join(name.format(language) for name in patterns)
        raise DataError(
            f"{folder}: no file for language {language!r} (wanted {wanted}; it has {', '.join(found)}); add it, or "
            f"take {language} out of {field}.languages"
        )
    elif not folder.exists() and not may_be_hub_id(path):
        raise DataError(f"{path}: no such folder; {way_out}")
    else:
        yield from read_dataset(str(folder) if folder.exists() else path, language, split, way_out)


def read_instructions(path: str, language: str, limit: int | None, field: str) -> list[Question]:
    """The instructions of one language, for benchmarks without a gold answer. Raises DataError."""
    way_out = f"set {field}.path to a folder of <language>.jsonl files with an instruction per row"
    questions: list[Question] = []
    for place, row in read_language(path, language, field, way_out):
        text = text_field(row, _INSTRUCTION_FIELDS, place, strip=False)  # answers are joined by the exact text
        part = text_cell(row.get("dataset"), place, "dataset")
        questions.append(Question(str(len(questions) + 1), language, text, group=part))
        if len(questions) == limit:
            break
    if not questions:
        raise DataError(f"{path}: no instructions in {language}; {way_out}")
    return questions


def text_field(row: Json, names: tuple[str, ...], place: str, strip: bool = True) -> str:
    """The text of the first of the fields that is filled. Raises DataError if none is, or if it is no text."""
    name = _filled(row, names, place)
    text = text_cell(row[name], place, name)
    return text.strip() if strip else text


def answer_field(row: Json, names: tuple[str, ...], place: str) -> str:
    """The right answer, a text or a number, in the first of the fields that is filled. Raises DataError as above."""
    name = _filled(row, names, place)
    return answer_cell(row[name], place, name).strip()


def _filled(row: Json, names: tuple[str, ...], place: str) -> str:
    for name in names:
        if not is_blank(row.get(name)):
            return name
    have = ", ".join(map(str, row)) or "none"
    raise DataError(f"{place}: no value in {' or '.join(map(repr, names))} (fields: {have}); add it or remove the row")
