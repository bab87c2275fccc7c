"""log p of tokens from hidden states, without holding all logits at once: pure functions, without a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Elements of the (tokens, vocabulary) matrix at a time: what fits a CPU's cache, and 64 MiB in float32 elsewhere.
LOGITS_PER_CHUNK = {"cpu": 2**21, "cuda": 2**24}


def token_logps(logits: Tensor, targets: Tensor) -> Tensor:
    """log softmax(logits)[target], shape (tokens,), float32; `logits` (tokens, vocabulary), `targets` (tokens,)."""
    return -F.cross_entropy(logits.float(), targets, reduction="none")


def linear_logps(hidden: Tensor, weight: Tensor, targets: Tensor, logits_per_chunk: int | None = None) -> Tensor:
    """`token_logps(hidden @ weight.T, targets)` with only some columns of the logits at a time; shape (tokens,).

    `hidden` (tokens, width), `weight` (vocabulary, width), `targets` (tokens,). A chunk is some columns of the
    vocabulary, not some tokens: so the gradient of `weight` is written once and not summed over chunks.
    """
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
    size = logits_per_chunk or LOGITS_PER_CHUNK.get(hidden.device.type, LOGITS_PER_CHUNK["cuda"])
    return _LinearLogps.apply(hidden, weight, targets, max(1, size // max(1, len(hidden))))  # type: ignore[no-any-return]


class _LinearLogps(torch.autograd.Function):
    """Computes the logits in chunks, and again in the backward pass; keeps only their sums."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, columns: int) -> Tensor:
        dtype = torch.promote_types(hidden.dtype, torch.float32)
        total = hidden.new_full((len(hidden),), -torch.inf, dtype=dtype)  # log sum exp of the logits so far
        wanted = torch.zeros_like(total)  # the target's logit, rounded as in the sum
        for first in range(0, len(weight), columns):
            logits = (hidden @ weight[first : first + columns].t()).to(dtype)
            total = torch.logaddexp(total, torch.logsumexp(logits, dim=-1))
            place = targets - first
            here = (place >= 0) & (place < logits.shape[1])
            wanted += logits.gather(1, (place * here)[:, None]).squeeze(1) * here
        ctx.save_for_backward(hidden, weight, targets, total)
        ctx.columns = columns
        return wanted - total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """d logp / d logits = one-hot(target) - softmax(logits)."""
        hidden, weight, targets, total = ctx.saved_tensors
        gradient = gradients[0][:, None].to(hidden.dtype)
        of_hidden, scaled = weight[targets].to(total.dtype), -gradient * hidden  # summed up in float32
        of_weight = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        for first in range(0, len(weight), ctx.columns):
            part = weight[first : first + ctx.columns]
            softmax = (hidden @ part.t()).to(total.dtype).sub_(total[:, None]).exp_().to(weight.dtype)
            of_hidden -= softmax @ part
            if of_weight is not None:
                torch.mm(softmax.t(), scaled, out=of_weight[first : first + ctx.columns])
        if of_weight is not None:
            of_weight.index_add_(0, targets, scaled, alpha=-1)
        return (of_hidden * gradient).to(hidden.dtype), of_weight, None, None


def chunked_logps(
    to_logits: Callable[[Tensor], Tensor], hidden: Tensor, targets: Tensor, tokens_per_chunk: int
) -> Tensor:
    """`token_logps(to_logits(hidden), targets)` for any output layer, in chunks of tokens; shape (tokens,).

    `hidden` (tokens, width), `targets` (tokens,). The backward pass computes the logits of each chunk again.
    """

    def logps(part: Tensor, wanted: Tensor) -> Tensor:
        return token_logps(to_logits(part), wanted)

    parts = zip(hidden.split(tokens_per_chunk), targets.split(tokens_per_chunk), strict=True)
    return torch.cat([checkpoint(logps, *part, use_reentrant=False, preserve_rng_state=False) for part in parts])
