"""The model's weights in this process, through transformers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator

from lidr.engines.base import Engine, EnginePlugin
from lidr.engines.memory import NF4_BYTES, EngineUse, Need
from lidr.machine.hardware import GIB, Device, Hardware
from lidr.machine.requirements import check_device, need_package
from lidr.models.architecture import Architecture
from lidr.records import Json
from lidr.settings import PositiveInt


def _device(name: str) -> str:
    if not re.fullmatch(r"auto|(cpu|cuda|mps|xpu|npu|hpu|mtia|xla)(:\d{1,3})?", name):
        raise ValueError("no device of this form is known; use auto, cpu, cuda, or cuda:1 for the second GPU")
    return name


class Transformers(EnginePlugin):
    """The model's weights, in this process."""

    can_score: ClassVar[bool] = True
    writes_user_turns: ClassVar[bool] = True
    in_cluster: ClassVar[bool] = True

    device: Annotated[str, AfterValidator(_device)] = "auto"
    """`auto` takes the GPU if there is one; else a torch device such as `cpu` or `cuda:1`."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """`auto` is bfloat16 if the hardware is fast with it (GPU, CPU with AMX, AMD's with AVX512-BF16), else float32."""
    batch_size: PositiveInt = 16
    """Requests answered at the same time; one that is finished makes room for the next."""
    token_budget: PositiveInt | None = None
    """Tokens, of prompts and answers so far, that are held at the same time; null takes what the device's memory
    allows. Set it where several models share a device."""
    quantize: Literal["int8", "nf4"] | None = None
    """Load the weights in 8 or 4 bits, for answering only (`lidr[qlora]`); training loads them as they are."""

    def open(self, model: str, trust_remote_code: bool) -> Engine:
        from lidr.engines.transformers.engine import TransformersEngine  # imports torch

        return TransformersEngine(Path(model), self, trust_remote_code=trust_remote_code)

    def torch_device(self) -> str:
        return self.device

    def identity(self) -> Json:
        return {"quantize": self.quantize}

    def check(self, field: str) -> None:
        check_device(f"{field}.device", self.device)
        if self.quantize:
            need_package("bitsandbytes", f"{field}.quantize", "qlora")

    def loads_as(self, stored: str) -> tuple[str, str | None]:
        from lidr.machine.devices import pick_device, pick_dtype

        return str(pick_dtype(self.dtype, pick_device(self.device))).removeprefix("torch."), self.quantize

    def at_once(self) -> int:
        return self.batch_size

    def gpus(self) -> int:
        return int(self.device != "cpu")

    def fixes(self, use: EngineUse, hardware: Hardware) -> Iterator[tuple[str, EnginePlugin]]:
        if hardware.device.is_gpu:
            for kind in ("int8", "nf4"):
                yield f"quantize={kind}", self.model_copy(update={"quantize": kind})

    def use(self, shape: Architecture, hardware: Hardware, longest: float, mean: float) -> EngineUse:
        from lidr.engines.transformers.decoding import CACHE_GROWTH, COLUMNS, MEMORY_SHARE, PREFILL_TOKENS

        device, width = hardware.device, max(1.0, min(longest, 2 * mean))
        plain, weights = self._bytes(device), self._weights(shape, device)
        per_token = plain * shape.kv_numbers
        room = max(0.0, MEMORY_SHARE * device.memory_gib * GIB - weights)
        rows = min(self.batch_size, max(1, int((self.token_budget or room / CACHE_GROWTH / per_token) / width)))
        working = plain * (4 * shape.hidden + shape.query + 2 * shape.kv + 2 * shape.intermediate)
        columns = {tokens: max(tokens + COLUMNS, tokens * CACHE_GROWTH) for tokens in (width, longest)}
        parts = {
            "weights": weights,
            "keys and values": max(rows * columns[width], columns[longest]) * per_token,
            "activations": float(min(PREFILL_TOKENS, rows * width) * working),
            "logits": 12.0 * rows * shape.vocabulary,
        }
        need = Need.of(parts, device)
        return EngineUse(
            need, rows, width=width, wanted_rows=self.batch_size, weight_bytes=float(plain),
            problem=need.too_big(device),
        )  # fmt: skip

    def _bytes(self, device: Device) -> int:
        """Bytes of one number of the weights or the cache."""
        return {"float32": 4, "auto": 2 if device.is_gpu or device.bf16 else 4}.get(self.dtype, 2)

    def _weights(self, shape: Architecture, device: Device) -> float:
        """Bytes of the weights."""
        plain = self._bytes(device)
        per_linear = {"int8": 1.0, "nf4": NF4_BYTES, None: float(plain)}[self.quantize]
        return per_linear * shape.in_linear + plain * (shape.parameters - shape.in_linear)
