"""From a model of transformers to the log-probabilities of answers: packed where it can be, padded where it cannot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from lidr.training.loss import LOGITS_PER_CHUNK, chunked_logps, linear_logps, token_logps
from lidr.training.packing import ATTENTION, Layout, pack, pad, padded_length, segment_length

# How far a packed pass may be from separate ones, in nats per token: in float32, and with products in 16 bits. A mask
# that is wrong anywhere is off by tenths.
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1}
_INPUT_SHARE = 0.05  # of a layer's activations: its input (SmolLM2: 576 of 12,300 numbers per token)


class PairForward:
    """How one model computes the log-probabilities of answers; replaces the model's `forward`.

    Wrappers (DDP, FSDP, DeepSpeed, PEFT) then work on it as on any other model. A model that is not `packed` computes
    its own logits of right-padded rows. With `recompute_above`, rows of more tokens than that keep the activations of
    so many layers only that the memory stays what a row of that many tokens takes, and recompute the others in the
    backward pass; 0 recomputes all (gradient checkpointing), None nothing.
    """

    def __init__(self, model: Any, packed: bool, recompute_above: int | None = None) -> None:
        self.packed, self.recompute_above = packed, recompute_above
        self._own_forward = model.forward
        if packed:
            model.set_attn_implementation(ATTENTION)
        model.forward = MethodType(self._logps, model)
        self._layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
        if recompute_above == 0 or (recompute_above and self._layers):
            # Renamed in later versions of transformers, which warn of the old name.
            enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            enable({"use_reentrant": False})

    def cost(self, pair: dict[str, Any], with_rejected: bool) -> int:
        """Tokens that a pair takes of the budget."""
        return (segment_length if self.packed else padded_length)(pair, with_rejected)

    def collate(self, pairs: Sequence[dict[str, Any]], with_rejected: bool) -> dict[str, Any]:
        """The arguments of `forward` for these pairs; it returns the answers' log-probabilities, chosen first."""
        return (pack if self.packed else pad)(pairs, with_rejected)

    def _logps(self, model: Any, **batch: Any) -> Tensor:
        if self.recompute_above is not None:
            tokens = batch["input_ids"].numel()
            kept = layers_to_keep(len(self._layers), tokens, self.recompute_above)
            for number, layer in enumerate(reversed(self._layers)):
                layer.gradient_checkpointing = number >= kept
        return packed_logps(model, **batch) if self.packed else padded_logps(self._own_forward, **batch)


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


def why_not_packed(model: Any, autocast: AbstractContextManager[Any] | None = None) -> str | None:
    """Why pairs cannot be packed for this model, or None where they can.

    Layers that look at more than their own row's sequences (recurrent, chunked) are refused by name; what remains is
    tried: a packed pass over a few tokens has to give what one pass per answer gives.
    """
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or []) - {"full_attention", "sliding_attention"}
    if kinds:
        return f"layers of type {', '.join(sorted(kinds))}"
    own_attention, was_training = model.config._attn_implementation, model.training
    model.eval()
    try:
        with torch.no_grad(), autocast or nullcontext():
            error = _difference(model)
    except Exception as problem:  # an unknown architecture may do anything with a layout it was not made for
        return f"{type(problem).__name__}: {problem}"
    finally:
        model.set_attn_implementation(own_attention)
        model.train(was_training)
    exact = autocast is None and next(model.parameters()).dtype == torch.float32
    tolerance = _TOLERANCE[torch.float32 if exact else torch.bfloat16]
    return None if error < tolerance else f"log-probabilities differ by {error:.2g} per token"


def _difference(model: Any) -> float:
    """The largest difference per token between a packed pass over two pairs and separate passes."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.config.get_text_config().vocab_size
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    sizes = ([5, 4, 6], [3, 7, 2])
    pairs = [
        {
            name: torch.randint(vocabulary, (n,), generator=generator).tolist()
            for name, n in zip(names, size, strict=True)
        }
        for size in sizes
    ]
    rejected = [{**pair, "chosen_ids": pair["rejected_ids"]} for pair in pairs]
    apart = [padded_logps(model.forward, **to_device(pad([pair], False), model.device)) for pair in pairs + rejected]
    model.set_attn_implementation(ATTENTION)
    packed = packed_logps(model, **to_device(pack(pairs, True), model.device))
    lengths = torch.tensor([len(pair["chosen_ids"]) for pair in pairs + rejected])
    return float(((packed - torch.cat(apart)).abs().cpu() / lengths).max())


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """A batch with its tensors on a device."""
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}


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
