"""Shared by the tests: a recipe on toy data, and a toy engine that answers by rule."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lidr.config import Config
from lidr.engines.base import Completion, Request, Sampling
from lidr.machine.torch_environment import TORCH_ENVIRONMENT
from lidr.run_dir import RunDir

for name, value in TORCH_ENVIRONMENT.items():  # as the command line does, and before torch is imported
    os.environ.setdefault(name, value)

# Minutes each; begun last, one of them would be waited for with the second core idle.
_LONG = ["test_loop.py", "test_training.py", "test_cli.py", "test_probe.py", "test_ray_engine.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first."""
    items.sort(key=lambda item: _LONG.index(item.path.name) if item.path.name in _LONG else len(_LONG))


WORDS = {
    "en": "The answer to this question is written in the English language, number",
    "es": "La respuesta a esta pregunta está escrita en el idioma español, número",
    "fr": "La réponse à cette question est écrite dans la langue française, numéro",
    "de": "Die Antwort auf diese Frage ist in deutscher Sprache geschrieben, Nummer",
}
NAMES = {"English": "en", "Spanish": "es", "French": "fr", "German": "de"}


class ToyEngine:
    """Answers in the language of the prompt's first word, `es: 7` for example; translates by the same rule.

    `fail` may replace a completion; `asked` keeps the requests that were really answered; after `stop_after` answers
    the engine dies, as a crash would.
    """

    def __init__(
        self, fail: Callable[[Request, str], Completion | None] | None = None, stop_after: int | None = None
    ) -> None:
        self.fail, self.stop_after = fail, stop_after
        self.asked: list[Request] = []

    def generate(
        self, requests: Iterable[Request], sampling: Sampling, done: Collection[str] = frozenset()
    ) -> Iterator[Completion]:
        # Reversed, because engines may finish in any order.
        for request in reversed(list(requests)):
            if request.request_id in done:
                continue
            if self.stop_after is not None and len(self.asked) >= self.stop_after:
                raise ConnectionError("the engine died")
            self.asked.append(request)
            text = answer(request.messages[-1][1])
            failed = self.fail(request, text) if self.fail else None
            stopped_by = "</translated>" if request.prefill else None
            yield failed or Completion(request.request_id, text, "stop", 5, 7, stopped_by=stopped_by)

    def close(self) -> None:
        pass


def answer(content: str) -> str:
    """What the toy model says: its translations differ from its direct answers by a word."""
    if "<sentence>" not in content:
        language, _, number = content.rpartition("\n\n")[2].partition(": ")  # what a guided answer is asked comes last
        return f"{WORDS[language]} {number} own {language}"
    target = next(code for name, code in NAMES.items() if f"into {name}" in content)
    text = content.partition("<sentence>\n")[2].partition("\n</sentence>")[0]
    number = next(word for word in text.split() if word.isdigit())
    return f"{WORDS[target]} {number} translated twice over"


def make_config(path: Path, **changes: Any) -> Config:
    """A recipe in four languages on prompts below `path`; `changes` are top-level fields."""
    data: dict[str, Any] = {
        "name": "toy",
        "model": {"path": "lab"},
        "languages": ["en", "es", "fr", "de"],
        "iterations": 1,
        "prompts": {"path": str(path)},
    }
    return Config.model_validate(data | changes)


@pytest.fixture
def prompts_folder(tmp_path: Path) -> Path:
    """Six aligned prompts in four languages."""
    folder = tmp_path / "prompts"
    folder.mkdir()
    for code in WORDS:
        rows = [{"id": f"p{number}", "instruction": f"{code}: {number}"} for number in range(6)]
        (folder / f"{code}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


@pytest.fixture
def toy_run(prompts_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ToyRun:
    return ToyRun(prompts_folder, tmp_path / "run", monkeypatch)


class ToyRun:
    """A run directory whose engine is a ToyEngine."""

    def __init__(self, prompts: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.prompts, self.monkeypatch = prompts, monkeypatch
        self.config = make_config(prompts)
        self.run_dir = RunDir.start(self.config, path, say=lambda line: None)
        self.use(ToyEngine())

    def use(self, engine: ToyEngine) -> ToyEngine:
        """Let this engine answer from now on."""

        @contextmanager
        def open_toy(config: Config, folder: Path) -> Iterator[ToyEngine]:
            yield engine

        for stage in ("responses", "translations", "scores"):
            self.monkeypatch.setattr(f"lidr.stages.{stage}.open_engine", open_toy)
        return engine

    def run(self, *stages: str, config: Config | None = None) -> None:
        from lidr.stages import STAGES

        for stage in stages:
            STAGES[stage].run(config or self.config, self.run_dir, 1)

    def rows(self, path: Path) -> list[dict[str, Any]]:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine for servers waits little before it tries again, and finds no key of the user's."""
    monkeypatch.setattr("lidr.engines.openai.engine.BACKOFF_S", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
