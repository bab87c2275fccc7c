"""What a cell may hold: a text, an id, an answer; everything else is refused with its place."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy
import pytest

from lidr.cells import answer_cell, id_cell, is_blank, text_cell
from lidr.errors import DataError
from lidr.tables import parse_json, read_json_rows

NAN = float("nan")
OTHERS = [True, False, {}, {"a": 1}, ["a"], (1, 2), date(2026, 1, 2), numpy.bool_(True), numpy.array([1, 2]), object()]


@pytest.mark.parametrize("value", [None, NAN, numpy.float32("nan"), Decimal("NaN"), "", " \n\u3000", b" ", []])
def test_empty_cells_are_blank_and_no_id(value: Any) -> None:
    assert is_blank(value)
    assert answer_cell(value, "f:1", "a") == ""
    assert text_cell(value, "f:1", "t").strip() == ""
    with pytest.raises(DataError, match=r"^f:1: the id \('i'\) is empty"):
        id_cell(value, "f:1", "i")


@pytest.mark.parametrize("value", [0, 0.0, "0", "nan", "None", "null", [None], False, numpy.int64(0)])
def test_what_looks_empty_need_not_be(value: Any) -> None:
    assert not is_blank(value)


@pytest.mark.parametrize("value", [*OTHERS, 12, 1.5, Decimal(3), numpy.int64(4)])
def test_only_texts_are_texts(value: Any) -> None:
    with pytest.raises(DataError, match=r"f.csv:7: 't' holds .* and not a text; correct the row"):
        text_cell(value, "f.csv:7", "t")


@pytest.mark.parametrize("value", OTHERS)
def test_other_types_are_neither_ids_nor_answers(value: Any) -> None:
    if is_blank(value):
        return
    with pytest.raises(DataError, match=r"f:1: 'i' holds .* not an id"):
        id_cell(value, "f:1", "i")
    with pytest.raises(DataError, match=r"f:1: 'a' holds .* not a text or a number"):
        answer_cell(value, "f:1", "a")


@pytest.mark.parametrize(
    ("value", "spelt"),
    [(1, "1"), (1.0, "1"), (numpy.int32(1), "1"), (numpy.float64(1), "1"), (Decimal("1.00"), "1"), (-0.0, "0"),
     (-3, "-3"), (10**20, "100000000000000000000"), (Decimal(10**20), "100000000000000000000"), ("003", "003"),
     ("1.0", "1.0"), ("1.5", "1.5"), (b"a\xc3\xa9", "aé"), (numpy.str_("x"), "x"), (" a", " a")],
)  # fmt: skip
def test_an_id_has_one_spelling(value: Any, spelt: str) -> None:
    assert id_cell(value, "f:1", "i") == spelt


@pytest.mark.parametrize("value", [1.5, Decimal("1.5"), float("inf"), Decimal("-Infinity")])
def test_fractions_are_no_ids(value: Any) -> None:
    with pytest.raises(DataError, match="not an id"):
        id_cell(value, "f:1", "i")


@pytest.mark.parametrize("value", [1e20, 2.0**53, numpy.float64(1e17)])
def test_a_float_that_may_be_rounded_is_no_id(value: Any) -> None:
    with pytest.raises(DataError, match="too large to be exact; write ids as text"):
        id_cell(value, "f:1", "i")


@pytest.mark.parametrize(
    ("value", "spelt"),
    [(12, "12"), (12.0, "12"), (0.1, "0.1"), (1e-7, "0.0000001"), (1e20, "100000000000000000000"), (-2.5, "-2.5"),
     (Decimal("2.50"), "2.50"), (numpy.float64(3), "3"), ("12.0", "12.0"), (b"4", "4"), ("x\n", "x\n")],
)  # fmt: skip
def test_answers_are_texts_or_numbers(value: Any, spelt: str) -> None:
    assert answer_cell(value, "f:1", "a") == spelt


def test_infinite_answers_are_refused() -> None:
    with pytest.raises(DataError, match="not a text or a number"):
        answer_cell(float("inf"), "f:1", "a")


def test_bytes_and_characters_that_no_text_has() -> None:
    assert text_cell("Größe".encode(), "f:1", "t") == "Größe"
    assert text_cell("a \ud83d b", "f:1", "t") == "a \ufffd b"
    with pytest.raises(DataError, match=r"f row 3: 't' holds bytes that are not UTF-8 text .*name another column"):
        text_cell(b"\xff\xd8\xff\xe0", "f row 3", "t")
    for value in ("a\0b", b"a\0b"):
        with pytest.raises(DataError, match="f:1: 't' holds a NUL character"):
            text_cell(value, "f:1", "t")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"^f:1: not valid JSON \(column 2"),
        ('{"a": 1}\0\0\0', "^f:1: not valid JSON .it holds NUL bytes"),
        ("[" * 100_000, "^f:1: .*nested too deep"),
        ("1" * 5_000, "^f:1: a number is too long"),
        ('{"a": "x\ty"}', "^f:1: not valid JSON .*Invalid control character"),
        ("{'a': 1}", "^f:1: not valid JSON"),
        ("", "^f:1: not valid JSON"),
    ],
)
def test_a_line_that_is_no_json_is_named(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_json(text, "f:1")


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85"])
def test_only_line_breaks_end_a_line(sign: str, tmp_path: Path) -> None:
    path, row = tmp_path / "rows.jsonl", f'{{"a": "x{sign}y"}}'
    path.write_bytes(("\ufeff" + row + "\r\n\r\n" + row + "\r\n").encode())
    assert [place for place, _ in read_json_rows(path)] == [f"{path}:1", f"{path}:3"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"a": 1}\n{"a": "\xe4"}\n', r"a\.jsonl:2: not UTF-8 text \(column 8\)"),
        ("a.json", b'[{"a": 1},\n{"a": "\xe4"}]', r"a\.json:2: not UTF-8 text"),
        ("a.jsonl", '{"a": 1}\n'.encode("utf-16"), r"a\.jsonl:1: not UTF-8 text"),
        ("a.jsonl", '{"a": 1}\n'.encode("utf-16-le"), r"a\.jsonl:1: not valid JSON .it holds NUL bytes"),
        ("a.json", b'{"data": []}', r"a\.json: a \.json file must hold a list"),
        ("a.json", b'[{"a": 1},\n{"a": ]', r"a\.json:2: not valid JSON \(column 7"),
        ("a.json", b"", r"a\.json:1: not valid JSON"),
        ("a.jsonl", b'{"a": 1}\n{"a": 2', r"a\.jsonl:2: not valid JSON"),
    ],
)
def test_a_file_that_is_no_json_is_named_with_its_line(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(read_json_rows(tmp_path / name))


def test_a_folder_in_a_files_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(DataError, match=r"a\.jsonl: cannot be read \(Is a directory\)"):
        list(read_json_rows(tmp_path / "a.jsonl"))
