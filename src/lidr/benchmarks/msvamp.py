"""MSVAMP: MGSM's easier sibling (Chen et al. 2023, arXiv 2310.20246; questions of SVAMP, Patel et al. 2021)."""

from __future__ import annotations

from pydantic import Field

from lidr.benchmarks.mgsm import Mgsm
from lidr.config import LanguageCodes
from lidr.settings import PathText


class Msvamp(Mgsm):
    """Easier arithmetic, 1,000 questions a language: narrower intervals (Chen et al. 2023, arXiv 2310.20246)."""

    path: PathText = "Mathoctopus/MSVAMP"
    """A folder of `<language>.jsonl` files (`query`, `response`), on disk or behind a URL, or a Hugging Face data set
    (hub id or folder)."""
    languages: LanguageCodes = Field(default=["en", "es", "fr", "de", "ru", "zh", "ja", "th", "sw", "bn"])
    """Languages to be asked."""

    def size(self) -> tuple[int, float]:
        return 1000, 50 * (1 + 2.5 * self.num_fewshot)
