"""The loss of METHOD.md, equation of section 1: pure functions on log-probabilities, no model in sight."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


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
    chosen_lengths: Tensor,
    beta: float,
    alpha: float,
) -> PairLosses:
    """DPO with the NLL of the chosen answer (Rafailov et al. 2023, equation 7; Pang et al. 2024, equation 1).

        loss = -log sigmoid(beta * ((log pi(y_w|x) - log ref(y_w|x)) - (log pi(y_l|x) - log ref(y_l|x))))
               + alpha * (-log pi(y_w|x) / |y_w|)

    All arguments are of shape (pairs,): log-probabilities summed over the answer's tokens, the end-of-turn token
    included, and `chosen_lengths` counting those tokens. The NLL is normalised per sequence; average `loss` over the
    pairs of an optimiser step.
    """
    chosen_reward = beta * (chosen_logps - reference_chosen_logps)
    rejected_reward = beta * (rejected_logps - reference_rejected_logps)
    dpo = -F.logsigmoid(chosen_reward - rejected_reward)
    nll = nll_loss(chosen_logps, chosen_lengths)
    return PairLosses(dpo + alpha * nll, dpo.detach(), nll.detach(), chosen_reward.detach(), rejected_reward.detach())


def nll_loss(chosen_logps: Tensor, chosen_lengths: Tensor) -> Tensor:
    """-log pi(y_w|x) / |y_w| of each pair, shape (pairs,): the SFT objective."""
    return -chosen_logps / chosen_lengths


def answer_logps(logits: Tensor, input_ids: Tensor, answer_mask: Tensor) -> Tensor:
    """Sum of the log-probabilities of the answer's tokens, shape (rows,), in float32.

    `logits` (rows, tokens, vocabulary), `input_ids` and `answer_mask` (rows, tokens); the mask is 1 on the tokens of
    the answer, which position t - 1 predicts.
    """
    targets = input_ids[:, 1:]
    token_logps = -F.cross_entropy(logits[:, :-1].float().transpose(1, 2), targets, reduction="none")
    return torch.sum(token_logps * answer_mask[:, 1:], dim=1)
