"""Checkpoints of a training: marked when they are complete, and checked before training continues from one.

The mark holds the size and hash of every file. A damaged checkpoint is thus found at the start, and the one before it
is used instead. Older versions wrote an empty mark; for their checkpoints the check is that the files can be read.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import xxhash

from lidr.config import TrainingConfig
from lidr.errors import ConfigError
from lidr.models.files import read_json, tensor_names
from lidr.storage import write_text

COMPLETE = "complete"  # the mark of a checkpoint whose last file has been written
_BLOCK = 2**24


def layout(training: TrainingConfig, processes: int) -> str:
    """The setup that can continue from a checkpoint: each process saves its own share of a sharded model."""
    if training.distributed in ("ddp", "fsdp2"):
        return training.distributed
    return f"{training.distributed} with {processes} processes"


def mark_complete(checkpoint: Path, written_as: str) -> None:
    """Mark a checkpoint after all of its files have been written."""
    files = {name: [(checkpoint / name).stat().st_size, _hash(checkpoint / name)] for name in _names(checkpoint)}
    write_text(checkpoint / COMPLETE, json.dumps({"layout": written_as, "files": files}) + "\n")


def last_checkpoint(
    folder: Path, wanted: str | None = None, say: Callable[[str], None] = lambda reason: None
) -> Path | None:
    """The newest checkpoint that is complete and undamaged, if any; `say` gets why newer ones are not used.

    `wanted` is a `layout`; None accepts any.
    """
    for checkpoint in reversed(_numbered(folder)):
        if (checkpoint / COMPLETE).is_file():
            reason = _why_not(checkpoint, wanted)
            if reason is None:
                return checkpoint
            say(f"{checkpoint} is not used: {reason}")
    return None


def forget_after(folder: Path, kept: Path | None) -> None:
    """Remove the checkpoints newer than the one that training continues from: they are damaged or not complete."""
    for checkpoint in _numbered(folder):
        if kept is None or step_of(checkpoint) > step_of(kept):
            shutil.rmtree(checkpoint, ignore_errors=True)


def step_of(checkpoint: Path) -> int:
    """The number of optimiser steps before the checkpoint."""
    return int(checkpoint.name.rpartition("-")[2])


def _numbered(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    return sorted(found, key=step_of)


def _names(checkpoint: Path) -> list[str]:
    files = sorted(file for file in checkpoint.rglob("*") if file.is_file())
    return [name for file in files if (name := file.relative_to(checkpoint).as_posix()) != COMPLETE]


def _why_not(checkpoint: Path, wanted: str | None) -> str | None:
    """Why training cannot continue from a checkpoint, or None if it can."""
    text = (checkpoint / COMPLETE).read_text(encoding="utf-8", errors="replace")
    if not text:
        return next((reason for name in _names(checkpoint) if (reason := _unreadable(checkpoint / name))), None)
    try:
        mark = json.loads(text)
        written_as, files = mark["layout"], {str(name): tuple(known) for name, known in mark["files"].items()}
    except (ValueError, LookupError, TypeError, AttributeError):
        return f"{COMPLETE} is damaged"
    if wanted is not None and written_as != wanted:
        return f"it was written with training.distributed {written_as}, and this training is {wanted}"
    for name, (size, hashed) in files.items():
        file = checkpoint / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes instead of {size}"
        if _hash(file) != hashed:
            return f"{name} is damaged"
    return None


def _hash(file: Path) -> str:
    """XXH3: it finds damage as surely as SHA-256 in a quarter of the time, and checkpoints are large."""
    hashed = xxhash.xxh3_128()
    with file.open("rb") as handle:
        while block := handle.read(_BLOCK):
            hashed.update(block)
    return hashed.hexdigest()


def _unreadable(file: Path) -> str | None:
    """What is wrong with a file whose hash is not known, by the checksums of its format."""
    try:
        if file.suffix == ".safetensors":
            tensor_names(file)
        elif file.suffix == ".json":
            read_json(file)
        elif file.suffix in (".pt", ".pth", ".bin"):  # torch.save writes a ZIP archive
            with zipfile.ZipFile(file) as archive:
                if damaged := archive.testzip():
                    return f"{file.name} is damaged ({damaged})"
    except (ConfigError, OSError, zipfile.BadZipFile):
        return f"{file.name} is damaged"
    return None
