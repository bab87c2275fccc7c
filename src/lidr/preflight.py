"""What a run would stumble over later, looked for before anything is spent: devices, packages, commands, files."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from importlib.util import find_spec

from lidr.config import (
    HARNESS,
    Config,
    EngineConfig,
    LoraSection,
    OpenAIConfig,
    RayConfig,
    TransformersConfig,
    VllmConfig,
    is_remote,
)
from lidr.engines.base import EnginePlugin
from lidr.engines.serving import check_command
from lidr.errors import ConfigError
from lidr.run_dir import RunDir
from lidr.stages import evaluation, scores
from lidr.status import run_status
from lidr.yaml_input import read_mapping


def check_owed(config: Config, run_dir: RunDir) -> None:
    """Raises what `check` raises, if the run owes anything."""
    if any(state != "done" for _, _, state, _ in run_status(config, run_dir)):
        check(config, run_dir)


def check(config: Config, run_dir: RunDir) -> None:
    """Look at everything that the recipe needs and that is cheap to look at.

    Raises ConfigError for a device, a package, a command or a module that is not there and for a chat template that
    cannot be trained with, DataError for a file of a benchmark that cannot be read.
    """
    for field, engine in _engines(config):
        _check_engine(field, engine)
    if config.iterations:
        _check_training(config)
        scores.check(config)
    if any(getattr(config.evaluation.benchmarks, name) for name in HARNESS):
        _need_package("lm_eval", "evaluation.benchmarks: lm-evaluation-harness", "harness")
    evaluation.check(config, run_dir)


def _engines(config: Config) -> Iterator[tuple[str, EngineConfig]]:
    yield "engine", config.engine
    if config.evaluation.judge:
        yield "evaluation.judge.engine", config.evaluation.judge.engine


def _check_engine(field: str, engine: EngineConfig) -> None:
    if isinstance(engine, RayConfig):
        _need_package("ray", f"{field}.type ray", "ray")
        if isinstance(engine.worker, VllmConfig):
            _need_package("vllm", f"{field}.worker.type vllm", "vllm")
    elif isinstance(engine, TransformersConfig):
        _check_device(f"{field}.device", engine.device)
        if engine.quantize:
            _need_package("bitsandbytes", f"{field}.quantize", "qlora")
    elif isinstance(engine, VllmConfig):
        _need_package("vllm", f"{field}.type vllm", "vllm")
    elif isinstance(engine, EnginePlugin):
        engine.check()
    elif isinstance(engine, OpenAIConfig):
        _check_server(field, engine)


def _check_server(field: str, engine: OpenAIConfig) -> None:
    _need_package("openai", f"{field}.type openai", "openai")
    if engine.launch is not None:
        check_command(shlex.split(engine.launch), f"{field}.launch")
    elif "//api.openai.com" in engine.base_url and not os.environ.get(engine.api_key_env, "").strip():
        raise ConfigError(
            f"{field}: {engine.base_url} needs a key: set the environment variable {engine.api_key_env}, or name "
            "another one in api_key_env"
        )


def _need_package(module: str, what: str, extra: str) -> None:
    if find_spec(module) is None:
        raise ConfigError(f'{what} needs the package {module}, which is not installed; pip install "lidr[{extra}]"')


def _check_device(field: str, name: str) -> None:
    """Raises ConfigError for a device that this machine does not have."""
    if name == "auto" or name.startswith("cpu"):
        return
    import torch

    kind, _, number = name.partition(":")
    if kind == "cuda":  # counted without opening it, which would take memory of it
        count = torch.cuda.device_count()
        has = f"this machine has {count} for torch" if count else "torch finds none on this machine"
        if int(number or 0) >= count:
            raise ConfigError(f"{field} {name}: no such GPU, {has}; use auto, or cpu")
        return
    try:
        torch.empty(0, device=name)
    except Exception as error:  # each kind of device has errors of its own
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{field} {name}: not on this machine ({reason}); use auto, or cpu") from None


def _check_training(config: Config) -> None:
    from lidr.training.launch import accelerate_configuration, check_trackers, launch_command

    training = config.training
    check_trackers(training)
    if training.distributed != "ddp":
        read_mapping(accelerate_configuration(training.distributed))
    if training.launch:
        launch_command(training.launch)
    if training.lora and training.lora.quantize:
        _need_package("bitsandbytes", "training.lora.quantize", "qlora")
        _check_device("training.lora.quantize needs a GPU: device", "cuda")
    if training.lora and training.lora.targets != "all-linear":
        _check_targets(config, training.lora)
    if not is_remote(config.engine):
        _check_template(config)


def _check_template(config: Config) -> None:
    from lidr.likelihood.tokens import check_template
    from lidr.models import find_model

    folder = find_model(config.model, weights=False)
    check_template(folder, config.system_prompt, config.model.trust_remote_code)


def _check_targets(config: Config, lora: LoraSection) -> None:
    from lidr.models import find_model
    from lidr.training.weights import check_targets

    check_targets(find_model(config.model, weights=False), lora, config.model.trust_remote_code)
