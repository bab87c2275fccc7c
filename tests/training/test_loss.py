"""The loss: hand-computed examples, finite differences, TRL where the two agree, and log-probabilities in chunks."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lidr.likelihood.logps import chunked_logps, linear_logps, token_logps
from lidr.training.loss import dpo_nll_loss, nll_lengths, nll_loss


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


def logps_and_gradients(of: Any, *inputs: Tensor) -> list[Tensor]:
    """The log-probabilities of 50 targets, and the gradients of a weighted sum of them."""
    weights = torch.linspace(-1, 1, 50)
    logps = of(*inputs)
    return [logps.detach(), *torch.autograd.grad((logps * weights).sum(), inputs)]


@pytest.mark.parametrize("chunk", [1, 7, 20, 1000])
def test_chunks_give_the_same_values_and_gradients(chunk: int) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, weight, bias = (
        torch.randn(*size, generator=generator, dtype=torch.float64, requires_grad=True)
        for size in ((50, 16), (300, 16), (300,))
    )
    targets = torch.randint(0, 300, (50,), generator=generator)
    targets[:5] = 7  # one row of the weight gets the gradients of several tokens

    def exact(hidden: Tensor, weight: Tensor, bias: Tensor | float = 0.0) -> Tensor:
        return torch.log_softmax(hidden @ weight.t() + bias, -1)[torch.arange(50), targets]

    def by_columns(hidden: Tensor, weight: Tensor) -> Tensor:
        return linear_logps(hidden, weight, targets, logits_per_chunk=50 * chunk)

    def by_tokens(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return chunked_logps(lambda part: part @ weight.t() + bias, hidden, targets, tokens_per_chunk=chunk)

    wanted = logps_and_gradients(exact, hidden, weight)
    for found, value in zip(logps_and_gradients(by_columns, hidden, weight), wanted, strict=True):
        assert torch.allclose(found, value, atol=1e-12)
    wanted = logps_and_gradients(exact, hidden, weight, bias)
    for found, value in zip(logps_and_gradients(by_tokens, hidden, weight, bias), wanted, strict=True):
        assert torch.allclose(found.double(), value, atol=1e-5)  # it computes in float32


def test_a_frozen_output_layer_gets_no_gradient() -> None:
    hidden, weight = torch.randn(5, 4, requires_grad=True), torch.randn(9, 4)
    linear_logps(hidden, weight, torch.arange(5)).sum().backward()
    expected = torch.autograd.grad(torch.log_softmax(hidden @ weight.t(), -1)[range(5), range(5)].sum(), hidden)
    assert hidden.grad is not None and torch.allclose(hidden.grad, expected[0], atol=1e-6) and weight.grad is None


def test_autocast_multiplies_in_16_bits_and_gives_gradients_in_32() -> None:
    """As close to log_softmax of the same 16-bit logits as it is in float32, where the model is certain, too."""
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(n, 64, generator=generator, requires_grad=True) for n in (50, 300))
    targets = (hidden @ weight.t()).argmax(-1)
    targets[:25] = torch.arange(25)

    def exact(hidden: Tensor, weight: Tensor) -> Tensor:
        return torch.log_softmax((hidden @ weight.t()).float(), -1)[torch.arange(50), targets]

    def by_columns(hidden: Tensor, weight: Tensor) -> Tensor:
        return linear_logps(hidden, weight, targets, logits_per_chunk=50 * 7)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        wanted = logps_and_gradients(exact, hidden, weight)
        found = logps_and_gradients(by_columns, hidden, weight)
    assert all(value.dtype == torch.float32 for value in found)
    assert torch.allclose(found[0], wanted[0], atol=1e-4)
    for value, expected in zip(found[1:], wanted[1:], strict=True):
        assert (value - expected).norm() < 0.01 * expected.norm()


def test_chunks_bound_the_logits_that_exist_at_once() -> None:
    """Of the (64, 1000) logits at most 4,096 elements, in the forward and in the backward pass."""
    shapes: list[tuple[int, ...]] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            result = function(*args, **(kwargs or {}))
            shapes.append(tuple(getattr(result, "shape", ())))
            return result

    hidden, weight = torch.randn(64, 3, requires_grad=True), torch.randn(1000, 3, requires_grad=True)
    targets = torch.zeros(64, dtype=torch.long)
    with Watch():
        linear_logps(hidden, weight, targets, logits_per_chunk=4096).sum().backward()
    assert max(math.prod(shape) for shape in shapes if shape[:1] == (64,)) == 4096
    shapes.clear()
    with Watch():
        chunked_logps(lambda part: part @ weight.t(), hidden, targets, tokens_per_chunk=4).sum().backward()
    assert max(shape[0] for shape in shapes if shape[1:] == (1000,)) == 4


def test_token_logps_are_those_of_the_targets_in_float32() -> None:
    logits = torch.randn(5, 7).bfloat16()
    found = token_logps(logits, torch.tensor([0, 1, 2, 3, 4]))
    table = torch.log_softmax(logits.float(), -1)
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx([table[row, row].item() for row in range(5)], abs=1e-6)
