"""Packed layers give what plain ones give, and only plain layers in bfloat16 are packed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lidr.engines.transformers.decoding import why_not_in_slots
from lidr.engines.transformers.packed_linear import PackedLinear, pack_linear_layers
from tests.support.tiny_models import PACKED, build

pytestmark = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU has no products in bfloat16"
)
IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6], [2, 7, 1, 8, 2, 8, 1, 8]])


@torch.no_grad()
@pytest.mark.parametrize("name", ["Llama", "Qwen2", "Gemma 3, alternating windows"])
def test_logits_are_the_same(name: str) -> None:
    model = build(*PACKED[name]).eval().bfloat16()
    plain = model(input_ids=IDS).logits
    linear = sum(type(module) is nn.Linear for module in model.modules())
    assert pack_linear_layers(model) == linear
    assert not any(type(module) is nn.Linear for module in model.modules())
    torch.testing.assert_close(model(input_ids=IDS).logits, plain)
    assert why_not_in_slots(model) is None
    assert model.get_memory_footprint() > 0


def test_other_formats_and_layers_with_hooks_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(*PACKED["Llama"]).eval()
    assert pack_linear_layers(model) == 0  # float32
    model = model.bfloat16()
    model.get_output_embeddings().register_forward_pre_hook(lambda module, args: None)
    assert pack_linear_layers(model) > 0 and type(model.get_output_embeddings()) is nn.Linear
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert pack_linear_layers(build(*PACKED["Llama"]).bfloat16()) == 0


def test_biases_and_single_rows() -> None:
    layer = nn.Linear(24, 40).bfloat16()
    packed = PackedLinear(layer)
    for shape in ((24,), (1, 24), (3, 5, 24)):
        hidden = torch.randn(shape).bfloat16()
        torch.testing.assert_close(packed(hidden), layer(hidden))
