"""Multilingual MMLU, through lm-evaluation-harness."""

from __future__ import annotations

from typing import ClassVar

from lidr.benchmarks.shared.harness import OKAPI, HarnessSettings


class Mmlu(HarnessSettings):
    """Multilingual MMLU, through lm-evaluation-harness."""

    cost: ClassVar[tuple[int, int, int]] = (13500, 1, 110)

    @classmethod
    def tasks(cls) -> dict[str, str]:
        # The English one is that of the same data set as the others (`mmlu` asks in 57 parts).
        return {code: f"m_mmlu_{code}" for code in ("en", *OKAPI)}
