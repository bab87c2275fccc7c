"""What a run knows of its engine without opening it: where the models are, and which settings change the answers."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from lidr.plugins import Plugin
from lidr.records import Json


class EngineSettings(Plugin):
    """The engine's section of a recipe. `lidr.engines.base.EnginePlugin` adds what opens it and what it needs."""

    kind: ClassVar[str] = "engines"

    @property
    def server(self) -> Json | None:
        """`base_url` and `extra_body` of a server that takes a model's name; None if models are local folders."""
        return None

    @abstractmethod
    def open(self, model: str, trust_remote_code: bool) -> object:
        """The engine with a model, see `lidr.engines.base.EnginePlugin`."""

    def torch_device(self) -> str:
        """The device of the model's weights, also in training: `auto` or a torch device."""
        return "auto"

    def identity(self) -> Json:
        """What changes a model's answers, besides its weights and the decoding."""
        return {"engine": self.defining()}

    @property
    def discount(self) -> float:
        """The factor by which its prices are multiplied."""
        return 1.0

    def usd(self, read: float, written: float) -> float | None:
        """The price of so many tokens; None if it is not known."""
        return 0.0

    def check_trainable(self) -> None:
        """Raise ValueError if a model that answers through it cannot be trained."""


def engine_identity(engine: EngineSettings) -> Json:
    """`EngineSettings.identity` without empty values."""
    return {name: value for name, value in engine.identity().items() if value}
