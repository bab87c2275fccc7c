"""Peak memory of a step on each device, from the shape of the model and what the code keeps there."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from lidr.architecture import Architecture
from lidr.commands.plan.work import Load
from lidr.config import (
    Config,
    EngineConfig,
    OpenAIConfig,
    RayConfig,
    TrainingConfig,
    TransformersConfig,
    VllmConfig,
    is_remote,
)
from lidr.engines.base import EnginePlugin
from lidr.engines.decoding import CACHE_GROWTH, COLUMNS, MEMORY_SHARE, PREFILL_TOKENS
from lidr.hardware import GIB, Device, Hardware
from lidr.likelihood.logps import LOGITS_PER_CHUNK

NF4_BYTES = 0.516  # per parameter, with its doubly quantised scales
# What is there beside the tensors: CUDA's context and kernels, or Python with its libraries (0.44 GiB measured).
_PROCESS_GIB = {True: 1.2, False: 0.45}
# What allocators lose between tensors. On a CPU 0.4 of 3.0 GiB were measured (docs/performance.md).
_FRAGMENTATION = {True: 1.05, False: 1.12}
_VLLM_SHARE, _VLLM_ROWS, _VLLM_EXTRA_GIB = 0.9, 256, 2.0  # its defaults, and its buffers and CUDA graphs


@dataclass(frozen=True, slots=True)
class Need:
    """GiB on each device, and what they are for."""

    gib: float
    parts: dict[str, float]

    @classmethod
    def of(cls, parts: dict[str, float], device: Device, processes: int = 1) -> Need:
        """From bytes; processes that share a device add up."""
        gib = {name: size / GIB for name, size in parts.items() if size}
        gib["fragmentation"] = (_FRAGMENTATION[device.is_gpu] - 1) * sum(gib.values())
        gib["process"] = _PROCESS_GIB[device.is_gpu]
        return cls(processes * sum(gib.values()), {name: round(size, 2) for name, size in gib.items()})


@dataclass(frozen=True, slots=True)
class EngineUse:
    """How an engine uses the hardware.

    `rows` are answered at a time by each of `replicas`, over `devices` each, of which it has `share`.
    """

    need: Need
    rows: int
    replicas: int = 1
    devices: int = 1
    share: float = 1.0
    kind: str = "transformers"
    problem: str = ""
    wanted_rows: int = 0
    width: float = 0.0
    weight_bytes: float = 2.0  # per parameter, that a step reads


# --- training ---------------------------------------------------------------------------------------------------------


def processes_of(config: Config, hardware: Hardware) -> int:
    """Training processes: one per GPU, or what the recipe says."""
    return config.training.num_processes or (hardware.count if hardware.device.is_gpu else 1)


def is_bf16(training: TrainingConfig, device: Device) -> bool:
    """Whether matrix products of training run in bfloat16."""
    return device.bf16 if training.precision == "auto" else training.precision == "bfloat16"


def training_need(config: Config, shape: Architecture, hardware: Hardware, pairs: Load) -> Need:
    """Weights, gradients, AdamW's two moments and activations of the training step."""
    training, device = config.training, hardware.device
    bf16, processes = is_bf16(training, device), processes_of(config, hardware)
    sharded = training.distributed != "ddp"
    shards = processes if sharded else 1
    lora = training.lora
    trained = shape.adapter_parameters(lora) if lora else shape.parameters
    parts = {"weights, gradients, optimiser": 16.0 * trained / shards}
    if lora:
        parts["frozen weights"] = _frozen(config, shape, bf16, in_training=True) / shards
    elif bf16 and not sharded:
        parts["bfloat16 copies"] = 2.0 * trained  # autocast keeps them for the backward pass
    if processes > 1 and not sharded:
        parts["gradient buckets"] = 4.0 * trained
    if sharded:
        layer = (shape.parameters - shape.embeddings) / shape.layers
        parts["gathered weights"] = 4.0 * (shape.embeddings + 2 * layer)  # and their gradients, two layers at a time
        if _rows_per_process(training, pairs, processes) > 1 and training.distributed != "zero3" and not lora:
            parts["unsharded gradients"] = 2.0 * trained  # they meet those of other processes after the last row
    parts["activations"] = _activations(training, shape, pairs, bf16)
    parts["logits"] = _logits(shape, device, max(training.token_budget, pairs.longest), trains_head=not lora)
    return Need.of(parts, device, 1 if device.is_gpu else processes)


def reference_need(config: Config, shape: Architecture, hardware: Hardware, pairs: Load) -> Need:
    """The reference pass: every process holds the whole model, without gradients."""
    training, device = config.training, hardware.device
    bf16 = is_bf16(training, device)
    tokens = max(training.token_budget, pairs.longest)
    if training.lora:
        parts = {"weights": _frozen(config, shape, bf16, in_training=False)}
    else:
        parts = {"weights": 4.0 * shape.parameters, "bfloat16 copies": 2.0 * shape.parameters if bf16 else 0.0}
    parts["activations"] = tokens * (shape.activation_bytes(bf16) + 8.0 * shape.hidden)
    parts["logits"] = _logits(shape, device, tokens, trains_head=False)
    return Need.of(parts, device, 1 if device.is_gpu else processes_of(config, hardware))


def _frozen(config: Config, shape: Architecture, bf16: bool, in_training: bool) -> float:
    """Weights under an adapter; with QLoRA what is not quantised is float32 in training."""
    assert config.training.lora is not None
    if config.training.lora.quantize:
        others = shape.parameters - shape.in_linear
        return NF4_BYTES * shape.in_linear + (4.0 if in_training else 2.0) * others
    return (2.0 if bf16 else 4.0) * shape.parameters


def _activations(training: TrainingConfig, shape: Architecture, pairs: Load, bf16: bool) -> float:
    """Bytes of a full row, or of the longest pair where that goes alone and is longer."""
    layer, kept = shape.activation_bytes(bf16), 4 * shape.hidden
    recomputed, whole = shape.layers * kept + layer, shape.layers * layer
    budget, most = training.token_budget, max(training.token_budget, pairs.longest)
    if training.gradient_checkpointing == "auto":
        return float(max(budget * whole, most * recomputed))
    return float(most * (recomputed if training.gradient_checkpointing else whole))


def _logits(shape: Architecture, device: Device, tokens: float, trains_head: bool) -> float:
    """A chunk of them in float32 with its softmax and copies, hidden states, and the gradient of the output layer."""
    chunk = LOGITS_PER_CHUNK["cuda" if device.is_gpu else "cpu"]
    return 16.0 * chunk + 12.0 * tokens * shape.hidden + 4.0 * trains_head * shape.vocabulary * shape.hidden


def _rows_per_process(training: TrainingConfig, pairs: Load, processes: int) -> float:
    return training.batch_size * pairs.mean / training.token_budget / processes


# --- engines ----------------------------------------------------------------------------------------------------------


def engine_use(engine: EngineConfig, shape: Architecture | None, hardware: Hardware, load: Load) -> EngineUse:
    """What an engine needs on each device, and how many requests it then answers at a time.

    `shape` is None if no weights are held here: for a model on a server, or recorded answers.
    """
    if is_remote(engine) or shape is None:
        rows = engine.concurrency if isinstance(engine, OpenAIConfig) else 1
        return EngineUse(Need(0.0, {}), rows, kind="remote")
    width = max(1.0, min(load.longest, 2 * load.mean))
    if isinstance(engine, TransformersConfig):
        return _transformers(engine, shape, hardware.device, load.longest, width)
    if isinstance(engine, RayConfig):
        return _ray(engine, shape, hardware, load)
    if isinstance(engine, VllmConfig):
        return _vllm(engine.arguments, shape, hardware, width, load.longest, 0)
    if isinstance(engine, EnginePlugin):
        gib = engine.memory_gib(2.0 * shape.parameters / GIB)
        return EngineUse(Need.of({"engine": gib * GIB}, hardware.device), engine.at_once())
    assert isinstance(engine, OpenAIConfig)
    found = re.search(r"(?:--tensor-parallel-size|-tp)[ =](\d+)", engine.launch or "")
    arguments = {"tensor_parallel_size": int(found[1])} if found else {}
    return _vllm(arguments, shape, hardware, width, load.longest, engine.concurrency)


def dtype_bytes(engine: TransformersConfig, device: Device) -> int:
    """Of the engine's weights and cache."""
    return {"float32": 4, "auto": 2 if device.is_gpu or device.bf16 else 4}.get(engine.dtype, 2)


def weights_of(engine: TransformersConfig, shape: Architecture, device: Device) -> float:
    """Bytes of the engine's weights."""
    plain = dtype_bytes(engine, device)
    per_linear = {"int8": 1.0, "nf4": NF4_BYTES, None: float(plain)}[engine.quantize]
    return per_linear * shape.in_linear + plain * (shape.parameters - shape.in_linear)


def _transformers(
    engine: TransformersConfig, shape: Architecture, device: Device, longest: float, width: float
) -> EngineUse:
    plain, weights = dtype_bytes(engine, device), weights_of(engine, shape, device)
    per_token = plain * shape.kv_numbers
    room = max(0.0, MEMORY_SHARE * device.memory_gib * GIB - weights)
    rows = min(engine.batch_size, max(1, int((engine.token_budget or room / CACHE_GROWTH / per_token) / width)))
    working = plain * (4 * shape.hidden + shape.query + 2 * shape.kv + 2 * shape.intermediate)
    parts = {
        "weights": weights,
        "keys and values": max(rows * _columns(width), _columns(longest)) * per_token,
        "activations": float(min(PREFILL_TOKENS, rows * width) * working),
        "logits": 12.0 * rows * shape.vocabulary,
    }
    need = Need.of(parts, device)
    fits = need.gib <= device.memory_gib
    return EngineUse(
        need, rows, width=width, wanted_rows=engine.batch_size, weight_bytes=float(plain),
        problem="" if fits else _too_big(need, device),
    )  # fmt: skip


def _columns(width: float) -> float:
    """Of the transformers engine's cache, where answers have grown to so many tokens."""
    return max(width + COLUMNS, width * CACHE_GROWTH)


def _ray(engine: RayConfig, shape: Architecture, hardware: Hardware, load: Load) -> EngineUse:
    """Workers on one machine; those on one device share its speed, and add up in its memory."""
    worker, device = engine_use(engine.worker, shape, hardware, load), hardware.device
    each: float = engine.cpus_per_worker
    if device.is_gpu:
        each = worker.devices * worker.replicas if engine.gpus_per_worker is None else engine.gpus_per_worker
    part = (each if device.is_gpu else each / device.cores) or 1.0  # of a device
    room = int(hardware.count / part + 1e-6)
    workers = engine.workers or max(1, room)
    together = min(workers, max(1, int(1 / part + 1e-6)))
    need, problem = Need(worker.need.gib * together, worker.need.parts), worker.problem
    if not engine.address and workers > room:
        problem = f"{workers} workers of {each:g} {'GPUs' if device.is_gpu else 'CPU cores'}, there is room for {room}"
    elif not problem and need.gib > device.memory_gib:
        problem = f"in {together} workers {_too_big(need, device)}"
    share = min(1.0, part)
    return replace(worker, need=need, replicas=workers * worker.replicas, share=share, problem=problem)


def _vllm(
    arguments: dict[str, Any], shape: Architecture, hardware: Hardware, width: float, longest: float, most_rows: int
) -> EngineUse:
    device = hardware.device
    split = int(arguments.get("tensor_parallel_size", 1)) * int(arguments.get("pipeline_parallel_size", 1))
    replicas = int(arguments.get("data_parallel_size", 1))
    budget = float(arguments.get("gpu_memory_utilization", _VLLM_SHARE)) * device.memory_gib
    weights, per_token = 2.0 * shape.parameters / split / GIB, 2.0 * shape.kv_numbers / split / GIB
    room = budget - weights - _VLLM_EXTRA_GIB
    rows = min(most_rows or int(arguments.get("max_num_seqs", _VLLM_ROWS)), int(max(0.0, room) / per_token / width))
    problem = ""
    if device.is_gpu and split * replicas > hardware.count:
        problem = f"{split * replicas} GPUs are asked for, there are {hardware.count}"
    elif room < longest * per_token:
        least = weights + _VLLM_EXTRA_GIB + longest * per_token
        problem = f"needs {least:.1f} GiB, of which gpu_memory_utilization allows {budget:.1f}"
    parts = {"weights": round(weights, 2), "keys and values": round(max(0.0, room), 2), "buffers": _VLLM_EXTRA_GIB}
    return EngineUse(Need(budget, parts), max(1, rows), replicas, split, kind="vllm", problem=problem, width=width)


def _too_big(need: Need, device: Device) -> str:
    return f"needs {need.gib:.1f} GiB of {device.memory_gib:.1f}"
