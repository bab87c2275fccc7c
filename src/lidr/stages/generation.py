"""What the generating steps share: ask an engine for the rows that are still owed and keep each as it finishes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, cast

from lidr.config import Config, DecodingConfig
from lidr.engines.base import Completion, Engine, Request, Sampling, Scored, ScoreRequest, ScoringEngine
from lidr.errors import RunError
from lidr.progress_bar import track
from lidr.records import Json, Row
from lidr.seals import RowFile

# Increase it with every change to the code that changes the text made from the same inputs.
FORMAT = 2


def sampling_of(config: Config, decoding: DecodingConfig, stop: tuple[str, ...] = ()) -> Sampling:
    """The recipe's decoding as an engine takes it."""
    return Sampling(
        max_new_tokens=decoding.max_new_tokens,
        temperature=decoding.temperature,
        top_p=decoding.top_p,
        repetition_penalty=decoding.repetition_penalty,
        stop=stop,
        seed=config.seed,
    )


def chat(config: Config, text: str) -> tuple[tuple[str, str], ...]:
    """One user turn, after the recipe's system prompt."""
    system = (("system", config.system_prompt),) if config.system_prompt else ()
    return (*system, ("user", text))


@dataclass(eq=False)
class Part:
    """One file of a stage, which is to have one row per request, and what this attempt added to it.

    `requests` yields the full list on every call. `to_row` makes the kept fields of a completion; an `error` or a
    `failure` among them means that it failed. `log` gets the seconds, rows, tokens and failures of the attempt. `rows`
    are what the file is sealed with once it is complete; without them the caller seals it. `requests_of` yields those
    that are decoded in one way, for a queue with several.
    """

    file: RowFile
    requests: Callable[[], Iterable[Request | ScoreRequest]]
    to_row: Callable[[Any], Mapping[str, object]]  # of its Completion, or Scored
    log: Callable[[Json], None]
    rows: Callable[[], Iterable[Row]] | None = None
    requests_of: Callable[[Sampling], Iterable[Request]] | None = None
    total: int = 0
    added: int = 0
    tokens: int = 0
    failed: int = 0

    def open(self) -> None:
        self.file.open(self._ids())

    def _ids(self) -> Iterator[str]:
        for request in self.requests():
            self.total += 1
            yield request.request_id

    @property
    def missing(self) -> int:
        return self.total - len(self.file)

    def keep(self, completion: Completion | Scored) -> bool:
        """Append the row of a completion; returns whether it failed."""
        row = self.to_row(completion)
        self.file.append(completion.request_id, row)
        failed = bool(row.get("error") or row.get("failure"))
        self.added += 1
        self.tokens += completion.completion_tokens
        self.failed += failed
        return failed

    def end(self, seconds: float) -> None:
        """Log what was done and seal the file."""
        done = {"rows": self.added, "tokens": self.tokens, "failed": self.failed}
        self.log({"seconds": round(seconds, 3), **done})
        if self.rows:
            self.file.seal(self.rows())


class _Kept(Collection[str]):
    """The ids of all rows that the parts of a queue have."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.files = [part.file for part in parts]

    def __contains__(self, row_id: object) -> bool:
        return any(row_id in file for file in self.files)

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self.files)

    def __len__(self) -> int:
        return sum(map(len, self.files))


def fill(
    parts: Sequence[Part], engine: Callable[[], Engine], sampling: Sampling | Sequence[Sampling] | None, title: str
) -> None:
    """Bring the file of every part to one row per request: a completion or, without `sampling`, a score.

    All parts are one queue of the engine, which therefore runs empty only once: the next language takes the slots that
    one leaves free. Several samplings are a queue each. The time is shared out by the parts' tokens. The engine is
    opened only if a row is owed.
    """
    for part in parts:
        part.open()
    # Files that were complete for other inputs are left out: their rows would be decoded along with those still owed.
    queued = [part for part in parts if part.missing or not part.file.reopened]
    for part in parts:
        if part not in queued:
            part.end(0.0)
    total, kept = sum(part.total for part in queued), _Kept(queued)
    with track(title, total, kept=len(kept)) as progress:
        if len(kept) < total:
            for completion in _answers(engine(), queued, sampling, kept):
                part = _part_of(queued, completion.request_id)
                if completion.request_id not in part.file:
                    progress.advance(tokens=completion.completion_tokens, dropped=part.keep(completion))
        seconds = progress.seconds  # without those of sealing, which may be long on a slow disk
    for part in queued:
        if part.missing:
            raise RunError(
                f"{part.file.path}: the engine ended with {part.missing} of {part.total} answers missing; run again"
            )
    for part in queued:
        part.end(seconds * _share(part, queued))


def _answers(
    engine: Engine, parts: Sequence[Part], sampling: Sampling | Sequence[Sampling] | None, kept: Collection[str]
) -> Iterator[Completion | Scored]:
    everything: Iterator[Any] = chain.from_iterable(part.requests() for part in parts)
    if sampling is None:
        yield from cast(ScoringEngine, engine).score(everything, kept)
    elif isinstance(sampling, Sampling):
        yield from engine.generate(everything, sampling, kept)
    else:
        for way in sampling:
            queue = (part.requests_of(way) for part in parts if part.requests_of)
            yield from engine.generate(chain.from_iterable(queue), way, kept)


def _part_of(parts: Sequence[Part], row_id: str) -> Part:
    """Raises ValueError for an id that no file owes."""
    found = next((part for part in parts if part.file.owes(row_id)), None)
    if found is None:
        raise ValueError(f"{parts[0].file.path.parent}: row {row_id!r} is not owed")
    return found


def _share(part: Part, parts: Sequence[Part]) -> float:
    """A part's share of the time of a queue: of its tokens, or of its rows if no tokens were counted."""
    tokens, rows = sum(each.tokens for each in parts), sum(each.added for each in parts)
    if tokens:
        return part.tokens / tokens
    return part.added / rows if rows else 1 / len(parts)
