"""What every benchmark keeps: a new file in `benchmarks/` is tested without an edit."""

from __future__ import annotations

from pathlib import Path

import pytest

from lidr.benchmarks.base import BenchmarkSettings
from lidr.benchmarks.lab import Lab
from lidr.plugins import built_in, load
from lidr.report.measures import kinds_of
from tests.conftest import make_config

NEEDS = {"x_alpacaeval": {"reference": "answers"}, "mt_bench": {"path": "questions"}}


@pytest.fixture(params=built_in("benchmarks"))
def settings(request: pytest.FixtureRequest) -> BenchmarkSettings:
    plugin, source = load("benchmarks", request.param)
    assert source is None and issubclass(plugin, BenchmarkSettings)
    return plugin.model_validate(NEEDS.get(request.param, {}))


def test_every_metric_is_described_once(settings: BenchmarkSettings) -> None:
    kinds = settings.metrics
    assert kinds and len({kind.key for kind in kinds}) == len(kinds)
    for kind in kinds:
        assert kind.title[:1].isupper() and kind.short and kind.note and kind.key.isidentifier()
        assert kind.limits[0] < kind.limits[1]
        assert kind.middle is None or kind.limits[0] < kind.middle < kind.limits[1]


def test_the_language_of_its_answers_is_judged_as_a_whole_and_line_by_line(settings: BenchmarkSettings) -> None:
    keys = {kind.key for kind in settings.metrics}
    if isinstance(settings, Lab):  # one sentence, right only in the question's language
        assert "in the question's language" in settings.metrics[0].note
    elif "off_target" in keys:
        assert "lpr" in keys and ("accuracy" not in keys or "accuracy_on_target" in keys)


def test_its_size_is_known_before_anything_is_read(settings: BenchmarkSettings) -> None:
    count, tokens = settings.size()
    assert count > 0 and tokens > 0
    assert settings.judge_asked(1) is None or settings.judged


def test_a_recipe_finds_it_by_its_name(settings: BenchmarkSettings, tmp_path: Path) -> None:
    name = settings.type
    judge = {"model": "judge", "engine": {"type": "openai", "base_url": "http://localhost:1/v1"}}
    evaluation = {"benchmarks": {name: settings.model_dump()}} | ({"judge": judge} if settings.judged else {})
    config = make_config(tmp_path, evaluation=evaluation)
    assert kinds_of(config, name) == settings.metrics
