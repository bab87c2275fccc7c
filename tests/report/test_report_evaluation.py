"""The report on what a judge, the harness and the probe measured, in a run and outside of one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from lidr.config import Config
from lidr.report import page as report
from lidr.report.document import Tiles
from lidr.report.findings import findings, introduction
from lidr.report.judged import judge_warnings, read_judge, read_outcomes
from lidr.report.measures import Cell, cell_of, read_measures
from lidr.report.probe import probe_advice
from lidr.results import Metric, Metrics, ModelResults, Results
from lidr.run_dir import RunDir
from lidr.seals import write_sealed
from lidr.stages import probe
from lidr.stages.results import collect_results
from lidr.storage import write_text
from tests.report.test_report import HOSTILE, Page, make_config, make_results, make_run, read_report

JUDGE = {"model": "j<1>", "usd_per_million_input_tokens": 10, "usd_per_million_output_tokens": 30}


def words(page: str) -> str:
    """What a page says, with spaces that may break."""
    return Page(re.sub("<style.*?</style>", "", page, flags=re.DOTALL)).text.replace("\xa0", " ")


def verdict(number: int, shown_first: float = 0.9, shown_second: float = 0.8) -> dict[str, Any]:
    return {
        "question_id": str(number), "language": "es", "preference": (shown_first + shown_second) / 2,
        "outcome": "win", "shown_first": shown_first, "shown_second": shown_second,
    }  # fmt: skip


def compared(win: float, bias: float = 0.52, unscored: int = 0, cost: float | None = 1.5) -> dict[str, Any]:
    """Metrics of one language as `judges.summarise` gives them."""
    shares = {"win": win, "tie": 0.1, "lose": round(0.9 - win, 4)}
    around = {f"ci95_{name}": [max(0, value - 0.05), min(1, value + 0.05)] for name, value in shares.items()}
    usage = {"requests": 180, "prompt_tokens": 9000, "completion_tokens": 180, "cost_usd": cost}
    return shares | around | {
        "n": 100, "unscored": unscored, "ruled": 10, "failed": 0, "sign_test_p": 1e-9, "preference": win + 0.05,
        "ci95_preference": [win, win + 0.1], "first_position": bias, "consistent": 0.9, "off_target": 0.01,
        "ci95_off_target": [0.0, 0.05], "undecided": 2, "judge": usage,
    }  # fmt: skip


def alpaca(win: float) -> dict[str, Any]:
    found = compared(win)
    return found | {
        "win_rate": found.pop("preference"), "ci95_win_rate": found.pop("ci95_preference"), "lc_win_rate": 0.333,
        "ci95_lc_win_rate": [0.3, 0.37], "mean_length": 1743.2, "mean_reference_length": 767.0,
    }  # fmt: skip


def judged_config(**overrides: Any) -> Config:
    benchmarks = {
        "head_to_head": {"path": "q"},
        "x_alpacaeval": {"reference": "ref-1"},
        "mt_bench": {"path": "q"},
    }
    return make_config(evaluation={"benchmarks": benchmarks, "judge": JUDGE}, **overrides)


def evaluation_config() -> Config:
    benchmarks = {"head_to_head": {"against": "answers/other-7b"}, "x_alpacaeval": {"reference": "answers/ref-1"}}
    return Config.model_validate(
        {
            "name": "some-8b", "model": {"path": "org/some-8b"}, "languages": ["en", "es"], "iterations": 0,
            "evaluation": {"benchmarks": benchmarks, "judge": JUDGE},
        }
    )  # fmt: skip


def judged_results() -> dict[str, Any]:
    mt = {
        "score": 6.4, "ci95_score": [6.0, 6.8], "score_turn_1": 6.6, "score_turn_2": 6.2, "n": 80, "unscored": 3,
        "by_category": {"math": 3.21, "writing": 8.4}, "ruled": 0, "off_target": 0.0, "undecided": 0, "failed": 0,
        "judge": {"requests": 160, "prompt_tokens": 1, "completion_tokens": 1, "cost_usd": None},
    }  # fmt: skip
    first = {"head_to_head": {"es": {"n": 100, "off_target": 0.2, "undecided": 0}}, "mt_bench": {"es": mt}}
    last = {"mt_bench": {"es": mt | {"score": 7.4, "ci95_score": [7.0, 7.8], "by_category": {"math": 4.56}}}}
    return {
        "schema": 1,
        "models": [
            {"name": "M0", "path": "lab", "benchmarks": first | {"x_alpacaeval": {"es": alpaca(0.2)}}},
            {
                "name": "M1",
                "path": "m",
                "benchmarks": last | {"head_to_head": {"es": compared(0.7)}, "x_alpacaeval": {"es": alpaca(0.5)}},
            },
        ],
        "iterations": [],
    }


def probe_found() -> list[dict[str, Any]]:
    def share(value: float | None, low: float, high: float, wins: int, losses: int) -> dict[str, Any]:
        return {"value": value, "ci95": [low, high], "wins": wins, "losses": losses, "p": 0.01, "ties": 5}

    own = {"n": 20, "accuracy": 0.4, "ci95": [0.2, 0.6]}
    aside = {"off_target": 0.1, "ci95_off_target": [0.02, 0.3], "undecided": 0}
    failures = {
        "translations": 20, "translation_failed": 0.7,
        "failed_by_length": [{"from_characters": 3000, "to_characters": None, "n": 20, "failed": 14}],
    }  # fmt: skip
    languages = {
        "es": {"own": own, "verdict": "dominant"} | aside,
        "en": aside | {
            "own": own, "translated": own | {"accuracy": 0.9}, "verdict": "train",
            "reward_accuracy": {"verified": share(0.813, 0.7, 0.9, 40, 9)}, **failures,
        },
        "ru": aside | {
            "own": own, "translated": own, "verdict": "drop", **failures,
            "reward_accuracy": {"verified": share(None, 0, 1, 0, 0)},
        },
    }  # fmt: skip
    better = {"before": own, "after": own, "better": {"verified": share(0.25, 0.1, 0.47, 3, 9)}}
    return [
        {"model": "M0", "dominant": "es", "by": ["verified"], "prompts": 20, "languages": languages},
        {
            "model": "M1", "by": ["verified"], "prompts": 20, "languages": {"en": better, "es": better},
            "together": share(0.6, 0.4, 0.8, 12, 8), "gains": [], "losses": ["en"], "stop": True, "keep": 0,
            "reason": "the teacher got worse",
        },
    ]  # fmt: skip


def test_judged_benchmarks_are_shown(tmp_path: Path) -> None:
    config = judged_config()
    run = make_run(tmp_path / "run", config, judged_results())
    page, markdown = read_report(config, run)
    (tiles,) = [block for block in report.make_document(config, run).sections[0].blocks if isinstance(block, Tiles)]
    assert [tile.label for tile in tiles.tiles] == [
        "head_to_head, M1 against M0", "mt_bench, score", "x_alpacaeval, win rate",
        "x_alpacaeval, length-controlled win rate",
    ]  # fmt: skip
    for text in (words(page), markdown.replace("\\<", "<")):
        for expected in ("0.700", "0.65–0.75", "0.333", "7.400", "3.21 → 4.56", "8.40 → –", "p < 0.001", "3.00"):
            assert expected in text, expected
        assert "mean length of the answers in characters: 1,743 (M0), 1,743 (M1)" in text
        assert "Other metrics" not in text
        assert "X-AlpacaEval win rate against GPT-4-Turbo" in text  # the paper's
        assert "0.181" in text
    assert ">70 %<" in page
    assert ">20 %<" in page
    assert page.count("Position bias") == 1


def test_the_bars_name_both_sides_and_start_with_the_first_compared_model() -> None:
    (outcome,) = read_outcomes(Results.from_json(judged_results()), judged_config())
    assert outcome.title == "M1 against M0"
    of_model = ModelResults("some-8b", "", {"head_to_head": {"es": Metrics.from_json(compared(0.7))}})
    (outside,) = read_outcomes(Results((of_model,)), evaluation_config())
    assert outside.title == "some-8b against other-7b"


def test_a_judge_without_prices_costs_a_dash_and_a_bad_one_is_warned_of() -> None:
    config = judged_config()
    results = judged_results()
    results["models"][1]["benchmarks"]["head_to_head"]["es"] = compared(0.7, bias=0.63, unscored=12, cost=None)
    rows = {row.name: row for row in read_judge(Results.from_json(results), config, lambda *_: iter(()))}
    row = rows["head_to_head, Spanish"]
    assert (row.requests, row.verdicts, row.unscored, row.cost) == (180, 112, 12, None)
    assert rows["x_alpacaeval, Spanish"].requests == 360  # of both models
    assert rows["x_alpacaeval, Spanish"].cost == 3.0
    assert rows["mt_bench, Spanish"].verdicts == 320
    told = dict(judge_warnings(list(rows.values())))
    assert "head_to_head in Spanish (0.630)" in told["Judge's position bias"]
    assert "x_alpacaeval" not in told["Judge's position bias"]
    assert "head_to_head in Spanish (11 %)" in told["Judge without verdict"]
    assert not judge_warnings([rows["x_alpacaeval, Spanish"]])


def test_position_bias_gets_its_interval_from_the_verdicts() -> None:
    rows = read_judge(
        Results.from_json(judged_results()), judged_config(),
        lambda *_: iter([verdict(1), verdict(2, 0.9, 0.2), verdict(3, 0.7, 0.4)]),
    )  # fmt: skip
    cell = rows[0].first_position
    assert cell is not None
    assert cell.interval is not None
    assert cell.interval[0] < cell.value < cell.interval[1]


def test_an_interval_without_width_is_none() -> None:
    assert cell_of(Metric(2.0, (2.0, 2.0))) == cell_of(Metric(2.0)) == Cell(2.0)


def test_models_are_tested_on_the_same_questions(tmp_path: Path) -> None:
    config = make_config()
    run = make_run(tmp_path / "run", config, make_results())
    for iteration, right in ((0, 3), (2, 12)):
        folder = run.evaluation(iteration, "lab")
        rows = [{"question_id": str(n), "correct": n < right, "group": "trained"} for n in range(20)]
        rows += [{"question_id": f"h{n}", "correct": True, "group": "held_out"} for n in range(20)]
        write_sealed(folder / "es.jsonl", {}, (json.dumps(row) for row in rows))
    page, markdown = read_report(config, run)
    for text in (words(page), markdown):
        assert "p = 0.004" in text  # nine of nine
        assert "p = 1.000" in text  # held out: no difference
        assert "not corrected for their number" in text


def test_an_evaluation_outside_a_run_speaks_of_no_training(tmp_path: Path) -> None:
    config = evaluation_config()
    metrics = {"head_to_head": {"en": compared(0.7), "es": compared(0.6)}, "x_alpacaeval": {"en": alpaca(0.5)}}
    results = {
        "schema": 1,
        "models": [{"name": "M0", "path": "p", "benchmarks": metrics}],
        "iterations": [],
        "probe": [],
    }
    page, markdown = read_report(config, make_run(tmp_path / "run", config, results))
    for text in (words(page), markdown):
        assert "The model org/some-8b was measured in English and Spanish" in text
        assert "some-8b against other-7b" in text
        for absent in (
            "dominant",
            "(transfer)",
            "not trained",
            "Trained languages",
            "trained languages",
            "not finished",
        ):
            assert absent not in text.partition("name: some-8b")[0], absent
        assert "M0 is the base model" not in text
    assert "<dt>Iterations" not in page


def test_harness_accuracies_are_one_tile_each() -> None:
    cell = {"accuracy": 0.45, "ci95": [0.42, 0.48], "accuracy_norm": 0.6, "n": 100, "stderr": 0.01, "num_fewshot": 25}
    benchmarks = {name: dict.fromkeys(("en", "es"), cell) for name in ("arc", "mmlu")}
    results = {"models": [{"name": "M0", "benchmarks": benchmarks}, {"name": "M1", "benchmarks": benchmarks}]}
    config = make_config(evaluation={"benchmarks": {"arc": {}, "mmlu": {}}})
    measures = read_measures(Results.from_json(results), config)
    assert [measure.kind.key for measure in measures] == ["accuracy", "accuracy_norm"] * 2
    assert [finding.topic for finding in findings(measures, config) if finding.is_key] == [
        "arc, accuracy", "mmlu, accuracy",
    ]  # fmt: skip


def test_the_probe_and_the_stop_rule_are_shown(tmp_path: Path) -> None:
    config = make_config(probe={"stop": True})
    results = make_results(models=2, iterations=1) | {"probe": probe_found()}
    page, markdown = read_report(config, make_run(tmp_path / "run", config, results))
    for text in (words(page), markdown):
        assert "The stop rule ended the run after M1." in text
        assert "not finished" not in text
        assert "M1 is no step forward: the teacher got worse." in text
        assert "the recipe teaches from English" in text
        assert "Leave out Russian" in text
        assert all(figure in text for figure in ("0.813", "0.70–0.90", "40 : 9", "p = 0.010"))
        assert "3,000+: 14 of 20" in text
        assert "stop, keep M0" in text
    assert page.count('<p class="alarm"') == 3
    assert not probe_advice(Results(), config)


def test_a_run_whose_next_iteration_made_no_pair_is_finished() -> None:
    results = make_results(models=2, iterations=2)
    results["iterations"][1]["pairs"] = {"en": 0, "es": 0}
    assert "Iteration 2 made no pair, so the run ended with M1." in introduction(
        make_config(), Results.from_json(results)
    )
    results["iterations"][1]["pairs"] = {"en": 1, "es": 2}
    assert "Iteration 2 made only 3 pairs, so the run ended with M1." in introduction(
        make_config(), Results.from_json(results)
    )


def test_the_probe_is_part_of_the_results_while_it_is_current(tmp_path: Path) -> None:
    config = make_config(probe={"prompts": 5})
    run = RunDir(tmp_path)
    found = probe_found()[0]
    write_sealed(run.probe(0), probe.inputs(config, run, 0), [json.dumps(found)])
    assert collect_results(config, run).probe == Results.from_json({"probe": [found]}).probe
    assert collect_results(make_config(probe={"prompts": 6}), run).probe == ()
    assert collect_results(make_config(), run).probe == ()


def test_the_report_is_outdated_when_the_probe_or_scored_rows_change(tmp_path: Path) -> None:
    config = make_config(probe={})
    results = make_results(models=1, iterations=0)
    run = make_run(tmp_path / "run", config, results)
    report.run(config, run)
    write_sealed(run.evaluation(0, "lab") / "es.jsonl", {}, ["{}"])
    assert report.is_outdated(run)
    report.run(config, run)
    write_text(run.results, json.dumps(results | {"probe": probe_found()[:1]}))
    assert report.is_outdated(run)


def test_verdicts_to_read_are_harmless(tmp_path: Path) -> None:
    config = judged_config()
    run = make_run(tmp_path / "run", config, judged_results())
    folder = run.evaluation(1, "x_alpacaeval")
    (folder / "alpaca_eval" / "es").mkdir(parents=True)
    rows = [verdict(n) for n in range(8)]
    notes = [
        {
            "instruction": HOSTILE,
            "output_1": HOSTILE,
            "output_2": HOSTILE * 100,
            "generator_1": "<r>",
            "generator_2": "m",
        }
        for _ in rows
    ]
    write_sealed(folder / "es.jsonl", {}, (json.dumps(row) for row in rows))
    (folder / "alpaca_eval" / "es" / "annotations.json").write_text(json.dumps(notes), encoding="utf-8")
    source, markdown = read_report(config, run)
    page = Page(source)
    assert page.tags["script"] == page.tags["img"] == 0
    assert page.text.count("preference for the model's answer 0.90 when shown first, 0.80 when shown second") == 5
    assert "more characters]" in page.text
    assert "## Verdicts to read" in markdown
