"""The arena: who takes part, what a budget pays for, what is shared, and what the standings say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lidr import loop
from lidr.commands.arena.arena import check, run_arena
from lidr.commands.arena.budget import Budget, Share
from lidr.commands.arena.entries import Arena, read_entries
from lidr.commands.arena.runs import Model, Run
from lidr.commands.arena.standings import Scale, Standings, compare
from lidr.config import load_config
from lidr.errors import ConfigError, LidrError
from lidr.statistics import t_interval

SMALL = (
    "languages=[en,es]", "iterations=1", "prompts.limit=12", "evaluation.benchmarks.lab.languages=[en,es]",
    "training.epochs=1", "training.learning_rate=3e-3", "pairs.minimum=1",
)  # fmt: skip


def arena_of(folder: Path, strategies: str = "sft", seeds: int = 1, budget: int | None = None, *more: str) -> Arena:
    base = load_config("quickstart", [*SMALL, *more])
    return Arena(folder, base, tuple(read_entries(strategies)), seeds, budget)


# --- who takes part ---------------------------------------------------------------------------------------------------


def test_the_method_always_takes_part_and_comes_first() -> None:
    entries = read_entries("sft, best_of_n,my/file.py:Mine")
    assert [entry.name for entry in entries] == ["imbalance", "sft", "best_of_n", "Mine"]
    assert entries[1].settings == {"pairs.strategy": "imbalance", "training.objective": "sft"}
    assert entries[3].settings == {"pairs.strategy": "my/file.py:Mine"}
    assert [entry.name for entry in read_entries("sft,imbalance")] == ["imbalance", "sft"]


def test_entries_with_settings_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "entries.yaml"
    file.write_text("eight: {pairs: {strategy: {type: best_of_n, samples: 8}}}\nslow: {training.learning_rate: 1e-4}\n")
    entries = read_entries(str(file))
    assert [entry.name for entry in entries] == ["imbalance", "eight", "slow"]
    arena = arena_of(tmp_path / "arena", str(file))
    with arena.opened():
        config = arena.config(entries[1], 7, 5)
    assert config.pairs.strategy.as_recipe()["samples"] == 8  # type: ignore[index, call-overload]
    assert config.seed == 7 and config.prompt_source.limit == 5
    assert (
        config.pairs.gates == arena.base.pairs.gates and config.pairs.minimum == 1
    )  # a section keeps its other fields


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("sft,sft", "sft is named twice"),
        (" , ", "names none"),
        ("a b", "no name for an entry"),
    ],
)
def test_names_that_cannot_be_used(given: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_entries(given)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fast: {model.path: other}", "model.path is the same for all"),
        ("fast: {}", "name what it sets"),
        ("imbalance: {training.beta: 0.3}", "is the method itself"),
        ("{}", "no entries"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "entries.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_entries(str(file))


def test_a_strategy_that_does_not_exist_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no best_of_m"):
        run_arena(arena_of(tmp_path / "arena", "best_of_m"), print)
    assert not (tmp_path / "arena").exists()


def test_a_recipe_without_benchmarks_is_no_arena(tmp_path: Path) -> None:
    arena = arena_of(tmp_path, "sft", 1, None, "evaluation.benchmarks={}")
    with pytest.raises(ConfigError, match="it needs iterations"):
        check(arena)


# --- standings --------------------------------------------------------------------------------------------------------


def test_interval_over_seeds() -> None:
    assert t_interval([1.0]) is None
    assert t_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - 2.484, 2 + 2.484), abs=1e-3)  # 4.303 / sqrt(3)


def a_run(entry: str, seed: int, es: float | None, tokens: int = 1000) -> Run:
    """A run of one iteration, which is M0 if `es` is None: its pairs were too few."""
    models = [Model(0, 0, {"lab": {"en": 0.9, "es": 0.4}}, {"lab": {"en": 0.0, "es": 0.2}})]
    if es is not None:
        models.append(Model(1, tokens, {"lab": {"en": 0.8, "es": es}}, {"lab": {"en": 0.0, "es": 0.1}}))
    return Run(entry, seed, 12, 1, tuple(models), tokens, 5.0, 10, {"identical": 2})


def standings_of(tmp_path: Path, runs: list[Run], seeds: int = 2) -> Standings:
    """Four questions: `best_of_n` has one more of them right than the method."""
    shares = {name: Share(12, 80.0, {"pairs.strategy": name}, "") for name in ("imbalance", "best_of_n")}
    rights: Any = {}
    for run in runs:
        right = {f"q{i}": i < (3 if run.entry == "best_of_n" else 2) for i in range(4)}
        rights[run.entry, run.seed] = {"lab": {"es": right, "en": dict.fromkeys(right, False)}}
    return compare(arena_of(tmp_path, "best_of_n", seeds), Budget(1000, shares), runs, rights)


def test_standings_of_known_runs(tmp_path: Path) -> None:
    runs = [a_run("imbalance", 42, 0.5), a_run("best_of_n", 42, 0.75, 2000)]
    runs += [a_run("imbalance", 43, 0.5), a_run("best_of_n", 43, 0.75, 2000)]
    found = standings_of(tmp_path, runs)
    assert [each.entry for each in found.standings] == ["best_of_n", "imbalance"]
    best, method = found.standings
    gain = best.gains["lab"]
    assert gain.trained.mean == pytest.approx(0.35) and gain.trained.sd == 0  # over es alone: en is the teacher
    assert gain.by_language["en"].mean == pytest.approx(-0.1)
    assert gain.per_million == pytest.approx(0.35 / 2000 * 1e6)
    assert gain.against and gain.against.seeds.mean == pytest.approx(0.25)
    assert gain.against.n == 4 and gain.against.p == pytest.approx(1.0)  # one question is no proof
    assert method.gains["lab"].against is None and method.gains["lab"].trained.mean == pytest.approx(0.1)
    assert best.path == ((0.0, {"lab": 0.0}), (2000.0, {"lab": 0.35})) and best.dropped == {"identical": 4}
    assert best.tokens == 2000 and found.runs == 4
    assert json.loads(found.to_json())["standings"][0]["entry"] == "best_of_n"


def test_a_run_without_a_model_has_spent_its_tokens(tmp_path: Path) -> None:
    """It counts as M0, in the table and in the plot."""
    runs = [a_run("imbalance", 42, 0.5), a_run("best_of_n", 42, None)]
    runs += [a_run("imbalance", 43, 0.5), a_run("best_of_n", 43, 0.5)]
    found = standings_of(tmp_path, runs)
    failing = next(each for each in found.standings if each.entry == "best_of_n")
    assert failing.untrained == 1 and failing.tokens == 1000
    assert failing.gains["lab"].trained.mean == pytest.approx(0.05) == failing.path[-1][1]["lab"]
    assert failing.gains["lab"].per_million == pytest.approx(50)


def test_only_seeds_count_that_all_have_ended(tmp_path: Path) -> None:
    runs = [a_run("imbalance", 42, 0.5), a_run("best_of_n", 42, 0.5), a_run("imbalance", 43, 0.9)]
    found = standings_of(tmp_path, runs)
    assert found.seeds == (42,) and {each.gains["lab"].trained.mean for each in found.standings} == {0.1}
    assert standings_of(tmp_path, runs[:1]).seeds == (42,)  # the first one alone is shown


def test_scores_are_shown_by_their_scale() -> None:
    share, points = Scale("accuracy", True), Scale("rating", False)
    assert [share.signed(0.123), share.signed(-0.0001), share.plain(0.5)] == ["+12.3", "0.0", "50.0"]
    assert [points.signed(-0.35), points.plain(7.2), points.size(0.1)] == ["−0.35", "7.20", "± 0.10"]


# --- the whole of it, in the laboratory -------------------------------------------------------------------------------


def generated(run: Path) -> int:
    """The rows that a run made itself, by its log."""
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return sum(row["rows"] for row in events if row.get("stage") in ("responses", "translations"))


def test_an_arena_shares_goes_on_and_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stopped in its second run, goes on, and then takes another entry."""
    folder, said, finish = tmp_path / "arena", [], loop.run

    def stopped(config: Any, run: Any) -> None:
        if "sft" in str(run.path):
            raise KeyboardInterrupt
        finish(config, run)

    monkeypatch.setattr(loop, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_arena(arena_of(folder), said.append)
    assert [each["entry"] for each in json.loads((folder / "arena.json").read_text())["standings"]] == ["imbalance"]
    model = folder / "seed_42" / "imbalance" / "iteration_1" / "5_model" / "model.safetensors"
    trained = model.stat().st_mtime_ns

    monkeypatch.setattr(loop, "run", finish)
    standings = run_arena(arena_of(folder), said.append)
    assert model.stat().st_mtime_ns == trained
    by_name = {each.entry: each for each in standings.standings}
    assert by_name["sft"].prompts == by_name["imbalance"].prompts == 12
    assert by_name["sft"].tokens == by_name["imbalance"].tokens == standings.budget
    assert generated(folder / "seed_42" / "sft") == generated(folder / "pilots" / "sft") == 0
    assert generated(folder / "seed_42" / "imbalance") == 12 * (2 + 2)

    standings = run_arena(arena_of(folder, "sft,best_of_n"), said.append)
    best = next(each for each in standings.standings if each.entry == "best_of_n")
    assert best.prompts < 12 and abs(best.tokens / standings.budget - 1) < 0.2
    page = (folder / "arena.html").read_text(encoding="utf-8")
    assert "best_of_n" in page and "<svg" in page and "| best_of_n |" in (folder / "arena.md").read_text()


def test_another_budget_or_recipe_is_refused(tmp_path: Path) -> None:
    standings = run_arena(arena_of(tmp_path / "arena", budget=3000), print)
    assert standings.budget == 3000 and all(each.tokens < 3300 for each in standings.standings)
    with pytest.raises(ConfigError, match="this arena has 3000 tokens"):
        run_arena(arena_of(tmp_path / "arena", budget=4000), print)
    with pytest.raises(ConfigError, match=r"another recipe \(training.beta: 0.1 -> 0.3\)"):
        run_arena(arena_of(tmp_path / "arena", "sft", 1, None, "training.beta=0.3"), print)
    again = run_arena(arena_of(tmp_path / "arena", "sft,random_sides"), print)  # the budget need not be given again
    assert again.budget == 3000 and {each.prompts for each in again.standings} == {standings.standings[0].prompts}


def test_a_budget_that_pays_for_nothing_says_what_would(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"10 tokens pay for 0 prompts, too few to train on; begin another arena"):
        run_arena(arena_of(tmp_path / "arena", budget=10), print)


def test_a_strategy_that_was_edited_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    text = "from lidr.strategies.best_of_n import BestOfN\n\nclass Mine(BestOfN):\n    samples: int = 2\n"
    file.write_text(text)
    arena = arena_of(tmp_path / "arena", f"{file}:Mine")
    assert {each.entry for each in run_arena(arena, print).standings} == {"imbalance", "Mine"}
    file.write_text(text.replace("2", "3"))
    with pytest.raises(ConfigError, match="Mine was another strategy when this arena was begun"):
        run_arena(arena, print)


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "arena.md").write_text("mine")
    with pytest.raises(LidrError, match="holds no arena"):
        run_arena(arena_of(tmp_path), print)
    assert [path.name for path in tmp_path.iterdir()] == ["arena.md"]
