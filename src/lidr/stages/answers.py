"""Joins what is known of a prompt: prompts, responses, translations and scores, one id at a time.

The files of an iteration hold their rows in the order of the prompts, some with gaps, so one pass with a cursor per
file is enough and memory does not grow with the number of prompts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from lidr.config import Config
from lidr.errors import RunError
from lidr.records import Json, Response, Score, Translation
from lidr.run_dir import RunDir
from lidr.seals import read_rows
from lidr.stages.prompts import read_groups
from lidr.strategies.base import Answers, Likelihood


class _Cursor:
    """Reads a file of rows that are in the order of the prompts."""

    def __init__(self, path: Path) -> None:
        self.path, self._rows = path, read_rows(path)
        self._next = next(self._rows, None)

    def take(self, prompt_id: str) -> list[Json]:
        """The rows of this prompt: one per sample, or none."""
        found = []
        while self._next is not None and self._next["prompt_id"] == prompt_id:
            found.append(self._next)
            self._next = next(self._rows, None)
        return found

    def check_exhausted(self) -> None:
        if self._next is not None:
            raise RunError(
                f"{self.path}: row of prompt {self._next['prompt_id']!r} belongs to no prompt; delete the file"
            )


def read_answers(
    config: Config,
    run_dir: RunDir,
    iteration: int,
    responses: Iterable[str],
    translations: Iterable[tuple[str, str]] = (),
    scores: Mapping[str, Path] | None = None,
    with_initial: bool = False,
) -> Iterator[Answers]:
    """One `Answers` per prompt, with the responses of these languages and the translations of these directions.

    `scores` has the file of every model by the strategy's name for it. With `with_initial`, iteration 1 is read as
    well, whose responses are M_0's.
    """
    languages = list(responses)
    by_language = {code: _Cursor(run_dir.responses(iteration, code)) for code in languages}
    by_direction = {pair: _Cursor(run_dir.translations(iteration, *pair)) for pair in translations}
    by_model = {name: _Cursor(path) for name, path in (scores or {}).items()}
    initial = {code: _Cursor(run_dir.responses(1, code)) for code in languages if with_initial}
    for position, prompts in enumerate(read_groups(run_dir, iteration)):
        prompt_id = next(iter(prompts.values())).prompt_id
        answered = {code: rows for code, cursor in by_language.items() if (rows := cursor.take(prompt_id))}
        turned = {pair: rows for pair, cursor in by_direction.items() if (rows := cursor.take(prompt_id))}
        first = {code: cursor.take(prompt_id) for code, cursor in initial.items()}
        yield Answers(
            position,
            prompt_id,
            prompts,
            {code: [Response.from_dict(row) for row in rows] for code, rows in answered.items()},
            {pair: Translation.from_dict(rows[0]) for pair, rows in turned.items()},
            {
                Likelihood(name, score.given, score.origin, score.sample): score
                for name, cursor in by_model.items()
                for score in map(Score.from_dict, cursor.take(prompt_id))
            },
            {code: [Response.from_dict(row) for row in rows] for code, rows in first.items() if rows},
            {pair: [Translation.from_dict(row) for row in rows[1:]] for pair, rows in turned.items() if rows[1:]},
        )
    for cursor in (*by_language.values(), *by_direction.values(), *by_model.values(), *initial.values()):
        cursor.check_exhausted()
