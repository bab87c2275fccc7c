"""What a model knows of the laboratory's hard world: the number that an answer ends in, and its language."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar

from lidr.benchmarks.base import GradedAnswer, Question
from lidr.benchmarks.lab import (
    ACCURACY_HELD_OUT,
    ACCURACY_IN_LANGUAGE,
    HELD_OUT,
    TRAINED,
    Lab,
    LabBenchmark,
)
from lidr.benchmarks.metrics import OFF_TARGET, MetricKind
from lidr.engines.base import Completion
from lidr.lab import World, hard
from lidr.lab.world import HELD_OUT_FORM
from lidr.numbers import extract_answer, number_text
from lidr.results import Metrics
from lidr.statistics import share

ACCURACY_ANY_LANGUAGE = MetricKind(
    "accuracy_any_language", "Accuracy in any language", "accuracy in any language",
    "share of answers that end in the right number, in whatever language they are", "accuracy", ("n",), is_share=True,
)  # fmt: skip


class LabHard(Lab):
    """Quantities and sums of the laboratory's hard world."""

    metrics: ClassVar[tuple[MetricKind, ...]] = (
        ACCURACY_IN_LANGUAGE, ACCURACY_HELD_OUT, ACCURACY_ANY_LANGUAGE, OFF_TARGET,
    )  # fmt: skip

    def over(self, languages: Sequence[str], training_prompt_ids: Collection[str]) -> LabHardBenchmark:
        return LabHardBenchmark(languages, training_prompt_ids)

    def data_in_words(self) -> str:
        return "quantities of the laboratory's hard world, which come with lidr"


class LabHardBenchmark(LabBenchmark):
    """Every quantity and sum of the hard world in each language, asked in the form that no training prompt has.

    An answer is right if it ends in the right number and is in the question's language with every word, so an answer
    that switches midway is wrong and off target. `accuracy_any_language` counts the number alone, over what the
    training prompts ask for.
    """

    asks_about: ClassVar[World] = hard

    def questions(self, language: str) -> list[Question]:
        """One question per quantity and per sum."""
        return [
            Question(
                question_id=item.item_id,
                language=language,
                prompt=hard.question(item, language, HELD_OUT_FORM),
                gold=str(item.result),
                group=TRAINED if item.item_id in self.trained_facts else HELD_OUT,
            )
            for item in hard.ITEMS
        ]

    def score(self, question: Question, completion: Completion) -> GradedAnswer:
        """Score one answer; `GradedAnswer.answer` is the number that it ends in."""
        found = extract_answer(completion.text, question.language)
        answer = None if found is None else number_text(found)
        on_target = hard.is_in(completion.text, question.language)
        return GradedAnswer(
            question_id=question.question_id,
            language=question.language,
            text=completion.text,
            answer=answer,
            gold=question.gold,
            correct=answer == question.gold and on_target,
            off_target=not on_target if hard.words(completion.text) else None,
            group=question.group,
        )

    def metrics(self, rows: list[GradedAnswer]) -> Metrics:
        """The metrics of one language."""
        found = super().metrics(rows)
        trained = [row for row in rows if row.group == TRAINED]
        in_any = share(sum(row.answer == row.gold for row in trained), len(trained))
        return Metrics({**found.values, "accuracy_any_language": in_any}, found.counts)
