"""What a model knows of the laboratory's world, exactly: its sentences can be read back, so no judge is needed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

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
from lidr.benchmarks.metrics import ACCURACY, OFF_TARGET, MetricKind
from lidr.config import LanguageCodes
from lidr.engines.base import Completion
from lidr.errors import ConfigError
from lidr.lab import World, world
from lidr.lab.world import FACTS, HELD_OUT_FORM, LANGUAGES
from lidr.languages.identification import LanguageIdentifier
from lidr.results import Metrics
from lidr.seals import read_rows
from lidr.statistics import share

TRAINED, HELD_OUT = "trained", "held_out"
# The right answer is one sentence, letter by letter: an answer in another language, or with another line, is wrong.
ACCURACY_IN_LANGUAGE = replace(ACCURACY, note="share of answers that are right and in the question's language")
ACCURACY_HELD_OUT = MetricKind(
    "accuracy_held_out", "Accuracy on held-out items", "held-out accuracy",
    "share of answers that are right and in the question's language, to what no training prompt asked for", "accuracy",
    ("n_held_out",), is_share=True, groups=(HELD_OUT,),
)  # fmt: skip


class Lab(BenchmarkSettings):
    """Facts of the laboratory's world."""

    metrics: ClassVar[tuple[MetricKind, ...]] = (ACCURACY_IN_LANGUAGE, ACCURACY_HELD_OUT, OFF_TARGET)
    knows_prompts: ClassVar[bool] = True
    answers: ClassVar[Literal["lab"]] = "lab"

    languages: LanguageCodes = Field(default=["en", "es", "fr", "de", "ru", "it"])
    """Languages of the laboratory to be asked."""

    def prepare(self, bench: Bench) -> Benchmark:
        rows = read_rows(bench.run.prompts(1)) if bench.config.iterations else ()
        return self.over(self.languages, {str(row["prompt_id"]) for row in rows})

    def over(self, languages: Sequence[str], training_prompt_ids: Collection[str]) -> LabBenchmark:
        """The benchmark in some languages."""
        return LabBenchmark(languages, training_prompt_ids)

    def data_in_words(self) -> str:
        return "facts of the laboratory, which come with lidr"

    def texts(self, language: str) -> list[str] | None:
        return [question.prompt for question in self.over([language], ()).questions(language)]


class LabBenchmark:
    """Every fact of the world in each language, asked in the form that no training prompt has.

    `accuracy` is over the facts that the training prompts ask for, `accuracy_held_out` over the others, `off_target`
    over all. An answer is right if it is the fact's sentence in the question's language. If a part has no
    questions, its accuracy and interval are None.
    """

    asks_about: ClassVar[World] = world

    def __init__(self, languages: Sequence[str], training_prompt_ids: Collection[str]) -> None:
        unknown = [language for language in languages if language not in LANGUAGES]
        if unknown:
            raise ConfigError(f"the laboratory has no {', '.join(unknown)}; it has {', '.join(LANGUAGES)}")
        self.languages = tuple(languages)
        self.trained_facts = {self.asks_about.fact_of_prompt(prompt_id) for prompt_id in training_prompt_ids}
        self._identifier = LanguageIdentifier(LANGUAGES)

    def questions(self, language: str) -> list[Question]:
        """One question per fact."""
        return [
            Question(
                question_id=fact.fact_id,
                language=language,
                prompt=world.question(fact, language, HELD_OUT_FORM),
                gold=world.answer(fact, language),
                group=TRAINED if fact.fact_id in self.trained_facts else HELD_OUT,
            )
            for fact in FACTS
        ]

    def ahead(self) -> list[Asked]:
        """See `AsksAhead`."""
        return [(language, self.questions(language), "") for language in self.languages]

    def evaluate(self, answer: AnswerFunction) -> Iterator[LanguageResult]:
        """See `Benchmark.evaluate`."""
        for language in self.languages:
            questions = self.questions(language)
            completions = answer(language, questions)
            rows = [self.score(*pair) for pair in zip(questions, completions, strict=True)]
            yield LanguageResult(language, rows, self.metrics(rows))

    def score(self, question: Question, completion: Completion) -> GradedAnswer:
        """Score one answer; `GradedAnswer.answer` is the sentence if it is one of the world's, true or not."""
        text = completion.text.strip()
        sentence = world.read_answer(text)
        language = sentence[0] if sentence else self._identifier.identify(text)
        return GradedAnswer(
            question_id=question.question_id,
            language=question.language,
            text=completion.text,
            answer=text if sentence else None,
            gold=question.gold,
            correct=text == question.gold,
            off_target=None if language is None else language != question.language,
            group=question.group,
        )

    def metrics(self, rows: list[GradedAnswer]) -> Metrics:
        """The metrics of one language."""
        trained = [row for row in rows if row.group == TRAINED]
        held_out = [row for row in rows if row.group == HELD_OUT]
        values = {
            "accuracy": share(sum(row.correct for row in trained), len(trained)),
            "accuracy_held_out": share(sum(row.correct for row in held_out), len(held_out)),
            "off_target": share(sum(row.off_target is True for row in rows), len(rows)),
        }
        return Metrics(values, {"n": len(trained), "n_held_out": len(held_out)})
