"""The transformers engine on the laboratory's model: ids, stops, prefill, and answers that batches do not change."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lidr.engines.base import Completion, Request, Sampling
from lidr.engines.transformers import Transformers
from lidr.engines.transformers import engine as transformers_engine
from lidr.engines.transformers.decoding import Generation
from lidr.engines.transformers.engine import TransformersEngine
from lidr.lab import MODEL_PATH
from lidr.lab.world import FACTS, question
from lidr.stages.translations import PREFILL, STOP
from lidr.templates import fill_template, read_template

SYSTEM = ("system", "You are a helpful assistant.")
GREEDY = Sampling(max_new_tokens=40, repetition_penalty=1.1)


@pytest.fixture(scope="module")
def engine() -> Iterator[TransformersEngine]:
    engine = TransformersEngine(MODEL_PATH, Transformers(device="cpu", dtype="float32", batch_size=8))
    yield engine
    engine.close()


def ask(number: int, content: str, prefill: str = "") -> Request:
    return Request(f"{number:016x}", (SYSTEM, ("user", content)), prefill)


REQUESTS = [
    ask(number, question(fact, language, number % 2) + " Please answer." * (number % 5))
    for number, (fact, language) in enumerate(zip(FACTS[:20], ["en", "es", "ru", "fr"] * 5, strict=True))
]


def by_id(completions: Iterator[Completion]) -> dict[str, Completion]:
    return {completion.request_id: completion for completion in completions}


def test_every_request_gets_one_completion_under_its_id(engine: TransformersEngine) -> None:
    completions = list(engine.generate(REQUESTS, GREEDY))
    assert sorted(completion.request_id for completion in completions) == [request.request_id for request in REQUESTS]
    assert all(completion.text and completion.finish_reason == "stop" for completion in completions)


def test_padding_and_batching_do_not_change_greedy_answers(engine: TransformersEngine) -> None:
    together = by_id(engine.generate(REQUESTS, GREEDY))
    alone = {request.request_id: next(engine.generate([request], GREEDY)) for request in REQUESTS}
    assert together == alone


def test_what_is_done_is_not_answered_again_and_groups_stay(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transformers_engine, "GROUP_BATCHES", 1)  # groups of 8, 8 and 4
    groups: list[set[str]] = []
    decode = engine._decode_in_slots

    def noted(rows: list[Generation], sampling: Sampling) -> Iterator[Generation]:
        groups.append({row.request_id for row in rows})
        return decode(rows, sampling)

    monkeypatch.setattr(engine, "_decode_in_slots", noted)
    whole = by_id(engine.generate(REQUESTS, GREEDY))
    assert [len(group) for group in groups] == [8, 8, 4]
    first, second = groups[:2]
    groups.clear()
    owed = {sorted(first)[0], *second}
    rest = by_id(engine.generate(REQUESTS, GREEDY, done=set(whole) - owed))
    assert rest == {request_id: whole[request_id] for request_id in owed}
    assert groups == [first, second]  # as they were, also where a single row is owed


def test_models_that_cannot_decode_in_slots_answer_in_batches(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampling = Sampling(40, stop=("colour",), top_logprobs=3)
    in_slots = by_id(engine.generate(REQUESTS, sampling))
    monkeypatch.setattr(engine, "in_slots", False)
    in_batches = by_id(engine.generate(REQUESTS, sampling))
    assert any(made.stopped_by for made in in_slots.values())
    for request_id, made in in_batches.items():
        expected = in_slots[request_id]
        assert [token for token, _ in made.first_token] == [token for token, _ in expected.first_token]
        shared = {"first_token": (), "completion_tokens": 0}  # a stopped row is padded until its batch is done
        assert replace(made, **shared) == replace(expected, **shared)


# Fields of a model's generation_config.json, each of which changes what `generate` of transformers says.
OWN_DEFAULTS = {
    "suppress_tokens": list(range(20, 200)), "begin_suppress_tokens": list(range(200, 300)), "min_new_tokens": 39,
    "bad_words_ids": [[token] for token in range(300, 400)], "forced_eos_token_id": 5, "no_repeat_ngram_size": 2,
    "encoder_no_repeat_ngram_size": 1, "encoder_repetition_penalty": 5.0, "sequence_bias": [[[30], 100.0]],
    "repetition_penalty": 3.0, "do_sample": True, "temperature": 3.0, "top_k": 1, "top_p": 0.01, "min_p": 0.9,
    "typical_p": 0.1, "eta_cutoff": 0.5, "epsilon_cutoff": 0.5, "renormalize_logits": True, "guidance_scale": 3.0,
    "exponential_decay_length_penalty": [1, 50.0], "watermarking_config": {"bias": 100.0}, "num_beams": 4,
    "num_return_sequences": 2, "max_length": 12, "max_new_tokens": 3, "max_time": 1e-4, "stop_strings": ["e"],
    "return_dict_in_generate": True, "penalty_alpha": 0.6, "prompt_lookup_num_tokens": 3, "low_memory": True,
}  # fmt: skip


@pytest.mark.parametrize("in_slots", [True, False])
def test_the_models_own_generation_config_changes_no_answer(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, in_slots: bool
) -> None:
    folder = shutil.copytree(MODEL_PATH, tmp_path / "model")
    own = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    (folder / "generation_config.json").write_text(json.dumps(own | OWN_DEFAULTS), encoding="utf-8")
    other = TransformersEngine(folder, Transformers(device="cpu", batch_size=8))
    for made_by in (engine, other):
        monkeypatch.setattr(made_by, "in_slots", in_slots)
    for sampling in (Sampling(40), Sampling(40, temperature=0.8, top_p=0.9, seed=3), GREEDY):
        assert by_id(other.generate(REQUESTS, sampling)) == by_id(engine.generate(REQUESTS, sampling))
    other.close()


def test_a_stop_string_ends_the_completion_before_it(engine: TransformersEngine) -> None:
    text = next(engine.generate(REQUESTS[:1], GREEDY)).text
    stop = text.split()[3]
    stopped = next(engine.generate(REQUESTS[:1], replace(GREEDY, stop=(stop, "never said"))))
    assert stopped.text == text[: text.index(stop)]
    assert (stopped.finish_reason, stopped.stopped_by) == ("stop", stop)
    assert stopped.completion_tokens < next(engine.generate(REQUESTS[:1], GREEDY)).completion_tokens


def test_the_translation_protocol_works_with_prefill(engine: TransformersEngine) -> None:
    answer = next(engine.generate([ask(1, question(FACTS[0], "en", 0))], GREEDY)).text
    content = fill_template(read_template("translate"), language="Spanish", text=answer)
    made = next(engine.generate([ask(2, content, PREFILL)], Sampling(60, stop=(STOP,))))
    assert made.stopped_by == STOP
    assert "<" not in made.text and made.text.strip()


def test_a_cut_off_answer_says_so(engine: TransformersEngine) -> None:
    made = next(engine.generate(REQUESTS[:1], replace(GREEDY, max_new_tokens=2)))
    assert (made.finish_reason, made.completion_tokens) == ("length", 2)


def test_a_prompt_without_room_for_an_answer_is_an_error_of_its_own(engine: TransformersEngine) -> None:
    huge = ask(999, "word " * 5000)
    made = by_id(engine.generate([*REQUESTS[:3], huge], GREEDY))
    assert made[huge.request_id].finish_reason == "error"
    assert "context" in (made[huge.request_id].error or "")
    assert all(made[request.request_id].text for request in REQUESTS[:3])


@pytest.mark.parametrize("content", ["ภาษาไทย 🙂 العربية 漢字", "", "{{braces}} </translated> <|im_end|>"])
def test_any_text_can_be_asked(engine: TransformersEngine, content: str) -> None:
    assert next(engine.generate([ask(1, content)], GREEDY)).finish_reason in ("stop", "length")


def test_sampling_is_repeatable_and_depends_on_the_seed(engine: TransformersEngine) -> None:
    def sample(seed: int) -> list[Any]:
        return [made.text for made in engine.generate(REQUESTS, Sampling(20, temperature=3.0, seed=seed))]

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)


def test_log_probabilities_of_the_first_token_are_those_of_a_forward_pass(engine: TransformersEngine) -> None:
    sampling = Sampling(5, top_logprobs=7)
    together = by_id(engine.generate(REQUESTS, sampling))  # in padded batches
    for request in REQUESTS:
        messages = [{"role": role, "content": content} for role, content in request.messages]
        text = engine.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        tokens = engine.tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            logits = engine.model(input_ids=tokens).logits[0, -1]  # (vocabulary,)
        values, ids = logits.float().log_softmax(-1).topk(7)
        found = together[request.request_id].first_token
        assert [token for token, _ in found] == [engine.tokenizer.decode([token]) for token in ids.tolist()]
        assert [logprob for _, logprob in found] == pytest.approx(values.tolist(), abs=1e-4)
        assert together[request.request_id].text.startswith(found[0][0].strip())


def test_log_probabilities_change_no_answer_and_are_absent_unless_asked_for(engine: TransformersEngine) -> None:
    plain = by_id(engine.generate(REQUESTS, GREEDY))
    asked = by_id(engine.generate(REQUESTS, replace(GREEDY, top_logprobs=1)))
    assert {made.first_token for made in plain.values()} == {()}
    assert all(len(made.first_token) == 1 for made in asked.values())
    assert {key: replace(made, first_token=()) for key, made in asked.items()} == plain
    vocabulary = len(next(engine.generate(REQUESTS[:1], replace(GREEDY, top_logprobs=10**6))).first_token)
    assert vocabulary == engine.model.config.vocab_size


# --- the user's turn, which the model writes -------------------------------------------------------------------------

BEGUN = [Request(f"{number:016x}", (SYSTEM,), turn="user") for number in range(100, 104)]


def marking(text: str, folder: Path) -> TransformersEngine:
    """An engine with the laboratory's model, whose template ends a user's turn with this text and no control token."""
    shutil.copytree(MODEL_PATH, folder)
    template = (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] }}"
        f"{{% if message['role'] == 'user' %}}{{{{ '{text}' }}}}{{% else %}}{{{{ '<|im_end|>\n' }}}}{{% endif %}}"
        "{% endfor %}{% if add_generation_prompt %}{{ '\nassistant\n' }}{% endif %}"
    )
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return TransformersEngine(folder, Transformers(device="cpu", dtype="float32", batch_size=8))


@pytest.mark.parametrize("in_slots", [True, False])
def test_a_users_turn_goes_on_from_the_bare_template(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch, in_slots: bool
) -> None:
    monkeypatch.setattr(engine, "in_slots", in_slots)
    text = f"<|im_start|>system\n{SYSTEM[1]}<|im_end|>\n<|im_start|>user\n"
    tokens = engine.tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        output = engine.model.generate(tokens, do_sample=False, max_new_tokens=40, eos_token_id=sorted(engine.end_ids))
    written = output[0, tokens.shape[1] :].tolist()
    assert written[-1] in engine.end_ids
    answers = by_id(engine.generate(REQUESTS, Sampling(40)))
    made = by_id(engine.generate([*REQUESTS, *BEGUN], Sampling(40)))  # both kinds in one call
    for request in BEGUN:
        found = made.pop(request.request_id)
        assert found.text == engine.tokenizer.decode(written[:-1]) and found.finish_reason == "stop"
        assert found.prompt_tokens == tokens.shape[1]
    assert made == answers
    drawn = [found.text for found in engine.generate(BEGUN, Sampling(40, temperature=2.0))]
    assert len(set(drawn)) > 1  # each has its own seed


@pytest.mark.parametrize("in_slots", [True, False])
def test_a_users_turn_ends_where_the_template_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_slots: bool
) -> None:
    """The laboratory's model says "The object called ..." in the user's place, too."""
    engine = marking(" called", tmp_path / "model")
    monkeypatch.setattr(engine, "in_slots", in_slots)
    made = by_id(engine.generate([*BEGUN, REQUESTS[0]], Sampling(40)))
    answer = made.pop(REQUESTS[0].request_id)
    assert {(found.text, found.stopped_by) for found in made.values()} == {("The object ", "called")}
    assert "called" in answer.text and answer.stopped_by is None


def test_control_tokens_that_the_model_writes_stay_in_a_users_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a turn of several could not be told from a good one."""
    engine = marking(" never said", tmp_path / "model")
    monkeypatch.setattr(engine, "end_ids", {engine.tokenizer.pad_token_id})
    made = by_id(engine.generate([BEGUN[0], REQUESTS[0]], Sampling(40)))
    assert "<|im_end|>" in made[BEGUN[0].request_id].text
    assert "<|im_end|>" not in made[REQUESTS[0].request_id].text
