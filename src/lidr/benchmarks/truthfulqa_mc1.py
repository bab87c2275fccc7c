"""Multilingual TruthfulQA with one right answer, through lm-evaluation-harness."""

from __future__ import annotations

from typing import ClassVar

from lidr.benchmarks.shared.harness import OKAPI, HarnessSettings


class TruthfulQaMc1(HarnessSettings):
    """Multilingual TruthfulQA with one right answer, through lm-evaluation-harness."""

    cost: ClassVar[tuple[int, int, int]] = (800, 5, 190)

    @classmethod
    def tasks(cls) -> dict[str, str]:
        return {"en": "truthfulqa_mc1"} | {code: f"truthfulqa_{code}_mc1" for code in OKAPI}
