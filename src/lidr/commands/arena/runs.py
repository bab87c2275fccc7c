"""What a run of the arena has come to: its scores, its tokens, its pairs and its seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from lidr.benchmarks.base import benchmarks_of
from lidr.benchmarks.metrics import ACCURACY, MetricKind
from lidr.commands.arena.budget import prompt_ids, spent
from lidr.config import Config
from lidr.errors import ConfigError
from lidr.results import Metrics, read_results
from lidr.run_dir import RunDir
from lidr.seals import read_rows

Scores = Mapping[str, Mapping[str, float]]  # benchmark -> language -> value
Right = Mapping[str, Mapping[str, Mapping[str, bool]]]  # benchmark -> language -> question -> whether it is right


@dataclass(frozen=True, slots=True)
class Model:
    """One model of a run. `tokens` are those of all iterations up to it.

    `scores` are the shares of right answers over all questions of a benchmark; for one without right answers, its
    first metric that has a value. `off_target` are shares of answers in another language than the question's.
    """

    iteration: int
    tokens: int
    scores: Scores
    off_target: Scores


@dataclass(frozen=True, slots=True)
class Run:
    """A run that has ended. The last model is the one that counts, M_0 if no pair could be trained on.

    `tokens` and `seconds` are those of all iterations, also of one that ended without a model.
    """

    entry: str
    seed: int
    prompts: int
    iterations: int
    models: tuple[Model, ...]
    tokens: int
    seconds: float
    pairs: int
    dropped: dict[str, int]

    @property
    def last(self) -> Model:
        return self.models[-1]

    def model(self, number: int) -> Model:
        """M_number, or the last one if the run ended before it."""
        return self.models[min(number, len(self.models) - 1)]


def read_run(entry: str, seed: int, config: Config, run: RunDir) -> tuple[Run, Right]:
    """The figures of a run, and what its last model has right, from its files.

    Raises RunError if something of it is missing.
    """
    results = read_results(run)
    kinds = kinds_of(config)
    tokens, seconds, dropped = [0], 0.0, Counter[str]()
    for each in results.iterations:
        tokens.append(tokens[-1] + spent(config, run, each.iteration))
        seconds += sum(value for stage, value in each.seconds.items() if stage != "evaluation")
        dropped.update(each.dropped)
    models = []
    for number, model in enumerate(results.models):
        right = _right(config, run, number)
        scores: dict[str, dict[str, float]] = {}
        for name, measured in model.benchmarks.items():
            values = {
                code: _score(kinds[name], found, number, right.get(name, {}).get(code))
                for code, found in measured.items()
            }
            scores[name] = {code: value for code, value in values.items() if value is not None}
        strayed = {
            name: {code: value for code, found in measured.items() if (value := found.value("off_target")) is not None}
            for name, measured in model.benchmarks.items()
        }
        models.append(Model(number, tokens[number], scores, strayed))
    pairs = sum(sum(each.pairs.values()) for each in results.iterations)
    found = Run(
        entry, seed, len(prompt_ids(run)), len(results.iterations), tuple(models), tokens[-1], round(seconds, 1), pairs,
        dict(sorted(dropped.items())),
    )  # fmt: skip
    return found, _right(config, run, found.last.iteration)


def kinds_of(config: Config) -> dict[str, MetricKind]:
    """The metric of every benchmark that counts: right answers if it has them, else the first one."""
    found = {}
    for name, settings in benchmarks_of(config).items():
        kinds = settings.metrics
        found[name] = next((kind for kind in kinds if kind.key == ACCURACY.key), kinds[0])
    return found


def _right(config: Config, run: RunDir, iteration: int) -> Right:
    """Which questions a model has right, of the benchmarks with right answers."""
    found: dict[str, dict[str, dict[str, bool]]] = {}
    for benchmark in benchmarks_of(config):
        for path in sorted(run.evaluation(iteration, benchmark).glob("*.jsonl")):
            rows = list(read_rows(path))
            if rows and all("correct" in row for row in rows):
                right = {str(row["question_id"]): bool(row["correct"]) for row in rows}
                found.setdefault(benchmark, {})[path.stem] = right
    return found


def _score(kind: MetricKind, metrics: Metrics, iteration: int, right: Mapping[str, bool] | None) -> float | None:
    """None if the language has no value. M_0, which is not compared with itself, has the value that says nothing."""
    if right:
        return sum(right.values()) / len(right)
    value = metrics.value(kind.key)
    return kind.middle if value is None and iteration == 0 else value


def check_metrics(config: Config) -> None:
    """Raise ConfigError if a benchmark describes no metric, since nothing could be compared."""
    for name, settings in benchmarks_of(config).items():
        if not settings.metrics:
            raise ConfigError(f"evaluation.benchmarks.{name}: it describes no metric, so nothing can be compared")
