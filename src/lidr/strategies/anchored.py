"""Anchored rejection: the rejected side stays M_0's, in every iteration.

In LIDR both sides come from the model that is trained, so that the rejected side improves along with the chosen one
and the signal fades. Here what is rejected is what the base model answers (arXiv 2508.06026). The first iteration is
the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lidr.config import Config
from lidr.strategies.base import Answers, Candidate, rejected
from lidr.strategies.wrapped import Wrapped


class Anchored(Wrapped):
    """The pairs of another strategy whose rejected side is M_0's own answer in the language."""

    def needs_initial(self, config: Config) -> bool:
        return True

    def candidates(self, answers: Answers, config: Config) -> Iterator[Candidate]:
        """Sides that the model has answered directly; a rejected translation stays as it is."""
        first = replace(answers, responses=answers.initial)
        for found in self.whose.candidates(answers, config):
            side = found.rejected
            if side.origin == found.language and side.text is not None and found.language in first.responses:
                found = replace(found, rejected=rejected(first, found.language, config))
            yield found

    def rejected_in_words(self) -> str:
        return "the base model's answers"

    def pairs_in_words(self, config: Config) -> list[str]:
        return [
            *self.whose.pairs_in_words(config),
            "replace every rejected direct answer y[i, l] in P by M[0](x[i, l])",
        ]
