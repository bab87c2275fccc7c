"""INCLUDE, through lm-evaluation-harness."""

from __future__ import annotations

from typing import ClassVar

from lidr.benchmarks.shared.harness import HarnessSettings
from lidr.languages import LANGUAGES

_LANGUAGES = (
    "es", "fr", "de", "ru", "it", "zh", "ja", "ko", "bn", "te", "ar", "pt", "nl", "fi", "et", "lt", "pl", "hr", "hu",
    "tr", "id", "vi", "uk", "bg", "el", "he", "fa", "ur", "hi", "ta", "ml",
)  # fmt: skip


class Include(HarnessSettings):
    """INCLUDE, through lm-evaluation-harness."""

    cost: ClassVar[tuple[int, int, int]] = (550, 1, 80)

    @classmethod
    def tasks(cls) -> dict[str, str]:
        return {code: f"include_base_44_{LANGUAGES[code].name.lower()}" for code in _LANGUAGES}
