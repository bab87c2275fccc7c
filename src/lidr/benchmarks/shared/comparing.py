"""What the benchmarks that compare two models' answers share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lidr.benchmarks.base import Bench, BenchmarkSettings, Question
from lidr.benchmarks.shared.alpaca_files import read_model_outputs
from lidr.benchmarks.shared.pass_rates import line_pass_rate
from lidr.benchmarks.shared.reading import read_instructions
from lidr.config import LanguageCodes
from lidr.engines.base import Completion
from lidr.errors import DataError
from lidr.judges import Comparison, compare, summarise
from lidr.languages.identification import LanguageIdentifier
from lidr.languages.names import asks_for_other_language
from lidr.records import Verdict
from lidr.results import Metrics
from lidr.settings import PathText, PositiveInt
from lidr.statistics import share
from lidr.storage import at_hand
from lidr.thinking import set_aside_thinking


class Instructions(BenchmarkSettings):
    """What benchmarks that ask instructions share."""

    path: PathText | None = None
    """A folder of `<language>.jsonl` (or .json, .csv, .tsv, .parquet) files with an `instruction` per row, on disk or
    behind a URL, or a Hugging Face data set with one configuration per language. null takes the instructions of the
    answers that are compared with, or of the answers under test if the model is a folder of answers."""
    languages: LanguageCodes | None = None
    """Languages to be asked; null takes the recipe's."""
    limit: PositiveInt | None = None
    """Ask only the first n instructions of each language."""

    def other(self) -> str:
        """The folder of the answers that are compared with; empty if there is none."""
        return ""

    def size(self) -> tuple[int, float]:
        return 805, 45.0

    def texts(self, language: str) -> list[str] | None:
        path = self.path or self.other()
        if not path or not at_hand(path):
            return None
        read = read_instructions(path, language, self.limit, f"evaluation.benchmarks.{self.type}")
        return [question.prompt for question in read]


@dataclass(frozen=True, slots=True)
class Compared:
    """The comparisons of one language with their verdicts, in the order of the questions, and the metrics."""

    comparisons: list[Comparison]
    verdicts: list[Verdict]
    metrics: Metrics


def instructions(settings: Instructions, bench: Bench, language: str) -> list[Question]:
    """The instructions of one language: from `path`, else those of the recorded answers at hand (see the recipe)."""
    field = f"evaluation.benchmarks.{bench.folder.name}"
    path = settings.path or (str(bench.model.folder) if bench.model.recorded else settings.other())
    if not path:
        raise DataError(f"{field}.path: missing; name a folder of <language>.json files with an instruction per row")
    return read_instructions(path, language, settings.limit, field)


def reference_outputs(folder: str, language: str, questions: Sequence[Question]) -> tuple[list[Completion], str]:
    """The recorded answers to just these questions, and their generator's name. Raises DataError if they differ."""
    rows = read_model_outputs(folder, language)
    by_instruction = {row.instruction: row for row in rows}
    if len(by_instruction) < len(rows):
        by_instruction = {}  # an instruction that occurs twice can only be joined by position
    found = []
    for number, question in enumerate(questions):
        row = by_instruction.get(question.prompt) if by_instruction else rows[number] if number < len(rows) else None
        if row is None or row.instruction != question.prompt:
            raise DataError(
                f"{folder}/{language}.json: no answer to question {question.question_id} ({question.prompt[:60]!r}); "
                "both sides need answers to the same instructions"
            )
        found.append(set_aside_thinking(Completion(question.question_id, row.output, "stop")))
    return found, rows[0].generator if rows else ""


def compare_answers(
    bench: Bench,
    language: str,
    questions: Sequence[Question],
    answers: Sequence[Completion],
    opponents: Sequence[Completion],
    identifier: LanguageIdentifier,
) -> Compared:
    """Judge one language. Questions that either side has no answer to, because its engine failed, are left out."""
    comparisons = [
        Comparison(question.question_id, language, question.prompt, answer.text, opponent.text)
        for question, answer, opponent in zip(questions, answers, opponents, strict=True)
        if "error" not in (answer.finish_reason, opponent.finish_reason)
    ]
    judge = bench.judge()
    title = f"{bench.model.name}  {bench.folder.name} {language} (judge)"
    verdicts, replies = compare(judge, comparisons, identifier, title)
    failed = Metrics(counts={"failed": len(questions) - len(comparisons)}, judge=judge.usage(replies))
    metrics = summarise(verdicts) | language_kept(questions, answers, language, identifier) | failed
    return Compared(comparisons, verdicts, metrics)


def language_kept(
    questions: Sequence[Question], answers: Sequence[Completion], language: str, identifier: LanguageIdentifier
) -> Metrics:
    """The share of answers in another language than the question's, and that of answers without a line in another.

    Undecided answers count as on target. The line-level pass rate leaves out questions that ask for another language.
    """
    pairs = zip(questions, answers, strict=True)
    given = [(question.prompt, answer.text) for question, answer in pairs if answer.finish_reason != "error"]
    found = [identifier.identify(text) for _, text in given]
    wrong = sum(code not in (None, language) for code in found)
    own = [text for prompt, text in given if not asks_for_other_language(prompt, language)]
    counts = {
        "other_language_asked": len(given) - len(own),
        "undecided": found.count(None),
        "truncated": sum(answer.finish_reason == "length" for answer in answers),
        "thinking": sum(answer.thinking for answer in answers),
    }
    lines = line_pass_rate(own, language, identifier)
    return Metrics({"off_target": share(wrong, len(given))}, counts) | lines
