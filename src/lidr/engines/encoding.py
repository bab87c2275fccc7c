"""Shared by the engines with weights: token ids of requests and answers, seeds, stop strings."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from lidr.engines.base import Completion, Request, Sampling, Scored, ScoreRequest
from lidr.errors import ConfigError
from lidr.likelihood.tokens import tokenize_answer, tokenize_prompt
from lidr.models.chat import TurnEnd, chat_of
from lidr.records import content_id, writable

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode(tokenizer: PreTrainedTokenizerBase, request: Request, end_ids: Collection[int] = ()) -> list[int]:
    """Token ids of the conversation in the model's chat template, up to the place where the model continues.

    They are those of `continue_final_message=True`, which renders the begun turn and cuts off what the template writes
    after it, because a turn begins like the generation prompt. But a template may trim the turn; here the prefill's
    last newline stays. Control tokens in the messages and the prefill are text.
    """
    if request.turn == "user":
        return list(user_turn(tokenizer, request.messages, frozenset(end_ids))[0])
    chat = chat_of(tokenizer, frozenset(end_ids))
    messages = [{"role": role, "content": writable(content)} for role, content in request.messages]
    text = chat.render(messages, add_generation_prompt=True)
    return chat.ids(text + chat.mark(writable(request.prefill), "assistant"))


@lru_cache(maxsize=64)  # the requests of a call usually have the same messages
def user_turn(
    tokenizer: PreTrainedTokenizerBase, messages: tuple[tuple[str, str], ...], end_ids: frozenset[int]
) -> tuple[list[int], TurnEnd]:
    """As `Chat.user_turn`; the model's own end tokens end the turn, too."""
    turns = [{"role": role, "content": writable(content)} for role, content in messages]
    ids, end = chat_of(tokenizer, end_ids).user_turn(turns)
    return ids, replace(end, ids=end.ids | end_ids)


def encode_scored(
    tokenizer: PreTrainedTokenizerBase, request: ScoreRequest, end_ids: Collection[int], context: int | None
) -> tuple[list[int], list[int]] | Scored:
    """Token ids of the conversation and of the answer, as in training; or the error if it cannot be scored."""
    messages = [{"role": role, "content": writable(content)} for role, content in request.messages]
    try:
        prompt, prompt_ids = tokenize_prompt(tokenizer, messages, end_ids)
        answer_ids = tokenize_answer(tokenizer, messages, prompt, writable(request.answer), end_ids)
    except ConfigError as error:
        return Scored(request.request_id, None, error=str(error))
    answer_ids = answer_ids if request.ended else answer_ids[:-1]
    tokens = len(prompt_ids) + len(answer_ids)
    if context is not None and tokens > context:
        reason = f"prompt and answer have {tokens} tokens, the model's context is {context}"
        return Scored(request.request_id, None, len(answer_ids), reason)
    return prompt_ids, answer_ids


def row_seed(sampling: Sampling, request_id: str) -> int:
    """The seed of one request, so that its random numbers depend on nothing else."""
    return int(content_id(sampling.seed, request_id), 16) % 2**63


def no_room(request_id: str, prompt_tokens: int, context: int | None) -> Completion:
    """The error for a prompt that leaves no room for an answer."""
    reason = f"the prompt has {prompt_tokens} tokens, the model's context is {context}"
    return Completion(request_id, "", "error", prompt_tokens=prompt_tokens, error=reason)


def up_to_stop(text: str, stop: tuple[str, ...]) -> tuple[str, str | None]:
    """The text before the first of the stop strings, and that string."""
    places = [(text.find(string), string) for string in stop if string in text]
    place, string = min(places, default=(len(text), None))
    return text[:place], string
