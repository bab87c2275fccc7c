"""log p of answers under a model. Samples of one prompt share its tokens, like the two sides of a pair in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from lidr.likelihood.forward import RowLayout, find_layout, packed_logps, padded_logps, to_device
from lidr.likelihood.packing import ATTENTION, Pair, pack_segments, pad
from lidr.models.rotary import changing_context, restart, rotary_modules

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Scorer:
    """Sums the log-probabilities of whole answers. It leaves the model unchanged, so that it can generate in between.

    `examples` are (prompt, answer) token ids; the shortest and the longest decide the layout of the rows.
    """

    def __init__(self, model: PreTrainedModel, examples: Sequence[tuple[list[int], list[int]]]) -> None:
        self.model, self.rotary = model, rotary_modules(model)
        pairs: list[Pair] = [{"prompt_ids": prompt, "chosen_ids": answer} for prompt, answer in examples]
        self.layout: RowLayout = find_layout(model, pairs)
        self.alone_above = changing_context(model.config)  # the examples may all be shorter

    @torch.no_grad()
    def score(self, segments: Sequence[tuple[list[int], list[list[int]]]]) -> list[list[float]]:
        """log p(answer | prompt) of every answer of every prompt, in nats, summed over the answer's tokens.

        A segment is a prompt's tokens and those of each of its answers. Packed segments make one pass.
        """
        numbers = iter(range(sum(len(answers) for _, answers in segments)))
        numbered = [(prompt, [(next(numbers), answer) for answer in answers]) for prompt, answers in segments]
        longest = max(len(prompt) + len(answer) for prompt, answers in segments for answer in answers)
        if self.layout.packed and (self.alone_above is None or longest <= self.alone_above):
            sums = iter(self._packed(numbered))
        else:
            sums = iter([self._alone(prompt, answer) for prompt, answers in segments for answer in answers])
        return [[next(sums) for _ in answers] for _, answers in segments]

    def _packed(self, segments: list[tuple[list[int], list[tuple[int, list[int]]]]]) -> list[float]:
        own_attention = self.model.config._attn_implementation
        self.model.set_attn_implementation(ATTENTION)
        try:
            restart(self.rotary)
            logps = packed_logps(self.model, **to_device(pack_segments(segments), self.model.device))
        finally:
            self.model.set_attn_implementation(own_attention)
        return logps.tolist()

    def _alone(self, prompt: list[int], answer: list[int]) -> float:
        restart(self.rotary)
        batch = pad([{"prompt_ids": prompt, "chosen_ids": answer}], with_rejected=False)
        return float(padded_logps(self.model.forward, **to_device(batch, self.model.device)))
