"""What runs of the same seed have in common is made once: rows whose ids are asked for are taken from the others.

An id is a hash of everything that defines an answer, so a row of another run is the very row that this one would make.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from lidr import loop
from lidr.config import Config
from lidr.errors import ConfigError, ReplaceError
from lidr.preflight import check_owed
from lidr.replacing import Say, open_run
from lidr.run_dir import RunDir
from lidr.seals import RowFile, check_sealed, read_seal
from lidr.stages import responses, scores, translations
from lidr.storage import partial_path
from lidr.strategies.base import strategy_of


def open_entry(config: Config, path: Path, say: Say) -> RunDir:
    """Begin a run of the arena or go on with it. Raises ConfigError if that would replace finished work."""
    try:
        return open_run(config, path, say)
    except ReplaceError as error:
        shown = "\n".join(str(error).splitlines()[:-1])
        raise ConfigError(f"{shown}\nUndo the change, delete {path}, or begin another arena (--out)") from None


def generate(config: Config, run: RunDir, others: Sequence[RunDir]) -> None:
    """The first iteration up to its scores, with what `others` of the same seed have already."""
    with run.lock() as lock:
        check_owed(config, run)
        for stage in ("prompts", "responses", "translations", "scores"):
            if stage in TAKE:
                TAKE[stage](config, run, others)
            loop.step(stage, config, run, 1, lock)


def _responses(config: Config, run: RunDir, others: Sequence[RunDir]) -> None:
    for code in config.languages:
        found = [other.responses(1, code) for other in others]
        RowFile(run.responses(1, code), {}).take(responses.asked_ids(config, run, 1, code), found)


def _translations(config: Config, run: RunDir, others: Sequence[RunDir]) -> None:
    for source, target in strategy_of(config).directions(config):
        found = [other.translations(1, source, target) for other in others]
        owed = translations.asked_ids(config, run, 1, source, target)
        RowFile(run.translations(1, source, target), {}).take(owed, found)


def _scores(config: Config, run: RunDir, others: Sequence[RunDir]) -> None:
    for path in set(scores.files(config, run, 1).values()):
        found = [other.scores(1, path.stem) for other in others]
        RowFile(path, {}).take(scores.asked_ids(config, run, 1, path.stem), found)


# What a stage of the first iteration takes from other runs, before it makes the rest.
TAKE: dict[str, Callable[[Config, RunDir, Sequence[RunDir]], None]] = {
    "responses": _responses,
    "translations": _translations,
    "scores": _scores,
}


def take_evaluation(run: RunDir, others: Sequence[RunDir]) -> None:
    """M_0's answers to the benchmarks, which any run of the seed has made alike, and what the judge has said of them.

    Raises DamagedError if one of the files differs from its seal.
    """
    for other in others:
        for path in sorted(other.iteration(0).glob("6_evaluation/*/answers/*.jsonl")):
            target = run.path / path.relative_to(other.path)
            if read_seal(path) and not target.exists() and not partial_path(target).exists():
                check_sealed(path)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, partial_path(target))
        if other.judge_replies.exists() and not run.judge_replies.exists():
            with (
                closing(sqlite3.connect(other.judge_replies)) as old,
                closing(sqlite3.connect(run.judge_replies)) as new,
            ):
                old.backup(new)
