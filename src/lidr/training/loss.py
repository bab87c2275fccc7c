"""The loss of METHOD.md, equation of section 1: pure functions of log-probabilities and lengths, without a model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True)
class PairLosses:
    """One value per pair, all of shape (pairs,). `loss` has the gradient; the rest is for telemetry."""

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

    The tensors have shape (pairs,). Log-probabilities are in nats, summed over the answer's tokens with the end-of-turn
    token; `nll_lengths` divides the NLL. Average `loss` over the pairs of an optimiser step.
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
    """The divisor of each pair's NLL, shape (pairs,); the mean over a step's pairs is then the NLL term.

    `sequence`: the pair's |y_w|, so every answer weighs the same (Pang et al. 2024, equation 1).
    `batch_token`: `step_mean`, the mean |y_w| of the optimiser step, so every token weighs the same (TRL's `sft` term).
    """
    if normalization == "sequence":
        return chosen_lengths
    return torch.ones_like(chosen_lengths) * step_mean
