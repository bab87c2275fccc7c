"""Peak memory of a step on each device, from the shape of the model and what the code keeps there."""

from __future__ import annotations

from lidr.commands.plan.work import Load
from lidr.config import Config, TrainingConfig
from lidr.engine_settings import EngineSettings
from lidr.engines import plugin_of
from lidr.engines.memory import NF4_BYTES, EngineUse, Need
from lidr.likelihood.logps import LOGITS_PER_CHUNK
from lidr.machine.hardware import Device, Hardware
from lidr.models.architecture import Architecture

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
    """Bytes of the weights under an adapter; with QLoRA, what is not quantised is float32 in training."""
    assert config.training.lora is not None
    if config.training.lora.quantize:
        others = shape.parameters - shape.in_linear
        return NF4_BYTES * shape.in_linear + (4.0 if in_training else 2.0) * others
    return (2.0 if bf16 else 4.0) * shape.parameters


def _activations(training: TrainingConfig, shape: Architecture, pairs: Load, bf16: bool) -> float:
    """Bytes of a full row, or of the longest pair if that is longer: it is a row of its own."""
    layer, kept = shape.activation_bytes(bf16), 4 * shape.hidden
    recomputed, whole = shape.layers * kept + layer, shape.layers * layer
    budget, most = training.token_budget, max(training.token_budget, pairs.longest)
    if training.gradient_checkpointing == "auto":
        return float(max(budget * whole, most * recomputed))
    return float(most * (recomputed if training.gradient_checkpointing else whole))


def _logits(shape: Architecture, device: Device, tokens: float, trains_head: bool) -> float:
    """A chunk of logits in float32 with its softmax and copies, hidden states, the gradient of the output layer."""
    chunk = LOGITS_PER_CHUNK["cuda" if device.is_gpu else "cpu"]
    return 16.0 * chunk + 12.0 * tokens * shape.hidden + 4.0 * trains_head * shape.vocabulary * shape.hidden


def _rows_per_process(training: TrainingConfig, pairs: Load, processes: int) -> float:
    return training.batch_size * pairs.mean / training.token_budget / processes


# --- engines ----------------------------------------------------------------------------------------------------------


def engine_use(engine: EngineSettings, shape: Architecture | None, hardware: Hardware, load: Load) -> EngineUse:
    """What an engine needs on each device, and how many requests it then answers at a time.

    `shape` is None if no weights are held here: for a model on a server, or recorded answers.
    """
    plugin = plugin_of(engine)
    if engine.server or shape is None:
        return EngineUse(Need(0.0, {}), plugin.at_once(), is_remote=True)
    return plugin.use(shape, hardware, load.longest, load.mean)
