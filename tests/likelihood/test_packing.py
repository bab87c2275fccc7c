"""Packed pairs with shared prompts give what separate passes give, on every architecture that can be packed."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
import torch
from torch import Tensor

from lidr.likelihood.forward import PairForward, why_not_packed
from lidr.likelihood.packing import Layout, pack, pad, padded_length, plan_rows, segment_length
from lidr.training.loss import dpo_nll_loss
from tests.support.tiny_models import PACKED, PADDED, VOCABULARY, build


def random_pairs(count: int = 5) -> list[dict[str, Any]]:
    """Longer than the sliding window, and one pair with an answer of a single token."""
    rng = random.Random(0)
    sizes = [(rng.randint(2, 12), rng.randint(2, 15), rng.randint(2, 15)) for _ in range(count - 1)] + [(9, 1, 11)]
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    return [{name: rng.choices(range(VOCABULARY), k=n) for name, n in zip(names, size, strict=True)} for size in sizes]


def one_at_a_time(model: Any, pairs: list[dict[str, Any]]) -> Tensor:
    """Every answer in a pass of its own, by the definition: chosen first, then rejected."""
    sums = []
    for side in ("chosen_ids", "rejected_ids"):
        for pair in pairs:
            prompt, ids = len(pair["prompt_ids"]), torch.tensor([pair["prompt_ids"] + pair[side]])
            table = torch.log_softmax(model(input_ids=ids, use_cache=False).logits[0], -1)
            sums.append(torch.stack([table[at - 1, ids[0, at]] for at in range(prompt, ids.shape[1])]).sum())
    return torch.stack(sums)


def loss_of(logps: Tensor, pairs: list[dict[str, Any]]) -> Tensor:
    references = torch.linspace(-40, -30, len(pairs))
    lengths = torch.tensor([len(pair["chosen_ids"]) for pair in pairs])
    return dpo_nll_loss(*logps.chunk(2), references, references - 5, lengths, beta=0.1, alpha=1.0).loss.mean()


def assert_exact(model: Any, packed: bool) -> None:
    pairs, plain = random_pairs(), copy.deepcopy(model)
    forward = PairForward(model, packed)
    loss = loss_of(model(**forward.collate(pairs, with_rejected=True)), pairs)
    expected = loss_of(one_at_a_time(plain, pairs), pairs)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    loss.backward()
    expected.backward()
    gradients = [(p.grad, q.grad) for p, q in zip(model.parameters(), plain.parameters(), strict=True)]
    for found, wanted in gradients:
        assert (found is None) == (wanted is None)
        assert found is None or (found - wanted).abs().max().item() < 1e-5
    assert max(wanted.abs().max().item() for _, wanted in gradients if wanted is not None) > 0.01


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("block", [4, 256])
def test_packed_is_one_at_a_time(name: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lidr.likelihood.packing.QUERIES_PER_BLOCK", block)
    model = build(*PACKED[name])
    assert why_not_packed(model) is None
    assert_exact(model, packed=True)


@pytest.mark.parametrize("name", PADDED)
def test_what_cannot_be_packed_is_found_out_and_padded(name: str) -> None:
    config, settings, reason = PADDED[name]
    model = build(config, settings)
    assert reason in (why_not_packed(model) or "")
    assert_exact(model, packed=False)


def test_a_wrong_mask_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if an architecture let the rejected answer see the chosen one."""
    of = Layout.of
    monkeypatch.setattr(Layout, "of", lambda sequences: of([(s, begin - s, begin, n) for s, _, begin, n in sequences]))
    assert "differ by" in (why_not_packed(build(*PACKED["Llama"])) or "")


@pytest.mark.parametrize(("recompute_above", "recomputed"), [(0, 3), (80, 3), (90, 2), (121, 2), (122, 0)])
def test_recomputing_activations_changes_nothing(recompute_above: int, recomputed: int) -> None:
    model, pairs = build(*PACKED["Gemma 3, alternating windows"]), random_pairs()
    other = copy.deepcopy(model)
    forward = PairForward(model, packed=True, recompute_above=recompute_above)
    forward.silence()
    batch = forward.collate(pairs, with_rejected=True)
    assert batch["input_ids"].numel() == 122
    passes = []
    for layer in model.base_model.layers:
        layer.mlp.register_forward_hook(lambda *_: passes.append(1))
    loss_of(model(**batch), pairs).backward()
    loss_of(other(**PairForward(other, packed=True).collate(pairs, with_rejected=True)), pairs).backward()
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None and torch.equal(a.grad, b.grad)
    assert sum(layer.on for layer in forward.layers) == recomputed
    assert len(passes) == 3 + recomputed


def test_without_rejected_answers_only_the_chosen_ones_are_computed() -> None:
    model, pairs = build(*PACKED["Llama"]), random_pairs()
    expected = one_at_a_time(model, pairs)[: len(pairs)]
    batch = PairForward(model, packed=True).collate(pairs, with_rejected=False)
    assert batch["input_ids"].shape[1] == sum(len(pair["prompt_ids"]) + len(pair["chosen_ids"]) for pair in pairs)
    assert torch.allclose(model(**batch), expected, atol=1e-4)


def test_a_row_holds_every_token_once_and_positions_restart_after_the_prompt() -> None:
    pairs = [
        {"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [4, 5]},
        {"prompt_ids": [6], "chosen_ids": [7, 8], "rejected_ids": [9]},
    ]
    row = pack(pairs, with_rejected=True)
    assert row["input_ids"].tolist() == [[1, 2, 3, 4, 5, 6, 7, 8, 9]]
    assert row["position_ids"].tolist() == [[0, 1, 2, 2, 3, 0, 1, 2, 1]]
    assert row["predictors"].tolist() == [1, 1, 3, 5, 6, 5]
    assert row["targets"].tolist() == [3, 4, 5, 7, 8, 9]
    assert row["answers"].tolist() == [0, 2, 2, 1, 1, 3]
    assert row["layout"].keys.tolist() == [0, 1, 2, 0, 1, 3, 4, 5, 6, 7, 5, 8]
    assert row["layout"].queries == [0, 3, 5, 8, 9] and row["layout"].key_starts == [0, 3, 7, 10, 12]
    assert [segment_length(pair, True) for pair in pairs] == [5, 4]
    assert [padded_length(pair, True) for pair in pairs] == [8, 6]
    padded = pad(pairs, with_rejected=True)
    assert padded["input_ids"].tolist() == [[1, 2, 3, 0], [6, 7, 8, 0], [1, 2, 4, 5], [6, 9, 0, 0]]
    assert padded["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 0, 0]]
    assert padded["predictors"].tolist() == [1, 4, 5, 9, 10, 12]


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
@pytest.mark.parametrize("budget", [1, 50, 120, 10_000])
def test_rows_hold_every_pair_once_within_the_budget(budget: int, processes: int) -> None:
    rng = random.Random(1)
    costs = [rng.randint(5, 60) for _ in range(23)]
    plan = plan_rows(costs, budget, processes)
    assert len(plan) == processes and len({len(rows) for rows in plan}) == 1
    rows = [row for process in plan for row in process]
    assert sorted(item for row in rows for item in row) == list(range(23))
    assert all(len(row) == 1 or sum(costs[item] for item in row) <= budget for row in rows if row)
    if processes == 1:
        assert len(rows) <= 2 * sum(costs) / budget + len([cost for cost in costs if cost > budget / 2]) + 1
