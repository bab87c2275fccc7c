"""The one reader of tables: files of every format, folders with a file per language, and Hugging Face data sets.

A row is a dict, and comes with its place (`file:line` of text formats, else `file row n`), which every error names.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lidr.errors import DataError
from lidr.languages import LANGUAGES
from lidr.records import Json

if TYPE_CHECKING:
    from datasets import Dataset
    from pyarrow import RecordBatch, Table

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
PATTERNS = tuple(f"{{}}{suffix}" for suffix in SUFFIXES)  # names of files in a folder, `{}` being the language
PlacedRow = tuple[str, Json]


# --- files ------------------------------------------------------------------------------------------------------------


def read_table(path: Path, columns: Sequence[str] = ()) -> Iterator[PlacedRow]:
    """(place, row) of every row of a file. Raises DataError.

    `columns` are those of a `.tsv` file without a header, whose quotation marks are part of the text.
    """
    if path.suffix in (".jsonl", ".json"):
        for place, row in read_json_rows(path):
            if not isinstance(row, dict):
                raise DataError(f"{place}: a row must be an object with fields, this is {str(row)[:60]!r}; correct it")
            yield place, row
    elif path.suffix == ".tsv" and columns:
        yield from _read_plain(path, columns)
    elif path.suffix in (".csv", ".tsv"):
        yield from _read_csv(path)
    elif path.suffix == ".parquet":
        yield from _read_parquet(path)
    else:
        kind = path.suffix or "a file without suffix"
        raise DataError(f"{path}: tables are read as {', '.join(SUFFIXES)}, not as {kind}; convert the file")


def language_files(folder: Path, patterns: Sequence[str] = PATTERNS) -> dict[str, Path]:
    """The files of a folder that has one per language; empty if it is something else."""
    if not folder.is_dir():
        return {}
    found = {code: language_file(folder, code, patterns) for code in LANGUAGES}
    return {code: file for code, file in found.items() if file}


def language_file(folder: Path, code: str, patterns: Sequence[str] = PATTERNS) -> Path | None:
    """The file of one language in such a folder. Raises DataError if there are several."""
    found = [file for pattern in patterns if (file := folder / pattern.format(code)).is_file()]
    if len(found) > 1:
        raise DataError(f"{folder}: several files for {code} ({', '.join(file.name for file in found)}); keep one")
    return found[0] if found else None


def read_lines(path: Path, newline: str | None = None) -> Iterator[str]:
    """The lines of a UTF-8 file, without a byte order mark; `newline` is that of `open`. Raises DataError."""
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline) as handle:
            for number, line in enumerate(handle, 1):
                try:
                    line.encode()
                except UnicodeEncodeError as error:
                    raise DataError(
                        f"{path}:{number}: not UTF-8 text (column {error.start + 1}); save the file in that encoding"
                    ) from None
                yield line
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); correct the path or its permissions") from None


def read_json_rows(path: Path) -> Iterator[tuple[str, object]]:
    """(place, value) of a `.json` file, which must be a list, or of a file with a value per line. Raises DataError."""
    if path.suffix == ".json":
        rows = parse_json("".join(read_lines(path)), str(path), in_lines=True)
        if not isinstance(rows, list):
            raise DataError(f"{path}: a .json file must hold a list of rows; use .jsonl for one row per line")
        yield from ((f"{path} item {number}", row) for number, row in enumerate(rows, 1))
        return
    for number, line in enumerate(read_lines(path), 1):
        if line.strip():
            yield f"{path}:{number}", parse_json(line, f"{path}:{number}")


def parse_json(text: str, place: str, in_lines: bool = False) -> object:
    """The value of a JSON text. Raises DataError that names the place, and the line if the text has several."""
    try:
        value: object = json.loads(text)
        return value
    except json.JSONDecodeError as error:
        where = f"{place}:{error.lineno}" if in_lines else place
        said = f"column {error.colno}: {error.msg}"
        if "\0" in text:
            said = "it holds NUL bytes, as a file does that a crash cut off"
        raise DataError(f"{where}: not valid JSON ({said}); repair or remove it") from None
    except RecursionError:
        raise DataError(f"{place}: its lists or objects are nested too deep; repair or remove it") from None
    except ValueError as error:  # a number of more than 4,300 digits
        raise DataError(f"{place}: a number is too long ({error}); write it as text") from None


def _read_plain(path: Path, columns: Sequence[str]) -> Iterator[PlacedRow]:
    for number, line in enumerate(read_lines(path), 1):
        cells, place = line.rstrip("\r\n").split("\t"), f"{path}:{number}"
        if line.strip() and len(cells) != len(columns):
            raise DataError(f"{place}: {len(cells)} columns, expected {' TAB '.join(columns)}; correct the line")
        if line.strip():
            yield place, dict(zip(columns, cells, strict=True))


def _read_csv(path: Path) -> Iterator[PlacedRow]:
    csv.field_size_limit(2**31 - 1)  # Python's own limit is 131,072 characters in a cell
    header = next(read_lines(path), "")
    # Spreadsheets separate with semicolons if the comma is the decimal sign.
    signs = "\t" if path.suffix == ".tsv" else ",;\t"
    separator = next((sign for sign in signs if sign in header), signs[0])
    reader = csv.reader(read_lines(path, newline=""), delimiter=separator, strict=True)
    try:
        names = next(reader, [])
        _check_unique(names, f"{path}:1")
        for cells in reader:
            if cells and len(cells) != len(names):
                raise DataError(
                    f"{path}:{reader.line_num}: {'more' if len(cells) > len(names) else 'fewer'} cells than columns; "
                    f"put texts with {'tabs' if separator == chr(9) else repr(separator)} in double quotes"
                )
            if cells:
                yield f"{path}:{reader.line_num}", dict(zip(names, cells, strict=True))
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not readable as CSV: {error}; repair it") from None


def _read_parquet(path: Path) -> Iterator[PlacedRow]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        with ParquetFile(path) as table:
            _check_unique(table.schema_arrow.names, str(path))
            for batch in table.iter_batches(batch_size=2048):
                for row in _batch_rows(batch, path, number):
                    number += 1
                    yield f"{path} row {number}", row
    except (ArrowException, OSError, ValueError) as error:
        said = " ".join(str(error).split())[:300]
        raise DataError(f"{path}: not a readable Parquet file: {said}; write it again") from None


# What pyarrow raises for bytes that are no text, for dates beyond the year 9999, and for unknown time zones.
_BAD_CELL = (ValueError, OverflowError, LookupError)


def _batch_rows(batch: RecordBatch, path: Path, before: int) -> list[Json]:
    """The rows of a piece of a table, `before` being the number of rows before it. Raises DataError."""
    try:
        return table_rows(batch)
    except _BAD_CELL:  # which of them?
        for number in range(batch.num_rows):
            for name in batch.schema.names:
                place = f"{path} row {before + number + 1}"
                try:
                    batch.slice(number, 1).select([name]).to_pylist()
                except _BAD_CELL as error:
                    said = "a text is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)[:200]
                    raise DataError(f"{place}: {name!r} cannot be read: {said}; correct it, or drop it") from None
        raise


def _check_unique(names: list[str], place: str) -> None:
    """Raises DataError for a column that is there twice: only one of the two could be read."""
    if double := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(f"{place}: several columns are called {double[0]!r}; rename all but one")


def table_rows(table: Table | RecordBatch) -> list[Json]:
    """The rows of an Arrow table or of a piece of one.

    A 32- or 16-bit float becomes the shortest decimal that is stored as it, 0.1 and not 0.10000000149.
    """
    import pyarrow

    rows: list[Json] = table.to_pylist()
    for field in table.schema:
        if field.type in (pyarrow.float32(), pyarrow.float16()):
            narrow = field.type.to_pandas_dtype()  # numpy's type
            for row in rows:
                row[field.name] = None if row[field.name] is None else float(str(narrow(row[field.name])))
    return rows


# --- Hugging Face data sets -------------------------------------------------------------------------------------------


def configurations(path: str, way_out: str) -> list[str]:
    """The configurations of a data set (hub id or folder); none if it was saved by `save_to_disk`. Raises DataError."""
    import datasets

    if _is_saved(path):
        return []
    try:
        names: list[str] = datasets.get_dataset_config_names(path)
        return names
    except Exception as error:  # what its readers of formats, archives and networks raise, has no base in common
        raise _not_readable(path, "", error, way_out) from error


def read_dataset(path: str, configuration: str | None, split: str, way_out: str) -> Iterator[PlacedRow]:
    """(place, row) of one configuration of a data set (hub id or folder). Raises DataError with the way out."""
    if configuration is not None and _is_saved(path):
        raise DataError(f"{path}: it was saved by save_to_disk and has no configuration {configuration!r}; {way_out}")
    where = f"{path}/{configuration}" if configuration else path
    try:
        for number, row in enumerate(dataset_rows(_load(path, configuration, split)), 1):
            yield f"{where} row {number}", row
    except Exception as error:  # as above
        named = f"configuration {configuration!r}, " if configuration else ""
        raise _not_readable(path, f" ({named}split {split!r})", error, way_out) from error


def dataset_rows(dataset: Dataset) -> Iterator[Json]:
    """The rows of a data set, streamed or not, whatever format it was saved to give."""
    for table in dataset.with_format("arrow").iter(batch_size=1000):
        yield from table_rows(table)


def _load(path: str, configuration: str | None, split: str) -> Dataset:
    import datasets

    if _is_saved(path):
        saved = datasets.load_from_disk(path)
        return saved[split] if isinstance(saved, datasets.DatasetDict) else saved
    # datasets keeps what it has read of a folder under the folder's name and card, not under its content: a changed
    # file, or another folder of that name, would give the old rows. Streaming reads the files.
    return datasets.load_dataset(path, configuration, split=split, streaming=Path(path).exists())


def _is_saved(path: str) -> bool:
    return any((Path(path) / name).exists() for name in ("dataset_info.json", "dataset_dict.json"))


def _not_readable(path: str, part: str, error: Exception, way_out: str) -> DataError:
    said = " ".join(str(error).split())[:400]
    return DataError(f"{path}: not readable as a data set{part}: {said}; {way_out}")
