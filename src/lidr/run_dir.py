"""Where everything of a run lives: its paths, its log, its recipe, its models and its lock."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Self

from lidr.config import Config, changes, dump_config, flatten, load_config
from lidr.engine_settings import engine_identity
from lidr.errors import ConfigError, DamagedError, RunError
from lidr.machine.environment import environment
from lidr.models import check_trained, recorded_answers, resolve_model
from lidr.models.chat import DATE, template_identity
from lidr.plugins import looking_in
from lidr.records import Json, canonical_json, content_id
from lidr.seals import digest, read_json, read_seal, sealed
from lidr.storage import hash_file, make_folder, naming, write_text
from lidr.yaml_input import read_mapping

LOCK_OWNER = "LIDR_LOCK_OWNER"  # tells a child process the lock's descriptor, which it inherits, and the lock's run


@dataclass(frozen=True, slots=True)
class Model:
    """A model: its name in results.json, its folder, and the fingerprint of its weights and what else changes answers.

    A served model has no folder of its own, and `recorded` is a folder with answers instead of weights.
    """

    name: str
    folder: Path
    fingerprint: str
    recorded: bool = False


class RunDir:
    """The paths of a run. The names of files and folders begin with the number of their step."""

    def __init__(self, path: Path, title: str = "") -> None:
        self.path, self._title = path, title
        self.recipe = path / "recipe.yaml"
        self.metrics = path / "metrics.jsonl"
        self.lock_descriptor: int | None = None  # for child processes to inherit
        self.results = path / "results.json"
        self.model_cache = path / ".models.json"  # see `models.resolve_model`
        self.judge_replies = path / "judge_replies.sqlite"
        self.first_day = path / ".first_day"  # see `show_date`

    def iteration(self, iteration: int) -> Path:
        return self.path / f"iteration_{iteration}"

    def title(self, iteration: int) -> str:
        """The title of its steps in progress lines."""
        return self._title or f"iteration {iteration}"

    def prompts(self, iteration: int) -> Path:
        return self.iteration(iteration) / "1_prompts.jsonl"

    def responses(self, iteration: int, language: str) -> Path:
        return self.iteration(iteration) / "2_responses" / f"{language}.jsonl"

    def translations(self, iteration: int, source: str, target: str) -> Path:
        return self.iteration(iteration) / "3_translations" / f"{source}-{target}.jsonl"

    def scores(self, iteration: int, model: str) -> Path:
        """Log-probabilities under a model, by its name: M0, M1 ..."""
        return self.iteration(iteration) / "3_scores" / f"{model}.jsonl"

    def pairs(self, iteration: int, language: str) -> Path:
        return self.iteration(iteration) / "4_pairs" / f"{language}.jsonl"

    def dropped(self, iteration: int) -> Path:
        return self.iteration(iteration) / "4_pairs" / "dropped.jsonl"

    def pair_summary(self, iteration: int) -> Path:
        return self.iteration(iteration) / "4_pairs" / "summary.json"

    def reference_logps(self, iteration: int) -> Path:
        return self.iteration(iteration) / "4_pairs" / "reference_logps.jsonl"

    def training(self, iteration: int) -> Path:
        return self.iteration(iteration) / "5_training"

    def model_folder(self, iteration: int) -> Path:
        return self.iteration(iteration) / "5_model"

    def evaluation(self, iteration: int, benchmark: str) -> Path:
        return self.iteration(iteration) / "6_evaluation" / benchmark

    def held_out(self) -> Path:
        """The probe's sample of prompts, in the form of `prompts`."""
        return self.path / "probe" / "prompts.jsonl"

    def probe(self, iteration: int) -> Path:
        """What the probe found: of M_0 before training, and of every later model against the one before it."""
        return self.path / "probe" / f"M{iteration}.json"

    def model(self, config: Config, iteration: int) -> Model:
        """M_iteration: the recipe's model for 0, else what that iteration trained.

        Raises RunError if that iteration has not been trained yet.
        """
        if iteration == 0:
            folder = Path(config.model.path).expanduser()
            if server := config.engine.server:
                served = (server["base_url"], server["extra_body"], config.model.path)
                return Model("M0", folder, content_id("served", *served))
            if config.iterations == 0 and (files := recorded_answers(folder)):
                hashes = [content_id(file.name, hash_file(file)) for file in files]
                return Model("M0", folder, content_id("recorded", *hashes), recorded=True)
            folder, weights = resolve_model(config.model, self.model_cache)
        else:
            folder = self.model_folder(iteration)
            weights = digest(folder)
        identity = engine_identity(config.engine) | template_identity(folder)
        if not self.first_day.exists():  # an older run, whose prompts had the current date
            identity.pop("date", None)
        return Model(f"M{iteration}", folder, content_id(weights, identity) if identity else weights)

    def reference(self, config: Config, iteration: int) -> Model:
        """pi_ref of an iteration: M_t, the model that the training starts from, or always M_0."""
        return self.model(config, 0 if config.training.reference == "initial" else iteration - 1)

    def checked_model(self, config: Config, iteration: int) -> Model:
        """As `model`, for loading. Raises DamagedError if a trained model has changed since it was finished."""
        if iteration:
            check_trained(self.model_folder(iteration), self.model_cache)
        return self.model(config, iteration)

    def write_recipe(self, config: Config) -> None:
        """Keep the recipe and the plug-in files that it names; the next start says what has changed."""
        for file in [file for plugin in config.plugins for file in plugin.python_files]:
            make_folder(self.path / "plugins")
            write_text(self.path / "plugins" / file.name, file.read_text(encoding="utf-8"))
        write_text(self.recipe, dump_config(config))

    def log(self, event: str, **values: object) -> None:
        """Append one line to metrics.jsonl."""
        line = json.dumps({"event": event, "time": round(time.time(), 3), **values}) + "\n"
        with naming(self.metrics), self.metrics.open("ab+") as handle:
            if handle.tell() and os.pread(handle.fileno(), 1, handle.tell() - 1) != b"\n":
                handle.write(b"\n")  # the last line was torn by a crash
            handle.write(line.encode())

    def read_log(self) -> Iterator[dict[str, Any]]:
        """The events of metrics.jsonl, without damaged lines. All but a last line torn by a crash are reported."""
        damaged = []
        if self.metrics.exists():
            with self.metrics.open("rb") as handle:
                for number, line in enumerate(handle, 1):
                    if event := _event(line):
                        yield event
                    elif line.endswith(b"\n"):
                        damaged.append(number)
        if damaged:
            say_once(f"{self.metrics}: left out {len(damaged)} damaged lines, the first is line {damaged[0]}")

    def read_environment(self) -> dict[str, Any]:
        """Versions and hardware of the last start, see `environment`; empty if there was none."""
        return read_json(self.path / "environment.json", "delete it; the next `lidr run` writes it again")

    @classmethod
    def start(
        cls, config: Config, path: Path, say: Callable[[str], None], check: Callable[[Self], None] | None = None
    ) -> Self:
        """Create the directory, or continue the existing one; `say` what has changed in the recipe.

        `check` may raise an error before anything is written, see `lidr.replacing.open_run`.
        """
        if path.parts and path.parts[0].endswith(":"):  # `s3://...` as a Path
            raise RunError(f"{path}: a run lives on a local disk; name a folder there, and copy it when it is done")
        run = cls(path)
        files = [file for file in path.iterdir() if not file.name.startswith(".")] if path.exists() else []
        if files and not run.recipe.exists():
            raise RunError(f"{path} is not empty and holds no run; give another --run-dir or empty it")
        path.mkdir(parents=True, exist_ok=True)
        with run.lock():  # so that the recipe of a run in use is not replaced
            if run.recipe.exists():
                if check:
                    check(run)
                for change in run.recipe_changes(config):
                    say(f"recipe changed since the last start: {change}")
            else:
                write_text(run.first_day, date.today().isoformat() + "\n")
            run.show_date()
            run.write_recipe(config)
            write_text(path / "environment.json", json.dumps(environment(config), indent=1) + "\n")
        return run

    def recipe_changes(self, config: Config) -> list[str]:
        """What differs between the run's recipe and `config`; fields that an older version lacked have defaults."""
        try:
            with looking_in(self.path / "plugins"):
                old = load_config(self.recipe).model_dump(mode="json")
        except ConfigError:  # an older version of the package may have had other fields
            old = read_mapping(self.recipe)
        return _shown_changes(old, config.model_dump(mode="json"))

    @classmethod
    def load(cls, path: Path) -> tuple[Self, Config]:
        """An existing run and its recipe. Raises RunError if there is none."""
        run = cls(path)
        if not run.recipe.exists():
            raise RunError(f"{path} holds no run (no recipe.yaml); `lidr run RECIPE --run-dir {path}` starts one")
        run.show_date()
        try:
            with looking_in(path / "plugins"):
                return run, load_config(run.recipe)
        except ConfigError as error:
            raise RunError(f"{error}\nRepair the recipe, or start again with `lidr run RECIPE --run-dir DIR`") from None

    def show_date(self) -> None:
        """Let chat templates see the day on which this run began, here and in child processes.

        Otherwise a run that is continued on another day would have other prompts. Raises RunError for a damaged file.
        """
        if self.first_day.exists():
            day = self.first_day.read_text(encoding="utf-8", errors="replace").strip()
        else:
            times = (row["time"] for row in self.read_log() if isinstance(row.get("time"), float))
            day = str(date.fromtimestamp(next(times, time.time())))
        try:
            os.environ[DATE] = str(date.fromisoformat(day))
        except ValueError:
            raise RunError(
                f"{self.first_day}: damaged; write the day on which the run began there, as 2026-01-31"
            ) from None

    @contextmanager
    def lock(self) -> Iterator[int]:
        """Be the only writer of this run; yields the lock's file descriptor, which child processes inherit.

        The lock is held until the last process that has the descriptor ends, so a stage that outlives a killed parent
        still keeps others out. Leftovers of killed processes are removed first. Raises RunError that names the holder.
        """
        self.show_date()
        inherited, _, owned = os.environ.get(LOCK_OWNER, "").partition(":")
        if owned == str(self.path.resolve()):
            self.lock_descriptor = int(inherited)
            yield self.lock_descriptor
            return
        lock = self.path / ".lock"
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                with naming(lock):
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(descriptor, 200).decode(errors="replace").strip() or "unknown"
                raise RunError(f"{self.path} is in use by {holder}. Wait for it, or stop it.") from None
            with naming(lock):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
            _remove_leftovers(self)
            self.lock_descriptor = descriptor
            yield descriptor
        finally:
            self.lock_descriptor = None
            os.close(descriptor)


_TEMPORARY = re.compile(r"\.(\d+)-[0-9a-f]{8}\.tmp$")  # see `temporary`


def _remove_leftovers(run: RunDir) -> None:
    """Remove leftovers of killed processes that no step will use. A partial file that a step continues stays."""
    below: tuple[str, ...] = ("probe", "review", "review/verdicts", "cards/*", "iteration_*", "iteration_*/[1-6]_*")
    below += ("iteration_*/6_evaluation/*", "iteration_*/6_evaluation/*/answers")
    below += ("probe/*/iteration_*", "probe/*/iteration_*/[1-6]_*")
    for folder in (run.path, *(folder for name in below for folder in run.path.glob(name))):
        for pattern in (".*.tmp", "*.partial.tmp", "*.ordered.jsonl"):  # the last two are of older versions
            for file in folder.glob(pattern):
                if pattern != ".*.tmp" or _is_left(file):
                    _remove(file)
        for partial in folder.glob("*.partial*"):
            name, _, suffix = partial.name.partition(".partial")
            if _is_complete(folder / (name.removesuffix(".paragraphs") + suffix)):
                _remove(partial)  # the step is done, or starts from the complete file
    for folder in run.path.glob("iteration_*/5_training"):
        _remove_training_leftovers(folder)


def _is_complete(path: Path) -> bool:
    try:
        return read_seal(path) is not None
    except DamagedError:  # the step that reads it reports it
        return False


def _remove_training_leftovers(folder: Path) -> None:
    """Scratch folders, and checkpoints and tokens of a training that is finished."""
    for scratch in folder.glob("tmp*"):
        _remove(scratch)
    note = folder / "inputs.json"
    if not _is_complete(folder.with_name("5_model")) or not note.is_file():
        return
    if note.read_bytes() == canonical_json(sealed(folder.with_name("5_model")).inputs).encode():
        for finished in ("checkpoints", "tokens"):
            _remove(folder / finished)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_left(file: Path) -> bool:
    """Whether the process named in a temporary file's name has ended: `lidr report` writes without the lock."""
    found = _TEMPORARY.search(file.name)
    if found is None:
        return file.name.endswith(".seal.tmp")  # of an older version
    try:
        os.kill(int(found[1]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return int(found[1]) == os.getpid()


_EVENT_FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "stage": {"iteration": int, "stage": str, "seconds": (int, float)},
    "recompute": {"iteration": int, "stage": str},
    "train": {"iteration": int, "step": int},
    "held_out": {"iteration": int, "step": int},
    "alarm": {"iteration": int, "step": int, "alarm": str, "message": str},
    "cost": {"iteration": int},
}


def _event(line: bytes) -> dict[str, Any] | None:
    """The event in a line of metrics.jsonl, or None if it is damaged."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return None
    fields = _EVENT_FIELDS.get(event["event"], {})
    return event if all(isinstance(event.get(name), kind) for name, kind in fields.items()) else None


@cache
def say_once(line: str) -> None:
    """Print a line to standard error, once per process."""
    print(line, file=sys.stderr, flush=True)


def _shown_changes(old: Json, new: Json) -> list[str]:
    """What differs between two recipes, except what the probe itself changed in a run that obeys it."""
    found = changes(old, new)
    if all(flatten(recipe).get("probe.obey") for recipe in (old, new)):
        own = ("languages:", "dominant:", "probe.languages:", "probe.dominant:")
        found = [change for change in found if not change.startswith(own)]
    return found
