"""Checks before anything is spent: whether the devices, packages, commands and files exist that a run needs later."""

from __future__ import annotations

from collections.abc import Iterator

from lidr.benchmarks.base import benchmarks_of
from lidr.config import Config, LoraSection
from lidr.engine_settings import EngineSettings
from lidr.engines import plugin_of
from lidr.errors import ConfigError
from lidr.machine.requirements import check_device, need_package
from lidr.run_dir import RunDir
from lidr.stages import evaluation, scores
from lidr.status import run_status
from lidr.strategies.base import all_translating
from lidr.yaml_input import read_mapping


def check_owed(config: Config, run_dir: RunDir) -> None:
    """`check` the recipe if the run owes anything."""
    if any(state != "done" for _, _, state, _ in run_status(config, run_dir)):
        check(config, run_dir)


def check(config: Config, run_dir: RunDir) -> None:
    """Check everything that the recipe needs and that is cheap to check.

    Raises ConfigError for a device, a package, a command or a module that is missing, for a chat template that cannot
    be trained with and for a strategy that cannot be carried out, DataError for a benchmark's file that cannot be read.
    """
    judge = config.evaluation.judge
    if judge and [name for name, value in judge.engine if name.startswith("usd_") and value is not None]:
        raise ConfigError("evaluation.judge.engine: the prices of a judge are fields of evaluation.judge itself")
    for field, engine in _engines(config):
        plugin_of(engine).check(field)
    if config.iterations:
        _check_training(config)
        all_translating(config)
        scores.check(config)
    for name, benchmark in benchmarks_of(config).items():
        benchmark.check(f"evaluation.benchmarks.{name}")
    evaluation.check(config, run_dir)


def _engines(config: Config) -> Iterator[tuple[str, EngineSettings]]:
    yield "engine", config.engine
    if config.evaluation.judge:
        yield "evaluation.judge.engine", config.evaluation.judge.engine


def _check_training(config: Config) -> None:
    from lidr.training.launch import accelerate_configuration, check_trackers, launch_command

    training = config.training
    check_trackers(training)
    if training.distributed != "ddp":
        read_mapping(accelerate_configuration(training.distributed))
    if training.launch:
        launch_command(training.launch)
    if training.lora and training.lora.quantize:
        need_package("bitsandbytes", "training.lora.quantize", "qlora")
        check_device("training.lora.quantize needs a GPU: device", "cuda")
    if training.lora and training.lora.targets != "all-linear":
        _check_targets(config, training.lora)
    if not config.engine.server:
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
