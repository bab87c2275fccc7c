"""What a run of the arena has come to: its scores, its tokens, its pairs and its seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from lidr.commands.arena.budget import spent
from lidr.config import Config
from lidr.errors import RunError
from lidr.results import Metrics, read_metrics
from lidr.run_dir import RunDir
from lidr.seals import read_rows, read_seal
from lidr.stages.pairs import read_summary
from lidr.stages.results import stage_seconds

Scores = Mapping[str, Mapping[str, float]]  # benchmark -> language -> value
Right = Mapping[str, Mapping[str, Mapping[str, bool]]]  # benchmark -> language -> question -> whether it is right


@dataclass(frozen=True, slots=True)
class Model:
    """One model of a run. `tokens` are those of all iterations up to it, `seconds` those of their work.

    `scores` are the shares of right answers over all questions of a benchmark; for one without right answers, its
    first metric. `off_target` are shares of answers in another language than the question's.
    """

    iteration: int
    tokens: int
    seconds: float
    scores: Scores
    off_target: Scores


@dataclass(frozen=True, slots=True)
class Run:
    """A run that has ended. The last model is the one that counts, M_0 if no pair could be trained on."""

    entry: str
    seed: int
    prompts: int
    models: tuple[Model, ...]
    pairs: int
    dropped: dict[str, int]

    @property
    def last(self) -> Model:
        return self.models[-1]


_UNTIMED = ("evaluation", "probe")  # the same for all


def read_run(entry: str, seed: int, config: Config, run: RunDir) -> Run:
    """The figures of a run, from its files. Raises RunError if something of it is missing."""
    last = _trained(config, run)
    pairs, dropped = 0, Counter[str]()
    tokens, seconds, models = 0, 0.0, [_model(config, run, 0, 0, 0.0)]
    for iteration in range(1, config.iterations + 1):
        if read_seal(run.pair_summary(iteration)) is None:
            break
        summary = read_summary(run, iteration)
        pairs += sum(summary.pairs.values())
        dropped.update(summary.by_reason())
        tokens += spent(config, run, iteration)
        seconds += sum(value for stage, value in stage_seconds(run, iteration).items() if stage not in _UNTIMED)
        if iteration <= last:
            models.append(_model(config, run, iteration, tokens, seconds))
    prompts = len({row["prompt_id"] for row in read_rows(run.prompts(1))})
    return Run(entry, seed, prompts, tuple(models), pairs, dict(sorted(dropped.items())))


def read_right(config: Config, run: RunDir, iteration: int) -> Right:
    """Which questions a model has right, of the benchmarks with right answers."""
    found: dict[str, dict[str, dict[str, bool]]] = {}
    for benchmark in config.evaluation.benchmarks:
        for code in read_metrics(run, iteration, benchmark):
            rows = list(read_rows(run.evaluation(iteration, benchmark) / f"{code}.jsonl"))
            if rows and all("correct" in row for row in rows):
                right = {str(row["question_id"]): bool(row["correct"]) for row in rows}
                found.setdefault(benchmark, {})[code] = right
    return found


def _trained(config: Config, run: RunDir) -> int:
    """The number of the last trained model."""
    numbers = [number for number in range(1, config.iterations + 1) if read_seal(run.model_folder(number))]
    return max(numbers, default=0)


def _model(config: Config, run: RunDir, iteration: int, tokens: int, seconds: float) -> Model:
    right = read_right(config, run, iteration)
    scores: dict[str, dict[str, float]] = {}
    off_target: dict[str, dict[str, float]] = {}
    for benchmark in config.evaluation.benchmarks:
        metrics = read_metrics(run, iteration, benchmark)
        scores[benchmark] = {
            code: _score(config, benchmark, found, right.get(benchmark, {}).get(code))
            for code, found in metrics.items()
        }
        off_target[benchmark] = {
            code: value for code, found in metrics.items() if (value := found.value("off_target")) is not None
        }
    return Model(iteration, tokens, round(seconds, 1), scores, off_target)


def _score(config: Config, benchmark: str, metrics: Metrics, right: Mapping[str, bool] | None) -> float:
    if right:
        return sum(right.values()) / len(right)
    kinds = config.evaluation.benchmarks[benchmark].metrics  # type: ignore[attr-defined]
    value = metrics.value(kinds[0].key)
    if value is None:
        raise RunError(f"{benchmark}: it has neither right answers nor a value of {kinds[0].key}")
    return value
