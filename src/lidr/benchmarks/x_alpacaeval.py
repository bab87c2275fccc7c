"""X-AlpacaEval: the win rate against reference answers, plain and length-controlled (arXiv 2404.04475)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from lidr.benchmarks.base import AnswerFunction, Asked, Bench, Benchmark, LanguageResult, Question
from lidr.benchmarks.metrics import LPR, OFF_TARGET, WIN_RATE, Aside, MetricKind
from lidr.benchmarks.shared import alpaca_files
from lidr.benchmarks.shared.comparing import Compared, Instructions, compare_answers, instructions, reference_outputs
from lidr.benchmarks.shared.length_control import length_controlled_win_rate
from lidr.engines.base import Completion
from lidr.languages.identification import LanguageIdentifier
from lidr.results import Metric, Metrics
from lidr.settings import PathText
from lidr.statistics import rounded

LC_WIN_RATE = MetricKind(
    "lc_win_rate", "Length-controlled win rate", "length-controlled win rate",
    "what the win rate would be if both sides' answers had the same length", "judged", ("n",), middle=0.5,
    is_key=True,
    asides=(
        Aside("mean_length", "mean length of the answers in characters", is_mean=True),
        Aside("mean_reference_length", "of the reference answers", is_mean=True),
    ),
)  # fmt: skip


class XAlpacaEval(Instructions):
    """Win rate against reference answers, plain and length-controlled (arXiv 2404.04475), by the judge."""

    metrics: ClassVar[tuple[MetricKind, ...]] = (WIN_RATE, LC_WIN_RATE, OFF_TARGET, LPR)
    judged: ClassVar[bool] = True
    path_fields: ClassVar[tuple[str, ...]] = ("path", "reference")

    reference: PathText
    """Reference answers: a folder of `<language>.json` files in AlpacaEval's format (`instruction`, `output`)."""

    def other(self) -> str:
        return self.reference

    def prepare(self, bench: Bench) -> Benchmark:
        return XAlpacaEvalBenchmark(self, bench)

    def judge_asked(self, iteration: int) -> Literal["comparisons"]:
        return "comparisons"


class XAlpacaEvalBenchmark:
    """`win_rate` is the mean preference of the judge for the model, `lc_win_rate` what it would be at equal lengths.

    Beside the rows, `alpaca_eval/<language>/` holds model_outputs.json and annotations.json in AlpacaEval's format.
    """

    def __init__(self, settings: XAlpacaEval, bench: Bench) -> None:
        self.settings, self.bench = settings, bench
        self.languages = bench.languages(settings.languages)
        self._identifier = LanguageIdentifier.among(self.languages)
        self.questions = {code: instructions(settings, bench, code) for code in self.languages}
        self.references = {
            code: reference_outputs(settings.reference, code, asked) for code, asked in self.questions.items()
        }

    def ahead(self) -> list[Asked]:
        """See `AsksAhead`."""
        return [(language, questions, "") for language, questions in self.questions.items()]

    def evaluate(self, answer: AnswerFunction) -> Iterator[LanguageResult]:
        """See `Benchmark.evaluate`; the rows are `Verdict`s."""
        for language, questions in self.questions.items():
            references, generator = self.references[language]
            answers = answer(language, questions)
            compared = compare_answers(self.bench, language, questions, answers, references, self._identifier)
            self._write_files(language, questions, answers, compared, generator)
            yield LanguageResult(language, compared.verdicts, _metrics(compared))

    def _write_files(
        self,
        language: str,
        questions: Sequence[Question],
        answers: Sequence[Completion],
        compared: Compared,
        other: str,
    ) -> None:
        folder = self.bench.folder / "alpaca_eval" / language
        name = self.bench.model.name if self.bench.config.iterations else self.bench.config.name
        judge = self.bench.config.evaluation.judge
        outputs = alpaca_files.model_outputs(questions, answers, name)
        notes = alpaca_files.annotations(
            compared.comparisons, compared.verdicts, name, other, judge.model if judge else ""
        )
        alpaca_files.write_rows(folder / "model_outputs.json", outputs)
        alpaca_files.write_rows(folder / "annotations.json", notes)


def _metrics(compared: Compared) -> Metrics:
    """Those of a comparison, whose preference is the win rate here, with the length-controlled win rate."""
    of_judge = compared.metrics
    named = {"win_rate" if name == "preference" else name: value for name, value in of_judge.values.items()}
    preferences = [verdict.preference for verdict in compared.verdicts]
    lengths = [len(comparison.answer) for comparison in compared.comparisons]
    reference_lengths = [len(comparison.opponent) for comparison in compared.comparisons]
    controlled = length_controlled_win_rate(preferences, lengths, reference_lengths)
    n = len(lengths)
    named["lc_win_rate"] = Metric(
        None if controlled.win_rate is None else round(controlled.win_rate, 4),
        None if controlled.ci95 is None else rounded(controlled.ci95),
    )
    for name, found in (("mean_length", lengths), ("mean_reference_length", reference_lengths)):
        named[name] = Metric(round(sum(found) / n, 1) if n else None)
    return replace(of_judge, values=named)
