"""The vllm engine on the laboratory's model: what only vLLM does, and the same answers as from transformers.

`tools/test_vllm.sh` makes an environment with vLLM's build for CPUs and runs these tests in it.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import weakref
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from lidr.engines import open_model
from lidr.engines.base import Completion, Request, Sampling, ScoreRequest
from lidr.engines.encoding import encode
from lidr.engines.transformers import Transformers
from lidr.engines.vllm import Vllm
from lidr.errors import EngineError
from lidr.lab import MODEL_PATH
from lidr.lab.world import FACTS, question

if TYPE_CHECKING:
    from lidr.engines.vllm.engine import VllmEngine

GREEDY = Sampling(max_new_tokens=40)
LANGUAGES = ("en", "es", "fr", "de", "ru")
QUESTIONS = [
    Request(f"{n:016x}", (("user", question(fact, LANGUAGES[n % 5], n % 2)),)) for n, fact in enumerate(FACTS[::6][:40])
]
SEQUENCES = 8  # answered at a time
ARGUMENTS = {"dtype": "float32", "max_model_len": 512, "enforce_eager": True, "max_num_seqs": SEQUENCES}
# The share of answers that must be the same. Both compute in float32, but sum in another order, and where the two
# likeliest tokens are closer than that, either may come first. 40 of 40 were the same when this was written.
AGREEMENT = 0.95


def start(model: Path = MODEL_PATH, /, adapter: str | None = None, **arguments: Any) -> VllmEngine:
    pytest.importorskip("vllm", reason="tools/test_vllm.sh runs these tests")
    from lidr.engines.vllm.engine import VllmEngine

    return VllmEngine(model, Vllm(adapter=adapter, arguments=ARGUMENTS | arguments))


@pytest.fixture(scope="module")
def engine() -> Iterator[VllmEngine]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        engine = start()
        yield engine
        engine.close()


def answers_of_transformers(model: str, sampling: Sampling) -> dict[str, Completion]:
    with open_model(Transformers(device="cpu", dtype="float32"), model) as engine:
        return by_id(engine.generate(QUESTIONS, sampling))


def by_id(completions: Iterator[Completion]) -> dict[str, Completion]:
    made = list(completions)
    found = {completion.request_id: completion for completion in made}
    assert len(found) == len(made)
    return found


def same(found: dict[str, Completion], expected: dict[str, Completion]) -> float:
    """The share of equal answers, by which equal counts of tokens are asked for too."""
    assert found.keys() == expected.keys()
    plain = [replace(completion, first_token=()) for completion in found.values()]
    return sum(made == replace(expected[made.request_id], first_token=()) for made in plain) / len(plain)


# --- without an engine ------------------------------------------------------------------------------------------------


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.delitem(sys.modules, "lidr.engines.vllm.engine", raising=False)
    with pytest.raises(EngineError, match=r'pip install "lidr\[vllm\]"'), open_model(Vllm(), "lab"):
        pass


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("tensor_paralel_size", 2, r"engine\.arguments\.tensor_paralel_size: .* did you mean tensor_parallel_size"),
        ("qwertyuiop", 2, r"engine\.arguments\.qwertyuiop: .* remove it"),
        ("model", "other", r"engine\.arguments\.model: set model\.path instead"),
        ("data_parallel_size", 2, r"engine\.type ray .* --data-parallel-size 2"),
        ("max_model_len", 100_000, r"does not start .*max_model_len=100000.*max_position_embeddings"),
        ("dtype", "float33", r"does not start .*dtype='float33'"),
    ],
)
def test_arguments_that_cannot_be_used_are_named(name: str, value: Any, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        start(**{name: value})


def test_an_adapter_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"engine\.adapter .*adapter_config\.json"):
        start(adapter=str(tmp_path))


# --- with one, in this process ----------------------------------------------------------------------------------------


def test_prompts_are_the_same_tokens_as_in_the_transformers_engine(engine: VllmEngine) -> None:
    turns = (("system", "Be brief."), ("user", "Qué?"), ("assistant", "Eso."), ("user", "The apple, é 🙂?"))
    requests = [Request("1", turns), Request("2", turns, prefill="<translated>\n"), Request("3", turns, "The colour")]
    with open_model(Transformers(device="cpu"), str(MODEL_PATH)) as other:
        for request in requests:
            assert encode(engine.tokenizer, request) == other._row(request, GREEDY).prompt  # type: ignore[attr-defined]
    messages = [{"role": role, "content": text} for role, text in (*turns, ("assistant", "The colour"))]
    continued = engine.tokenizer.apply_chat_template(messages, continue_final_message=True, return_dict=False)
    assert encode(engine.tokenizer, requests[2]) == continued


@pytest.mark.parametrize("penalty", [1.0, 2.0])
def test_greedy_answers_are_those_of_the_transformers_engine(engine: VllmEngine, penalty: float) -> None:
    """With the penalty too, so it is over the prompt as well as the answer: both repeat the question."""
    sampling = replace(GREEDY, repetition_penalty=penalty)
    expected = answers_of_transformers(str(MODEL_PATH), sampling)
    assert same(by_id(engine.generate(QUESTIONS, sampling)), expected) >= AGREEMENT
    assert len({completion.text for completion in expected.values()}) > 20
    if penalty > 1:
        assert same(by_id(engine.generate(QUESTIONS, GREEDY)), expected) < 0.5  # else this would show nothing


def test_the_likeliest_first_tokens_are_those_of_the_transformers_engine(engine: VllmEngine) -> None:
    sampling = replace(GREEDY, max_new_tokens=2, top_logprobs=30, repetition_penalty=1.3)
    expected = answers_of_transformers(str(MODEL_PATH), sampling)
    for request_id, completion in by_id(engine.generate(QUESTIONS[:5], sampling)).items():
        assert len(completion.first_token) == 30
        likeliest, others = dict(completion.first_token), dict(expected[request_id].first_token)
        assert list(likeliest)[:3] == list(others)[:3]
        assert all(likeliest[text] == pytest.approx(others[text], abs=1e-3) for text in list(others)[:20])


def test_scores_are_those_of_the_transformers_engine(engine: VllmEngine) -> None:
    given = [
        ScoreRequest(asked.request_id, asked.messages, "Paris.", ended=n % 2 == 0) for n, asked in enumerate(QUESTIONS)
    ]
    long = ScoreRequest("ff", QUESTIONS[0].messages, "word " * 600)
    found = {scored.request_id: scored for scored in engine.score([*given, long])}
    with open_model(Transformers(device="cpu", dtype="float32"), str(MODEL_PATH)) as transformers:
        expected = {scored.request_id: scored for scored in transformers.score(given)}  # type: ignore[attr-defined]
    assert "the model's context is" in str(found.pop("ff").error)
    assert {name: scored.completion_tokens for name, scored in found.items()} == {
        name: scored.completion_tokens for name, scored in expected.items()
    }
    assert all(scored.logp == pytest.approx(expected[name].logp, abs=0.01) for name, scored in found.items())


def test_there_is_always_something_to_go_on_with_and_never_more_than_needed(engine: VllmEngine) -> None:
    taken = received = 0

    def requests() -> Iterator[Request]:
        nonlocal taken
        for taken in range(1, 61):
            yield replace(QUESTIONS[taken % 40], request_id=f"{taken:016x}")

    for _ in engine.generate(requests(), GREEDY):
        received += 1
        assert taken - received < 2 * SEQUENCES
        assert taken == 60 or engine.core.get_num_unfinished_requests() >= SEQUENCES
    assert received == 60


@pytest.mark.parametrize("how", ["closed", "left", "requests"])
def test_what_was_given_up_is_dropped(engine: VllmEngine, how: str) -> None:
    def requests() -> Iterator[Request]:
        yield from QUESTIONS[:20]
        raise OSError("the disk is gone")

    completions = engine.generate(requests() if how == "requests" else QUESTIONS, GREEDY)
    next(completions)
    if how == "closed":
        completions.close()  # type: ignore[attr-defined]
    if how == "requests":
        with pytest.raises(OSError, match="disk"):
            list(completions)
    if how != "left":
        assert not engine.core.has_unfinished_requests()
    assert by_id(engine.generate(QUESTIONS[5:8], GREEDY)).keys() == {request.request_id for request in QUESTIONS[5:8]}
    if how == "left":
        with pytest.raises(RuntimeError, match="called again"):
            list(completions)
    assert not engine.core.has_unfinished_requests()


def test_a_prompt_without_room_gets_the_same_words_as_from_the_transformers_engine(engine: VllmEngine) -> None:
    huge = Request("huge", (("user", "word " * 3000),))
    with open_model(Transformers(device="cpu"), str(MODEL_PATH)) as other:
        expected = list(other.generate([huge], GREEDY))
    assert list(engine.generate([huge], GREEDY)) == expected
    assert "the model's context is 512" in (expected[0].error or "")


def test_an_answer_ends_where_the_context_does(engine: VllmEngine) -> None:
    request = Request("full", (("user", "word " * 80),))
    length = len(encode(engine.tokenizer, request))
    (completion,) = engine.generate([request], Sampling(max_new_tokens=5000, temperature=2.0, seed=3))
    assert completion.finish_reason == "stop" or completion.completion_tokens == 512 - length


def test_the_stop_string_that_ended_an_answer_is_said(engine: VllmEngine) -> None:
    (whole,) = engine.generate(QUESTIONS[:1], GREEDY)
    early, late = whole.text[8:14], whole.text[-9:-2]
    (completion,) = engine.generate(QUESTIONS[:1], replace(GREEDY, stop=(late, "never said", early)))
    assert (completion.text, completion.finish_reason) == (whole.text[:8], "stop")
    assert completion.stopped_by == early and whole.stopped_by is None


def test_what_vllm_refuses_is_an_error_and_leaves_nothing_behind(engine: VllmEngine) -> None:
    with pytest.raises(EngineError, match=r"temperature must be in \[0, 2\]"):
        list(engine.generate(QUESTIONS, replace(GREEDY, temperature=3.0)))
    assert not engine.core.has_unfinished_requests()


def test_prompts_that_begin_alike_are_read_once(engine: VllmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    cached, read = [], engine._read

    def spy(request_id: str, output: Any, sampling: Sampling) -> Completion:
        cached.append(output.num_cached_tokens)
        return read(request_id, output, sampling)

    monkeypatch.setattr(engine, "_read", spy)
    for number in range(2):
        request = Request(str(number), (("system", "Translate this. " * 40), ("user", f"{number} apples")))
        list(engine.generate([request], Sampling(2)))
    assert cached[0] == 0 and cached[1] >= 100


# --- the next ones in the same process --------------------------------------------------------------------------------


def test_the_model_is_freed_and_the_next_engine_answers_with_an_adapter(engine: VllmEngine, tmp_path: Path) -> None:
    model = weakref.ref(engine.core.model_executor.driver_worker.model_runner.model)
    assert model() is not None
    engine.close()
    engine.close()
    gc.collect()
    assert model() is None
    adapter, merged = make_adapter(tmp_path)
    with closing(start(adapter=str(adapter))) as adapted:
        found = by_id(adapted.generate(QUESTIONS, GREEDY))
    assert same(found, answers_of_transformers(str(merged), GREEDY)) >= AGREEMENT
    assert same(found, answers_of_transformers(str(MODEL_PATH), GREEDY)) < 0.5


def make_adapter(folder: Path) -> tuple[Path, Path]:
    """An adapter that changes the answers, and the model with it merged in."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(MODEL_PATH, dtype=torch.float32)
    peft = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"]))
    for name, weights in peft.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.5)
    peft.save_pretrained(folder / "adapter")
    peft.merge_and_unload().save_pretrained(folder / "merged")
    AutoTokenizer.from_pretrained(MODEL_PATH).save_pretrained(folder / "merged")
    return folder / "adapter", folder / "merged"


def test_a_process_of_vllms_that_dies_is_an_error_and_none_is_left(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.close()
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    before = set(psutil.Process().children(recursive=True))
    with closing(start()) as apart:
        completions = apart.generate(QUESTIONS, GREEDY)
        answered = [next(completions)]
        os.kill(apart.core.engine_core.resources.engine_manager.processes[0].pid, signal.SIGKILL)
        with pytest.raises(EngineError, match="vLLM's process died"):
            answered += list(completions)
        assert 0 < len(answered) < len(QUESTIONS)
    left = {child for child in psutil.Process().children(recursive=True) if child.is_running()} - before
    # Python's own helper for shared memory stays until this process ends.
    assert not [child for child in left if "multiprocessing.resource_tracker" not in " ".join(child.cmdline())]
