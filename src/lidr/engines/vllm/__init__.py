"""vLLM in this process."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from lidr.engines.base import Engine, EnginePlugin
from lidr.engines.memory import EngineUse, Need
from lidr.errors import ConfigError
from lidr.machine.hardware import GIB, Hardware
from lidr.machine.requirements import need_package
from lidr.models import fingerprint
from lidr.models.architecture import Architecture
from lidr.models.files import check_adapter
from lidr.records import Json
from lidr.settings import PathText

# Arguments that change a model's answers, unlike the number of GPUs and the like.
_CHANGE_ANSWERS = (
    "quantization", "tokenizer", "tokenizer_mode", "tokenizer_revision", "hf_overrides", "hf_config_path", "model_impl",
    "config_format", "load_format", "kv_cache_dtype", "speculative_config",
)  # fmt: skip
_SHARE, _ROWS, _EXTRA_GIB = 0.9, 256, 2.0  # vLLM's defaults, and its buffers and CUDA graphs


class Vllm(EnginePlugin):
    """vLLM in this process (`lidr[vllm]`)."""

    can_score: ClassVar[bool] = True
    writes_user_turns: ClassVar[bool] = True
    in_cluster: ClassVar[bool] = True
    batches_together: ClassVar[int] = 2  # enough, because it fills its slots from all requests that it has

    adapter: PathText | None = None
    """Folder of a LoRA adapter, as PEFT saves it, to answer with (iterations: 0)."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """vLLM's own engine arguments under their own names: `tensor_parallel_size`, `gpu_memory_utilization` ..."""

    def open(self, model: str, trust_remote_code: bool) -> Engine:
        from lidr.engines.vllm.engine import VllmEngine

        return VllmEngine(Path(model), self, trust_remote_code=trust_remote_code)

    def identity(self) -> Json:
        """Raises ConfigError for an adapter or a format that cannot be loaded safely."""
        if self.adapter and not Path(self.adapter).is_dir():
            raise ConfigError(f"engine.adapter {self.adapter}: no such folder")
        if self.adapter:
            check_adapter(Path(self.adapter))
        if (format_ := self.arguments.get("load_format")) in ("pt", "npcache", "dummy"):
            raise ConfigError(f"engine.arguments.load_format {format_}: only safetensors files are read; leave it out")
        adapter = fingerprint(Path(self.adapter)) if self.adapter else None
        return {"adapter": adapter} | {name: self.arguments.get(name) for name in _CHANGE_ANSWERS}

    def check_trainable(self) -> None:
        if self.adapter:
            raise ValueError("engine.adapter: merge it into the model that is to be trained, and leave it out here")

    def check(self, field: str) -> None:
        need_package("vllm", f"{field}.type vllm", "vllm")

    def loads_as(self, stored: str) -> tuple[str, str | None]:
        asked = str(self.arguments.get("dtype", "auto"))
        own = {"auto": "float16" if stored == "float32" else stored, "half": "float16", "float": "float32"}
        return own.get(asked, asked), None

    def at_once(self) -> int:
        return int(self.arguments.get("max_num_seqs", _ROWS))

    def gpus(self) -> int:
        sizes = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
        return math.prod(self.arguments.get(size, 1) for size in sizes)

    def fixes(self, use: EngineUse, hardware: Hardware) -> Iterator[tuple[str, EnginePlugin]]:
        for split in (1, 2, 4, 8, 16):
            yield f"arguments.tensor_parallel_size={split}", self._with("tensor_parallel_size", split)

    def sharing(self, share: float) -> tuple[str, EnginePlugin] | None:
        return f"arguments.gpu_memory_utilization={share}", self._with("gpu_memory_utilization", share)

    def _with(self, name: str, value: object) -> EnginePlugin:
        return self.model_copy(update={"arguments": self.arguments | {name: value}})

    def use(self, shape: Architecture, hardware: Hardware, longest: float, mean: float) -> EngineUse:
        return vllm_use(self.arguments, shape, hardware, longest, mean)


def vllm_use(
    arguments: dict[str, Any], shape: Architecture, hardware: Hardware, longest: float, mean: float, most_rows: int = 0
) -> EngineUse:
    """vLLM's use of the hardware, in this process or as a server that gets `most_rows` requests at a time."""
    device, width = hardware.device, max(1.0, min(longest, 2 * mean))
    split = int(arguments.get("tensor_parallel_size", 1)) * int(arguments.get("pipeline_parallel_size", 1))
    replicas = int(arguments.get("data_parallel_size", 1))
    budget = float(arguments.get("gpu_memory_utilization", _SHARE)) * device.memory_gib
    weights, per_token = 2.0 * shape.parameters / split / GIB, 2.0 * shape.kv_numbers / split / GIB
    room = budget - weights - _EXTRA_GIB
    rows = min(most_rows or int(arguments.get("max_num_seqs", _ROWS)), int(max(0.0, room) / per_token / width))
    problem = ""
    if device.is_gpu and split * replicas > hardware.count:
        problem = f"{split * replicas} GPUs are asked for, but there are {hardware.count}"
    elif room < longest * per_token:
        least = weights + _EXTRA_GIB + longest * per_token
        problem = f"needs {least:.1f} GiB, of which gpu_memory_utilization allows {budget:.1f}"
    parts = {"weights": round(weights, 2), "keys and values": round(max(0.0, room), 2), "buffers": _EXTRA_GIB}
    return EngineUse(
        Need(budget, parts), max(1, rows), replicas, split, problem=problem, width=width, bandwidth_share=0.7,
        step_s=0.005, start_s=75.0,
    )  # fmt: skip
