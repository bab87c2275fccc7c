"""Any server that speaks OpenAI's chat completions: an API, vLLM, llama.cpp, `transformers serve`.

Several requests are under way at the same time; each is sent again after a failure that may pass, and what fails for
good is an error of its row, or of the run where it would hold for every row.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn
from urllib.parse import urlsplit

from lidr.config import OpenAIConfig
from lidr.engines.base import Completion, Request, Sampling
from lidr.errors import EngineError
from lidr.records import writable

try:
    from openai import APIConnectionError, APIStatusError, AsyncOpenAI, Timeout
except ImportError as error:
    raise EngineError(f'engine.type openai needs one more package: pip install "lidr[openai]" ({error})') from None

BACKOFF_S = 0.5  # before the second attempt; doubled before each further one
BACKOFF_MAX_S = 30.0
RETRY_AFTER_MAX_S = 120.0  # limits per minute ask for up to 60; one per day would ask for hours
CONNECT_TIMEOUT_S = 10.0
# This many failures in a row, or as many as requests are under way, are the server's fault and no longer the rows'.
SAME_FAILURES = 5

_ROW_STATUS = (400, 413, 422)  # a statement about one request
_RETRY_STATUS = (408, 409, 429)  # and 500 and above
# Fields that a server may not know. Without the length limit: a prompt that is too long is refused with its name.
_OPTIONAL_FIELDS = ("temperature", "top_p", "seed", "stop", "repetition_penalty")


class OpenAIEngine:
    """Chat completions over HTTP, `concurrency` at a time.

    The event loop runs only while `generate` waits for answers, in the caller's thread. A field of `extra_body` that
    is null is left out of the request: the way to a server that refuses one of the fields sent here.
    """

    def __init__(self, model: str, config: OpenAIConfig) -> None:
        self.model, self.config = model, config
        self.key = _read_key(config)
        self.is_openai = _host(config) == "api.openai.com"
        self.told = False  # whether the first failure was said
        self.logprobs = True  # until the server refuses them
        self.answered = False  # whether the server has ever answered: it is there, and takes the fields that are sent

    def generate(
        self, requests: Iterable[Request], sampling: Sampling, done: Collection[str] = frozenset()
    ) -> Iterator[Completion]:
        """See `Engine.generate`. Takes a request from `requests` only when it is to be sent.

        Raises EngineError for what holds for every request (a wrong key or model, a server that is away), and at the
        end where requests were left without an answer; a later call asks for just these.
        """
        owed = (request for request in requests if request.request_id not in done)
        tasks: set[asyncio.Task[Completion]] = set()
        outcomes = _Outcomes(self, max(self.config.concurrency, SAME_FAILURES))
        with asyncio.Runner() as runner:
            client = self._client()
            try:
                while True:
                    while len(tasks) < self.config.concurrency and (request := next(owed, None)):
                        tasks.add(runner.get_loop().create_task(self._answer(client, request, sampling)))
                    if not tasks:
                        break
                    finished, _ = runner.run(asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED))
                    # Answers first, so that none is lost to the error that another task raises.
                    for task in sorted(finished, key=lambda task: task.exception() is not None):
                        tasks.discard(task)
                        yield from outcomes.take(task)
                yield from outcomes.end()
            finally:
                for task in tasks:
                    task.cancel()
                runner.run(_close(client, tasks))

    def close(self) -> None:
        """Nothing to free: every `generate` closes its own connections."""

    def _client(self) -> AsyncOpenAI:
        timeout = Timeout(None, connect=CONNECT_TIMEOUT_S)  # a whole request's time is limited in `_answer`
        return AsyncOpenAI(api_key=self.key, base_url=self.config.base_url, max_retries=0, timeout=timeout)

    async def _answer(self, client: AsyncOpenAI, request: Request, sampling: Sampling) -> Completion:
        """Ask until there is an answer. Raises _NoAnswer after the last attempt, EngineError at once."""
        if request.prefill:
            return _error(request, "prefill is not supported by the openai engine")
        messages: list[Any] = [{"role": role, "content": writable(content)} for role, content in request.messages]
        reason, retry_after = "", None
        for attempt in range(self.config.max_retries + 1):
            if attempt == 1 and not self.told:
                self.told = True
                print(
                    f"{self.config.base_url}: {reason}; trying again, up to {self.config.max_retries} times",
                    file=sys.stderr,
                )
            if attempt:
                await asyncio.sleep(_pause(attempt, retry_after))
            body = self._body(sampling)
            try:
                async with asyncio.timeout(self.config.timeout_s):
                    raw = await client.chat.completions.with_raw_response.create(
                        model=self.model, messages=messages, extra_body=body
                    )
                completion = _read_reply(request, raw.http_response.content)
                self.answered = True
                return completion
            except _DamagedReply as error:
                reason, retry_after = self._hide_key(str(error)), None
            except (APIConnectionError, TimeoutError) as error:
                reason, retry_after = self._lost(error), None
            except APIStatusError as error:
                reason, retry_after = self._hide_key(_said(error)), _retry_after(error)
                if "logprobs" in body and sampling.top_logprobs and "logprob" in reason.lower():
                    self.logprobs = False
                    return await self._answer(client, request, replace(sampling, top_logprobs=0))
                if error.status_code in _ROW_STATUS:
                    self._check_fields(body, reason)
                    raise _Refused(request, reason) from None
                if error.code == "insufficient_quota" or not _may_pass(error.status_code):
                    self.give_up(reason)
        raise _NoAnswer(reason)

    def _body(self, sampling: Sampling) -> dict[str, Any]:
        """The fields of a request but for the model and the messages."""
        body: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
            "max_completion_tokens" if self.is_openai else "max_tokens": sampling.max_new_tokens,
        }
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if sampling.repetition_penalty != 1:
            body["repetition_penalty"] = sampling.repetition_penalty
        if sampling.top_logprobs and self.logprobs:
            body |= {"logprobs": True, "top_logprobs": sampling.top_logprobs}
        return {name: value for name, value in (body | self.config.extra_body).items() if value is not None}

    def _lost(self, error: Exception) -> str:
        """Why a request came to nothing. Raises EngineError where no connection was ever made."""
        if isinstance(error, TimeoutError):
            return f"no reply within {self.config.timeout_s:g} s"
        cause = type(error.__cause__).__name__  # by name: the HTTP library below the openai package has changed before
        said = str(error.__cause__ or "") or cause
        if not self.answered and cause in ("ConnectError", "ConnectTimeout"):
            raise EngineError(
                f"no connection to {self.config.base_url} ({said}). Start the server or correct engine.base_url, and "
                "run the same command again"
            ) from None
        return f"connection lost ({said})"

    def _check_fields(self, body: dict[str, Any], reason: str) -> None:
        """Raises EngineError where a refusal names a field that comes with every request."""
        if self.answered:  # a request with these fields was accepted, so it is not they
            return
        for name in (*_OPTIONAL_FIELDS, *self.config.extra_body):
            if name in body and re.search(rf"\b{re.escape(name)}\b", reason):
                value = "decoding's repetition_penalty: 1, or " if name == "repetition_penalty" else ""
                self.give_up(f"{reason}. Set {value}engine.extra_body.{name}: null to leave this field out")

    def give_up(self, reason: str) -> NoReturn:
        """Raises EngineError for what holds for every request."""
        raise EngineError(
            f"{self.config.base_url} refuses model {self.model}: {reason}\nCheck engine.base_url (it usually ends in "
            f"/v1), the model's name and the key in the environment variable {self.config.api_key_env}, and run the "
            "same command again; what was answered is kept"
        ) from None

    def _hide_key(self, text: str) -> str:
        """A server may repeat the key in its message."""
        return text.replace(self.key, "***")


class _NoAnswer(Exception):
    """A request without an answer after all attempts; says why the last one failed."""


class _DamagedReply(Exception):
    """A reply that holds no answer; says what is wrong with it."""


class _Refused(Exception):
    """A request that the server will not take."""

    def __init__(self, request: Request, reason: str) -> None:
        super().__init__(reason)
        self.completion = _error(request, reason)


class _Outcomes:
    """Tells failures of single requests from one of the server, by the company in which they come.

    Until the server has answered anything, refusals in the same words are held back: where there are `limit` of them,
    they are about the configuration (a chat template that takes no system turn, for example).
    """

    def __init__(self, engine: OpenAIEngine, limit: int) -> None:
        self.engine, self.limit = engine, limit
        self.refused: list[Completion] = []
        self.lost = self.lost_in_a_row = 0
        self.last = ""

    def take(self, task: asyncio.Task[Completion]) -> Iterator[Completion]:
        """What can be yielded now that this task has finished. Raises EngineError as `OpenAIEngine.generate` does."""
        try:
            completion = task.result()
        except _NoAnswer as failure:
            self.lost, self.lost_in_a_row, self.last = self.lost + 1, self.lost_in_a_row + 1, str(failure)
            if self.lost_in_a_row >= self.limit:
                raise EngineError(
                    f"{self.engine.config.base_url} does not answer any more: {self._failures()}"
                ) from None
        except _Refused as refusal:
            self.lost_in_a_row = 0
            self.refused.append(refusal.completion)
            if not self._told_apart() and len(self.refused) >= self.limit:
                self.engine.give_up(
                    f"{refusal} (the same for all of the first {self.limit} requests; a "
                    "model without system turns needs system_prompt: null)"
                )
        else:
            self.lost_in_a_row = 0
            yield completion
        if self._told_apart():
            yield from self._release()

    def end(self) -> Iterator[Completion]:
        """What was held back; then EngineError where requests got no answer."""
        yield from self._release()
        if self.lost:
            raise EngineError(f"{self.engine.config.base_url}: {self._failures()}")

    def _told_apart(self) -> bool:
        """Whether the refusals are known to be about their rows."""
        return self.engine.answered or len({completion.error for completion in self.refused}) > 1

    def _release(self) -> Iterator[Completion]:
        held, self.refused = self.refused, []
        yield from held

    def _failures(self) -> str:
        attempts = self.engine.config.max_retries + 1
        return (
            f"{self.lost} request{'s' * (self.lost > 1)} got no answer after {attempts} attempt{'s' * (attempts > 1)} "
            f"(last: {self.last}). Everything else is kept; run the same command again"
        )


async def _close(client: AsyncOpenAI, tasks: Collection[asyncio.Task[Completion]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.close()


def _host(config: OpenAIConfig) -> str | None:
    return urlsplit(config.base_url).hostname


def _read_key(config: OpenAIConfig) -> str:
    """The key from the environment, or a placeholder for servers that need none."""
    key = os.environ.get(config.api_key_env, "").strip()
    if not key and _host(config) == "api.openai.com":
        raise EngineError(
            f"{config.base_url} needs a key: set the environment variable {config.api_key_env}, or name another one "
            "in engine.api_key_env"
        )
    if not re.fullmatch(r"[!-~]*", key):
        raise EngineError(f"the environment variable {config.api_key_env} holds characters that no key can have")
    return key or "no-key"


def _may_pass(status: int) -> bool:
    return status in _RETRY_STATUS or status >= 500


def _pause(attempt: int, retry_after: float | None) -> float:
    """Seconds before this attempt (1 is the second): exponential with jitter, never less than the server asks for."""
    backoff = min(BACKOFF_S * 2 ** (attempt - 1), BACKOFF_MAX_S) * random.uniform(0.5, 1)
    return backoff if retry_after is None else min(retry_after, RETRY_AFTER_MAX_S) + random.uniform(0, BACKOFF_S)


def _retry_after(error: APIStatusError) -> float | None:
    """Seconds from the Retry-After header, which is a number or a date (RFC 9110, 10.2.3)."""
    value = error.response.headers.get("retry-after", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _said(error: APIStatusError) -> str:
    """The status and the server's own message, on one line."""
    body = error.body
    said = (body.get("message") or body.get("detail") or body) if isinstance(body, dict) else body
    return f"{error.status_code} {_one_line(said or error.message)}"


def _one_line(text: Any) -> str:
    return writable(" ".join(str(text).split()))[:300]


def _error(request: Request, reason: str) -> Completion:
    return Completion(request.request_id, "", "error", error=reason)


def _read_reply(request: Request, content: bytes) -> Completion:
    """The completion in a reply's JSON. Raises _DamagedReply where there is none."""
    try:
        reply = json.loads(content)
    except ValueError:
        raise _DamagedReply(f"the reply is not JSON: {_one_line(content[:80].decode(errors='replace'))!r}") from None
    try:
        choice = reply["choices"][0]
        text = choice["message"].get("content")
        reason = choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise _DamagedReply(f"the reply has no choices with a message: {_one_line(reply)}") from None
    if not isinstance(text, str | None) or reason in ("error", "abort"):
        raise _DamagedReply(f"the reply has no complete text (finish_reason {reason!r}): {_one_line(choice)}")
    usage = reply["usage"] if isinstance(reply.get("usage"), dict) else {}
    filtered = reason == "content_filter"
    return Completion(
        request.request_id,
        "" if filtered else writable(text or ""),
        "error" if filtered else "length" if reason == "length" else "stop",
        prompt_tokens=usage.get("prompt_tokens") or 0,
        completion_tokens=usage.get("completion_tokens") or 0,
        error="withheld by the server's content filter" if filtered else None,
        first_token=_first_token(choice),
    )


def _first_token(choice: dict[str, Any]) -> tuple[tuple[str, float], ...]:
    """(token, log-probability) of the likeliest first tokens; empty where the server did not send them."""
    try:
        first = choice["logprobs"]["content"][0]
        likeliest = first.get("top_logprobs") or [first]
        return tuple((writable(token["token"]), float(token["logprob"])) for token in likeliest)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return ()
