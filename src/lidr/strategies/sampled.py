"""A strategy whose two sides are the model's own samples in the prompt's language."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated

from pydantic import Field

from lidr.config import Config
from lidr.strategies.base import Answers, Candidate, Draws, Side, Strategy


class Sampled(Strategy):
    """Its settings, and what it costs; `candidates` is left to the class that is made of it."""

    samples: Annotated[int, Field(ge=2, le=1024)] = 4
    """Answers to each prompt in each language."""
    temperature: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    """They are drawn at this temperature."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus sampling; 1 is off."""

    def draws(self, config: Config) -> Draws:
        drawn = {"temperature": self.temperature, "top_p": self.top_p}
        return Draws(self.samples, config.responses.model_copy(update=drawn))

    def planned(self, answers: Answers, config: Config) -> Iterator[tuple[str, ...]]:
        yield from ((code, code, code) for code in taught(config) if code in answers.prompts)


def per_language(answers: Answers, config: Config, sides: Callable[[str], tuple[Side, Side]]) -> Iterator[Candidate]:
    """One candidate for each language that gets pairs, with the two sides that `sides` finds in it."""
    for code in taught(config):
        kind = "dominant" if code == config.dominant else "non_dominant"
        yield Candidate(answers.prompt_id, code, kind, answers.prompts.get(code), *sides(code))


def taught(config: Config) -> list[str]:
    """The languages that get pairs: without the dominant one if `pairs.dominant_rejected` is `none`."""
    return [code for code in config.languages if code != config.dominant or config.pairs.dominant_rejected != "none"]
