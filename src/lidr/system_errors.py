"""What the operating system refuses (a full disk, a read-only folder), as one line with path, reason and way out."""

from __future__ import annotations

import errno
import os
import re
import sqlite3

from lidr.errors import LidrError

_KEPT = "everything finished is kept; the same command goes on"
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


def explain(error: BaseException) -> str | None:
    """One line for an error that is the user's to mend, with its path, its reason and the way out; None for any other.

    Libraries wrap such errors in their own or turn them into text, so what an error was raised from counts as well.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, LidrError):
            return str(cause)
        if found := _system_error(cause):
            path, number = found
            if path and number in (errno.EEXIST, errno.ENOENT, errno.ENOTDIR) and os.path.islink(path):
                return f"{path}: this link leads to nothing; correct it, or name another folder"
            remedy = _REMEDIES.get(number, f"mend this and run the same command again: {_KEPT}")
            return f"{path + ': ' if path else ''}{os.strerror(number).lower()}; {remedy}"
        cause = cause.__cause__
    return None


def _system_error(error: BaseException) -> tuple[str, int] | None:
    """(path or "", error number) of an error of the operating system."""
    if isinstance(error, OSError) and error.errno is not None:
        return str(error.filename2 or error.filename or ""), error.errno
    if isinstance(error, sqlite3.OperationalError):
        number = {sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_READONLY: errno.EROFS}
        return ("", number[code]) if (code := error.sqlite_errorcode & 0xFF) in number else None
    if found := re.search(r"\bOs \{ code: (\d+)|\[?[Ee]rrno (\d+)\]?", str(error)):  # of safetensors, of Arrow
        return "", int(found[1] or found[2])
    return None
