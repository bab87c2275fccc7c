"""The queue of a stage: one for all languages, with one file per language."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lidr.engines.base import Completion, Request, Sampling
from lidr.errors import RunError
from lidr.records import Response, content_id
from lidr.seals import RowFile, read_rows
from lidr.stages.generation import Part, fill


class Echo:
    """Answers with the question, the last request first; notes what it was given."""

    def __init__(self, gives_up_after: int = 1000) -> None:
        self.calls: list[list[str]] = []
        self.left = gives_up_after

    def generate(
        self, requests: Iterable[Request], sampling: Sampling, done: Collection[str] = frozenset()
    ) -> Iterator[Completion]:
        asked = list(requests)
        self.calls.append([request.messages[0][1] for request in asked])
        for request in reversed(asked):
            if request.request_id not in done and self.left:
                self.left -= 1
                text = request.messages[0][1]
                yield Completion(request.request_id, text, "stop", completion_tokens=len(text))

    def close(self) -> None:
        pass


def make_part(folder: Path, language: str, count: int, logged: dict[str, Any], version: int = 1) -> Part:
    questions = [f"{language} {number}" for number in range(count)]
    requests = [Request(content_id(question), (("user", question),)) for question in questions]
    file = RowFile(folder / f"{language}.jsonl", {"version": version})
    rows = lambda: (Response(request.request_id, "p", language, **file.row(request.request_id)) for request in requests)  # noqa: E731
    fields = lambda made: {"text": made.text, "finish_reason": "stop", "completion_tokens": made.completion_tokens}  # noqa: E731
    return Part(file, lambda: requests, fields, lambda done: logged.update({language: done}), rows)


def texts(folder: Path, language: str) -> list[str]:
    return [row["text"] for row in read_rows(folder / f"{language}.jsonl")]


def test_all_languages_are_one_queue_and_each_has_its_file(tmp_path: Path) -> None:
    engine, logged = Echo(), {}
    fill([make_part(tmp_path, code, 3, logged) for code in ("es", "de")], lambda: engine, Sampling(8), "respond")
    assert engine.calls == [["es 0", "es 1", "es 2", "de 0", "de 1", "de 2"]]
    assert texts(tmp_path, "es") == ["es 0", "es 1", "es 2"]
    assert texts(tmp_path, "de") == ["de 0", "de 1", "de 2"]
    assert [logged[code]["rows"] for code in ("es", "de")] == [3, 3]
    assert logged["es"]["tokens"] == logged["de"]["tokens"] == 12


def test_the_time_is_shared_out_by_tokens(tmp_path: Path) -> None:
    logged: dict[str, Any] = {}
    fill([make_part(tmp_path, "es", 9, logged), make_part(tmp_path, "de", 1, logged)], Echo, Sampling(8), "respond")
    assert logged["es"]["seconds"] == pytest.approx(9 * logged["de"]["seconds"], abs=0.01)


def test_an_interrupted_queue_goes_on_with_the_same_list(tmp_path: Path) -> None:
    first, logged = Echo(gives_up_after=4), {}
    with pytest.raises(RunError, match=r"es\.jsonl: the engine ended with 2 of 3 answers missing"):
        fill([make_part(tmp_path, code, 3, logged) for code in ("es", "de")], lambda: first, Sampling(8), "respond")
    again = Echo()
    fill([make_part(tmp_path, code, 3, logged) for code in ("es", "de")], lambda: again, Sampling(8), "respond")
    assert again.calls == first.calls  # so that rows are batched with the rows they would have been with
    assert [logged[code]["rows"] for code in ("es", "de")] == [2, 0]
    assert texts(tmp_path, "de") == ["de 0", "de 1", "de 2"]


def test_a_file_that_was_complete_for_other_inputs_is_not_asked_along(tmp_path: Path) -> None:
    logged: dict[str, Any] = {}
    fill([make_part(tmp_path, "es", 3, logged)], Echo, Sampling(8), "respond")
    engine = Echo()
    parts = [make_part(tmp_path, "es", 3, logged, version=2), make_part(tmp_path, "de", 3, logged, version=2)]
    fill(parts, lambda: engine, Sampling(8), "respond")
    assert engine.calls == [["de 0", "de 1", "de 2"]]
    assert parts[0].file.sealed and logged["es"]["rows"] == 0


def test_an_answer_to_nothing_is_an_error(tmp_path: Path) -> None:
    class Stray(Echo):
        def generate(self, *_: Any, **__: Any) -> Iterator[Completion]:
            yield Completion(content_id("another"), "text", "stop")

    with pytest.raises(ValueError, match="is not owed"):
        fill([make_part(tmp_path, "es", 3, {})], Stray, Sampling(8), "respond")
