"""Head to head: the model's answers against another model's, as win, tie and lose (the paper's figure 2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from lidr.benchmarks.base import AnswerFunction, Asked, Bench, Benchmark, LanguageResult
from lidr.benchmarks.metrics import LPR, OFF_TARGET, PREFERENCE, MetricKind
from lidr.benchmarks.shared.comparing import (
    Instructions,
    compare_answers,
    instructions,
    language_kept,
    reference_outputs,
)
from lidr.languages.identification import LanguageIdentifier
from lidr.results import Metrics
from lidr.settings import PathText


class HeadToHead(Instructions):
    """Win, tie, lose against another model's answers, by the judge."""

    metrics: ClassVar[tuple[MetricKind, ...]] = (PREFERENCE, OFF_TARGET, LPR)
    judged: ClassVar[bool] = True
    path_fields: ClassVar[tuple[str, ...]] = ("path", "against")

    against: PathText = "M0"
    """The other side: `M0` for the base model, or a folder of `<language>.json` files in AlpacaEval's format."""

    def other(self) -> str:
        return "" if self.against == "M0" else self.against

    def prepare(self, bench: Bench) -> Benchmark:
        return HeadToHeadBenchmark(self, bench)

    def judge_asked(self, iteration: int) -> Literal["comparisons"] | None:
        return "comparisons" if self.against != "M0" or iteration else None


class HeadToHeadBenchmark:
    """Both orders are judged; a question on which they contradict each other is a tie.

    Against `M0`, M_0 itself only answers: there is nothing to compare it with.
    """

    def __init__(self, settings: HeadToHead, bench: Bench) -> None:
        self.settings, self.bench = settings, bench
        self.languages = bench.languages(settings.languages)
        self._identifier = LanguageIdentifier.among(self.languages)
        self.against_m0 = settings.against == "M0"
        self.questions = {code: instructions(settings, bench, code) for code in self.languages}
        self.opponents = {
            code: reference_outputs(settings.against, code, asked)[0]
            for code, asked in self.questions.items()
            if not self.against_m0
        }

    def ahead(self) -> list[Asked]:
        """See `AsksAhead`."""
        return [(language, questions, "") for language, questions in self.questions.items()]

    def evaluate(self, answer: AnswerFunction) -> Iterator[LanguageResult]:
        """See `Benchmark.evaluate`; the rows are `Verdict`s."""
        bench = self.bench
        for language, questions in self.questions.items():
            answers = answer(language, questions)
            if self.against_m0 and bench.iteration == 0:
                metrics = language_kept(questions, answers, language, self._identifier)
                metrics |= Metrics(counts={"n": len(answers)})
                yield LanguageResult(language, [], metrics)
                continue
            opponents = bench.initial(language, questions) if self.against_m0 else self.opponents[language]
            compared = compare_answers(bench, language, questions, answers, opponents, self._identifier)
            yield LanguageResult(language, compared.verdicts, compared.metrics)
