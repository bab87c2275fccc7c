"""A mixture: every prompt goes to one of several strategies, drawn by weight.

Strategies teach different things: one to answer, another to translate or to stay in one language. A mixture costs the
weighted mean of its parts, since only what a prompt's own strategy needs is generated for it; each is drawn by the
seed and the prompt's id, so it stays the same in every iteration.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from lidr.config import Config, StrategyConfig
from lidr.records import Json, content_id
from lidr.settings import PositiveFloat, Section
from lidr.strategies.base import Answers, Candidate, Likelihood, Strategy


class Share(Section):
    """A strategy and its weight."""

    strategy: StrategyConfig
    """A strategy, by its name or with settings."""
    weight: PositiveFloat
    """A prompt goes to it with this share of the sum of all weights."""

    @property
    def whose(self) -> Strategy:
        assert isinstance(self.strategy, Strategy)  # made by `lidr.plugins`
        return self.strategy


def _shares(value: object) -> object:
    """`{imbalance: 0.7, confusion: 0.3}` as a list of shares."""
    if not isinstance(value, dict):
        return value
    return [{"strategy": name, "weight": weight} for name, weight in value.items()]


class Mixture(Strategy):
    """Each prompt's pairs are those of one of several strategies."""

    of: Annotated[list[Share], BeforeValidator(_shares), Field(min_length=2)]
    """Strategies by weight, `{imbalance: 0.7, confusion: 0.3}`; with settings of their own a list,
    `[{strategy: {type: confusion, samples: 6}, weight: 0.3}, ...]`."""

    @model_validator(mode="after")
    def _flat(self) -> Mixture:
        if any(len(share.whose.parts()) > 1 for share in self.of):
            raise ValueError("a mixture inside a mixture; give the strategies of both in one list")
        return self

    def parts(self) -> list[Strategy]:
        return [share.whose for share in self.of]

    def part_of(self, prompt_id: str, config: Config) -> int:
        ends = list(accumulate(share.weight for share in self.of))
        drawn = int(content_id("mixture", config.seed, prompt_id), 16) / 2**64  # from 0 to 1
        return min(bisect_right(ends, drawn * ends[-1]), len(ends) - 1)

    def _whose(self, answers: Answers, config: Config) -> Strategy:
        return self.of[self.part_of(answers.prompt_id, config)].whose

    @property
    def source(self) -> str | None:
        found = [part.source for part in self.parts() if part.source]
        return content_id(*found) if found else None

    @property
    def python_files(self) -> list[Path]:
        return list(dict.fromkeys(file for part in self.parts() for file in part.python_files))

    def meanings(self) -> dict[str, str]:
        return {reason: meaning for part in self.parts() for reason, meaning in part.meanings().items()}

    def directions(self, config: Config) -> list[tuple[str, str]]:
        return list(dict.fromkeys(pair for part in self.parts() for pair in part.directions(config)))

    def translations(self, answers: Answers, config: Config) -> list[tuple[str, str]]:
        return self._whose(answers, config).translations(answers, config)

    def translated_sample(self, answers: Answers, source: str, config: Config) -> int:
        return self._whose(answers, config).translated_sample(answers, source, config)

    def scorers(self, config: Config) -> list[str]:
        return list(dict.fromkeys(model for part in self.parts() for model in part.scorers(config)))

    def scores(self, answers: Answers, config: Config) -> list[Likelihood]:
        return self._whose(answers, config).scores(answers, config)

    def needs_initial(self, config: Config) -> bool:
        return any(part.needs_initial(config) for part in self.parts())

    def candidates(self, answers: Answers, config: Config) -> Iterator[Candidate]:
        return self._whose(answers, config).candidates(answers, config)

    def planned(self, answers: Answers, config: Config) -> Iterator[tuple[str, ...]]:
        return self._whose(answers, config).planned(answers, config)

    def translation_identity(self) -> Json | None:
        return self.defining()

    def answers_in_words(self, config: Config) -> list[str]:
        weights = ", ".join(f"{share:.3g}" for share in self._shares_of_one())
        lines = [f"s[i] <- 1 ... {len(self.of)} with probability {weights}   for every i, by its id"]
        for number, part in enumerate(self.parts(), 1):
            lines += [f"for the i with s[i] = {number}:   # {part.type}"]
            lines += [f"    {line}" for line in part.answers_in_words(config)]
        return lines

    def _shares_of_one(self) -> list[float]:
        total = sum(share.weight for share in self.of)
        return [share.weight / total for share in self.of]

    def chosen_in_words(self) -> str:
        return self._in_words([part.chosen_in_words() for part in self.parts()])

    def rejected_in_words(self) -> str:
        return self._in_words([part.rejected_in_words() for part in self.parts()])

    def _in_words(self, said: list[str]) -> str:
        shares = zip(said, self._shares_of_one(), strict=True)
        return " or ".join(f"{text} ({share:.0%} of the prompts)" for text, share in shares)

    def caveats(self, dominant: str) -> list[str]:
        return list(dict.fromkeys(said for part in self.parts() for said in part.caveats(dominant)))

    def pairs_in_words(self, config: Config) -> list[str]:
        lines = ["P <- all pairs of these:"]
        for number, part in enumerate(self.parts(), 1):
            lines += [f"for the i with s[i] = {number}:   # {part.type}"]
            lines += [f"    {line}" for line in part.pairs_in_words(config)]
        return lines
