"""How many tokens texts have: by the model's tokenizer if it is at hand, else by their script."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from lidr.config import Config
from lidr.errors import LidrError
from lidr.languages import get_language

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SAMPLE = 200  # texts of each language that are counted

# Characters per token, and tokens for what takes one token in English. Latin to Japanese are measured with Qwen2's
# tokenizer on MGSM and X-AlpacaEval, the rest is guessed. Smaller vocabularies need up to twice as many tokens, so plan
# with the model's own tokenizer.
_BY_SCRIPT = {
    "Latin": (3.5, 1.4), "Cyrillic": (2.9, 1.6), "Han": (1.5, 1.0), "Japanese": (1.4, 1.3), "Hangul": (1.4, 1.6),
    "Arabic": (2.2, 1.9), "Thai": (1.9, 2.0), "Bengali": (1.2, 3.5), "Telugu": (1.0, 4.0),
}  # fmt: skip
_ENGLISH = (4.4, 1.0)
_TEMPLATE_TOKENS = 15  # that a chat template writes around a turn
ANSWERS = {"general": 350, "arithmetic": 200, "lab": 20}  # tokens of an English answer


class Lengths:
    """Mean numbers of tokens by language.

    `tokenizer` is None if it is not at hand. `expansion` is how many tokens a language takes for what takes one in
    English; only parallel texts can tell. `measured` are the mean answers of an earlier run.
    """

    def __init__(self, config: Config, folder: Path | None) -> None:
        self.config = config
        self.tokenizer = _tokenizer(folder)
        self.expansion = {code: _by_script(code)[1] for code in config.languages}
        self.measured: dict[tuple[str, ...], float] = {}

    def learn(self, parallel: dict[str, list[str]]) -> None:
        """Measure `expansion` on parallel texts, if the tokenizer is at hand."""
        counted = {code: self.text(texts, code) for code, texts in parallel.items() if texts}
        base = counted.get("en") or counted.get(self.config.dominant)
        if self.tokenizer is not None and base:
            scale = 1.0 if "en" in counted else self.expansion_of(self.config.dominant)
            self.expansion |= {code: scale * count / base for code, count in counted.items()}

    def expansion_of(self, language: str) -> float:
        """Tokens for what takes one in English."""
        return self.expansion.get(language) or _by_script(language)[1]

    def text(self, texts: Sequence[str], language: str) -> float:
        """Mean tokens of texts, without a chat template."""
        sample = texts[:SAMPLE]
        if self.tokenizer is None:
            return fmean(len(text) for text in sample) / _by_script(language)[0]
        found = self.tokenizer(list(sample), add_special_tokens=False)["input_ids"]
        return fmean(len(tokens) for tokens in found)

    def around(self) -> float:
        """Tokens of the system turn and the chat template around a user turn."""
        system = self.config.system_prompt
        if self.tokenizer is None:
            return _TEMPLATE_TOKENS + (len(system) / _ENGLISH[0] + _TEMPLATE_TOKENS if system else 0)
        from lidr.models.chat import chat_of

        messages = [{"role": "system", "content": system}] if system else []
        chat = chat_of(self.tokenizer)
        return float(
            len(chat.ids(chat.render([*messages, {"role": "user", "content": ""}], add_generation_prompt=True)))
        )

    def answer(self, kind: str, language: str, limit: int, *measured: str) -> float:
        """Mean tokens of an answer of a kind of `ANSWERS`; the length in an earlier run comes first."""
        if measured in self.measured:
            return min(self.measured[measured], limit)
        return min(ANSWERS[kind] * (1.0 if kind == "lab" else self.expansion_of(language)), limit)

    def turned(self, tokens: float, source: str, target: str, kind: str = "") -> float:
        """Mean tokens of the translation of a text of `tokens` tokens."""
        return tokens if kind == "lab" else tokens * self.expansion_of(target) / self.expansion_of(source)


def _by_script(language: str) -> tuple[float, float]:
    return _ENGLISH if language == "en" else _BY_SCRIPT[get_language(language).script]


def _tokenizer(folder: Path | None) -> PreTrainedTokenizerBase | None:
    """A chat model's tokenizer, or None if its files are not there."""
    if folder is None or not any((folder / name).exists() for name in ("tokenizer.json", "tokenizer_config.json")):
        return None
    from lidr.models import load_tokenizer

    try:
        return load_tokenizer(folder)
    except (OSError, ValueError, LidrError):
        return None
