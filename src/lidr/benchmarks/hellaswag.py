"""Multilingual HellaSwag, through lm-evaluation-harness."""

from __future__ import annotations

from typing import ClassVar

from lidr.benchmarks.shared.harness import OKAPI, HarnessSettings


class HellaSwag(HarnessSettings):
    """Multilingual HellaSwag, through lm-evaluation-harness."""

    cost: ClassVar[tuple[int, int, int]] = (9500, 4, 110)

    @classmethod
    def tasks(cls) -> dict[str, str]:
        return {"en": "hellaswag"} | {code: f"hellaswag_{code}" for code in OKAPI if code != "zh"}
