"""Where everything of a run lives, and how nothing of it is lost: append rows, ask what is owed, seal.

A file under its final name is complete. While it is made it is called `<name>.partial.jsonl`. Beside every sealed file
stands `.<name>.seal.json` with the inputs it was made from: as long as these are the same, the file is reused. A
recipe that would replace finished work is refused unless the user asks for it (see `lidr.replacing`); then the rows
that are still wanted are kept, and the rest is made again. The seal also holds the file's size and hash. The size is
compared at every look, the hash whenever the bytes are read anyway.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import socket
import sys
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter

from lidr.chat import DATE, template_identity
from lidr.config import Config, changes, dump_config, flatten, is_default, is_remote, load_config
from lidr.errors import ConfigError, DamagedError, RunError
from lidr.records import Row, canonical_json, content_id
from lidr.yaml_input import read_mapping

Inputs = dict[str, Any]
Outputs = list[tuple[Path, Inputs]]  # what a stage makes, each with the inputs it has to be made from
LOCK_OWNER = "LIDR_LOCK_OWNER"  # tells a stage's child process which run's lock it was given, and as which descriptor


_HASHES = re.compile(r": (?:[0-9a-f]{16,64} -> .*|.* -> (?:[0-9a-f]{16,64}|still to be made))$")


# --- sealed files -----------------------------------------------------------------------------------------------------


def _seal_path(path: Path) -> Path:
    return path.parent / f".{path.name}.seal.json"


def sealed_path(seal_path: Path) -> Path:
    """The file or folder that a seal is of."""
    return seal_path.with_name(seal_path.name.removeprefix(".").removesuffix(".seal.json"))


@dataclass(frozen=True, slots=True)
class Seal:
    """What is noted beside a complete file or folder.

    `size` is that of a file in bytes; `files` are the names of a folder with their sizes and SHA-256; `check` is a hash
    of the seal itself. Seals of older versions have none of these. `released_for` identifies the recipe for which the
    user has asked for the file to be replaced.
    """

    inputs: Inputs
    rows: int
    sha256: str
    size: int | None = None
    files: dict[str, tuple[int, str]] | None = None
    check: str | None = None
    released_for: str | None = None


_SEALS = TypeAdapter(Seal)


def read_seal(path: Path) -> Seal | None:
    """The seal of a complete file or folder, or None while it is not complete.

    Raises DamagedError if the seal cannot be read, or if the file or folder does not have the size that it notes.
    """
    note = _seal_path(path)
    try:
        text = note.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not path.exists():
        return None
    try:
        seal = _SEALS.validate_json(text)
        if seal.check is not None and seal.check != _check(json.loads(text)):
            raise ValueError("not the seal that was written")
    except ValueError:  # pydantic's is one
        raise DamagedError(f"{note}: this seal is damaged; {way_out(path)}") from None
    if seal.size is not None:
        _check_size(path, path, seal.size)
    for name, (size, _) in (seal.files or {}).items():
        _check_size(path / name, path, size)
    return seal


def _check(note: dict[str, Any]) -> str:
    return content_id({name: value for name, value in note.items() if name != "check"})


def way_out(path: Path) -> str:
    """What to do about a damaged file, or a damaged file in a folder, for messages that begin with the file."""
    what = f"all of {path}" if path.is_dir() else "it"
    return f"delete {what} and start the run again, which makes it again from the steps before it"


def _check_size(path: Path, sealed: Path, size: int) -> None:
    """Raises DamagedError unless the file, which is `sealed` or in that folder, has this many bytes."""
    found = f"it has {path.stat().st_size:,} bytes" if path.is_file() else "it is missing or no file"
    if not path.is_file() or path.stat().st_size != size:
        raise DamagedError(f"{path}: damaged: {found}, and had {size:,} when it was finished; {way_out(sealed)}")


def is_sealed(path: Path, inputs: Inputs) -> bool:
    """Whether `path` is complete and was made from just these inputs, see `input_changes`.

    Raises DamagedError as `read_seal` does.
    """
    seal = read_seal(path)
    return seal is not None and not input_changes(seal.inputs, inputs)


def input_changes(old: Inputs, new: Inputs) -> list[str]:
    """What differs between the inputs of a seal and those of today.

    An input that the seal does not name counts as null or as its field's default: newer versions of the package have
    fields that older seals lack.
    """
    known, now = flatten(old), flatten(json.loads(canonical_json(new)))
    added = {name: None for name, value in now.items() if name not in known and is_default(name, value)}
    return changes(old, now | added)


def stale_because(path: Path, inputs: Inputs) -> list[str]:
    """Which inputs differ from those a complete `path` was made from; empty where nothing was made yet."""
    seal = read_seal(path)
    return short_changes(seal.inputs, inputs) if seal else []


def short_changes(old: Inputs, new: Inputs, ignored: Collection[str] = ()) -> list[str]:
    """`input_changes` without those in `ignored`, and without hashes, which say nothing to people."""
    told = (change for change in input_changes(old, new) if change.partition(": ")[0] not in ignored)
    return [_HASHES.sub(" changed", change) for change in told]


def release(path: Path, config: Config | None) -> None:
    """Note in a seal that the user has asked for `path` to be replaced, so that a later start may do it, too.

    That holds for this recipe alone; None takes it back.
    """
    found = read_seal(path)
    recipe = _recipe_id(config) if config else None
    if found is None or found.released_for == recipe:
        return
    note = json.loads(_seal_path(path).read_bytes())
    kept = {name: value for name, value in note.items() if name not in ("released_for", "check")}
    kept |= {"released_for": recipe} if recipe else {}
    write_text(_seal_path(path), canonical_json(kept | {"check": _check(kept)}) + "\n")


def is_released(path: Path, config: Config) -> bool:
    """Whether the user has asked for `path` to be replaced by what this recipe makes."""
    seal = read_seal(path)
    return seal is not None and seal.released_for == _recipe_id(config)


def _recipe_id(config: Config) -> str:
    return content_id(config.model_dump(mode="json"))


def is_missing(path: Path) -> bool:
    """Whether a file was complete once, as its seal says, and is there no more."""
    return _seal_path(path).exists() and not path.exists()


def sealed(path: Path) -> Seal:
    """The seal of a complete file. Raises RunError if the step that makes it has not been run, or it is damaged."""
    seal = read_seal(path)
    if seal is None:
        raise RunError(f"{path} is not complete yet; run the step before this one first (or `lidr run`)")
    return seal


def digest(path: Path) -> str:
    """SHA-256 of a sealed file, from its seal. Raises RunError as `sealed` does."""
    return sealed(path).sha256


def seal(
    partial: Path, path: Path, inputs: Inputs, rows: int, sha256: str, files: dict[str, str] | None = None
) -> None:
    """Turn a finished `partial` file or folder into `path`: fsync, note the inputs, rename.

    `files` are the names and SHA-256 of a folder's files that must stay as they are.
    """
    for file in [partial] if partial.is_file() else sorted(partial.rglob("*")):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
    size = partial.stat().st_size if partial.is_file() else None
    sizes = {name: ((partial / name).stat().st_size, sha) for name, sha in files.items()} if files else None
    noted = {"inputs": inputs, "rows": rows, "sha256": sha256, "size": size, "files": sizes}
    note = {name: value for name, value in noted.items() if value is not None}
    with replacing(_seal_path(path)) as aside:  # written before anything is removed, in case the disk is full
        aside.write_text(canonical_json(note | {"check": _check(note)}) + "\n", encoding="utf-8")
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
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
    with naming(path), partial.open("w", encoding="utf-8") as handle:
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
    if path.is_file() and path.read_bytes() == text.encode():
        return
    with replacing(path) as aside, aside.open("w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to, see `temporary`; at the end it takes the place of `path`."""
    with temporary(path) as aside:
        yield aside
        os.replace(aside, path)


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to, whose name no other process uses.

    Nothing is left of it if something fails, and a later start removes what a killed process left.
    """
    aside = path.with_name(f".{path.name[:60]}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        yield aside
    except BaseException as error:
        if isinstance(error, OSError) and error.filename in (None, str(aside)):
            error.filename = str(path)
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file in an OSError: one of an open file, such as a full disk, does not say which it is."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a sealed JSONL file, one at a time, once the whole file has been compared with its seal.

    Raises RunError if the file is not complete, and DamagedError that names the file, and the line of a row that cannot
    be read.
    """
    check_sealed(path)
    yield from read_unsealed_rows(path)


def read_unsealed_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of any JSONL file of objects, one at a time. Raises DamagedError that names file and line."""
    return (_row(path, number, line) for number, line in enumerate(_lines(path), 1))


def _lines(path: Path) -> Iterator[bytes]:
    with naming(path), path.open("rb") as handle:
        yield from handle


def _row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path}:{number}: damaged row ({_reason(error)}); {way_out(path)}") from None
    if not isinstance(row, dict):
        raise DamagedError(f"{path}:{number}: damaged row (no JSON object); {way_out(path)}")
    return row


def read_document(path: Path) -> Any:
    """The content of a sealed JSON file. Raises RunError if it is not complete, DamagedError if it is not as sealed."""
    seal = sealed(path)
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != seal.sha256:
        raise _differs(path, seal)
    return json.loads(content)


_compared: dict[Path, tuple[int, int, int, str]] = {}


def check_sealed(path: Path) -> None:
    """Compare a sealed file with its seal, once per process while its size, time and seal stay as they are.

    Raises RunError if it is not complete, DamagedError if it is not as sealed.
    """
    seal, status = sealed(path), path.stat()
    known = (status.st_ino, status.st_size, status.st_mtime_ns, seal.sha256)
    if _compared.get(path) != known:
        if hash_file(path) != seal.sha256:
            raise _differs(path, seal)
        _compared[path] = known


def _differs(path: Path, seal: Seal) -> RunError:
    if read_seal(path) != seal:
        return RunError(f"{path}: another command has just replaced it; run the same command again")
    return DamagedError(f"{path}: damaged: its content is not what was finished; {way_out(path)}")


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """The object in a small JSON file without a seal, empty if there is no file.

    Raises DamagedError with the remedy.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path}: damaged ({_reason(error)}); {remedy}") from None
    if not isinstance(content, dict):
        raise DamagedError(f"{path}: damaged (no JSON object); {remedy}")
    return content


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return error.msg
    return "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else "no JSON that can be read"


# What is no field of a kept row: by what sealed rows are joined, known from the request, and the row's own hash.
_NO_FIELDS = ("id", "prompt_id", "language", "sample", "source_language", "target_language", "question_id", "check")


class RowFile:
    """A JSONL file that fills up row by row over as many attempts as it takes.

    `open` keeps what earlier attempts left and is still owed, `append` adds, `seal` writes the rows in the order in
    which they were asked for, so that the result does not depend on when they were finished.
    """

    def __init__(self, path: Path, inputs: Inputs) -> None:
        self.path, self.inputs, self.partial = path, inputs, partial_path(path)
        self.reopened = False  # whether `open` took over a sealed file
        self._handle: Any = None  # unbuffered, so that a full disk leaves nothing behind that is written later
        self._reader: Any = None
        # Where the rows begin: 16 bytes a row, not the rows. `_ids` is sorted, so a lookup is a bisection.
        self._ids, self._offsets = array("Q"), array("q")  # (owed,) ids; (owed,) offsets, -1 for a row that is missing
        self._kept = 0

    @property
    def sealed(self) -> bool:
        return is_sealed(self.path, self.inputs)

    def open(self, owed: Iterable[str]) -> None:
        """Take over rows from a partial file, or from one sealed for other inputs, where their ids are owed.

        Raises DamagedError if the sealed file is not as it was sealed.
        """
        self.partial.parent.mkdir(parents=True, exist_ok=True)
        self._set_owed(owed)
        if self.path.exists():
            if read_seal(self.path):
                check_sealed(self.path)
            os.replace(self.path, self.partial)
            self.reopened = True
        if self.partial.exists():
            with replacing(self.partial) as aside, self.partial.open("rb") as old, aside.open("wb") as new:
                for line in old:
                    place = self._place(_row_id(line))
                    if place is not None and self._offsets[place] < 0:
                        self._keep(place, new.tell())
                        new.write(line)
        self._handle, self._reader = self.partial.open("ab", buffering=0), self.partial.open("rb")

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

    def owes(self, row_id: str) -> bool:
        """Whether the file is to have this row, kept already or not."""
        return self._place(row_id) is not None

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
        row = {"id": row_id, **fields}
        rest = memoryview(json.dumps(row | {"check": _check(row)}, ensure_ascii=False).encode() + b"\n")
        try:
            with naming(self.partial):
                while rest:
                    rest = rest[self._handle.write(rest) :]
        except OSError:
            self._handle.truncate(offset)
            raise
        self._keep(place, offset)

    def row(self, row_id: str) -> dict[str, Any]:
        """The fields of a kept row, those that `append` was given. Raises KeyError if there is none."""
        place = self._place(row_id)
        if place is None or self._offsets[place] < 0:
            raise KeyError(row_id)
        self._reader.seek(self._offsets[place])
        row: dict[str, Any] = json.loads(self._reader.readline())
        return {name: value for name, value in row.items() if name not in _NO_FIELDS}

    def seal(self, rows: Iterable[Row]) -> None:
        """Seal the file with these rows, made of the kept fields in the order in which they were asked for."""
        count = 0
        with temporary(self.path) as ordered:
            with ordered.open("w", encoding="utf-8") as handle:
                for row in rows:
                    handle.write(row.to_json() + "\n")
                    count += 1
            self._close()
            seal(ordered, self.path, self.inputs, count, hash_file(ordered))
        self.partial.unlink()

    def discard(self) -> None:
        """Remove what was kept."""
        self._close()
        self.partial.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._handle:
            self._handle.close()
            self._reader.close()


def row_ids(path: Path) -> Iterator[str]:
    """The ids of the rows of a sealed or partial file, without one torn by a crash; none if there is no file."""
    if path.exists():
        with path.open("rb") as lines:
            yield from (row_id for line in lines if isinstance(row_id := _row_id(line), str))


def _row_id(line: bytes) -> object:
    """The id of a row, or None for a line that was torn by a crash or is not what was written."""
    try:
        row = json.loads(line)
        kept = row.get("check")  # rows of a sealed file have none
        return row["id"] if line.endswith(b"\n") and (kept is None or kept == _check(row)) else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
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
        self.first_day = path / ".first_day"  # see `show_date`

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
        identity = engine_identity(config.engine) | template_identity(folder)
        if not self.first_day.exists():  # an older run, whose prompts had the date of whichever day it was
            identity.pop("date", None)
        return Model(f"M{iteration}", folder, content_id(weights, identity) if identity else weights)

    def checked_model(self, config: Config, iteration: int) -> Model:
        """As `model`, for loading: raises DamagedError if a trained model is not as it was when it was finished."""
        from lidr.models import check_trained

        if iteration:
            check_trained(self.model_folder(iteration), self.model_cache)
        return self.model(config, iteration)

    def write_recipe(self, config: Config) -> None:
        """Keep the recipe as it is now; the next start tells how it changed."""
        write_text(self.recipe, dump_config(config))

    def log(self, event: str, **values: Any) -> None:
        """Append one line to metrics.jsonl."""
        line = json.dumps({"event": event, "time": round(time.time(), 3), **values}) + "\n"
        with naming(self.metrics), self.metrics.open("ab+") as handle:
            if handle.tell() and os.pread(handle.fileno(), 1, handle.tell() - 1) != b"\n":
                handle.write(b"\n")  # the last line was torn by a crash
            handle.write(line.encode())

    def read_log(self) -> Iterator[dict[str, Any]]:
        """The lines of metrics.jsonl. One torn by a crash is left out; so is any other damaged one, which is said."""
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
        """Create the directory, or take up the one that is there; says what changed in the recipe since.

        `check` may refuse by an error before anything is written, see `lidr.replacing.open_run`.
        """
        if path.parts and path.parts[0].endswith(":"):  # `s3://...` as a Path
            raise RunError(f"{path}: a run lives on a local disk; name a folder there, and copy it when it is done")
        run = cls(path)
        files = [file for file in path.iterdir() if not file.name.startswith(".")] if path.exists() else []
        if files and not run.recipe.exists():
            raise RunError(f"{path} is not empty and holds no run; give another --run-dir or empty it")
        path.mkdir(parents=True, exist_ok=True)
        with run.lock():  # the recipe of a run that somebody else is working on stays as it is
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
            old = load_config(self.recipe).model_dump(mode="json")
        except ConfigError:  # an older version of the package may have had other fields
            old = read_mapping(self.recipe)
        return _told_changes(old, config.model_dump(mode="json"))

    @classmethod
    def load(cls, path: Path) -> tuple[Self, Config]:
        """An existing run and its recipe. Raises RunError where there is none."""
        run = cls(path)
        if not run.recipe.exists():
            raise RunError(f"{path} holds no run (no recipe.yaml); `lidr run RECIPE --run-dir {path}` starts one")
        run.show_date()
        try:
            return run, load_config(run.recipe)
        except ConfigError as error:
            raise RunError(f"{error}\nRepair the recipe, or start again with `lidr run RECIPE --run-dir DIR`") from None

    def show_date(self) -> None:
        """Have chat templates see the day on which this run began, here and in child processes.

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
        """Be the only writer of this run; yields the lock's file descriptor, for child processes to inherit.

        The lock is held until the last process that has the descriptor ends, so a stage that outlives a killed parent
        still keeps others out. What killed processes left is removed first. Raises RunError that names the holder.
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
    """Remove what killed processes left and no step will use. A partial file that a step goes on with stays."""
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
                _remove(partial)  # the step is done, or begins with the rows of the complete file
    for folder in run.path.glob("iteration_*/5_training"):
        _remove_training_leftovers(folder)


def _is_complete(path: Path) -> bool:
    try:
        return read_seal(path) is not None
    except DamagedError:  # the step that reads it names it
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
    """Whether the process that a temporary file is named after has ended: `lidr report` writes without the lock."""
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
