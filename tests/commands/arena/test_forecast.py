"""`lidr plan --strategies` and `lidr probe --strategies`: prices, and whose pairs point the right way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lidr.commands.arena.entries import read_entries
from lidr.commands.arena.forecast import Forecast, choose, forecast, print_forecasts
from lidr.commands.arena.prices import find_prices, print_prices
from lidr.config import Config, load_config
from lidr.errors import ConfigError
from lidr.replacing import open_run
from lidr.results import DuelCounts

SMALL = ["languages=[en,es,ru]", "iterations=1", "prompts.limit=20", "probe={prompts: 40}"]


def configs(given: str, settings: list[str]) -> list[Config]:
    return [load_config("quickstart", [*settings, *entry.overrides]) for entry in read_entries(given)]


def test_prices_are_those_of_the_plans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = read_entries("sft,verified_majority")
    found = find_prices(list(zip(entries, configs("sft,verified_majority", []), strict=True)), None, tmp_path)
    assert [each.entry for each in found] == ["imbalance", "sft", "verified_majority"]
    assert [each.generations for each in found] == [10, 10, 40]  # five answers, four translations and one back; 8 x 5
    assert found[0].prompts == found[1].prompts == 120
    assert found[2].prompts == pytest.approx(120 * found[0].tokens / found[2].tokens, abs=1)
    print_prices(found)
    assert "verified_majority" in capsys.readouterr().out


def counted(wins: int, losses: int) -> DuelCounts:
    low, high = (0.6, 0.9) if wins > 2 * losses else (0.4, 0.6)
    return DuelCounts(wins / (wins + losses), (low, high), wins, losses, 0.01, 0)


def test_the_choice_is_the_most_right_pairs_for_the_same_tokens() -> None:
    cheap = Forecast("cheap", "verified", 10, 100.0, 30, 20, 5, counted(20, 5), {}, None, None)
    dear = Forecast("dear", "verified", 10, 400.0, 40, 39, 1, counted(39, 1), {}, None, None)
    coin = Forecast("coin", "verified", 10, 10.0, 40, 21, 19, counted(21, 19), {}, None, None)
    assert choose([cheap, dear, coin]) is cheap  # 15 in 1,000 tokens; 38 in 4,000; the coin is within noise
    assert choose([coin]) is None


def test_a_control_is_a_coin_and_the_method_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries, own = read_entries("random_sides"), configs("random_sides", SMALL)
    run = open_run(own[0], tmp_path / "run", print)
    found = forecast(own[0], list(zip(entries, own, strict=True)), run)
    method, control = found
    assert method.reward_accuracy.value and method.reward_accuracy.ci95[0] > 0.5 and method.by == "verified"
    assert control.pairs == method.pairs and control.reward_accuracy.ci95[0] < 0.5
    assert method.chosen_right and method.rejected_right is not None and method.chosen_right > method.rejected_right
    assert control.tokens_per_prompt == method.tokens_per_prompt > 0
    kept = json.loads((tmp_path / "run" / "probe" / "strategies.json").read_text())
    assert kept["chosen"] == "imbalance" and len(kept["strategies"]) == 2
    print_forecasts(found)
    assert "would choose imbalance" in capsys.readouterr().out


def test_without_a_judge_and_known_answers_nothing_is_asked(tmp_path: Path) -> None:
    for code in ("en", "es"):
        (tmp_path / f"{code}.jsonl").write_text(
            '{"id": "1", "instruction": "What?"}\n{"id": "2", "instruction": "Who?"}\n'
        )
    settings = [*SMALL, "languages=[en,es]", f"prompts.path={tmp_path}", "probe={prompts: 1}"]
    entries, own = read_entries("sft"), configs("sft", settings)
    run = open_run(own[0], tmp_path / "run", print)
    with pytest.raises(ConfigError, match="cannot tell good answers from bad ones"):
        forecast(own[0], list(zip(entries, own, strict=True)), run)
    assert not (tmp_path / "run" / "probe" / "strategies").exists()
