"""Rotary positions whose frequencies follow the longest sequence of a pass (`dynamic`, `longrope`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel


def changing_context(config: PretrainedConfig) -> int | None:
    """The length above which a sequence changes the frequencies of its whole pass; None if there is no such length."""
    config = config.get_text_config()
    parameters = getattr(config, "rope_parameters", None) or {}
    entries = [parameters, *(entry for entry in parameters.values() if isinstance(entry, dict))]  # or per layer type
    original = getattr(config, "original_max_position_embeddings", None)
    found = []
    for entry in entries:
        if "dynamic" in str(entry.get("rope_type")):
            found.append(config.max_position_embeddings)
        elif entry.get("rope_type") == "longrope":
            found.append(entry.get("original_max_position_embeddings") or original or config.max_position_embeddings)
    return min(found, default=None)


def restart(modules: Iterable[nn.Module]) -> None:
    """Make the next pass compute its own frequencies: `dynamic` modules keep those of a longer pass."""
    for module in modules:
        for name in [name for name in vars(module) if name.endswith("max_seq_len_cached")]:
            prefix = name.removesuffix("max_seq_len_cached")
            original = getattr(module, f"{prefix}original_inv_freq", None)
            if original is not None and getattr(module, name) != module.original_max_seq_len:
                setattr(module, name, module.original_max_seq_len)
                frequencies = getattr(module, f"{prefix}inv_freq")
                module.register_buffer(f"{prefix}inv_freq", original.clone().to(frequencies.device), persistent=False)


def rotary_modules(model: PreTrainedModel) -> list[nn.Module]:
    """The modules that `restart` takes."""
    return [module for module in model.modules() if any(name.endswith("max_seq_len_cached") for name in vars(module))]
