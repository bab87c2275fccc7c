"""From texts to training tokens: what generation saw, the end of the turn included, nothing after it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from lidr.errors import ConfigError
from lidr.lab import MODEL_PATH
from lidr.models import end_of_turn_ids, load_tokenizer
from lidr.training.tokens import tokenize_answer, tokenize_prompt

MESSAGES = [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": "Hello?"}]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(MODEL_PATH)


def test_an_answer_ends_with_the_end_of_turn_token(tokenizer: Any) -> None:
    ends = end_of_turn_ids(MODEL_PATH, tokenizer)
    prompt, prompt_ids = tokenize_prompt(tokenizer, MESSAGES)
    ids = tokenize_answer(tokenizer, MESSAGES, prompt, "Привет, ça va?", ends)
    assert ids[-1] in ends
    assert tokenizer.decode(ids[:-1]) == "Привет, ça va?"
    assert tokenizer.decode(prompt_ids) == prompt


def test_a_template_that_rewrites_the_prompt_is_refused(tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match="renders a prompt differently"):
        tokenize_answer(tokenizer, MESSAGES, "something else", "answer", {0})


def test_a_template_that_never_ends_the_turn_is_refused(tokenizer: Any) -> None:
    prompt, _ = tokenize_prompt(tokenizer, MESSAGES)
    with pytest.raises(ConfigError, match="does not end the assistant's turn"):
        tokenize_answer(tokenizer, MESSAGES, prompt, "answer", {10**9})


def test_a_template_without_system_turn_is_named_with_the_remedy(tokenizer: Any) -> None:
    strict = copy.deepcopy(tokenizer)
    strict.chat_template = "{{ raise_exception('no system role') if messages[0]['role'] == 'system' }}"
    with pytest.raises(ConfigError, match="no system role; set system_prompt to null"):
        tokenize_prompt(strict, MESSAGES)
