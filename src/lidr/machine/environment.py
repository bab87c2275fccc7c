"""The environment of a run: packages, machine, GPUs, state of the code."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from lidr.config import Config
from lidr.records import Json

_PACKAGES = (
    "lidr", "torch", "transformers", "accelerate", "datasets", "tokenizers", "safetensors", "py3langid", "openai",
)  # fmt: skip


def environment(config: Config) -> Json:
    """Versions, hardware, git state and seed, without importing large libraries."""
    from importlib.metadata import PackageNotFoundError, version

    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "gpus": _gpus(),
        "packages": packages,
        "git": _git_state(),
        "seed": config.seed,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()


def _gpus() -> list[str]:
    return _output_of(
        "nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"
    ).splitlines()


def _git_state() -> Json | None:
    """Commit and cleanliness of the checkout that this package runs from; None if it is not in one."""
    source = str(Path(__file__).parent)
    commit = _output_of("git", "-C", source, "rev-parse", "HEAD")
    return (
        {"commit": commit, "modified": bool(_output_of("git", "-C", source, "status", "--porcelain", "."))}
        if commit
        else None
    )


def _output_of(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
