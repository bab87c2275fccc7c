"""Benchmarks: what is measured. A new one is one file here, its settings in config.py and one line in BENCHMARKS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lidr.benchmarks.base import Benchmark
from lidr.config import Config
from lidr.run_dir import RunDir


def _lab(settings: Any, config: Config, run: RunDir) -> Benchmark:
    from lidr.benchmarks.lab import LabBenchmark
    from lidr.stages.prompts import read_groups

    trained = (next(iter(group.values())).prompt_id for group in read_groups(run, 1))
    return LabBenchmark(settings.languages, frozenset(trained))


def _mgsm(settings: Any, config: Config, run: RunDir) -> Benchmark:
    from lidr.benchmarks.mgsm import MgsmBenchmark

    return MgsmBenchmark(**settings.model_dump(), candidates=config.languages)


BENCHMARKS: dict[str, Callable[[Any, Config, RunDir], Benchmark]] = {"lab": _lab, "mgsm": _mgsm}
