"""A small server that speaks OpenAI's chat completions, on this machine, with faults that can be switched on.

Answers are a function of the request's body, and faults of (seed, body, how often this body was sent before): what
happens does not depend on the order in which requests arrive.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Reply:
    """What the model says. `status` other than 200 refuses the request with `error` as the message."""

    text: str | None
    finish_reason: str = "stop"
    first_token: tuple[tuple[str, float], ...] = ()  # likeliest first tokens with their log-probabilities
    status: int = 200
    error: str = ""
    code: str | None = None  # OpenAI's machine-readable reason, such as insufficient_quota


@dataclass(frozen=True)
class Faults:
    """Shares of the requests that go wrong; a request meets one at most, so they sum to 1 at most."""

    rate_limited: float = 0.0  # 429 with Retry-After
    rate_limited_silently: float = 0.0  # 429 without
    server_error: float = 0.0  # 500
    slow: float = 0.0  # answered after `slow_s`
    cut: float = 0.0  # the connection is closed after half of the body
    malformed: float = 0.0  # 200 with half of the JSON
    no_choices: float = 0.0  # 200 with an `error` in place of `choices`
    no_logprobs: float = 0.0
    no_usage: float = 0.0
    retry_after: str = "0"
    slow_s: float = 0.5
    seed: int = 0


@dataclass
class Counters:
    """What the server has seen. `bodies` are the requests in the order of their arrival, failed ones too."""

    requests: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    under_way: int = 0
    max_concurrency: int = 0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)  # when each came, in seconds
    keys: set[str] = field(default_factory=set)


Answer = Callable[[dict[str, Any]], Reply | str]


def echo(body: dict[str, Any]) -> Reply:
    """Says the last turn again, up to the first stop string or `max_tokens` words."""
    text: str = body["messages"][-1]["content"]
    for stop in body.get("stop", []):
        text = text.partition(stop)[0]
    words = re.findall(r"\s*\S+", text)
    limit = body.get("max_tokens", len(words))
    if len(words) > limit:
        return Reply("".join(words[:limit]), "length")
    return Reply(text)


class TestServer:
    """`with TestServer(answer, faults) as server:` and then `server.base_url`. `counters` tell what happened.

    `answer` and `faults` may be replaced at any time. With `key`, requests with another one get a 401.
    """

    __test__ = False  # no test class

    def __init__(self, answer: Answer = echo, faults: Faults | None = None, key: str | None = None) -> None:
        self.answer, self.faults, self.key = answer, faults or Faults(), key
        self.counters = Counters()
        self.lock = threading.Lock()
        self._sent: Counter[str] = Counter()  # how often each body came
        self._http: _Http | None = None
        self.port = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._http.open) if self._http else 0

    def __enter__(self) -> Self:
        self.switch_on()
        return self

    def __exit__(self, *exception: object) -> None:
        self.switch_off()

    def switch_on(self) -> None:
        """Listen, on the same port as before."""
        self._http = _Http(("127.0.0.1", self.port), self)
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def switch_off(self) -> None:
        """Be gone: connections are refused, and those that are open are cut."""
        if self._http:
            http, self._http = self._http, None
            http.shutdown()
            http.server_close()
            http.cut_all()

    def gone(self, http: _Http) -> bool:
        """Whether this listener has been switched off."""
        return self._http is not http

    def begin(self, body: dict[str, Any], key: str) -> str | None:
        """Count a request; returns the name of the fault that it meets."""
        text = json.dumps(body, sort_keys=True)
        with self.lock:
            seen = self.counters
            seen.requests += 1
            seen.under_way += 1
            seen.max_concurrency = max(seen.max_concurrency, seen.under_way)
            seen.bodies.append(body)
            seen.times.append(time.monotonic())
            seen.keys.add(key)
            self._sent[text] += 1
            fault = self._draw(text, self._sent[text])
            if fault:
                seen.faults[fault] += 1
            return fault

    def end(self) -> None:
        with self.lock:
            self.counters.under_way -= 1

    def _draw(self, text: str, attempt: int) -> str | None:
        digest = hashlib.sha256(f"{self.faults.seed} {attempt} {text}".encode()).digest()
        point = int.from_bytes(digest[:8], "big") / 2**64
        for name in _FAULTS:
            point -= getattr(self.faults, name)
            if point < 0:
                return name
        return None


_FAULTS = (
    "rate_limited",
    "rate_limited_silently",
    "server_error",
    "slow",
    "cut",
    "malformed",
    "no_choices",
    "no_logprobs",
    "no_usage",
)


class _Http(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def __init__(self, address: tuple[str, int], owner: TestServer) -> None:
        self.owner = owner
        self.open: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the tests."""

    def cut_all(self) -> None:
        for connection in list(self.open):
            with contextlib.suppress(OSError):  # it may just have been closed
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else every reply waits 40 ms for an acknowledgement
    server: _Http

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self._send(200, {"object": "list", "data": [{"id": "test", "object": "model"}]})
        else:
            self._refuse(404, f"no such path: {self.path}")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/chat/completions":
            self._refuse(404, f"no such path: {self.path}")
            return
        owner = self.server.owner
        if owner.gone(self.server):
            self.close_connection = True
            return
        key = self.headers.get("Authorization", "").removeprefix("Bearer ")
        fault = owner.begin(body, key)
        try:
            if owner.key and key != owner.key:
                self._refuse(401, f"wrong key {key}")
            else:
                self._respond(body, fault, owner)
        finally:
            owner.end()

    def _respond(self, body: dict[str, Any], fault: str | None, owner: TestServer) -> None:
        if fault in ("rate_limited", "rate_limited_silently"):
            header = {"Retry-After": owner.faults.retry_after} if fault == "rate_limited" else {}
            self._refuse(429, "too many requests", headers=header)
            return
        if fault == "server_error":
            self._refuse(500, "something broke")
            return
        if fault == "slow":
            time.sleep(owner.faults.slow_s)
        said = owner.answer(body)
        reply = Reply(said) if isinstance(said, str) else said
        if reply.status != 200:
            self._refuse(reply.status, reply.error, reply.code)
            return
        value = {"error": {"message": "overloaded"}} if fault == "no_choices" else completion(body, reply, fault)
        data = json.dumps(value).encode()
        if fault == "malformed":
            data = data[: len(data) // 2]
        self._send_bytes(200, data, cut=fault == "cut")

    def _refuse(
        self, status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        self._send(status, {"error": {"message": message, "type": "error", "param": None, "code": code}}, headers)

    def _send(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        self._send_bytes(status, json.dumps(value).encode(), headers)

    def _send_bytes(self, status: int, data: bytes, headers: dict[str, str] | None = None, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        self.close_connection = self.close_connection or cut


def completion(body: dict[str, Any], reply: Reply, fault: str | None) -> dict[str, Any]:
    """The JSON of a chat completion; a token is a word here."""
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": reply.text},
        "finish_reason": reply.finish_reason,
        "logprobs": None,
    }
    if body.get("logprobs") and reply.first_token and fault != "no_logprobs":
        tokens = [{"token": token, "logprob": logprob, "bytes": None} for token, logprob in reply.first_token]
        choice["logprobs"] = {"content": [{**tokens[0], "top_logprobs": tokens[: body.get("top_logprobs", 0)]}]}
    value = {"id": "chatcmpl-test", "object": "chat.completion", "created": 0, "model": body["model"]}
    value["choices"] = [choice]
    if fault != "no_usage":
        prompt = sum(len(message["content"].split()) for message in body["messages"])
        answer = len((reply.text or "").split())
        value["usage"] = {
            "prompt_tokens": prompt,
            "completion_tokens": answer,
            "total_tokens": prompt + answer,
        }
    return value
