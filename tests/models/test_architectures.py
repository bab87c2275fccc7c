"""On every architecture an answer has the log-probability that it has alone, and at the first step no reward."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import AttentionInterface

from lidr.config import LoraSection, load_config
from lidr.engines.base import Request, Sampling
from lidr.engines.transformers import Transformers
from lidr.engines.transformers.engine import TransformersEngine
from lidr.errors import ConfigError, RunError
from lidr.likelihood.forward import PairForward, RowLayout, find_layout
from lidr.likelihood.packing import ATTENTION, pair_attention
from lidr.progress_bar import Progress
from lidr.training.trainer import PairTrainer, Telemetry, training_arguments
from lidr.training.weights import add_adapter
from tests.support.tiny_models import CONTEXT, PACKED, PADDED, PECULIAR, SMALL, VOCABULARY, build
from tests.support.tiny_tokenizers import byte_level

ALL = PACKED | {name: found[:2] for name, found in PADDED.items()} | PECULIAR
MIXED = [(2, 3, 4), (5, 30, 4), (9, 3, 25), (3, 4, 2), (12, 20, 24)]  # some beyond CONTEXT, on either side


@pytest.fixture(autouse=True)
def no_collecting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gc.collect", lambda *_: 0)  # accelerate does before every training: most of a test's time


def make_pairs(sizes: list[tuple[int, int, int]]) -> list[dict[str, Any]]:
    rng = random.Random(0)
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    pairs = [
        {name: rng.choices(range(3, VOCABULARY), k=n) for name, n in zip(names, size, strict=True)} for size in sizes
    ]
    return [pair | {"id": str(n), "language": "en", "kind": "dominant"} for n, pair in enumerate(pairs)]


@torch.no_grad()
def alone(model: Any, pairs: list[dict[str, Any]]) -> Tensor:
    """By the definition, each answer in a model that has seen nothing else; chosen first, then rejected."""
    found = []
    for side in ("chosen_ids", "rejected_ids"):
        for pair in pairs:
            ids, prompt = torch.tensor([pair["prompt_ids"] + pair[side]]), len(pair["prompt_ids"])
            fresh = copy.deepcopy(model).eval()
            table = fresh(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
            found.append(table[prompt - 1 : -1].gather(1, ids[0, prompt:, None]).sum())
    return torch.stack(found)


def with_references(model: Any, pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    chosen, rejected = (half.tolist() for half in alone(model, pairs).chunk(2))
    return [
        pair | {"reference_chosen_logps": chosen[n], "reference_rejected_logps": rejected[n]}
        for n, pair in enumerate(pairs)
    ]


def first_step(model: Any, pairs: list[dict[str, Any]], folder: Path, *settings: str) -> dict[str, Any]:
    """What is logged of the first step of training on pairs with references."""
    config = load_config(
        "quickstart", ["training.batch_size=16", "training.epochs=1", "training.warmup_ratio=0", *settings]
    )
    layout = find_layout(model, pairs)
    forward = PairForward(model, layout.packed, alone_above=layout.alone_above)
    logs: list[dict[str, Any]] = []
    telemetry = Telemetry(Progress("", 1), lambda event, **values: logs.append(values), config.training)
    arguments = training_arguments(config, folder, len(pairs), torch.device("cpu"))
    arguments.save_strategy = "no"
    data = Dataset.from_list(pairs)
    PairTrainer(config, forward, True, model=model, args=arguments, train_dataset=data, callbacks=[telemetry]).train()
    return logs[0]


@pytest.mark.parametrize(
    ("name", "budget"), [(name, 30) for name in ALL] + [("Llama, dynamic", 1000), ("Phi-3, longrope", 1000)]
)
def test_at_the_first_step_every_margin_is_0(name: str, budget: int, tmp_path: Path) -> None:
    model = build(*ALL[name])
    pairs = with_references(model, make_pairs(MIXED))
    row = first_step(model, pairs, tmp_path, f"training.token_budget={budget}")
    assert row["margin"] == pytest.approx(0, abs=1e-4)
    expected = sum(-pair["reference_chosen_logps"] / len(pair["chosen_ids"]) for pair in pairs) / len(pairs)
    assert row["nll"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_company_changes_no_answer(name: str) -> None:
    model, pairs = build(*ALL[name]), make_pairs(MIXED)
    expected, layout = alone(model, pairs), find_layout(model, pairs)
    forward = PairForward(model, layout.packed, alone_above=layout.alone_above)
    forward.silence()
    for _ in range(2):  # a second time, after the long ones
        found = model(**forward.collate(pairs, with_rejected=True))
        assert torch.allclose(found, expected, atol=1e-3)
        assert torch.allclose(model(**forward.collate(pairs[:1], True)), expected[[0, len(pairs)]], atol=1e-3)
    assert layout.packed == (name.split(",")[0] not in ("Mamba", "Llama 4", "Bloom", "Falcon"))
    assert layout.alone_above == (CONTEXT if "dynamic" in name or "longrope" in name else None)


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_within_the_original_context_nothing_is_computed_apart(kind: str) -> None:
    name = next(name for name in PECULIAR if kind in name)
    assert find_layout(build(*PECULIAR[name]), make_pairs([(2, 5, 6), (3, 9, 8)])) == RowLayout(True)


def test_a_window_that_only_long_answers_reach_is_found_out() -> None:
    """As if an architecture did not hand its window on."""
    model = build("MistralConfig", SMALL | {"sliding_window": 40})
    short, long = make_pairs([(2, 5, 5), (3, 8, 8)]), make_pairs([(2, 5, 5), (5, 60, 60)])
    blind = lambda *inputs, sliding_window=None, **more: pair_attention(*inputs, **more)  # noqa: E731
    try:
        AttentionInterface.register(ATTENTION, blind)
        assert find_layout(model, short) == RowLayout(True)
        found = find_layout(model, long)
    finally:
        AttentionInterface.register(ATTENTION, pair_attention)
    assert not found.packed and "differ by" in str(found.why_not) and found.alone_above is None
    assert find_layout(model, long) == RowLayout(True)


@pytest.mark.parametrize("fault", ["noise", "damaged"])
def test_another_function_than_the_references_is_refused_before_the_first_update(fault: str, tmp_path: Path) -> None:
    model = build("LlamaConfig", SMALL)
    pairs = with_references(model, make_pairs(MIXED))
    before = copy.deepcopy(model.state_dict())
    if fault == "noise":  # whatever the mode
        model.model.layers[0].mlp.register_forward_hook(lambda *call: call[-1] + torch.randn_like(call[-1]))
    else:
        pairs[1]["reference_rejected_logps"] -= 1
    with pytest.raises(RunError, match=r"step 1: .* nats per token away from the reference's"):
        first_step(model, pairs, tmp_path)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_adapters_keep_their_dropout() -> None:
    model = build("GPT2Config", PECULIAR["GPT-2, dropout"][1])
    forward = PairForward(model, packed=False)
    adapted = add_adapter(model, LoraSection(dropout=0.5, targets=["c_attn"]), seed=1).train()
    forward.silence()
    dropouts = [(name, module.training) for name, module in adapted.named_modules() if isinstance(module, nn.Dropout)]
    assert {training for name, training in dropouts if "lora" in name} == {True}
    assert {training for name, training in dropouts if "lora" not in name} == {False}


def test_what_cannot_be_recomputed_says_so() -> None:
    with pytest.raises(ConfigError, match="Linear has no layers that can be recomputed"):
        PairForward(nn.Linear(2, 2), packed=False, recompute_above=0)


def test_answers_of_rotary_positions_that_follow_the_longest_row_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    tokenizer = byte_level()
    config, settings = PECULIAR["Phi-3, longrope"]
    rope = settings["rope_parameters"] | {"original_max_position_embeddings": 48}
    changed = {"vocab_size": len(tokenizer), "max_position_embeddings": 512, "original_max_position_embeddings": 48}
    build(config, settings | changed | {"rope_parameters": rope}).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    requests = [Request(f"{n:016x}", (("user", "The red fox is warm. " * (n % 4)),)) for n in range(8)]
    found = []
    for size in (1, 8):
        engine = TransformersEngine(tmp_path, Transformers(device="cpu", dtype="float32", batch_size=size))
        assert not engine.in_slots
        found.append({made.request_id: made.text for made in engine.generate(requests, Sampling(12))})
        engine.close()
    assert found[0] == found[1]
