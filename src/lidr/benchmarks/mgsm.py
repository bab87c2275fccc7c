"""Arithmetic with one number as the answer, the same questions in every language.

MGSM: 250 grade-school questions per language (Shi et al. 2022, arXiv 2210.03057). `msvamp.py` has 1,000 easier ones.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lidr.benchmarks.base import (
    AnswerFunction,
    Asked,
    Bench,
    Benchmark,
    BenchmarkSettings,
    GradedAnswer,
    LanguageResult,
    Question,
)
from lidr.benchmarks.metrics import ACCURACY, ACCURACY_ON_TARGET, LPR, OFF_TARGET, MetricKind
from lidr.benchmarks.shared.pass_rates import line_pass_rate
from lidr.benchmarks.shared.reading import answer_field, read_language, text_field
from lidr.config import LanguageCodes
from lidr.engines.base import Completion
from lidr.errors import DataError
from lidr.languages import get_language
from lidr.languages.identification import LanguageIdentifier
from lidr.numbers import extract_answer, number_text, parse_number, same_number
from lidr.results import Metrics
from lidr.settings import PathText, PositiveInt
from lidr.statistics import share
from lidr.storage import at_hand, local_path
from lidr.tables import PATTERNS, language_file
from lidr.thinking import set_aside_thinking

_QUESTION_FIELDS = ("question", "query")
_GOLD_FIELDS = ("answer_number", "response")
_PATTERNS = (*PATTERNS, "mgsm_{}.tsv")
_COLUMNS = ("question", "answer_number")  # of a .tsv file
_WAY_OUT = (
    "set {field}.path to a folder of <language>.jsonl (query, response) or <language>.tsv "
    "(question TAB answer) files, or to a Hugging Face data set with one configuration per language"
)
_EXAMPLES_FILE = "{}.train.jsonl"
_EXAMPLES_WAY_OUT = (
    "set {field}.num_fewshot to 0, or add <language>.train.jsonl (question, answer) to the folder "
    "or a split 'train' to the data set"
)
# The longest label in the released data, "Schritt-für-Schritt-Antwort", has 27 characters.
_LABEL = re.compile(r"\s*([^\d\n:：]{1,40}?)\s*[:：]\s*")


class Mgsm(BenchmarkSettings):
    """Grade-school arithmetic, 250 questions a language (Shi et al. 2022, arXiv 2210.03057)."""

    metrics: ClassVar[tuple[MetricKind, ...]] = (ACCURACY, ACCURACY_ON_TARGET, OFF_TARGET, LPR)
    answers: ClassVar[Literal["arithmetic"]] = "arithmetic"

    path: PathText = "juletxara/mgsm"
    """A folder of `<language>.jsonl` files (`query`, `response`), on disk or behind a URL, or a Hugging Face data set
    (hub id or folder)."""
    languages: LanguageCodes = Field(default=["en", "es", "fr", "de", "ru", "zh", "ja", "th", "sw", "bn", "te"])
    """Languages to be asked."""
    limit: PositiveInt | None = None
    """Ask only the first n questions of each language."""
    instruction: bool = True
    """Wrap the question in the request for step-by-step reasoning in its language."""
    num_fewshot: Annotated[int, Field(ge=0, le=8)] = 0
    """Worked examples shown before each question, as earlier turns: the first rows of the data set's split `train`, or
    of `<language>.train.jsonl` (`question`, `answer`) beside local question files."""

    def prepare(self, bench: Bench) -> Benchmark:
        benchmark = MgsmBenchmark(**self.model_dump(), name=bench.folder.name)
        benchmark.read_questions()
        return benchmark

    def size(self) -> tuple[int, float]:
        return 250, 75 * (1 + 2.5 * self.num_fewshot)  # a worked answer is longer than its question

    def texts(self, language: str) -> list[str] | None:
        if not at_hand(self.path):
            return None
        questions = MgsmBenchmark(**self.model_dump(), name=self.type).questions(language)
        return ["\n".join([*(text for _, text in asked.history), asked.prompt]) for asked in questions]


class MgsmBenchmark:
    """Accuracy of the final number, and the share of answers in another language than the question's.

    `path` is a folder of `<language>.jsonl` or `.tsv` files, on disk or behind a URL, or a Hugging Face data set (hub
    id or folder) with one configuration per language. `limit` asks only the first n questions of each language;
    `instruction` wraps them in the request for step-by-step reasoning in their language. `num_fewshot` puts that many
    worked examples before each question, as turns wrapped in the same way: the first rows of the data set's split
    `train` (eight per language in the released data), or of `<language>.train.jsonl` (`question`, `answer`) beside the
    other files. `name` is the benchmark's name in the recipe.
    """

    def __init__(
        self,
        *,
        path: str,
        languages: Sequence[str],
        limit: int | None = None,
        instruction: bool = True,
        num_fewshot: int = 0,
        name: str = "mgsm",
    ) -> None:
        self._field = f"evaluation.benchmarks.{name}"
        self._way_out = _WAY_OUT.format(field=self._field)
        self.path, self.limit, self.instruction, self.num_fewshot = path, limit, instruction, num_fewshot
        self.languages = tuple(get_language(code).code for code in languages)
        self._identifier = LanguageIdentifier.among(self.languages)
        self._read: dict[str, list[Question]] = {}

    def questions(self, language: str) -> list[Question]:
        """The questions of one language, with golds in plain digits. Raises DataError for rows that cannot be used."""
        history = self._worked_examples(language) if self.num_fewshot else ()
        questions = []
        for number, (place, row) in enumerate(
            read_language(self.path, language, self._field, self._way_out, patterns=_PATTERNS, columns=_COLUMNS),
            1,
        ):
            question, gold = text_field(row, _QUESTION_FIELDS, place), answer_field(row, _GOLD_FIELDS, place)
            # The released golds are written the English way ("2,125") in every language.
            value = parse_number(gold, "en")
            if value is None:
                raise DataError(f"{place}: the gold answer {gold[:60]!r} is not a number; correct it or remove the row")
            prompt = self._prompt(language, question)
            questions.append(Question(str(number), language, prompt, number_text(value), history=history))
            if number == self.limit:
                break
        if not questions:
            raise DataError(f"{self.path}: no questions in {language}; {self._way_out}")
        return questions

    def _prompt(self, language: str, question: str) -> str:
        wrapper = get_language(language).answer_instruction if self.instruction else "{question}"
        return wrapper.replace("{question}", question)

    def _worked_examples(self, language: str) -> tuple[tuple[str, str], ...]:
        """The turns of `num_fewshot` worked examples; see `Question.history`. Raises DataError if they are fewer."""
        folder = local_path(self.path, f"{self._field}.path")
        way_out = _EXAMPLES_WAY_OUT.format(field=self._field)
        is_local = language_file(folder, language, _PATTERNS) is not None
        if is_local and not (folder / _EXAMPLES_FILE.format(language)).is_file():
            raise DataError(f"{folder}: no worked examples in {language}; {way_out}")
        rows = list(read_language(self.path, language, self._field, way_out, "train", (_EXAMPLES_FILE,)))
        if len(rows) < self.num_fewshot:
            raise DataError(
                f"{self.path}: {self._field}.num_fewshot asks for {self.num_fewshot} worked examples, {language} has "
                f"{len(rows)}; lower it or add more"
            )
        questions = without_label([text_field(row, _QUESTION_FIELDS, place) for place, row in rows])
        answers = without_label([text_field(row, ("answer",), place) for place, row in rows])
        turns: list[tuple[str, str]] = []
        for question, answer in list(zip(questions, answers, strict=True))[: self.num_fewshot]:
            turns += [("user", self._prompt(language, question)), ("assistant", answer)]
        return tuple(turns)

    def read_questions(self) -> dict[str, list[Question]]:
        """The questions of all languages, read once. Raises DataError as `questions`."""
        if not self._read:
            self._read = {language: self.questions(language) for language in self.languages}
        return self._read

    def ahead(self) -> list[Asked]:
        """See `AsksAhead`."""
        return [(language, questions, "") for language, questions in self.read_questions().items()]

    def evaluate(self, answer: AnswerFunction) -> Iterator[LanguageResult]:
        """See `Benchmark.evaluate`. All questions are read before the first is asked, so a bad row costs no answers.

        A question that the engine failed to answer (`Completion.error`) is left out and counted in `failed`: it is
        neither right nor wrong.
        """
        for language, asked in self.read_questions().items():
            answers = [set_aside_thinking(completion) for completion in answer(language, asked)]
            pairs = list(zip(asked, answers, strict=True))
            rows = [self.score(*pair) for pair in pairs if pair[1].finish_reason != "error"]
            truncated = sum(completion.finish_reason == "length" for _, completion in pairs)
            thinking = sum(completion.thinking for completion in answers)
            counts = {"failed": len(pairs) - len(rows), "truncated": truncated, "thinking": thinking}
            yield LanguageResult(language, rows, self._metrics(language, rows) | Metrics(counts=counts))

    def score(self, question: Question, completion: Completion) -> GradedAnswer:
        """Score one answer; the language is identified from the answer's text alone, thinking is set aside first."""
        completion = set_aside_thinking(completion)
        number = extract_answer(completion.text, question.language)
        language = self._identifier.identify(completion.text)
        return GradedAnswer(
            question_id=question.question_id,
            language=question.language,
            text=completion.text,
            answer=None if number is None else number_text(number),
            gold=question.gold,
            correct=same_number(number, Decimal(question.gold)),
            off_target=None if language is None else language != question.language,
            thinking=completion.thinking,
        )

    def _metrics(self, language: str, rows: list[GradedAnswer]) -> Metrics:
        """Shares of all rows with Wilson intervals, None if there are no rows, and the line-level pass rate.

        `accuracy_on_target` counts right numbers only in answers that are in the question's language, or too short to
        tell: the others' numbers are of no use to a reader of that language.
        """
        values = {
            "accuracy": share(sum(row.correct for row in rows), len(rows)),
            "accuracy_on_target": share(sum(row.correct and row.off_target is not True for row in rows), len(rows)),
            "off_target": share(sum(row.off_target is True for row in rows), len(rows)),
        }
        counts = {"undecided": sum(row.off_target is None for row in rows), "n": len(rows)}
        return Metrics(values, counts) | line_pass_rate((row.text for row in rows), language, self._identifier)


def without_label(texts: Sequence[str]) -> list[str]:
    """Worked examples without the label before them: "Question: ", "Réponse étape par étape : ", "问题：".

    A label is short, has no digit, ends in a colon, and precedes more than half of the texts: the released data
    has one before each, mirrors of it have none, and a question may have a colon of its own. lm-evaluation-harness
    cuts off a fixed number of characters instead.
    """
    found = [_LABEL.match(text) for text in texts]
    counts = Counter(match[1] for match in found if match)
    labels = {label for label, count in counts.items() if 2 * count > len(texts)}
    return [
        text[match.end() :] if match and match[1] in labels else text for text, match in zip(texts, found, strict=True)
    ]
