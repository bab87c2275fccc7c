"""Every causal language model with a chat template, through transformers, on CPU or GPU."""

from __future__ import annotations

import gc
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import torch
from transformers import (
    BitsAndBytesConfig,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)

from lidr.engines.base import Completion, Request, Sampling, Scored, ScoreRequest
from lidr.engines.encoding import encode, encode_scored, no_room, row_seed, up_to_stop, user_turn
from lidr.engines.transformers import Transformers
from lidr.engines.transformers.decoding import Generation, SlotDecoder, likeliest, why_not_in_slots
from lidr.engines.transformers.packed_linear import pack_linear_layers
from lidr.errors import EngineError
from lidr.likelihood.packing import plan_rows
from lidr.likelihood.scorer import Scorer
from lidr.machine.devices import pick_device, pick_dtype
from lidr.models import end_of_turn_ids, load_model, load_tokenizer
from lidr.models.chat import TurnEnd
from lidr.models.rotary import changing_context, restart, rotary_modules
from lidr.records import Json

# Requests are sorted by length within windows of this many batches, so that memory does not grow with their number.
WINDOW_BATCHES = 64
# Batches that are decoded as one group. Slots run empty only at the end of a group, and a resumed run repeats the group
# that it had begun. With answers of log-normal length, groups of 8 batches of 16 take 1.04 times as long as groups of
# 16 batches, groups of 4 batches 1.14 times.
GROUP_BATCHES = 8
SCORED_TOGETHER = 1024  # answers from which rows are made
ROW_TOKENS = 4096  # of scored answers in a row; bounds the memory of activations


class TransformersEngine:
    """A model of transformers that answers `batch_size` requests at a time, those of similar length together.

    Groups are cut from the full list of requests, so they are the same in an interrupted and an uninterrupted run.
    Models that cannot decode in slots (`decoding.why_not_in_slots`) use `generate`, row by row if rows would change one
    another.
    """

    def __init__(self, folder: Path, config: Transformers, trust_remote_code: bool = False) -> None:
        self.device = pick_device(config.device)
        self.tokenizer = load_tokenizer(folder, trust_remote_code)
        self.config = config
        self.model = load_weights(folder, config, self.device, trust_remote_code)
        pack_linear_layers(self.model)
        self.end_ids = end_of_turn_ids(folder, self.tokenizer)
        self.context = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        self.in_slots = _in_slots(self.model)
        self.scorer: Scorer | None = None
        # Above this length, rotary frequencies of some models follow the longest row of a batch.
        self.changes_above, self.rotary = changing_context(self.model.config), rotary_modules(self.model)

    def generate(
        self, requests: Iterable[Request], sampling: Sampling, done: Collection[str] = frozenset()
    ) -> Iterator[Completion]:
        """See `Engine.generate`. A prompt that leaves no room for an answer gets its own `error`."""
        remaining = iter(requests)
        size = self.config.batch_size * GROUP_BATCHES
        while window := list(islice(remaining, self.config.batch_size * WINDOW_BATCHES)):
            rows = []
            for request in window:
                row = self._row(request, sampling)
                if row.limit > 0:
                    rows.append(row)
                else:
                    yield no_room(row.request_id, row.length, self.context)
            first = {row.tokens: row.request_id for row in rows}  # one prompt's samples stay together: read once
            rows.sort(key=lambda row: (row.length, first[row.tokens], row.request_id), reverse=True)
            for end in dict.fromkeys(row.end for row in rows):  # rows that end alike are decoded together
                alike = [row for row in rows if row.end == end]
                for start in range(0, len(alike), size):
                    yield from self._answer_group(alike[start : start + size], _until(end, sampling), done)

    def _answer_group(self, rows: list[Generation], sampling: Sampling, done: Collection[str]) -> Iterator[Completion]:
        """Answer until no row is owed. Done rows are decoded too, so that the batches stay the same."""
        owed = sum(row.request_id not in done for row in rows)
        if owed:
            for row in (self._decode_in_slots if self.in_slots else self._decode_in_batches)(rows, sampling):
                if row.request_id not in done:
                    yield self._read(row, sampling)
                    owed -= 1
                    if not owed:
                        return

    def score(self, requests: Iterable[ScoreRequest], done: Collection[str] = frozenset()) -> Iterator[Scored]:
        """See `ScoringEngine.score`. Answers to the same prompt share its tokens."""
        remaining = iter(requests)
        while window := list(islice(remaining, SCORED_TOGETHER)):
            answers: list[tuple[str, list[int], list[int]]] = []  # id, tokens of the prompt and of the answer
            for request in window:
                encoded = encode_scored(self.tokenizer, request, self.end_ids, self.context)
                if isinstance(encoded, Scored):
                    yield encoded
                else:
                    answers.append((request.request_id, *encoded))
            segments = list(segments_of(answers, ROW_TOKENS))
            costs = [len(prompt) + sum(map(len, found.values())) for prompt, found in segments]
            for row in plan_rows(costs, ROW_TOKENS)[0]:
                together = [segments[number] for number in row]
                if all(request_id in done for _, found in together for request_id in found):
                    continue
                if self.scorer is None:
                    self.scorer = Scorer(self.model, [(prompt, answer) for _, prompt, answer in answers])
                sums = self.scorer.score([(prompt, list(found.values())) for prompt, found in together])
                for (_, found), logps in zip(together, sums, strict=True):
                    for (request_id, answer), logp in zip(found.items(), logps, strict=True):
                        yield Scored(request_id, logp, len(answer))

    def close(self) -> None:
        """Free the model and the accelerator's memory."""
        self.model = self.scorer = None
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _row(self, request: Request, sampling: Sampling) -> Generation:
        tokens = encode(self.tokenizer, request, self.end_ids)
        room = sampling.max_new_tokens if self.context is None else self.context - len(tokens)
        user = request.turn == "user"
        return Generation(
            request.request_id,
            tokens,
            min(sampling.max_new_tokens, room),
            row_seed(sampling, request.request_id),
            end=user_turn(self.tokenizer, request.messages, frozenset(self.end_ids))[1] if user else None,
        )

    def _end_ids(self, row: Generation) -> Collection[int]:
        return self.end_ids if row.end is None else row.end.ids

    def _decode_in_slots(self, rows: list[Generation], sampling: Sampling) -> Iterator[Generation]:
        stop, end_ids = _StopStrings(self.tokenizer, sampling.stop), self._end_ids(rows[0])

        def is_done(row: Generation) -> bool:
            return row.generated[-1] in end_ids or stop.found(row.generated)

        config = self.config
        yield from SlotDecoder(self.model, sampling, config.batch_size, config.token_budget, is_done).decode(rows)

    def _decode_in_batches(self, rows: list[Generation], sampling: Sampling) -> Iterator[Generation]:
        for start in range(0, len(rows), self.config.batch_size):
            batch = rows[start : start + self.config.batch_size]
            longest = max(row.length for row in batch) + max(row.limit for row in batch)
            alone = self.changes_above is not None and longest > self.changes_above
            for together in [[row] for row in batch] if alone else [batch]:
                restart(self.rotary)
                yield from self._generate(together, sampling)

    @torch.inference_mode()
    def _generate(self, batch: list[Generation], sampling: Sampling) -> list[Generation]:
        """Left-padded rows through `generate` of transformers.

        A row is padded with its first token. Attention masks padding, and a token of the prompt does not change the
        repetition penalty.
        """
        width = max(row.length for row in batch)
        ids = [[row.prompt[0]] * (width - row.length) + row.prompt for row in batch]
        mask = [[0] * (width - row.length) + [1] * row.length for row in batch]
        first = _FirstToken(sampling.top_logprobs)
        stop, end_ids = _StopStrings(self.tokenizer, sampling.stop, width), self._end_ids(batch[0])
        torch.manual_seed(batch[0].seed)  # so a batch does not depend on the batches before it
        output = self.model.generate(
            input_ids=torch.tensor(ids, device=self.device),
            attention_mask=torch.tensor(mask, device=self.device),
            max_new_tokens=min(max(row.limit for row in batch), (self.context or sys.maxsize) - width),
            stopping_criteria=StoppingCriteriaList([stop] if sampling.stop else []),
            logits_processor=LogitsProcessorList([first] if sampling.top_logprobs else []),
            eos_token_id=sorted(end_ids),
            pad_token_id=min(end_ids),
            **_decoding(sampling),
        )
        for row, generated, pairs in zip(
            batch, output[:, width:].tolist(), first.likeliest or [[]] * len(batch), strict=True
        ):
            end = next((i for i, token in enumerate(generated) if token in end_ids), len(generated))
            row.generated, row.likeliest = generated[: min(end + 1, row.limit)], pairs
        return batch

    def _read(self, row: Generation, sampling: Sampling) -> Completion:
        ended = row.generated[-1] in self._end_ids(row)
        tokens = row.generated[:-1] if ended else row.generated
        text = self.tokenizer.decode(tokens, skip_special_tokens=row.end is None)
        text, stopped_by = up_to_stop(text, sampling.stop)
        return Completion(
            row.request_id,
            text,
            "stop" if ended or stopped_by else "length",
            prompt_tokens=len(row.prompt),
            completion_tokens=len(row.generated),
            stopped_by=stopped_by,
            first_token=tuple((self.tokenizer.decode([token]), logprob) for token, logprob in row.likeliest),
        )


def _until(end: TurnEnd | None, sampling: Sampling) -> Sampling:
    """The sampling of rows that also end before the texts by which a template ends their turn."""
    return sampling if end is None else replace(sampling, stop=(*sampling.stop, *end.stop))


def segments_of(
    answers: Iterable[tuple[str, list[int], list[int]]], budget: int
) -> Iterator[tuple[list[int], dict[str, list[int]]]]:
    """(prompt, answers by id) of every prompt, split into several if the budget has no room for all answers."""
    by_prompt: dict[tuple[int, ...], dict[str, list[int]]] = {}
    for request_id, prompt, answer in answers:
        found = by_prompt.setdefault(tuple(prompt), {})
        if found and len(prompt) + sum(map(len, found.values())) + len(answer) > budget:
            yield prompt, found
            found = by_prompt[tuple(prompt)] = {}
        found[request_id] = answer
    yield from ((list(prompt), found) for prompt, found in by_prompt.items())


class _FirstToken(LogitsProcessor):
    """Notes each row's likeliest first tokens as (id, log-probability); keeping all logits would take gigabytes."""

    def __init__(self, top: int) -> None:
        self.top = top
        self.likeliest: list[list[tuple[int, float]]] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if not self.likeliest:
            self.likeliest = likeliest(scores.float(), self.top)
        return scores


class _StopStrings(StoppingCriteria):
    """Ends a row if its last tokens contain a stop string.

    It runs after every token of every row, so it decodes only a short tail, and only if the newest token has the last
    character of a stop string.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: tuple[str, ...], prompt_width: int = 0) -> None:
        self.tokenizer, self.stops, self.prompt_width = tokenizer, stops, prompt_width
        self.may_end: dict[int, bool] = {}  # token -> whether a stop string may end in it
        # A token is at least one byte, so this many tokens contain the longest stop string and one token more.
        self.tail = max((len(stop.encode()) for stop in stops), default=0) + 1

    def found(self, generated: list[int]) -> bool:
        """Whether the end of an answer has a stop string, if the answer without its newest token has none."""
        if not self.stops or not self._may_end(generated[-1]):
            return False
        tail = self.tokenizer.decode(generated[-self.tail :])
        return any(stop in tail for stop in self.stops)

    def _may_end(self, token: int) -> bool:
        if token not in self.may_end:
            # A character beyond ASCII may be several tokens of single bytes, and none of them shows it.
            text = self.tokenizer.decode([token])
            self.may_end[token] = any(stop[-1] in text or not stop[-1].isascii() for stop in self.stops)
        return self.may_end[token]

    def __call__(self, input_ids: torch.Tensor, scores: object, **kwargs: object) -> torch.Tensor:
        rows = input_ids[:, self.prompt_width :].tolist()
        return torch.tensor([self.found(row) for row in rows], device=input_ids.device)


def _decoding(sampling: Sampling) -> Json:
    """The recipe's decoding. Everything else is off, because `load_weights` discards the model's own defaults."""
    options: Json = {"do_sample": sampling.temperature > 0, "repetition_penalty": sampling.repetition_penalty}
    if sampling.temperature > 0:
        return options | {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    return options


def load_weights(folder: Path, config: Transformers, device: torch.device, trust_remote_code: bool) -> PreTrainedModel:
    """The model for answering, in the recipe's precision or quantised, without its own generation configuration.

    `generate` takes defaults from that configuration, so its fields (suppressed tokens, a minimum length, sampling)
    would silently change the recipe.
    """
    # LLM.int8() computes in float16.
    dtype = torch.float16 if config.quantize == "int8" else pick_dtype(config.dtype, device)
    options: Json = {"dtype": dtype, "generation_config": GenerationConfig()}
    if config.quantize:
        options |= {"quantization_config": _quantization(config.quantize, dtype), "device_map": device}
    model = load_model(folder, trust_remote_code, **options)
    return (model if config.quantize else model.to(device)).eval()


def _quantization(kind: str, dtype: torch.dtype) -> BitsAndBytesConfig:
    """The settings of bitsandbytes. Raises EngineError if it is missing."""
    if find_spec("bitsandbytes") is None:
        raise EngineError(f'engine.quantize {kind} needs one more package: pip install "lidr[qlora]"')
    if kind == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def _in_slots(model: PreTrainedModel) -> bool:
    reason = why_not_in_slots(model)
    if reason:
        name = type(model).__name__
        print(f"{name} cannot be decoded in slots ({reason}); it answers in batches, which is slower", file=sys.stderr)
    return reason is None
