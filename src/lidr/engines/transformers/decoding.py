"""Decoding in slots: a finished answer leaves at once, and the next request takes its slot.

`generate` of transformers decodes a batch until its longest answer is finished, and copies the whole cache of keys and
values for every token. Here no batch waits for its longest answer, and a step writes its keys and values in place.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import CacheLayerMixin

from lidr.engines.base import Sampling
from lidr.machine.hardware import machine_memory
from lidr.models.chat import TurnEnd
from lidr.models.rotary import changing_context

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PREFILL_TOKENS = 8192  # of prompts that one pass reads, with padding; bounds the memory of activations
SHORT_LIST = 64  # likeliest tokens that are nearly always enough for a draw
COLUMNS, CACHE_GROWTH = 256, 1.5  # the cache grows by COLUMNS or by this factor; growing copies it once
MEMORY_SHARE = 0.8  # of the device's memory, for weights and cache together


@dataclass(slots=True, eq=False)
class Generation:
    """A request in progress: token ids of its prompt and of its answer so far."""

    request_id: str
    prompt: list[int]
    limit: int  # most new tokens
    seed: int
    generated: list[int] = field(default_factory=list)
    likeliest: list[tuple[int, float]] = field(default_factory=list)  # first tokens (id, log-probability)
    end: TurnEnd | None = None  # of a user's turn; None for an assistant's
    generator: torch.Generator | None = None

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.generated)

    @property
    def tokens(self) -> tuple[int, ...]:
        return (*self.prompt, *self.generated)

    def draw(self) -> Tensor:
        """The row's next random number in [0, 1)."""
        if self.generator is None:
            self.generator = torch.Generator().manual_seed(self.seed)
        return torch.rand((), generator=self.generator)


class SlotCache(Cache):
    """Keys and values of the rows in progress, per layer (rows, heads, columns, width).

    Rows are aligned at their last token, in column `end - 1`; the columns before a row's first token are masked. Slots
    [0, used) are taken. All layers keep all tokens, also those with a sliding window: the model's mask excludes tokens.
    """

    def __init__(self) -> None:
        super().__init__(layers=[])
        self.layers: list[_SlotLayer]
        self.rows = self.used = 0
        self.start = self.end = self.columns = 0

    @property
    def width(self) -> int:
        return self.end - self.start

    def admit(self, past: DynamicCache, places: Tensor | None = None) -> None:
        """Copy right-aligned rows of another pass into the next slots.

        `places` (rows,) is the row of each slot; None means every row once, in order.
        """
        width = past.get_seq_length()
        count = past.layers[0].keys.shape[0] if places is None else len(places)
        if not self.layers:
            self.layers = [_SlotLayer(self, layer) for layer in past.layers]
        if not self.used:
            self.start = self.end
        if self.end < width or self.columns <= self.end or self.used + count > self.rows:
            self._lay_out(max(width, self.width), max(self.rows, self.used + count))
        slots, columns = slice(self.used, self.used + count), slice(self.end - width, self.end)
        for mine, new in zip(self.layers, past.layers, strict=True):
            mine.keys[slots, :, columns] = new.keys if places is None else new.keys[places]
            mine.values[slots, :, columns] = new.values if places is None else new.values[places]
        self.used += count
        self.start = min(self.start, self.end - width)

    def tensors(self) -> Iterator[Tensor]:
        """Keys and values of every layer."""
        for layer in self.layers:
            yield from (layer.keys, layer.values)

    def release(self, slot: int) -> None:
        """Free a slot; the row of the last slot moves there."""
        self.used -= 1
        if slot != self.used:
            columns = slice(self.start, self.end)
            for layer in self.layers:
                layer.keys[slot, :, columns] = layer.keys[self.used, :, columns]
                layer.values[slot, :, columns] = layer.values[self.used, :, columns]

    def stepped(self) -> None:
        """Count the column `end` that a pass has written."""
        self.end += 1
        if self.end == self.columns:
            self._lay_out(self.width, self.used)

    def narrow(self, width: int) -> None:
        """Drop the columns that no row reaches."""
        self.start = self.end - width

    def _lay_out(self, end: int, rows: int) -> None:
        """Move the contents so that they end at column `end`, with room for more columns and for `rows` rows."""
        columns = max(end + COLUMNS, int(end * CACHE_GROWTH))
        for layer in self.layers:
            layer.keys = self._moved(layer.keys, rows, end, columns)
            layer.values = self._moved(layer.values, rows, end, columns)
        self.rows, self.start, self.end, self.columns = rows, end - self.width, end, columns

    def _moved(self, old: Tensor, rows: int, end: int, columns: int) -> Tensor:
        # Zeros, because a masked column is multiplied by 0, and NaN would stay NaN.
        new = old.new_zeros(rows, old.shape[1], columns, old.shape[3])
        new[: self.used, :, end - self.width : end] = old[: self.used, :, self.start : self.end]
        return new


class _SlotLayer(CacheLayerMixin):
    is_sliding = False
    keys: Tensor
    values: Tensor

    def __init__(self, cache: SlotCache, like: CacheLayerMixin) -> None:
        super().__init__()
        # A weak reference: in a cycle, gigabytes would wait for the garbage collector.
        self.cache = cast(SlotCache, weakref.proxy(cache))
        self.keys, self.values = like.keys[:0, :, :0], like.values[:0, :, :0]
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Do nothing: `SlotCache.admit` makes the tensors."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        cache = self.cache
        rows, columns = slice(0, cache.used), slice(cache.start, cache.end + 1)
        self.keys[rows, :, cache.end] = key_states[:, :, 0]
        self.values[rows, :, cache.end] = value_states[:, :, 0]
        return self.keys[rows, :, columns], self.values[rows, :, columns]

    def get_seq_length(self) -> int:
        return self.cache.width

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.cache.width + query_length, 0

    def get_max_length(self) -> int:
        return -1


class SlotDecoder:
    """Answers rows with a model, `slots` at a time.

    `is_done` says whether a row's answer has ended. The rows given to `decode` alone decide which rows are decoded
    together, so the same rows always give the same answers.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        sampling: Sampling,
        slots: int,
        token_budget: int | None,
        is_done: Callable[[Generation], bool],
    ) -> None:
        self.model, self.sampling, self.slots, self.is_done = model, sampling, slots, is_done
        self.token_budget = token_budget
        self.device = model.device
        self.chooser = TokenChooser(sampling, slots, model.device)
        self.cache = SlotCache()
        self.active: list[Generation] = []  # by slot

    @torch.inference_mode()
    def decode(self, rows: Iterable[Generation]) -> Iterator[Generation]:
        """Yield each row when its answer is finished. Long prompts should be first, so that the last rows are short."""
        queue = deque(rows)
        while queue or self.active:
            free = self.slots - len(self.active)
            # Reading prompts costs at least as much as a step, so several are read at a time.
            if queue and (free >= max(1, self.slots // 8) or not self.active):
                yield from self._admit(queue)
            while self._is_full():
                queue.appendleft(self.active[-1])  # it starts again with its answer so far as part of the prompt
                self._leave(len(self.active) - 1)
                self._narrow()
            if self.active:
                yield from self._take(self.next_logits(), 0)

    def _admit(self, queue: deque[Generation]) -> Iterator[Generation]:
        """Read the prompts of as many rows as there is room for, and choose their first tokens."""
        while queue and len(self.active) < self.slots:
            batch: list[Generation] = []
            texts: set[tuple[int, ...]] = set()
            while queue and len(self.active) + len(batch) < self.slots:
                width = max([queue[0].length, *(row.length for row in batch)])
                texts.add(queue[0].tokens)
                # The memory per token is known only after the first pass, which is therefore small.
                count = len(batch) + 1 if self.token_budget is None else len(texts)
                if batch and width * count > PREFILL_TOKENS:
                    break
                if (self.active or batch) and self._is_full(len(batch) + 1, width + COLUMNS):
                    break
                batch.append(queue.popleft())
            if not batch:
                return
            past, logits, places = self.read(batch)
            self.cache.admit(past, places)
            if self.token_budget is None:
                self.token_budget = tokens_in_memory(self.model, self.cache)
            first = len(self.active)
            self.chooser.admit(batch, first)
            self.active += batch
            yield from self._take(logits, first)

    def read(self, rows: list[Generation]) -> tuple[DynamicCache, Tensor, Tensor | None]:
        """Keys and values of rows' tokens, right-aligned, and the logits after the last token, (rows, vocabulary).

        Rows with the same tokens, such as samples of one prompt, are read once. Then the keys and values are those of
        the different texts, and the last value is the text of each row (see `SlotCache.admit`).
        """
        texts = list(dict.fromkeys(row.tokens for row in rows))
        width = max(map(len, texts))
        # A row is padded with its first token. Padding is masked, so any token would do.
        ids = [[*tokens[:1] * (width - len(tokens)), *tokens] for tokens in texts]
        lengths = torch.tensor(list(map(len, texts)), device=self.device)
        mask = self._mask(lengths, width)
        past = DynamicCache()
        output = self.model(
            input_ids=torch.tensor(ids, device=self.device),
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
            past_key_values=past,
            use_cache=True,
            logits_to_keep=1,
        )
        logits = output.logits[:, -1]
        if len(texts) == len(rows):
            return past, logits, None
        places = {tokens: place for place, tokens in enumerate(texts)}
        repeated = torch.tensor([places[row.tokens] for row in rows], device=self.device)
        return past, logits[repeated], repeated

    def next_logits(self) -> Tensor:
        """Read the newest token of every active row; returns the logits after it, (rows, vocabulary)."""
        tokens = torch.tensor([[row.generated[-1]] for row in self.active], device=self.device)
        lengths = torch.tensor([row.length for row in self.active], device=self.device)
        output = self.model(
            input_ids=tokens,
            attention_mask=self._mask(lengths, self.cache.width + 1),
            position_ids=(lengths - 1)[:, None],
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.cache.stepped()
        logits: Tensor = output.logits[:, -1]
        return logits

    def _take(self, logits: Tensor, first: int) -> Iterator[Generation]:
        """Choose the next token of the rows from slot `first` on, and yield those that are finished."""
        self.chooser.choose(logits, self.active[first:], first)
        before = len(self.active)
        for slot in reversed(range(first, before)):
            row = self.active[slot]
            if len(row.generated) >= row.limit or self.is_done(row):
                self._leave(slot)
                yield row
        if len(self.active) < before:
            self._narrow()

    def _leave(self, slot: int) -> None:
        self.cache.release(slot)
        self.chooser.release(slot, len(self.active) - 1)
        self.active[slot] = self.active[-1]
        self.active.pop()

    def _narrow(self) -> None:
        if self.active:
            self.cache.narrow(max(row.length for row in self.active) - 1)  # the newest token is not in it yet

    def _is_full(self, more: int = 0, width: int = 0) -> bool:
        """Whether the rows and `more` rows of `width` exceed the budget; a single row never does."""
        rows = len(self.active) + more
        return self.token_budget is not None and rows > 1 and rows * max(self.cache.width, width) > self.token_budget

    def _mask(self, lengths: Tensor, width: int) -> Tensor:
        """(rows, width): 1 in the columns with a token of the row, else 0."""
        return (torch.arange(width, device=self.device) >= (width - lengths)[:, None]).long()


class TokenChooser:
    """Chooses tokens from logits: repetition penalty, then the likeliest or a draw that depends on the row alone."""

    def __init__(self, sampling: Sampling, slots: int, device: torch.device) -> None:
        self.sampling, self.slots, self.device = sampling, slots, device
        # (slots, columns): ids of a row's tokens, for the penalty, padded with the first one. On some devices a matrix
        # over the vocabulary would cost more than the model.
        self.seen = torch.zeros(slots, 0, dtype=torch.long, device=device)
        self.penalises = sampling.repetition_penalty != 1

    def choose(self, logits: Tensor, rows: list[Generation], first: int) -> None:
        """Append a token to each of `rows`, in the slots from `first` on. It overwrites `logits` (rows, vocabulary)."""
        if self.sampling.top_logprobs:
            self._note_likeliest(logits, rows)
        seen = self.seen[first : first + len(rows)] if self.penalises else None
        tokens = self._draw(logits, seen, rows) if self.sampling.temperature else self._best(logits, seen)
        if self.penalises:
            self._grow(max(row.length for row in rows) + 1)
            slots = torch.arange(first, first + len(rows), device=self.device)
            self.seen[slots, torch.tensor([row.length for row in rows], device=self.device)] = tokens
        for row, token in zip(rows, tokens.tolist(), strict=True):
            row.generated.append(token)

    def _penalised(self, logits: Tensor, seen: Tensor) -> Tensor:
        """Lowered scores of `seen` tokens (rows, columns), in float32 (Keskar et al. 2019, arXiv 1909.05858)."""
        penalty, found = self.sampling.repetition_penalty, logits.gather(1, seen).float()
        return torch.where(found < 0, found * penalty, found / penalty)

    def _best(self, logits: Tensor, seen: Tensor | None) -> Tensor:
        """The best token, seen or not; it reads the matrix once and does not convert it.

        On a CPU in bfloat16, `argmax` takes six times as long as `max`, and `scatter_` a hundred times as long as
        writing by index.
        """
        if seen is None:
            return logits.max(-1).indices
        penalised = self._penalised(logits, seen).max(-1)
        logits[torch.arange(len(seen), device=self.device)[:, None], seen] = -torch.inf
        unseen = logits.max(-1)
        best_seen = seen.gather(1, penalised.indices[:, None]).squeeze(1)
        return torch.where(penalised.values > unseen.values.float(), best_seen, unseen.indices)

    def admit(self, rows: list[Generation], first: int) -> None:
        """Give rows the slots from `first` on."""
        if self.penalises:
            self._grow(max(row.length for row in rows))
            width = self.seen.shape[1]
            tokens = [row.prompt + row.generated + row.prompt[:1] * (width - row.length) for row in rows]
            self.seen[first : first + len(rows)] = torch.tensor(tokens, device=self.device)

    def release(self, slot: int, last: int) -> None:
        """Move the row of the last slot to `slot`."""
        if self.penalises and slot != last:
            self.seen[slot] = self.seen[last]

    def _grow(self, columns: int) -> None:
        """Make room for rows of so many tokens."""
        if columns > self.seen.shape[1]:
            more = columns + COLUMNS - self.seen.shape[1]
            filling = self.seen[:, :1] if self.seen.shape[1] else self.seen.new_zeros(self.slots, 1)
            self.seen = torch.cat([self.seen, filling.expand(-1, more)], dim=1)

    def _note_likeliest(self, logits: Tensor, rows: list[Generation]) -> None:
        fresh = [number for number, row in enumerate(rows) if not row.generated]
        if fresh:
            found = likeliest(logits[fresh].float(), self.sampling.top_logprobs)
            for number, pairs in zip(fresh, found, strict=True):
                rows[number].likeliest = pairs

    def _draw(self, logits: Tensor, seen: Tensor | None, rows: list[Generation]) -> Tensor:
        """Draw a token per row: a number in [0, 1) says how far to go, beginning with the likeliest token.

        A few likeliest tokens are nearly always enough. Sorting the vocabulary for every token takes as long as the
        model itself.
        """
        scores = logits.float()
        if seen is not None:
            scores[torch.arange(len(seen), device=self.device)[:, None], seen] = self._penalised(scores, seen)
        scores /= self.sampling.temperature
        total = scores.logsumexp(-1, keepdim=True)
        numbers = torch.stack([row.draw() for row in rows]).to(self.device)
        tokens, enough = self._walk(scores, total, numbers, min(SHORT_LIST, scores.shape[-1]))
        if not enough.all():
            rest = ~enough
            tokens[rest] = self._walk(scores[rest], total[rest], numbers[rest], scores.shape[-1])[0]
        return tokens

    def _walk(self, scores: Tensor, total: Tensor, numbers: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The tokens (rows,) at which the probabilities of the `count` likeliest sum to more than `numbers` (rows,).

        The probabilities are shares of the nucleus, the fewest tokens that have `top_p` together. The second value
        (rows,) says whether `count` tokens are enough.
        """
        best = scores.topk(count)
        reached = (best.values - total).exp().cumsum(-1)  # (rows, count)
        last = torch.full_like(reached[:, 0], count - 1, dtype=torch.long)
        if self.sampling.top_p < 1:
            last = torch.minimum(last, (reached < self.sampling.top_p).sum(-1))
            nucleus = reached.gather(1, last[:, None]).squeeze(1)
            enough = nucleus >= self.sampling.top_p
        else:
            # Rounded sums may end below 1, so for the whole vocabulary the last sum counts as 1.
            nucleus = reached[:, -1] if count == scores.shape[-1] else torch.ones_like(reached[:, 0])
            enough = numbers < reached[:, -1]
        place = torch.minimum((reached <= (numbers * nucleus)[:, None]).sum(-1), last)
        return best.indices.gather(1, place[:, None]).squeeze(1), enough


def likeliest(scores: Tensor, top: int) -> list[list[tuple[int, float]]]:
    """(id, log-probability) of the likeliest tokens of every row of `scores` (rows, vocabulary)."""
    values, ids = scores.log_softmax(-1).topk(min(top, scores.shape[-1]))
    return [list(zip(*row, strict=True)) for row in zip(ids.tolist(), values.tolist(), strict=True)]


def tokens_in_memory(model: PreTrainedModel, cache: SlotCache) -> int:
    """The number of tokens whose keys and values fit into the device's memory beside the weights.

    It depends on the machine alone, not on other processes, so that a resumed run has the same batches.
    """
    if model.device.type == "cuda":
        total = torch.cuda.get_device_properties(model.device).total_memory
    else:
        total = machine_memory()
    per_token = sum(tensor[0, :, 0].numel() * tensor.element_size() for tensor in cache.tensors())
    return max(1, int((MEMORY_SHARE * total - model.get_memory_footprint()) / CACHE_GROWTH / per_token))


# The largest difference between log-probabilities in slots and in a plain pass, in nats, as a mean over the vocabulary.
# A wrong mask or position gives tenths. Products in 8 bits depend on the other rows of the batch (0.2 on SmolLM2-135M).
_TOLERANCE, _TOLERANCE_16_BIT, _TOLERANCE_QUANTISED = 1e-3, 0.1, 0.5


@torch.inference_mode()
def why_not_in_slots(model: PreTrainedModel) -> str | None:
    """Why a model cannot decode in slots, or None if it can.

    Layers that keep more than keys and values of all tokens (recurrent, chunked) are refused by name. All others are
    tried: two rows of different lengths must give the result of each alone.
    """
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or [])
    kinds -= {"full_attention", "sliding_attention"}
    if kinds or model._is_stateful:
        return f"layers of type {', '.join(sorted(kinds)) or 'recurrent'}"
    if changing_context(model.config):
        # Keys in the cache have the frequencies of the rows before it.
        return "rotary positions that follow the longest row (dynamic or longrope)"
    try:
        error = _difference(model)
    except Exception as problem:  # an unknown architecture may fail in any way with this cache
        return f"{type(problem).__name__}: {problem}"
    tolerance = _TOLERANCE if model.dtype == torch.float32 else _TOLERANCE_16_BIT
    if getattr(model, "is_quantized", False):
        tolerance = _TOLERANCE_QUANTISED
    return None if error < tolerance else f"log-probabilities differ by {error:.2g}"


def _difference(model: PreTrainedModel) -> float:
    """The mean difference between log-probabilities in slots and in a plain pass."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(model.config.get_text_config().vocab_size, (3, 9), generator=generator).tolist()
    rows = [Generation("", ids[0][:8], 2, 0, ids[0][8:]), Generation("", ids[1][:4], 2, 0, ids[1][4:5])]
    decoder = SlotDecoder(model, Sampling(2), 2, None, lambda row: False)
    for row in rows:  # one by one, so that the second joins a longer one
        newest = row.generated.pop()
        decoder.cache.admit(decoder.read([row])[0])
        row.generated.append(newest)
        decoder.active.append(row)
    found = decoder.next_logits()
    inputs = [torch.tensor([row.prompt + row.generated], device=model.device) for row in rows]
    alone = torch.cat([model(input_ids=tokens, use_cache=False).logits[:, -1] for tokens in inputs])
    return float((found.float().log_softmax(-1) - alone.float().log_softmax(-1)).abs().mean())
