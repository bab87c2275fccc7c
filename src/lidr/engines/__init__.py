"""Engines: text in, text or its log-probability out. Each is a plug-in; a recipe may name your own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lidr.config import Config
from lidr.engine_settings import EngineSettings
from lidr.engines.base import Completion, Engine, EnginePlugin, Request, Sampling, Scored, ScoreRequest, plugin_of
from lidr.plugins import calling

__all__ = [
    "Completion", "Engine", "EnginePlugin", "Request", "Sampling", "ScoreRequest", "Scored", "open_engine",
    "open_model", "plugin_of",
]  # fmt: skip


@contextmanager
def open_model(settings: EngineSettings, model: str, trust_remote_code: bool = False) -> Iterator[Engine]:
    """An engine with a model, which is a folder or a server's name for it. The engine is closed at the end."""
    with calling(settings, "open"):
        engine = plugin_of(settings).open(model, trust_remote_code)
    try:
        yield engine
    finally:
        engine.close()


@contextmanager
def open_engine(config: Config, model_folder: Path) -> Iterator[Engine]:
    """The recipe's engine with M_t: the model of `model_folder`, or the served model that the recipe names."""
    model = config.model.path if config.engine.server else str(model_folder)
    with open_model(config.engine, model, config.model.trust_remote_code) as engine:
        yield engine
