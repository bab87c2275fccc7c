"""A stand-in for Google Cloud Translation's REST endpoint, as far as its client uses it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

STATUS = {403: "PERMISSION_DENIED", 429: "RESOURCE_EXHAUSTED", 400: "INVALID_ARGUMENT", 503: "UNAVAILABLE"}


@dataclass
class GoogleServer:
    """`translate` makes a text; `refuse` is asked before each request and names an HTTP status, or 0."""

    translate: Callable[[str, str], str] = lambda text, target: f"{target}: {text}"
    refuse: Callable[[int], int] = lambda number: 0
    requests: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    url: str = ""

    @contextmanager
    def run(self) -> Iterator[GoogleServer]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.paths.append(self.path)
                outer.requests.append(body)
                status = outer.refuse(len(outer.requests))
                if len(body["contents"]) > 1024 or sum(map(len, body["contents"])) > 30_720:
                    status = 400
                if status:
                    reply: Any = {"error": {"code": status, "message": "as asked", "status": STATUS[status]}}
                else:
                    texts = [outer.translate(text, body["targetLanguageCode"]) for text in body["contents"]]
                    reply = {"translations": [{"translatedText": text} for text in texts]}
                data = json.dumps(reply).encode()
                self.send_response(status or 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
