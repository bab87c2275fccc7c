"""Pack pairs into rows without padding; both answers of a pair share the tokens of their prompt.

A pair is one segment [prompt | chosen | rejected]. The rejected answer's positions restart after the prompt, and it
sees the prompt and itself. A row is several segments with at most a budget of tokens. To score samples of one prompt,
they make one segment too, with any number of answers.

Attention needs no mask: it is variable-length attention over one sequence per answer, [prompt | chosen] on itself, and
the queries of `rejected` on the keys of [prompt | rejected]. It costs what the two answers cost, not the square of the
row, and sliding windows, soft-capping and attention sinks are right on every layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from inspect import signature
from itertools import pairwise
from typing import Any, NotRequired, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

ATTENTION = "lidr_pairs"  # the name of our attention among those of transformers
QUERIES_PER_BLOCK = 256  # blocks skip keys that the mask hides, for kernels that do not

Batch = dict[str, Any]  # the arguments of one forward pass: tensors, the `Layout`, and what the loss needs of the pairs


class Pair(TypedDict):
    """A tokenised pair. A pair for scoring has two fields; the reference columns are for DPO."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: NotRequired[list[int]]
    id: NotRequired[str]
    prompt_id: NotRequired[str]
    language: NotRequired[str]
    kind: NotRequired[str]
    reference_chosen_logps: NotRequired[float]
    reference_rejected_logps: NotRequired[float]


# --- which pairs go together ------------------------------------------------------------------------------------------


def plan_rows(costs: Sequence[int], budget: int, processes: int = 1) -> list[list[list[int]]]:
    """Pack items into rows of at most `budget` tokens, with the same number of rows for every process.

    Returns the rows of each process as lists of indices into `costs`. An item above the budget gets its own row. The
    method is first fit, longest first; then rows are split or left empty until all processes have equally many.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for item in sorted(range(len(costs)), key=lambda number: -costs[number]):
        place = next((number for number, left in enumerate(room) if costs[item] <= left), None)
        if place is None:
            rows.append([])
            room.append(budget)
            place = len(rows) - 1
        rows[place].append(item)
        room[place] -= costs[item]
    while len(rows) % processes:
        longest = max(rows, key=len)
        rows.append([longest.pop() for _ in range(len(longest) // 2)])
    rows.sort(key=lambda row: -sum(costs[item] for item in row))
    rounds = [rows[first : first + processes] for first in range(0, len(rows), processes)]
    turns = [dealt[:: -1 if number % 2 else 1] for number, dealt in enumerate(rounds)]  # no process gets all long rows
    return [list(process) for process in zip(*turns, strict=True)]


def segment_length(pair: Pair, with_rejected: bool) -> int:
    """Tokens of a pair in a packed row."""
    return len(pair["prompt_ids"]) + len(pair["chosen_ids"]) + (len(pair["rejected_ids"]) if with_rejected else 0)


def padded_length(pair: Pair, with_rejected: bool) -> int:
    """Tokens of a pair that is padded to its longer answer."""
    longer = max(len(pair["chosen_ids"]), len(pair["rejected_ids"]) if with_rejected else 0)
    return (len(pair["prompt_ids"]) + longer) * (2 if with_rejected else 1)


# --- a row's tensors --------------------------------------------------------------------------------------------------


def pack(pairs: Sequence[Pair], with_rejected: bool) -> Batch:
    """The row that `pack_segments` makes; answer i is the chosen one of pair i, answer pairs + i its rejected one."""
    segments = []
    for number, pair in enumerate(pairs):
        answers = [(number, pair["chosen_ids"])]
        if with_rejected:
            answers.append((number + len(pairs), pair["rejected_ids"]))
        segments.append((pair["prompt_ids"], answers))
    return pack_segments(segments)


def pack_segments(segments: Sequence[tuple[list[int], list[tuple[int, list[int]]]]]) -> Batch:
    """One row of segments [prompt | answer | answer ...], its `Layout`, and which outputs predict which tokens.

    A segment is a prompt's tokens and (number, tokens) of each of its answers. `input_ids`, `position_ids` (1, tokens);
    for every answer token, `predictors` is the place in the row whose output predicts it, `targets` the token, and
    `answers` the number of its answer; (answer tokens,).
    """
    ids: list[int] = []
    positions: list[int] = []
    columns: list[tuple[list[int], list[int], list[int]]] = []
    sequences: list[tuple[int, int, int, int]] = []  # prompt start, prompt length, start and length of the answer
    for prompt, answers in segments:
        start, length = len(ids), len(prompt)
        ids += prompt
        positions += range(length)
        for number, answer in answers:
            begin = len(ids)
            sequences.append((start, length, begin, len(answer)))
            before = [start + length - 1, *range(begin, begin + len(answer) - 1)]
            columns.append((before, answer, [number] * len(answer)))
            ids += answer
            positions += range(length, length + len(answer))
    predictors, targets, owners = (torch.tensor([x for column in columns for x in column[i]]) for i in range(3))
    return {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "layout": Layout.of(sequences),
        "predictors": predictors,
        "targets": targets,
        "answers": owners,
        "num_answers": len(sequences),
    }


def pad(pairs: Sequence[Pair], with_rejected: bool) -> Batch:
    """Right-padded rows for a model without packing: all chosen answers, then all rejected ones.

    `input_ids`, `attention_mask` (rows, tokens); `predictors` are places in the concatenated rows; see `pack_segments`.
    """
    rows = [(pair["prompt_ids"], pair["chosen_ids"]) for pair in pairs]
    rows += [(pair["prompt_ids"], pair["rejected_ids"]) for pair in pairs] if with_rejected else []
    width = max(len(prompt) + len(answer) for prompt, answer in rows)
    batch = {name: torch.zeros((len(rows), width), dtype=torch.long) for name in ("input_ids", "attention_mask")}
    predictors: list[int] = []
    for number, (prompt, answer) in enumerate(rows):
        length = len(prompt) + len(answer)
        batch["input_ids"][number, :length] = torch.tensor([*prompt, *answer])
        batch["attention_mask"][number, :length] = 1
        predictors += range(number * width + len(prompt) - 1, number * width + length - 1)
    return batch | {
        "predictors": torch.tensor(predictors),
        "targets": torch.tensor([token for _, answer in rows for token in answer]),
        "answers": torch.tensor([number for number, (_, answer) in enumerate(rows) for _ in answer]),
        "num_answers": len(rows),
    }


@dataclass
class Layout:
    """The sequences of a packed row: which queries see which keys.

    Sequence i has the queries `queries[i]:queries[i + 1]` of the row, which are contiguous, and the keys at
    `keys[key_starts[i]:key_starts[i + 1]]`. Its queries are the last of its keys, with causal attention.
    """

    queries: list[int]
    keys: Tensor
    key_starts: list[int]
    on_device: dict[str, Tensor] = field(default_factory=dict)
    _blocks: dict[tuple[int, int, int | None], list[Block]] = field(default_factory=dict)

    @classmethod
    def of(cls, sequences: Sequence[tuple[int, int, int, int]]) -> Layout:
        """Made from (prompt start, prompt length, answer start, answer length) of every answer, in the row's order."""
        queries, key_starts, keys = [0], [0], []
        for start, prompt, begin, length in sequences:
            keys += [*range(start, start + prompt), *range(begin, begin + length)]
            queries.append(begin + length)
            key_starts.append(len(keys))
        return cls(queries, torch.tensor(keys), key_starts)

    def to(self, device: torch.device) -> Layout:
        """The same object, with what kernels need on that device."""
        self.keys = self.keys.to(device)
        for name, starts in (("queries", self.queries), ("keys", self.key_starts)):
            self.on_device[name] = torch.tensor(starts, dtype=torch.int32).to(device)
        return self

    @cached_property
    def lengths(self) -> tuple[list[int], list[int]]:
        """The number of queries, and of keys, of each sequence."""
        return tuple([last - first for first, last in pairwise(starts)] for starts in (self.queries, self.key_starts))  # type: ignore[return-value]

    def blocks(self, queries: int, keys: int, window: int | None, like: Tensor) -> list[Block]:
        """Blocks of a sequence's queries, each with the keys that any of its queries may see; made once per row."""
        key = (queries, keys, window)
        if key not in self._blocks:
            self._blocks[key] = [
                Block.of(first, min(first + QUERIES_PER_BLOCK, queries), keys - queries, window, like)
                for first in range(0, queries, QUERIES_PER_BLOCK)
            ]
        return self._blocks[key]


@dataclass(frozen=True)
class Block:
    """Some queries of a sequence, all keys that they see, and the mask between them (0 or -inf)."""

    queries: slice
    keys: slice
    mask: Tensor

    @classmethod
    def of(cls, first: int, last: int, offset: int, window: int | None, like: Tensor) -> Block:
        """The block of queries `first` to `last`; their positions among the keys begin at `offset`."""
        start = max(0, offset + first + 1 - window) if window else 0
        distance = torch.arange(offset + first, offset + last)[:, None] - torch.arange(start, offset + last)[None, :]
        hidden = distance < 0 if window is None else (distance < 0) | (distance >= window)
        mask = torch.zeros(distance.shape).masked_fill(hidden, -torch.inf)
        return cls(slice(first, last), slice(start, offset + last), mask.to(like.device, like.dtype))


# --- attention over a packed row --------------------------------------------------------------------------------------


def pair_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    layout: Layout | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Attention of one packed row, with the signature of transformers' `AttentionInterface`.

    `query` (1, heads, tokens, width), `key` and `value` with as many or fewer heads; returns (1, tokens, heads, width).
    Raises TypeError if the architecture does not pass `layout` on to its layers.
    """
    if layout is None:
        raise TypeError("this architecture does not pass keyword arguments to its attention layers")
    queries, keys = layout.lengths
    window = sliding_window if sliding_window and sliding_window < max(keys) else None
    if torch.is_autocast_enabled(query.device.type):
        # Rotary positions have the precision of the weights, float32, and have raised queries and keys to it.
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    key, value = key.index_select(2, layout.keys), value.index_select(2, layout.keys)
    flash = query.is_cuda and query.dtype in (torch.bfloat16, torch.float16) and softcap is None and s_aux is None
    if flash:
        return _flash(query, key, value, layout, scaling, window), None
    if softcap is None and s_aux is None:
        attend = partial(_sdpa, scaling=scaling, window=window, layout=layout)
    else:
        attend = partial(_eager, scaling=scaling, window=window, layout=layout, softcap=softcap, sinks=s_aux)
    parts = zip(query.split(queries, 2), key.split(keys, 2), value.split(keys, 2), strict=True)
    return torch.cat([attend(*part) for part in parts], dim=2).transpose(1, 2), None


def _flash(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, scaling: float | None, window: int | None
) -> Tensor:
    """One kernel for all sequences: torch's variable-length flash attention, causal from the bottom right."""
    from torch.nn.attention.varlen import varlen_attn

    queries, keys = layout.lengths
    groups = query.shape[1] // key.shape[1]
    grouped: dict[str, Any] = {"enable_gqa": groups > 1}
    if "enable_gqa" not in signature(varlen_attn).parameters:  # torch 2.11
        grouped = {}
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    output: Any = varlen_attn(
        query[0].transpose(0, 1),
        key[0].transpose(0, 1),
        value[0].transpose(0, 1),
        layout.on_device["queries"],
        layout.on_device["keys"],
        max(queries),
        max(keys),
        scale=scaling,
        window_size=(-1 if window is None else window - 1, 0),
        **grouped,
    )
    packed: Tensor = output[None]
    return packed


def _sdpa(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None, layout: Layout
) -> Tensor:
    attend = partial(F.scaled_dot_product_attention, scale=scaling, enable_gqa=query.shape[1] != key.shape[1])
    queries, keys = query.shape[2], key.shape[2]
    if queries == keys and window is None:
        return attend(query, key, value, is_causal=True)
    parts = [
        attend(query[:, :, block.queries], key[:, :, block.keys], value[:, :, block.keys], attn_mask=block.mask)
        for block in layout.blocks(queries, keys, window, query)
    ]
    return torch.cat(parts, dim=2)


def _eager(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float | None,
    window: int | None,
    layout: Layout,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """Attention with soft-capped scores (Gemma 2) or a sink per head (GPT-OSS), which fused kernels do not have."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    parts = []
    for block in layout.blocks(query.shape[2], key.shape[2], window, query):
        scores = query[:, :, block.queries] @ key[:, :, block.keys].transpose(2, 3)
        scores = scores * (scaling or query.shape[-1] ** -0.5)
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        scores = scores + block.mask
        if sinks is not None:
            column = sinks.to(scores.dtype).reshape(1, -1, 1, 1).expand(*scores.shape[:3], 1)
            scores = torch.cat([scores, column], dim=-1)
        weights = torch.softmax(scores.float(), dim=-1).to(query.dtype)
        parts.append(weights[..., : block.mask.shape[1]] @ value[:, :, block.keys])
    return torch.cat(parts, dim=2)


AttentionInterface.register(ATTENTION, pair_attention)
AttentionMaskInterface.register(ATTENTION, lambda *_, **__: None)  # the layout replaces the mask
