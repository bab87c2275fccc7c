"""Decoding in slots gives what one row at a time gives, on every architecture that can; the others are found out."""

from __future__ import annotations

import gc
import random
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch

from lidr.engines.base import Sampling
from lidr.engines.transformers import decoding
from lidr.engines.transformers.decoding import Generation, SlotDecoder, TokenChooser, why_not_in_slots
from tests.support.tiny_models import PACKED, PADDED, SMALL, VOCABULARY, build

GREEDY = Sampling(max_new_tokens=12, repetition_penalty=1.3)
LLAMA = PACKED["Llama"]


def make_rows(count: int = 11) -> list[Generation]:
    rng = random.Random(1)
    sizes = sorted((rng.randint(1, 14) for _ in range(count)), reverse=True)
    return [
        Generation(str(number), rng.choices(range(VOCABULARY), k=size), rng.choice([1, 3, 7, 12]), seed=number)
        for number, size in enumerate(sizes)
    ]


def answers(model: Any, slots: int = 3, budget: int | None = None, sampling: Sampling = GREEDY) -> dict[str, list[int]]:
    """Generation id -> tokens; a row also ends with token 5."""
    decoder = SlotDecoder(model, sampling, slots, budget, lambda row: row.generated[-1] == 5)
    return {row.request_id: row.generated for row in decoder.decode(make_rows())}


@torch.inference_mode()
def one_at_a_time(model: Any) -> dict[str, list[int]]:
    """By the definition: a whole pass for every token, without a cache."""
    found = {}
    for row in make_rows():
        ids = list(row.prompt)
        while len(ids) < len(row.prompt) + row.limit and (len(ids) == len(row.prompt) or ids[-1] != 5):
            scores = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
            for token in set(ids):
                scores[token] *= GREEDY.repetition_penalty if scores[token] < 0 else 1 / GREEDY.repetition_penalty
            ids.append(int(scores.argmax()))
        found[row.request_id] = ids[len(row.prompt) :]
    return found


@pytest.mark.parametrize("name", PACKED)
def test_slots_change_no_answer(name: str) -> None:
    model = build(*PACKED[name]).eval()
    assert why_not_in_slots(model) is None
    expected = one_at_a_time(model)
    assert len({len(tokens) for tokens in expected.values()}) > 1
    assert answers(model) == expected


@pytest.mark.parametrize(("name", "reason"), [("Mamba", "linear_attention"), ("Llama 4", "chunked_attention")])
def test_what_cannot_decode_in_slots_is_found_out(name: str, reason: str) -> None:
    assert reason in str(why_not_in_slots(build(*PADDED[name][:2]).eval()))


@pytest.mark.parametrize("what", ["_mask", "admit"])
def test_a_cache_that_is_used_wrongly_is_found_out(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(*LLAMA).eval()
    if what == "_mask":
        ones = lambda self, lengths, width: torch.ones(len(lengths), width, dtype=torch.long)  # noqa: E731
        monkeypatch.setattr(SlotDecoder, "_mask", ones)
    else:
        monkeypatch.setattr(decoding.SlotCache, "admit", lambda self, past: None)
    assert why_not_in_slots(model)


@pytest.mark.parametrize("slots", [1, 2, 8, 64])
def test_the_number_of_slots_changes_no_answer(slots: int) -> None:
    model = build(*LLAMA).eval()
    assert answers(model, slots) == one_at_a_time(model)


def test_growing_caches_small_passes_and_a_small_budget_change_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(*LLAMA).eval()
    expected = one_at_a_time(model)
    monkeypatch.setattr(decoding, "COLUMNS", 1)
    assert answers(model) == expected
    monkeypatch.setattr(decoding, "PREFILL_TOKENS", 20)
    assert answers(model, slots=8) == expected
    widest: list[int] = []
    step = SlotDecoder.next_logits

    def noted(self: SlotDecoder) -> torch.Tensor:
        widest.append(len(self.active) * self.cache.width if len(self.active) > 1 else 0)
        return step(self)

    monkeypatch.setattr(SlotDecoder, "next_logits", noted)
    for budget in (1, 20, 40):
        assert answers(model, slots=8, budget=budget) == expected
        assert max(widest) <= budget
        widest.clear()


def test_the_cache_is_freed_at_once_and_holds_no_more_rows_than_the_budget_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = build(*LLAMA).eval()
    caches: list[Any] = []
    rows: list[int] = []
    made, step = decoding.SlotCache.__init__, SlotDecoder.next_logits

    def noted(self: decoding.SlotCache) -> None:
        made(self)
        caches.append(weakref.ref(self))

    def counted(self: SlotDecoder) -> torch.Tensor:
        rows.append(max(tensor.shape[0] for tensor in self.cache.tensors()))
        return step(self)

    monkeypatch.setattr(decoding.SlotCache, "__init__", noted)
    monkeypatch.setattr(SlotDecoder, "next_logits", counted)
    gc.disable()
    try:
        answers(model, slots=8)
        assert max(rows) == 8
        rows.clear()
        answers(model, slots=8, budget=20)
        assert max(rows) == 1
        begun = SlotDecoder(model, GREEDY, 3, None, lambda row: False).decode(make_rows())
        next(begun)
        begun.close()  # type: ignore[attr-defined]
        assert len(caches) == 3 and not any(cache() for cache in caches)
    finally:
        gc.enable()


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_rotary_positions_that_follow_the_longest_row_are_refused(kind: str) -> None:
    rope = {"rope_type": kind, "rope_theta": 10000.0, "factor": 2.0, "original_max_position_embeddings": 16}
    if kind == "longrope":
        rope |= {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    model = build("LlamaConfig", SMALL | {"rope_parameters": rope, "max_position_embeddings": 32}).eval()
    assert kind in str(why_not_in_slots(model))


def test_draws_depend_on_the_row_alone() -> None:
    model = build("LlamaConfig", SMALL).eval()
    drawn = replace(GREEDY, temperature=1.5, top_p=0.9)
    together = answers(model, 8, sampling=drawn)
    assert together == answers(model, 1, sampling=drawn) == answers(model, 8, budget=30, sampling=drawn)
    assert together != answers(model, 8)


def test_no_row_waits_for_a_longer_one() -> None:
    model = build(*LLAMA).eval()
    passes = 0
    step = model.forward

    def counted(**inputs: Any) -> Any:
        nonlocal passes
        passes += inputs["input_ids"].shape[1] == 1
        return step(**inputs)

    model.forward = counted
    rows = [Generation(str(n), [1, 2, 3 + n], 40 if n == 0 else 4, 0) for n in range(20)]
    done = [row.request_id for row in SlotDecoder(model, Sampling(40), 2, None, lambda row: False).decode(rows)]
    assert done.index("0") == 13  # its 39 steps are those of 13 short answers in the other slot
    assert passes == 39 + 3 * (19 - 13) / 2  # batches of two would take 39 + 9 * 3


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(max_new_tokens=12, temperature=1.0)])
def test_samples_of_one_prompt_are_read_once_and_drawn_apart(
    sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(*LLAMA).eval()
    rows = [
        replace(row, request_id=f"{row.request_id} {k}", seed=k, generated=[]) for row in make_rows() for k in range(3)
    ]
    decode = lambda some, slots: list(SlotDecoder(model, sampling, slots, None, lambda row: False).decode(some))  # noqa: E731
    alone = {row.request_id: row.generated for one in rows for row in decode([replace(one, generated=[])], 1)}
    read: list[int] = []
    forward = model.forward

    def counting(*args: Any, **inputs: Any) -> Any:
        ids = inputs["input_ids"]
        read.append(len(ids) if ids.shape[1] > 1 else 0)
        return forward(*args, **inputs)

    monkeypatch.setattr(model, "forward", counting)
    assert {row.request_id: row.generated for row in decode(rows, 9)} == alone
    assert sum(read) < len(rows) / 2


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (1.0, 0.8), (3.0, 0.99), (0.7, 0.1)])
@pytest.mark.parametrize("short_list", [2, 64])
def test_draws_follow_the_probabilities(
    temperature: float, top_p: float, short_list: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "SHORT_LIST", short_list)
    count, logits = 4000, torch.randn(12, generator=torch.Generator().manual_seed(3)) * 2
    probabilities = (logits / temperature).softmax(-1)
    best = probabilities.sort(descending=True)
    kept = int((best.values.cumsum(-1) < top_p).sum()) + 1  # Holtzman et al. 2020: the fewest that reach top_p
    expected = torch.zeros(12).index_put((best.indices[:kept],), best.values[:kept] / best.values[:kept].sum())
    chooser = TokenChooser(Sampling(1, temperature=temperature, top_p=top_p), count, torch.device("cpu"))
    rows = [Generation("", [1], 1, seed=number) for number in range(count)]
    chooser.choose(logits.repeat(count, 1), rows, 0)
    drawn = torch.bincount(torch.tensor([row.generated[0] for row in rows]), minlength=12) / count
    assert torch.all(drawn[expected == 0] == 0)
    assert torch.all((drawn - expected).abs() < 4 * (expected / count).sqrt() + 1e-6)
