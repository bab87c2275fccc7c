"""Global-MMLU Lite, 400 questions translated by people, through lm-evaluation-harness."""

from __future__ import annotations

from typing import ClassVar

from lidr.benchmarks.shared.harness import HarnessSettings

_LANGUAGES = ("en", "es", "fr", "de", "it", "zh", "ja", "ko", "sw", "bn", "ar", "pt", "id", "hi")


class GlobalMmlu(HarnessSettings):
    """Global-MMLU Lite, 400 questions translated by people, through lm-evaluation-harness."""

    cost: ClassVar[tuple[int, int, int]] = (400, 1, 110)

    @classmethod
    def tasks(cls) -> dict[str, str]:
        return {code: f"global_mmlu_{code}" for code in _LANGUAGES}
