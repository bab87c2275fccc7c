"""What a server may say: why an answer ended, replies with wrong fields, and fields of a request that it refuses."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lidr.commands.evaluate import evaluation_config
from lidr.engines.base import Completion, Request, Sampling
from lidr.engines.openai import OpenAI
from lidr.engines.openai import engine as openai_engine
from lidr.engines.openai.engine import OpenAIEngine
from lidr.engines.openai.protocol import NEUTRAL, names_field, read_finish_reason
from lidr.errors import ConfigError, EngineError
from lidr.records import Response
from lidr.settings import trimmed
from lidr.strategies.base import Answers, direct
from tests.conftest import ToyEngine, ToyRun, make_config
from tests.engines.test_openai_engine import SAMPLING, ask, by_id, engine_for
from tests.support.openai_server import Reply, TestServer, echo

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def server() -> Iterator[TestServer]:
    with TestServer() as server:
        yield server


# --- why an answer ended ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["stop", "STOP", "eos", "EOS", "end_turn", "stop_sequence", "COMPLETE", "eos_token"])
def test_natural_ends_are_finished_answers(reason: str) -> None:
    assert read_finish_reason(reason) == "stop"


@pytest.mark.parametrize(
    "reason",
    ["length", "LENGTH", "max_tokens", "MAX_TOKENS", "model_length", "max_output_tokens", "max-tokens", "limit"],
)
def test_every_limit_of_the_length_is_one(server: TestServer, reason: str) -> None:
    server.answer = lambda body: Reply("half an ans", reason)
    made = next(engine_for(server).generate([ask(0)], SAMPLING))
    assert (made.text, made.finish_reason, made.error) == ("half an ans", "length", None)


@pytest.mark.parametrize(
    "reason", ["content_filter", "SAFETY", "RECITATION", "tool_calls", "function_call", "tool_use"]
)
def test_an_answer_that_was_withheld_is_a_failed_row_with_the_reason(server: TestServer, reason: str) -> None:
    server.answer = lambda body: Reply("half an ans", reason)
    made = next(engine_for(server).generate([ask(0)], SAMPLING))
    assert (made.text, made.finish_reason) == ("", "error") and reason in str(made.error) and not made.passing
    assert server.counters.requests == 1


@pytest.mark.parametrize("reason", ["a new word", "Stopped!", "stop?", "stop_it", "\x00", "stоp"])
def test_an_unknown_reason_is_never_a_success(server: TestServer, reason: Any) -> None:
    server.answer = lambda body: Reply("half an ans", reason)
    made = next(engine_for(server).generate([ask(0)], SAMPLING))
    assert (made.text, made.finish_reason, made.passing) == ("", "error", True) and repr(reason) in str(made.error)
    with pytest.raises(EngineError, match="the same for all of the first 5 requests"):
        list(engine_for(server).generate(map(ask, range(50)), SAMPLING))


@pytest.mark.parametrize(
    "reason", [None, "", "null", "error", "abort", "insufficient_system_resource", "ERROR", 0, 7.5, True, ["stop"]]
)
def test_an_answer_that_was_given_up_is_asked_for_again(server: TestServer, reason: Any) -> None:
    server.answer = lambda body: Reply("half", reason) if server.counters.requests < 3 else echo(body)
    made = next(engine_for(server).generate([ask(0)], SAMPLING))
    assert (made.text, made.finish_reason, server.counters.requests) == ("question 0", "stop", 3)
    server.answer = lambda body: Reply("half", reason) if "question 3" in str(body) else echo(body)
    made_of = by_id(engine_for(server).generate(map(ask, range(9)), SAMPLING))
    assert [n for n in range(9) if made_of[n].error] == [3]
    assert repr(reason) in str(made_of[3].error) and made_of[3].passing


def test_a_stop_string_in_a_text_that_was_cut_later_ends_it(server: TestServer) -> None:
    server.answer = lambda body: Reply("one</a>two", "MAX_TOKENS")
    made = next(engine_for(server).generate([ask(0)], replace(SAMPLING, stop=("</a>",))))
    assert (made.text, made.finish_reason, made.stopped_by) == ("one", "stop", "</a>")


def test_only_a_finished_answer_is_a_side_of_a_pair(toy_run: ToyRun) -> None:
    toy_run.use(ToyEngine(fail=lambda request, text: Completion(request.request_id, text, "length", 5, 7)))
    toy_run.run("prompts", "responses", "translations", "pairs")
    reasons = {row["reason"] for row in toy_run.rows(toy_run.run_dir.dropped(1))}
    assert reasons == {"truncated"}
    config = make_config(Path("prompts"))
    row = json.loads(toy_run.run_dir.responses(1, "en").read_text(encoding="utf-8").splitlines()[0])
    for reason, problem in (("stop", None), ("length", "truncated"), ("max_tokens", "truncated"), ("", "truncated")):
        answers = Answers(0, "p0", {}, {"en": [Response.from_dict(row | {"finish_reason": reason})]})
        assert direct(answers, "en", config).problem == problem


# --- replies with wrong fields ----------------------------------------------------------------------------------------


def reply(**changes: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"}
    return {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 1}} | changes


def with_choice(**changes: Any) -> dict[str, Any]:
    return reply(choices=[reply()["choices"][0] | changes])


def with_logprob(value: Any) -> dict[str, Any]:
    first = {"token": "A", "logprob": -0.1, "top_logprobs": [{"token": "A", "logprob": value}]}
    return with_choice(logprobs={"content": [first]})


DAMAGED: dict[str, Any] = {
    "html": b"<html><body>Please log in</body></html>",
    "nothing": b"",
    "half": b'{"choices": [{"index": 0, "mess',
    "not utf-8": b'{"choices": "\xff\xfe"}',
    "nested": b'{"choices": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "nested content": json.dumps(reply()).replace('"fine"', "[" * 900 + "]" * 900).encode(),
    "a huge number": json.dumps(reply()).replace("3", "3" * 5000).encode(),
    "list": [],
    "text": "fine",
    "null": None,
    "no choices": {"usage": {}},
    "choices null": reply(choices=None),
    "choices empty": reply(choices=[]),
    "choices text": reply(choices="fine"),
    "choice text": reply(choices=["fine"]),
    "no message": reply(choices=[{"finish_reason": "stop"}]),
    "message null": with_choice(message=None),
    "message text": with_choice(message="fine"),
    "content parts": with_choice(message={"content": [{"type": "text", "text": "fine"}]}),
    "content number": with_choice(message={"content": 7}),
    "content object": with_choice(message={"content": {"text": "fine"}}),
    "index out of range": with_choice(index=7),
    "index text": with_choice(index="0"),
    "usage text": reply(usage="free"),
    "usage list": reply(usage=[1, 2]),
    "tokens negative": reply(usage={"prompt_tokens": -1}),
    "tokens NaN": reply(usage={"completion_tokens": math.nan}),
    "tokens infinite": reply(usage={"completion_tokens": math.inf}),
    "tokens text": reply(usage={"prompt_tokens": "12"}),
    "tokens huge": reply(usage={"prompt_tokens": 10**400}),
    "tokens true": reply(usage={"prompt_tokens": True}),
    "logprob huge": with_logprob(1e308),
    "logprob positive": with_logprob(0.7),
    "logprob NaN": with_logprob(math.nan),
    "logprob infinite": with_logprob(math.inf),
    "logprob text": with_logprob("-0.1"),
    "logprob object": with_logprob({}),
    "logprob of no token": with_choice(logprobs={"content": [{"logprob": -1}]}),
    "logprobs list": with_choice(logprobs=[]),
    "logprobs text": with_choice(logprobs={"content": "A"}),
}
SCORED = replace(SAMPLING, top_logprobs=2)


def as_sent(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_reply_is_asked_for_again_and_then_a_failed_row(server: TestServer, name: str) -> None:
    server.answer = lambda body: as_sent(DAMAGED[name]) if "question 2" in str(body) else as_sent(reply())
    made = by_id(engine_for(server, max_retries=8).generate(map(ask, range(6)), SCORED))
    assert [n for n in range(6) if made[n].text == "fine"] == [0, 1, 3, 4, 5]
    assert made[2].finish_reason == "error" and made[2].passing and len(str(made[2].error)) < 900
    assert server.counters.requests == 5 + 1 + openai_engine.DAMAGED_RETRIES
    server.counters.requests = 0
    server.answer = lambda body: as_sent(DAMAGED[name] if server.counters.requests == 1 else reply())
    assert next(engine_for(server).generate([ask(0)], SCORED)).text == "fine"


def test_a_server_that_sends_nothing_but_damage_ends_the_run(server: TestServer) -> None:
    server.answer = lambda body: b"<html>maintenance</html>"
    with pytest.raises(EngineError, match=r"5 requests in a row got no usable reply \(last: the reply is not JSON"):
        list(engine_for(server).generate(map(ask, range(100)), SAMPLING))
    alone = list(engine_for(server).generate([ask(0)], SAMPLING))
    assert "not JSON" in str(alone[0].error)


def test_an_error_with_the_status_of_success_is_one(server: TestServer) -> None:
    failed = as_sent({"error": {"message": "overloaded", "code": 529}})
    server.answer = lambda body: failed if server.counters.requests < 3 else echo(body)
    assert next(engine_for(server).generate([ask(0)], SAMPLING)).text == "question 0"
    server.answer = lambda body: failed
    with pytest.raises(EngineError, match=r"1 request got no answer after 3 attempts \(last: .*overloaded"):
        list(engine_for(server).generate([ask(0)], SAMPLING))


def test_a_reply_of_any_size_is_read_up_to_a_limit(server: TestServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_engine, "MAX_REPLY_BYTES", 2**20)
    server.answer = lambda body: "x" * 2**21 if "question 1" in str(body) else echo(body)
    made = by_id(engine_for(server, max_retries=1).generate(map(ask, range(3)), SAMPLING))
    assert "more than 1 MB" in str(made[1].error) and made[0].text and made[2].text


def test_what_a_server_may_leave_out_is_no_damage(server: TestServer) -> None:
    plain = {"message": {"content": "fine"}, "finish_reason": "stop", "anything": {"else": [1]}}
    for value in (
        {"choices": [plain]},
        {"choices": [plain], "usage": None, "error": None},
        {"choices": [plain], "usage": {"prompt_tokens": None}},
        with_choice(logprobs=None),
        with_choice(logprobs={"content": None}),
        with_choice(logprobs={"content": []}),
        with_choice(logprobs={"tokens": ["A"], "token_logprobs": [-0.1]}),
        with_logprob(None),  # of probability 0, as llama.cpp writes it
        with_logprob(-math.inf),
    ):
        server.answer = lambda body, value=value: as_sent(value)  # type: ignore[misc]
        made = next(engine_for(server).generate([ask(0)], SCORED))
        assert (made.text, made.finish_reason, made.first_token) == ("fine", "stop", ())
    server.answer = lambda body: as_sent(with_logprob(1e-7))
    assert next(engine_for(server).generate([ask(0)], SCORED)).first_token == (("A", 0.0),)


def test_a_refusal_is_a_failed_row_and_an_empty_answer_is_one_only_where_text_is_needed(server: TestServer) -> None:
    server.answer = lambda body: as_sent(with_choice(message={"content": None, "refusal": "I cannot help."}))
    made = next(engine_for(server).generate([ask(0)], SAMPLING))
    assert (made.text, made.passing) == ("", False) and "I cannot help." in str(made.error)
    server.answer = lambda body: Reply(" \n") if server.counters.requests % 2 else echo(body)
    server.counters.requests = 0
    needed = Request("0", (("user", "question 0"),), needs_text=True)
    assert next(engine_for(server).generate([needed], SAMPLING)).text == "question 0"


# --- how a server is told to decode -----------------------------------------------------------------------------------


def strict(*unknown: str, at_once: bool = True) -> Any:
    """A server that refuses these fields, all of them in one message or one by one."""

    def answer(body: dict[str, Any]) -> Reply:
        found = [name for name in unknown if name in body]
        if found:
            names = ", ".join(found if at_once else found[:1])
            return Reply("", status=422, error=f"Unexpected fields in the request: {{{names}}}")
        return echo(body)

    return answer


def test_neutral_values_are_said_so_that_no_default_of_the_servers_counts(server: TestServer) -> None:
    list(engine_for(server).generate([ask(0)], Sampling(9, repetition_penalty=1.0)))
    assert NEUTRAL.items() <= server.counters.bodies[0].items() and server.counters.bodies[0]["temperature"] == 0
    list(engine_for(server).generate([ask(0)], Sampling(9, 0.8, 0.9, repetition_penalty=1.2)))
    said = {"temperature": 0.8, "top_p": 0.9, "repetition_penalty": 1.2, "top_k": -1, "min_p": 0}
    assert said.items() <= server.counters.bodies[1].items()


@pytest.mark.parametrize("at_once", [True, False])
def test_a_neutral_value_that_is_refused_is_left_out_from_then_on(
    server: TestServer, capsys: pytest.CaptureFixture[str], at_once: bool
) -> None:
    server.answer = strict("repetition_penalty", "top_k", "min_p", at_once=at_once)
    engine = engine_for(server, concurrency=1, max_retries=0)
    assert len(by_id(engine.generate(map(ask, range(10)), SAMPLING))) == 10
    assert server.counters.requests == 10 + (1 if at_once else 3)
    assert "does not take min_p 0, repetition_penalty 1, top_k -1;" in capsys.readouterr().err
    assert len(by_id(engine.generate(map(ask, range(10)), SAMPLING))) == 10
    assert server.counters.requests == 20 + (1 if at_once else 3)


def test_a_value_that_says_something_is_not_left_out(server: TestServer) -> None:
    server.answer = strict("repetition_penalty")
    with pytest.raises(EngineError, match=r"extra_body\.repetition_penalty: null to leave this field out"):
        list(engine_for(server).generate([ask(0)], replace(SAMPLING, repetition_penalty=1.1)))
    server.answer = strict("top_k")
    with pytest.raises(EngineError, match=r"extra_body\.top_k: null to leave this field out"):
        list(engine_for(server, extra_body={"top_k": -1}).generate([ask(0)], SAMPLING))  # the user's own field
    list(engine_for(server, extra_body={"top_k": None}).generate([ask(0)], SAMPLING))


def test_a_refusal_that_repeats_the_request_leaves_nothing_out_for_the_next(server: TestServer) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        if "too long" in str(body):
            return Reply("", status=400, error=f"the prompt is too long: {json.dumps(body)}")
        return echo(body)

    server.answer = answer
    engine = engine_for(server, concurrency=1)
    made = by_id(engine.generate([ask(0), ask(1, "too long"), ask(2)], SAMPLING))
    assert made[1].error and made[2].text
    assert NEUTRAL.items() <= server.counters.bodies[-1].items()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("Unrecognized request argument supplied: top_k", True), ("Unknown name 'topK': cannot find field", True),
        ("property 'top_k' is unsupported", True), ("['body', 'top_k'] extra_forbidden", True), ("top-k", True),
        ("stop_key is unknown", False), ("top_kind", False), ("desktop_k", False), ("", False),
    ],
)  # fmt: skip
def test_a_field_is_recognised_in_a_message(text: str, named: bool) -> None:
    assert names_field(text, "top_k") is named


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("around", ["{} ", " {}", "\n{}\n", "\t{}", '"{}"', "'{}'", "\u00a0{}", "{}/ "])
def test_what_was_copied_along_with_an_address_is_cut_off(around: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", '"secret"\n')
    url = around.format("http://localhost:8000/v1")
    config = OpenAI(base_url=url, api_key_env=around.format("A_KEY").replace("/", ""))
    assert (config.base_url, config.api_key_env) == ("http://localhost:8000/v1", "A_KEY")
    assert OpenAIEngine("m", config).key == "secret"
    made = evaluation_config("org/m", Path("nowhere"), benchmarks=["mgsm"], base_url=url)
    assert trimmed(around.format("org/m")).rstrip("/ ") == "org/m" and made.engine.base_url == config.base_url  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "url", ["", " ", "http://local host/v1", "http://localhost/v\n1", "localhost:8000", "ftp://x/v1"]
)
def test_an_address_that_is_none_is_refused_at_load(url: str) -> None:
    with pytest.raises(ConfigError, match=r"engine\.base_url: a URL is needed"):
        evaluation_config("m", Path("nowhere"), benchmarks=["mgsm"], base_url=url or " ")


@pytest.mark.parametrize("url", ["http://nowhere.invalid/v1", "http://127.0.0.1:9/v1", "http://[::1/v1"])
def test_an_address_without_a_server_is_an_error_at_once(url: str) -> None:
    started = time.monotonic()
    with pytest.raises((EngineError, ValueError), match=r"Correct|Start the server|a URL is needed"):
        list(OpenAIEngine("m", OpenAI(base_url=url)).generate([ask(0)], SAMPLING))
    assert time.monotonic() - started < 8
