"""The loss: a hand-computed example, finite differences, and the tokens that count."""

from __future__ import annotations

import math

import pytest
import torch

from lidr.training.loss import answer_logps, dpo_nll_loss, nll_loss


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_against_a_calculation_by_hand() -> None:
    losses = dpo_nll_loss(
        column(-10.0, -6.0), column(-14.0, -5.0), column(-12.0, -6.0), column(-13.0, -7.0), column(5, 3), 0.1, 1.0
    )
    # pair 1: rewards 0.1 * 2 and 0.1 * -1, margin 0.3; NLL 10 / 5.  pair 2: rewards 0 and 0.2, margin -0.2; NLL 6 / 3
    expected = [math.log(1 + math.exp(-0.3)) + 2.0, math.log(1 + math.exp(0.2)) + 2.0]
    assert losses.loss.tolist() == pytest.approx(expected, abs=1e-12)
    assert losses.chosen_reward.tolist() == pytest.approx([0.2, 0.0])
    assert losses.rejected_reward.tolist() == pytest.approx([-0.1, 0.2])
    assert losses.nll.tolist() == pytest.approx([2.0, 2.0])


def test_nll_is_normalised_per_sequence() -> None:
    assert nll_loss(column(-10.0, -2.0), column(10, 1)).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("alpha", [0.0, 1.0, 0.3])
def test_gradients_match_finite_differences(alpha: float) -> None:
    torch.manual_seed(0)
    references = -20 * torch.rand(2, 6, dtype=torch.float64)
    lengths = torch.randint(1, 30, (6,)).double()

    def mean_loss(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
        return dpo_nll_loss(chosen, rejected, references[0], references[1], lengths, 0.1, alpha).loss.mean()

    policy = [(-20 * torch.rand(6, dtype=torch.float64)).requires_grad_() for _ in range(2)]
    assert torch.autograd.gradcheck(mean_loss, policy)


def test_answer_logps_sum_over_the_answers_tokens_only() -> None:
    torch.manual_seed(0)
    logits, ids = torch.randn(2, 5, 7), torch.randint(0, 7, (2, 5))
    mask = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 0, 0]])
    table = torch.log_softmax(logits, dim=-1)
    expected = [
        sum(table[row, place - 1, ids[row, place]].item() for place in range(1, 5) if mask[row, place])
        for row in range(2)
    ]
    assert answer_logps(logits, ids, mask).tolist() == pytest.approx(expected, abs=1e-5)
