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
    extra: dict[str, Any] = field(default_factory=dict, hash=False)  # further fields of the choice


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
    lists: int = 0  # of the models
    faults: Counter[str] = field(default_factory=Counter)
    under_way: int = 0
    max_concurrency: int = 0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)  # when each came, in seconds
    keys: set[str] = field(default_factory=set)


Answer = Callable[[dict[str, Any]], Reply | str | bytes]  # bytes are the whole reply


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
        self.owned_by: str | None = "test"  # what the list of models says
        self.batches: BatchApi | None = None  # no batch mode
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


class BatchApi:
    """`/files` and `/batches`. A batch is in progress while `hold` is on, and then ends at once, as `end` says.

    Its rows are answered like requests by the server's `answer`, the first `rows` of them. `faults` has how often the
    calls "files", "create", "list", "retrieve", "content" fail with 500; "lost" are creations that work and say 500.
    """

    def __init__(self, end: str = "completed", rows: int | None = None) -> None:
        self.end, self.rows, self.hold, self.faults = end, rows, False, Counter[str]()
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.errors: list[str] = []  # why a batch fails
        self.calls = Counter[str]()

    def submitted(self) -> list[list[str]]:
        """The request ids of each batch in the order of their creation."""
        lines = [self.files[batch["input_file_id"]].splitlines() for batch in self.batches.values()]
        return [[json.loads(line)["custom_id"] for line in rows] for rows in lines]

    def respond(self, call: str, content: bytes, server: TestServer) -> tuple[int, Any] | bytes | None:
        """Status and value, or a file's bytes; None if there is no such thing."""
        matched = next(((name, m) for name, pattern in _CALLS.items() if (m := re.fullmatch(pattern, call))), None)
        if matched is None:
            return None
        name, found = matched
        self.calls[name] += 1
        if self.faults[name] > 0:
            self.faults[name] -= 1
            return 500, f"{name} broke"
        return getattr(self, f"_{name}")(found, content, server)  # type: ignore[no-any-return]

    def _files(self, found: re.Match[str], content: bytes, server: TestServer) -> tuple[int, Any]:
        boundary = content.partition(b"\r\n")[0]
        parts = [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in content.split(boundary)[1:-1]]
        assert b"batch" in parts  # the purpose
        return 200, {"id": self._keep(max(parts, key=len)), "object": "file", "purpose": "batch"}

    def _keep(self, data: bytes) -> str:
        name = f"file-{len(self.files)}"
        self.files[name] = data
        return name

    def _create(self, found: re.Match[str], content: bytes, server: TestServer) -> tuple[int, Any]:
        asked = json.loads(content)
        assert asked["endpoint"] == "/v1/chat/completions" and asked["completion_window"] == "24h"
        batch = {
            "id": f"batch_{len(self.batches)}",
            "object": "batch",
            "status": "validating",
            "created_at": 0,
            **asked,
        }
        self.batches[batch["id"]] = batch
        if self.faults["lost"] > 0:
            self.faults["lost"] -= 1
            return 500, "overloaded"
        return 200, batch

    def _list(self, found: re.Match[str], content: bytes, server: TestServer) -> tuple[int, Any]:
        after = found[1] or found[2]
        newest_first = list(reversed(self.batches.values()))
        start = 1 + [batch["id"] for batch in newest_first].index(after) if after else 0
        page = newest_first[start : start + 2]  # whatever the limit: so that a test needs few
        more = start + 2 < len(newest_first)
        return 200, {"object": "list", "data": page, "has_more": more, "last_id": page[-1]["id"] if page else None}

    def _retrieve(self, found: re.Match[str], content: bytes, server: TestServer) -> tuple[int, Any]:
        batch = self.batches[found[1]]
        if batch["status"] in ("validating", "in_progress"):
            if self.hold:
                batch["status"] = "in_progress"
            else:
                self._finish(batch, server)
        return 200, batch

    def _content(self, found: re.Match[str], content: bytes, server: TestServer) -> bytes | None:
        return self.files.get(found[1])

    def _finish(self, batch: dict[str, Any], server: TestServer) -> None:
        batch["status"] = self.end
        if self.end == "failed":
            batch["errors"] = {"object": "list", "data": [{"message": message} for message in self.errors]}
            return
        rows = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        lines: dict[str, list[Any]] = {"output_file_id": [], "error_file_id": []}
        for number, row in enumerate(rows):
            response, error = self._answer(row["body"], server), None
            if self.rows is not None and number >= self.rows:
                response, error = None, {"code": "batch_expired", "message": "it took too long"}
            kind = "output_file_id" if response and response["status_code"] == 200 else "error_file_id"
            lines[kind].append({"custom_id": row["custom_id"], "response": response, "error": error})
        for kind, found in lines.items():
            if found:
                text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in reversed(found))
                batch[kind] = self._keep(text.encode())
        answered, failed = len(lines["output_file_id"]), len(lines["error_file_id"])
        batch["request_counts"] = {"total": len(rows), "completed": answered, "failed": failed}

    @staticmethod
    def _answer(body: dict[str, Any], server: TestServer) -> dict[str, Any]:
        said = server.answer(body)
        if isinstance(said, bytes):
            return {"status_code": 200, "body": json.loads(said)}
        reply = Reply(said) if isinstance(said, str) else said
        if reply.status != 200:
            return {"status_code": reply.status, "body": {"error": {"message": reply.error}}}
        return {"status_code": 200, "body": completion(body, reply, None)}


_CALLS = {
    "files": r"POST /files",
    "create": r"POST /batches",
    "list": r"GET /batches\?(?:after=(\w+)&)?limit=\d+(?:&after=(\w+))?",
    "retrieve": r"GET /batches/(\w+)",
    "content": r"GET /files/([\w-]+)/content",
}
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
            with self.server.owner.lock:
                self.server.owner.counters.lists += 1
            if self.server.owner.owned_by is None:
                self._refuse(500, "no such list")
                return
            self._send(200, {"object": "list", "data": [{"id": "test", "owned_by": self.server.owner.owned_by}]})
        else:
            self._other("GET", b"")

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path != "/v1/chat/completions":
            self._other("POST", content)
            return
        body = json.loads(content)
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

    def _other(self, method: str, content: bytes) -> None:
        """Files and batches."""
        owner = self.server.owner
        key = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if owner.batches and owner.key and key != owner.key:
            self._refuse(401, f"wrong key {key}")
            return
        found = owner.batches and owner.batches.respond(f"{method} {self.path.removeprefix('/v1')}", content, owner)
        if not found:
            self._refuse(404, f"no such path: {self.path}")
        elif isinstance(found, bytes):
            self._send_bytes(200, found)
        elif found[0] != 200:
            self._refuse(found[0], str(found[1]))
        else:
            self._send(200, found[1])

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
        if isinstance(said, bytes):
            self._send_bytes(200, said)
            return
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
        **reply.extra,
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
