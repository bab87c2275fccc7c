"""What the training steps cost, in the usual units."""

from __future__ import annotations

import resource
from pathlib import Path

import torch

from lidr.config import Config
from lidr.machine.hardware import this_machine
from lidr.models.architecture import measure
from lidr.records import Json
from lidr.training.trainer import PairTrainer


def training_cost(config: Config, trainer: PairTrainer, seconds: float) -> Json:
    """Tokens per second, peak memory and model FLOPs utilisation of one attempt at the training steps.

    `tokens` is the number that went through the model in all processes; a prompt shared by chosen and rejected counts
    once. `peak_gib` is the most that torch held on the first process's GPU; on a CPU it is the most memory that this
    process ever had. FLOPs are 6 per parameter and token (Kaplan et al. 2020, arXiv 2001.08361), or 4 if the weights
    are frozen (LoRA), without attention and recomputed activations. `mfu` is their share of the vendor's peak for dense
    bfloat16 (Chowdhery et al. 2022, arXiv 2204.02311), None on a CPU.
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
