"""What became of requests to a server: answers, refusals of single rows, and failures that are about all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from lidr.engines.base import Completion, Request
from lidr.engines.protocol import error_completion
from lidr.errors import EngineError

if TYPE_CHECKING:
    from lidr.engines.openai import OpenAIEngine


# This many failures in a row, or as many as requests are under way, are the server's fault and no longer the rows'.
SAME_FAILURES = 5


class NoAnswer(Exception):
    """A request without an answer after all attempts; says why the last one failed."""


class Refused(Exception):
    """A request that the server will not take."""

    def __init__(self, request: Request, reason: str) -> None:
        super().__init__(reason)
        self.completion = error_completion(request.request_id, reason)


class Outcomes:
    """Tells failures of single requests from one of the server, by the company in which they come.

    Until the server has answered anything, refusals in the same words are held back: where there are `limit` of them,
    they are about the configuration (a chat template that takes no system turn, for example).
    """

    def __init__(self, engine: OpenAIEngine, limit: int) -> None:
        self.engine, self.limit = engine, limit
        self.refused: list[Completion] = []
        self.lost = self.lost_in_a_row = 0
        self.last = ""

    def take(self, task: asyncio.Task[Completion]) -> Iterator[Completion]:
        """What can be yielded now that this task has finished. Raises EngineError as `OpenAIEngine.generate` does."""
        try:
            completion = task.result()
        except NoAnswer as failure:
            self.lost, self.lost_in_a_row, self.last = self.lost + 1, self.lost_in_a_row + 1, str(failure)
            if self.lost_in_a_row >= self.limit:
                raise EngineError(f"{self.engine.base_url} does not answer any more: {self._failures()}") from None
        except Refused as refusal:
            self.lost_in_a_row = 0
            self.refused.append(refusal.completion)
            if not self._told_apart() and len(self.refused) >= self.limit:
                self.engine.give_up(all_refused(str(refusal), self.limit))
        else:
            self.lost_in_a_row = 0
            yield completion
        if self._told_apart():
            yield from self._release()

    def end(self) -> Iterator[Completion]:
        """What was held back; then EngineError where requests got no answer."""
        yield from self._release()
        if self.lost:
            raise EngineError(f"{self.engine.base_url}: {self._failures()}")

    def _told_apart(self) -> bool:
        """Whether the refusals are known to be about their rows."""
        return self.engine.answered or not same_words(self.refused)

    def _release(self) -> Iterator[Completion]:
        held, self.refused = self.refused, []
        yield from held

    def _failures(self) -> str:
        attempts = self.engine.config.max_retries + 1
        return (
            f"{self.lost} request{'s' * (self.lost > 1)} got no answer after {attempts} attempt{'s' * (attempts > 1)} "
            f"(last: {self.last}). Everything else is kept; run the same command again"
        )


def same_words(refused: Collection[Completion]) -> bool:
    """Whether all these refusals give one and the same reason."""
    return len({completion.error for completion in refused}) <= 1


def all_refused(reason: str, count: int) -> str:
    """The reason why the first `count` requests were refused, as a fault of the configuration."""
    return (
        f"{reason} (the same for all of the first {count} requests; a model without system turns needs "
        "system_prompt: null)"
    )
