"""Which prompts are held out: measured, but not trained on."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from lidr.config import Config
from lidr.errors import ConfigError


def draw_held_out(prompt_ids: Iterable[str], config: Config) -> set[str]:
    """`training.held_out` random prompts; their pairs in all languages are not trained on."""
    import torch

    prompts = sorted(set(prompt_ids))
    order = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(config.seed)).tolist()
    return {prompts[number] for number in order[: config.training.held_out]}


def held_out_of(prompt_ids: Collection[str], config: Config) -> set[str]:
    """Like `draw_held_out`. Raises ConfigError if no prompt is left to train on."""
    out = draw_held_out(prompt_ids, config)
    if out.issuperset(prompt_ids):
        count = config.training.held_out
        raise ConfigError(f"training.held_out {count}: only {len(out)} prompts have pairs; hold out fewer")
    return out
