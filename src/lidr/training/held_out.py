"""Which prompts are measured and not trained on."""

from __future__ import annotations

from collections.abc import Iterable

from lidr.config import Config


def draw_held_out(prompt_ids: Iterable[str], config: Config) -> set[str]:
    """`training.held_out` of these prompts at random: their pairs, in all languages alike, are not trained on."""
    import torch

    prompts = sorted(set(prompt_ids))
    order = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(config.seed)).tolist()
    return {prompts[number] for number in order[: config.training.held_out]}
