"""Strategies: how answers become chosen and rejected. A new one is one file here and one line in STRATEGIES."""

from __future__ import annotations

from lidr.strategies import imbalance, random_sides, verified_majority
from lidr.strategies.base import Strategy

STRATEGIES: dict[str, Strategy] = {
    "imbalance": imbalance,
    "random_sides": random_sides,
    "verified_majority": verified_majority,
}
