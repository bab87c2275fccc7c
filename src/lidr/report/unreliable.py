"""What makes the figures of a model doubtful: answers that were cut off, and replies without a verdict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

NOTABLE = 0.05  # share of the answers from which on a count says something about the measurement, not the model


def cut_off(model: dict[str, Any]) -> list[str]:
    """Where answers of a model of results.json were cut off by the length limit: `mgsm in es (12 of 50)`."""
    return _notable(model, "truncated", lambda metrics: metrics.get("n") or 0)


def unscored(model: dict[str, Any]) -> list[str]:
    """Where the judge's replies were no verdict."""
    return _notable(model, "unscored", lambda metrics: (metrics.get("n") or 0) + metrics["unscored"])


def _notable(model: dict[str, Any], key: str, total: Callable[[dict[str, Any]], int]) -> list[str]:
    return [
        f"{benchmark} in {code} ({metrics[key]:,} of {total(metrics):,})"
        for benchmark, languages in model["benchmarks"].items()
        for code, metrics in languages.items()
        if metrics.get(key) and metrics[key] > NOTABLE * total(metrics)
    ]
