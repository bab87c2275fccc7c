"""Engines: text in, text or its log-probability out. A recipe may name one of your own, see `base.EnginePlugin`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from lidr.config import Config, EngineConfig, OpenAIConfig, RayConfig, TransformersConfig, VllmConfig, is_remote
from lidr.engines.base import Completion, Engine, EnginePlugin, Request, Sampling, Scored, ScoreRequest
from lidr.plugins import calling

__all__ = [
    "ENGINES", "Completion", "Engine", "Request", "Sampling", "ScoreRequest", "Scored", "can_score", "open_engine",
    "open_model",
]  # fmt: skip


def _transformers(config: TransformersConfig, model: str, trust_remote_code: bool) -> Engine:
    from lidr.engines.transformers import TransformersEngine  # imports torch

    return TransformersEngine(Path(model), config, trust_remote_code=trust_remote_code)


def _vllm(config: VllmConfig, model: str, trust_remote_code: bool) -> Engine:
    from lidr.engines.vllm import VllmEngine

    return VllmEngine(Path(model), config, trust_remote_code=trust_remote_code)


def _openai(config: OpenAIConfig, model: str, trust_remote_code: bool) -> Engine:
    if config.batch:
        from lidr.engines.batches import BatchEngine

        return BatchEngine(model, config)
    from lidr.engines.openai import OpenAIEngine

    return OpenAIEngine(model, config)


def _ray(config: RayConfig, model: str, trust_remote_code: bool) -> Engine:
    from lidr.engines.ray import RayEngine

    return RayEngine(config, partial(ENGINES[config.worker.type], config.worker, model, trust_remote_code))


# type -> (settings, folder or served name of the model, trust_remote_code) -> engine
ENGINES: dict[str, Callable[[Any, str, bool], Engine]] = {
    "transformers": _transformers,
    "vllm": _vllm,
    "openai": _openai,
    "ray": _ray,
}


def can_score(config: EngineConfig) -> bool:
    """Whether an engine tells log-probabilities of given answers. Servers do not: their chat completions have none."""
    return config.can_score if isinstance(config, EnginePlugin) else not isinstance(config, OpenAIConfig)


@contextmanager
def open_model(config: EngineConfig, model: str, trust_remote_code: bool = False) -> Iterator[Engine]:
    """An engine with a model: a folder, or a server's name for it. Its memory is given back at the end."""
    if isinstance(config, EnginePlugin):
        with calling(config, "open"):
            engine = config.open(model, trust_remote_code)
    else:
        engine = ENGINES[config.type](config, model, trust_remote_code)
    try:
        yield engine
    finally:
        engine.close()


@contextmanager
def open_engine(config: Config, model_folder: Path) -> Iterator[Engine]:
    """The recipe's engine with M_t: the model of `model_folder`, or the served one that the recipe names."""
    model = config.model.path if is_remote(config.engine) else str(model_folder)
    with open_model(config.engine, model, config.model.trust_remote_code) as engine:
        yield engine
