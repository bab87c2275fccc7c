"""Before training: too few pairs, or one fault of the settings that has eaten them, end the run with the way out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lidr import loop
from lidr.config import Config, load_config, shipped_recipes
from lidr.engines.base import Completion, Request
from lidr.replacing import find_replaced
from lidr.run_dir import RunDir
from lidr.seals import digest, sealed, write_sealed
from lidr.stages import training
from lidr.stages.shortage import TooFewPairsError, check_pairs, enough_tokens, fewest, shortage
from tests.conftest import ToyEngine, ToyRun, make_config

Fail = Callable[[Request, str], Completion | None]


def paired(run: ToyRun, fail: Fail | None = None, **fields: Any) -> Config:
    run.use(ToyEngine(fail))
    config = make_config(run.prompts, **fields)
    run.run("prompts", "responses", "translations", "pairs", config=config)
    return config


def is_answer(request: Request) -> bool:
    return request.prefill is None or not request.prefill


def test_enough_pairs_are_trained_on(toy_run: ToyRun) -> None:
    config = paired(toy_run, training={"batch_size": 12})
    assert fewest(config) == 24
    check_pairs(config, toy_run.run_dir, 1)  # 24 pairs


def test_too_few_pairs_are_said_with_the_way_on(toy_run: ToyRun) -> None:
    config = paired(toy_run)
    reason = shortage(config, toy_run.run_dir, 1, {})
    assert reason is not None
    assert "24 pairs of 24 candidates are left, fewer than pairs.minimum (32" in reason
    assert "--set pairs.minimum=24" in reason
    before = digest(toy_run.run_dir.pair_summary(1))
    on = make_config(toy_run.prompts, pairs={"minimum": 24})
    check_pairs(on, toy_run.run_dir, 1)
    assert find_replaced(on, toy_run.run_dir) == [], "going on regenerates nothing"
    toy_run.run("pairs", config=on)
    assert digest(toy_run.run_dir.pair_summary(1)) == before


def test_pairs_that_are_too_long_to_train_on_do_not_count(toy_run: ToyRun) -> None:
    config = paired(toy_run, pairs={"minimum": 20})
    check_pairs(config, toy_run.run_dir, 1, {"es": 4})
    with pytest.raises(TooFewPairsError, match=r"19 pairs of 24 candidates"):
        check_pairs(config, toy_run.run_dir, 1, {"es": 5})
    with pytest.raises(TooFewPairsError, match=r"13 of 24 candidates .*raise training\.max_length from 4,096"):
        check_pairs(config, toy_run.run_dir, 1, {"es": 6, "fr": 6, "de": 1})


def test_held_out_pairs_do_not_count(toy_run: ToyRun) -> None:
    config = paired(toy_run, pairs={"minimum": 20}, training={"held_out": 1})
    check_pairs(config, toy_run.run_dir, 1)  # 20 pairs
    more = make_config(toy_run.prompts, pairs={"minimum": 20}, training={"held_out": 2})
    with pytest.raises(TooFewPairsError, match=r"16 pairs of 24 .*held out 8.*lower .*training\.held_out.*minimum=16"):
        check_pairs(more, toy_run.run_dir, 1)
    every = make_config(toy_run.prompts, pairs={"minimum": 1}, training={"held_out": 9})
    with pytest.raises(TooFewPairsError, match=r"0 pairs of 24 .*held out 24"):
        check_pairs(every, toy_run.run_dir, 1)


def cut_off(request: Request, text: str) -> Completion | None:
    number = text.split()[-3]
    return Completion(request.request_id, text, "length", 5, 64) if is_answer(request) and number != "5" else None


def test_answers_cut_off_name_the_limit_to_raise(toy_run: ToyRun) -> None:
    config = paired(toy_run, cut_off, responses={"max_new_tokens": 64}, pairs={"minimum": 1})
    with pytest.raises(TooFewPairsError) as stopped:
        check_pairs(config, toy_run.run_dir, 1)
    message = str(stopped.value)
    assert "20 of 24 answers were cut off at 64 tokens; raise responses.max_new_tokens to about" in message
    assert "--set pairs.max_fault_share=1" in message
    on = config.model_copy(update={"pairs": config.pairs.model_copy(update={"max_fault_share": 1.0})})
    check_pairs(on, toy_run.run_dir, 1)
    assert find_replaced(on, toy_run.run_dir) == []


@pytest.mark.parametrize(
    ("cut", "total", "limit", "proposed"),
    [(44, 48, 64, 384), (48, 48, 64, 704), (24, 48, 512, 1344), (1, 2, 8, 64), (10_000, 10_000, 64, 1024)],
)
def test_a_longer_limit_is_estimated_from_what_finished(cut: int, total: int, limit: int, proposed: int) -> None:
    assert enough_tokens(limit, cut, total) == proposed


def test_the_estimate_holds_for_answers_of_log_normal_length() -> None:
    import random

    drawn = random.Random(1)
    lengths = [drawn.lognormvariate(5.5, 0.6) for _ in range(4000)]
    for limit in (100, 200, 300):
        enough = enough_tokens(limit, sum(length > limit for length in lengths), len(lengths))
        assert 0.92 < sum(length <= enough for length in lengths) / len(lengths) < 0.98


def test_failed_translations_errors_and_loops_are_faults(toy_run: ToyRun, tmp_path: Path) -> None:
    def fail_translations(request: Request, text: str) -> Completion | None:
        return None if is_answer(request) else Completion(request.request_id, "", "stop", 5, 7)

    def fail_answers(request: Request, text: str) -> Completion | None:
        return Completion(request.request_id, "", "error", 5, 0, error="HTTP 500 from the server")

    def loop_answers(request: Request, text: str) -> Completion | None:
        return Completion(request.request_id, text + " and then" * 20, "stop", 5, 7) if is_answer(request) else None

    expected = {
        "failed translations: most often translation_empty; set translations.text_first=true": fail_translations,
        "failed answers: the engine gave errors, such as 'HTTP 500 from the server'": fail_answers,
        "loops: raise responses.repetition_penalty from 1.1 to about 1.2": loop_answers,
    }
    for number, (message, fail) in enumerate(expected.items()):
        run = ToyRun(toy_run.prompts, tmp_path / str(number), toy_run.monkeypatch)
        config = paired(run, fail, pairs={"minimum": 1})
        assert message in (shortage(config, run.run_dir, 1, {}) or ""), message


def test_the_wrong_language_names_it(toy_run: ToyRun) -> None:
    def in_english(request: Request, text: str) -> Completion | None:
        return None if is_answer(request) else Completion(request.request_id, f"{text} " * 2, "stop", 5, 7)

    config = paired(toy_run, in_english, pairs={"minimum": 1})
    summary = toy_run.run_dir.pair_summary(1)
    counts = json.loads(summary.read_text())
    counts["pairs"] = {"en": 6, "es": 1, "fr": 1, "de": 1}
    counts["dropped"] = {"es": {"chosen_wrong_language": 9}, "fr": {"chosen_wrong_language": 2}}
    write_sealed(summary, sealed(summary).inputs, [json.dumps(counts)])
    reason = shortage(config, toy_run.run_dir, 1, {})
    assert reason and "11 of 20 candidates" in reason and "most often in es" in reason


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ("chosen_mixed_languages", "mixed: set pairs.strategy={type: guided, of: imbalance}, take a"),
        ("chosen_switches_language", "take a model that translates better, or set pairs.gates.wrong_lines=false"),
        ("result_changed", "results that were lost in translation: take a model that"),
    ],
)
def test_what_is_wrong_with_translations_names_the_way_out(reason: str, says: str, toy_run: ToyRun) -> None:
    config = paired(toy_run, pairs={"minimum": 1})
    summary = toy_run.run_dir.pair_summary(1)
    counts = json.loads(summary.read_text())
    counts["dropped"] = {"es": {reason: 1000}}
    write_sealed(summary, sealed(summary).inputs, [json.dumps(counts)])
    assert says in (shortage(config, toy_run.run_dir, 1, {}) or "")


def test_alike_answers_and_other_lengths_are_no_fault(toy_run: ToyRun) -> None:
    config = paired(toy_run, pairs={"minimum": 1})
    summary = toy_run.run_dir.pair_summary(1)
    counts = json.loads(summary.read_text())
    counts["pairs"], counts["dropped"] = {"es": 1}, {
        "es": {"identical": 50, "near_identical": 50, "length_ratio": 50, "translation_task": 99, "prompt_missing": 99}
    }  # fmt: skip
    write_sealed(summary, sealed(summary).inputs, [json.dumps(counts)])
    assert shortage(config, toy_run.run_dir, 1, {}) is None


def test_a_run_stops_before_training_and_goes_on_when_told(toy_run: ToyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Iteration 1 raises, with the report written; what is finished stays."""
    config = make_config(toy_run.prompts)
    monkeypatch.setattr(training, "_forget_other_training", lambda *arguments: pytest.fail("training was begun"))
    with pytest.raises(TooFewPairsError, match=r"iteration 1 was not trained: 24 pairs of 24 candidates"):
        loop.run(config, toy_run.run_dir)
    assert "Iteration 1 was not trained" in (toy_run.run_dir.path / "report.md").read_text()
    assert toy_run.run_dir.pair_summary(1).exists() and not toy_run.run_dir.training(1).exists()
    assert TooFewPairsError.exit_code not in (0, 2)


def test_the_child_process_hands_the_reason_on(toy_run: ToyRun, capfd: pytest.CaptureFixture[str]) -> None:
    config = paired(toy_run, isolation="process", pairs={"minimum": 24}, training={"max_length": 4})
    run = RunDir.start(config, toy_run.run_dir.path, print)
    with run.lock() as lock, pytest.raises(TooFewPairsError, match="stage training of iteration 1 ended"):
        loop.step("training", config, run, 1, lock)
    assert "raise training.max_length" in capfd.readouterr().err


def test_shipped_recipes_have_room_for_their_minimum() -> None:
    for name in shipped_recipes():
        config = load_config(name)
        if config.iterations and config.prompts and config.prompts.limit:
            assert config.prompts.limit * len(config.languages) >= 3 * fewest(config), name
