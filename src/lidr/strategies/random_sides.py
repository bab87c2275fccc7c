"""The control: the pairs of `imbalance`, each with its sides drawn at random.

The texts, the gates and the tokens are the same, and only the preference is gone. What improves a model here was not
the reward.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lidr.config import Config
from lidr.records import content_id
from lidr.strategies.base import Answers, Candidate
from lidr.strategies.imbalance import Imbalance


class RandomSides(Imbalance):
    """The pairs of `imbalance` with chosen and rejected drawn at random."""

    def candidates(self, answers: Answers, config: Config) -> Iterator[Candidate]:
        """A hash of the seed, the prompt's id and the sides' origins says which way up each pair is."""
        for found in super().candidates(answers, config):
            drawn = content_id(config.seed, found.prompt_id, found.chosen.origin, found.rejected.origin)
            yield replace(found, swapped=int(drawn, 16) % 2 == 1)

    def rejected_in_words(self) -> str:
        return "its direct answers in a random half of the pairs, and the other way round in the rest (the control)"

    def pairs_in_words(self, config: Config) -> list[str]:
        return [*super().pairs_in_words(config), "exchange chosen and rejected in a random half of P   # the control"]
