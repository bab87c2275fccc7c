"""Settings with which a run fits, found by trying them in the planner's own arithmetic, the mildest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lidr.commands.plan.memory import engine_use, processes_of, reference_need, training_need
from lidr.commands.plan.work import Load
from lidr.config import Config, LoraSection
from lidr.engines import plugin_of
from lidr.engines.memory import EngineUse
from lidr.machine.hardware import Hardware
from lidr.models.architecture import Architecture

Overrides = list[str]
Changes = dict[str, object]  # fields of the training section
SPARE = 0.1  # share of the memory that a proposal leaves free, since all figures are estimates


def fits_training(config: Config, shape: Architecture, hardware: Hardware, pairs: Load, spare: float = 0.0) -> bool:
    """Whether the training step and the reference pass fit, with a share of the memory to spare."""
    return _most(config, shape, hardware, pairs) <= (1 - spare) * hardware.device.memory_gib


def _most(config: Config, shape: Architecture, hardware: Hardware, pairs: Load) -> float:
    """GiB on each device, for the larger of the two."""
    sides = 1 + (config.training.objective == "dpo")
    load = replace(pairs, longest=min(pairs.longest, sides * config.training.max_length))
    needs = [training_need(config, shape, hardware, load).gib]
    if has_reference(config):
        needs.append(reference_need(config, shape, hardware, load).gib)
    return max(needs)


def has_reference(config: Config) -> bool:
    """Whether there is a reference pass: for DPO, or to try out packing, which a sharded model cannot do."""
    return config.training.objective == "dpo" or config.training.distributed != "ddp"


def training_fix(
    config: Config, shape: Architecture, hardware: Hardware, pairs: Load
) -> tuple[Overrides, float] | None:
    """Overrides with which training fits, and the GiB it then takes; None if no candidate fits.

    The first candidates train all weights: sharded, then with recomputed activations and smaller rows. Then come an
    adapter, one on 4-bit weights, and shorter pairs.
    """
    for changes in _training_candidates(config, hardware):
        training = config.training.model_copy(update=changes)
        if fits_training(config.model_copy(update={"training": training}), shape, hardware, pairs, SPARE):
            overrides = [_as_override(f"training.{name}", value) for name, value in changes.items()]
            return overrides, _most(config.model_copy(update={"training": training}), shape, hardware, pairs)
    return None


def _training_candidates(config: Config, hardware: Hardware) -> Iterator[Changes]:
    training, on_gpu = config.training, hardware.device.is_gpu
    ways: list[Changes] = [{}]
    if on_gpu and training.distributed == "ddp" and processes_of(config, hardware) > 1:
        ways.append({"distributed": "fsdp2"})
    if training.lora is None:
        ways.append({"lora": LoraSection()})
    if on_gpu and not (training.lora and training.lora.quantize):
        quantized = (training.lora or LoraSection()).model_copy(update={"quantize": "nf4"})
        ways.append({"lora": quantized, **({} if training.distributed == "ddp" else {"distributed": "ddp"})})
    always = training.gradient_checkpointing is True
    recompute: Changes = {} if always else {"gradient_checkpointing": True}
    smaller = [{"token_budget": tokens} for tokens in (4096, 2048, 1024) if tokens < training.token_budget]
    lengths: list[Changes] = [{"max_length": n} for n in (2048, 1024) if n < training.max_length]
    for shorter in ({}, *lengths):
        if shorter:
            ways, smaller = ways[-1:], smaller[-1:]
        for way in ways:
            yield from (way | extra | shorter for extra in ({}, recompute, *(recompute | less for less in smaller)))


def engine_fix(config: Config, shape: Architecture, hardware: Hardware, load: Load) -> Overrides | None:
    """Overrides with which the model fits into its engine; None if no candidate fits."""
    engine = plugin_of(config.engine)
    for override, changed in engine.fixes(engine_use(engine, shape, hardware, load), hardware):
        if not engine_use(changed, shape, hardware, load).problem:
            return [f"engine.{override}"]
    return None


def judge_fix(config: Config, judge: Architecture, shape: Architecture, hardware: Hardware) -> Overrides | None:
    """Overrides with which the model and its judge share the GPUs; None if their engines cannot."""
    assert config.evaluation.judge is not None
    found = []
    parts = (("engine", config.engine, shape), ("evaluation.judge.engine", config.evaluation.judge.engine, judge))
    for field, engine, model in parts:
        half, longest = plugin_of(engine).sharing(0.45), float(model.context or 0)
        if half is None or engine_use(half[1], model, hardware, Load(1, longest, 0.0, longest)).problem:
            return None
        found.append(f"{field}.{half[0]}")
    return found


def with_all_gpus(use: EngineUse, hardware: Hardware) -> EngineUse | None:
    """The same engine with a worker on every GPU; None if it already uses all."""
    if not hardware.device.is_gpu or use.is_remote or use.spreads:
        return None
    replicas = hardware.count // use.devices
    return replace(use, replicas=replicas) if replicas > use.replicas else None


def _as_override(name: str, value: object) -> str:
    if isinstance(value, LoraSection):
        return f"{name}.quantize=nf4" if value.quantize else f"{name}={{}}"
    return f"{name}={str(value).lower() if isinstance(value, bool) else value}"
