"""The loss of METHOD.md, equation of section 1: pure functions on log-probabilities and lengths, no model in sight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

LOGITS_PER_CHUNK = 2**24  # elements of the (tokens, vocabulary) matrix that exist at once: 64 MiB in float32


@dataclass(frozen=True, slots=True)
class PairLosses:
    """One value per pair, all of shape (pairs,). `loss` carries the gradient; the rest is for telemetry."""

    loss: Tensor
    dpo: Tensor
    nll: Tensor
    chosen_reward: Tensor
    rejected_reward: Tensor


def dpo_nll_loss(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    reference_chosen_logps: Tensor,
    reference_rejected_logps: Tensor,
    nll_lengths: Tensor,
    beta: float,
    alpha: float,
) -> PairLosses:
    """DPO with the NLL of the chosen answer (Rafailov et al. 2023, equation 7; Pang et al. 2024, equation 1).

        loss = -log sigmoid(beta * ((log pi(y_w|x) - log ref(y_w|x)) - (log pi(y_l|x) - log ref(y_l|x))))
               + alpha * (-log pi(y_w|x) / |y_w|)

    All arguments are of shape (pairs,): log-probabilities in nats summed over the answer's tokens, the end-of-turn
    token included, and what the NLL is divided by (`nll_lengths`). Average `loss` over the pairs of an optimiser step.
    """
    chosen_reward = beta * (chosen_logps - reference_chosen_logps)
    rejected_reward = beta * (rejected_logps - reference_rejected_logps)
    dpo = -F.logsigmoid(chosen_reward - rejected_reward)
    nll = nll_loss(chosen_logps, nll_lengths)
    return PairLosses(dpo + alpha * nll, dpo.detach(), nll.detach(), chosen_reward.detach(), rejected_reward.detach())


def nll_loss(chosen_logps: Tensor, nll_lengths: Tensor) -> Tensor:
    """-log pi(y_w|x) / |y_w| of each pair, shape (pairs,): the SFT objective."""
    return -chosen_logps / nll_lengths


def nll_lengths(chosen_lengths: Tensor, step_mean: Tensor | float, normalization: str) -> Tensor:
    """What each pair's NLL is divided by, shape (pairs,), so that the mean over a step's pairs is the NLL term.

    `sequence`: the pair's own |y_w|, so every answer weighs the same (Pang et al. 2024, equation 1).
    `batch_token`: `step_mean`, the mean |y_w| of the optimiser step, so every token weighs the same (TRL's `sft` term).
    """
    if normalization == "sequence":
        return chosen_lengths
    return torch.ones_like(chosen_lengths) * step_mean


def token_logps(logits: Tensor, targets: Tensor) -> Tensor:
    """log softmax(logits)[target], shape (tokens,), float32; `logits` (tokens, vocabulary), `targets` (tokens,)."""
    return _TokenLogps.apply(logits, targets)  # type: ignore[no-any-return]


class _TokenLogps(torch.autograd.Function):
    """As cross-entropy, but keeping the logits and not their log softmax too: half the memory, and less to write."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        total = torch.logsumexp(logits.float(), dim=-1)
        ctx.save_for_backward(logits, targets, total)
        return logits.gather(1, targets[:, None]).squeeze(1).float() - total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """d logp / d logits = one-hot(target) - softmax(logits)."""
        (gradient,) = gradients
        logits, targets, total = ctx.saved_tensors
        out = (logits.float() - total[:, None]).exp_().mul_(-gradient[:, None])
        out.scatter_add_(1, targets[:, None], gradient[:, None].to(out.dtype))
        return out.to(logits.dtype), None


def chunked_logps(
    to_logits: Callable[[Tensor], Tensor],
    hidden: Tensor,
    targets: Tensor,
    vocabulary: int,
    logits_per_chunk: int = LOGITS_PER_CHUNK,
) -> Tensor:
    """`token_logps(to_logits(hidden), targets)` without the whole (tokens, vocabulary) matrix; shape (tokens,).

    `hidden` (tokens, width), `targets` (tokens,). The logits are made chunk by chunk and made again in the backward
    pass, so that one chunk exists at a time. The last chunk is not made again: its backward pass is the next to come.
    """
    step = max(1, logits_per_chunk // vocabulary)

    def logps(part: Tensor, wanted: Tensor) -> Tensor:
        return token_logps(to_logits(part), wanted)

    parts = list(zip(hidden.split(step), targets.split(step), strict=True))
    done = [checkpoint(logps, *part, use_reentrant=False, preserve_rng_state=False) for part in parts[:-1]]
    return torch.cat([*done, logps(*parts[-1])])
