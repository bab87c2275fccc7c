"""Which number format `auto` takes."""

from __future__ import annotations

import pytest
import torch

from lidr.machine import devices
from lidr.machine.devices import has_fast_bfloat16, pick_dtype

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("amx", "avx512_bf16", "amd", "fast"),
    [(True, True, False, True), (False, True, True, True), (False, True, False, False), (False, False, True, False)],
    ids=["Intel with AMX", "AMD with AVX512-BF16", "Intel without AMX", "older AMD"],
)
def test_bfloat16_is_taken_on_cpus_where_it_is_fast(
    amx: bool, avx512_bf16: bool, amd: bool, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    monkeypatch.setattr(devices, "_is_amd", lambda: amd)
    assert has_fast_bfloat16(CPU) == fast
    assert pick_dtype("auto", CPU) == (torch.bfloat16 if fast else torch.float32)
    assert pick_dtype("float32", CPU) == torch.float32
