"""Compute the log-probabilities of answers with a transformers model: packed if possible, else padded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import CausalLMOutput

from lidr.errors import ConfigError, DamagedError
from lidr.likelihood.logps import LOGITS_PER_CHUNK, chunked_logps, linear_logps, token_logps
from lidr.likelihood.packing import ATTENTION, Batch, Layout, Pair, pack, pad, padded_length, segment_length
from lidr.models.rotary import changing_context, restart, rotary_modules
from lidr.seals import read_json

# The largest difference between a packed pass and separate ones, in nats per token, in float32 and with products in 16
# bits. A wrong mask gives tenths.
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1}
ALONE = 2**40  # above any budget: the cost of a pair that needs its own row
_INPUT_SHARE = 0.05  # the input's share of a layer's activations (SmolLM2: 576 of 12,300 numbers per token)


@dataclass(frozen=True, slots=True)
class RowLayout:
    """How answers share a pass without changing each other's log-probabilities.

    Pairs are packed, or padded for the reason `why_not`. If a pair has a sequence of more than `alone_above` tokens,
    its answers are computed one by one; None means that no sequence is too long.
    """

    packed: bool
    why_not: str | None = None
    alone_above: int | None = None


def read_layout(path: Path) -> RowLayout:
    """The layout that the reference pass has written. Raises DamagedError if the file has none."""
    remedy = "delete it and start the run again"
    found = read_json(path, remedy)
    try:
        return RowLayout(**found)
    except TypeError:
        raise DamagedError(f"{path}: damaged or missing; {remedy}") from None


class PairForward:
    """Computes the log-probabilities of answers with one model, whose `forward` it replaces.

    Wrappers (DDP, FSDP, DeepSpeed, PEFT) then work as for any other model. Without `packed` the model computes the
    logits of right-padded rows. A row of more than `recompute_above` tokens keeps the activations of fewer layers, so
    that it takes no more memory than a row of that length, and recomputes the others in the backward pass; 0 recomputes
    all layers (gradient checkpointing), None none. Raises ConfigError if the model cannot recompute.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        packed: bool,
        recompute_above: int | None = None,
        alone_above: int | None = None,
    ) -> None:
        self.model, self.packed, self.recompute_above, self.alone_above = model, packed, recompute_above, alone_above
        self._own_forward = model.forward
        self._rotary = rotary_modules(model)
        if packed:
            model.set_attn_implementation(ATTENTION)
        model.forward = MethodType(self._logps, model)
        layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
        self.layers = [] if recompute_above is None else [Recomputed(layer) for layer in layers]
        if recompute_above == 0 and not layers:
            raise ConfigError(
                f"training.gradient_checkpointing: {type(model).__name__} has no layers that can be recomputed; set it "
                "to auto or false"
            )

    def silence(self) -> None:
        """Switch off everything random in training mode except the adapters' dropout.

        Policy and reference are then the same function: at the first step all rewards are 0.
        """
        self.model.eval()
        for module in self.model.modules():
            if isinstance(dropout := getattr(module, "lora_dropout", None), nn.Module):
                dropout.train()

    def cost(self, pair: Pair, with_rejected: bool) -> int:
        """The tokens of the budget that a pair takes."""
        if self._alone(pair, with_rejected):
            return ALONE
        return (segment_length if self.packed else padded_length)(pair, with_rejected)

    def collate(self, pairs: Sequence[Pair], with_rejected: bool) -> Batch:
        """The arguments of `forward` for these pairs; `forward` returns log-probabilities, chosen answers first."""
        make = pack if self.packed else pad
        batch = make(pairs, with_rejected)
        if any(self._alone(pair, with_rejected) for pair in pairs):
            batch["apart"] = [make([pair], False) for pair in [*pairs, *(_rejected(pairs) if with_rejected else [])]]
        return batch

    def _alone(self, pair: Pair, with_rejected: bool) -> bool:
        longest = max(len(pair["chosen_ids"]), len(pair["rejected_ids"]) if with_rejected else 0)
        return self.alone_above is not None and len(pair["prompt_ids"]) + longest > self.alone_above

    def _logps(self, model: PreTrainedModel, apart: Sequence[Batch] = (), **batch: Any) -> Tensor:
        if self.recompute_above is not None:
            kept = layers_to_keep(len(self.layers), batch["input_ids"].numel(), self.recompute_above)
            for number, layer in enumerate(reversed(self.layers)):
                layer.on = number >= kept
        return torch.cat([self._one_pass(model, part) for part in apart or [batch]])

    def _one_pass(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        restart(self._rotary)
        return packed_logps(model, **batch) if self.packed else padded_logps(self._own_forward, **batch)


def _rejected(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs with the rejected answer as the chosen one."""
    return [{**pair, "chosen_ids": pair["rejected_ids"]} for pair in pairs]


class Recomputed:
    """A layer's forward. While `on`, it keeps only its input and computes the rest again in the backward pass.

    transformers does this in training mode only.
    """

    def __init__(self, layer: GradientCheckpointingLayer) -> None:
        self.forward, self.on = layer.forward, False
        layer.forward = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.on and torch.is_grad_enabled():
            return checkpoint(self.forward, *args, use_reentrant=False, **kwargs)
        return self.forward(*args, **kwargs)


def layers_to_keep(layers: int, tokens: int, budget: int) -> int:
    """How many layers may keep their activations if a row is to take no more memory than one of `budget` tokens.

    Every other layer keeps its input, and one of them at a time has all its activations while it is recomputed.
    """
    if tokens <= budget:
        return layers
    room = layers * budget / tokens - 1 - layers * _INPUT_SHARE
    return max(0, int(room / (1 - _INPUT_SHARE)))


def packed_logps(
    model: PreTrainedModel,
    input_ids: Tensor,
    position_ids: Tensor,
    layout: Layout,
    predictors: Tensor,
    targets: Tensor,
    answers: Tensor,
    num_answers: int,
    **_: object,
) -> Tensor:
    """Sum of the log-probabilities of each answer's tokens in a row made by `pack`; (num_answers,), float32, nats."""
    output = model.base_model(
        input_ids=input_ids, position_ids=position_ids, layout=layout.to(input_ids.device), use_cache=False
    )
    hidden = output.last_hidden_state.flatten(0, 1)[predictors]
    logps = head_logps(model, hidden, targets)
    return logps.new_zeros(num_answers).index_add(0, answers, logps)


def padded_logps(
    forward: Callable[..., CausalLMOutput],
    input_ids: Tensor,
    attention_mask: Tensor,
    predictors: Tensor,
    targets: Tensor,
    answers: Tensor,
    num_answers: int,
    **_: object,
) -> Tensor:
    """The same for rows made by `pad`, from the logits of the model's original `forward`."""
    logits = forward(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits
    logps = token_logps(logits.flatten(0, 1)[predictors], targets)
    return logps.new_zeros(num_answers).index_add(0, answers, logps)


def find_layout(
    model: PreTrainedModel, pairs: Sequence[Pair], autocast: AbstractContextManager[object] | None = None
) -> RowLayout:
    """The fastest layout that leaves the log-probabilities of the shortest and longest chosen answers unchanged.

    What a layout changes depends on lengths: frequencies beyond the original context, windows, chunks. So `pairs`
    should include the shortest and the longest answer of the training.
    """
    reason = why_not_packed(model, autocast)
    context = changing_context(model.config)
    for packed in [True, False] if reason is None else [False]:
        for alone_above in (None, context) if context else (None,):
            error = _company_error(model, pairs, packed, alone_above)
            if error is None:
                return RowLayout(packed, None if packed else reason, alone_above)
            reason = reason or error
    return RowLayout(False, reason, alone_above=0)


def _company_error(model: PreTrainedModel, pairs: Sequence[Pair], packed: bool, alone_above: int | None) -> str | None:
    """How the longest and the shortest chosen answer change each other in one pass, or None if they do not."""
    lengths = [len(pair["prompt_ids"]) + len(pair["chosen_ids"]) for pair in pairs]
    allowed = [number for number, length in enumerate(lengths) if alone_above is None or length <= alone_above]
    if not allowed:
        return None
    together = [pairs[choose(allowed, key=lengths.__getitem__)] for choose in (min, max)]
    return _trial(model, lambda: _difference(model, together, packed, with_rejected=False), exact=True)


def why_not_packed(model: PreTrainedModel, autocast: AbstractContextManager[object] | None = None) -> str | None:
    """Why pairs cannot be packed for this model, or None if they can.

    Layers that mix the sequences of a row (recurrent, chunked) are refused by name. All others are tried: a packed pass
    over a few tokens must give the result of one pass per answer.
    """
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or []) - {"full_attention", "sliding_attention"}
    if kinds:
        return f"layers of type {', '.join(sorted(kinds))}"
    generator = torch.Generator().manual_seed(0)

    def draw(count: int) -> list[int]:
        return torch.randint(config.vocab_size, (count,), generator=generator).tolist()

    pairs: list[Pair] = [
        {"prompt_ids": draw(prompt), "chosen_ids": draw(chosen), "rejected_ids": draw(rejected)}
        for prompt, chosen, rejected in ((5, 4, 6), (3, 7, 2))
    ]
    with autocast or nullcontext():
        return _trial(model, lambda: _difference(model, pairs, packed=True, with_rejected=True), exact=autocast is None)


def _trial(model: PreTrainedModel, measure: Callable[[], float], exact: bool) -> str | None:
    """Why a layout is wrong, by the difference that it makes; None if it is right. Leaves the model unchanged."""
    own_attention, was_training = model.config._attn_implementation, model.training
    model.eval()
    try:
        with torch.no_grad():
            error = measure()
    except Exception as problem:  # an unknown architecture may do anything with a layout it was not made for
        return f"{type(problem).__name__}: {problem}"
    finally:
        model.set_attn_implementation(own_attention)
        model.train(was_training)
    exact = exact and next(model.parameters()).dtype == torch.float32
    return None if error < tolerance(exact) else f"log-probabilities differ by {error:.2g} per token"


def tolerance(exact: bool) -> float:
    """The difference in an answer's log-probability due to rounding, in nats per token; `exact` means float32."""
    return _TOLERANCE[torch.float32 if exact else torch.bfloat16]


def _difference(model: PreTrainedModel, pairs: Sequence[Pair], packed: bool, with_rejected: bool) -> float:
    """The largest difference per token between one pass over pairs and separate passes."""
    answers = [*pairs, *(_rejected(pairs) if with_rejected else [])]
    rotary, apart = rotary_modules(model), []
    for pair in answers:
        restart(rotary)
        apart.append(padded_logps(model.forward, **to_device(pad([pair], False), model.device)))
    restart(rotary)
    if packed:
        model.set_attn_implementation(ATTENTION)
        together = packed_logps(model, **to_device(pack(pairs, with_rejected), model.device))
    else:
        together = padded_logps(model.forward, **to_device(pad(pairs, with_rejected), model.device))
    lengths = torch.tensor([len(pair["chosen_ids"]) for pair in answers])
    return float(((together - torch.cat(apart)).abs().cpu() / lengths).max())


def to_device(batch: Batch, device: torch.device) -> Batch:
    """A batch with its tensors, and those of its parts, on a device."""
    moved = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
    if "apart" in batch:
        moved["apart"] = [to_device(part, device) for part in batch["apart"]]
    return moved


def head_logps(model: PreTrainedModel, hidden: Tensor, targets: Tensor) -> Tensor:
    """log pi of `targets` (tokens,) from the hidden states (tokens, width) before the output layer; (tokens,).

    The logits are scaled or capped as in the architecture.
    """
    head = model.get_output_embeddings()
    kind = type(head)
    config = model.config.get_text_config()
    softcap = getattr(config, "final_logit_softcapping", None)  # Gemma 2
    # Cohere multiplies, Granite divides
    scale = (getattr(config, "logit_scale", None) or 1) / (getattr(config, "logits_scaling", None) or 1)
    # A layer with hooks must be called: only then are its weights here (FSDP2, ZeRO-3).
    if softcap is None and kind is nn.Linear and head.bias is None and not head._forward_pre_hooks:
        return linear_logps(hidden if scale == 1 else hidden * scale, head.weight, targets)

    def to_logits(part: Tensor) -> Tensor:
        logits: Tensor = head(part) if scale == 1 else head(part) * scale
        return softcap * torch.tanh(logits / softcap) if softcap else logits

    return chunked_logps(to_logits, hidden, targets, max(1, LOGITS_PER_CHUNK["cuda"] // config.vocab_size))
