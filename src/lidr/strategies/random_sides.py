"""The control: the pairs of another strategy, each with its sides drawn at random.

The texts, the gates and the tokens are the same, and only the preference is gone. If this improves a model, the reason
is not the reward.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from lidr.config import Config, StrategyConfig
from lidr.records import Json, content_id
from lidr.strategies.base import Answers, Candidate, Draws, Likelihood, Strategy


class RandomSides(Strategy):
    """The pairs of another strategy with chosen and rejected drawn at random."""

    of: StrategyConfig = Field(default="imbalance")  # type: ignore[assignment]
    """The strategy whose pairs they are."""

    @property
    def whose(self) -> Strategy:
        assert isinstance(self.of, Strategy)  # made by `lidr.plugins`
        return self.of

    @property
    def source(self) -> str | None:
        return self.of.source

    @property
    def file(self) -> Path | None:
        return self.of.file

    def candidates(self, answers: Answers, config: Config) -> Iterator[Candidate]:
        """A hash of the seed, the prompt's id and the sides' origins says which way up each pair is."""
        for found in self.whose.candidates(answers, config):
            drawn = content_id(config.seed, found.prompt_id, found.chosen.origin, found.rejected.origin)
            yield replace(found, swapped=int(drawn, 16) % 2 == 1)

    def meanings(self) -> dict[str, str]:
        return self.whose.meanings()

    def draws(self, config: Config) -> Draws:
        return self.whose.draws(config)

    def directions(self, config: Config) -> list[tuple[str, str]]:
        return self.whose.directions(config)

    def translations(self, answers: Answers, config: Config) -> list[tuple[str, str]]:
        return self.whose.translations(answers, config)

    def scorers(self, config: Config) -> list[str]:
        return self.whose.scorers(config)

    def scores(self, answers: Answers, config: Config) -> list[Likelihood]:
        return self.whose.scores(answers, config)

    def needs_initial(self, config: Config) -> bool:
        return self.whose.needs_initial(config)

    def planned(self, answers: Answers, config: Config) -> Iterator[tuple[str, str, str]]:
        return self.whose.planned(answers, config)

    def answers_in_words(self, config: Config) -> list[str]:
        return self.whose.answers_in_words(config)

    def chosen_in_words(self) -> str:
        return f"a random side of each pair of {self.of.type}"

    def rejected_in_words(self) -> str:
        return "the other side (the control)"

    def caveats(self, dominant: str) -> list[str]:
        return self.whose.caveats(dominant)

    def pairs_in_words(self, config: Config) -> list[str]:
        return [
            *self.whose.pairs_in_words(config),
            "exchange chosen and rejected in a random half of P   # the control",
        ]

    def translation_identity(self) -> Json | None:
        return self.whose.translation_identity()
