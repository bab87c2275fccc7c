"""The one reader of tables: what a folder must not leave open, and data sets of every kind."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

from lidr.benchmarks.mgsm import MgsmBenchmark
from lidr.errors import DataError
from lidr.tables import language_files, read_dataset, read_table

ROW = {"question": "How many?", "answer_number": "2"}


def test_a_saved_data_set_has_no_languages(tmp_path: Path) -> None:
    Dataset.from_list([ROW]).save_to_disk(tmp_path / "one")
    DatasetDict({"test": Dataset.from_list([ROW])}).save_to_disk(tmp_path / "splits")
    for name in ("one", "splits"):
        assert [row for _, row in read_dataset(str(tmp_path / name), None, "test", "help")] == [ROW]
        with pytest.raises(DataError, match="has no configuration 'es'"):
            MgsmBenchmark(path=str(tmp_path / name), languages=["es"]).questions("es")


def test_two_files_of_one_language_are_refused(tmp_path: Path) -> None:
    for name in ("en.jsonl", "es.jsonl", "es.tsv"):
        (tmp_path / name).write_text("", encoding="utf-8")
    with pytest.raises(DataError, match=r"several files for es \(es.jsonl, es.tsv\); keep one"):
        language_files(tmp_path)


def test_tsv_with_and_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "en.tsv"
    path.write_text('He said "hi"\t2\n\nTwo?\t3\n', encoding="utf-8")
    plain = [row for _, row in read_table(path, ("question", "answer_number"))]
    assert plain == [{"question": 'He said "hi"', "answer_number": "2"}, {"question": "Two?", "answer_number": "3"}]
    path.write_text("id\ttext\n1\ta, b; c\n", encoding="utf-8")
    assert [(place, row) for place, row in read_table(path)] == [(f"{path}:2", {"id": "1", "text": "a, b; c"})]


def test_every_format_gives_the_same_rows(tmp_path: Path) -> None:
    table = Dataset.from_list([ROW, ROW | {"question": "And now?"}])
    table.to_json(tmp_path / "a.jsonl")
    table.to_csv(tmp_path / "b.csv")
    table.to_parquet(tmp_path / "c.parquet")
    read = [[row for _, row in read_table(tmp_path / name)] for name in ("a.jsonl", "b.csv", "c.parquet")]
    assert read[0] == read[1] == read[2] == table.to_list()
