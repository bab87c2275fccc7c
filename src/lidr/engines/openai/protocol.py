"""OpenAI's chat completions as JSON: the turns and fields that are sent, and what a reply says."""

from __future__ import annotations

import json
import math
import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lidr.credentials import mask
from lidr.engines.base import Completion, FinishReason, Request, Sampling
from lidr.engines.encoding import up_to_stop
from lidr.records import writable

PrefillMode = Literal["continue", "instruction"]

ROW_STATUS = (400, 413, 422)  # a statement about one request
_RETRY_STATUS = (408, 409, 429)  # and 500 and above
_CONTINUE = {"continue_final_message": True, "add_generation_prompt": False}  # vLLM's and SGLang's names

# Values that change nothing. They are sent, because a server may have defaults of its own (vLLM and SGLang take them
# from the model's generation_config), and left out again for a server that refuses the field.
NEUTRAL: dict[str, float] = {
    "top_p": 1.0,
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}

# Why servers say that an answer ended, in lower case. What is in none of these lists is a failure.
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
    """A reply that holds no answer; says what is wrong with it."""


class FailedReply(Exception):
    """A reply in which the server says that it failed, with the status of success."""


class NotWhole(Exception):
    """An answer that cannot be used, for the reason for which it ended; `passing` as in `Completion`."""

    def __init__(self, reason: str, passing: bool = False) -> None:
        super().__init__(reason)
        self.passing = passing


class Part(BaseModel):
    """A part of a reply: the fields that are read, with their types; a server may send more."""

    model_config = ConfigDict(strict=True, frozen=True)


Tokens = Annotated[int, Field(ge=0, lt=2**31)]
# Rounding may lift a probability of 1 a little. -inf, which llama.cpp writes as null, is a probability of 0.
LogProbability = Annotated[float, Field(le=1e-3)]  # NaN is not


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
    finish_reason: Any = None
    stop_reason: Any = None  # vLLM: the stop string, or a token's number, which is not meant
    matched_stop: Any = None  # SGLang
    logprobs: Any = None


class _ChatCompletion(Part):
    choices: Annotated[list[_Choice], Field(min_length=1)]
    usage: _Usage | None = None


class _Token(Part):
    token: str
    logprob: LogProbability | None


class _FirstToken(_Token):
    top_logprobs: list[_Token] | None = None


class _LogProbabilities(Part):
    content: list[Any] | None = None  # only the first token is looked at


def may_pass(status: int) -> bool:
    """Whether the same request may succeed later."""
    return status in _RETRY_STATUS or status >= 500


def turns(request: Request, mode: PrefillMode | None) -> dict[str, Any]:
    """The fields that hold the conversation; `mode` says how the prefill, if there is one, is brought in."""
    messages = [{"role": role, "content": writable(content)} for role, content in request.messages]
    if not request.prefill:
        return {"messages": messages}
    if mode == "continue":
        return {"messages": [*messages, {"role": "assistant", "content": request.prefill}], **_CONTINUE}
    messages[-1]["content"] += f"\n\nBegin your answer with exactly this text: {request.prefill.strip()}"
    return {"messages": messages}


def decoding(sampling: Sampling, length_field: str, logprobs: bool, extended: bool) -> dict[str, Any]:
    """The fields that say how to decode. `extended` sends neutral values too that OpenAI's own API does not know."""
    fields: dict[str, Any] = {
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
    """Whether a server's message names a field of the request, in whatever spelling: `top_k`, `topK`, `top-k`."""
    pattern = "[_ -]?".join(map(re.escape, field.split("_")))
    return re.search(rf"(?<!\w){pattern}(?!\w)", text, re.IGNORECASE) is not None


def error_completion(request_id: str, reason: str, passing: bool = False) -> Completion:
    return Completion(request_id, "", "error", error=reason, passing=passing)


def read_reply(request: Request, reply: Any, sampling: Sampling) -> Completion:
    """The completion in a reply, as JSON text or read already.

    A server may repeat the prefill, or leave the stop string or more in the text: both are cut away. Raises
    DamagedReply for a reply without a complete answer, FailedReply for one that says so itself.
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


def read_finish_reason(reason: Any) -> FinishReason:
    """How an answer ended, by the server's own word for it: "stop" is a natural end, "length" a limit of the length.

    Raises NotWhole for every other reason, DamagedReply for an answer that was interrupted, and for one that comes
    without a reason: nobody can know whether it is whole.
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


def parse(content: bytes) -> Any:
    """The value of a reply's JSON. Raises DamagedReply if it is not JSON, or nested too deeply to be read."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        begun = one_line(content[:5000].decode(errors="replace"))[:80]
        raise DamagedReply(f"the reply is not JSON: {begun!r}") from None


def read_part(kind: type[PartT], value: Any) -> PartT:
    """A part of a reply, with fields of the right types. Raises DamagedReply with the first that has not."""
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


def _first_token(logprobs: Any) -> tuple[tuple[str, float], ...]:
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


def said(status: int | str, body: Any, message: str = "") -> str:
    """The status and the server's own message, on one line."""
    if isinstance(body, dict):
        body = body.get("message") or body.get("detail") or body
    return f"{status} {one_line(body or message)}"


def one_line(value: Any) -> str:
    try:
        # Masked before it is cut, since half of a key is no key that can be found.
        return writable(mask(" ".join(str(value)[:5000].split())))[:300]
    except RecursionError:
        return f"a {type(value).__name__}, nested deeply"
