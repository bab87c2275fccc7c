"""Who gained how much: mean and spread over the seeds, for the same tokens, and against the method."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import fsum
from statistics import stdev

from lidr.commands.arena.budget import Budget
from lidr.commands.arena.entries import REFERENCE, Arena
from lidr.commands.arena.runs import Right, Run
from lidr.config import Config
from lidr.results import Interval
from lidr.statistics import bootstrap_interval, rounded, sign_flip_test, t_interval

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Spread:
    """A mean over seeds, with the standard deviation and Student's 95 % interval if there are two or more."""

    mean: float
    sd: float | None
    ci95: Interval | None
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        sd = round(stdev(values), 4) if len(values) > 1 else None
        interval = t_interval(values)
        shown = tuple(round(value, 4) for value in values)
        return cls(round(fsum(values) / len(values), 4), sd, rounded(interval) if interval else None, shown)


@dataclass(frozen=True, slots=True)
class Against:
    """The difference to the method: over the seeds that both have, and over the questions of these seeds.

    `questions` is the bootstrap interval of the mean over `n` questions, `p` that of the sign-flip test on them; they
    say nothing of other seeds, while `seeds` says nothing of other questions.
    """

    seeds: Spread
    n: int
    questions: Interval | None = None
    p: float | None = None


@dataclass(frozen=True, slots=True)
class Gain:
    """What an entry gained over M_0 on one benchmark. `trained` is the mean over the trained languages.

    `per_million` is the mean gain for a million generated or scored tokens.
    """

    trained: Spread
    by_language: dict[str, Spread]
    per_million: float | None
    off_target: Spread | None
    against: Against | None


@dataclass(frozen=True, slots=True)
class Standing:
    """One entry over all its seeds; `tokens` and `seconds` are means over the seeds, of all iterations."""

    entry: str
    settings: dict[str, object]
    prompts: int
    tokens: float
    pairs: float
    seconds: float
    dropped: dict[str, int]
    untrained: int  # seeds without a trained model
    path: tuple[tuple[float, dict[str, float]], ...]  # for M_0, M_1 ...: tokens, and the mean gain by benchmark
    gains: dict[str, Gain]


@dataclass(frozen=True, slots=True)
class Standings:
    """The whole comparison, best first by the first benchmark."""

    recipe: str
    model: str
    trained: tuple[str, ...]
    dominant: str
    iterations: int
    budget: int
    seeds: tuple[int, ...]
    benchmarks: tuple[str, ...]
    before: dict[str, dict[str, float]]  # M_0's scores, means over the seeds
    standings: tuple[Standing, ...]

    def to_json(self) -> str:
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1, ensure_ascii=False) + "\n"


Rights = Mapping[tuple[str, int], Right]  # by entry and seed: what the last model has right


def compare(arena: Arena, budget: Budget, runs: Sequence[Run], rights: Rights) -> Standings:
    """The standings of the runs that have ended; at least one of the method must be among them."""
    config = arena.base
    benchmarks = tuple(config.evaluation.benchmarks)
    first = [run for run in runs if run.entry == REFERENCE]
    before = {
        name: {
            code: round(fsum(run.models[0].scores[name][code] for run in first) / len(first), 4)
            for code in first[0].models[0].scores[name]
        }
        for name in benchmarks
    }
    found = []
    for entry in arena.entries:
        own = [run for run in runs if run.entry == entry.name]
        if own:
            shares = budget.shares[entry.name]
            found.append(_standing(config, entry.name, shares.settings, own, first, rights))
    found.sort(key=lambda standing: -standing.gains[benchmarks[0]].trained.mean)
    seeds = tuple(sorted({run.seed for run in runs}))
    return Standings(
        config.name, config.model.path, tuple(config.non_dominant), config.dominant, config.iterations, budget.tokens,
        seeds, benchmarks, before, tuple(found),
    )  # fmt: skip


def _standing(
    config: Config, name: str, settings: dict[str, object], runs: Sequence[Run], first: Sequence[Run], rights: Rights
) -> Standing:
    def mean(values: Sequence[float]) -> float:
        return round(fsum(values) / len(values), 1)

    reasons = {reason for run in runs for reason in run.dropped}
    benchmarks = list(config.evaluation.benchmarks)
    longest = max(len(run.models) for run in runs)
    path = []
    for number in range(longest):
        reached = [run for run in runs if len(run.models) > number]
        gains = {each: _mean_gain(config, each, reached, number) for each in benchmarks}
        path.append((mean([run.models[number].tokens for run in reached]), gains))
    return Standing(
        entry=name,
        settings=settings,
        prompts=runs[0].prompts,
        tokens=mean([run.last.tokens for run in runs]),
        pairs=mean([run.pairs for run in runs]),
        seconds=mean([run.last.seconds for run in runs]),
        dropped={reason: sum(run.dropped.get(reason, 0) for run in runs) for reason in sorted(reasons)},
        untrained=sum(len(run.models) == 1 for run in runs),
        path=tuple(path),
        gains={each: _gain(config, each, runs, first, rights) for each in benchmarks},
    )


def _mean_gain(config: Config, benchmark: str, runs: Sequence[Run], number: int) -> float:
    return round(fsum(_trained_gain(config, benchmark, run, number) for run in runs) / len(runs), 4)


def _languages(config: Config, benchmark: str, run: Run) -> list[str]:
    """The trained languages that the benchmark asks; all that it asks if it asks none of them."""
    asked = list(run.last.scores[benchmark])
    return [code for code in config.non_dominant if code in asked] or asked


def _trained_gain(config: Config, benchmark: str, run: Run, number: int = -1) -> float:
    before, after = run.models[0].scores[benchmark], run.models[number].scores[benchmark]
    codes = _languages(config, benchmark, run)
    return fsum(after[code] - before[code] for code in codes) / len(codes)


def _gain(config: Config, benchmark: str, runs: Sequence[Run], first: Sequence[Run], rights: Rights) -> Gain:
    trained = Spread.of([_trained_gain(config, benchmark, run) for run in runs])
    by_language = {
        code: Spread.of([run.last.scores[benchmark][code] - run.models[0].scores[benchmark][code] for run in runs])
        for code in runs[0].last.scores[benchmark]
    }
    tokens = fsum(run.last.tokens for run in runs) / len(runs)
    codes = [code for code in _languages(config, benchmark, runs[0]) if code in runs[0].last.off_target[benchmark]]
    strayed = [fsum(run.last.off_target[benchmark][code] for code in codes) / len(codes) for run in runs if codes]
    return Gain(
        trained,
        by_language,
        round(trained.mean / tokens * 1e6, 4) if tokens else None,
        Spread.of(strayed) if strayed else None,
        None if runs[0].entry == REFERENCE else _against(config, benchmark, runs, first, rights),
    )


def _against(
    config: Config, benchmark: str, runs: Sequence[Run], first: Sequence[Run], rights: Rights
) -> Against | None:
    method = {run.seed: run for run in first}
    both = [run for run in runs if run.seed in method]
    if not both:
        return None
    differences = [
        _trained_gain(config, benchmark, run) - _trained_gain(config, benchmark, method[run.seed]) for run in both
    ]
    by_question: dict[str, list[float]] = {}
    for run in both:
        own = rights[run.entry, run.seed].get(benchmark, {})
        others = rights[REFERENCE, run.seed].get(benchmark, {})
        for code in _languages(config, benchmark, run):
            for question, right in own.get(code, {}).items():
                if question in others.get(code, {}):
                    by_question.setdefault(question, []).append(right - others[code][question])
    items = [fsum(values) / len(values) for _, values in sorted(by_question.items())]
    if not items:
        return Against(Spread.of(differences), 0)
    interval = rounded(bootstrap_interval(items))
    return Against(Spread.of(differences), len(items), interval, sign_flip_test(items))
