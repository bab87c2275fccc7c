"""What the operating system refuses (a full disk, a read-only folder), as one line with path, reason and way out."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lidr.errors import LidrError

_KEPT = "everything finished is kept"
_REMEDIES = {
    errno.ENOSPC: f"free some space there and run the same command again: {_KEPT}",
    errno.EDQUOT: f"free some of your quota and run the same command again: {_KEPT}",
    errno.EFBIG: f"raise the limit of file sizes (ulimit -f) and run the same command again: {_KEPT}",
    errno.EMFILE: f"raise the limit of open files (ulimit -n) and run the same command again: {_KEPT}",
    errno.ENFILE: f"close other programs and run the same command again: {_KEPT}",
    errno.EROFS: "name a folder on another file system, or copy the run to one",
    errno.EACCES: "change its permissions, or name another folder",
    errno.EPERM: "change its permissions, or name another folder",
    errno.ENAMETOOLONG: "give a shorter name or path",
    errno.ENOTDIR: "a file is where a folder has to be; name another folder, or move the file away",
    errno.EEXIST: "a file is where a folder has to be; name another folder, or move the file away",
    errno.EISDIR: "a folder is where a file has to be; move it away and run the same command again",
    errno.ENOENT: f"it is not there, or has been moved meanwhile; put it back and run the same command again: {_KEPT}",
    errno.ELOOP: "its links lead in a circle; correct them, or name another folder",
    errno.EIO: f"the disk fails; look at it, and run the same command again: {_KEPT}",
    errno.ESTALE: f"the network drive fails; look at it, and run the same command again: {_KEPT}",
}


_SQLITE = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
}
_TEXTS = re.compile(r"\bos error (\d+)|\bcode: (\d+), kind|\[errno (\d+)\]", re.IGNORECASE)  # of safetensors, of Arrow


def explain(error: BaseException) -> str | None:
    """One line for an error that the user can fix, with its path, its reason and the way out; None for any other.

    Libraries wrap such errors in their own or turn them into text, so what an error was raised from counts as well.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, LidrError):
            return str(cause)
        if found := _system_error(cause):
            return _line(found)
        cause = cause.__cause__
    return None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name what is being written in errors of libraries that do not say it."""
    try:
        yield
    except Exception as error:
        found = None if isinstance(error, LidrError) else _system_error(error)
        if found is None or found.filename:
            raise
        raise OSError(found.errno, found.strerror, str(path)) from error


def _line(error: OSError) -> str:
    path = str(error.filename2 or error.filename or "")
    number = error.errno or 0
    if path and number in (errno.EEXIST, errno.ENOENT, errno.ENOTDIR) and os.path.islink(path):
        return f"{path}: this link leads to nothing; correct it, or name another folder"
    reason = (error.strerror or os.strerror(number)).lower()
    if number not in _REMEDIES:  # of the network, for example
        return f"{path + ': ' if path else ''}{reason}; mend this and run the same command again: {_KEPT}"
    return f"{path or f'a file, perhaps a temporary one in {tempfile.gettempdir()}'}: {reason}; {_REMEDIES[number]}"


def _system_error(error: BaseException) -> OSError | None:
    """The operating system's error behind an exception, if there is one."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    if isinstance(error, sqlite3.OperationalError):
        number = _SQLITE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
        return None if number is None else OSError(number, str(error))
    text = str(error)
    if (found := _TEXTS.search(text)) and (code := int(next(filter(None, found.groups())))) in _REMEDIES:
        return OSError(code, os.strerror(code))
    if text.startswith(loop := "Symlink loop from "):  # of pathlib
        return OSError(errno.ELOOP, os.strerror(errno.ELOOP), text.removeprefix(loop).strip("'"))
    if "inline_container.cc" in text or "PytorchStreamWriter failed" in text:  # PyTorch does not say why
        return OSError(errno.ENOSPC, "it cannot be written to its end, so the disk or a limit of file sizes is full")
    return None
