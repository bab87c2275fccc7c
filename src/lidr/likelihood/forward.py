"""From a model of transformers to the log-probabilities of answers: packed where it can be, padded where it cannot."""

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
from transformers.modeling_layers import GradientCheckpointingLayer

from lidr.errors import ConfigError, DamagedError
from lidr.likelihood.logps import LOGITS_PER_CHUNK, chunked_logps, linear_logps, token_logps
from lidr.likelihood.packing import ATTENTION, Layout, pack, pad, padded_length, segment_length
from lidr.models.rotary import changing_context, restart, rotary_modules
from lidr.seals import read_json

# How far a packed pass may be from separate ones, in nats per token: in float32, and with products in 16 bits. A mask
# that is wrong anywhere is off by tenths.
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1}
ALONE = 2**40  # the cost of a pair that must have a row to itself: above any budget
_INPUT_SHARE = 0.05  # of a layer's activations: its input (SmolLM2: 576 of 12,300 numbers per token)


@dataclass(frozen=True, slots=True)
class RowLayout:
    """How answers share a pass so that none changes another's log-probability.

    Pairs are packed, or padded for the reason `why_not`. A pair with a sequence of more than `alone_above` tokens is
    computed apart, answer by answer; None: no sequence is too long for company.
    """

    packed: bool
    why_not: str | None = None
    alone_above: int | None = None


def read_layout(path: Path) -> RowLayout:
    """The layout that the reference pass noted. Raises DamagedError for a file that does not hold one."""
    remedy = "delete it and start the run again"
    found = read_json(path, remedy)
    try:
        return RowLayout(**found)
    except TypeError:
        raise DamagedError(f"{path}: damaged or missing; {remedy}") from None


class PairForward:
    """How one model computes the log-probabilities of answers; replaces the model's `forward`.

    Wrappers (DDP, FSDP, DeepSpeed, PEFT) then work on it as on any other model. A model that is not `packed` computes
    its own logits of right-padded rows. With `recompute_above`, rows of more tokens than that keep the activations of
    so many layers only that the memory stays what a row of that many tokens takes, and recompute the others in the
    backward pass; 0 recomputes all (gradient checkpointing), None nothing. Raises ConfigError if that is impossible.
    """

    def __init__(
        self, model: Any, packed: bool, recompute_above: int | None = None, alone_above: int | None = None
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
        """Switch off what is random in training mode, whatever the architecture calls it, but for adapters' dropout.

        Policy and reference are then the same function: at the first step no reward differs from 0.
        """
        self.model.eval()
        for module in self.model.modules():
            if isinstance(dropout := getattr(module, "lora_dropout", None), nn.Module):
                dropout.train()

    def cost(self, pair: dict[str, Any], with_rejected: bool) -> int:
        """Tokens that a pair takes of the budget."""
        if self._alone(pair, with_rejected):
            return ALONE
        return (segment_length if self.packed else padded_length)(pair, with_rejected)

    def collate(self, pairs: Sequence[dict[str, Any]], with_rejected: bool) -> dict[str, Any]:
        """The arguments of `forward` for these pairs; it returns the answers' log-probabilities, chosen first."""
        make = pack if self.packed else pad
        batch = make(pairs, with_rejected)
        if any(self._alone(pair, with_rejected) for pair in pairs):
            rejected = [pair | {"chosen_ids": pair["rejected_ids"]} for pair in pairs] if with_rejected else []
            batch["apart"] = [make([pair], False) for pair in [*pairs, *rejected]]
        return batch

    def _alone(self, pair: dict[str, Any], with_rejected: bool) -> bool:
        longest = max(len(pair["chosen_ids"]), len(pair["rejected_ids"]) if with_rejected else 0)
        return self.alone_above is not None and len(pair["prompt_ids"]) + longest > self.alone_above

    def _logps(self, model: Any, apart: Sequence[dict[str, Any]] = (), **batch: Any) -> Tensor:
        if self.recompute_above is not None:
            kept = layers_to_keep(len(self.layers), batch["input_ids"].numel(), self.recompute_above)
            for number, layer in enumerate(reversed(self.layers)):
                layer.on = number >= kept
        return torch.cat([self._one_pass(model, **part) for part in apart or [batch]])

    def _one_pass(self, model: Any, **batch: Any) -> Tensor:
        restart(self._rotary)
        return packed_logps(model, **batch) if self.packed else padded_logps(self._own_forward, **batch)


class Recomputed:
    """A layer's forward that, while `on`, keeps its input alone and computes the rest again in the backward pass.

    transformers does so in training mode only.
    """

    def __init__(self, layer: Any) -> None:
        self.forward, self.on = layer.forward, False
        layer.forward = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.on and torch.is_grad_enabled():
            return checkpoint(self.forward, *args, use_reentrant=False, **kwargs)
        return self.forward(*args, **kwargs)


def layers_to_keep(layers: int, tokens: int, budget: int) -> int:
    """How many layers may keep their activations, so that a row takes no more memory than one of `budget` tokens.

    Each other layer keeps its input, and one of them at a time has all its activations while it is recomputed.
    """
    if tokens <= budget:
        return layers
    room = layers * budget / tokens - 1 - layers * _INPUT_SHARE
    return max(0, int(room / (1 - _INPUT_SHARE)))


def packed_logps(
    model: Any,
    input_ids: Tensor,
    position_ids: Tensor,
    layout: Layout,
    predictors: Tensor,
    targets: Tensor,
    answers: Tensor,
    num_answers: int,
    **_: Any,
) -> Tensor:
    """Sum of the log-probabilities of each answer's tokens in a row made by `pack`; (num_answers,), float32, nats."""
    output = model.base_model(
        input_ids=input_ids, position_ids=position_ids, layout=layout.to(input_ids.device), use_cache=False
    )
    hidden = output.last_hidden_state.flatten(0, 1)[predictors]
    logps = head_logps(model, hidden, targets)
    return logps.new_zeros(num_answers).index_add(0, answers, logps)


def padded_logps(
    forward: Callable[..., Any],
    input_ids: Tensor,
    attention_mask: Tensor,
    predictors: Tensor,
    targets: Tensor,
    answers: Tensor,
    num_answers: int,
    **_: Any,
) -> Tensor:
    """The same for rows made by `pad`, from the logits of a model's own `forward`."""
    logits = forward(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits
    logps = token_logps(logits.flatten(0, 1)[predictors], targets)
    return logps.new_zeros(num_answers).index_add(0, answers, logps)


def find_layout(
    model: Any, pairs: Sequence[dict[str, Any]], autocast: AbstractContextManager[Any] | None = None
) -> RowLayout:
    """The quickest layout that changes no log-probability of the shortest and the longest chosen answer of `pairs`.

    What a layout may change depends on lengths: frequencies beyond the original context, windows, chunks. So `pairs`
    should have answers of all lengths that are trained on.
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


def _company_error(model: Any, pairs: Sequence[dict[str, Any]], packed: bool, alone_above: int | None) -> str | None:
    """What the longest and the shortest chosen answer change in each other in one pass, or None if nothing."""
    lengths = [len(pair["prompt_ids"]) + len(pair["chosen_ids"]) for pair in pairs]
    allowed = [number for number, length in enumerate(lengths) if alone_above is None or length <= alone_above]
    if not allowed:
        return None
    together = [pairs[choose(allowed, key=lengths.__getitem__)] for choose in (min, max)]
    return _trial(model, lambda: _difference(model, together, packed, with_rejected=False), exact=True)


def why_not_packed(model: Any, autocast: AbstractContextManager[Any] | None = None) -> str | None:
    """Why pairs cannot be packed for this model, or None if they can.

    Layers that look at more than their own row's sequences (recurrent, chunked) are refused by name; what remains is
    tried: a packed pass over a few tokens has to give what one pass per answer gives.
    """
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or []) - {"full_attention", "sliding_attention"}
    if kinds:
        return f"layers of type {', '.join(sorted(kinds))}"
    generator = torch.Generator().manual_seed(0)
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    pairs = [
        {
            name: torch.randint(config.vocab_size, (n,), generator=generator).tolist()
            for name, n in zip(names, size, strict=True)
        }
        for size in ([5, 4, 6], [3, 7, 2])
    ]
    with autocast or nullcontext():
        return _trial(model, lambda: _difference(model, pairs, packed=True, with_rejected=True), exact=autocast is None)


def _trial(model: Any, measure: Callable[[], float], exact: bool) -> str | None:
    """Why a layout is wrong, by what it changes; None if it is right. Leaves the model as it was."""
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
    """How far apart log-probabilities of one answer may be by rounding, in nats per token: `exact` is float32."""
    return _TOLERANCE[torch.float32 if exact else torch.bfloat16]


def _difference(model: Any, pairs: Sequence[dict[str, Any]], packed: bool, with_rejected: bool) -> float:
    """The largest difference per token between one pass over pairs and separate passes."""
    rejected = [{**pair, "chosen_ids": pair["rejected_ids"]} for pair in pairs] if with_rejected else []
    rotary, apart = rotary_modules(model), []
    for pair in [*pairs, *rejected]:
        restart(rotary)
        apart.append(padded_logps(model.forward, **to_device(pad([pair], False), model.device)))
    restart(rotary)
    if packed:
        model.set_attn_implementation(ATTENTION)
        together = packed_logps(model, **to_device(pack(pairs, with_rejected), model.device))
    else:
        together = padded_logps(model.forward, **to_device(pad(pairs, with_rejected), model.device))
    lengths = torch.tensor([len(pair["chosen_ids"]) for pair in [*pairs, *rejected]])
    return float(((together - torch.cat(apart)).abs().cpu() / lengths).max())


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """A batch with its tensors on a device, those of its parts too."""
    moved = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
    if "apart" in batch:
        moved["apart"] = [to_device(part, device) for part in batch["apart"]]
    return moved


def head_logps(model: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    """log pi of `targets` (tokens,) from the hidden states (tokens, width) before the output layer; (tokens,).

    The logits are scaled or capped as the architecture does.
    """
    head: Any = model.get_output_embeddings()
    kind: Any = type(head)
    config = model.config.get_text_config()
    softcap = getattr(config, "final_logit_softcapping", None)  # Gemma 2
    # Cohere multiplies, Granite divides
    scale = (getattr(config, "logit_scale", None) or 1) / (getattr(config, "logits_scaling", None) or 1)
    # A layer with hooks has to be called: its weights may be elsewhere until then (FSDP2, ZeRO-3).
    if softcap is None and kind is nn.Linear and head.bias is None and not head._forward_pre_hooks:
        return linear_logps(hidden if scale == 1 else hidden * scale, head.weight, targets)

    def to_logits(part: Tensor) -> Tensor:
        logits: Tensor = head(part) if scale == 1 else head(part) * scale
        return softcap * torch.tanh(logits / softcap) if softcap else logits

    return chunked_logps(to_logits, hidden, targets, max(1, LOGITS_PER_CHUNK["cuda"] // config.vocab_size))
