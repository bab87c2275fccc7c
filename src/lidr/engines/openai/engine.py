"""Every server that speaks OpenAI's chat completions: an API, vLLM, llama.cpp, `transformers serve`.

Several requests are open at the same time. A request is sent again after a failure that may pass. A permanent failure
is an error of its row, or of the run if it holds for every row.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from dataclasses import replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

from lidr.credentials import mask, remember
from lidr.engines.base import Completion, Request, Sampling
from lidr.engines.encoding import row_seed
from lidr.engines.openai import OpenAI
from lidr.engines.openai.failures import SAME_FAILURES, NoAnswer, Outcomes, Refused, Unreadable
from lidr.engines.openai.protocol import (
    NEUTRAL,
    ROW_STATUS,
    DamagedReply,
    FailedReply,
    PrefillMode,
    decoding,
    error_completion,
    may_pass,
    names_field,
    one_line,
    parse,
    read_reply,
    said,
    turns,
)
from lidr.engines.openai.serving import Server
from lidr.errors import EngineError
from lidr.models.chat import server_fields
from lidr.records import Json

try:
    from openai import APIConnectionError, APIStatusError, AsyncOpenAI, DefaultAsyncHttpxClient, Timeout
except ImportError as error:
    raise EngineError(f'engine.type openai needs one more package: pip install "lidr[openai]" ({error})') from None

T = TypeVar("T")

BACKOFF_S = 0.5  # before the second attempt; doubled before each further one
BACKOFF_MAX_S = 30.0
RETRY_AFTER_MAX_S = 120.0  # limits per minute ask for up to 60 s, limits per day for hours
CONNECT_TIMEOUT_S = 10.0
DAMAGED_RETRIES = 4  # of a request whose replies, which are paid, have no answer
MAX_REPLY_BYTES = 2**26

# Fields that a server may not know. The length limit is not one: servers name it if they refuse a long prompt.
_OPTIONAL_FIELDS = ("temperature", "top_p", "seed", "stop", "repetition_penalty", "chat_template_kwargs")
# Permanent causes of a lost connection, by their names in the HTTP library.
_WRONG_URL = ("UnsupportedProtocol", "InvalidURL", "LocalProtocolError")


class OpenAIEngine:
    """Chat completions over HTTP, `concurrency` at a time.

    The event loop runs in the caller's thread, only while `generate` waits for answers. A null in `extra_body` leaves
    the field out of the request, for servers that refuse it. With `launch`, `model` is a folder, and the server runs
    until `close`.
    """

    def __init__(self, model: str, config: OpenAI) -> None:
        self.model, self.config, self.base_url = model, config, config.base_url
        self.is_openai = config.launch is None and urlsplit(config.base_url).hostname == "api.openai.com"
        self.key = _read_key(config, needed=self.is_openai)
        self.server: Server | None = None
        if config.launch is not None:
            self.server = Server(config.launch, model, config.launch_timeout_s, self.key)
            self.model, self.base_url = self.server.model, self.server.base_url
        self.template = server_fields(Path(model)) if config.launch is not None else {}
        self.prefill: PrefillMode | None = None if config.prefill == "auto" else config.prefill
        self.told = False  # whether the first failure was printed
        self.logprobs = True  # until the server refuses them
        # OpenAI's API and those with its batch mode refuse unknown fields, and have no defaults of a model.
        self.extended = not (self.is_openai or config.batch)
        self.left_out: frozenset[str] = frozenset()  # refused fields whose value changes nothing
        self.answered = False  # whether the server has ever answered, and so accepts our fields
        self.hold_until = 0.0  # on the monotonic clock; the server asked to wait until then

    def generate(
        self, requests: Iterable[Request], sampling: Sampling, done: Collection[str] = frozenset()
    ) -> Iterator[Completion]:
        """See `Engine.generate`. It takes a request from `requests` only when it can send it.

        Raises EngineError for a failure of all requests (a wrong key or model, no server), and at the end if requests
        got no answer; a later call sends only these.
        """
        owed = (request for request in requests if request.request_id not in done)
        tasks: set[asyncio.Task[Completion]] = set()
        outcomes = Outcomes(self, max(self.config.concurrency, SAME_FAILURES))
        with asyncio.Runner() as runner:
            client = self._client()
            try:
                while True:
                    while len(tasks) < self.config.concurrency and (request := next(owed, None)):
                        if request.prefill and self.prefill is None:
                            runner.run(self._find_prefill(client))
                        tasks.add(runner.get_loop().create_task(self._answer(client, request, sampling)))
                    if not tasks:
                        break
                    finished, _ = runner.run(asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED))
                    # Answers first, so that the error of another task does not lose them.
                    for task in sorted(finished, key=lambda task: task.exception() is not None):
                        tasks.discard(task)
                        yield from outcomes.take(task)
                yield from outcomes.end()
            finally:
                for task in tasks:
                    task.cancel()
                runner.run(_close(client, tasks))

    def close(self) -> None:
        """Stop the launched server, if there is one. `generate` closes its connections itself."""
        if self.server:
            self.server.close()

    def _client(self) -> AsyncOpenAI:
        timeout = Timeout(None, connect=CONNECT_TIMEOUT_S)  # `_attempts` limits the time of a whole request
        # No proxy between us and a server on this machine.
        http_client = DefaultAsyncHttpxClient(trust_env=False) if self.server else None
        return AsyncOpenAI(
            api_key=self.key, base_url=self.base_url, max_retries=0, timeout=timeout, http_client=http_client
        )

    async def _answer(self, client: AsyncOpenAI, request: Request, sampling: Sampling) -> Completion:
        """Send until there is an answer. Raises NoAnswer and Unreadable after the last attempt, Refused at once."""
        try:
            completion = await self._attempts(lambda: self._ask(client, request, sampling))
        except DamagedReply as error:
            raise Unreadable(error_completion(request.request_id, str(error), passing=True)) from None
        except APIStatusError as error:
            reason = self.said(error)
            if error.status_code in ROW_STATUS:
                body = self.body(request, sampling)
                self.check_fields(self.body(request, sampling, self._needless(body, error)), reason)
                raise Refused(error_completion(request.request_id, reason)) from None
            self.give_up(reason)
        if completion.error and completion.passing:
            raise Refused(completion)
        self.answered = True
        return completion

    async def _ask(self, client: AsyncOpenAI, request: Request, sampling: Sampling) -> Completion:
        """One attempt, repeated without fields that the server refuses and that change nothing."""
        left_out = self.left_out
        while True:
            body = self.body(request, sampling, left_out)
            try:
                content = await self._send(client, body)
                break
            except APIStatusError as error:
                if "logprobs" in body and sampling.top_logprobs and "logprob" in self.said(error).lower():
                    self.logprobs = False
                    sampling = replace(sampling, top_logprobs=0)
                elif refused := self._needless(body, error):
                    left_out |= refused
                else:
                    raise
        if new := left_out - self.left_out:
            self.left_out |= new
            values = ", ".join(f"{name} {NEUTRAL[name]:g}" for name in sorted(new))
            print(f"{self.base_url} does not take {values}; left out, because it asks for nothing", file=sys.stderr)
        return read_reply(request, content, sampling)

    async def _send(self, client: AsyncOpenAI, body: dict[str, Any]) -> bytes:
        """The bytes of the reply to a request. Raises DamagedReply if they are too many."""
        messages, content = body["messages"], bytearray()
        rest = {name: value for name, value in body.items() if name != "messages"}
        create = client.chat.completions.with_streaming_response.create
        async with create(model=self.model, messages=messages, extra_body=rest) as response:
            try:
                async for piece in response.iter_bytes():
                    content += piece
                    if len(content) > MAX_REPLY_BYTES:
                        raise DamagedReply(f"the reply has more than {MAX_REPLY_BYTES // 2**20} MB")
            except DamagedReply:
                raise
            except Exception as error:  # the HTTP library's own, which the openai package lets through here
                raise APIConnectionError(request=response.http_request) from error
        return bytes(content)

    def _needless(self, body: Json, error: APIStatusError) -> frozenset[str]:
        """The fields that a refusal names and whose value changes nothing."""
        if error.status_code not in ROW_STATUS:
            return frozenset()
        message = f"{error.message} {error.body}"
        neutral = [name for name, value in NEUTRAL.items() if body.get(name) == value]
        return frozenset(name for name in neutral if name not in self.config.extra_body and names_field(message, name))

    async def _attempts(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The result of `ask`, after as many attempts as necessary.

        Raises NoAnswer after the last attempt, DamagedReply after the last damaged reply, APIStatusError for a
        permanent status, EngineError if there is no server.
        """
        reason, retry_after, damaged = "", None, 0
        for attempt in range(self.config.max_retries + 1):
            if attempt == 1 and not self.told:
                self.told = True
                print(
                    f"{self.base_url}: {reason}; trying again, up to {self.config.max_retries} times", file=sys.stderr
                )
            if attempt:
                await asyncio.sleep(_pause(attempt, retry_after))
            await self._quiet()
            try:
                async with asyncio.timeout(self.config.timeout_s):
                    return await ask()
            except DamagedReply as error:
                reason, retry_after, damaged = self._hide_key(str(error)), None, damaged + 1
                if damaged > DAMAGED_RETRIES or attempt == self.config.max_retries:
                    raise DamagedReply(reason) from None
            except FailedReply as error:
                reason, retry_after = self._hide_key(str(error)), None
            except (APIConnectionError, TimeoutError) as error:
                reason, retry_after = self._lost(error), None
            except APIStatusError as error:
                reason, retry_after = self.said(error), _retry_after(error)
                if error.code == "insufficient_quota" or not may_pass(error.status_code):
                    raise
                if retry_after is not None:
                    self.hold_until = max(self.hold_until, time.monotonic() + min(retry_after, RETRY_AFTER_MAX_S))
        raise NoAnswer(reason)

    async def _quiet(self) -> None:
        """Wait as long as the server asked any request to wait: it would refuse the others, too."""
        while (left := self.hold_until - time.monotonic()) > 0:
            await asyncio.sleep(left + random.uniform(0, BACKOFF_S))

    async def _find_prefill(self, client: AsyncOpenAI) -> None:
        """Find out whether the server can continue a turn. Servers that cannot ignore or refuse such a request."""

        async def ask() -> Any:
            return parse((await client.models.with_raw_response.list()).http_response.content)

        try:
            owners = {model["owned_by"] for model in (await self._attempts(ask))["data"]}
        except (NoAnswer, DamagedReply) as failure:
            raise EngineError(
                f"{self.base_url} does not list its models ({failure}), so lidr does not know whether it can "
                "continue a begun turn. Set engine.prefill to continue (vLLM, SGLang) or to instruction"
            ) from None
        except (APIStatusError, LookupError, TypeError):
            owners = set()  # vLLM and SGLang have such a list
        self.prefill = "continue" if owners & {"vllm", "sglang"} else "instruction"

    def find_prefill(self) -> None:
        """`_find_prefill` for the batch mode, which has no event loop."""

        async def find() -> None:
            async with self._client() as client:
                await self._find_prefill(client)

        asyncio.run(find())

    def body(self, request: Request, sampling: Sampling, left_out: frozenset[str] = frozenset()) -> Json:
        """The fields of a request, without the model's name and `left_out`."""
        length_field = "max_completion_tokens" if self.is_openai else "max_tokens"
        fields = turns(request, self.prefill) | decoding(sampling, length_field, self.logprobs, self.extended)
        if sampling.temperature:  # with one seed for all, samples of a prompt would be equal
            fields["seed"] = row_seed(sampling, request.request_id) % 2**31
        given = (fields | self.template | self.config.extra_body).items()
        return {name: value for name, value in given if value is not None and name not in left_out}

    def _lost(self, error: Exception) -> str:
        """Why a connection was lost. Raises EngineError if there never was one."""
        if self.server:
            self.server.check()
        if isinstance(error, TimeoutError):
            return f"no reply within {self.config.timeout_s:g} s"
        cause = type(error.__cause__).__name__  # by name: the openai package has changed its HTTP library
        said = one_line(error.__cause__ or "") or cause
        if cause in _WRONG_URL:
            raise EngineError(
                f"{self.base_url}: no request can be sent there ({said}). Correct engine.base_url"
            ) from None
        if not self.answered and not self.server and cause in ("ConnectError", "ConnectTimeout"):
            raise EngineError(
                f"no connection to {self.base_url} ({said}). Start the server or correct engine.base_url, and "
                "run the same command again"
            ) from None
        return f"connection lost ({said})"

    def check_fields(self, body: Json, reason: str) -> None:
        """Raises EngineError if a refusal names a field that comes with every request."""
        if self.answered:  # a request with these fields was accepted
            return
        for name in (*_OPTIONAL_FIELDS, *self.config.extra_body):
            if name in body and names_field(reason, name):
                value = "decoding's repetition_penalty: 1, or " if name == "repetition_penalty" else ""
                self.give_up(f"{reason}. Set {value}engine.extra_body.{name}: null to leave this field out")

    def give_up(self, reason: str) -> NoReturn:
        """Raises EngineError for a reason that holds for every request."""
        if self.server:
            raise self.server.failure(f"refuses model {self.model} ({reason})") from None
        raise EngineError(
            f"{self.base_url} refuses model {self.model}: {reason}\nCheck engine.base_url (it usually ends in "
            f"/v1), the model's name and the key in the environment variable {self.config.api_key_env}, and run the "
            "same command again; what was answered is kept"
        ) from None

    def said(self, error: APIStatusError) -> str:
        """The server's message about a failed request."""
        return self._hide_key(said(error.status_code, error.body, error.message))

    def _hide_key(self, text: str) -> str:
        """The text without the key, which a server may repeat in its message."""
        return mask(text)


async def _close(client: AsyncOpenAI, tasks: Collection[asyncio.Task[Completion]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.close()


def _read_key(config: OpenAI, needed: bool) -> str:
    """The key from the environment, or a placeholder for servers that need none."""
    key = os.environ.get(config.api_key_env, "").strip().strip("\"'").strip()
    if not key and needed:
        raise EngineError(
            f"{config.base_url} needs a key: set the environment variable {config.api_key_env}, or name another one "
            "in engine.api_key_env"
        )
    if not re.fullmatch(r"[!-~]*", key):
        raise EngineError(f"the environment variable {config.api_key_env} holds characters that no key can have")
    remember(key)
    return key or "no-key"


def _pause(attempt: int, retry_after: float | None) -> float:
    """Seconds before this attempt (1 is the second): exponential with jitter, at least what the server asks for."""
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
    except (ValueError, TypeError, OverflowError):
        return None
