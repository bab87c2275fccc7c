"""From a pair's texts to the tokens that the model is trained on, by the tokenizer's own chat template."""

from __future__ import annotations

from typing import Any

from lidr.errors import ConfigError
from lidr.models import render_chat


def tokenize_prompt(tokenizer: Any, messages: list[dict[str, str]]) -> tuple[str, list[int]]:
    """The rendered prompt, up to where the assistant's answer begins, as text and as token ids."""
    text = render_chat(tokenizer, messages, add_generation_prompt=True)
    return text, tokenizer(text, add_special_tokens=False)["input_ids"]


def tokenize_answer(
    tokenizer: Any, messages: list[dict[str, str]], prompt: str, answer: str, end_ids: set[int]
) -> list[int]:
    """The token ids of an answer to a rendered `prompt`, up to and including the end-of-turn token.

    The answer is tokenised apart from the prompt, as it is in generation. Raises ConfigError where the template
    rewrites the prompt once an answer follows (templates for thinking models do) or never ends the turn.
    """
    turn = [*messages, {"role": "assistant", "content": answer}]
    whole = render_chat(tokenizer, turn, add_generation_prompt=False)
    if not whole.startswith(prompt):
        raise ConfigError(
            "the chat template renders a prompt differently once an answer follows it, so the model would be trained "
            "on another prompt than it answered; use a model or template without hidden thinking turns"
        )
    ids: list[int] = tokenizer(whole[len(prompt) :], add_special_tokens=False)["input_ids"]
    ends = [place for place, token in enumerate(ids) if token in end_ids]
    if not ends:
        raise ConfigError("the chat template does not end the assistant's turn with one of the model's end tokens")
    return ids[: ends[-1] + 1]  # some templates write a line break after the end of the turn; it is no part of y
