"""How a run loses nothing: rows are kept as they finish, and complete files are sealed.

A file under its final name is complete. Until then its name is `<name>.partial.jsonl`. Beside every sealed file is
`.<name>.seal.json` with the inputs it was made from: while these are the same, the file is reused. A recipe that would
replace finished work is refused unless the user asks for it (see `lidr.replacing`); then the rows that are still wanted
are kept, and the rest is made again. The seal also holds the file's size and hash. Every check compares the size, and
reading the file also compares the hash.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from lidr.config import Config, changes, flatten, is_default
from lidr.errors import DamagedError, RunError
from lidr.records import Json, Row, canonical_json, content_id
from lidr.storage import hash_file, naming, partial_path, replacing, temporary, write_text

Inputs = dict[str, Any]  # nested, as JSON is
Outputs = list[tuple[Path, Inputs]]  # what a stage makes, each with the inputs it has to be made from


_HASHES = re.compile(r": (?:[0-9a-f]{16,64} -> .*|.* -> (?:[0-9a-f]{16,64}|still to be made))$")


def _seal_path(path: Path) -> Path:
    return path.parent / f".{path.name}.seal.json"


def sealed_path(seal_path: Path) -> Path:
    """The file or folder that a seal is of."""
    return seal_path.with_name(seal_path.name.removeprefix(".").removesuffix(".seal.json"))


@dataclass(frozen=True, slots=True)
class Seal:
    """The note beside a complete file or folder.

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


def _check(note: Mapping[str, object]) -> str:
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
    """What differs between the inputs of a seal and the current ones.

    An input that the seal does not name counts as null or as its field's default: newer versions of the package have
    fields that older seals lack.
    """
    known, now = flatten(old), flatten(json.loads(canonical_json(new)))
    added = {name: None for name, value in now.items() if name not in known and is_default(name, value)}
    return changes(old, now | added)


def stale_because(path: Path, inputs: Inputs) -> list[str]:
    """Which inputs differ from those a complete `path` was made from; empty if nothing was made yet."""
    seal = read_seal(path)
    return short_changes(seal.inputs, inputs) if seal else []


def short_changes(old: Inputs, new: Inputs, ignored: Collection[str] = ()) -> list[str]:
    """`input_changes` without those in `ignored`, and without hashes, which say nothing to people."""
    shown = (change for change in input_changes(old, new) if change.partition(": ")[0] not in ignored)
    return [_HASHES.sub(" changed", change) for change in shown]


def release(path: Path, config: Config | None) -> None:
    """Note in a seal that the user has asked for `path` to be replaced, so that a later start may do it, too.

    It holds for this recipe only; None revokes it.
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
    """Whether a file was complete once, since it has a seal, and no longer exists."""
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

    `files` are the names and SHA-256 of a folder's files that must not change.
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


def read_rows(path: Path) -> Iterator[Json]:
    """The rows of a sealed JSONL file, one at a time, after comparing the whole file with its seal.

    Raises RunError if the file is not complete, and DamagedError for a damaged file or row, which it names.
    """
    check_sealed(path)
    yield from read_unsealed_rows(path)


def read_unsealed_rows(path: Path) -> Iterator[Json]:
    """The rows of any JSONL file of objects, one at a time. Raises DamagedError that names file and line."""
    return (_row(path, number, line) for number, line in enumerate(_lines(path), 1))


def _lines(path: Path) -> Iterator[bytes]:
    with naming(path), path.open("rb") as handle:
        yield from handle


def _row(path: Path, number: int, line: bytes) -> Json:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path}:{number}: damaged row ({_reason(error)}); {way_out(path)}") from None
    if not isinstance(row, dict):
        raise DamagedError(f"{path}:{number}: damaged row (no JSON object); {way_out(path)}")
    return row


def read_document(path: Path) -> Any:
    """The content of a sealed JSON file. Raises as `check_sealed` does."""
    seal = sealed(path)
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != seal.sha256:
        raise _differs(path, seal)
    return json.loads(content)


_compared: dict[Path, tuple[int, int, int, str]] = {}


def check_sealed(path: Path) -> None:
    """Compare a sealed file with its seal, once per process while its size, time and seal are the same.

    Raises RunError if it is not complete, DamagedError if it differs from its seal.
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


# Not fields of a kept row: the keys by which sealed rows are joined, which the request has, and the row's own hash.
_NO_FIELDS = (
    "id", "prompt_id", "language", "sample", "source_language", "target_language", "given", "origin", "question_id",
    "check",
)  # fmt: skip


class RowFile:
    """A JSONL file that is filled row by row, over several attempts if necessary.

    `open` keeps the rows of earlier attempts that are still owed, `append` adds one, and `seal` writes all in the order
    of the requests, so that the result does not depend on when each was finished.
    """

    def __init__(self, path: Path, inputs: Inputs) -> None:
        self.path, self.inputs, self.partial = path, inputs, partial_path(path)
        self.reopened = False  # whether `open` took over a sealed file
        self._handle: FileIO | None = None  # unbuffered: after a full disk nothing is left to be written later
        self._reader: BufferedReader | None = None
        # The ids and where their rows begin: 16 bytes a row. `_ids` is sorted, so a lookup is a bisection.
        self._ids, self._offsets = array("Q"), array("q")  # (owed,) ids; (owed,) offsets, -1 for a row that is missing
        self._kept = 0

    @property
    def sealed(self) -> bool:
        return is_sealed(self.path, self.inputs)

    def open(self, owed: Iterable[str]) -> None:
        """Keep the owed rows of a partial file, or of a file that was sealed for other inputs.

        Raises DamagedError if the sealed file differs from its seal.
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
        import numpy  # here, since most commands do not need it

        ids = numpy.unique(numpy.fromiter((int(row_id, 16) for row_id in owed), dtype=numpy.uint64))
        self._ids, self._offsets = array("Q", ids.tobytes()), array("q", [-1]) * len(ids)
        self._kept = 0

    def _place(self, row_id: object) -> int | None:
        """The index of an owed id in the two arrays; None for any other id."""
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
        """Whether the file needs this row, also if it has it already."""
        return self._place(row_id) is not None

    def __len__(self) -> int:
        return self._kept

    def __iter__(self) -> Iterator[str]:
        return (f"{row_id:016x}" for row_id, offset in zip(self._ids, self._offsets, strict=True) if offset >= 0)

    def append(self, row_id: str, fields: Mapping[str, object]) -> None:
        """Keep a finished row, which then survives the death of the process. Raises ValueError if it is not owed.

        If an id comes twice, its last row counts.
        """
        place = self._place(row_id)
        if place is None:
            raise ValueError(f"{self.path}: row {row_id!r} is not owed")
        assert self._handle is not None  # `open` sets it together with what is owed
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

    def take(self, owed: Iterable[str], sources: Iterable[Path]) -> None:
        """Begin the file with the owed rows of complete files in `sources`; one that is complete is left alone."""
        if self.path.exists():
            return
        self.open(owed)
        for source in sources:
            for row in read_rows(source) if read_seal(source) else ():
                row_id = str(row["id"])
                if self.owes(row_id) and row_id not in self:
                    self.append(row_id, {name: value for name, value in row.items() if name not in _NO_FIELDS})
        self._close()

    def row(self, row_id: str) -> dict[str, Any]:
        """The fields of a kept row, those that `append` was given. Raises KeyError if there is none."""
        place = self._place(row_id)
        if place is None or self._offsets[place] < 0:
            raise KeyError(row_id)
        assert self._reader is not None
        self._reader.seek(self._offsets[place])
        row = json.loads(self._reader.readline())
        return {name: value for name, value in row.items() if name not in _NO_FIELDS}

    def seal(self, rows: Iterable[Row]) -> None:
        """Seal the file with these rows, which are made of the kept fields in the order of the requests."""
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
        if self._handle and self._reader:
            self._handle.close()
            self._reader.close()


def row_ids(path: Path) -> Iterator[str]:
    """The ids of the rows of a sealed or partial file, without a row torn by a crash; empty if there is no file."""
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
