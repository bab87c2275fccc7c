"""The embedded laboratories: small worlds in six languages, and small models with uneven knowledge of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from lidr.records import Prompt

MODEL_PATH = Path(__file__).parent / "model"
MODEL_PATHS = {"lab": MODEL_PATH, "lab-hard": MODEL_PATH.with_name("model_hard")}
"""The folder of each laboratory's model, by the name that recipes use."""


class World(Protocol):
    """What the modules `world` and `hard` have in common."""

    LANGUAGES: tuple[str, ...]

    def training_prompts(self, languages: Sequence[str], *, seed: int) -> Iterator[Prompt]: ...

    def held_out_prompts(self, languages: Sequence[str], *, seed: int) -> Iterator[Prompt]: ...

    def fact_of_prompt(self, prompt_id: str) -> str | None: ...


def read_world(laboratory: str) -> World:
    """The world of a laboratory."""
    from lidr.lab import hard, world

    return {"lab": world, "lab-hard": hard}[laboratory]
