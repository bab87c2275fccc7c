"""What makes the figures of a model doubtful: answers that were cut off, and replies without a readable verdict."""

from __future__ import annotations

from lidr.results import ModelResults

NOTABLE = 0.05  # share of the answers above which a count is about the measurement and not the model


def cut_off(model: ModelResults) -> list[str]:
    """Where answers of a model were cut off by the length limit: `mgsm in es (12 of 50)`."""
    return _notable(model, "truncated", ("n",))


def unscored(model: ModelResults) -> list[str]:
    """Where no verdict could be read from the judge's replies."""
    return _notable(model, "unscored", ("n", "unscored"))


def _notable(model: ModelResults, key: str, of: tuple[str, ...]) -> list[str]:
    return [
        f"{benchmark} in {code} ({metrics.count(key):,} of {metrics.count(*of):,})"
        for benchmark, languages in model.benchmarks.items()
        for code, metrics in languages.items()
        if metrics.count(key) > NOTABLE * metrics.count(*of)
    ]
