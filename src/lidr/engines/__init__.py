"""Engines: text in, text out. A new engine is one file here and one line in ENGINES."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lidr.config import Config
from lidr.engines.base import Completion, Engine, Request, Sampling

__all__ = ["ENGINES", "Completion", "Engine", "Request", "Sampling", "open_engine"]


def _transformers(config: Config, model_folder: Path) -> Engine:
    from lidr.engines.transformers import TransformersEngine  # imports torch

    return TransformersEngine(model_folder, config.engine, trust_remote_code=config.model.trust_remote_code)


ENGINES: dict[str, Callable[[Config, Path], Engine]] = {"transformers": _transformers}


@contextmanager
def open_engine(config: Config, model_folder: Path) -> Iterator[Engine]:
    """The recipe's engine with the model of `model_folder`; its memory is given back at the end."""
    engine = ENGINES[config.engine.type](config, model_folder)
    try:
        yield engine
    finally:
        engine.close()
