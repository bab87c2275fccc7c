"""OpenAI's chat completions as JSON: the turns and fields that are sent, and what a reply says."""

from __future__ import annotations

import json
from typing import Any, Literal

from lidr.credentials import mask
from lidr.engines.base import Completion, Request, Sampling
from lidr.engines.encoding import up_to_stop
from lidr.records import writable

PrefillMode = Literal["continue", "instruction"]

ROW_STATUS = (400, 413, 422)  # a statement about one request
_RETRY_STATUS = (408, 409, 429)  # and 500 and above
_CONTINUE = {"continue_final_message": True, "add_generation_prompt": False}  # vLLM's and SGLang's names


class DamagedReply(Exception):
    """A reply that holds no answer; says what is wrong with it."""


def may_pass(status: int) -> bool:
    """Whether the same request may succeed later."""
    return status in _RETRY_STATUS or status >= 500


def turns(request: Request, mode: PrefillMode | None) -> dict[str, Any]:
    """The fields that hold the conversation; `mode` says how the prefill, where there is one, is brought in."""
    messages = [{"role": role, "content": writable(content)} for role, content in request.messages]
    if not request.prefill:
        return {"messages": messages}
    if mode == "continue":
        return {"messages": [*messages, {"role": "assistant", "content": request.prefill}], **_CONTINUE}
    messages[-1]["content"] += f"\n\nBegin your answer with exactly this text: {request.prefill.strip()}"
    return {"messages": messages}


def decoding(sampling: Sampling, length_field: str, logprobs: bool) -> dict[str, Any]:
    """The fields that say how to decode, without those that would say nothing."""
    fields: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        length_field: sampling.max_new_tokens,
    }
    if sampling.stop:
        fields["stop"] = list(sampling.stop)
    if sampling.repetition_penalty != 1:
        fields["repetition_penalty"] = sampling.repetition_penalty
    if sampling.top_logprobs and logprobs:
        fields |= {"logprobs": True, "top_logprobs": sampling.top_logprobs}
    return fields


def error_completion(request_id: str, reason: str) -> Completion:
    return Completion(request_id, "", "error", error=reason)


def read_reply(request_id: str, reply: Any, prefill: str = "", stop: tuple[str, ...] = ()) -> Completion:
    """The completion in a reply, as JSON text or read already.

    A server may repeat the prefill, or leave the stop string or more in the text: both are cut away. Raises
    DamagedReply where there is no answer.
    """
    if isinstance(reply, bytes):
        reply = parse(reply)
    try:
        choice = reply["choices"][0]
        text = choice["message"].get("content")
        reason = choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise DamagedReply(f"the reply has no choices with a message: {one_line(reply)}") from None
    if not isinstance(text, str | None) or reason in ("error", "abort"):
        raise DamagedReply(f"the reply has no complete text (finish_reason {reason!r}): {one_line(choice)}")
    usage = reply["usage"] if isinstance(reply.get("usage"), dict) else {}
    used = (usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0)
    if reason == "content_filter":
        return Completion(request_id, "", "error", *used, error="withheld by the server's content filter")
    said_stop = choice.get("stop_reason") or choice.get("matched_stop")  # vLLM, SGLang; a token's number is not meant
    text, stopped_by = up_to_stop(writable(text or ""), stop)
    return Completion(
        request_id,
        _without(prefill.strip(), text),
        "length" if reason == "length" and not stopped_by else "stop",
        *used,
        stopped_by=stopped_by or (said_stop if said_stop in stop else None),
        first_token=_first_token(choice),
    )


def parse(content: bytes) -> Any:
    """The value of a reply's JSON. Raises DamagedReply where it is none."""
    try:
        return json.loads(content)
    except ValueError:
        begun = one_line(content[:5000].decode(errors="replace"))[:80]
        raise DamagedReply(f"the reply is not JSON: {begun!r}") from None


def _without(prefill: str, text: str) -> str:
    begun = text.lstrip()
    return begun.removeprefix(prefill).lstrip() if prefill and begun.startswith(prefill) else text


def _first_token(choice: dict[str, Any]) -> tuple[tuple[str, float], ...]:
    """(token, log-probability) of the likeliest first tokens; empty where the server did not send them."""
    try:
        first = choice["logprobs"]["content"][0]
        likeliest = first.get("top_logprobs") or [first]
        return tuple((writable(token["token"]), float(token["logprob"])) for token in likeliest)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return ()


def said(status: int | str, body: Any, message: str = "") -> str:
    """The status and the server's own message, on one line."""
    if isinstance(body, dict):
        body = body.get("message") or body.get("detail") or body
    return f"{status} {one_line(body or message)}"


def one_line(text: Any) -> str:
    # Masked before it is cut, since half of a key is no key that can be found.
    return writable(mask(" ".join(str(text)[:5000].split())))[:300]
