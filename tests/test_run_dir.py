"""Owed, partial, sealed: nothing finished is lost, nothing torn is kept, one writer at a time."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lidr.config import load_config
from lidr.errors import RunError
from lidr.records import Row, content_id
from lidr.run_dir import RunDir
from lidr.seals import RowFile, digest, is_sealed, read_rows, stale_because, write_sealed
from lidr.storage import write_text
from tests.conftest import make_config


@dataclass(frozen=True, slots=True)
class Note(Row):
    id: str
    prompt_id: str
    text: str


IDS = [content_id(number) for number in range(4)]


def seal_all(file: RowFile) -> None:
    file.seal(Note(row_id, f"p{number}", **file.row(row_id)) for number, row_id in enumerate(IDS))


def test_rows_are_sealed_in_the_order_asked_for(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "es.jsonl", {"model": "m"})
    file.open(IDS)
    for row_id in reversed(IDS):
        file.append(row_id, {"text": f"text of {row_id}"})
    assert not file.path.exists()
    seal_all(file)
    rows = list(read_rows(file.path))
    assert [row["id"] for row in rows] == IDS
    assert rows[2] == {"id": IDS[2], "prompt_id": "p2", "text": f"text of {IDS[2]}"}
    assert is_sealed(file.path, {"model": "m"})
    assert not is_sealed(file.path, {"model": "other"})
    assert not file.partial.exists()


@pytest.mark.parametrize("field", ["text", "new"])
@pytest.mark.parametrize("value", [None, 5, "other"])
def test_a_row_that_is_not_what_was_written_is_owed_again(field: str, value: Any, tmp_path: Path) -> None:
    file = RowFile(tmp_path / "es.jsonl", {})
    file.open(IDS)
    for row_id in IDS[:2]:
        file.append(row_id, {"text": "a", "score": 0.1, "note": None})
    first, second = file.partial.read_text().splitlines()
    row = json.loads(first) | {field: value}
    file.partial.write_text(json.dumps(row) + "\n" + second + "\n")
    again = RowFile(tmp_path / "es.jsonl", {})
    again.open(IDS)
    assert list(again) == sorted(IDS[1:2])
    assert again.row(IDS[1]) == {"text": "a", "score": 0.1, "note": None}


def test_a_row_that_lost_a_field_is_owed_again(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "es.jsonl", {})
    file.open(IDS)
    file.append(IDS[0], {"text": "a", "score": 0.1})
    row = json.loads(file.partial.read_text())
    del row["score"]
    file.partial.write_text(json.dumps(row) + "\n")
    file.open(IDS)
    assert IDS[0] not in file


def test_a_torn_line_and_rows_no_longer_owed_are_dropped(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "es.jsonl", {})
    file.partial.write_text(
        json.dumps({"id": IDS[0], "text": "kept"}) + "\n"
        + json.dumps({"id": content_id("gone"), "text": "not owed"}) + "\n"
        + json.dumps({"id": IDS[1], "text": "torn"})[:-4]
    )  # fmt: skip
    file.open(IDS)
    assert IDS[0] in file
    assert IDS[1] not in file
    assert len(file) == 1
    for row_id in IDS[1:]:
        file.append(row_id, {"text": "new"})
    seal_all(file)
    assert [row["text"] for row in read_rows(file.path)] == ["kept", "new", "new", "new"]


def test_a_changed_recipe_keeps_the_rows_that_are_still_owed(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "es.jsonl", {"limit": 4})
    file.open(IDS)
    for row_id in IDS:
        file.append(row_id, {"text": "old"})
    seal_all(file)
    assert stale_because(file.path, {"limit": 2}) == ["limit: 4 -> 2"]
    again = RowFile(file.path, {"limit": 2})
    again.open(IDS[:2])
    assert not file.path.exists(), "a file under its final name must be complete for its inputs"
    assert len(again) == 2
    again.seal(Note(row_id, "p", **again.row(row_id)) for row_id in IDS[:2])
    assert len(list(read_rows(file.path))) == 2


def test_a_row_that_is_not_owed_is_refused_and_of_two_the_last_counts(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "es.jsonl", {})
    file.open(IDS[:2] * 2)
    for text in ("first", "second"):
        file.append(IDS[0], {"text": text})
    assert (len(file), list(file), file.row(IDS[0])) == (1, [IDS[0]], {"text": "second"})
    for row_id in (IDS[3], "no number", ""):
        assert row_id not in file
        with pytest.raises(ValueError, match="not owed"):
            file.append(row_id, {"text": "x"})
    with pytest.raises(KeyError):
        file.row(IDS[1])


def test_a_file_of_rows_needs_few_bytes_of_memory_a_row(tmp_path: Path) -> None:
    count = 40_000
    file = RowFile(tmp_path / "es.jsonl", {})
    file.partial.write_text("".join(f'{{"id": "{content_id(n)}"}}\n' for n in range(count // 2)))
    import numpy  # noqa: F401 - its own memory is not the file's

    tracemalloc.start()
    try:
        file.open(content_id(number) for number in range(count))
        for number in range(count // 2, count):
            file.append(content_id(number), {})
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(file) == count
    assert held / count < 20 and peak / count < 64


def test_a_damaged_sealed_file_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    write_sealed(path, {}, ['{"a": 1}', "{broken"])
    with pytest.raises(RunError, match=r"x\.jsonl:2"):
        list(read_rows(path))


def test_digest_needs_a_complete_file(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("{}\n")  # written by hand, without a seal
    with pytest.raises(RunError, match="not complete"):
        digest(tmp_path / "x.jsonl")


def test_write_text_leaves_equal_files_alone(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_text(path, "a")
    before = path.stat().st_mtime_ns
    write_text(path, "a")
    assert path.stat().st_mtime_ns == before
    write_text(path, "b")
    assert path.read_text() == "b"


def test_one_writer_per_run(tmp_path: Path) -> None:
    run = RunDir.start(make_config(tmp_path), tmp_path / "run", say=print)
    code = (
        "import sys; from pathlib import Path; from lidr.run_dir import RunDir; from lidr.errors import RunError\n"
        "try:\n    with RunDir(Path(sys.argv[1])).lock(): print('locked')\nexcept RunError as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(run.path)]
    with run.lock():
        held = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    free = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "in use by process" in held
    assert free.strip() == "locked"


def test_a_run_says_what_changed_in_its_recipe(tmp_path: Path) -> None:
    said: list[str] = []
    RunDir.start(make_config(tmp_path), tmp_path / "run", say=said.append)
    RunDir.start(make_config(tmp_path, iterations=3), tmp_path / "run", say=said.append)
    assert said == ["recipe changed since the last start: iterations: 1 -> 3"]


def test_a_foreign_folder_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(RunError, match="holds no run"):
        RunDir.start(make_config(tmp_path), tmp_path, say=print)
    with pytest.raises(RunError, match="lidr run RECIPE"):
        RunDir.load(tmp_path)


def test_a_recipe_of_a_run_in_use_stays_as_it_is(tmp_path: Path) -> None:
    config = load_config("quickstart")
    run_dir = RunDir.start(config, tmp_path / "run", say=print)
    before = run_dir.recipe.read_bytes()
    with run_dir.lock(), pytest.raises(RunError, match="is in use by process"):
        RunDir.start(load_config("quickstart", ["seed=1"]), tmp_path / "run", say=print)
    assert run_dir.recipe.read_bytes() == before


def test_inputs_that_an_older_version_did_not_have_change_nothing_while_they_are_null(tmp_path: Path) -> None:
    write_sealed(tmp_path / "file.jsonl", {"model": "a", "nested": {"x": 1}}, ["{}"])
    assert is_sealed(tmp_path / "file.jsonl", {"model": "a", "nested": {"x": 1, "new": None}, "other": None})
    assert not is_sealed(tmp_path / "file.jsonl", {"model": "a", "nested": {"x": 1, "new": 0}})


def test_what_changes_answers_beside_the_weights_is_part_of_the_model(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.path.mkdir(exist_ok=True)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text(f'{{"r": 8, "name": "{name}"}}')

    def fingerprint(engine: str) -> str:
        return run.model(load_config("evaluation", ["model.path=lab", f"engine={engine}"]), 0).fingerprint

    same = ["{}", "{batch_size: 3, token_budget: 9}", "{type: vllm, arguments: {max_num_seqs: 3}}", "{type: ray}"]
    assert len({fingerprint(engine) for engine in same}) == 1
    other = [
        "{quantize: nf4}",
        "{quantize: int8}",
        f"{{type: vllm, adapter: {tmp_path / 'a'}}}",
        f"{{type: vllm, adapter: {tmp_path / 'b'}}}",
        "{type: vllm, arguments: {quantization: fp8}}",
        "{type: openai, launch: 'serve {model} {port}', extra_body: {top_k: 3}}",
    ]
    assert len({fingerprint(engine) for engine in [*other, "{}"]}) == 7
    assert fingerprint("{type: ray, worker: {quantize: nf4}}") == fingerprint("{quantize: nf4}")
