"""Files: hashes, atomic writes, and local copies of what a recipe names by URL.

URLs are `s3://bucket/folder`, `gs://...`, `hf://datasets/org/name/folder`; the protocols are fsspec's. The
protocol's own package finds credentials (in the environment or files). They are never in the URL, since a recipe is
kept in the run directory.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from lidr.credentials import holds_credential, mask
from lidr.errors import ConfigError, RunError
from lidr.records import content_id

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# By file name: the size, and marks of change.
Stamps = Mapping[str, Sequence[int | str | None]]


def file_stamps(path: Path) -> dict[str, list[int]]:
    """Size and modification time of a file, or of all files below a folder, as a cheap sign that input has changed."""
    files = [path] if path.is_file() else sorted(path.rglob("*")) if path.is_dir() else []
    return {str(file): [file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()}


def hash_file(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def partial_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}.partial{path.suffix}")


def make_folder(folder: Path) -> None:
    """Create a folder. Raises RunError if that is impossible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: the folder cannot be created ({error.strerror}); give another --out") from None


def write_text(path: Path, text: str) -> None:
    """Write a small file atomically; leave one that already has this text alone."""
    if path.is_file() and path.read_bytes() == text.encode():
        return
    with replacing(path) as aside, aside.open("w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to (see `temporary`), which replaces `path` at the end."""
    with temporary(path) as aside:
        yield aside
        os.replace(aside, path)


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to, whose name no other process uses.

    It is removed if something fails; a later start removes the files of killed processes.
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
    """Name the file in an OSError, since an error on an open file, such as a full disk, does not."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


# --- URLs ------------------------------------------------------------------------------------------------------------

# What shows that a file has changed, beside its size: each protocol has some of these.
_MARKS = (
    "ETag", "etag", "md5Hash", "content_md5", "blob_id", "sha", "generation", "mtime", "LastModified", "last_modified",
    "Last-Modified", "updated", "created",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Remote:
    """What is behind a URL. `files` are names below `root` ("" if it is a file itself) with their stamps."""

    system: AbstractFileSystem
    root: str
    files: Stamps


def is_url(path: str) -> bool:
    """Whether a recipe's path names its protocol."""
    return "://" in path


def at_hand(path: str) -> bool:
    """Whether a recipe's path exists on this machine or is a URL; else it may be a hub id."""
    return is_url(path) or Path(path).expanduser().exists()


def cache_folder() -> Path:
    """Where copies and imported models are kept, `$XDG_CACHE_HOME/lidr` or `~/.cache/lidr`; it may be deleted."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expandvars(base)).expanduser() / "lidr"


def local_path(path: str, field: str) -> Path:
    """A path of the recipe on this machine; for a URL, that of its copy. Raises ConfigError as `local_copy`."""
    return local_copy(path, field) if is_url(path) else Path(path).expanduser()


def stamps(path: str, field: str) -> Stamps:
    """Sizes and marks of change of all files of a path or URL, see `file_stamps`."""
    if not is_url(path):
        return file_stamps(Path(path).expanduser())
    with _naming(field):
        return dict(_look(path).files)


def local_copy(url: str, field: str, patterns: Sequence[str] = ("*",)) -> Path:
    """Copy a file, or the files of a folder whose names below it match `patterns`, and return where the copy is.

    A copy is reused while the names, sizes, ETags and times of the remote files are the same. A process looks at them
    once, so that all steps work on the same data. `field` is the recipe's field, for messages.
    Raises ConfigError if the protocol's package is missing, or if nothing is found or readable.
    """
    with _naming(field):
        remote, wanted, copy = _find(url, patterns)
        folder = copy.parent.parent
        if not copy.exists():
            with locked(folder):
                if not copy.exists():
                    _copy(url, remote, wanted, folder / "partial" / copy.name)
                    if _matching(_list(url), patterns) != wanted:
                        _look.cache_clear()
                        raise ConfigError(f"{url}: changed while it was copied; run the same command again")
                    (folder / "partial").rename(copy.parent)
    return copy


def kept_copy(url: str, field: str, patterns: Sequence[str]) -> Path | None:
    """The result of `local_copy` if nothing has to be copied for it, else None. Raises ConfigError as it does."""
    with _naming(field):
        copy = _find(url, patterns)[2]
    return copy if copy.exists() else None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one process at a time write in `folder`; others wait."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def _naming(field: str) -> Iterator[None]:
    """Name the recipe's field in a ConfigError, since `_look` is cached for all fields."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{field} {error}") from error.__cause__


def _find(url: str, patterns: Sequence[str]) -> tuple[_Remote, Stamps, Path]:
    """What is behind a URL, the files of it that match, and where their copy is or will be. Raises ConfigError."""
    remote = _look(url)
    wanted = _matching(remote, patterns)
    if not wanted:
        raise ConfigError(f"{url}: there is no file named {', '.join(patterns)}; correct the URL")
    name = PurePosixPath(remote.root).name or "root"
    return remote, wanted, cache_folder() / "copies" / content_id(url, list(patterns)) / content_id(wanted) / name


def _list(url: str) -> _Remote:
    """List what is behind a URL. Raises ConfigError as `local_copy` does, without the field."""
    if holds_credential(url):
        raise ConfigError(
            f"{mask(url)}: a URL must hold no password, key or signature, since the recipe is kept with the run; "
            "give credentials in the environment, as the protocol's package takes them"
        )
    import fsspec.core

    try:
        system, root = fsspec.core.url_to_fs(url)
        system.invalidate_cache()
        found = _stamps(system, root)
    except ImportError as error:
        raise ConfigError(f"{url}: {error}; `pip install {_package(url)}`") from error
    except Exception as error:  # every protocol's package has exceptions of its own
        raise ConfigError(f"{url}: cannot be read ({_said(error)}); check the URL and your access") from error
    if not found:
        raise ConfigError(f"{url}: no such file or folder, or it is empty; correct the URL")
    if any(".." in PurePosixPath(name).parts for name in found):
        raise ConfigError(f"{url}: it has names with `..` in them, which are not copied; rename them")
    if any(stamp == [None] for stamp in found.values()):
        raise ConfigError(f"{url}: its server does not say when a file has changed; copy it to a local folder")
    return _Remote(system, root, found)


_look = cache(_list)


def _stamps(system: AbstractFileSystem, root: str) -> Stamps:
    """Names below `root`, "" for itself, with their sizes and marks of change."""
    found = system.find(root, detail=True)
    below = {path: info for path, info in sorted(found.items()) if path.startswith(root.rstrip("/") + "/")}
    if not below and found.get(root, {}).get("size") != 0:  # a folder of S3 may be an empty file as well
        below = {path: info for path, info in found.items() if path == root}
    stamps = {}
    for path, listed in below.items():
        if listed.get("type") != "directory" and not path.endswith("/"):
            info = listed if listed.get("size") is not None else system.info(path)  # HTTP lists bare names
            marks = [f"{mark} {info[mark]}" for mark in _MARKS if info.get(mark) is not None]
            stamps[path.removeprefix(root).lstrip("/")] = [info.get("size"), *marks]
    return stamps


def _matching(remote: _Remote, patterns: Sequence[str]) -> Stamps:
    # A single file is one that the recipe names itself; its own name counts.
    own = PurePosixPath(remote.root).name
    return {
        name: stamp
        for name, stamp in remote.files.items()
        if any(fnmatch(name or own, pattern) for pattern in patterns)
    }


def _copy(url: str, remote: _Remote, wanted: Stamps, aside: Path) -> None:
    """Copy the wanted files below `aside`, whose parent is emptied first. Raises ConfigError."""
    shutil.rmtree(aside.parent, ignore_errors=True)
    size = sum(size for size, *_ in wanted.values() if isinstance(size, int))
    count = f"{len(wanted)} file{'s' * (len(wanted) > 1)}"
    print(f"{url}: copying {count}, {size / 1e6:.1f} MB", file=sys.stderr, flush=True)
    targets = {name: aside / name if name else aside for name in wanted}
    for target in targets.values():
        target.parent.mkdir(parents=True, exist_ok=True)
    sources = [f"{remote.root.rstrip('/')}/{name}" if name else remote.root for name in wanted]
    try:
        remote.system.get(sources, [str(target) for target in targets.values()])
    except Exception as error:  # as above
        raise ConfigError(f"{url}: cannot be copied ({_said(error)}); run the same command again") from error
    for name, target in targets.items():
        expected, found = wanted[name][0], target.stat().st_size if target.is_file() else 0
        if expected not in (None, found):
            raise ConfigError(f"{url}: {name or 'it'} has {expected} bytes, {found} came; run the same command again")


def _package(url: str) -> str:
    """The package that speaks the URL's protocol."""
    from fsspec.registry import known_implementations

    protocol = url.rpartition("://")[0].rpartition("::")[2]
    package = str(known_implementations.get(protocol, {}).get("class", protocol)).partition(".")[0]
    return f'"fsspec[{protocol}]"' if package == "fsspec" else package


def _said(error: Exception) -> str:
    """The kind of an error and the first line of its message."""
    return " ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])[:300]
