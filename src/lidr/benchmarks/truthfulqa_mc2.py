"""Multilingual TruthfulQA with several right answers, through lm-evaluation-harness."""

from __future__ import annotations

from typing import ClassVar

from lidr.benchmarks.shared.harness import OKAPI, HarnessSettings


class TruthfulQaMc2(HarnessSettings):
    """Multilingual TruthfulQA with several right answers, through lm-evaluation-harness."""

    cost: ClassVar[tuple[int, int, int]] = (800, 7, 190)

    @classmethod
    def tasks(cls) -> dict[str, str]:
        return {"en": "truthfulqa_mc2"} | {code: f"truthfulqa_{code}_mc2" for code in OKAPI}
