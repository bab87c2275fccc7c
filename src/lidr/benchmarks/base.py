"""The benchmark contract: questions in, scored rows and per-language metrics out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

from lidr.benchmarks.metrics import COMMON, MetricKind
from lidr.config import Config, LanguageCodes
from lidr.engines.base import Completion
from lidr.languages import LANGUAGES
from lidr.plugins import Plugin, calling
from lidr.records import Row
from lidr.results import Metrics
from lidr.run_dir import Model, RunDir
from lidr.settings import PositiveInt

if TYPE_CHECKING:
    from lidr.judges import Judge


@dataclass(frozen=True, slots=True)
class Question:
    """One item of a benchmark in one language. `group` splits the items if a benchmark reports parts.

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
    """All rows of one language and the metrics made of them."""

    language: str
    rows: Sequence[Row]
    metrics: Metrics


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


class BenchmarkSettings(Plugin):
    """The section of a recipe that asks for a benchmark; its fields are its settings."""

    kind: ClassVar[str] = "benchmarks"
    metrics: ClassVar[tuple[MetricKind, ...]] = COMMON
    """What its metrics mean, in the order of the report."""
    judged: ClassVar[bool] = False
    """Whether it asks `bench.judge()`."""
    loads_weights: ClassVar[bool] = False
    """Whether it loads the model by itself, after the engine was closed."""
    knows_prompts: ClassVar[bool] = False
    """Whether its metrics distinguish what the training prompts ask for from what they do not."""
    path_fields: ClassVar[tuple[str, ...]] = ("path",)
    """Fields that name a file or folder, whose content counts among the inputs."""
    answers: ClassVar[Literal["general", "arithmetic", "lab"]] = "general"
    """For `lidr plan`: what its answers are like."""
    turns: ClassVar[int] = 1
    """For `lidr plan`: answers to each question, of which the second reads the first."""

    @abstractmethod
    def prepare(self, bench: Bench) -> Benchmark:
        """The benchmark with its files read. Raises DataError or ConfigError before anything is asked."""

    def check(self, field: str) -> None:
        """Raise ConfigError for a package that it needs and that is missing."""

    def data_in_words(self) -> str:
        """Where its questions come from, if not from a path of the recipe."""
        return ""

    def size(self) -> tuple[int, float]:
        """For `lidr plan`: questions in each language, and tokens of one in English."""
        return 1000, 100.0

    def texts(self, language: str) -> list[str] | None:
        """For `lidr plan`: the questions of one language; None if they are not on this machine. Raises DataError."""
        return None

    def judge_asked(self, iteration: int) -> Literal["comparisons", "ratings"] | None:
        """For `lidr plan`: what the judge is asked of a model's answers."""
        return None

    def passes(self, languages: Sequence[str]) -> Passes | None:
        """For `lidr plan`: the passes of the model itself if it `loads_weights`."""
        return None


@dataclass(frozen=True, slots=True)
class Passes:
    """Passes of a benchmark that loads the model itself: how many in each of the languages, and tokens in English."""

    languages: list[str]
    count: int
    tokens: int


class BenchmarkPlugin(BenchmarkSettings):
    """A benchmark that is one class, as those from outside the package are.

    Metrics with the names of `lidr.benchmarks.metrics` (`accuracy`, `off_target` ...) are shown as described there; a
    benchmark describes others in `metrics`.
    """

    path_fields: ClassVar[tuple[str, ...]] = ("path", "against", "reference", "include_path")

    languages: LanguageCodes | None = None
    """Languages to be asked; null takes the recipe's."""
    limit: PositiveInt | None = None
    """Ask only the first n questions of each language."""

    @abstractmethod
    def evaluate(self, answer: AnswerFunction, bench: Bench) -> Iterator[LanguageResult]:
        """Yield one result per language of `bench.languages(self.languages)`, each as soon as it is known."""

    def prepare(self, bench: Bench) -> Benchmark:
        return _Checked(self, bench)


@dataclass(frozen=True, slots=True)
class _Checked:
    """Names the plug-in in the errors of its code, and refuses invalid results."""

    settings: BenchmarkPlugin
    bench: Bench

    def evaluate(self, answer: AnswerFunction) -> Iterator[LanguageResult]:
        with calling(self.settings, "evaluate"):
            for result in self.settings.evaluate(answer, self.bench):
                if not isinstance(result, LanguageResult) or result.language not in LANGUAGES:
                    raise TypeError(f"a LanguageResult in a known language is needed, not {result!r:.80}")
                yield replace(result, metrics=Metrics.from_json(result.metrics))  # which may be one flat dict


def benchmarks_of(config: Config) -> dict[str, BenchmarkSettings]:
    """Name -> settings of the recipe's benchmarks, those that load the weights themselves last."""
    given = config.evaluation.benchmarks.items()
    found = {name: plugin for name, plugin in given if isinstance(plugin, BenchmarkSettings)}
    return dict(sorted(found.items(), key=lambda item: item[1].loads_weights))


@runtime_checkable
class AsksAhead(Protocol):
    """A benchmark that knows some of its questions before the first answer, which most do.

    Their answers are made as one queue over all languages, which is faster: an engine that answers many requests at a
    time runs empty once and not once per language.
    """

    def ahead(self) -> list[Asked]:
        """The arguments of those calls of `answer` that do not depend on answers."""
        ...
