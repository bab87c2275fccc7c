"""Cells of the users' tables that hold a text, an id or an answer.

A cell of another type is an error that names file and row. Nothing is turned into text that is not one: an empty cell
that pandas wrote as NaN would become the prompt "nan".
"""

from __future__ import annotations

import math
from decimal import Decimal
from numbers import Integral, Real

from lidr.errors import DataError
from lidr.records import writable

_EXACT = 2**53  # from here on a float no longer tells neighbouring integers apart


def is_blank(value: object) -> bool:
    """Whether a cell is empty: null, NaN, a text of spaces alone, an empty list."""
    if isinstance(value, Decimal):
        return value.is_nan()
    if isinstance(value, Real):
        return math.isnan(value)
    if isinstance(value, str | bytes):
        return not value.strip()
    return value is None or (isinstance(value, list) and not value)


def text_cell(value: object, place: str, name: str) -> str:
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


def id_cell(value: object, place: str, name: str) -> str:
    """The id in a cell, a text or an integer: 1 and 1.0 are "1", and "003" stays. Raises DataError."""
    if is_blank(value):
        raise DataError(f"{place}: the id ({name!r}) is empty; fill it or remove the row")
    if isinstance(value, str | bytes):
        return text_cell(value, place, name)
    number = _number(value)
    if number is not None and number == int(number):
        if isinstance(number, float) and abs(number) >= _EXACT:
            raise DataError(f"{place}: {name!r} holds {value}, a number too large to be exact; write ids as text")
        return str(int(number))
    raise wrong_type(value, place, name, "an id, which is a text or an integer")


def answer_cell(value: object, place: str, name: str) -> str:
    """The right answer in a cell, a text or a number; "" if it is blank. 12.0 is "12". Raises DataError."""
    if is_blank(value):
        return ""
    number = _number(value)
    if number is not None:
        exact = Decimal(repr(number)) if isinstance(number, float) else Decimal(number)
        return str(int(number)) if number == int(number) else f"{exact:f}"
    if isinstance(value, str | bytes):
        return text_cell(value, place, name)
    raise wrong_type(value, place, name, "a text or a number")


def wrong_type(value: object, place: str, name: str, wanted: str) -> DataError:
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


def _number(value: object) -> int | float | Decimal | None:
    """A finite number, also one of numpy; None for anything else, and for true and false."""
    if isinstance(value, bool) or not isinstance(value, Real | Decimal) or not math.isfinite(value):
        return None
    if isinstance(value, Decimal):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def _shown(value: object) -> str:
    return repr(value)[:60]
