"""What became of requests to a server: answers, refusals of single rows, and failures that are about all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from typing import NoReturn, Protocol

from lidr.engines.base import Completion
from lidr.engines.openai import OpenAI
from lidr.errors import EngineError


class ServerEngine(Protocol):
    """What is asked: an engine for servers. `answered` says whether there ever was an answer."""

    base_url: str
    answered: bool

    @property
    def config(self) -> OpenAI: ...

    def give_up(self, reason: str) -> NoReturn:
        """Raise EngineError for what holds for every request."""
        ...


# This many failures in a row, or as many as requests are under way, are the server's fault and no longer the rows'.
SAME_FAILURES = 5


class NoAnswer(Exception):
    """A request without an answer after all attempts; says why the last one failed."""


class Refused(Exception):
    """A request that the server will not take, or whose answer it ended for a reason that is unknown."""

    def __init__(self, completion: Completion) -> None:
        super().__init__(completion.error)
        self.completion = completion


class Unreadable(Refused):
    """A request to which every reply was damaged."""


class Outcomes:
    """Tells failures of single requests from one of the server, by the company in which they come.

    Until the server has answered anything, refusals in the same words are held back: if there are `limit` of them,
    they are about the configuration (a chat template that takes no system turn, for example). Damaged replies are held
    back until the next answer: `limit` of them in a row are about the server.
    """

    def __init__(self, engine: ServerEngine, limit: int) -> None:
        self.engine, self.limit = engine, limit
        self.refused: list[Completion] = []
        self.unreadable: list[Completion] = []
        self.lost = self.lost_in_a_row = 0
        self.last = ""

    def take(self, task: asyncio.Task[Completion]) -> Iterator[Completion]:
        """What can be yielded now that this task has finished. Raises EngineError as the engine's `generate` does."""
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
                    f"{self.engine.base_url} sends no answers any more: {self.lost_in_a_row} requests in a row got no "
                    f"usable reply (last: {failure}). Everything else is kept; run the same command again"
                ) from None
        except Refused as refusal:
            self.lost_in_a_row = 0
            self.refused.append(refusal.completion)
            if not self._told_apart() and len(self.refused) >= self.limit:
                if refusal.completion.passing:
                    raise EngineError(
                        f"{self.engine.base_url}: {refusal}, the same for all of the first {self.limit} requests; "
                        "there is no whole answer among them"
                    ) from None
                self.engine.give_up(all_refused(str(refusal), self.limit))
        else:
            self.lost_in_a_row = 0
            yield completion
            yield from _released(self.unreadable)
        if self._told_apart():
            yield from _released(self.refused)

    def end(self) -> Iterator[Completion]:
        """What was held back; then EngineError if requests got no answer."""
        yield from _released(self.refused)
        yield from _released(self.unreadable)
        if self.lost:
            raise EngineError(f"{self.engine.base_url}: {self._failures()}")

    def _told_apart(self) -> bool:
        """Whether the refusals are known to be about their rows."""
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
    """Whether all these refusals give one and the same reason."""
    return len({completion.error for completion in refused}) <= 1


def all_refused(reason: str, count: int) -> str:
    """The reason why the first `count` requests were refused, as a fault of the configuration."""
    return (
        f"{reason} (the same for all of the first {count} requests; a model without system turns needs "
        "system_prompt: null)"
    )
