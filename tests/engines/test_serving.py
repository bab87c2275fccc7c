"""Servers that are started for a model: they answer, their failures are told, and none stays behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lidr.engines import open_model
from lidr.engines.openai import OpenAI, serving
from lidr.engines.openai.engine import OpenAIEngine
from lidr.errors import ConfigError, EngineError
from tests.engines.test_openai_engine import SAMPLING, ask, by_id

# Answers with the model's name and the question; what it does besides is its third argument. Writes its process id and
# that of a worker to its fourth.
STUB = """
import json, os, signal, subprocess, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

model, port, manner, ids = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
with open(ids, "w") as file:
    file.write(f"{os.getpid()} {worker.pid}")
print("loading", model, flush=True)
if manner == "exits":
    print("no such device: cuda:7", flush=True)
    sys.exit(3)
if manner == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if manner == "silent":
    time.sleep(60)
listed = [{"id": "policy", "owned_by": "vllm"}] if manner == "renamed" else [{"id": model, "owned_by": "vllm"}]
if manner == "cache":
    listed = [{"id": "org/other", "owned_by": "org"}]
served = listed[0]["id"] if manner == "renamed" else model
answered = 0

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self.send({"data": listed})

    def do_POST(self):
        global answered
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answered += 1
        if manner == "dies" and answered > 7:
            print("CUDA out of memory", flush=True)
            os._exit(1)
        if body["model"] != served:
            self.send({"error": {"message": "unknown model"}}, 404)
            return
        text = f"{os.path.basename(model)}: {body['messages'][-1]['content']}"
        self.send({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]})

    def send(self, value, status=200):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""

pytestmark = pytest.mark.usefixtures("impatient")


class Stub:
    """A server's command in a folder of its own; `alive` are the processes that it has left."""

    def __init__(self, folder: Path) -> None:
        self.script, self.ids = folder / "stub.py", folder / "ids"
        self.script.write_text(STUB)

    def config(self, manner: str = "well", **settings: Any) -> OpenAI:
        launch = f"'{sys.executable}' '{self.script}' {{model}} {{port}} {manner} '{self.ids}'"
        settings = {"concurrency": 2, "max_retries": 2, "launch_timeout_s": 20.0} | settings
        return OpenAI(launch=launch, **settings)

    def alive(self) -> list[int]:
        found = self.ids.read_text().split() if self.ids.exists() else []  # it may be stopped before it writes them
        return [process for process in map(int, found) if is_alive(process)]

    def gone_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.05)
        return not self.alive()


def is_alive(process: int) -> bool:
    """Not so for one that has ended and waits to be collected by its parent."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where the logs are
    monkeypatch.setattr("tempfile.tempdir", None)
    stub = Stub(tmp_path)
    yield stub
    for process in stub.alive():
        os.kill(process, signal.SIGKILL)


def test_a_server_is_started_for_a_folder_and_stopped(
    stub: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # no way to this machine
    folder = tmp_path / "my model"
    with open_model(stub.config(), str(folder)) as engine:
        assert isinstance(engine, OpenAIEngine)
        assert engine.server is not None and engine.server.log.exists()
        made = by_id(engine.generate(map(ask, range(20)), SAMPLING))
        assert {n: row.text for n, row in made.items()} == {n: f"my model: question {n}" for n in range(20)}
        assert len(stub.alive()) == 2
        log = engine.server.log
    assert stub.gone_within(0) and not log.exists()
    said = capsys.readouterr().err
    assert re.search(rf"starting .*'{folder}' \d+ well .*\nthe server answers after \d+\.\d s, as {folder}\n", said)
    engine.close()


@pytest.mark.parametrize(("manner", "name"), [("renamed", "policy"), ("cache", "model")])
def test_the_model_is_asked_for_by_the_servers_name_for_it(stub: Stub, tmp_path: Path, manner: str, name: str) -> None:
    with open_model(stub.config(manner), str(tmp_path / "model")) as engine:
        assert isinstance(engine, OpenAIEngine)
        assert Path(engine.model).name == name
        assert next(iter(engine.generate([ask(1)], SAMPLING))).text == "model: question 1"


def test_a_server_that_exits_at_once_shows_its_last_lines(stub: Stub, tmp_path: Path) -> None:
    with (
        pytest.raises(EngineError, match=r"ended with exit code 3") as caught,
        open_model(stub.config("exits"), str(tmp_path)),
    ):
        pass
    assert "no such device: cuda:7" in str(caught.value) and "loading" in str(caught.value)
    log = Path(re.findall(r"all of it in (\S+):", str(caught.value))[0])
    assert "cuda:7" in log.read_text()
    assert stub.gone_within(0)


def test_a_server_that_never_answers_is_given_up(stub: Stub, tmp_path: Path) -> None:
    with (
        pytest.raises(EngineError, match=r"did not answer within 3 s \(engine\.launch_timeout_s\)"),
        open_model(stub.config("silent", launch_timeout_s=3), str(tmp_path)),
    ):
        pass
    assert stub.gone_within(0)


def test_a_server_that_dies_while_answering_is_an_error_with_its_last_lines(stub: Stub, tmp_path: Path) -> None:
    kept = []
    with open_model(stub.config("dies", max_retries=8), str(tmp_path / "model")) as engine:
        completions = engine.generate(map(ask, range(100)), SAMPLING)
        with pytest.raises(EngineError, match=r"the server ended with exit code 1(.|\n)*CUDA out of memory"):
            kept.extend(completion for completion in completions)
    assert len(kept) in (6, 7)  # all that were answered; the last may be lost with the server that sent it
    assert stub.gone_within(0)


def test_a_stubborn_server_is_killed(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The keeper is a process of its own, so its patience is changed by a program that is it.
    change = "import sys; from lidr.engines.openai import serving; serving.STOP_S = 0.3"
    program = f"{change}; sys.exit(serving.keep(sys.argv[1:]))"
    popen = subprocess.Popen
    monkeypatch.setattr(
        serving.subprocess,
        "Popen",
        lambda command, **more: popen([command[0], "-c", program, *command[3:]], **more),
    )
    with open_model(stub.config("stubborn"), str(tmp_path)):
        assert len(stub.alive()) == 2
    assert stub.gone_within(0)


def test_no_server_outlives_a_lidr_that_is_killed(stub: Stub, tmp_path: Path) -> None:
    program = f"""
    import time
    from lidr.engines.openai import OpenAI
    from lidr.engines.openai.engine import OpenAIEngine
    engine = OpenAIEngine({str(tmp_path)!r}, OpenAI.model_validate({stub.config().model_dump()!r}))
    print("up", flush=True)
    time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE) as lidr:
        assert lidr.stdout is not None and lidr.stdout.readline() == b"up\n"
        assert len(stub.alive()) == 2
        lidr.kill()
    assert stub.gone_within(3)


def test_an_interrupt_from_the_terminal_is_lidrs_alone(stub: Stub, tmp_path: Path) -> None:
    with open_model(stub.config(), str(tmp_path)) as engine:
        assert isinstance(engine, OpenAIEngine) and engine.server
        ours = os.getpgid(0)
        processes = [engine.server.keeper.pid, *stub.alive()]
        assert len(processes) == 3 and all(os.getpgid(process) != ours for process in processes)
        os.kill(engine.server.keeper.pid, signal.SIGTERM)  # it does not leave the server alone
        assert next(iter(engine.generate([ask(1)], SAMPLING))).text
    assert stub.gone_within(0)


def test_a_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    config = OpenAI(launch="no-such-server {model} {port}")
    with pytest.raises(ConfigError, match=r"engine\.launch: there is no command no-such-server"):
        OpenAIEngine(str(tmp_path), config)


@pytest.mark.parametrize(
    ("launch", "message"),
    [("serve {model}", "needs {model} and {port}"), ("serve '{model} {port}", "launch is no command line")],
)
def test_a_command_that_cannot_be_is_refused_at_load(launch: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OpenAI(launch=launch)
