"""Who gained how much: mean and spread over the seeds, for the same tokens, and against the method."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import fsum
from statistics import stdev

from lidr.commands.arena.budget import Budget
from lidr.commands.arena.entries import REFERENCE, Arena
from lidr.commands.arena.runs import Model, Right, Run, kinds_of
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
    """One entry over the seeds. `tokens` are means over the seeds, per iteration; `seconds` those of whole runs."""

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
class Scale:
    """What a benchmark's scores are: the metric's name, and whether it is a share. A higher gain is a better one."""

    metric: str
    is_share: bool

    def signed(self, value: float) -> str:
        """A gain, of a share in percentage points, with U+2212 as the minus."""
        text = (f"{100 * value:+.1f}" if self.is_share else f"{value:+.2f}").replace("-", "−")
        return text[1:] if float(text[1:]) == 0 else text

    def plain(self, value: float) -> str:
        """A score, of a share in percent."""
        return f"{100 * value:.1f}" if self.is_share else f"{value:.2f}"

    def size(self, value: float) -> str:
        """A standard deviation."""
        return f"± {self.plain(value)}"


@dataclass(frozen=True, slots=True)
class Standings:
    """The whole comparison, best first by the first benchmark. `runs` have ended; only seeds count that all have.

    `trained` are the recipe's trained languages, `compared` those of them that a benchmark asks.
    """

    recipe: str
    model: str
    trained: tuple[str, ...]
    dominant: str
    iterations: int
    budget: int
    runs: int
    seeds: tuple[int, ...]
    benchmarks: dict[str, Scale]
    compared: dict[str, tuple[str, ...]]
    before: dict[str, dict[str, float]]  # M_0's scores, means over the seeds
    standings: tuple[Standing, ...]

    def to_json(self) -> str:
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1, ensure_ascii=False) + "\n"


Rights = Mapping[tuple[str, int], Right]  # by entry and seed: what the last model has right


def compare(arena: Arena, budget: Budget, runs: Sequence[Run], rights: Rights) -> Standings:
    """The standings of the runs that have ended; at least one of the method must be among them.

    Once all entries have ended with a seed, only such seeds count.
    """
    config, ended = arena.base, len(runs)
    seeds = [seed for seed in arena.all_seeds if sum(run.seed == seed for run in runs) == len(arena.entries)]
    runs = [run for run in runs if run.seed in seeds or not seeds]
    first = [run for run in runs if run.entry == REFERENCE]
    kinds = kinds_of(config)
    compared = {name: tuple(_languages(config, name, first[0])) for name in kinds}
    before = {
        name: {code: round(_mean([run.models[0].scores[name][code] for run in first]), 4) for code in scores}
        for name, scores in first[0].models[0].scores.items()
    }
    found = []
    for entry in arena.entries:
        own = [run for run in runs if run.entry == entry.name]
        if own:
            found.append(_standing(config, own, first, budget.shares[entry.name].settings, rights))
    found.sort(key=lambda standing: -standing.gains[next(iter(kinds))].trained.mean)
    return Standings(
        config.name, config.model.path, tuple(config.non_dominant), config.dominant, config.iterations, budget.tokens,
        ended, tuple(sorted({run.seed for run in runs})),
        {name: Scale(kind.short, kind.is_share) for name, kind in kinds.items()}, compared, before, tuple(found),
    )  # fmt: skip


def _mean(values: Sequence[float]) -> float:
    return fsum(values) / len(values)


def _standing(
    config: Config, runs: Sequence[Run], first: Sequence[Run], settings: dict[str, object], rights: Rights
) -> Standing:
    reasons = sorted({reason for run in runs for reason in run.dropped})
    benchmarks = list(kinds_of(config))

    def reached(number: int) -> tuple[float, dict[str, float]]:
        """The tokens and the gains of M_number; a run that ended before it stays where it was."""
        gains = {
            name: round(_mean([_trained_gain(config, name, run, run.model(number)) for run in runs]), 4)
            for name in benchmarks
        }
        return round(_mean([run.model(number).tokens for run in runs]), 1), gains

    return Standing(
        entry=runs[0].entry,
        settings=settings,
        prompts=runs[0].prompts,
        tokens=round(_mean([run.tokens / max(1, run.iterations) for run in runs]), 1),
        pairs=round(_mean([run.pairs for run in runs]), 1),
        seconds=round(_mean([run.seconds for run in runs]), 1),
        dropped={reason: sum(run.dropped.get(reason, 0) for run in runs) for reason in reasons},
        untrained=sum(len(run.models) == 1 for run in runs),
        path=tuple(reached(number) for number in range(max(len(run.models) for run in runs))),
        gains={name: _gain(config, name, runs, first, rights) for name in benchmarks},
    )


def _asked(benchmark: str, run: Run) -> list[str]:
    """The languages in which both M_0 and the last model have a score."""
    return [code for code in run.last.scores[benchmark] if code in run.models[0].scores[benchmark]]


def _languages(config: Config, benchmark: str, run: Run) -> list[str]:
    """The trained languages that the benchmark asks; all that it asks if it asks none of them."""
    asked = _asked(benchmark, run)
    return [code for code in config.non_dominant if code in asked] or asked


def _gained(config: Config, benchmark: str, run: Run, code: str, model: Model) -> float:
    """How much better a model is than M_0 in a language; of a metric that is better if lower, how much lower."""
    change = model.scores[benchmark][code] - run.models[0].scores[benchmark][code]
    return -change if kinds_of(config)[benchmark].lower_is_better else change


def _trained_gain(config: Config, benchmark: str, run: Run, model: Model) -> float:
    return _mean([_gained(config, benchmark, run, code, model) for code in _languages(config, benchmark, run)])


def _gain(config: Config, benchmark: str, runs: Sequence[Run], first: Sequence[Run], rights: Rights) -> Gain:
    trained = Spread.of([_trained_gain(config, benchmark, run, run.last) for run in runs])
    by_language = {
        code: Spread.of([_gained(config, benchmark, run, code, run.last) for run in runs])
        for code in _asked(benchmark, runs[0])
    }
    tokens = _mean([run.tokens for run in runs])
    codes = [code for code in _languages(config, benchmark, runs[0]) if code in runs[0].last.off_target[benchmark]]
    strayed = [_mean([run.last.off_target[benchmark][code] for code in codes]) for run in runs if codes]
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
    opponents = [method[run.seed] for run in both]
    differences = [
        _trained_gain(config, benchmark, run, run.last) - _trained_gain(config, benchmark, other, other.last)
        for run, other in zip(both, opponents, strict=True)
    ]
    by_question: dict[str, list[float]] = {}
    for run in both:
        own = rights[run.entry, run.seed].get(benchmark, {})
        others = rights[REFERENCE, run.seed].get(benchmark, {})
        for code in _languages(config, benchmark, run):
            for question, right in own.get(code, {}).items():
                if question in others.get(code, {}):
                    by_question.setdefault(question, []).append(right - others[code][question])
    items = [_mean(values) for _, values in sorted(by_question.items())]
    if not items:
        return Against(Spread.of(differences), 0)
    interval = rounded(bootstrap_interval(items))
    return Against(Spread.of(differences), len(items), interval, sign_flip_test(items))
