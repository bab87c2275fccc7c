"""Rotary positions whose frequencies follow the longest sequence of a pass (`dynamic`, `longrope`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def changing_context(config: Any) -> int | None:
    """The number of tokens beyond which a sequence changes the frequencies of its whole pass; None if none does."""
    config = config.get_text_config()
    parameters = getattr(config, "rope_parameters", None) or {}
    entries = [parameters, *(entry for entry in parameters.values() if isinstance(entry, dict))]  # or one by layer type
    original = getattr(config, "original_max_position_embeddings", None)
    found = []
    for entry in entries:
        if "dynamic" in str(entry.get("rope_type")):
            found.append(config.max_position_embeddings)
        elif entry.get("rope_type") == "longrope":
            found.append(entry.get("original_max_position_embeddings") or original or config.max_position_embeddings)
    return min(found, default=None)


def restart(modules: Iterable[Any]) -> None:
    """Have the next pass compute its frequencies from its own sequences: `dynamic` ones keep those of a longer pass."""
    for module in modules:
        for name in [name for name in vars(module) if name.endswith("max_seq_len_cached")]:
            prefix = name.removesuffix("max_seq_len_cached")
            original = getattr(module, f"{prefix}original_inv_freq", None)
            if original is not None and getattr(module, name) != module.original_max_seq_len:
                setattr(module, name, module.original_max_seq_len)
                frequencies = getattr(module, f"{prefix}inv_freq")
                module.register_buffer(f"{prefix}inv_freq", original.clone().to(frequencies.device), persistent=False)


def rotary_modules(model: Any) -> list[Any]:
    """The modules that `restart` is for."""
    return [module for module in model.modules() if any(name.endswith("max_seq_len_cached") for name in vars(module))]
