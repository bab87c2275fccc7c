"""The benchmark contract: questions in, scored rows and per-language metrics out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from lidr.config import Config, LanguageCodes
from lidr.engines.base import Completion
from lidr.plugins import Plugin
from lidr.records import Row
from lidr.run_dir import Model, RunDir
from lidr.settings import PositiveInt

if TYPE_CHECKING:
    from lidr.judges import Judge


@dataclass(frozen=True, slots=True)
class Question:
    """One item of a benchmark in one language. `group` splits the items where a benchmark reports parts.

    `history` are the (role, content) turns before the prompt: worked examples, or an earlier turn and its answer.
    """

    question_id: str
    language: str
    prompt: str
    gold: str = ""
    group: str = ""
    history: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class GradedAnswer(Row):
    """One scored answer. `off_target` is None if the answer is too short or not linguistic enough to tell.

    `thinking` says that a thinking block was set aside; `text` is what was left.
    """

    question_id: str
    language: str
    text: str
    answer: str | None
    gold: str
    correct: bool
    off_target: bool | None
    group: str = ""
    thinking: bool = False


@dataclass(frozen=True, slots=True)
class LanguageResult:
    """All rows of one language and the metrics made of them, in the form in which results.json keeps them."""

    language: str
    rows: Sequence[Row]
    metrics: dict[str, Any]


# The arguments of one call of `AnswerFunction`: language, questions, part.
Asked = tuple[str, list[Question], str]


class AnswerFunction(Protocol):
    """The model under test."""

    def __call__(self, language: str, questions: list[Question], part: str = "") -> list[Completion]:
        """One completion per question, in their order, without thinking blocks (`Completion.thinking`).

        Resumable: answers that an earlier, interrupted evaluation kept are not generated again. A benchmark that asks
        more than once in a language names the `part`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Bench:
    """What a benchmark may use besides its settings: the run, the model under test, its own folder, and the judge.

    `initial` answers as M_0, the base model.
    """

    config: Config
    run: RunDir
    iteration: int
    model: Model
    folder: Path
    judge: Callable[[], Judge]
    initial: AnswerFunction

    def languages(self, chosen: Sequence[str] | None) -> list[str]:
        """The languages to be asked: those chosen, else the recipe's."""
        return list(chosen if chosen is not None else self.config.languages)


class Benchmark(Protocol):
    """One benchmark over its languages. Implementations get their settings in the constructor."""

    def evaluate(self, answer: AnswerFunction) -> Iterator[LanguageResult]:
        """Yield one result per language, each as soon as it is known."""
        ...


class BenchmarkPlugin(Plugin):
    """A benchmark from outside the package, `evaluation.benchmarks.own`. Its fields are its settings.

    A field named `path` is a file or folder whose content counts among the inputs. Metrics with the names of built-in
    ones (`accuracy`, `n`, `ci95` ...) are shown as theirs.
    """

    kind: ClassVar[str] = "benchmarks"
    judged: ClassVar[bool] = False
    """Whether it asks `bench.judge()`."""

    languages: LanguageCodes | None = None
    """Languages to be asked; null takes the recipe's."""
    limit: PositiveInt | None = None
    """Ask only the first n questions of each language."""

    def size(self) -> tuple[int, float]:
        """For `lidr plan`: questions in each language, and tokens of one in English."""
        return 1000, 100.0

    @abstractmethod
    def evaluate(self, answer: AnswerFunction, bench: Bench) -> Iterator[LanguageResult]:
        """Yield one result per language of `bench.languages(self.languages)`, each as soon as it is known."""


@runtime_checkable
class AsksAhead(Protocol):
    """A benchmark that knows some of its questions before the first answer, which most do.

    Their answers are made as one queue over all languages, which is faster: an engine that answers many requests at a
    time runs empty once and not once per language.
    """

    def ahead(self) -> list[Asked]:
        """The arguments of those calls of `answer` that do not depend on answers."""
        ...
