"""Stochastic rounding of trained float32 weights to 16 bits: right on average.

Neighbouring bfloat16 numbers near 0.02 are 1.2e-4 apart, and ten steps at the paper's learning rates move a weight by
5e-6 to 5e-5. Rounding to the nearest number undoes nearly all of these updates. Here a weight that moved a tenth of the
way to the next number becomes that number with a probability of a tenth, so the sum of many small updates is kept
(Gupta et al. 2015, arXiv 1502.02551).
"""

from __future__ import annotations

import torch
from torch import Tensor

from lidr.records import content_id

_CHUNK = 2**24  # numbers rounded at a time; bounds the extra memory


def round_stochastically(values: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    """`values` (float32, any shape) as `dtype`, each rounded up or down such that its mean is the value itself.

    A value that `dtype` can represent is kept. The tensor's `name` and values seed the draw: equal weights give equal
    bytes, and the next iteration draws other numbers. Formats of 32 bits and more need no draw.
    """
    if values.dtype != torch.float32 or dtype not in (torch.bfloat16, torch.float16):
        return values.to(dtype)
    flat = values.detach().reshape(-1)
    generator = torch.Generator(device=values.device).manual_seed(_seed(flat, name))
    parts = [_round(part, dtype, generator) for part in flat.split(_CHUNK)]
    return torch.cat(parts).reshape(values.shape) if parts else values.to(dtype)


def _seed(flat: Tensor, name: str) -> int:
    """A seed from the sum of the values' bits as integers, which does not depend on the order of addition."""
    return int(content_id(name, int(flat.view(torch.int32).sum(dtype=torch.int64))), 16)


def _round(values: Tensor, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Round one chunk. Floats of one sign are ordered like their bits, so a neighbour is one bit pattern away."""
    nearest = values.to(dtype)
    bits = nearest.view(torch.int16)
    above = nearest.float().abs() > values.abs()  # whether the nearest number is further from zero
    lower = (bits - above.to(torch.int16)).view(dtype).float()  # the neighbour towards zero
    upper = (bits + (~above).to(torch.int16)).view(dtype).float()  # the neighbour away from zero
    share = (values - lower) / (upper - lower)  # 0 if dtype can represent the value
    draw = torch.rand(values.shape, generator=generator, device=values.device)
    rounded = torch.where(draw < share, upper, lower).to(dtype)
    return torch.where(values.isfinite() & upper.isfinite(), rounded, nearest)
