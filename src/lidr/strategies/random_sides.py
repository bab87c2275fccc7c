"""The control: the pairs of another strategy, each with its sides drawn at random.

The texts, the gates and the tokens are the same, and only the preference is gone. If this improves a model, the reason
is not the reward.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lidr.config import Config
from lidr.records import content_id
from lidr.strategies.base import Answers, Candidate
from lidr.strategies.wrapped import Wrapped


class RandomSides(Wrapped):
    """The pairs of another strategy with chosen and rejected drawn at random."""

    def candidates(self, answers: Answers, config: Config) -> Iterator[Candidate]:
        """A hash of the seed, the prompt's id and the sides' origins says which way up each pair is."""
        for found in self.whose.candidates(answers, config):
            drawn = content_id(config.seed, found.prompt_id, found.chosen.origin, found.rejected.origin)
            yield replace(found, swapped=int(drawn, 16) % 2 == 1)

    def chosen_in_words(self) -> str:
        return f"a random side of each pair of {self.of.type}"

    def rejected_in_words(self) -> str:
        return "the other side (the control)"

    def pairs_in_words(self, config: Config) -> list[str]:
        return [
            *self.whose.pairs_in_words(config),
            "exchange chosen and rejected in a random half of P   # the control",
        ]
