"""The outcomes of requests to a server: answers, refusals of single rows, and failures that concern all rows."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from typing import NoReturn, Protocol

from lidr.engines.base import Completion
from lidr.engines.openai import OpenAI
from lidr.errors import EngineError


class ServerEngine(Protocol):
    """An engine for a server. `answered` says whether the server has ever answered."""

    base_url: str
    answered: bool

    @property
    def config(self) -> OpenAI: ...

    def give_up(self, reason: str) -> NoReturn:
        """Raise EngineError for a reason that holds for every request."""
        ...


# The server and not the rows is at fault after so many failures in a row, or as many as there are open requests.
SAME_FAILURES = 5


class NoAnswer(Exception):
    """A request without an answer after all attempts, with the reason why the last one failed."""


class Refused(Exception):
    """A request that the server refuses, or whose answer it ended for an unknown reason."""

    def __init__(self, completion: Completion) -> None:
        super().__init__(completion.error)
        self.completion = completion


class Unreadable(Refused):
    """A request to which all replies were damaged."""


class Outcomes:
    """Distinguishes failures of single requests from failures of the server.

    Until the server has answered anything, refusals with the same reason are held back: `limit` of them mean a wrong
    configuration (for example a chat template without system turns). Damaged replies are held back until the next
    answer: `limit` of them in a row mean a fault of the server.
    """

    def __init__(self, engine: ServerEngine, limit: int) -> None:
        self.engine, self.limit = engine, limit
        self.refused: list[Completion] = []
        self.unreadable: list[Completion] = []
        self.lost = self.lost_in_a_row = 0
        self.last = ""

    def take(self, task: asyncio.Task[Completion]) -> Iterator[Completion]:
        """The completions that a finished task allows to yield. Raises EngineError as the engine's `generate` does."""
        try:
            completion = task.result()
        except NoAnswer as failure:
            self.lost, self.lost_in_a_row, self.last = self.lost + 1, self.lost_in_a_row + 1, str(failure)
            if self.lost_in_a_row >= self.limit:
                raise EngineError(f"{self.engine.base_url} does not answer any more: {self._failures()}") from None
        except Unreadable as failure:
            self.unreadable.append(failure.completion)
            self.lost_in_a_row += 1
            if self.lost_in_a_row >= self.limit:
                raise EngineError(
                    f"{self.engine.base_url} no longer sends answers: {self.lost_in_a_row} requests in a row got no "
                    f"usable reply (last: {failure}). Everything else is kept; run the same command again"
                ) from None
        except Refused as refusal:
            self.lost_in_a_row = 0
            self.refused.append(refusal.completion)
            if not self._concern_rows() and len(self.refused) >= self.limit:
                if refusal.completion.passing:
                    raise EngineError(
                        f"{self.engine.base_url}: {refusal}, the same for all of the first {self.limit} requests; "
                        "none of them has a complete answer"
                    ) from None
                self.engine.give_up(all_refused(str(refusal), self.limit))
        else:
            self.lost_in_a_row = 0
            yield completion
            yield from _released(self.unreadable)
        if self._concern_rows():
            yield from _released(self.refused)

    def end(self) -> Iterator[Completion]:
        """Yield what was held back. Raises EngineError if requests got no answer."""
        yield from _released(self.refused)
        yield from _released(self.unreadable)
        if self.lost:
            raise EngineError(f"{self.engine.base_url}: {self._failures()}")

    def _concern_rows(self) -> bool:
        """Whether the refusals are known to concern their rows."""
        return self.engine.answered or not same_words(self.refused)

    def _failures(self) -> str:
        attempts = self.engine.config.max_retries + 1
        return (
            f"{self.lost} request{'s' * (self.lost > 1)} got no answer after {attempts} attempt{'s' * (attempts > 1)} "
            f"(last: {self.last}). Everything else is kept; run the same command again"
        )


def _released(held: list[Completion]) -> Iterator[Completion]:
    while held:
        yield held.pop(0)


def same_words(refused: Collection[Completion]) -> bool:
    """Whether all these refusals have the same reason."""
    return len({completion.error for completion in refused}) <= 1


def all_refused(reason: str, count: int) -> str:
    """The message for a refusal of all of the first `count` requests, which is a fault of the configuration."""
    return (
        f"{reason} (the same for all of the first {count} requests; a model without system turns needs "
        "system_prompt: null)"
    )
