"""Tables of the users: their lines and rows of JSON, and cells that hold a text, an id or an answer.

A cell of another type is an error that names file and row. Nothing is turned into text that is not one: an empty cell
that pandas wrote as NaN would become the prompt "nan".
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from decimal import Decimal
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from lidr.errors import DataError
from lidr.records import writable

_EXACT = 2**53  # from here on a float no longer tells neighbouring integers apart


# --- lines and rows ---------------------------------------------------------------------------------------------------


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


def read_json_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """(place for messages, row) of a `.json` file, which must be a list, or of a file with a row per line."""
    if path.suffix == ".json":
        rows = parse_json("".join(read_lines(path)), str(path), in_lines=True)
        if not isinstance(rows, list):
            raise DataError(f"{path}: a .json file must hold a list of rows; use .jsonl for one row per line")
        yield from ((f"{path} item {number}", row) for number, row in enumerate(rows, 1))
        return
    for number, line in enumerate(read_lines(path), 1):
        if line.strip():
            yield f"{path}:{number}", parse_json(line, f"{path}:{number}")


def parse_json(text: str, place: str, in_lines: bool = False) -> Any:
    """The value of a JSON text. Raises DataError that names the place, and the line if the text has several."""
    try:
        return json.loads(text)
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


def table_rows(table: Any) -> list[dict[str, Any]]:
    """The rows of an Arrow table or of a piece of one.

    A 32- or 16-bit float becomes the shortest decimal that is stored as it, 0.1 and not 0.10000000149.
    """
    import pyarrow

    rows: list[dict[str, Any]] = table.to_pylist()
    for field in table.schema:
        if field.type in (pyarrow.float32(), pyarrow.float16()):
            narrow = field.type.to_pandas_dtype()  # numpy's type
            for row in rows:
                row[field.name] = None if row[field.name] is None else float(str(narrow(row[field.name])))
    return rows


def dataset_rows(dataset: Any) -> Iterator[dict[str, Any]]:
    """The rows of a Hugging Face data set, streamed or not, whatever format it was saved to give."""
    for table in dataset.with_format("arrow").iter(batch_size=1000):
        yield from table_rows(table)


# --- cells ------------------------------------------------------------------------------------------------------------


def is_blank(value: Any) -> bool:
    """Whether a cell is empty: null, NaN, a text of spaces alone, an empty list."""
    if isinstance(value, Decimal):
        return value.is_nan()
    if isinstance(value, Real):
        return math.isnan(value)
    if isinstance(value, str | bytes):
        return not value.strip()
    return value is None or (isinstance(value, list) and not value)


def text_cell(value: Any, place: str, name: str) -> str:
    """The text of a cell, "" if it is null or NaN. Bytes are UTF-8: Parquet stores texts without their mark like that.

    Raises DataError for other types, and for bytes and characters that no text has.
    """
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise DataError(
                f"{place}: {name!r} holds bytes that are not UTF-8 text ({_shown(value)}); store it as text, or name "
                "another column"
            ) from None
    if isinstance(value, str):
        if "\0" in value:
            raise DataError(f"{place}: {name!r} holds a NUL character ({_shown(value)}); remove it")
        return writable(value)
    if is_blank(value):
        return ""
    raise wrong_type(value, place, name, "a text")


def id_cell(value: Any, place: str, name: str) -> str:
    """The id in a cell, a text or an integer: 1 and 1.0 are "1", and "003" stays. Raises DataError."""
    if is_blank(value):
        raise DataError(f"{place}: the id ({name!r}) is empty; fill it or remove the row")
    if isinstance(value, str | bytes):
        return text_cell(value, place, name)
    if _is_number(value) and value == int(value):
        if isinstance(value, Real) and not isinstance(value, Integral) and abs(float(value)) >= _EXACT:
            raise DataError(f"{place}: {name!r} holds {value}, a number too large to be exact; write ids as text")
        return str(int(value))
    raise wrong_type(value, place, name, "an id, which is a text or an integer")


def answer_cell(value: Any, place: str, name: str) -> str:
    """The right answer in a cell, a text or a number; "" if it is blank. 12.0 is "12". Raises DataError."""
    if is_blank(value):
        return ""
    if _is_number(value):
        return str(int(value)) if value == int(value) else f"{_decimal(value):f}"
    if isinstance(value, str | bytes):
        return text_cell(value, place, name)
    raise wrong_type(value, place, name, "a text or a number")


def wrong_type(value: Any, place: str, name: str, wanted: str) -> DataError:
    """A cell that holds something else than is wanted."""
    kinds = {
        str: "a text",
        bool: "true or false",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    kind = kinds.get(type(value), f"a value of type {type(value).__name__}")
    return DataError(
        f"{place}: {name!r} holds {kind} ({_shown(value)}) and not {wanted}; correct the row, or name another column"
    )


def _is_number(value: Any) -> bool:
    """Whether a value is a finite number, also one of numpy; true and false do not count."""
    if isinstance(value, bool):
        return False
    return isinstance(value, Real | Decimal) and math.isfinite(value)


def _decimal(value: Any) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(repr(float(value)))


def _shown(value: Any) -> str:
    return repr(value)[:60]
