"""The device that a recipe means, and the number format that is fast there."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import torch

from lidr.config import TrainingConfig


def pick_device(name: str) -> torch.device:
    """`auto` is the first GPU if there is one, else the CPU."""
    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 if it is fast; else float16 on a GPU and float32 on a CPU."""
    if name != "auto":
        return getattr(torch, name)  # type: ignore[no-any-return]
    if has_fast_bfloat16(device):
        return torch.bfloat16
    return torch.float16 if device.type == "cuda" else torch.float32


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 are much faster than in float32: on GPUs that support it, and on some CPUs.

    CPUs with AMX tiles are 3.4 times as fast (Xeon, two cores). AMD's CPUs with AVX512-BF16 are 4 times as fast (EPYC
    of the fifth generation, two cores), because their units take twice as many bfloat16 numbers at a time. Intel's CPUs
    with AVX512-BF16 and without AMX gain nothing.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device.type != "cpu":
        return False
    return bool(torch.cpu._is_amx_tile_supported() or (torch.cpu._is_avx512_bf16_supported() and _is_amd()))


def uses_bf16(training: TrainingConfig, device: torch.device) -> bool:
    """Whether training computes matrix products in bfloat16: if the recipe says so, or on `auto` if that is fast."""
    if training.precision == "auto":
        return has_fast_bfloat16(device)
    return training.precision == "bfloat16"


@cache
def _is_amd() -> bool:
    info = Path("/proc/cpuinfo")
    return sys.platform == "linux" and info.is_file() and "AuthenticAMD" in info.read_text(errors="replace")
