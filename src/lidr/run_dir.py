"""Where everything of a run lives, and how nothing of it is lost: append rows, ask what is owed, seal.

A file under its final name is complete. While it is made it is called `<name>.partial.jsonl`. Beside every sealed file
stands `.<name>.seal.json` with the inputs it was made from: as long as these are the same, the file is reused; when a
recipe changes, the rows that are still wanted are kept and the rest is made anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import socket
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from lidr.config import Config, changes, dump_config, is_remote, load_config
from lidr.errors import ConfigError, RunError
from lidr.records import Row, canonical_json, content_id
from lidr.yaml_input import read_mapping

Inputs = dict[str, Any]
Outputs = list[tuple[Path, Inputs]]  # what a stage makes, each with the inputs it has to be made from
LOCK_OWNER = "LIDR_LOCK_OWNER"  # tells a stage's child process which run's lock it was given, and as which descriptor


# --- sealed files -----------------------------------------------------------------------------------------------------


def _seal_path(path: Path) -> Path:
    return path.parent / f".{path.name}.seal.json"


def read_seal(path: Path) -> dict[str, Any] | None:
    """The seal of a complete file or folder (`inputs`, `rows`, `sha256`), or None while it is not complete."""
    try:
        return json.loads(_seal_path(path).read_text(encoding="utf-8")) if path.exists() else None
    except (OSError, json.JSONDecodeError):
        return None


def is_sealed(path: Path, inputs: Inputs) -> bool:
    """Whether `path` is complete and was made from just these inputs.

    An input that is absent is one that is null: newer versions of the package have fields that older seals lack.
    """
    seal = read_seal(path)
    return seal is not None and not changes(seal["inputs"], json.loads(canonical_json(inputs)))


def stale_because(path: Path, inputs: Inputs) -> list[str]:
    """Which inputs differ from those a complete `path` was made from; empty where nothing was made yet."""
    seal = read_seal(path)
    found = changes(seal["inputs"], inputs) if seal else []
    return [re.sub(r": [0-9a-f]{16,64} -> [0-9a-f]{16,64}$", " changed", change) for change in found]


def digest(path: Path) -> str:
    """SHA-256 of a sealed file, from its seal. Raises RunError where the step that makes it has not been run."""
    seal = read_seal(path)
    if seal is None:
        raise RunError(f"{path} is not complete yet; run the step before this one first (or `lidr run`)")
    return str(seal["sha256"])


def seal(partial: Path, path: Path, inputs: Inputs, rows: int, sha256: str) -> None:
    """Turn a finished `partial` file or folder into `path`: fsync, note the inputs, rename."""
    for file in [partial] if partial.is_file() else sorted(partial.rglob("*")):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
    if path.is_dir():  # a file is replaced by the rename itself
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()
    note = _seal_path(path).with_suffix(".tmp")
    note.write_text(canonical_json({"inputs": inputs, "rows": rows, "sha256": sha256}) + "\n", encoding="utf-8")
    os.replace(note, _seal_path(path))
    os.replace(partial, path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def file_stamps(path: Path) -> dict[str, list[int]]:
    """Size and time of change of a file, or of all files below a folder: cheap to tell whether input has changed."""
    files = [path] if path.is_file() else sorted(path.rglob("*")) if path.is_dir() else []
    return {str(file): [file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()}


def hash_file(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def partial_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}.partial{path.suffix}")


def write_sealed(path: Path, inputs: Inputs, lines: Iterable[str]) -> int:
    """Write all lines of a file in one go and seal it; returns their number."""
    partial = partial_path(path)
    partial.parent.mkdir(parents=True, exist_ok=True)
    rows = 0
    with partial.open("w", encoding="utf-8") as handle:
        for line in lines:
            handle.write(line + "\n")
            rows += 1
    seal(partial, path, inputs, rows, hash_file(partial))
    return rows


def make_folder(folder: Path) -> None:
    """Raises RunError where that is impossible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: no folder can be made there ({error.strerror}); give another --out") from None


def write_text(path: Path, text: str) -> None:
    """Replace a small file as a whole, or not at all; one with this text already is left alone."""
    if path.exists() and path.read_text(encoding="utf-8", errors="replace") == text:
        return
    aside = path.with_name(f".{path.name}.tmp")
    with aside.open("w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(aside, path)


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSONL file, one at a time. Raises RunError that names file and line."""
    with path.open(encoding="utf-8") as handle:
        for number, line in enumerate(handle, 1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise RunError(
                    f"{path}:{number}: damaged row ({error.msg}); delete the file and run again to remake it"
                ) from None


# The fields by which sealed rows are joined. They are known from the request, so a partial file does not hold them.
_IDENTITY = ("id", "prompt_id", "language", "source_language", "target_language", "question_id")


class RowFile:
    """A JSONL file that fills up row by row over as many attempts as it takes.

    `open` keeps what earlier attempts left and is still owed, `append` adds, `seal` writes the rows in the order in
    which they were asked for, so that the result does not depend on when they were finished.
    """

    def __init__(self, path: Path, inputs: Inputs) -> None:
        self.path, self.inputs, self.partial = path, inputs, partial_path(path)
        self._handle: Any = None
        # Where the rows begin: 16 bytes a row, not the rows. `_ids` is sorted, so a lookup is a bisection.
        self._ids, self._offsets = array("Q"), array("q")  # (owed,) ids; (owed,) offsets, -1 for a row that is missing
        self._kept = 0

    @property
    def sealed(self) -> bool:
        return is_sealed(self.path, self.inputs)

    def open(self, owed: Iterable[str]) -> None:
        """Take over rows from a partial file, or from one sealed for other inputs, where their ids are owed."""
        self.partial.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            os.replace(self.path, self.partial)
        self._set_owed(owed)
        if self.partial.exists():
            aside = self.partial.with_suffix(".tmp")
            with self.partial.open("rb") as old, aside.open("wb") as new:
                for line in old:
                    place = self._place(_row_id(line))
                    if place is not None and self._offsets[place] < 0:
                        self._keep(place, new.tell())
                        new.write(line)
            os.replace(aside, self.partial)
        self._handle = self.partial.open("a+b")

    def _set_owed(self, owed: Iterable[str]) -> None:
        import numpy  # here, since most commands need none of it

        ids = numpy.unique(numpy.fromiter((int(row_id, 16) for row_id in owed), dtype=numpy.uint64))
        self._ids, self._offsets = array("Q", ids.tobytes()), array("q", [-1]) * len(ids)
        self._kept = 0

    def _place(self, row_id: object) -> int | None:
        """Where an owed id is in the two arrays; None for any other."""
        try:
            number = int(row_id, 16) if isinstance(row_id, str) else -1
        except ValueError:
            return None
        place = bisect_left(self._ids, number)
        return place if place < len(self._ids) and self._ids[place] == number else None

    def _keep(self, place: int, offset: int) -> None:
        self._kept += self._offsets[place] < 0
        self._offsets[place] = offset

    def __contains__(self, row_id: object) -> bool:
        place = self._place(row_id)
        return place is not None and self._offsets[place] >= 0

    def __len__(self) -> int:
        return self._kept

    def __iter__(self) -> Iterator[str]:
        return (f"{row_id:016x}" for row_id, offset in zip(self._ids, self._offsets, strict=True) if offset >= 0)

    def append(self, row_id: str, fields: dict[str, Any]) -> None:
        """Keep a finished row; it survives the death of the process from here on. Raises ValueError if it is not owed.

        The row of an id that comes twice is the last one.
        """
        place = self._place(row_id)
        if place is None:
            raise ValueError(f"{self.path}: row {row_id!r} is not owed")
        offset = self._handle.seek(0, os.SEEK_END)
        self._handle.write(json.dumps({"id": row_id, **fields}, ensure_ascii=False).encode() + b"\n")
        self._handle.flush()
        self._keep(place, offset)

    def row(self, row_id: str) -> dict[str, Any]:
        """The fields of a kept row, those that `append` was given. Raises KeyError if there is none."""
        place = self._place(row_id)
        if place is None or self._offsets[place] < 0:
            raise KeyError(row_id)
        self._handle.seek(self._offsets[place])
        row: dict[str, Any] = json.loads(self._handle.readline())
        return {name: value for name, value in row.items() if name not in _IDENTITY}

    def seal(self, rows: Iterable[Row]) -> None:
        """Seal the file with these rows, made of the kept fields in the order in which they were asked for."""
        ordered = self.partial.with_name(f"{self.path.stem}.ordered{self.path.suffix}")
        count = 0
        with ordered.open("w", encoding="utf-8") as handle:
            for row in rows:
                handle.write(row.to_json() + "\n")
                count += 1
        self._handle.close()
        seal(ordered, self.path, self.inputs, count, hash_file(ordered))
        self.partial.unlink()

    def discard(self) -> None:
        """Remove what was kept."""
        if self._handle:
            self._handle.close()
        self.partial.unlink(missing_ok=True)


def _row_id(line: bytes) -> object:
    """The id of a row, or None for a line that was torn by a crash."""
    try:
        return json.loads(line)["id"] if line.endswith(b"\n") else None
    except (ValueError, KeyError, TypeError):
        return None


# --- the run ----------------------------------------------------------------------------------------------------------


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
    """The paths of a run. See DESIGN's listing: on disk the order of the steps carries numbers."""

    def __init__(self, path: Path, title: str = "") -> None:
        self.path, self._title = path, title
        self.recipe = path / "recipe.yaml"
        self.metrics = path / "metrics.jsonl"
        self.lock_descriptor: int | None = None  # for child processes to inherit
        self.results = path / "results.json"
        self.model_cache = path / ".models.json"  # see `models.resolve_model`
        self.judge_replies = path / "judge_replies.sqlite"

    def iteration(self, iteration: int) -> Path:
        return self.path / f"iteration_{iteration}"

    def title(self, iteration: int) -> str:
        """What its steps are called while they work."""
        return self._title or f"iteration {iteration}"

    def prompts(self, iteration: int) -> Path:
        return self.iteration(iteration) / "1_prompts.jsonl"

    def responses(self, iteration: int, language: str) -> Path:
        return self.iteration(iteration) / "2_responses" / f"{language}.jsonl"

    def translations(self, iteration: int, source: str, target: str) -> Path:
        return self.iteration(iteration) / "3_translations" / f"{source}-{target}.jsonl"

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

        Raises RunError where that iteration has not been trained yet.
        """
        from lidr.models import engine_identity, recorded_answers, resolve_model

        if iteration == 0:
            folder = Path(config.model.path).expanduser()
            if is_remote(config.engine):
                served = (config.engine.base_url, config.engine.extra_body, config.model.path)
                return Model("M0", folder, content_id("served", *served))
            if config.iterations == 0 and (files := recorded_answers(folder)):
                hashes = [content_id(file.name, hash_file(file)) for file in files]
                return Model("M0", folder, content_id("recorded", *hashes), recorded=True)
            folder, weights = resolve_model(config.model, self.model_cache)
        else:
            folder = self.model_folder(iteration)
            weights = digest(folder)
        identity = engine_identity(config.engine)
        return Model(f"M{iteration}", folder, content_id(weights, identity) if identity else weights)

    def write_recipe(self, config: Config) -> None:
        """Keep the recipe as it is now; the next start tells how it changed."""
        write_text(self.recipe, dump_config(config))

    def log(self, event: str, **values: Any) -> None:
        """Append one line to metrics.jsonl."""
        with self.metrics.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps({"event": event, "time": round(time.time(), 3), **values}) + "\n")

    def read_log(self) -> Iterator[dict[str, Any]]:
        """The lines of metrics.jsonl, without one torn by a crash."""
        if not self.metrics.exists():
            return
        for line in self.metrics.open(encoding="utf-8"):
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue

    @classmethod
    def start(cls, config: Config, path: Path, say: Callable[[str], None]) -> Self:
        """Create the directory, or take up the one that is there; says what changed in the recipe since."""
        if path.parts and path.parts[0].endswith(":"):  # `s3://...` as a Path
            raise RunError(f"{path}: a run lives on a local disk; name a folder there, and copy it when it is done")
        run = cls(path)
        files = [file for file in path.iterdir() if not file.name.startswith(".")] if path.exists() else []
        if files and not run.recipe.exists():
            raise RunError(f"{path} is not empty and holds no run; give another --run-dir or empty it")
        path.mkdir(parents=True, exist_ok=True)
        with run.lock():  # the recipe of a run that somebody else is working on stays as it is
            if run.recipe.exists():
                # As it was written, not as a Config: an older version of the package may have had other fields.
                old = read_mapping(run.recipe)
                for change in _told_changes(old, config.model_dump(mode="json")):
                    say(f"recipe changed since the last start: {change}")
            run.write_recipe(config)
            write_text(path / "environment.json", json.dumps(environment(config), indent=1) + "\n")
        return run

    @classmethod
    def load(cls, path: Path) -> tuple[Self, Config]:
        """An existing run and its recipe. Raises RunError where there is none."""
        run = cls(path)
        if not run.recipe.exists():
            raise RunError(f"{path} holds no run (no recipe.yaml); `lidr run RECIPE --run-dir {path}` starts one")
        try:
            return run, load_config(run.recipe)
        except ConfigError as error:
            raise RunError(f"{error}\nRepair the recipe, or start again with `lidr run RECIPE --run-dir DIR`") from None

    @contextmanager
    def lock(self) -> Iterator[int]:
        """Be the only writer of this run; yields the lock's file descriptor, for child processes to inherit.

        The lock is held until the last process that has the descriptor ends, so a stage that outlives a killed parent
        still keeps others out. Raises RunError that names the holder.
        """
        inherited, _, owned = os.environ.get(LOCK_OWNER, "").partition(":")
        if owned == str(self.path.resolve()):
            self.lock_descriptor = int(inherited)
            yield self.lock_descriptor
            return
        descriptor = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(descriptor, 200).decode(errors="replace").strip() or "unknown"
                raise RunError(f"{self.path} is in use by {holder}. Wait for it, or stop it.") from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
            self.lock_descriptor = descriptor
            yield descriptor
        finally:
            self.lock_descriptor = None
            os.close(descriptor)


def _told_changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs between two recipes, but for what the probe itself changed in a run that obeys it."""
    found = changes(old, new)
    if all((recipe.get("probe") or {}).get("obey") for recipe in (old, new)):
        own = ("languages:", "dominant:", "probe.languages:", "probe.dominant:")
        found = [change for change in found if not change.startswith(own)]
    return found


def environment(config: Config) -> dict[str, Any]:
    """Versions, hardware, git state and seed, without importing anything heavy."""
    from importlib.metadata import PackageNotFoundError, version

    packages = {}
    for name in (
        "lidr",
        "torch",
        "transformers",
        "accelerate",
        "datasets",
        "tokenizers",
        "safetensors",
        "py3langid",
        "openai",
    ):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "gpus": _gpus(),
        "packages": packages,
        "git": _git_state(),
        "seed": config.seed,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()


def _gpus() -> list[str]:
    return _output_of(
        "nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"
    ).splitlines()


def _git_state() -> dict[str, Any] | None:
    """Commit and cleanliness of the checkout that this package runs from, if it does."""
    source = str(Path(__file__).parent)
    commit = _output_of("git", "-C", source, "rev-parse", "HEAD")
    return (
        {"commit": commit, "modified": bool(_output_of("git", "-C", source, "status", "--porcelain", "."))}
        if commit
        else None
    )


def _output_of(*command: str) -> str:
    import subprocess

    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
