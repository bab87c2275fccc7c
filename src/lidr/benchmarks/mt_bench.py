"""MT-Bench: two-turn questions in eight categories, answers scored from 1 to 10 (Zheng et al., arXiv 2306.05685)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from lidr.benchmarks.base import AnswerFunction, Asked, Bench, Benchmark, BenchmarkSettings, LanguageResult, Question
from lidr.benchmarks.metrics import LPR, OFF_TARGET, SCORE, MetricKind
from lidr.benchmarks.shared.comparing import language_kept
from lidr.benchmarks.shared.reading import read_language
from lidr.cells import id_cell, is_blank, text_cell, wrong_type
from lidr.config import LanguageCodes
from lidr.engines.base import Completion
from lidr.errors import DataError
from lidr.judges import AnsweredQuestion, score_answers
from lidr.languages.identification import LanguageIdentifier
from lidr.records import Rating
from lidr.results import Metric, Metrics
from lidr.settings import PathText, PositiveInt
from lidr.statistics import bootstrap_interval, rounded
from lidr.storage import at_hand

_FIELD = "evaluation.benchmarks.mt_bench"


@dataclass(frozen=True, slots=True)
class MtQuestion:
    """A question of one turn or two. `references` are right answers by turn, if the file has them."""

    question_id: str
    category: str
    turns: tuple[str, ...]
    references: tuple[str, ...] = ()


class MtBench(BenchmarkSettings):
    """Two-turn questions, scored from 1 to 10 by the judge (arXiv 2306.05685)."""

    metrics: ClassVar[tuple[MetricKind, ...]] = (SCORE, OFF_TARGET, LPR)
    judged: ClassVar[bool] = True
    turns: ClassVar[int] = 2

    path: PathText
    """A folder of `<language>.jsonl` files in FastChat's question format (`question_id`, `category`, `turns`), on disk
    or behind a URL, or a Hugging Face data set with one configuration per language."""
    languages: LanguageCodes | None = None
    """Languages to be asked; null takes the recipe's."""
    limit: PositiveInt | None = None
    """Ask only the first n questions of each language."""

    def prepare(self, bench: Bench) -> Benchmark:
        return MtBenchBenchmark(self, bench)

    def size(self) -> tuple[int, float]:
        return 80, 90.0

    def texts(self, language: str) -> list[str] | None:
        if not at_hand(self.path):
            return None
        return [question.turns[0] for question in read_questions(self.path, language, self.limit)]

    def judge_asked(self, iteration: int) -> Literal["ratings"]:
        return "ratings"


class MtBenchBenchmark:
    """`score` is the mean over the questions of the mean rating of their turns; its interval is a bootstrap over them.

    The second turn is asked with the model's own first answer before it, and judged with the whole conversation.
    """

    def __init__(self, settings: MtBench, bench: Bench) -> None:
        self.settings, self.bench = settings, bench
        self.languages = bench.languages(settings.languages)
        self._identifier = LanguageIdentifier.among(self.languages)
        field = f"evaluation.benchmarks.{bench.folder.name}"
        self.questions = {code: read_questions(settings.path, code, settings.limit, field) for code in self.languages}

    def ahead(self) -> list[Asked]:
        """See `AsksAhead`: the first turns."""
        return [
            (language, _first_turns(questions, language), "turn_1") for language, questions in self.questions.items()
        ]

    def evaluate(self, answer: AnswerFunction) -> Iterator[LanguageResult]:
        """See `Benchmark.evaluate`; the rows are `Rating`s, whose question ids end in the turn."""
        for language, questions in self.questions.items():
            first = _first_turns(questions, language)
            answers = answer(language, first, "turn_1")
            # A second turn without an answer to the first one cannot be asked.
            goes_on = [
                (question, reply)
                for question, reply in zip(questions, answers, strict=True)
                if len(question.turns) > 1 and reply.finish_reason != "error"
            ]
            second = [_second_turn(question, reply, language) for question, reply in goes_on]
            later = answer(language, second, "turn_2") if second else []
            answered = _answered(first, answers, questions, turn=0)
            answered += _answered(second, later, [question for question, _ in goes_on], turn=1)
            judge = self.bench.judge()
            title = f"{self.bench.model.name}  mt_bench {language} (judge)"
            ratings, replies = score_answers(judge, answered, self._identifier, title)
            turns = sum(len(question.turns) for question in questions)
            kept = language_kept([*first, *second], [*answers, *later], language, self._identifier)
            metrics = _metrics(ratings) | kept
            metrics |= Metrics(counts={"failed": turns - len(answered)}, judge=judge.usage(replies))
            yield LanguageResult(language, ratings, metrics)


def read_questions(path: str, language: str, limit: int | None = None, field: str = _FIELD) -> list[MtQuestion]:
    """FastChat's question format: `question_id`, `category`, `turns` and, for some, `reference`. Raises DataError."""
    way_out = f"set {field}.path to a folder of <language>.jsonl files in FastChat's question format"
    questions: dict[str, MtQuestion] = {}
    for place, row in read_language(path, language, field, way_out, split="train"):
        question = _read_question(row, place)
        if question.question_id in questions:
            raise DataError(f"{place}: question_id {question.question_id!r} occurs twice; correct the row")
        questions[question.question_id] = question
        if len(questions) == limit:
            break
    if not questions:
        raise DataError(f"{path}: no questions in {language}; {way_out}")
    return list(questions.values())


def _read_question(row: Mapping[str, object], place: str) -> MtQuestion:
    turns, references = _texts(row.get("turns"), place, "turns"), _texts(row.get("reference"), place, "reference")
    if "question_id" not in row or not 1 <= len(turns) <= 2 or not all(turn.strip() for turn in turns):
        raise DataError(f"{place}: needs 'question_id' and 'turns', a list of one or two texts; correct the row")
    question_id = id_cell(row["question_id"], place, "question_id")
    return MtQuestion(question_id, text_cell(row.get("category"), place, "category"), turns, references)


def _texts(value: object, place: str, name: str) -> tuple[str, ...]:
    """A list of texts, empty if there is none; "" for an item that is null. Raises DataError."""
    if is_blank(value):
        return ()
    if not isinstance(value, list):
        raise wrong_type(value, place, name, "a list with a text per turn")
    return tuple(text_cell(item, place, name) for item in value)


def _first_turns(questions: Sequence[MtQuestion], language: str) -> list[Question]:
    return [Question(f"{q.question_id}.1", language, q.turns[0], group=q.category) for q in questions]


def _second_turn(question: MtQuestion, first: Completion, language: str) -> Question:
    history = (("user", question.turns[0]), ("assistant", first.text))
    return Question(f"{question.question_id}.2", language, question.turns[1], group=question.category, history=history)


def _answered(
    questions: Sequence[Question], answers: Sequence[Completion], sources: Sequence[MtQuestion], turn: int
) -> list[AnsweredQuestion]:
    return [
        AnsweredQuestion(
            question.question_id, question.language, question.prompt, answer.text, question.history, question.group,
            source.references[turn] if len(source.references) > turn else "",
        )
        for question, answer, source in zip(questions, answers, sources, strict=True)
        if answer.finish_reason != "error"
    ]  # fmt: skip


def _metrics(ratings: Sequence[Rating]) -> Metrics:
    by_question: dict[str, list[float]] = defaultdict(list)
    by_category: dict[str, list[float]] = defaultdict(list)
    by_turn: dict[str, list[float]] = defaultdict(list)
    for rating in ratings:
        if rating.rating is not None:
            question, _, turn = rating.question_id.rpartition(".")
            by_question[question].append(rating.rating)
            by_category[rating.group].append(rating.rating)
            by_turn[turn].append(rating.rating)
    means = [sum(rated) / len(rated) for rated in by_question.values()]
    values = {
        "score": Metric(_mean(means), rounded(bootstrap_interval(means), 3) if means else None),
        "score_turn_1": Metric(_mean(by_turn["1"])),
        "score_turn_2": Metric(_mean(by_turn["2"])),
    }
    counts = {
        "n": len(by_question),
        "unscored": sum(rating.rating is None for rating in ratings),
        "ruled": sum(rating.rule is not None for rating in ratings),
    }
    categories = {name: round(sum(rated) / len(rated), 3) for name, rated in sorted(by_category.items())}
    return Metrics(values, counts, by_category=categories)


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 3) if values else None
