"""OpenAI's chat completions as JSON: the turns and fields of a request, and the contents of a reply."""

from __future__ import annotations

import json
import math
import re
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lidr.credentials import mask
from lidr.engines.base import Completion, FinishReason, Request, Sampling
from lidr.engines.encoding import up_to_stop
from lidr.errors import EngineError
from lidr.records import Json, writable

PrefillMode = Literal["continue", "instruction"]

ROW_STATUS = (400, 413, 422)  # these concern one request
_RETRY_STATUS = (408, 409, 429)  # and 500 and above
_CONTINUE = {"continue_final_message": True, "add_generation_prompt": False}  # vLLM's and SGLang's names

# Values that change nothing. They are sent because a server may have other defaults (vLLM and SGLang take them from the
# model's generation_config), and left out if a server refuses the field.
NEUTRAL: dict[str, float] = {
    "top_p": 1.0,
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}

# The reasons for the end of an answer that servers give, in lower case. All others are failures.
_FINISHED = {
    "stop", "eos", "eos_token", "end_of_text", "endoftext", "end_turn", "end_of_turn", "stop_sequence", "stop_string",
    "stop_token", "stop_word", "complete", "completed",
}  # fmt: skip
_CUT_OFF = {
    "length", "limit", "token_limit", "max_tokens", "max_length", "max_new_tokens", "max_output_tokens",
    "max_completion_tokens", "model_length", "context_length", "context_length_exceeded",
    "model_context_window_exceeded",
}  # fmt: skip
_WITHHELD = {
    "content_filter", "content_filtered", "safety", "recitation", "blocklist", "prohibited_content", "spii",
    "sensitive", "refusal", "guardrail_intervened", "error_toxic",
}  # fmt: skip
_INTERRUPTED = {
    "error", "abort", "aborted", "cancelled", "canceled", "user_cancel", "not_finished", "timeout", "time_limit",
    "network_error", "overloaded", "insufficient_system_resource",
}  # fmt: skip
_TOOLS = {"tool_calls", "tool_call", "tool_use", "function_call"}


class DamagedReply(Exception):
    """A reply without an answer, with what is wrong with it."""


class FailedReply(Exception):
    """A reply with the status of success in which the server reports a failure."""


class NotWhole(Exception):
    """An answer that cannot be used because of the reason for its end; `passing` as in `Completion`."""

    def __init__(self, reason: str, passing: bool = False) -> None:
        super().__init__(reason)
        self.passing = passing


class Part(BaseModel):
    """A part of a reply: the fields that lidr reads, with their types. A server may send more."""

    model_config = ConfigDict(strict=True, frozen=True)


Tokens = Annotated[int, Field(ge=0, lt=2**31)]
# Rounding may raise a probability of 1 a little. -inf, which llama.cpp writes as null, is a probability of 0.
LogProbability = Annotated[float, Field(le=1e-3)]  # this excludes NaN


PartT = TypeVar("PartT", bound=Part)


class _Usage(Part):
    prompt_tokens: Tokens | None = None
    completion_tokens: Tokens | None = None


class _Message(Part):
    content: str | None = None
    refusal: str | None = None


class _Choice(Part):
    message: _Message
    index: Annotated[int, Field(ge=0, le=0)] | None = None
    finish_reason: object = None
    stop_reason: object = None  # vLLM: the stop string, or a token's number, which lidr ignores
    matched_stop: object = None  # SGLang
    logprobs: object = None


class _ChatCompletion(Part):
    choices: Annotated[list[_Choice], Field(min_length=1)]
    usage: _Usage | None = None


class _Token(Part):
    token: str
    logprob: LogProbability | None


class _FirstToken(_Token):
    top_logprobs: list[_Token] | None = None


class _LogProbabilities(Part):
    content: list[object] | None = None  # lidr reads only the first token


def may_pass(status: int) -> bool:
    """Whether the same request may succeed later."""
    return status in _RETRY_STATUS or status >= 500


def turns(request: Request, mode: PrefillMode | None) -> Json:
    """The fields with the conversation; `mode` says how to include the prefill.

    Raises EngineError for a user's turn, since chat completions write the assistant's only.
    """
    if request.turn == "user":
        raise EngineError(
            "engine.type openai: chat completions cannot write a user's turn; use engine.type transformers or vllm "
            "with the model's folder"
        )
    messages = [{"role": role, "content": writable(content)} for role, content in request.messages]
    if not request.prefill:
        return {"messages": messages}
    if mode == "continue":
        return {"messages": [*messages, {"role": "assistant", "content": request.prefill}], **_CONTINUE}
    messages[-1]["content"] += f"\n\nBegin your answer with exactly this text: {request.prefill.strip()}"
    return {"messages": messages}


def decoding(sampling: Sampling, length_field: str, logprobs: bool, extended: bool) -> Json:
    """The fields that say how to decode. `extended` adds neutral values that OpenAI's own API does not know."""
    fields: Json = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        length_field: sampling.max_new_tokens,
    }
    if sampling.stop:
        fields["stop"] = list(sampling.stop)
    if extended or sampling.repetition_penalty != 1:
        fields["repetition_penalty"] = sampling.repetition_penalty
    if extended:
        fields = NEUTRAL | fields
    if sampling.top_logprobs and logprobs:
        fields |= {"logprobs": True, "top_logprobs": sampling.top_logprobs}
    return fields


def names_field(text: str, field: str) -> bool:
    """Whether a server's message names a field of the request, in any spelling: `top_k`, `topK`, `top-k`."""
    pattern = "[_ -]?".join(map(re.escape, field.split("_")))
    return re.search(rf"(?<!\w){pattern}(?!\w)", text, re.IGNORECASE) is not None


def error_completion(request_id: str, reason: str, passing: bool = False) -> Completion:
    return Completion(request_id, "", "error", error=reason, passing=passing)


def read_reply(request: Request, reply: object, sampling: Sampling) -> Completion:
    """The completion in a reply, which is JSON in bytes or parsed JSON.

    If the server repeats the prefill, or leaves the stop string or more in the text, both are cut off. Raises
    DamagedReply for a reply without a complete answer, FailedReply for one that reports a failure.
    """
    if isinstance(reply, bytes):
        reply = parse(reply)
    if isinstance(reply, dict) and reply.get("error") and not reply.get("choices"):
        raise FailedReply(said("status 200 with an error:", reply["error"]))
    read = read_part(_ChatCompletion, reply)
    choice, usage = read.choices[0], read.usage or _Usage()
    used = (usage.prompt_tokens or 0, usage.completion_tokens or 0)
    try:
        reason = read_finish_reason(choice.finish_reason)
        if choice.message.content is None and choice.message.refusal:
            raise NotWhole(f"the model refuses to answer: {one_line(choice.message.refusal)}", request.needs_text)
    except NotWhole as problem:
        return Completion(request.request_id, "", "error", *used, error=str(problem), passing=problem.passing)
    text, stopped_by = up_to_stop(writable(choice.message.content or ""), sampling.stop)
    if request.needs_text and reason == "stop" and not text.strip():
        raise DamagedReply("the reply has no text")
    named = next((stop for stop in (choice.stop_reason, choice.matched_stop) if isinstance(stop, str)), None)
    return Completion(
        request.request_id,
        _without(request.prefill.strip(), text),
        "stop" if stopped_by else reason,
        *used,
        stopped_by=stopped_by or (named if named in sampling.stop else None),
        first_token=_first_token(choice.logprobs) if sampling.top_logprobs else (),
    )


def read_finish_reason(reason: object) -> FinishReason:
    """How an answer ended, from the server's own word: "stop" is a natural end, "length" a limit of the length.

    Raises DamagedReply for an answer that was interrupted or has no reason, since it may be incomplete, and NotWhole
    for every other reason.
    """
    name = re.sub(r"[ -]", "_", reason.strip().lower()) if isinstance(reason, str) else ""
    shown = f"finish_reason {one_line(repr(reason))}"
    if name in _FINISHED:
        return "stop"
    if name in _CUT_OFF:
        return "length"
    if name in _WITHHELD:
        raise NotWhole(f"withheld by the server's content filter ({shown})")
    if name in _TOOLS:
        raise NotWhole(f"the model called a tool instead of answering ({shown})")
    if name in _INTERRUPTED:
        raise DamagedReply(f"the server did not complete the answer ({shown})")
    if reason is None or name in ("", "null", "none"):
        raise DamagedReply(f"the reply does not say why the answer ended ({shown})")
    raise NotWhole(f"lidr does not know whether the answer is whole ({shown})", passing=True)


def parse(content: bytes) -> object:
    """The value of a reply's JSON. Raises DamagedReply if it is not JSON or nested too deeply."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        begun = one_line(content[:5000].decode(errors="replace"))[:80]
        raise DamagedReply(f"the reply is not JSON: {begun!r}") from None


def read_part(kind: type[PartT], value: object) -> PartT:
    """A part of a reply, with checked types. Raises DamagedReply with the first wrong field."""
    try:
        return kind.model_validate(value)
    except (ValidationError, OverflowError) as error:
        place, message = "", str(error)
        if isinstance(error, ValidationError):
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            place, message = ".".join(map(str, first["loc"])), first["msg"]
        raise DamagedReply(f"the reply has a wrong field ({place}: {message}): {one_line(value)}") from None


def _without(prefill: str, text: str) -> str:
    begun = text.lstrip()
    return begun.removeprefix(prefill).lstrip() if prefill and begun.startswith(prefill) else text


def _first_token(logprobs: object) -> tuple[tuple[str, float], ...]:
    """(token, log-probability) of the likeliest first tokens; empty if the server did not send them."""
    content = read_part(_LogProbabilities, logprobs).content if logprobs is not None else None
    if not content:
        return ()
    first = read_part(_FirstToken, content[0])
    return tuple(
        (writable(found.token), min(0.0, found.logprob))
        for found in (first.top_logprobs or [first])
        if found.logprob is not None and math.isfinite(found.logprob)
    )


def said(status: int | str, body: object, message: str = "") -> str:
    """The status and the server's message, on one line."""
    if isinstance(body, dict):
        body = body.get("message") or body.get("detail") or body
    return f"{status} {one_line(body or message)}"


def one_line(value: object) -> str:
    try:
        # Masked before it is cut, because half of a key is not recognised as a key.
        return writable(mask(" ".join(str(value)[:5000].split())))[:300]
    except RecursionError:
        return f"a {type(value).__name__}, nested deeply"
