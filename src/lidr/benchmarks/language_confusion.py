"""Language confusion: how many answers keep to the language in every line and word (arXiv 2406.20052)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress
from typing import ClassVar

from lidr.benchmarks.base import AnswerFunction, Asked, Bench, Benchmark, LanguageResult
from lidr.benchmarks.metrics import LPR, MetricKind
from lidr.benchmarks.shared.comparing import Instructions, instructions
from lidr.benchmarks.shared.pass_rates import pass_rates
from lidr.languages.confusion import check_answer
from lidr.languages.identification import LanguageIdentifier
from lidr.languages.names import asks_for_other_language
from lidr.records import Row
from lidr.results import Metrics


@dataclass(frozen=True, slots=True)
class ConfusionRow(Row):
    """What one answer has in other languages: (line, language found) and words."""

    question_id: str
    language: str
    text: str
    wrong_lines: tuple[tuple[str, str], ...]
    wrong_words: tuple[str, ...]


WPR = MetricKind(
    "wpr", "Word-level pass rate", "word pass rate",
    "share of answers without a foreign word in Latin letters, among those whose lines pass and whose language has "
    "another script (WPR)", "language", is_zoomed=True, is_told=False,
)  # fmt: skip
LCPR = MetricKind(
    "lcpr", "Language confusion pass rate", "language confusion pass rate",
    "harmonic mean of the two pass rates (LCPR)", "language", is_zoomed=True, is_told=False, in_terminal=(),
    supports=("lines", "undecided"),
)  # fmt: skip


class LanguageConfusion(Instructions):
    """How many answers keep to the language in every line and word (arXiv 2406.20052)."""

    metrics: ClassVar[tuple[MetricKind, ...]] = (LPR, WPR, LCPR)

    def prepare(self, bench: Bench) -> Benchmark:
        return LanguageConfusionBenchmark(self, bench)

    def size(self) -> tuple[int, float]:
        return 100, 40.0


class LanguageConfusionBenchmark:
    """Offline and deterministic; no judge."""

    def __init__(self, settings: Instructions, bench: Bench) -> None:
        self.settings, self.bench = settings, bench
        self.languages = bench.languages(settings.languages)
        self._identifier = LanguageIdentifier.among(self.languages)
        self.questions = {code: instructions(settings, bench, code) for code in self.languages}

    def ahead(self) -> list[Asked]:
        """See `AsksAhead`."""
        return [(language, questions, "") for language, questions in self.questions.items()]

    def evaluate(self, answer: AnswerFunction) -> Iterator[LanguageResult]:
        """See `Benchmark.evaluate`; what the engine failed to answer, or asks for another language, is only counted."""
        for language, asked in self.questions.items():
            answers = answer(language, asked)
            # Who asks for a French poem in English gets lines in both.
            own = [not asks_for_other_language(question.prompt, language) for question in asked]
            questions, answers = list(compress(asked, own)), list(compress(answers, own))
            given = [pair for pair in zip(questions, answers, strict=True) if pair[1].finish_reason != "error"]
            checked = [check_answer(reply.text, language, self._identifier) for _, reply in given]
            rows = [
                ConfusionRow(question.question_id, language, reply.text, found.wrong_lines, found.wrong_words)
                for (question, reply), found in zip(given, checked, strict=True)
            ]
            counts = {
                "failed": len(questions) - len(given),
                "other_language_asked": len(asked) - len(questions),
                "thinking": sum(reply.thinking for reply in answers),
            }
            yield LanguageResult(language, rows, pass_rates(checked, language) | Metrics(counts=counts))
