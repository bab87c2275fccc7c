"""Head to head: the model's answers against another model's, as win, tie and lose (the paper's figure 2)."""

from __future__ import annotations

from collections.abc import Iterator

from lidr.benchmarks.base import AnswerFunction, Bench, LanguageResult
from lidr.benchmarks.comparing import compare_answers, instructions, off_target, reference_outputs
from lidr.config import HeadToHeadConfig
from lidr.language_id import LanguageIdentifier


class HeadToHeadBenchmark:
    """Both orders are judged; a question on which they contradict each other is a tie.

    Against `M0`, M_0 itself only answers: there is nothing to compare it with.
    """

    def __init__(self, settings: HeadToHeadConfig, bench: Bench) -> None:
        self.settings, self.bench = settings, bench
        self.languages = bench.languages(settings.languages)
        self._identifier = LanguageIdentifier()

    def evaluate(self, answer: AnswerFunction) -> Iterator[LanguageResult]:
        """See `Benchmark.evaluate`; the rows are `Verdict`s."""
        settings, bench = self.settings, self.bench
        against_m0 = settings.against == "M0"
        for language in self.languages:
            other = "" if against_m0 else settings.against
            questions = instructions(settings, bench, language, "head_to_head", other)
            answers = answer(language, questions)
            if against_m0 and bench.iteration == 0:
                yield LanguageResult(
                    language, [], off_target(answers, language, self._identifier) | {"n": len(answers)}
                )
                continue
            if against_m0:
                opponents = bench.initial(language, questions)
            else:
                opponents, _ = reference_outputs(settings.against, language, questions)
            compared = compare_answers(bench, language, questions, answers, opponents, self._identifier)
            yield LanguageResult(language, compared.verdicts, compared.metrics)
