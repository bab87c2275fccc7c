"""The loss: hand-computed examples, finite differences, TRL where the two agree, and log-probabilities in chunks."""

from __future__ import annotations

import math

import pytest
import torch

from lidr.training.loss import chunked_logps, dpo_nll_loss, nll_lengths, nll_loss, token_logps


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


def test_nll_is_normalised_per_sequence_or_over_all_tokens() -> None:
    logps, lengths = column(-10.0, -2.0), column(10, 1)
    per_sequence = nll_loss(logps, nll_lengths(lengths, 5.5, "sequence"))
    assert per_sequence.tolist() == [1.0, 2.0]
    per_token = nll_loss(logps, nll_lengths(lengths, 5.5, "batch_token"))
    assert per_token.mean().item() == pytest.approx(12 / 11)  # -(sum of log-probabilities) / (number of tokens)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 0.3])
def test_gradients_match_finite_differences(alpha: float) -> None:
    torch.manual_seed(0)
    references = -20 * torch.rand(2, 6, dtype=torch.float64)
    lengths = torch.randint(1, 30, (6,)).double()

    def mean_loss(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
        return dpo_nll_loss(chosen, rejected, references[0], references[1], lengths, 0.1, alpha).loss.mean()

    policy = [(-20 * torch.rand(6, dtype=torch.float64)).requires_grad_() for _ in range(2)]
    assert torch.autograd.gradcheck(mean_loss, policy)


@pytest.mark.parametrize("chunk_tokens", [1, 7, 20, 100])
def test_chunks_give_the_same_values_and_gradients(chunk_tokens: int) -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(16, 300, dtype=torch.float64)
    hidden = torch.randn(50, 16, dtype=torch.float64, requires_grad=True)
    targets, weights = torch.randint(0, 300, (50,)), torch.randn(50)
    expected = torch.log_softmax(head(hidden), -1)[torch.arange(50), targets]
    (expected * weights).sum().backward()
    wanted = [hidden.grad, head.weight.grad, head.bias.grad]
    hidden.grad = head.weight.grad = head.bias.grad = None
    logps = chunked_logps(head, hidden, targets, 300, logits_per_chunk=300 * chunk_tokens)
    (logps * weights).sum().backward()
    assert torch.allclose(logps.double(), expected, atol=1e-5)
    for found, value in zip([hidden.grad, head.weight.grad, head.bias.grad], wanted, strict=True):
        assert found is not None and value is not None and torch.allclose(found, value, atol=1e-5)


def test_chunks_bound_the_logits_that_exist_at_once() -> None:
    head, vocabulary, sizes = torch.nn.Linear(8, 1000), 1000, []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.shape[-1:] == (vocabulary,):
                sizes.append(result.shape[0])
            return result

    hidden = torch.randn(64, 8, requires_grad=True)
    with Watch():
        chunked_logps(head, hidden, torch.zeros(64, dtype=torch.long), vocabulary, 10 * vocabulary).sum().backward()
    assert sizes and max(sizes) == 10


def test_token_logps_are_those_of_the_targets_in_float32() -> None:
    logits = torch.randn(5, 7).bfloat16()
    found = token_logps(logits, torch.tensor([0, 1, 2, 3, 4]))
    table = torch.log_softmax(logits.float(), -1)
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx([table[row, row].item() for row in range(5)], abs=1e-6)
