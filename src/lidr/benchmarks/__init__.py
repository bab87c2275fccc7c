"""Benchmarks: what is measured. A recipe may name one of your own, see `base.BenchmarkPlugin`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

from lidr.benchmarks.base import AnswerFunction, Bench, Benchmark, BenchmarkPlugin, LanguageResult
from lidr.config import HARNESS, HarnessConfig
from lidr.errors import ConfigError
from lidr.languages import LANGUAGES
from lidr.plugins import calling
from lidr.seals import read_rows


def _lab(settings: Any, bench: Bench) -> Benchmark:
    from lidr.benchmarks.lab import LabBenchmark

    rows = read_rows(bench.run.prompts(1)) if bench.config.iterations else ()
    return LabBenchmark(settings.languages, frozenset(row["prompt_id"] for row in rows))


def _arithmetic(name: str, settings: Any, bench: Bench) -> Benchmark:
    from lidr.benchmarks.mgsm import MgsmBenchmark

    benchmark = MgsmBenchmark(**settings.model_dump(), name=name)
    benchmark.read_questions()
    return benchmark


def _imported(module: str, name: str) -> Callable[[Any, Bench], Benchmark]:
    """A class of this folder that takes (settings, bench); imported when it is used."""

    def build(settings: Any, bench: Bench) -> Benchmark:
        benchmark: Benchmark = getattr(import_module(f"lidr.benchmarks.{module}"), name)(settings, bench)
        return benchmark

    return build


def _harness(family: str, settings: HarnessConfig, bench: Bench) -> Benchmark:
    from lidr.benchmarks.harness import HarnessBenchmark, missing

    config = bench.config
    languages = settings.languages
    if languages is None:
        absent = [] if settings.task else missing(family, config.languages)
        languages = [code for code in config.languages if code not in absent]
        if not languages:
            raise ConfigError(f"evaluation.benchmarks.{family}: lm-evaluation-harness has none of {', '.join(absent)}")
        if absent:
            print(f"{family}: lm-evaluation-harness has no {', '.join(absent)}; left out", file=sys.stderr)
    engine = config.engine.model_dump(include={"device", "dtype", "batch_size"})
    return HarnessBenchmark(
        family=family, model_folder=bench.model.folder, trust_remote_code=config.model.trust_remote_code,
        **settings.model_dump(exclude={"languages"}), **engine, languages=languages,
    )  # fmt: skip


BENCHMARKS: dict[str, Callable[[Any, Bench], Benchmark]] = {
    "lab": _lab,
    **{name: partial(_arithmetic, name) for name in ("mgsm", "msvamp")},
    "head_to_head": _imported("head_to_head", "HeadToHeadBenchmark"),
    "x_alpacaeval": _imported("x_alpacaeval", "XAlpacaEvalBenchmark"),
    "mt_bench": _imported("mt_bench", "MtBenchBenchmark"),
    "language_confusion": _imported("language_confusion", "LanguageConfusionBenchmark"),
    **{family: partial(_harness, family) for family in HARNESS},
}


def open_benchmark(name: str, settings: Any, bench: Bench) -> Benchmark:
    """The benchmark of that name with its files read: one of BENCHMARKS, or of the user's own."""
    if isinstance(settings, BenchmarkPlugin):
        return _Own(settings, bench)
    return BENCHMARKS[name](settings, bench)


@dataclass(frozen=True, slots=True)
class _Own:
    settings: BenchmarkPlugin
    bench: Bench

    def evaluate(self, answer: AnswerFunction) -> Iterator[LanguageResult]:
        with calling(self.settings, "evaluate"):
            for result in self.settings.evaluate(answer, self.bench):
                if not isinstance(result, LanguageResult) or result.language not in LANGUAGES:
                    raise TypeError(f"a LanguageResult in a known language is needed, not {result!r:.80}")
                yield result
