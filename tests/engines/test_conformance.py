"""The engine contract, for every engine, on the laboratory's model.

`openai-real` is for a server of one's own that serves the laboratory's model (`lidr.lab.MODEL_PATH`): set
LIDR_TEST_SERVER to its URL, such as http://localhost:8000/v1, and LIDR_TEST_SERVER_MODEL to its name for the model.
"""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import psutil
import pytest

from lidr.engines import Completion, Engine, Request, Sampling, open_model
from lidr.engines.openai import OpenAI
from lidr.engines.ray import Ray
from lidr.engines.transformers import Transformers
from lidr.engines.vllm import Vllm
from lidr.errors import EngineError
from lidr.lab import MODEL_PATH
from lidr.lab.world import FACTS, question
from tests.support.openai_server import Reply, TestServer

LAB = str(MODEL_PATH)
CPU = Transformers(device="cpu", batch_size=8)
GREEDY = Sampling(max_new_tokens=40)


@dataclass(frozen=True)
class Subject:
    """An engine under test.

    `agreement` is the least share of answers that must be the same where rounding may differ (batch composition, number
    of threads, kernels). `counts_tokens` is whether its token counts are the model's. `continues` is whether an answer
    goes on after a prefill exactly as without one. `still_held` names what it has not given back.
    """

    name: str
    engine: Engine
    still_held: Callable[[], list[str]]
    agreement: float = 1.0
    counts_tokens: bool = True
    continues: bool = True

    def answers(self, requests: Iterable[Request], sampling: Sampling, **options: Any) -> dict[str, Completion]:
        """The completions by id; none comes twice, and all texts can be kept in a file."""
        made = list(self.engine.generate(requests, sampling, **options))
        found = {completion.request_id: completion for completion in made}
        assert len(found) == len(made)
        for completion in made:
            assert completion.text.encode("utf-8").decode("utf-8") == completion.text
            assert (completion.error is not None) == (completion.finish_reason == "error")
        return found

    def answer(self, request: Request, sampling: Sampling) -> Completion:
        (completion,) = self.answers([request], sampling).values()
        return completion

    def assert_agree(self, found: dict[str, Completion], expected: dict[str, Completion]) -> None:
        """The same texts under the same ids, but for the share that rounding may change."""
        assert found.keys() == expected.keys()
        same = sum(found[request_id].text == made.text for request_id, made in expected.items())
        assert same >= self.agreement * len(expected)


@contextmanager
def _transformers() -> Iterator[Subject]:
    with open_model(CPU, LAB) as engine:
        model = weakref.ref(engine.model)  # type: ignore[attr-defined]

        def still_held() -> list[str]:
            gc.collect()
            return ["the model"] if model() is not None else []

        yield Subject("transformers", engine, still_held)


@contextmanager
def _openai() -> Iterator[Subject]:
    with (
        open_model(CPU, LAB) as served,
        TestServer(answer_with(served)) as server,
        open_model(OpenAI(base_url=server.base_url, prefill="continue"), "lab") as engine,
    ):
        yield Subject("openai", engine, lambda: ["a connection"] * server.connections, counts_tokens=False)


def answer_with(engine: Engine) -> Callable[[dict[str, Any]], Reply]:
    """The replies of a server that has this engine's model, and takes one request at a time."""
    lock = threading.Lock()

    def answer(body: dict[str, Any]) -> Reply:
        turns = [(message["role"], message["content"]) for message in body["messages"]]
        prefill = turns.pop()[1] if turns[-1][0] == "assistant" else ""
        options = {name: body[name] for name in ("temperature", "top_p", "seed", "repetition_penalty") if name in body}
        sampling = Sampling(body["max_tokens"], stop=tuple(body.get("stop", ())), **options)
        with lock:
            (made,) = engine.generate([Request("0", tuple(turns), prefill)], sampling)
        if made.error:
            return Reply(None, status=400, error=made.error, code="context_length_exceeded")
        return Reply(made.text, made.finish_reason)

    return answer


@contextmanager
def _openai_real() -> Iterator[Subject]:
    url, model = os.environ.get("LIDR_TEST_SERVER"), os.environ.get("LIDR_TEST_SERVER_MODEL")
    if not url or not model:
        pytest.skip("LIDR_TEST_SERVER and LIDR_TEST_SERVER_MODEL name no server")
    with open_model(OpenAI(base_url=url), model) as engine:
        yield Subject("openai-real", engine, list, agreement=0.9, continues=False)


@contextmanager
def _ray() -> Iterator[Subject]:
    pytest.importorskip("ray", reason="pip install lidr[ray]")
    pytest.importorskip("lidr.engines.ray.engine")
    config = Ray(worker=CPU, workers=2, cpus_per_worker=1)
    still_held = _new_processes()
    with open_model(config, LAB) as engine:
        yield Subject("ray", engine, still_held, agreement=0.95)


@contextmanager
def _vllm() -> Iterator[Subject]:
    pytest.importorskip("vllm", reason="pip install lidr[vllm]")
    pytest.importorskip("lidr.engines.vllm.engine")
    arguments = {"dtype": "float32", "max_model_len": 512, "enforce_eager": True}
    still_held = _new_processes()
    with open_model(Vllm(arguments=arguments), LAB) as engine:
        yield Subject("vllm", engine, still_held, agreement=0.9)


def _new_processes() -> Callable[[], list[str]]:
    """The command lines of child processes that are there then and were not there now."""
    me = psutil.Process()
    before = set(me.children(recursive=True))

    def still_held() -> list[str]:
        lines = []
        for child in set(me.children(recursive=True)) - before:
            with suppress(psutil.NoSuchProcess):  # it may just have ended
                if child.status() != psutil.STATUS_ZOMBIE:
                    lines.append(" ".join(child.cmdline()))
        # Python's own tracker of shared memory stays until Python ends.
        return [line for line in lines if "resource_tracker" not in line]

    return still_held


OPENERS = {
    "transformers": _transformers,
    "openai": _openai,
    "openai-real": _openai_real,
    "ray": _ray,
    "vllm": _vllm,
}


@pytest.fixture(scope="module", params=OPENERS)
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("lidr.engines.openai.engine.BACKOFF_S", 0.01)
        if request.param == "openai":
            patched.delenv("OPENAI_API_KEY", raising=False)
        with OPENERS[request.param]() as subject:
            yield subject


def ask(number: int, content: str, prefill: str = "") -> Request:
    return Request(f"{number:016x}", (("user", content),), prefill)


LANGUAGES = ("en", "es", "fr", "de", "ru")
REQUESTS = [
    ask(number, question(fact, LANGUAGES[number % 5], number % 2)) for number, fact in enumerate(FACTS[::6][:40])
]
FEW = REQUESTS[:10]
IDS = {request.request_id for request in REQUESTS}


@pytest.fixture(scope="module")
def expected() -> dict[str, Completion]:
    """What the model says to REQUESTS, one at a time."""
    with open_model(CPU, LAB) as engine:
        return {request.request_id: next(engine.generate([request], GREEDY)) for request in REQUESTS}


def test_every_request_gets_the_models_answer_under_its_id(subject: Subject, expected: dict[str, Completion]) -> None:
    made = subject.answers(iter(REQUESTS), GREEDY)
    subject.assert_agree(made, expected)
    assert all(completion.finish_reason == "stop" and completion.stopped_by is None for completion in made.values())
    assert all(completion.prompt_tokens > 0 and completion.completion_tokens > 0 for completion in made.values())
    assert len({completion.text for completion in made.values()}) > 20  # the model says something else to each


def test_no_requests_give_no_completions(subject: Subject) -> None:
    assert subject.answers([], GREEDY) == {}


def test_greedy_answers_do_not_depend_on_the_company_of_a_request(
    subject: Subject, expected: dict[str, Completion]
) -> None:
    alone = {request.request_id: subject.answer(request, GREEDY) for request in FEW}
    subject.assert_agree(alone, {request_id: expected[request_id] for request_id in alone})
    again = subject.answers(reversed(FEW), GREEDY)
    subject.assert_agree(again, alone)


def test_all_requests_that_are_not_done_are_answered(subject: Subject, expected: dict[str, Completion]) -> None:
    owed = {request.request_id for request in REQUESTS[3:30:4]}
    made = subject.answers(REQUESTS, GREEDY, done=IDS - owed)
    assert owed <= made.keys() <= IDS
    subject.assert_agree(made, {request_id: expected[request_id] for request_id in made})
    assert subject.answers(REQUESTS, GREEDY, done=IDS).keys() <= IDS


def test_stop_strings_end_an_answer_before_them(subject: Subject) -> None:
    whole = subject.answer(FEW[0], GREEDY).text
    early, late = whole[8:14], whole[-9:-2]  # they begin and end within words
    sampling = replace(GREEDY, stop=(late, "never said", early))
    for request_id, completion in subject.answers(FEW, sampling).items():
        assert early not in completion.text and late not in completion.text
        assert completion.finish_reason == "stop"
        assert completion.stopped_by in (None, early, late)
        if request_id == FEW[0].request_id:
            assert completion.text == whole[: whole.index(early)]
            assert completion.stopped_by in (None, early)
    assert subject.answer(FEW[0], replace(GREEDY, stop=("never said",))).stopped_by is None


def test_a_prefill_is_continued_and_not_repeated(subject: Subject) -> None:
    whole = subject.answers(FEW, GREEDY)
    cuts = {key: made.text.index(" ", len(made.text) // 2) for key, made in whole.items()}
    begun = [replace(request, prefill=_start(whole[request.request_id], cuts)) for request in FEW]
    made = subject.answers(begun, GREEDY)
    for request in begun:
        completion = made[request.request_id]
        assert completion.finish_reason in ("stop", "length") and not completion.text.startswith(request.prefill)
    if subject.continues:
        rest = {key: replace(whole[key], text=whole[key].text[cut:]) for key, cut in cuts.items()}
        subject.assert_agree(made, rest)


def _start(completion: Completion, cuts: dict[str, int]) -> str:
    return completion.text[: cuts[completion.request_id]]


BEGUN = [Request(f"{number:016x}", (), turn="user") for number in range(200, 204)]


def test_a_users_turn_is_written_as_the_template_begins_it_or_refused(subject: Subject) -> None:
    if subject.name.startswith("openai"):
        with pytest.raises(EngineError, match=r"use engine\.type transformers or vllm"):
            subject.answers(BEGUN, GREEDY)
        return
    with open_model(CPU, LAB) as engine:
        expected = {request.request_id: next(engine.generate([request], GREEDY)) for request in BEGUN}
    made = subject.answers([*FEW, *BEGUN], GREEDY)
    subject.assert_agree({request.request_id: made[request.request_id] for request in BEGUN}, expected)
    assert {completion.finish_reason for completion in made.values()} == {"stop"}
    drawn = subject.answers(BEGUN, Sampling(12, temperature=2.0))
    assert len({completion.text for completion in drawn.values()}) > 1  # each has its own seed


TEXTS = {
    "nothing": "",
    "a space": " ",
    "Thai": "ภาษาไทยไม่มีช่องว่างระหว่างคำ",
    "Arabic": "السلام عليكم، كيف حالك؟",
    "Chinese": "语言不平衡，奖励。",
    "emoji": "👩‍👩‍👧‍👦 🇫🇷 🙂",
    "combining marks": "e\u0301 a\u0308\u0323 \u200d\u202e",
    "control characters": 'a\x00b\u2028c\\ "d"',
    "markup": "{{braces}} {% raw %} </translated> <|im_end|> <s>",
}


def test_any_text_can_be_asked(subject: Subject) -> None:
    requests = [ask(100 + number, text) for number, text in enumerate(TEXTS.values())]
    made = subject.answers([*requests, FEW[0]], GREEDY)
    assert made.keys() == {request.request_id for request in (*requests, FEW[0])}
    assert {completion.finish_reason for completion in made.values()} <= {"stop", "length"}


def test_half_of_a_surrogate_pair_does_not_end_a_run(subject: Subject) -> None:
    """JSON may hold one; an engine answers without it, or gives a reason."""
    made = subject.answers([ask(100, "x \ud83d y"), FEW[0]], GREEDY)
    assert len(made) == 2 and made[FEW[0].request_id].finish_reason == "stop"


def test_a_prompt_without_room_for_an_answer_is_an_error_of_its_own(subject: Subject) -> None:
    huge = ask(999, "word " * 3000)
    made = subject.answers([*FEW[:2], huge, *FEW[2:4]], GREEDY)
    failed = made.pop(huge.request_id)
    assert (failed.finish_reason, failed.text) == ("error", "")
    assert "token" in (failed.error or "") or "context" in (failed.error or "")
    assert len(made) == 4 and all(completion.finish_reason == "stop" for completion in made.values())


def test_an_answer_that_was_cut_off_says_so(subject: Subject) -> None:
    whole, cut = subject.answers(FEW, GREEDY), subject.answers(FEW, replace(GREEDY, max_new_tokens=3))
    assert {completion.finish_reason for completion in cut.values()} == {"length"}
    beginnings = {key: replace(whole[key], text=whole[key].text[: len(made.text)]) for key, made in cut.items()}
    subject.assert_agree(cut, beginnings)
    if subject.counts_tokens:
        assert {completion.completion_tokens for completion in cut.values()} == {3}


def test_the_seed_decides_what_is_sampled(subject: Subject) -> None:
    def sample(seed: int) -> dict[str, Completion]:
        # 2 is the highest temperature that OpenAI's API and vLLM take.
        return subject.answers(FEW, Sampling(12, temperature=2.0, seed=seed))

    first, other = sample(1), sample(2)
    subject.assert_agree(sample(1), first)
    assert sum(first[key].text == other[key].text for key in first) < len(first) / 2


@pytest.mark.parametrize("how", ["consumer", "close", "requests"])
def test_an_interrupted_engine_can_be_used_again(subject: Subject, how: str, expected: dict[str, Completion]) -> None:
    made: dict[str, Completion] = {}

    def requests() -> Iterator[Request]:
        for number, request in enumerate(REQUESTS):
            if how == "requests" and number == 15:
                raise KeyboardInterrupt
            yield request

    def consume() -> None:
        completions = subject.engine.generate(requests(), GREEDY)
        for completion in completions:
            made[completion.request_id] = completion
            if how == "consumer" and len(made) == 3:
                raise KeyboardInterrupt
            if how == "close" and len(made) == 3:
                completions.close()  # type: ignore[attr-defined]
        if how == "close":
            raise KeyboardInterrupt  # as the others, from here on

    with pytest.raises(KeyboardInterrupt):
        consume()
    assert len(made) == 3 or how == "requests"
    subject.assert_agree(made, {request_id: expected[request_id] for request_id in made})
    subject.assert_agree(
        subject.answers(FEW, GREEDY), {request.request_id: expected[request.request_id] for request in FEW}
    )


def test_requests_are_taken_as_they_are_needed(subject: Subject) -> None:
    taken = 0

    def requests() -> Iterator[Request]:
        nonlocal taken
        for taken in range(1, 10_001):
            yield replace(REQUESTS[taken % 40], request_id=f"{taken:016x}")

    completions = subject.engine.generate(requests(), GREEDY)
    next(completions)
    assert taken < 5_000
    completions.close()  # type: ignore[attr-defined]
    before = taken
    assert subject.answer(FEW[0], GREEDY).finish_reason == "stop"
    assert taken == before  # nothing goes on in the background


def test_memory_is_given_back_and_closing_twice_is_harmless(subject: Subject) -> None:
    """The last test, because the engine cannot be used after it."""
    subject.engine.close()
    subject.engine.close()
    deadline = time.monotonic() + 30
    while subject.still_held() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert subject.still_held() == []
