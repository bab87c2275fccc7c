"""Prompts: every accepted source gives the same aligned rows, and every defect is named with file and line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet
import pytest

from lidr import storage
from lidr.errors import DataError
from lidr.run_dir import RunDir, is_sealed
from lidr.stages import prompts
from lidr.stages.prompts import load_prompts
from tests.conftest import make_config

TEXTS = {"en": ["Hello, you", "Bye"], "es": ["Hola, tú", "Adiós"]}
EXPECTED = [("a", "en", "Hello, you"), ("a", "es", "Hola, tú"), ("b", "en", "Bye"), ("b", "es", "Adiós")]


def rows(code: str) -> list[dict[str, str]]:
    return [{"id": key, "instruction": text} for key, text in zip("ab", TEXTS[code], strict=True)]


def write_jsonl(path: Path, items: Iterable[Any]) -> None:
    path.write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items), encoding="utf-8")


def load(path: Path | str, **prompts: Any) -> list[tuple[str, str, str]]:
    config = make_config(Path("."), languages=["en", "es"], prompts={"path": str(path), **prompts})
    return [(prompt.prompt_id, prompt.language, prompt.text) for prompt in load_prompts(config)]


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "parquet"])
@pytest.mark.parametrize("one_table", [False, True])
def test_every_file_format_gives_the_same_prompts(tmp_path: Path, suffix: str, one_table: bool) -> None:
    tables = {"all": [row | {"language": code} for code in TEXTS for row in rows(code)]} if one_table else {}
    for name, table in (tables or {code: rows(code) for code in TEXTS}).items():
        path = tmp_path / f"{name}.{suffix}"
        if suffix == "jsonl":
            write_jsonl(path, table)
        elif suffix == "json":
            path.write_text(json.dumps(table), encoding="utf-8")
        elif suffix == "csv":
            lines = [",".join(table[0]), *(",".join(f'"{value}"' for value in row.values()) for row in table)]
            path.write_text("\n".join(lines), encoding="utf-8")
        else:
            pyarrow.parquet.write_table(pa.Table.from_pylist(table), path)
    assert load(tmp_path / f"all.{suffix}" if one_table else tmp_path) == EXPECTED


def test_a_saved_data_set_and_a_hub_style_folder_load(tmp_path: Path) -> None:
    import datasets

    table = [row | {"language": code} for code in TEXTS for row in rows(code)]
    datasets.DatasetDict({"train": datasets.Dataset.from_list(table)}).save_to_disk(str(tmp_path / "saved"))
    assert load(tmp_path / "saved") == EXPECTED
    hub = tmp_path / "hub"
    (hub / "data").mkdir(parents=True)
    pyarrow.parquet.write_table(pa.Table.from_pylist(table), hub / "data" / "train-00000-of-00001.parquet")
    assert load(hub) == EXPECTED


def test_prompts_behind_a_url_are_read_and_their_changes_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    url = f"memory://{tmp_path.name}/prompts"
    system, root = fsspec.core.url_to_fs(url)

    def put(code: str, items: list[dict[str, str]]) -> None:
        system.pipe(f"{root}/{code}.jsonl", "".join(json.dumps(item) + "\n" for item in items).encode())
        storage._look.cache_clear()  # as in a new process

    for code in TEXTS:
        put(code, rows(code))
    assert load(url) == EXPECTED
    config = make_config(Path("."), languages=["en", "es"], prompts={"path": url})
    run = RunDir.start(config, tmp_path / "run", say=print)
    prompts.run(config, run, 1)
    storage._look.cache_clear()
    ((path, before),) = prompts.outputs(config, run, 1)
    assert is_sealed(path, before)
    put("es", rows("es")[::-1])  # of the same size
    ((path, after),) = prompts.outputs(config, run, 1)
    assert not is_sealed(path, after)
    system.rm(root, recursive=True)


def test_rows_are_aligned_by_id_in_the_order_of_the_dominant_language(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "en.jsonl", rows("en"))
    write_jsonl(tmp_path / "es.jsonl", reversed(rows("es")))
    assert load(tmp_path) == EXPECTED
    assert load(tmp_path, limit=1) == EXPECTED[:2]


def test_fields_and_numeric_ids_can_be_named(tmp_path: Path) -> None:
    for code in TEXTS:
        write_jsonl(tmp_path / f"{code}.jsonl", [{"n": 7, "question": TEXTS[code][0]}])
    assert load(tmp_path, fields={"id": "n", "text": "question"}) == [
        ("7", "en", "Hello, you"),
        ("7", "es", "Hola, tú"),
    ]


def test_half_of_a_surrogate_pair_becomes_a_replacement_character(tmp_path: Path) -> None:
    for code in TEXTS:
        (tmp_path / f"{code}.jsonl").write_text('{"id": "a", "instruction": "x \\ud83d"}\n')
    assert load(tmp_path) == [("a", "en", "x \ufffd"), ("a", "es", "x \ufffd")]


def test_arithmetic_prompts_are_wrapped_in_their_language(tmp_path: Path) -> None:
    for code in TEXTS:
        write_jsonl(tmp_path / f"{code}.jsonl", [{"id": "1", "instruction": "2 + {question} = ?"}])
    english, spanish = load(tmp_path, task="arithmetic")
    assert english[2].startswith("2 + {question} = ?\n") and "step by step" in english[2]
    assert "en español" in spanish[2]


@pytest.mark.parametrize(
    ("lines", "place", "remedy"),
    [
        (['{"id": "a", "instruction": "x"}', '{"id": "b", "instr'], "es.jsonl:2", "not valid JSON"),
        (['{"id": "a", "instruction": "x"}', '{"id": "a", "instruction": "y"}'], "es.jsonl:2", "es.jsonl:1 already"),
        (['{"id": "a", "instruction": "  "}'], "es.jsonl:1", "is empty"),
        (['{"id": "a", "text": "x"}'], "es.jsonl:1", "set prompts.fields.text"),
        (['{"instruction": "x"}'], "es.jsonl:1", "set prompts.fields.id"),
        (['["a", "x"]'], "es.jsonl:1", "must be an object"),
        (['{"id": "a", "instruction": "x"}'], "en.jsonl:2", "prompts.on_missing=skip"),
    ],
)
def test_a_defect_is_named_with_file_and_line(tmp_path: Path, lines: list[str], place: str, remedy: str) -> None:
    write_jsonl(tmp_path / "en.jsonl", rows("en"))
    (tmp_path / "es.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    assert place in str(caught.value)
    assert remedy in str(caught.value)


def test_missing_ids_can_be_skipped(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "en.jsonl", rows("en"))
    write_jsonl(tmp_path / "es.jsonl", rows("es")[:1])
    assert load(tmp_path, on_missing="skip") == EXPECTED[:3]


def test_missing_sources_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        load(tmp_path / "nowhere.jsonl")
    write_jsonl(tmp_path / "en.jsonl", rows("en"))
    with pytest.raises(DataError, match="no file for language es"):
        load(tmp_path)
    (tmp_path / "table.txt").write_text("x")
    with pytest.raises(DataError, match=r"not as \.txt"):
        load(tmp_path / "table.txt")
