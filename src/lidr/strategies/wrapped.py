"""A strategy made of another one: what it does not change is the other's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from lidr.config import Config, StrategyConfig
from lidr.records import Json
from lidr.strategies.base import Answers, Draws, Likelihood, Strategy
from lidr.strategies.translating import Translating


class Wrapped(Strategy):
    """Asks for what the other strategy asks for; `candidates` is left to the class that is made of it."""

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
    def python_files(self) -> list[Path]:
        return self.of.python_files

    def parts(self) -> list[Strategy]:
        return [self.model_copy(update={"of": part}) for part in self.whose.parts()]

    def part_of(self, prompt_id: str, config: Config) -> int:
        return self.whose.part_of(prompt_id, config)

    def meanings(self) -> dict[str, str]:
        return self.reasons | self.whose.meanings()

    def draws(self, config: Config) -> Draws:
        return self.whose.draws(config)

    def translating(self, config: Config) -> Translating:
        return self.whose.translating(config)

    def directions(self, config: Config) -> list[tuple[str, str]]:
        return self.whose.directions(config)

    def translations(self, answers: Answers, config: Config) -> list[tuple[str, str]]:
        return self.whose.translations(answers, config)

    def translated_sample(self, answers: Answers, source: str, config: Config) -> int:
        return self.whose.translated_sample(answers, source, config)

    def scorers(self, config: Config) -> list[str]:
        return self.whose.scorers(config)

    def scores(self, answers: Answers, config: Config) -> list[Likelihood]:
        return self.whose.scores(answers, config)

    def needs_initial(self, config: Config) -> bool:
        return self.whose.needs_initial(config)

    def planned(self, answers: Answers, config: Config) -> Iterator[tuple[str, ...]]:
        return self.whose.planned(answers, config)

    def answers_in_words(self, config: Config) -> list[str]:
        return self.whose.answers_in_words(config)

    def chosen_in_words(self) -> str:
        return self.whose.chosen_in_words()

    def rejected_in_words(self) -> str:
        return self.whose.rejected_in_words()

    def caveats(self, dominant: str) -> list[str]:
        return self.whose.caveats(dominant)

    def pairs_in_words(self, config: Config) -> list[str]:
        return self.whose.pairs_in_words(config)

    def translation_identity(self) -> Json | None:
        return self.whose.translation_identity()
