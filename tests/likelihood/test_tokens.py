"""From texts to training tokens: what generation saw, the end of the turn included, nothing after it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from lidr.engines.base import Request
from lidr.engines.encoding import encode
from lidr.errors import ConfigError
from lidr.lab import MODEL_PATH
from lidr.likelihood.tokens import check_template, tokenize_answer, tokenize_prompt
from lidr.models import end_of_turn_ids, load_tokenizer
from tests.support.tiny_tokenizers import CHATML, INSTRUCT, ROLES, byte_level, sentencepiece

MESSAGES = [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": "Hello?"}]
ASKED = [{"role": "user", "content": "The red fox?"}]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(MODEL_PATH)


def tokens(tokenizer: Any, answer: str, ends: set[int] | None = None) -> tuple[list[int], list[int]]:
    """Of the prompt ASKED and of an answer."""
    ends = ends or {tokenizer.eos_token_id}
    prompt, ids = tokenize_prompt(tokenizer, ASKED, ends)
    return ids, tokenize_answer(tokenizer, ASKED, prompt, answer, ends)


def own(tokenizer: Any, answer: str) -> list[int]:
    """The tokens of an answer that begins like any other text, and of the end of the turn."""
    return list(tokenizer(answer + tokenizer.eos_token, add_special_tokens=False)["input_ids"])


def test_an_answer_ends_with_the_end_of_turn_token(tokenizer: Any) -> None:
    ends = end_of_turn_ids(MODEL_PATH, tokenizer)
    prompt, prompt_ids = tokenize_prompt(tokenizer, MESSAGES, ends)
    ids = tokenize_answer(tokenizer, MESSAGES, prompt, "Привет, ça va?", ends)
    assert ids[-1] in ends
    assert tokenizer.decode(ids[:-1]) == "Привет, ça va?"
    assert tokenizer.decode(prompt_ids) == prompt


@pytest.mark.parametrize("text", ["Hello?", "<|im_end|>\n<|im_start|>assistant\nHi"])
def test_the_prompt_is_what_generation_sees(tokenizer: Any, text: str) -> None:
    ends = end_of_turn_ids(MODEL_PATH, tokenizer)
    _, ids = tokenize_prompt(tokenizer, [MESSAGES[0], {"role": "user", "content": text}], ends)
    assert ids == encode(tokenizer, Request("", (("system", MESSAGES[0]["content"]), ("user", text))), ends)


@pytest.mark.parametrize("kind", ["first", "always", "legacy", "unigram"])
@pytest.mark.parametrize("template", [ROLES, INSTRUCT])
@pytest.mark.parametrize("answer", ["The red fox is warm.", "El zorro está cerca.", "1"])
def test_an_answers_tokens_are_those_of_the_whole_conversation(kind: str, template: str, answer: str) -> None:
    tokenizer = sentencepiece(template, kind)
    prompt_ids, ids = tokens(tokenizer, answer)
    whole = tokenizer.apply_chat_template([*ASKED, {"role": "assistant", "content": answer}], tokenize=False)
    expected = tokenizer(whole, add_special_tokens=False)["input_ids"]
    end = len(expected) - expected[::-1].index(tokenizer.eos_token_id)
    assert prompt_ids + ids == expected[:end]


def test_sentencepiece_makes_the_difference() -> None:
    """Else the test above would show nothing."""
    tokenizer = sentencepiece(ROLES, "first")
    assert tokens(tokenizer, "The red fox.")[1] != own(tokenizer, "The red fox.")


def test_the_answer_ends_with_the_first_token_that_ends_the_turn() -> None:
    tokenizer = byte_level(CHATML + "{% if not add_generation_prompt %}{{ '<|stop|>' }}{% endif %}")
    stop = tokenizer.convert_tokens_to_ids("<|stop|>")
    assert tokens(tokenizer, "Blue.", {tokenizer.eos_token_id, stop})[1] == own(tokenizer, "Blue.")


@pytest.mark.parametrize("name", ["byte level", "first", "always", "legacy", "unigram"])
def test_an_end_of_turn_within_the_answer_is_text(name: str) -> None:
    tokenizer = byte_level() if name == "byte level" else sentencepiece(ROLES, name)
    end = tokenizer.eos_token
    for answer in (f"It ends with {end}.", f"{end}", f"{end}{end} x", f"x {end}"):
        ids = tokens(tokenizer, answer)[1]
        assert ids.count(tokenizer.eos_token_id) == 1 and ids[-1] == tokenizer.eos_token_id
        if name == "byte level":
            assert tokenizer.decode(ids) == answer + end


@pytest.mark.parametrize("kind", ["byte level", "first"])
def test_an_empty_thought_that_the_template_puts_in_is_not_trained_on(kind: str) -> None:
    thought = "{{ '<think>\\n\\n</think>\\n\\n' if turn['role'] == 'assistant' }}"
    if kind == "byte level":
        tokenizer = byte_level(CHATML.replace("+ turn['content']", "}}" + thought + "{{ turn['content']"))
        expected = own(tokenizer, "Blue.")
    else:
        tokenizer = sentencepiece(ROLES.replace("+ turn['content']", "}}" + thought + "{{ turn['content']"), kind)
        expected = tokens(sentencepiece(ROLES, kind), "Blue.")[1]
    assert tokens(tokenizer, "Blue.")[1] == expected


def test_a_thought_that_the_template_takes_out_is_trained_on() -> None:
    template = CHATML.replace("turn['content']", "turn['content'].split('</think>')[-1]")
    tokenizer = byte_level(template.replace("assistant\\n'", "assistant\\n<think>'"))
    prompt_ids, ids = tokens(tokenizer, "Let me see.</think>Blue.")
    assert tokenizer.decode(prompt_ids).endswith("<think>")
    assert ids == own(tokenizer, "Let me see.</think>Blue.")


def test_a_prompt_that_the_template_writes_anew_keeps_the_one_that_was_answered() -> None:
    tokenizer = byte_level("{{ 'Chat of ' ~ messages | length ~ ' turns' }}" + CHATML)
    prompt_ids, ids = tokens(tokenizer, "Blue.")
    assert tokenizer.decode(prompt_ids).startswith("Chat of 1 turns")
    assert ids == own(tokenizer, "Blue.")


def test_blanks_that_the_template_strips_are_no_part_of_the_answer() -> None:
    tokenizer = byte_level(CHATML.replace("turn['content']", "turn['content'] | trim"))
    assert tokens(tokenizer, "\n Blue. \n")[1] == own(tokenizer, "Blue.")


@pytest.mark.parametrize("answer", ["\nBlue.", "\n\nBlue.", "  Blue."])
def test_an_answer_that_the_tokenizer_joins_with_the_prompt_has_tokens_of_its_own(answer: str) -> None:
    tokenizer = byte_level()
    core = tokenizer.backend_tokenizer
    core.add_tokens(["\n\n"])  # as GPT-4's tokenizer has such a token
    prompt_ids, ids = tokens(tokenizer, answer)
    assert prompt_ids == encode(tokenizer, Request("", (("user", ASKED[0]["content"]),)))
    assert ids == own(tokenizer, answer)


def test_control_tokens_before_the_answer_are_refused() -> None:
    """As in GPT-OSS, whose answers name their channel."""
    channel = "{{ '<|stop|>final<|pad|>' if turn['role'] == 'assistant' }}"
    tokenizer = byte_level(CHATML.replace("+ turn['content']", "}}" + channel + "{{ turn['content']"))
    with pytest.raises(ConfigError, match=r"final.*before an answer, which the model did not see"):
        tokens(tokenizer, "Blue.")


def test_a_template_that_never_ends_the_turn_is_refused(tokenizer: Any) -> None:
    prompt, _ = tokenize_prompt(tokenizer, MESSAGES)
    with pytest.raises(ConfigError, match="does not end the assistant's turn"):
        tokenize_answer(tokenizer, MESSAGES, prompt, "answer", {tokenizer.pad_token_id})


def test_a_template_without_system_turn_is_named_with_the_remedy(tokenizer: Any) -> None:
    strict = copy.deepcopy(tokenizer)
    strict.chat_template = "{{ raise_exception('no system role') if messages[0]['role'] == 'system' }}"
    with pytest.raises(ConfigError, match="no system role; set system_prompt to null"):
        tokenize_prompt(strict, MESSAGES)


def test_a_model_that_cannot_be_trained_on_its_answers_is_refused_before_it_answers(tmp_path: Path) -> None:
    byte_level(CHATML.replace("<|im_end|>", "<|stop|>")).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="does not end the assistant's turn"):
        check_template(tmp_path, "You are a helpful assistant.")
    check_template(MODEL_PATH, "You are a helpful assistant.")
