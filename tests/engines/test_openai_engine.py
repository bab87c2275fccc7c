"""The openai engine against a server with faults: every answer once, none lost, and errors that say what to do."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from email.utils import formatdate
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from lidr.engines import open_model
from lidr.engines.base import Completion, Request, Sampling
from lidr.engines.openai import OpenAI
from lidr.engines.openai import engine as openai_engine
from lidr.engines.openai.engine import OpenAIEngine
from lidr.engines.openai.protocol import NEUTRAL
from lidr.errors import EngineError
from lidr.seals import RowFile
from lidr.stages.generation import Part, fill
from tests.support.openai_server import Faults, Reply, TestServer, echo

SAMPLING = Sampling(max_new_tokens=50)
TEXTS = {
    "th": "ภาษาไทยไม่มีช่องว่างระหว่างคำ",
    "ar": "السلام عليكم، كيف حالك؟",
    "zh": "语言不平衡，奖励。",
    "ja": "日本語の文章です。",
    "emoji": '👩‍👩‍👧‍👦 🇫🇷 \u202e \x00 \u2028 \\ "',
}


pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def server() -> Iterator[TestServer]:
    with TestServer() as server:
        yield server


def engine_for(server: TestServer, **settings: Any) -> OpenAIEngine:
    settings = {"concurrency": 4, "max_retries": 2} | settings
    return OpenAIEngine("test", OpenAI(base_url=server.base_url, **settings))


def ask(number: int, content: str | None = None) -> Request:
    return Request(f"{number:016x}", (("system", "Be brief."), ("user", content or f"question {number}")))


def by_id(completions: Iterator[Completion]) -> dict[int, Completion]:
    made = list(completions)
    found = {int(completion.request_id, 16): completion for completion in made}
    assert len(found) == len(made)
    return found


def test_every_request_is_answered_once_through_all_faults(server: TestServer) -> None:
    server.faults = Faults(0.05, 0.05, 0.05, 0.02, 0.05, 0.05, 0.03, slow_s=0.1)
    made = by_id(engine_for(server, concurrency=8, max_retries=8).generate(map(ask, range(300)), SAMPLING))
    assert {number: completion.text for number, completion in made.items()} == {n: f"question {n}" for n in range(300)}
    assert all(made[n] == Completion(f"{n:016x}", f"question {n}", "stop", 4, 2) for n in range(300))
    assert len(server.counters.faults) == 7  # every kind came up
    assert server.counters.requests == 300 + server.counters.faults.total() - server.counters.faults["slow"]


def test_no_more_requests_are_under_way_than_allowed(server: TestServer) -> None:
    server.faults = Faults(slow=1.0, slow_s=0.03)
    with open_model(engine_for(server, concurrency=5).config, "test") as engine:
        assert len(list(engine.generate(map(ask, range(20)), SAMPLING))) == 20
    assert server.counters.max_concurrency == 5


def test_requests_are_taken_only_when_they_can_be_sent(server: TestServer) -> None:
    taken = []

    def requests() -> Iterator[Request]:
        for number in range(1000):
            taken.append(number)
            yield ask(number)

    completions = engine_for(server).generate(requests(), SAMPLING)
    for count in range(1, 10):
        next(completions)
        assert len(taken) < count + 4
    completions.close()  # type: ignore[attr-defined]


def test_requests_that_end_early_end_the_answers(server: TestServer) -> None:
    answered = 0

    def within_budget() -> Iterator[Request]:
        for number in range(100):
            if answered >= 10:
                return
            yield ask(number)

    for _ in engine_for(server).generate(within_budget(), SAMPLING):
        answered += 1
    assert answered == server.counters.requests <= 10 + 4


def test_an_error_of_the_callers_own_comes_through(server: TestServer) -> None:
    with pytest.raises(ZeroDivisionError):
        list(engine_for(server).generate((ask(1 // (3 - n)) for n in range(9)), SAMPLING))


def test_what_is_done_is_not_asked_again(server: TestServer) -> None:
    done = {ask(number).request_id for number in range(0, 20, 2)}
    made = by_id(engine_for(server).generate(map(ask, range(20)), SAMPLING, done=done))
    assert sorted(made) == list(range(1, 20, 2))
    assert server.counters.requests == 10


def test_a_run_goes_on_after_the_server_was_away(server: TestServer, tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        if server.counters.requests >= 50:
            server.switch_off()
        return echo(body)

    def run() -> RowFile:
        file = RowFile(tmp_path / "answers.jsonl", {})
        part = Part(file, lambda: map(ask, range(100)), lambda made: {"text": made.text}, lambda done: None)
        fill([part], lambda: engine, SAMPLING, "answers")
        return file

    server.answer = answer
    engine = engine_for(server)
    with pytest.raises(EngineError, match=r"does not answer any more: .* run the same command again"):
        run()
    kept = (tmp_path / "answers.partial.jsonl").read_text().splitlines()
    assert 42 <= len(kept) <= 58  # four requests were under way
    server.answer = echo
    server.switch_on()
    file = run()
    assert [file.row(ask(n).request_id)["text"] for n in range(100)] == [f"question {n}" for n in range(100)]
    assert (tmp_path / "answers.partial.jsonl").read_text().splitlines()[: len(kept)] == kept
    assert server.counters.requests <= 100 + 8  # those that were under way were sent again


def test_a_server_that_was_never_there_is_an_error_at_once() -> None:
    with TestServer() as server:
        pass
    started = time.monotonic()
    with pytest.raises(EngineError, match=r"no connection to http://127.0.0.1:\d+/v1 .* Start the server"):
        next(engine_for(server, max_retries=8).generate([ask(0)], SAMPLING))
    assert time.monotonic() - started < 2


def test_a_server_with_nothing_but_errors_is_given_up(server: TestServer) -> None:
    server.faults = Faults(server_error=1.0)
    with pytest.raises(EngineError, match=r"5 requests got no answer after 3 attempts \(last: 500 something broke\)"):
        list(engine_for(server).generate(map(ask, range(1000)), SAMPLING))
    assert server.counters.requests <= 3 * (5 + 4)


def test_one_request_without_an_answer_does_not_stop_the_others(server: TestServer) -> None:
    server.answer = lambda body: Reply("", status=500, error="bad luck") if "question 7" in str(body) else echo(body)
    completions = engine_for(server).generate(map(ask, range(20)), SAMPLING)
    texts = {next(completions).text for _ in range(19)}
    assert texts == {f"question {n}" for n in range(20) if n != 7}
    with pytest.raises(EngineError, match=r"1 request got no answer after 3 attempts \(last: 500 bad luck\)"):
        next(completions)


def gaps(server: TestServer) -> list[float]:
    """Seconds between a failed request and its next attempt."""
    times: dict[str, list[float]] = {}
    for body, when in zip(server.counters.bodies, server.counters.times, strict=True):
        times.setdefault(str(body), []).append(when)
    return [later - earlier for row in times.values() for earlier, later in pairwise(row)]


def test_retry_after_is_respected(server: TestServer) -> None:
    server.faults = Faults(rate_limited=0.3, retry_after="0.2")
    engine = engine_for(server, max_retries=8, concurrency=8)
    assert len(list(engine.generate(map(ask, range(16)), SAMPLING))) == 16
    assert len(gaps(server)) >= 3 and min(gaps(server)) >= 0.2
    server.faults = Faults(rate_limited=0.3, retry_after=formatdate(time.time() + 2, usegmt=True))
    server.counters.bodies.clear()
    server.counters.times.clear()
    assert len(list(engine.generate(map(ask, range(100, 116)), SAMPLING))) == 16
    assert max(gaps(server)) >= 0.8  # a date has whole seconds


def test_retry_after_holds_back_the_other_requests(server: TestServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.faults = Faults(retry_after="0.4")
    begin = server.begin
    monkeypatch.setattr(
        server, "begin", lambda *asked: begin(*asked) or (server.counters.requests == 1 and "rate_limited")
    )
    assert len(list(engine_for(server, concurrency=2).generate(map(ask, range(20)), SAMPLING))) == 20
    early = [when for when in server.counters.times if when < server.counters.times[0] + 0.4]
    assert server.counters.requests == 21 and len(early) <= 6  # what was sent before the reply was read


def test_retry_after_has_a_limit(server: TestServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_engine, "RETRY_AFTER_MAX_S", 0.05)
    server.faults = Faults(rate_limited=0.3, retry_after="86400")
    assert len(list(engine_for(server, max_retries=8).generate(map(ask, range(16)), SAMPLING))) == 16
    assert server.counters.faults["rate_limited"]


def test_a_reply_that_takes_too_long_is_asked_for_again(server: TestServer) -> None:
    server.faults = Faults(slow=0.3, slow_s=0.6)
    made = by_id(engine_for(server, timeout_s=0.3, max_retries=8).generate(map(ask, range(12)), SAMPLING))
    assert all(completion.text for completion in made.values()) and len(made) == 12
    server.faults = Faults(slow=1.0, slow_s=0.6)
    with pytest.raises(EngineError, match=r"last: no reply within 0\.1 s"):
        list(engine_for(server, timeout_s=0.1, max_retries=1).generate([ask(99)], SAMPLING))


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_request_that_is_refused_gets_the_servers_reason(server: TestServer, status: int) -> None:
    long = "the maximum context length is 8192 tokens, reduce the messages or max_tokens"
    refusal = Reply("", status=status, error=long)
    server.answer = lambda body: refusal if "word " * 50 in str(body) else echo(body)
    alone = list(engine_for(server).generate([ask(1, "word " * 100)], SAMPLING))
    assert alone == [Completion(ask(1).request_id, "", "error", error=f"{status} {long}")]
    first = iter(engine_for(server, concurrency=1).generate([ask(1, "word " * 100), ask(2), ask(3)], SAMPLING))
    assert [bool(next(first).error) for _ in range(2)] == [
        False,
        True,
    ]  # known to be the row's once another is answered
    server.counters.requests = 0
    requests = [ask(n, "word " * 100 if n % 10 == 0 else None) for n in range(40)]
    made = by_id(engine_for(server).generate(requests, SAMPLING))
    assert [n for n in range(40) if made[n].error] == [0, 10, 20, 30]
    assert server.counters.requests == 40  # no second attempt


def test_what_holds_for_every_request_is_an_error_of_the_run(
    server: TestServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MY_KEY", "wrong-secret\n")
    server.key = "right"
    with caplog.at_level(logging.DEBUG), pytest.raises(EngineError, match="model test: 401 wrong key ") as caught:
        list(engine_for(server, api_key_env="MY_KEY").generate(map(ask, range(20)), SAMPLING))
    assert server.base_url in str(caught.value) and "MY_KEY" in str(caught.value)
    assert "wrong-secret" not in str(caught.value) + caplog.text
    assert server.counters.keys == {"wrong-secret"} and server.counters.requests <= 4
    config = OpenAI(base_url=server.base_url + "/chat")
    with pytest.raises(EngineError, match="404 no such path"):
        list(OpenAIEngine("test", config).generate([ask(0)], SAMPLING))
    server.key = None
    server.answer = lambda body: Reply("", status=429, error="pay first", code="insufficient_quota")
    with pytest.raises(EngineError, match="429 pay first"):
        list(engine_for(server).generate([ask(0)], SAMPLING))


def test_openai_itself_needs_a_key_and_other_servers_do_not(
    server: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EngineError, match="set the environment variable OPENAI_API_KEY"):
        OpenAIEngine("gpt", OpenAI())
    list(engine_for(server).generate([ask(0)], SAMPLING))
    assert server.counters.keys == {"no-key"}
    monkeypatch.setenv("OPENAI_API_KEY", "clé")
    with pytest.raises(EngineError, match="OPENAI_API_KEY holds characters that no key can have"):
        OpenAIEngine("gpt", OpenAI())


def test_refusals_in_the_same_words_are_the_configurations_fault(server: TestServer) -> None:
    server.answer = lambda body: Reply("", status=400, error="System role not supported")
    with pytest.raises(EngineError, match=r"System role not supported \(the same for all .* system_prompt: null"):
        list(engine_for(server).generate(map(ask, range(100)), SAMPLING))
    server.answer = lambda body: Reply("", status=400, error=f"flagged: {body['messages'][-1]['content']}")
    made = by_id(engine_for(server).generate(map(ask, range(100)), SAMPLING))
    assert made[42].error == "400 flagged: question 42" and len(made) == 100


def test_a_field_that_the_server_does_not_know_can_be_left_out(server: TestServer) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        if "repetition_penalty" in body:
            return Reply("", status=422, error="body.repetition_penalty: extra inputs are not permitted")
        return echo(body)

    server.answer = answer
    sampling = replace(SAMPLING, repetition_penalty=1.1)
    with pytest.raises(EngineError, match=r"engine\.extra_body\.repetition_penalty: null to leave this field out"):
        list(engine_for(server).generate([ask(0)], sampling))
    engine = engine_for(server, extra_body={"repetition_penalty": None})
    assert next(engine.generate([ask(0)], sampling)).text == "question 0"


def test_a_request_says_how_to_decode_and_nothing_needless(server: TestServer, monkeypatch: pytest.MonkeyPatch) -> None:
    list(engine_for(server).generate([ask(0)], SAMPLING))
    plain = {"model": "test", "temperature": 0.0, "top_p": 1.0, "seed": 42, "max_tokens": 50} | NEUTRAL
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "question 0"}]
    assert server.counters.bodies[0] == plain | {"messages": turns}
    full = Sampling(9, 0.7, 0.9, repetition_penalty=1.1, stop=("</end>",), seed=1, top_logprobs=5)
    list(engine_for(server, extra_body={"top_k": 3, "seed": None, "temperature": 1}).generate([ask(0)], full))
    changed = NEUTRAL | {"temperature": 1, "top_p": 0.9, "max_tokens": 9, "stop": ["</end>"], "repetition_penalty": 1.1}
    changed |= {"logprobs": True, "top_logprobs": 5, "top_k": 3, "model": "test", "messages": turns}
    assert server.counters.bodies[1] == changed
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    body = OpenAIEngine("gpt", OpenAI()).body(ask(0), SAMPLING)
    assert body["max_completion_tokens"] == 50 and "max_tokens" not in body
    # The order, too: a batch that is under way is found by the hash of its requests.
    assert list(body) == ["messages", "temperature", "top_p", "seed", "max_completion_tokens"]


def test_log_probabilities_of_the_first_token_are_read(server: TestServer) -> None:
    server.answer = lambda body: Reply("A", first_token=(("A", -0.1), ("B", -2.4), ("中", -7.0)))
    sampling = replace(SAMPLING, top_logprobs=2)
    assert next(engine_for(server).generate([ask(0)], sampling)).first_token == (("A", -0.1), ("B", -2.4))
    assert next(engine_for(server).generate([ask(0)], SAMPLING)).first_token == ()
    server.faults = Faults(no_logprobs=1.0)
    assert next(engine_for(server).generate([ask(0)], sampling)).first_token == ()


@pytest.mark.parametrize("status", [400, 403, 422])
def test_a_server_that_refuses_log_probabilities_is_asked_without(server: TestServer, status: int) -> None:
    refusal = Reply("", status=status, error="You are not allowed to request logprobs from this model")
    server.answer = lambda body: refusal if "logprobs" in body else echo(body)
    engine = engine_for(server, max_retries=0)
    made = by_id(engine.generate(map(ask, range(20)), replace(SAMPLING, top_logprobs=5)))
    assert all(completion.text and completion.first_token == () for completion in made.values()) and len(made) == 20
    assert server.counters.requests <= 20 + 4


def test_texts_of_all_scripts_come_back_as_they_were(server: TestServer) -> None:
    requests = [ask(n, text) for n, text in enumerate(TEXTS.values())]
    made = by_id(engine_for(server).generate(requests, SAMPLING))
    assert [made[n].text for n in range(len(TEXTS))] == list(TEXTS.values())
    server.answer = lambda body: "cut \ud83d"  # half of an emoji
    cut = next(engine_for(server).generate([ask(0, "half \ude00")], SAMPLING))
    assert cut.text == "cut \ufffd"
    assert server.counters.bodies[-1]["messages"][-1]["content"] == "half \ufffd"


def test_an_empty_prompt_and_an_empty_answer_are_texts(server: TestServer) -> None:
    empty = Request(ask(0).request_id, (("user", ""),))
    assert next(engine_for(server).generate([empty], SAMPLING)) == Completion(empty.request_id, "", "stop", 0, 0)
    server.answer = lambda body: Reply(None)
    assert next(engine_for(server).generate([ask(0)], SAMPLING)) == Completion(ask(0).request_id, "", "stop", 4, 0)


def test_how_an_answer_ended_is_told(server: TestServer) -> None:
    cut = next(engine_for(server).generate([ask(0, "one two three")], Sampling(2)))
    assert (cut.text, cut.finish_reason, cut.completion_tokens) == ("one two", "length", 2)
    stopped = next(engine_for(server).generate([ask(0, "one<end>two")], replace(SAMPLING, stop=("<end>",))))
    assert (stopped.text, stopped.finish_reason, stopped.stopped_by) == ("one", "stop", None)
    server.answer = lambda body: Reply("a bad w", "content_filter")
    filtered = next(engine_for(server).generate([ask(0)], SAMPLING))
    assert (filtered.text, filtered.finish_reason) == ("", "error") and "content filter" in str(filtered.error)


def test_usage_that_is_missing_counts_as_nothing(server: TestServer) -> None:
    server.faults = Faults(no_usage=1.0)
    made = next(engine_for(server).generate([ask(0)], SAMPLING))
    assert (made.text, made.prompt_tokens, made.completion_tokens) == ("question 0", 0, 0)


def begun(number: int, prefill: str = "<translated>\n") -> Request:
    return replace(ask(number), prefill=prefill)


TRANSLATE = replace(SAMPLING, stop=("</translated>",))
CONTINUED = {"continue_final_message": True, "add_generation_prompt": False}


@pytest.mark.parametrize("owner", ["vllm", "sglang"])
def test_a_server_that_can_continue_a_turn_is_asked_to(server: TestServer, owner: str) -> None:
    server.owned_by = owner
    server.answer = lambda body: "Bonjour !\n"
    engine = engine_for(server)
    made = by_id(engine.generate(map(begun, range(8)), TRANSLATE))
    assert {completion.text for completion in made.values()} == {"Bonjour !\n"} and len(made) == 8
    body = server.counters.bodies[0]
    assert body["messages"][-1] == {"role": "assistant", "content": "<translated>\n"}
    assert len(body["messages"]) == 3 and CONTINUED.items() <= body.items()
    list(engine.generate([ask(9)], SAMPLING))
    assert not CONTINUED.keys() & server.counters.bodies[-1].keys()
    assert server.counters.lists == 1


@pytest.mark.parametrize("owner", ["llamacpp", "openai", "HuggingFaceTB"])
def test_another_server_is_asked_in_words(server: TestServer, owner: str) -> None:
    server.owned_by = owner
    server.answer = lambda body: "<translated>\nBonjour !</translated> Voila."
    made = next(engine_for(server).generate([begun(0)], TRANSLATE))
    assert (made.text, made.finish_reason, made.stopped_by) == ("Bonjour !", "stop", "</translated>")
    system, user = server.counters.bodies[0]["messages"]
    assert system["content"] == "Be brief."
    assert user["content"] == "question 0\n\nBegin your answer with exactly this text: <translated>"
    assert not CONTINUED.keys() & server.counters.bodies[0].keys()


def test_a_recipe_that_says_how_to_begin_needs_no_list(server: TestServer) -> None:
    server.owned_by = "test"
    list(engine_for(server, prefill="continue").generate([begun(0)], SAMPLING))
    assert CONTINUED.items() <= server.counters.bodies[0].items()
    server.owned_by = "vllm"
    list(engine_for(server, prefill="instruction").generate([begun(0)], SAMPLING))
    assert not CONTINUED.keys() & server.counters.bodies[1].keys()
    list(engine_for(server).generate([ask(0)], SAMPLING))
    assert server.counters.lists == 0


def test_a_list_of_models_that_fails_is_no_guess(server: TestServer) -> None:
    server.owned_by = None
    with pytest.raises(EngineError, match=r"does not list its models \(500 no such list\).* Set engine\.prefill to"):
        list(engine_for(server).generate([begun(0)], SAMPLING))
    assert server.counters.requests == 0


def test_a_prefill_that_is_repeated_is_cut_away(server: TestServer) -> None:
    for said, expected in {
        "<translated>\nHola": "Hola",
        " <translated>Hola": "Hola",
        "Hola": "Hola",
        "\n Hola <translated>": "\n Hola <translated>",
        "": "",
    }.items():
        server.answer = lambda body, said=said: said  # type: ignore[misc]
        for mode in ("continue", "instruction"):
            assert next(engine_for(server, prefill=mode).generate([begun(0)], SAMPLING)).text == expected


def test_the_stop_string_that_ended_an_answer_is_told(server: TestServer) -> None:
    stops = replace(SAMPLING, stop=("</b>", "</a>"))
    for said, expected in {
        Reply("one", extra={"stop_reason": "</a>"}): ("one", "stop", "</a>"),  # vLLM
        Reply("one", extra={"matched_stop": "</b>"}): ("one", "stop", "</b>"),  # SGLang
        Reply("one", extra={"stop_reason": 128009}): ("one", "stop", None),  # the number of a token
        Reply("one", extra={"stop_reason": None}): ("one", "stop", None),
        Reply("one</a>", extra={"stop_reason": "</a>"}): ("one", "stop", "</a>"),
        Reply("one</a>two</b>", "length"): ("one", "stop", "</a>"),
        Reply("one", "length"): ("one", "length", None),
    }.items():
        server.answer = lambda body, said=said: said  # type: ignore[misc]
        made = next(engine_for(server).generate([ask(0)], stops))
        assert (made.text, made.finish_reason, made.stopped_by) == expected


def idle(server: TestServer) -> bool:
    """Whether the server's connections are closed, after a moment at most."""
    for _ in range(100):
        if server.connections == 0:
            return True
        time.sleep(0.02)
    return False


@contextmanager
def nothing_left(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No warning of an unclosed connection, and no complaint of asyncio's about a task that was forgotten."""
    gc.collect()  # what other tests left
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
        gc.collect()
    assert not caught and not caplog.records


def test_nothing_is_left_behind_when_the_caller_stops(server: TestServer, caplog: pytest.LogCaptureFixture) -> None:
    server.faults = Faults(slow=0.7, slow_s=0.3)
    with nothing_left(caplog):
        completions = engine_for(server).generate(map(ask, range(100)), SAMPLING)
        next(completions)
        completions.close()  # type: ignore[attr-defined]
        del completions
    assert idle(server)
    assert server.counters.requests <= 8


def test_an_interrupt_stops_at_once_and_keeps_the_engine_usable(
    server: TestServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.faults = Faults(slow=1.0, slow_s=3.0)
    engine = engine_for(server)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts without
    with nothing_left(caplog):
        started = time.monotonic()
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            list(engine.generate(map(ask, range(100)), SAMPLING))
        assert time.monotonic() - started < 2
    signal.signal(signal.SIGINT, before)
    server.faults = Faults()
    assert len(list(engine.generate(map(ask, range(10)), SAMPLING))) == 10


def test_samples_have_seeds_of_their_own_and_greedy_requests_the_recipes(server: TestServer) -> None:
    engine, drawn = engine_for(server), replace(SAMPLING, temperature=0.9)
    seeds = [engine.body(ask(number), drawn)["seed"] for number in (0, 1, 0)]
    assert seeds[0] == seeds[2] != seeds[1] and all(0 <= seed < 2**31 for seed in seeds)
    assert engine.body(ask(0), SAMPLING)["seed"] == engine.body(ask(1), SAMPLING)["seed"] == SAMPLING.seed
