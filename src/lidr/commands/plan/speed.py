"""How long a step takes: reading weights bounds decoding, arithmetic bounds reading prompts and training."""

from __future__ import annotations

import math

from lidr.commands.plan.memory import is_bf16, processes_of
from lidr.commands.plan.work import Load
from lidr.config import Config
from lidr.engines.memory import EngineUse
from lidr.machine.hardware import Hardware
from lidr.models.architecture import Architecture

# Shares of what a GPU could do. A CPU's figures in `hardware` are measured ones, of training.
PREFILL_SHARE, TRAINING_SHARE, SHARDED_SHARE = 0.4, 0.35, 0.25
OCCUPANCY = 0.85  # of the rows that could be answered at a time
ROW_LAYER_S = 0.003  # of every row and layer in training, beside the arithmetic
WRITE_BYTES_S, READ_BYTES_S = 1e9, 1e9  # of the disk
START_S = 10.0  # of torch, on a GPU
REMOTE_TOKENS_S, REMOTE_WAIT_S = 50.0, 1.0  # of one request to an API
_CPU_START_S = 2.0
# On a CPU: seconds of a decoding step, and of each layer in it; speeds of forward passes, and of decoding with its thin
# products, relative to training.
_CPU_STEP_S, _CPU_LAYER_S, _CPU_FORWARD = 0.01, 0.0002, 1.25
_CPU_DECODE = {True: 1.4, False: 0.3}  # in bfloat16: a 0.5B model, 0.16 s for a step of 64 rows on an AMD EPYC


def generation_seconds(use: EngineUse, shape: Architecture | None, hardware: Hardware, load: Load) -> float:
    """Seconds to load the model and answer all requests of a load."""
    if not load.requests:
        return 0.0
    if use.is_remote or shape is None:
        return (load.written / REMOTE_TOKENS_S + load.requests * REMOTE_WAIT_S) / use.rows
    device = hardware.device
    bf16 = use.weight_bytes == 2
    flops, bandwidth = device.flops(bf16) * use.share, device.bandwidth * 1e9 * use.share
    rows = max(1.0, min(use.rows, load.requests / use.replicas) * OCCUPANCY)
    parameters = min(shape.parameters, rows * shape.active)
    kv_bytes = rows * load.mean * 2 * shape.kv_numbers
    products = 2 * shape.active * rows / flops
    if device.is_gpu:
        moved = (2 * parameters + kv_bytes) / (bandwidth * use.bandwidth_share)
        step = max(moved, products / PREFILL_SHARE) / use.devices + use.step_s
    else:  # measured: 0.06 s for one sequence of SmolLM2-135M, 0.13 s for 8, 0.28 s for 32
        moved = (use.weight_bytes * parameters + kv_bytes) / bandwidth
        step = moved + products / _CPU_DECODE[bf16 and device.bf16] + _CPU_STEP_S + _CPU_LAYER_S * shape.layers
    steps = load.written / rows / use.replicas
    start = use.start_s if device.is_gpu else _CPU_START_S
    reading = forward_seconds(shape, hardware, load.read, use.replicas * use.devices * use.share, bf16)
    return steps * step + reading + start + shape.stored_bytes * shape.parameters / READ_BYTES_S


def forward_seconds(shape: Architecture, hardware: Hardware, tokens: float, devices: float, bf16: bool = True) -> float:
    """Seconds to pass tokens through the model once; processes that share a machine's cores are one device."""
    share, used = (PREFILL_SHARE, devices) if hardware.device.is_gpu else (_CPU_FORWARD, min(1.0, devices))
    return 2 * shape.active * tokens / (hardware.device.flops(bf16) * share * used)


def reference_seconds(config: Config, shape: Architecture, hardware: Hardware, pairs: Load) -> float:
    """Seconds of the reference pass and of loading the model; SFT only loads it."""
    tokens = pairs.read if config.training.objective == "dpo" else 0.0
    bf16 = is_bf16(config.training, hardware.device)
    found = forward_seconds(shape, hardware, tokens, processes_of(config, hardware), bf16)
    return found + _load_seconds(shape, hardware)


def training_seconds(config: Config, shape: Architecture, hardware: Hardware, pairs: Load) -> float:
    """Seconds of all epochs, of loading the model and of writing checkpoints."""
    written = saves(config, shape, hardware, pairs) * checkpoint_bytes(config, shape) / WRITE_BYTES_S
    return _steps_seconds(config, shape, hardware, pairs) + written + _load_seconds(shape, hardware)


def _steps_seconds(config: Config, shape: Architecture, hardware: Hardware, pairs: Load) -> float:
    """Seconds of the optimiser steps of all epochs."""
    training, device, processes = config.training, hardware.device, processes_of(config, hardware)
    tokens = pairs.read * training.epochs
    frozen = training.lora is not None  # the gradients of frozen weights are not computed
    passes = 6 - 2 * frozen + 2 * (training.gradient_checkpointing is True)
    share = training_share(config) if device.is_gpu else 1.0
    used = processes if device.is_gpu else 1
    flops = device.flops(is_bf16(training, device))
    arithmetic = passes * shape.active * tokens / (flops * share * used)
    # At least one row per process in every step, and rows of at most the token budget.
    rows = max(float(_steps(config, pairs)), tokens / training.token_budget / used)
    return arithmetic + rows * shape.layers * ROW_LAYER_S


def _steps(config: Config, pairs: Load) -> int:
    return math.ceil(pairs.requests / config.training.batch_size) * config.training.epochs


def training_share(config: Config) -> float:
    """Share of a GPU's peak arithmetic; less if weights are gathered or unpacked for every pass."""
    training = config.training
    slow = training.distributed != "ddp" or bool(training.lora and training.lora.quantize)
    return SHARDED_SHARE if slow else TRAINING_SHARE


def saves(config: Config, shape: Architecture, hardware: Hardware, pairs: Load) -> int:
    """Number of checkpoints that a training writes: every so many steps or minutes, and after the last step."""
    training, steps = config.training, _steps(config, pairs)
    by_time = 0.0
    if training.save_minutes:
        by_time = _steps_seconds(config, shape, hardware, pairs) / (60 * training.save_minutes)
    return min(steps, math.ceil(max(steps / training.save_steps, by_time)))


def checkpoint_bytes(config: Config, shape: Architecture) -> float:
    """Bytes of one checkpoint: float32 weights and AdamW's two moments of what is trained."""
    lora = config.training.lora
    return 12.0 * (shape.adapter_parameters(lora) if lora else shape.parameters)


def _load_seconds(shape: Architecture, hardware: Hardware) -> float:
    start = START_S if hardware.device.is_gpu else _CPU_START_S
    return start + shape.stored_bytes * shape.parameters / READ_BYTES_S
