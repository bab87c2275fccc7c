"""Guided answers: the model answers in the other language with its own question and answer in the first one before it.

A weak model translates badly but solves well with the solution in front of it. In another strategy's pairs, every
translation is replaced by an answer to the prompt x^l, which the model gives after the turns x^d and y^d (and back, for
the dominant language's rejected side). Ours; a teacher that sees the English solution: arXiv 2605.09548.

l != d:  chosen the guided answer to x^l;  rejected y^l, the direct answer
d:       chosen y^d, the direct answer;    rejected the guided answer to x^d, after x^l and y^l
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lidr.config import Config
from lidr.errors import ConfigError
from lidr.records import Json
from lidr.strategies.base import Answers, Candidate
from lidr.strategies.translating import Translating
from lidr.strategies.wrapped import Wrapped


class Guided(Wrapped):
    """The pairs of another strategy with guided answers in place of its translations."""

    def translating(self, config: Config) -> Translating:
        found = self.whose.translating(config)
        if found.samples > 1:
            raise ConfigError(
                f"pairs.strategy {self.type}: {self.of.type} compares translations, and guided answers are none; "
                "leave one of the two out"
            )
        return replace(found, guided=True)

    def pair_identity(self) -> str | Json:
        """That of the other strategy: the files of guided answers are other files than those of translations."""
        return self.whose.pair_identity()

    def candidates(self, answers: Answers, config: Config) -> Iterator[Candidate]:
        return self.whose.candidates(answers, config)

    def chosen_in_words(self) -> str:
        return "the answers that it gives with its own answer in the dominant language before it"

    def caveats(self, dominant: str) -> list[str]:
        return [
            f"It learned from its own answers, which nobody has checked. What is wrong in the {dominant} answers was "
            "learned, too.",
            f"The preferred answers repeat those in {dominant} step by step: the other languages take over how they "
            f"are written, and names, customs and examples from where {dominant} is spoken.",
        ]
