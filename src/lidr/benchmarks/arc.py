"""Multilingual ARC-challenge, through lm-evaluation-harness."""

from __future__ import annotations

from typing import ClassVar

from lidr.benchmarks.shared.harness import OKAPI, HarnessSettings


class Arc(HarnessSettings):
    """Multilingual ARC-challenge, through lm-evaluation-harness."""

    cost: ClassVar[tuple[int, int, int]] = (1170, 4, 50)

    @classmethod
    def tasks(cls) -> dict[str, str]:
        return {"en": "arc_challenge"} | {code: f"arc_{code}" for code in OKAPI}
