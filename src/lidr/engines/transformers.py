"""Any causal language model with a chat template, through transformers' `generate`, on CPU or GPU."""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from lidr.config import TransformersConfig
from lidr.engines.base import Completion, Request, Sampling
from lidr.models import end_of_turn_ids, load_tokenizer, render_chat
from lidr.records import content_id

# Requests are sorted by length within windows of this many batches, so that memory stays flat in their number.
WINDOW_BATCHES = 64


class TransformersEngine:
    """`generate` on left-padded batches of similar length.

    Batches are cut from the full list of requests, so they are the same in an interrupted run and an uninterrupted one.
    A row is padded with its own first token: padding is masked out of attention, and this way it does not enter the
    repetition penalty either (padding with the end-of-turn token would make answers in mixed batches longer).
    """

    def __init__(self, folder: Path, config: TransformersConfig, trust_remote_code: bool = False) -> None:
        self.device = pick_device(config.device)
        self.tokenizer = load_tokenizer(folder, trust_remote_code)
        self.batch_size = config.batch_size
        self.model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=pick_dtype(config.dtype, self.device), trust_remote_code=trust_remote_code
        )
        self.model.to(self.device).eval()
        self.end_ids = end_of_turn_ids(folder, self.tokenizer)
        self.context = getattr(self.model.config, "max_position_embeddings", None)

    def generate(
        self, requests: Iterable[Request], sampling: Sampling, done: Collection[str] = frozenset()
    ) -> Iterator[Completion]:
        """See `Engine.generate`. A prompt that leaves no room for an answer gets an `error` of its own."""
        remaining = iter(requests)
        while window := list(islice(remaining, self.batch_size * WINDOW_BATCHES)):
            encoded = [(request, self._encode(request)) for request in window]
            fitting = []
            for request, tokens in encoded:
                if self.context is not None and len(tokens) >= self.context:
                    reason = f"the prompt has {len(tokens)} tokens, the model's context is {self.context}"
                    yield Completion(request.request_id, "", "error", prompt_tokens=len(tokens), error=reason)
                else:
                    fitting.append((request, tokens))
            fitting.sort(key=lambda item: (len(item[1]), item[0].request_id), reverse=True)
            for start in range(0, len(fitting), self.batch_size):
                batch = fitting[start : start + self.batch_size]
                if not all(request.request_id in done for request, _ in batch):
                    yield from self._complete(batch, sampling)

    def close(self) -> None:
        """Free the model and the accelerator's memory."""
        self.model = None
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _encode(self, request: Request) -> list[int]:
        messages = [{"role": role, "content": content} for role, content in request.messages]
        text = render_chat(self.tokenizer, messages, add_generation_prompt=True)
        # The template writes the special tokens, so the tokenizer must not add a second beginning of text.
        return self.tokenizer(text + request.prefill, add_special_tokens=False)["input_ids"]  # type: ignore[no-any-return]

    @torch.inference_mode()
    def _complete(self, batch: list[tuple[Request, list[int]]], sampling: Sampling) -> Iterator[Completion]:
        width = max(len(tokens) for _, tokens in batch)
        rows = [[tokens[0]] * (width - len(tokens)) + tokens for _, tokens in batch]
        mask = [[0] * (width - len(tokens)) + [1] * len(tokens) for _, tokens in batch]
        room = sampling.max_new_tokens if self.context is None else min(sampling.max_new_tokens, self.context - width)
        stopper = _StopStrings(self.tokenizer, sampling.stop, width)
        first = _FirstToken(sampling.top_logprobs)
        # A batch's random numbers depend on the seed and its first request only, not on the batches before it.
        torch.manual_seed(int(content_id(sampling.seed, batch[0][0].request_id), 16) % 2**63)
        output = self.model.generate(
            input_ids=torch.tensor(rows, device=self.device),
            attention_mask=torch.tensor(mask, device=self.device),
            max_new_tokens=max(room, 1),
            stopping_criteria=StoppingCriteriaList([stopper] if sampling.stop else []),
            logits_processor=LogitsProcessorList([first] if sampling.top_logprobs else []),
            eos_token_id=sorted(self.end_ids),
            pad_token_id=min(self.end_ids),
            **_decoding(sampling),
        )
        likeliest = first.likeliest or [[]] * len(batch)
        for (request, tokens), generated, pairs in zip(batch, output[:, width:].tolist(), likeliest, strict=True):
            yield self._read(request, len(tokens), generated, sampling, pairs)

    def _read(
        self,
        request: Request,
        prompt_tokens: int,
        generated: list[int],
        sampling: Sampling,
        likeliest: list[tuple[int, float]],
    ) -> Completion:
        end = next((i for i, token in enumerate(generated) if token in self.end_ids), None)
        text = self.tokenizer.decode(generated[:end], skip_special_tokens=True)
        stops = [(position, stop) for stop in sampling.stop if (position := text.find(stop)) >= 0]
        position, stopped_by = min(stops, default=(len(text), None))
        return Completion(
            request.request_id,
            text[:position],
            "stop" if end is not None or stops else "length",
            prompt_tokens=prompt_tokens,
            completion_tokens=len(generated) if end is None else end + 1,
            stopped_by=stopped_by,
            first_token=tuple((self.tokenizer.decode([token]), logprob) for token, logprob in likeliest),
        )


class _FirstToken(LogitsProcessor):
    """Notes each row's likeliest first tokens as (id, log-probability); keeping all logits would take gigabytes."""

    def __init__(self, top: int) -> None:
        self.top = top
        self.likeliest: list[list[tuple[int, float]]] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if not self.likeliest:
            values, ids = scores.float().log_softmax(-1).topk(min(self.top, scores.shape[-1]))
            pairs = zip(ids.tolist(), values.tolist(), strict=True)
            self.likeliest = [list(zip(*row, strict=True)) for row in pairs]
        return scores


class _StopStrings(StoppingCriteria):
    """Ends a row once its last tokens contain a stop string. Decodes a short tail only, so a step stays cheap."""

    def __init__(self, tokenizer: Any, stops: tuple[str, ...], prompt_width: int) -> None:
        self.tokenizer, self.stops, self.prompt_width = tokenizer, stops, prompt_width
        # A token is at least one byte, so this many tokens surely hold the longest stop string and what led up to it.
        self.tail = max((len(stop.encode()) for stop in stops), default=0) + 1

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        start = max(self.prompt_width, input_ids.shape[1] - self.tail)
        tails = self.tokenizer.batch_decode(input_ids[:, start:])
        found = [any(stop in tail for stop in self.stops) for tail in tails]
        return torch.tensor(found, device=input_ids.device)


def _decoding(sampling: Sampling) -> dict[str, Any]:
    """All that models' own generation_config commonly sets, said here, so that it cannot change the recipe unseen."""
    options: dict[str, Any] = {"do_sample": sampling.temperature > 0, "num_beams": 1}
    options["repetition_penalty"] = sampling.repetition_penalty
    if sampling.temperature > 0:
        return options | {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    return options | {"temperature": None, "top_p": None, "top_k": None}


def pick_device(name: str) -> torch.device:
    """`auto` is the first GPU where there is one, else the CPU."""
    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where it is fast: GPUs that support it, CPUs with AMX tiles; elsewhere float32."""
    if name != "auto":
        return getattr(torch, name)  # type: ignore[no-any-return]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    amx = device.type == "cpu" and torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if amx else torch.float32
