"""What the training steps took, in the units in which training is compared."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import torch

from lidr.config import Config
from lidr.machine.hardware import this_machine
from lidr.models.architecture import measure
from lidr.training.trainer import PairTrainer


def training_cost(config: Config, trainer: PairTrainer, seconds: float) -> dict[str, Any]:
    """Tokens per second, peak memory and model FLOPs utilisation of one attempt at the training steps.

    `tokens` went through the model in `seconds`, in all processes together; a prompt that chosen and rejected share
    counts once. `peak_gib` is what torch held most on the first process's GPU, or that process's own memory on a CPU,
    with what it did before. FLOPs are 6 per parameter and token (Kaplan et al. 2020, arXiv 2001.08361), 4 where the
    weights are frozen (LoRA), without attention and without recomputed activations; `mfu` is their share of the peak
    that the GPUs' maker states for dense bfloat16 (Chowdhery et al. 2022, arXiv 2204.02311), None on a CPU.
    """
    device, processes = trainer.args.device, trainer.args.world_size
    tokens = int(trainer.accelerator.reduce(torch.tensor(trainer.tokens, device=device), "sum").item())
    shape = measure("in training", trainer.model.config, config.model.trust_remote_code)
    tflops = (4 if config.training.lora else 6) * shape.active * tokens / seconds / 1e12
    if device.type == "cuda":
        held = torch.cuda.max_memory_allocated(device)
        peak = this_machine(Path(trainer.args.output_dir)).device.tflops * processes
    else:
        held, peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, None
    return {
        "seconds": round(seconds, 3),
        "tokens": tokens,
        "tokens_per_second": round(tokens / seconds, 1),
        "peak_gib": round(held / 2**30, 3),
        "tflops_per_second": round(tflops, 4),
        "mfu": round(tflops / peak, 4) if peak else None,
    }
