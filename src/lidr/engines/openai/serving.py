"""Start a server for a model folder on this machine, wait until it answers, and stop it.

As a program, this module is the keeper: a small process between lidr and the server. It reads a pipe from lidr. When
lidr closes the pipe or ends, the keeper stops the server and all its processes.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from lidr.credentials import expand
from lidr.errors import ConfigError, EngineError

STOP_S = 15.0  # from the request to end to the kill
KILL_S = 5.0  # for killed processes to end and free their memory
POLL_S = 0.2
_LOG_LINES = 20
_LOG_BYTES = 20_000
_HOST = "127.0.0.1"


class Server:
    """A server for one model, on a free port of this machine.

    Requests must use the name in the attribute `model`. Raises ConfigError if there is no such command, EngineError if
    the server ends or does not answer within `timeout_s` seconds.
    """

    def __init__(self, command: str, model: str, timeout_s: float, key: str) -> None:
        self.key, self.port, self.model = key, _free_port(), os.path.abspath(model)
        filled = {"{model}": self.model, "{port}": str(self.port)}
        self.command = [_fill(word, filled) for word in shlex.split(command)]  # without secrets
        check_command(self.command, "engine.launch")
        descriptor, name = tempfile.mkstemp(prefix="lidr-server-", suffix=".log")
        self.log, self.failed = Path(name), False
        with open(descriptor, "wb") as log:
            self.keeper = subprocess.Popen(
                [sys.executable, "-m", "lidr.engines.openai.serving", *self.command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # so that an interrupt from the terminal reaches lidr alone
            )
        try:
            self._await(timeout_s)
        except BaseException:
            self.close()
            raise

    @property
    def base_url(self) -> str:
        return f"http://{_HOST}:{self.port}/v1"

    def check(self) -> None:
        """Raises EngineError if the server has ended."""
        if (code := self.keeper.poll()) is not None:
            raise self.failure(f"ended with exit code {code}")

    def failure(self, what: str) -> EngineError:
        """The error to raise, with the end of the server's output. The output is kept."""
        self.failed = True
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - _LOG_BYTES))
            lines = log.read().decode(errors="replace").splitlines()[-_LOG_LINES:]
        output = "\n".join(f"  {line}" for line in lines) or "  (nothing)"
        return EngineError(
            f"engine.launch: the server {what}: {shlex.join(self.command)}\nThe end of its output, all of it in "
            f"{self.log}:\n{output}\nCorrect engine.launch, or what the output names, and run the same command again; "
            "what was answered is kept"
        )

    def close(self) -> None:
        """Stop the server. Its output is removed unless it has failed."""
        if self.keeper.stdin:
            self.keeper.stdin.close()
        self.keeper.wait()
        if not self.failed:
            self.log.unlink(missing_ok=True)

    def _await(self, timeout_s: float) -> None:
        print(f"starting {shlex.join(self.command)}", file=sys.stderr, flush=True)
        started = time.monotonic()
        while (listed := self._listed()) is None:
            self.check()
            if time.monotonic() - started > timeout_s:
                raise self.failure(f"did not answer within {timeout_s:g} s (engine.launch_timeout_s)")
            time.sleep(POLL_S)
        self.model = _served_name(listed, self.model)
        seconds = time.monotonic() - started
        print(f"the server answers after {seconds:.1f} s, as {self.model}", file=sys.stderr, flush=True)

    def _listed(self) -> list[tuple[str, object]] | None:
        """(name, owner) of the models in the server's list; None while it does not answer."""
        connection = http.client.HTTPConnection(_HOST, self.port, timeout=10)  # uses no proxy
        try:
            connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {self.key}"})
            reply = connection.getresponse()
            return [(str(model["id"]), model.get("owned_by")) for model in json.loads(reply.read())["data"]]
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError, RecursionError):
            return None
        finally:
            connection.close()


def check_command(words: list[str], field: str) -> None:
    """Raises ConfigError if a command cannot be started: it does not exist, or one of its variables is not set."""
    try:
        program = [expand(word) for word in words][:1]
    except KeyError as error:
        raise ConfigError(f"{field}: the environment variable {error.args[0]} is not set; export it first") from None
    if not program or shutil.which(program[0]) is None:
        raise ConfigError(f"{field}: there is no command {' '.join(words[:1])}; install it, or correct {field}")


def _served_name(listed: list[tuple[str, object]], folder: str) -> str:
    """The server's name for the model of this folder."""
    if folder in dict(listed) or len(listed) != 1:
        return folder
    name, owner = listed[0]
    # `transformers serve` lists the models in the Hub's cache with their authors, and also accepts paths.
    return folder if owner == name.rpartition("/")[0] else name


def _fill(word: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        word = word.replace(name, value)
    return word


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((_HOST, 0))
        port: int = free.getsockname()[1]
        return port


def keep(command: list[str]) -> int:
    """Run the server until it ends or standard input does; returns its exit code.

    Environment variables are filled in here, so that no other process has a key in its command line.
    """
    # In its own group, so that all its processes can be stopped together, without this one.
    server = subprocess.Popen([expand(word) for word in command], stdin=subprocess.DEVNULL, start_new_session=True)

    def stop_at_the_end_of_input() -> None:
        os.read(sys.stdin.fileno(), 1)  # lidr never writes to it
        _signal_group(server.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(STOP_S)
        _signal_group(server.pid, signal.SIGKILL)

    threading.Thread(target=stop_at_the_end_of_input, daemon=True).start()
    code = server.wait()
    deadline = time.monotonic() + KILL_S
    while _signal_group(server.pid, signal.SIGKILL) and time.monotonic() < deadline:  # workers that are still running
        time.sleep(0.05)
    return code if code >= 0 else 128 - code


def _signal_group(group: int, number: signal.Signals) -> bool:
    """Signal a group of processes; returns whether there was any."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Only the end of the pipe ends the keeper. The server would inherit SIG_IGN.
        signal.signal(number, lambda *_: None)
    sys.exit(keep(sys.argv[1:]))
