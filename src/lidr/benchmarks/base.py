"""The benchmark contract: questions in, scored rows and per-language metrics out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from lidr.engines.base import Completion


@dataclass(frozen=True, slots=True)
class Question:
    """One item of a benchmark in one language. `group` splits the items where a benchmark reports parts."""

    question_id: str
    language: str
    prompt: str
    gold: str
    group: str = ""


@dataclass(frozen=True, slots=True)
class Score:
    """One scored answer. `off_target` is None where the answer is too short or not linguistic enough to tell."""

    question_id: str
    language: str
    text: str
    answer: str | None
    gold: str
    correct: bool
    off_target: bool | None
    group: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class LanguageResult:
    """All rows of one language and the metrics made of them, in the form in which results.json keeps them."""

    language: str
    rows: list[Score]
    metrics: dict[str, Any]


# Answers the questions of one language: one completion per question, in their order. Resumable: answers that an
# earlier, interrupted evaluation kept are not generated again.
AnswerFunction = Callable[[str, list[Question]], list[Completion]]


class Benchmark(Protocol):
    """One benchmark over its languages. Implementations get their settings in the constructor."""

    def evaluate(self, answer: AnswerFunction) -> Iterator[LanguageResult]:
        """Yield one result per language, each as soon as it is known."""
        ...
