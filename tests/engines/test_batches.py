"""The batch mode: every row is paid once, whatever ends before it is done."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lidr.engines.base import Completion, Request
from lidr.engines.openai import OpenAI, batches
from lidr.engines.openai.batches import BatchEngine
from lidr.errors import EngineError
from tests.engines.test_openai_engine import SAMPLING, TEXTS, TRANSLATE, ask, begun, by_id, engine_for
from tests.engines.test_server_replies import DAMAGED, as_sent
from tests.support.openai_server import BatchApi, Reply, TestServer, echo

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture(autouse=True)
def polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "POLL_S", 0.01)


@pytest.fixture
def server() -> Iterator[TestServer]:
    with TestServer() as server:
        server.batches = BatchApi()
        yield server


def api(server: TestServer) -> BatchApi:
    assert server.batches is not None
    return server.batches


def engine(server: TestServer, **settings: Any) -> BatchEngine:
    return BatchEngine("test", OpenAI(base_url=server.base_url, batch=True, **settings))


def ids(*numbers: int) -> list[str]:
    return [ask(number).request_id for number in numbers]


def run(server: TestServer, kept: dict[int, Completion], count: int = 10) -> None:
    """As a stage does: what is answered is kept, whatever comes after."""
    done = {ask(number).request_id for number in kept}
    for completion in engine(server).generate(map(ask, range(count)), SAMPLING, done):
        number = int(completion.request_id, 16)
        if number not in kept:
            kept[number] = completion


def test_every_row_comes_back_as_it_would_one_by_one(server: TestServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MAX_ROWS", 4)
    requests = [*map(ask, range(5)), *(ask(10 + n, text) for n, text in enumerate(TEXTS.values()))]
    made = by_id(engine(server).generate(requests, SAMPLING))
    assert api(server).submitted() == [ids(0, 1, 2, 3), ids(4, 10, 11, 12), ids(13, 14)]
    assert server.counters.requests == 0
    assert made == by_id(engine_for(server).generate(requests, SAMPLING))
    assert [made[10 + n].text for n in range(len(TEXTS))] == list(TEXTS.values())


def test_a_chunk_has_no_more_bytes_than_allowed(server: TestServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MAX_BYTES", 2000)
    made = by_id(engine(server).generate((ask(n, "ж" * 100 * (n % 3 + 1)) for n in range(20)), SAMPLING))
    assert len(made) == 20
    sizes = [len(data) for name, data in api(server).files.items() if b'"method"' in data]
    assert max(sizes) <= 2000 and min(sizes[:-1]) > 900


def test_all_chunks_are_submitted_before_the_first_is_waited_for(
    server: TestServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(batches, "MAX_ROWS", 4)
    api(server).hold = True

    def sleep(seconds: float) -> None:
        if api(server).calls["retrieve"] > 9:
            assert len(api(server).batches) == 3
            api(server).hold = False

    monkeypatch.setattr(batches.time, "sleep", sleep)
    assert len(by_id(engine(server).generate(map(ask, range(10)), SAMPLING))) == 10
    said = capsys.readouterr().err
    assert said.count("in_progress") == 3  # although it was asked for more often
    assert "batch batch_2: completed, 2 of 2 answered, 0 failed" in said


def test_an_interrupt_leaves_the_batches_to_be_picked_up(
    server: TestServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(batches, "MAX_ROWS", 4)
    api(server).hold = True

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(batches.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(server, {})
    said = capsys.readouterr().err
    assert "batch_0, batch_1, batch_2: goes on without us; run the same command again to pick it up" in said
    api(server).hold = False
    kept: dict[int, Completion] = {}
    run(server, kept)
    assert sorted(kept) == list(range(10))
    assert len(api(server).batches) == 3 and api(server).calls["list"] == 1 + 2  # two pages
    run(server, kept)
    assert api(server).calls["list"] == 3  # nothing is owed


def test_a_run_that_died_between_rows_pays_nothing_twice(server: TestServer) -> None:
    rows = engine(server).generate(map(ask, range(10)), SAMPLING)
    kept = {int(completion.request_id, 16): completion for completion, _ in zip(rows, range(3), strict=False)}
    rows.close()  # type: ignore[attr-defined]
    assert len(kept) == 3
    run(server, kept)
    assert len(kept) == 10 and len(api(server).batches) == 1


def test_other_requests_are_other_batches(server: TestServer) -> None:
    run(server, {}, count=10)
    run(server, {}, count=9)
    run(server, {}, count=10)
    assert [len(batch) for batch in api(server).submitted()] == [10, 9]


@pytest.mark.parametrize("end", ["expired", "cancelled"])
def test_what_a_batch_answered_before_it_ended_is_kept(server: TestServer, end: str) -> None:
    api(server).end, api(server).rows = end, 6
    kept: dict[int, Completion] = {}
    with pytest.raises(EngineError, match=rf"4 rows got no answer .*batch_0 {end}\).* run the same command again"):
        run(server, kept)
    assert sorted(kept) == list(range(6))
    api(server).rows = 2
    with pytest.raises(EngineError, match=r"2 rows got no answer"):
        run(server, kept)
    api(server).end, api(server).rows = "completed", None
    run(server, kept)
    assert {n: kept[n].text for n in range(10)} == {n: f"question {n}" for n in range(10)}
    assert api(server).submitted() == [ids(*range(10)), ids(6, 7, 8, 9), ids(8, 9)]
    lost: dict[int, Completion] = {}  # as if the run's folder had been lost, too
    run(server, lost)
    assert lost == kept and len(api(server).batches) == 3


def test_a_batch_that_is_not_taken_says_why(server: TestServer) -> None:
    api(server).end, api(server).errors = "failed", ["Enqueued token limit reached for gpt-9"]
    with pytest.raises(EngineError, match=r"10 rows .* \(batch batch_0 failed: Enqueued token limit reached for gpt-9"):
        run(server, {})
    api(server).end = "completed"
    kept: dict[int, Completion] = {}
    run(server, kept)
    assert len(kept) == 10 and len(api(server).batches) == 2


def test_rows_that_fail_for_a_while_are_owed_and_refused_ones_are_not(server: TestServer) -> None:
    refusals = {3: (400, "too long"), 4: (429, "slow down"), 5: (500, "broken"), 6: (422, "not like this")}

    def answer(body: dict[str, Any]) -> Reply:
        number = int(body["messages"][-1]["content"].split()[1])
        status, error = refusals.get(number, (200, ""))
        return Reply("", status=status, error=error) if error else echo(body)

    server.answer = answer
    kept: dict[int, Completion] = {}
    with pytest.raises(EngineError, match=r"2 rows got no answer in batch mode \((500 broken|429 slow down)\)"):
        run(server, kept)
    assert {n: kept[n].error for n in kept if kept[n].error} == {3: "400 too long", 6: "422 not like this"}
    server.answer = echo
    run(server, kept)
    assert kept[5].text == "question 5" and api(server).submitted()[1:] == [ids(4, 5)]


def test_refusals_of_all_rows_are_the_configurations_fault(server: TestServer) -> None:
    server.answer = lambda body: Reply("", status=400, error="System role not supported")
    with pytest.raises(EngineError, match=r"System role not supported \(the same for all .* system_prompt: null"):
        run(server, {})
    server.answer = lambda body: Reply("", status=400, error="Unknown parameter: seed")
    with pytest.raises(EngineError, match=r"engine\.extra_body\.seed: null to leave this field out"):
        run(server, {}, count=11)


def test_a_server_without_batches_is_named(server: TestServer) -> None:
    server.batches = None
    with pytest.raises(EngineError, match=r"has no batch mode \(404 no such path.*\); set engine.batch to false"):
        run(server, {})


def test_calls_that_fail_for_a_while_change_nothing(server: TestServer) -> None:
    api(server).faults.update(files=1, create=1, list=1, retrieve=1, content=1)
    kept: dict[int, Completion] = {}
    run(server, kept)
    assert len(kept) == 10 and api(server).faults.total() == 0 and len(api(server).batches) == 1


def test_a_batch_whose_creation_seemed_to_fail_is_not_created_again(server: TestServer) -> None:
    api(server).faults["lost"] = 1
    run(server, {})
    assert len(api(server).batches) == 1


def test_a_server_that_is_away_for_good_ends_the_run_and_not_the_batch(
    server: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "SILENT_POLLS", 2)
    api(server).hold = True
    monkeypatch.setattr(batches.time, "sleep", lambda seconds: server.switch_off())
    with pytest.raises(EngineError, match=r"does not answer \(.*\)\. Batches that were submitted go on there; run the"):
        list(engine(server, max_retries=0).generate(map(ask, range(10)), SAMPLING))
    server.switch_on()
    api(server).hold = False
    kept: dict[int, Completion] = {}
    run(server, kept)
    assert len(kept) == 10 and len(api(server).batches) == 1


def test_files_that_the_server_has_removed_are_asked_for_anew(server: TestServer) -> None:
    run(server, {})
    api(server).files = {name: data for name, data in api(server).files.items() if b'"method"' in data}
    kept: dict[int, Completion] = {}
    run(server, kept)
    assert len(kept) == 10 and len(api(server).batches) == 2


def test_a_damaged_line_is_owed(server: TestServer) -> None:
    original = api(server)._keep
    api(server)._keep = lambda data: original(data if b'"method"' in data else data[:-20])  # type: ignore[method-assign]
    kept: dict[int, Completion] = {}
    with pytest.raises(EngineError, match="1 row got no answer"):
        run(server, kept)
    assert len(kept) == 9


def test_a_wrong_key_is_an_error_at_once(server: TestServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.key = "right"
    monkeypatch.setenv("OPENAI_API_KEY", "wrong-secret")
    with pytest.raises(EngineError, match=r"401 wrong key \*\*\*"):
        run(server, {})


def test_a_request_that_comes_twice_is_answered_once(server: TestServer) -> None:
    made = list(engine(server).generate([ask(1), ask(1), ask(2)], SAMPLING))
    assert sorted(completion.text for completion in made) == ["question 1", "question 2"]
    assert api(server).submitted() == [ids(1, 2)]


def test_translations_are_begun_in_words(server: TestServer) -> None:
    server.answer = lambda body: "<translated>\nBonjour</translated>"
    requests: list[Request] = [begun(n) for n in range(3)]
    made = by_id(engine(server).generate(requests, TRANSLATE))
    assert {(row.text, row.stopped_by) for row in made.values()} == {("Bonjour", "</translated>")}
    assert server.counters.lists == 1


@pytest.mark.parametrize("name", ["choices null", "tokens negative", "usage list", "content parts", "nested content"])
def test_an_answer_that_cannot_be_read_is_sent_again_once_and_then_a_failed_row(server: TestServer, name: str) -> None:
    server.answer = lambda body: as_sent(DAMAGED[name]) if "question 4" in str(body) else echo(body)
    kept: dict[int, Completion] = {}
    with pytest.raises(EngineError, match="1 row got no answer"):
        run(server, kept)
    assert sorted(kept) == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    run(server, kept)
    assert kept[4].finish_reason == "error" and kept[4].passing and kept[4].error
    assert [len(rows) for rows in api(server).submitted()] == [10, 1]


@pytest.mark.parametrize(
    "line",
    [
        b"", b"null", b"[]", b"<html>", b"\xff", b"[" * 100_000, b'{"custom_id": ["a"], "response": {}}',
        b'{"custom_id": {"a": 1}}', b'{"custom_id": null}', b'{"custom_id": "x", "response": {"status_code": 200}}',
        b'{"custom_id": "ID", "response": []}', b'{"custom_id": "ID", "response": {"status_code": "200"}}',
    ],
    ids=lambda line: repr(line)[:40],
)  # fmt: skip
def test_lines_that_are_none_cost_no_other_row(server: TestServer, line: bytes) -> None:
    original = api(server)._keep
    line = line.replace(b"ID", ids(4)[0].encode())
    api(server)._keep = (  # type: ignore[method-assign]
        lambda data: original(data if b'"method"' in data else data.replace(_line_of(data, 4), line + b"\n"))
    )
    kept: dict[int, Completion] = {}
    with pytest.raises(EngineError, match="1 row got no answer"):
        run(server, kept)
    assert sorted(kept) == [0, 1, 2, 3, 5, 6, 7, 8, 9]


def _line_of(data: bytes, number: int) -> bytes:
    return next((line for line in data.splitlines(keepends=True) if ids(number)[0].encode() in line), b"")


@pytest.mark.parametrize(
    ("call", "value", "message"),
    [
        ("_list", "<html>", "does not answer"), ("_list", {"data": None}, "does not answer"),
        ("_list", {"data": [{"metadata": {"lidr": "x"}, "status": "done"}]}, "does not answer"),
        ("_files", {"id": 7}, "does not answer"), ("_files", [], "does not answer"),
        ("_create", {"id": "b", "status": "unknown"}, "does not answer"), ("_create", None, "does not answer"),
        ("_retrieve", {"id": "b", "status": ["completed"]}, "does not answer"),
        ("_retrieve", {"id": "b", "status": "completed", "request_counts": "all"}, "does not answer"),
    ],
)  # fmt: skip
def test_a_description_that_cannot_be_read_ends_the_run_by_name(
    server: TestServer, monkeypatch: pytest.MonkeyPatch, call: str, value: Any, message: str
) -> None:
    monkeypatch.setattr(batches, "SILENT_POLLS", 2)
    monkeypatch.setattr(api(server), call, lambda *_: (200, value))
    with pytest.raises(EngineError, match=message):
        run(server, {})


def test_batches_of_others_are_left_alone_whatever_they_look_like(server: TestServer) -> None:
    foreign = [None, 7, {"id": ["x"]}, {"id": "x", "metadata": "lidr"}, {"id": "x", "metadata": {"lidr": 1}, "x": 1}]
    strange: dict[str, Any] = {"data": foreign[:-1], "has_more": False}
    api(server)._list = lambda *_: (200, strange)  # type: ignore[method-assign,assignment]
    kept: dict[int, Completion] = {}
    run(server, kept)
    assert len(kept) == 10
