"""The report: right numbers, nothing loaded, nothing executed, whatever the model wrote and however far the run got."""

from __future__ import annotations

import html
import json
import math
import random
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from lidr.config import Config, dump_config
from lidr.report import markdown
from lidr.report import page as report
from lidr.report.document import Table
from lidr.report.formatting import PAPER
from lidr.report.log import digest_log
from lidr.report.measures import Cell, Change, read_measures
from lidr.report.pairs import reservoir
from lidr.report.plots import curve_plots, language_plot, line_plot
from lidr.report.telemetry import group_table
from lidr.results import Results
from lidr.run_dir import RunDir
from lidr.seals import write_sealed
from lidr.storage import write_text

HOSTILE = (
    "<script>alert(1)</script></details></div> ``` ```` {{ 7 * 7 }} {% raw %} <img src=http://x.test/a> \x00\x1b\ud800"
)
RIGHT_TO_LEFT = "السماء زرقاء 🙂\n\n  indented\n\u202eoverride"


def make_config(**overrides: Any) -> Config:
    values: dict[str, Any] = {
        "name": "t",
        "model": {"path": "lab"},
        "languages": ["en", "es", "ru"],
        "prompts": {"path": "lab"},
        "evaluation": {"benchmarks": {"lab": {}}},
    }
    return Config.model_validate(values | overrides)


def lab(accuracy: float, off_target: float = 0.0, held_out: float | None = 0.5) -> dict[str, Any]:
    """Metrics of one language as the laboratory gives them, with an interval of plus and minus 0.08."""
    around = [
        [round(max(0, x - 0.08), 4), round(min(1, x + 0.08), 4)] if x is not None else None
        for x in (accuracy, held_out)
    ]
    return {
        "accuracy": accuracy, "ci95": around[0], "n": 120, "off_target": off_target,
        "accuracy_held_out": held_out, "ci95_held_out": around[1], "n_held_out": 120,
    }  # fmt: skip


def make_results(models: int = 3, iterations: int = 2) -> dict[str, Any]:
    gains = [{"en": 0.991, "es": 0.683, "ru": 0.203, "it": 0.31}, {"en": 0.983, "es": 0.853, "ru": 0.874, "it": 0.33}]
    gains.append({"en": 0.987, "es": 0.912, "ru": 0.962, "it": 0.29})
    off_target = [0.52, 0.04, 0.01]
    return {
        "schema": 1,
        "models": [
            {
                "name": f"M{t}",
                "path": "lab",
                "benchmarks": {
                    "lab": {code: lab(x, off_target[t] if code == "ru" else 0.0) for code, x in gains[t].items()},
                    "mgsm": {
                        "es": {
                            "accuracy": 0.05 * t,
                            "off_target": 0.1,
                            "undecided": 3,
                            "n": 20,
                            "fluency": 0.4,
                            "new": {},
                        }
                    },
                },
            }
            for t in range(models)
        ],
        "iterations": [
            {
                "iteration": t,
                "pairs": {"en": 1120, "es": 98, "ru": 77},
                "dropped": {"identical": 40, "translation_unparsed": 13, "too_long": 1, "a_new_reason": 2},
                "dropped_by_language": {
                    "es": {"identical": 40, "too_long": 1},
                    "ru": {"translation_unparsed": 13, "a_new_reason": 2},
                },
                "too_long": {"es": 1},
                "seconds": {"responses": 12.3, "translations": 20.0, "pairs": 0.4, "training": 75.0, "evaluation": 9.0},
            }
            for t in range(1, iterations + 1)
        ],
    }


def pair(number: int, code: str, text: str) -> dict[str, Any]:
    origins = ("en", "es->en") if code == "en" else ("en->" + code, code)
    texts = {name: f"{name} {number} {text}" for name in ("prompt", "chosen", "rejected")}
    return texts | {
        "id": f"{number:016x}", "prompt_id": f"p<{number}>", "language": code, "kind": "non_dominant",
        "chosen_from": origins[0], "rejected_from": origins[1],
    }  # fmt: skip


def log_training(run: RunDir, iteration: int, steps: range, sft: bool = False) -> None:
    for step in steps:
        values = {"loss": 2 / step, "learning_rate": 1e-3, "grad_norm": 1.0, "nll": 1 / step}
        if not sft:
            values |= {"dpo": 1 / step, "margin": 0.1 * step, "reward_accuracy": 1 - 0.5 / step}
            values |= {"chosen_reward": 0.02 * step, "rejected_reward": -0.08 * step}
        run.log("train", iteration=iteration, step=step, **values)


def log_groups(run: RunDir, iteration: int, steps: range, sft: bool = False) -> None:
    """Steps of 8 pairs in Spanish and, in every second step, 2 more in English."""
    names = ["nll", "chosen_logp", "chosen_length"]
    if not sft:
        names += ["rejected_logp", "rejected_length", "margin", "reward_accuracy"]
    for step in steps:
        spanish = {"pairs": 8.0} | {name: float(step) for name in names}
        english = {"pairs": 2.0} | dict.fromkeys(names, step + 100.0)
        languages = {"es": spanish} | ({"en": english} if step % 2 == 0 else {})
        kinds = {"non_dominant": spanish} | ({"dominant": english} if step % 2 == 0 else {})
        values = {"loss": 2 / step} if sft else {"loss": 2 / step, "dpo": 1 / step}
        run.log("train", iteration=iteration, step=step, **values, groups={"language": languages, "kind": kinds})


def log_alarm(run: RunDir, step: int) -> None:
    run.log("alarm", iteration=1, step=step, alarm="trivial_pairs", message="Lower <beta>.")


def write_pairs(config: Config, run: RunDir, iteration: int, text: str = "texto") -> None:
    run.dropped(iteration).parent.mkdir(parents=True, exist_ok=True)
    for code in config.languages:
        write_sealed(run.pairs(iteration, code), {}, (json.dumps(pair(number, code, text)) for number in range(40)))
    drops = [
        {
            "prompt_id": "1",
            "language": "ru",
            "kind": "non_dominant",
            "reason": "translation_unparsed",
            "detail": "en->ru",
        }
    ]
    write_sealed(run.dropped(iteration), {}, (json.dumps(row) for row in drops * 13))
    write_sealed(
        run.pair_summary(iteration), {}, [json.dumps({"pairs": dict.fromkeys(config.languages, 40), "dropped": {}})]
    )


def make_run(path: Path, config: Config, results: dict[str, Any], text: str = "texto") -> RunDir:
    """A run directory as a run leaves it, as far as the report reads it."""
    path.mkdir()
    run = RunDir(path)
    write_text(run.recipe, dump_config(config))
    write_text(run.results, json.dumps(results))
    environment = {"python": "3.11.0", "gpus": [], "packages": {"torch": "2.13.0"}, "git": None, "processor": "a <cpu>"}
    write_text(path / "environment.json", json.dumps(environment))
    run.log("stage", iteration=0, stage="evaluation", benchmark="lab", seconds=8.5, rows=240, tokens=4000)
    for entry in results["iterations"]:
        write_pairs(config, run, entry["iteration"], text)
        log_training(run, entry["iteration"], range(1, 21), sft=config.training.objective == "sft")
    return run


def read_report(config: Config, run: RunDir) -> tuple[str, str]:
    report.run(config, run)
    return tuple((run.path / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))  # type: ignore[return-value]


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails on a tag that is closed out of turn."""

    VOID = ("meta", "br", "img", "link", "path", "use", "rect")

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str | None]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(source)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in ("meta", "br", "img", "link"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open, tag
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_shows_the_numbers(tmp_path: Path) -> None:
    config = make_config()
    page, markdown = read_report(config, make_run(tmp_path / "run", config, make_results()))
    for text in (Page(page).text, markdown):
        for expected in ("0.683", "0.912", "0.60–0.76", "+0.229", "0.203", "±0.000", "1,120", "translation_unparsed"):
            assert expected in text, expected
        assert "within noise" in text
        assert "intervals apart" in text
        assert "No description." in text  # a reason unknown here is still counted
        assert "12.3 s" in text
        assert "1 min 15 s" in text
        assert "transfer" in text
        assert "language not told, counted as on target: 3 (M0), 3 (M1), 3 (M2)" in text
        assert "fluency" in text  # a metric unknown here is still shown
    assert "Mean of Spanish and Russian: 0.443 (0.36–0.52) to 0.937 (0.86–1.00), +0.494, intervals apart." in markdown
    assert "en → ru (13)" in page


def test_model_text_is_harmless(tmp_path: Path) -> None:
    config = make_config(languages=["en", "es", "ar"])
    run = make_run(tmp_path / "run", config, make_results(), HOSTILE + RIGHT_TO_LEFT)
    source, markdown = read_report(config, run)
    page = Page(source)
    assert page.tags["script"] == page.tags["img"] == 0
    assert "<script>alert(1)</script></details></div>" in page.text
    assert "{{ 7 * 7 }} {% raw %}" in page.text
    assert html.escape(RIGHT_TO_LEFT, quote=False) in source
    assert ("div", "lang", "ar") in page.attributes
    assert ("div", "dir", "auto") in page.attributes
    assert "\x00" not in source + markdown
    for line in markdown.splitlines():
        assert not line.startswith("<")
    assert (
        markdown.count("\n`````") == 2 * 3 * 3 * 10
    )  # a fence longer than the text's, around three texts of each pair


def test_loads_nothing_from_outside(tmp_path: Path) -> None:
    config = make_config()
    page = Page(read_report(config, make_run(tmp_path / "run", config, make_results()))[0])
    assert page.tags["script"] == page.tags["link"] == page.tags["iframe"] == 0
    assert not [attribute for attribute in page.attributes if attribute[1] in ("src", "srcset", "data", "action")]
    targets = {
        (tag, value) for tag, name, value in page.attributes if "href" in name and not str(value).startswith("#")
    }
    assert targets == {("a", PAPER), ("a", "reproducibility.md")}
    assert not [value for _, name, value in page.attributes if name.startswith("on")]
    ids = [value for _, name, value in page.attributes if name == "id"]
    used = {str(value)[1:] for _, name, value in page.attributes if "href" in name and str(value).startswith("#")}
    assert used <= set(ids)


def test_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    config = make_config()
    run = make_run(tmp_path / "run", config, make_results())
    assert read_report(config, run) == read_report(config, run)


def test_report_is_outdated_when_its_sources_change(tmp_path: Path) -> None:
    config = make_config()
    run = make_run(tmp_path / "run", config, make_results(models=2, iterations=1))
    assert report.is_outdated(run)
    report.run(config, run)
    assert not report.is_outdated(run)
    write_text(run.results, json.dumps(make_results()))
    assert report.is_outdated(run)


def test_unfinished_run(tmp_path: Path) -> None:
    config = make_config()
    page, markdown = read_report(config, make_run(tmp_path / "run", config, make_results(models=1, iterations=0)))
    for text in (page, markdown):
        assert "not finished: 0 of 2 iterations" in text
        assert "nothing to compare it with yet" in text
        assert "0.683" in text


def test_empty_run_directory(tmp_path: Path) -> None:
    page, markdown = read_report(make_config(), RunDir(tmp_path))
    assert "Nothing was measured" in page
    assert "Nothing was measured" in markdown


def test_sft_has_a_loss_and_no_rewards(tmp_path: Path) -> None:
    config = make_config(training={"objective": "sft"})
    page, _ = read_report(config, make_run(tmp_path / "run", config, make_results()))
    assert "Loss: NLL of the chosen answers" in page
    assert "Pairs whose chosen" not in page
    assert "plain supervised fine-tuning" in page


def test_without_benchmarks(tmp_path: Path) -> None:
    results = make_results()
    for model in results["models"]:
        model["benchmarks"] = {}
    config = make_config(evaluation={})
    page, _ = read_report(config, make_run(tmp_path / "run", config, results))
    assert "Nothing was measured" in page
    assert "1,295 pairs" in page


@pytest.mark.parametrize("missing", [{"ci95": None}, {"accuracy": None, "ci95": None}, {"n": None, "ci95": None}])
def test_gaps_in_the_metrics(tmp_path: Path, missing: dict[str, None]) -> None:
    results = make_results()
    results["models"][1]["benchmarks"]["lab"]["es"] |= missing
    del results["models"][2]["benchmarks"]["lab"]["ru"]
    del results["models"][0]["benchmarks"]["mgsm"]
    config = make_config()
    page, _ = read_report(config, make_run(tmp_path / "run", config, results))
    assert "0.912" in page


@pytest.mark.parametrize("failed", [[0], [2], [1, 2], [0, 1, 2]])
def test_a_benchmark_whose_every_answer_failed(tmp_path: Path, failed: list[int]) -> None:
    results = make_results()
    gaps = dict.fromkeys(("accuracy", "ci95", "off_target", "accuracy_held_out", "ci95_held_out"))
    for number in failed:
        for metrics in results["models"][number]["benchmarks"]["lab"].values():
            metrics |= gaps | {"n": 0, "n_held_out": 0}
    config = make_config()
    page, source = read_report(config, make_run(tmp_path / "run", config, results))
    names = {1: "M{}", 2: "M{} and M{}", 3: "M{}, M{} and M{}"}[len(failed)].format(*failed)
    for text in (Page(page).text, source):
        assert f"lab gave no figures for {names}." in text
        assert "None" not in text
        assert ("0.853" in text) == (1 not in failed)


def test_all_that_was_measured_failed(tmp_path: Path) -> None:
    results = make_results()
    for model in results["models"]:
        failed = {"accuracy": None, "ci95": None, "off_target": None, "undecided": 0, "n": 0}
        model["benchmarks"] = {"mgsm": {"es": failed}}
    config = make_config()
    page, source = read_report(config, make_run(tmp_path / "run", config, results))
    for text in (Page(page).text, source):
        assert "mgsm gave no figures for M0, M1 and M2. Nothing was measured" in text
        assert "None" not in text


def test_change_is_noise_where_intervals_overlap() -> None:
    before, after = Cell(0.5, (0.4, 0.6)), Cell(0.65, (0.55, 0.75))
    assert Change(before, after).is_clear is False
    assert Change(before, Cell(0.9, (0.8, 0.95))).is_clear is True
    assert Change(before, Cell(0.1, (0.05, 0.2))).is_clear is True
    assert Change(before, Cell(0.9)).is_clear is None


def test_an_interval_is_computed_where_only_the_count_is_given() -> None:
    results = {"models": [{"name": "M0", "benchmarks": {"b": {"es": {"accuracy": 0.5, "n": 100}}}}]}
    (measure,) = read_measures(Results.from_json(results), make_config())
    cell = measure.rows[0].cells[0]
    assert cell is not None
    assert cell.interval == pytest.approx((0.404, 0.596), abs=1e-3)


def test_a_resumed_training_replaces_the_steps_it_repeats(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    log_training(run, 1, range(1, 31))
    run.log("train", iteration=1, step=11, loss=-1.0)
    log_training(run, 1, range(12, 21))
    log_training(run, 2, range(1, 4))
    run.log("stage", iteration=1, stage="training", seconds=5.0, rows=10)
    curves = digest_log(run.read_log()).curves
    assert list(curves[1]) == list(range(1, 21))
    assert curves[1][11]["loss"] == -1.0
    run.log("recompute", iteration=1, stage="training", reasons=["training.beta: 0.1 -> 0.2"])
    log = digest_log(run.read_log())
    assert list(log.curves) == [2]
    assert not log.work


@pytest.mark.parametrize(("mfu", "share"), [(0.312, " (31% of the hardware's peak)"), (None, "")])
def test_the_training_s_cost_is_told(tmp_path: Path, mfu: float | None, share: str) -> None:
    config = make_config()
    run = make_run(tmp_path / "run", config, make_results())
    cost = {"seconds": 2.0, "tokens": 5000, "tokens_per_second": 2500.0, "peak_gib": 3.04, "tflops_per_second": 0.0123}
    run.log("cost", iteration=1, stage="training", mfu=mfu, **cost)
    for text in read_report(config, run):
        assert f"2,500 tokens/s, 0.0123 TFLOP/s{share}, at most 3.0 GiB" in html.unescape(text)
    run.log("recompute", iteration=1, stage="training", reasons=["a change"])
    assert all("2,500 tokens/s" not in text for text in read_report(config, run))


def texts(table: Table) -> list[list[str]]:
    return [[cell.text for cell in (row.title, *row.cells)] for row in table.rows]


def test_means_of_groups_are_weighted_by_pairs() -> None:
    steps = [{"es": {"pairs": 3.0, "margin": 1.0, "nll": 2.0}}, {"es": {"pairs": 1.0, "margin": 5.0}}, {}]
    curve = {step: {"groups": {"language": values}} for step, values in enumerate(steps * 10, 1)}
    table = group_table(1, curve, ["es"])
    assert table is not None
    assert table.header == ["", "Pairs", "Margin", "NLL"]
    assert texts(table) == [["Spanish", "4", "+2.000", "2.000"]]


def test_the_end_of_training_is_the_last_tenth_of_it(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    log_groups(run, 1, range(1, 41))
    log_groups(run, 2, range(1, 10))
    log_groups(run, 2, range(6, 8))  # resumed: ends with step 7, which has no English pairs
    curves = digest_log(run.read_log()).curves
    first, second = (group_table(iteration, curves[iteration], ["en", "es"]) for iteration in (1, 2))
    assert first is not None
    assert second is not None
    assert "the last 4 steps" in first.note and "the last step" in second.note
    assert [row.title.text for row in first.rows] == [
        "English", "Spanish", "All dominant pairs", "All non-dominant pairs",
    ]  # fmt: skip
    assert [cells[1:3] for cells in texts(first)] == [["4", "139.00"], ["32", "38.50"]] * 2
    assert [cells[1:3] for cells in texts(second)] == [["0", "–"], ["8", "7.00"]] * 2
    assert "| Spanish | 32 | 38.50 |" in markdown.table(first)


def test_groups_of_sft_have_no_rewards(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    log_groups(run, 1, range(1, 21), sft=True)
    curve = digest_log(run.read_log()).curves[1]
    table = group_table(1, curve, ["en", "es"])
    assert table is not None
    assert table.header == ["", "Pairs", "Chosen log-prob", "NLL", "Chosen length"]
    plot = language_plot(1, curve, ["en", "es"])
    assert plot is not None
    assert "NLL of the chosen answers" in plot
    assert "Reward accuracy" not in plot


def test_trainings_without_groups_have_no_table(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    log_training(run, 1, range(1, 21))
    curve = digest_log(run.read_log()).curves[1]
    assert group_table(1, curve, ["es"]) is None
    assert language_plot(1, curve, ["es"]) is None
    assert not any("held-out" in plot for _, plot in curve_plots(1, curve, {}))


def test_held_out_loss_is_drawn_with_the_loss_and_void_after_a_resume(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    log_training(run, 1, range(1, 21))
    for step in (0, 10, 20):
        run.log("held_out", iteration=1, step=step, pairs=64, loss=2.0)
    log_training(run, 1, range(11, 15))
    log = digest_log(run.read_log())
    assert list(log.held_out[1]) == [0, 10]
    plots = curve_plots(1, log.curves[1], log.held_out[1])
    assert ["held-out loss" in plot for _, plot in plots] == [True, False, False]


def test_an_alarm_is_told_once_at_the_top(tmp_path: Path) -> None:
    config = make_config(evaluation={})
    run = make_run(tmp_path / "run", config, make_results(models=0, iterations=1))
    log_alarm(run, 12)
    log_alarm(run, 14)
    page, source = read_report(config, run)
    told = "Training alarm, iteration 1. Trivial pairs, at step 12. Lower <beta>."
    assert Page(page).text.count(told) == 1
    assert source.count("- **Training alarm, iteration 1.** Trivial pairs, at step 12.") == 1
    run.log("recompute", iteration=1, stage="training")
    assert not digest_log(run.read_log()).alarms


def test_training_section_shows_groups_and_alarms(tmp_path: Path) -> None:
    config = make_config(evaluation={})
    run = make_run(tmp_path / "run", config, make_results(models=0, iterations=2))
    log_groups(run, 1, range(1, 41))
    log_alarm(run, 12)
    page, source = read_report(config, run)
    assert page.count("At the end of training") == page.count('<figure class="plot wide"') == 1
    assert Page(page).text.count("Trivial pairs, at step 12. Lower <beta>.") == 2
    for text in (Page(page).text, source):
        assert "Means over the pairs of the last 4 steps." in text
        assert "139.00" in text
    assert source.count("At the end of training") == 1
    assert "**Trivial pairs**, at step 12. Lower \\<beta\\>." in source


def test_a_single_step_is_told_in_words_and_not_plotted(tmp_path: Path) -> None:
    config = make_config(evaluation={})
    run = make_run(tmp_path / "run", config, make_results(models=0, iterations=2))
    run.metrics.unlink()
    log_groups(run, 1, range(1, 2))
    page, source = read_report(config, run)
    for text in (Page(page).text, source):
        assert "The training took a single optimiser step" in text and "no curve to plot" in text
    assert "Iteration 1: 1 step" in Page(page).text and "optimiser step</" not in page
    assert '<figure class="plot wide"' not in page
    log_groups(run, 1, range(2, 4))
    page, source = read_report(config, run)
    assert "single optimiser step" not in source and '<figure class="plot wide"' in page


def test_values_that_are_not_finite_are_gaps() -> None:
    curve = {1: {"loss": 1.0}, 2: {"loss": math.nan}, 3: {"loss": 0.5}}
    assert "<svg" in line_plot(curve, ["loss"], "loss")


def test_long_trainings_are_thinned() -> None:
    draw = random.Random(0)
    curve = {step: {"loss": draw.random()} for step in range(1, 20001)}
    assert len(line_plot(curve, ["loss"], "loss")) < 30_000


def test_reservoir_is_uniform_and_keeps_the_order() -> None:
    rows = [{"n": n} for n in range(20)]
    counts = Counter(row["n"] for seed in range(2000) for row in reservoir(iter(rows), 5, str(seed)))
    assert len(counts) == 20
    assert all(400 < count < 600 for count in counts.values())
    drawn = [row["n"] for row in reservoir(rows, 5, "1")]
    assert drawn == sorted(drawn)
    assert reservoir(rows, 0, "1") == []
    assert reservoir(rows[:3], 5, "1") == rows[:3]


def test_markdown_is_escaped() -> None:
    assert markdown.one_line("a|b\n<i>_x_ `c`") == r"a\|b \<i\>\_x\_ \`c\`"
    assert markdown.fenced("a\n````\nb").startswith("`````text\n")
    assert "[… 7 more characters]" in markdown.fenced("0123456789", limit=3)
