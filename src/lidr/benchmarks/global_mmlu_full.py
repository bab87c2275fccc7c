"""Global-MMLU in full, with Russian and Telugu, through lm-evaluation-harness."""

from __future__ import annotations

from typing import ClassVar

from lidr.benchmarks.shared.harness import HarnessSettings

_LANGUAGES = (
    "en", "es", "fr", "de", "ru", "it", "zh", "ja", "ko", "sw", "bn", "te", "ar", "pt", "ro", "nl", "sv", "lt", "pl",
    "cs", "tr", "id", "vi", "uk", "el", "he", "fa", "hi",
)  # fmt: skip


class GlobalMmluFull(HarnessSettings):
    """Global-MMLU in full, with Russian and Telugu, through lm-evaluation-harness."""

    cost: ClassVar[tuple[int, int, int]] = (14042, 1, 110)

    @classmethod
    def tasks(cls) -> dict[str, str]:
        return {code: f"global_mmlu_full_{code}" for code in _LANGUAGES}
