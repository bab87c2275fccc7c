"""A small stand-in for the Hub, on this machine: it keeps what the Hub's own client sends to it.

It speaks what `create_repo` and `create_commit` of huggingface_hub need: repositories, the check of a card's metadata,
git files in the commit and large files by git LFS. It has no Xet storage, so the client has to be told to do without.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import yaml

TOKEN = "hf_" + "t" * 20
_LARGE = (".safetensors", ".parquet")
_LICENSES = ("apache-2.0", "cc-by-4.0", "cc-by-nc-4.0", "llama3", "mit", "other", "unknown")


@dataclass
class Repo:
    """One repository. `commits` are the paths that each commit added or deleted."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[list[str]] = field(default_factory=list)


def metadata_problems(card: str, kind: str) -> list[str]:
    """What is wrong with a card's metadata by the Hub's rules, as far as its card specifications say."""
    match = re.match(r"---\n(.*?)\n---\n", card, re.S)
    if not match:
        return ["no metadata"]
    data = yaml.safe_load(match.group(1))
    problems = []
    if data.get("license") not in _LICENSES:
        problems.append(f'"license" must be one of {_LICENSES}')
    if data.get("license") == "other" and not data.get("license_name"):
        problems.append('"license_name" is required')
    for name in ("language", "tags", "datasets", "metrics", "size_categories", "task_categories", "source_datasets"):
        value = data.get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            problems.append(f'"{name}" must be a list of words')
    if any(not re.fullmatch(r"[a-z]{2,3}", code) for code in data.get("language", [])):
        problems.append('"language" must be ISO 639 codes')
    names = [data["base_model"]] if "base_model" in data else []
    for name in [*names, *data.get("datasets", []), *data.get("source_datasets", [])]:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
            problems.append(f"{name} is no name on the Hub")
    return problems + (_model_problems(data) if kind == "model" else _data_problems(data))


def _model_problems(data: dict[str, Any]) -> list[str]:
    problems = []
    if data.get("base_model_relation", "finetune") not in ("finetune", "adapter", "merge", "quantized"):
        problems.append('"base_model_relation" is unknown')
    for index in data.get("model-index", []):
        for result in index["results"]:
            texts = [index["name"], result["task"]["type"], result["dataset"]["type"], result["dataset"]["name"]]
            texts += [metric["type"] for metric in result["metrics"]]
            numbers = [metric["value"] for metric in result["metrics"]]
            if not all(isinstance(text, str) for text in texts) or not all(isinstance(n, int | float) for n in numbers):
                problems.append('"model-index" is malformed')
    return problems


def _data_problems(data: dict[str, Any]) -> list[str]:
    names = [config["config_name"] for config in data.get("configs", [])]
    problems = ["two configurations of the same name"] if len(set(names)) != len(names) else []
    for config in data.get("configs", []):
        for item in config["data_files"]:
            if not re.fullmatch(r"\w+(\.\w+)*", item["split"]):
                problems.append(f"{item['split']} is no name of a split")
    return problems


class HubServer:
    """`with HubServer() as hub:` and then `hub.url`. Repositories are in `repos`, by ("model" or "dataset", name).

    TOKEN may write to the organisation `org`. `fail` may answer a request (method, path) with an error of this status.
    """

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.fail: Callable[[str, str], int | None] = lambda method, path: None

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def download(self, kind: str, name: str, folder: Path) -> Path:
        """Write a repository's files below a folder, as a clone would."""
        for path, content in self.repos[kind, name].files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        return folder


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def _answer(self, method: str) -> None:
        body, path = self._body(), self.path.partition("?")[0]
        self.hub.requests.append((method, path))
        if status := self.hub.fail(method, path):
            return self._reply({"error": "told to fail"}, status)
        if method == "PUT" and path.startswith("/storage/"):
            return self._store(path.rpartition("/")[2], body)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._reply({"error": "no"}, 401, "Invalid credentials in Authorization header")
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            asked = json.loads(body)
            problems = metadata_problems(asked["content"], asked["repoType"])
            errors = [{"message": problem} for problem in problems]
            return self._reply({"errors": errors, "warnings": []}, 400 if errors else 200)
        if match := re.fullmatch(r"/(datasets/)?([\w.-]+/[\w.-]+)\.git/info/lfs/objects/batch", path):
            return self._batch(json.loads(body))
        if match := re.fullmatch(r"/api/(model|dataset)s/([\w.-]+/[\w.-]+)(?:/(\w+)/main)?", path):
            return self._repo(match.group(1), match.group(2), match.group(3), body)
        return self._reply({"error": "unknown"}, 404)

    def _create(self, asked: dict[str, Any]) -> None:
        kind, name = asked.get("type", "model"), f"{asked['organization']}/{asked['name']}"
        if asked["organization"] != "org":
            return self._reply({"error": "not yours"}, 403, "You don't have the rights to create a repo here")
        if (kind, name) in self.hub.repos:
            return self._reply({"error": "exists"}, 409, "You already created this repo")
        self.hub.repos[kind, name] = Repo(private=asked.get("visibility") == "private")
        return self._reply({"url": f"{self.hub.url}/{'datasets/' if kind == 'dataset' else ''}{name}"})

    def _repo(self, kind: str, name: str, action: str | None, body: bytes) -> None:
        repo = self.hub.repos.get((kind, name))
        if repo is None:
            return self._reply({"error": "Repository not found"}, 404, code="RepoNotFound")
        if action == "preupload":
            files = [self._mode(repo, file) for file in json.loads(body)["files"]]
            return self._reply({"files": files})
        if action == "commit":
            return self._commit(kind, name, repo, [json.loads(line) for line in body.splitlines()])
        siblings = [{"rfilename": path} for path in repo.files]
        sha = hashlib.sha1(str(len(repo.commits)).encode()).hexdigest()
        return self._reply({"id": name, "private": repo.private, "sha": sha, "siblings": siblings})

    def _mode(self, repo: Repo, file: dict[str, Any]) -> dict[str, Any]:
        content, is_large = repo.files.get(file["path"]), file["path"].endswith(_LARGE)
        oid = None
        if content is not None:
            git = b"blob %d\0" % len(content) + content
            oid = hashlib.sha256(content).hexdigest() if is_large else hashlib.sha1(git).hexdigest()
        return {"path": file["path"], "uploadMode": "lfs" if is_large else "regular", "shouldIgnore": False, "oid": oid}

    def _batch(self, asked: dict[str, Any]) -> None:
        objects = []
        for item in asked["objects"]:
            upload = {"upload": {"href": f"{self.hub.url}/storage/{item['oid']}"}}
            objects.append(item if item["oid"] in self.hub.blobs else item | {"actions": upload})
        self._reply({"transfer": "basic", "objects": objects})

    def _store(self, oid: str, content: bytes) -> None:
        if hashlib.sha256(content).hexdigest() != oid:
            return self._reply({"error": "another content"}, 400)
        self.hub.blobs[oid] = content
        return self._reply({})

    def _commit(self, kind: str, name: str, repo: Repo, lines: list[dict[str, Any]]) -> None:
        files, changed = dict(repo.files), []
        for line in lines[1:]:
            value = line["value"]
            changed.append(value["path"])
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile" and value["oid"] in self.hub.blobs:
                files[value["path"]] = self.hub.blobs[value["oid"]]
            elif line["key"] == "deletedFile" and value["path"] in files:
                del files[value["path"]]
            else:
                return self._reply({"error": f"cannot do {line['key']} {value['path']}"}, 400)
        repo.files = files
        repo.commits.append(changed)
        oid = hashlib.sha1(str(len(repo.commits)).encode()).hexdigest()
        url = f"{self.hub.url}/{'datasets/' if kind == 'dataset' else ''}{name}/commit/{oid}"
        return self._reply({"success": True, "commitOid": oid, "commitUrl": url})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _reply(self, content: dict[str, Any], status: int = 200, message: str = "", code: str = "") -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if message:
            self.send_header("X-Error-Message", message)
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        self.wfile.write(data)
