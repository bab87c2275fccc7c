"""The probe before training and the rule that ends it: on the laboratory, and the pure parts by hand."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from lidr import loop
from lidr.benchmarks.shared.duels import Duel, count_duels, count_together, is_right
from lidr.config import Config, load_config
from lidr.errors import ConfigError, DataError, RunError
from lidr.records import Prompt
from lidr.results import ImbalanceProbe, LanguageProbe, Metric, Metrics, ProbeVerdict, read_imbalance, read_progress
from lidr.run_dir import RunDir
from lidr.stages import probe, prompts
from tests.conftest import make_config
from tests.support.openai_server import TestServer
from tests.support.rule_judge import RuleJudge

WEAK = ["es", "fr", "de", "ru"]


def start(path: Path, *settings: str) -> tuple[Config, RunDir]:
    config = load_config("quickstart", ["probe.prompts=60", *settings])
    return config, RunDir.start(config, path, say=lambda line: None)


def probed(path: Path, *settings: str) -> ImbalanceProbe:
    config, run_dir = start(path, *settings)
    probe.run(config, run_dir, 0)
    found = read_imbalance(run_dir)
    assert found is not None
    return found


def test_in_the_laboratory_english_is_found_dominant_without_being_told(tmp_path: Path) -> None:
    found = probed(tmp_path / "run", "dominant=es")
    assert found.dominant == "en" and found.by == ("verified",)
    own = {code: entry.own.values["accuracy"].value or 0.0 for code, entry in found.languages.items()}
    assert own["en"] == 1.0 and own["es"] > own["ru"]
    for code in WEAK:
        entry = found.languages[code]
        assert entry.reward_accuracy is not None and entry.translated is not None
        assert entry.verdict == "train"
        assert entry.reward_accuracy["verified"].ci95[0] > 0.5
        assert (entry.translated.value("accuracy") or 0.0) > own[code]
        assert entry.translations == 60 and (entry.translation_failed or 0.0) < 0.1
    assert (found.languages["ru"].off_target or 0.0) > 0 == found.languages["en"].off_target
    assert (found.languages["ru"].lpr or 0.0) < 1 == found.languages["en"].lpr


def test_a_probe_is_done_once_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = probed(tmp_path / "whole")
    config, run_dir = start(tmp_path / "cut")
    monkeypatch.setattr("lidr.stages.translations.run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        probe.run(config, run_dir, 0)
    assert not run_dir.probe(0).exists()
    monkeypatch.undo()
    answered = (tmp_path / "cut/probe/M0/iteration_1/2_responses/en.jsonl").stat().st_mtime_ns
    with run_dir.lock() as lock:
        assert loop.step("probe", config, run_dir, 0, lock)
        assert not loop.step("probe", config, run_dir, 0, lock)
    assert (tmp_path / "cut/probe/M0/iteration_1/2_responses/en.jsonl").stat().st_mtime_ns == answered
    assert read_imbalance(run_dir) == whole


def test_by_a_judge_and_by_known_answers(tmp_path: Path) -> None:
    with TestServer(RuleJudge()) as server:
        judge = [
            "evaluation.judge.model=rule",
            "evaluation.judge.engine.type=openai",
            f"evaluation.judge.engine.base_url={server.base_url}",
        ]
        found = probed(tmp_path / "run", "probe.by=both", "probe.prompts=20", "languages=[en, ru]", *judge)
    assert found.by == ("verified", "judge")
    russian = found.languages["ru"]
    assert russian.reward_accuracy is not None and russian.translated is not None
    assert set(russian.reward_accuracy) == {"verified", "judge"}
    assert 1 <= (russian.own.value("score") or 0) <= (russian.translated.value("score") or 0) <= 10
    # English answers to Russian prompts lose by the rule on languages, whatever the judge says.
    assert (russian.reward_accuracy["judge"].value or 0) > 0.5


def test_the_stop_rule_ends_a_run_whose_teacher_breaks(tmp_path: Path) -> None:
    """At this learning rate English falls in the first iteration and everything after it (docs/laboratory.md)."""
    config, run_dir = start(
        tmp_path / "run", "iterations=4", "probe.stop=true", "probe.prompts=120",
        "training.learning_rate=1e-3", "training.epochs=3",
    )  # fmt: skip
    loop.run(config, run_dir)
    found = read_progress(run_dir, 1)
    assert found is not None and found.stop and found.keep == 0
    assert "en" in found.losses and "dominant" in found.reason
    assert not run_dir.iteration(2).exists()
    results = json.loads(run_dir.results.read_text())
    assert [model["name"] for model in results["models"]] == ["M0", "M1"]
    before = {path: path.stat().st_mtime_ns for path in run_dir.path.rglob("*.json*") if path.is_file()}
    loop.run(config, run_dir)  # finished: nothing is made again
    assert {path: path.stat().st_mtime_ns for path in before} == before


def probe_of(dominant: str, **verdicts: ProbeVerdict) -> ImbalanceProbe:
    languages = {code: LanguageProbe(Metrics(), 0.0, verdict) for code, verdict in verdicts.items()}
    return ImbalanceProbe("M0", dominant, ("verified",), 10, languages)


def test_a_language_without_signal_is_left_out_when_the_probe_is_obeyed() -> None:
    config = load_config("quickstart", ["probe.obey=true", "dominant=es"])
    found = probe_of("en", en="dominant", es="train", fr="weak", de="drop", ru="drop")
    obeyed = probe.obeyed(config, found)
    assert obeyed.languages == ["en", "es", "fr"] and obeyed.dominant == "en"
    assert obeyed.probe is not None and obeyed.probe.languages == config.languages
    # What was probed stays the same, so the probe is not owed again.
    assert prompts.held_out_inputs(obeyed) == prompts.held_out_inputs(config)
    found = probe_of("en", en="dominant", es="drop", fr="drop", de="drop", ru="drop")
    with pytest.raises(RunError, match="nothing to train: es: its direct answers are better"):
        probe.obeyed(config, found)


def test_findings_that_a_recipe_cannot_follow_are_errors() -> None:
    found = probe_of("en", en="dominant", es="train")
    settings = ["probe.obey=true", "dominant=es", "languages=[en, es, fr]"]
    with pytest.raises(ConfigError, match=r"does not fit what the probe found .*pairs\.dominant_rejected 'en'"):
        probe.obeyed(load_config("quickstart", [*settings, "pairs.dominant_rejected=en"]), found)
    # What was probed beside the recipe's languages is not trained, and what was not probed stays.
    found = probe_of("en", en="dominant", es="train", it="train")
    assert probe.obeyed(load_config("quickstart", settings), found).languages == ["en", "es", "fr"]
    with pytest.raises(RunError, match="it dominant, which is not among"):
        probe.obeyed(load_config("quickstart", settings), replace(found, dominant="it"))


def test_the_named_language_stays_dominant_within_noise() -> None:
    def quality(**intervals: tuple[float, float, float] | None) -> dict[str, Metrics]:
        return {
            code: Metrics({"accuracy": Metric(value[0], value[1:]) if value else Metric(None)})
            for code, value in intervals.items()
        }

    close = quality(en=(0.94, 0.84, 0.98), es=(0.96, 0.87, 0.99))
    assert probe.best_language(close, "verified", "en") == "en"
    assert probe.best_language(close, "verified", "es") == "es"
    clear = quality(en=(0.4, 0.3, 0.5), es=(0.9, 0.8, 0.95))
    assert probe.best_language(clear, "verified", "en") == "es"
    assert probe.best_language(quality(en=None, es=(0.1, 0.0, 0.3)), "verified", "en") == "es"
    with pytest.raises(RunError, match="no answer that could be judged"):
        probe.best_language(quality(en=None, es=None), "verified", "en")


def test_a_model_trained_on_the_sample_is_not_measured_on_it(tmp_path: Path) -> None:
    config, run_dir = start(tmp_path / "run", "probe.stop=true", "probe.prompts=5")
    prompts.run(config.model_copy(update={"probe": None}), run_dir, 1)
    with pytest.raises(RunError, match="was not trained with this probe's sample kept apart"):
        probe.run(config, run_dir, 1)


def test_the_sample_is_kept_out_of_training(prompts_folder: Path, tmp_path: Path) -> None:
    config = make_config(prompts_folder, probe={"prompts": 2})
    run_dir = RunDir.start(config, tmp_path / "run", say=print)
    prompts.run(config, run_dir, 1)
    held_out = {group["en"].prompt_id for group in prompts.hold_out(config, run_dir)}
    trained = {group["en"].prompt_id for group in prompts.read_groups(run_dir, 1)}
    assert len(held_out) == 2 and len(trained) == 4 and not held_out & trained
    everything = make_config(prompts_folder, probe={"prompts": 6})
    with pytest.raises(DataError, match="leaves nothing to train on"):
        list(prompts.load_prompts(everything, {f"p{number}" for number in range(6)}))


def test_known_answers_come_from_their_column(tmp_path: Path) -> None:
    folder = tmp_path / "prompts"
    folder.mkdir()
    for code in ("en", "es"):
        rows = [{"id": str(n), "instruction": f"{n} + 1?", "solution": f"so #### {n + 1}"} for n in range(4)]
        (folder / f"{code}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"path": str(folder), "fields": {"answer": "solution"}}
    config = make_config(folder, languages=["en", "es"], prompts=source, probe={})
    sample = list(prompts.load_held_out(config))
    assert {(row.text, row.answer) for row in sample} >= {("3 + 1?", "so #### 4")}
    assert probe.judged_by(config) == ["verified"]
    plain = make_config(folder, languages=["en", "es"], probe={})
    assert probe.judged_by(plain) == []
    with pytest.raises(ConfigError, match=r"prompts\.fields\.answer"):
        probe.run(plain, RunDir.start(plain, tmp_path / "run", say=print), 0)
    with pytest.raises(ConfigError, match=r"evaluation\.judge"):
        probe.judged_by(make_config(folder, languages=["en", "es"], probe={"by": "judge"}))


@pytest.mark.parametrize(
    ("text", "known", "language", "right"),
    [
        ("Es sind 1.250 Euro.", "1250", "de", True),
        ("Es sind 1,25 Euro.", "1250", "de", False),
        ("They sell 18.", "16 - 3 - 4 = 9\n#### 18", "en", True),
        ("Pan es de madera. ", "Pan es de madera.", "es", True),
        ("Pan es de oro.", "Pan es de madera.", "es", False),
        ("", "7", "en", False),
    ],
)
def test_an_answer_is_right_by_number_or_text(text: str, known: str, language: str, right: bool) -> None:
    assert is_right(text, known, language) is right


def test_duels_are_counted_without_ties_and_unscored_ones() -> None:
    results = [1] * 9 + [-1] + [0] * 5 + [None] * 2
    counted = count_duels([Duel(str(n), "es", result) for n, result in enumerate(results)])
    assert counted.value == 0.9 and counted.ties == 5 and counted.unscored == 2
    assert counted.direction == 1
    swapped = count_duels([Duel(str(n), "es", None if r is None else -r) for n, r in enumerate(results)])
    assert swapped.direction == -1 and swapped.value == 0.1 and swapped.p == counted.p
    assert count_duels([]).direction == 0 and count_duels([]).value is None


def test_languages_together_count_a_prompt_once() -> None:
    """Five languages that say the same are one piece of evidence, not five."""
    duels = [Duel(str(n), code, 1) for n in range(3) for code in ("en", *WEAK)]
    together = count_together(duels)
    assert (together.wins, together.losses) == (3, 0)
    mixed = [Duel("1", "es", 1), Duel("1", "fr", -1), Duel("2", "es", -1), Duel("2", "fr", None)]
    assert (count_together(mixed).wins, count_together(mixed).losses, count_together(mixed).ties) == (0, 1, 1)


@pytest.mark.parametrize(
    ("directions", "together", "stop"),
    [
        ({"en": 0, "es": 1, "ru": 0}, 1, False),
        ({"en": 0, "es": 0, "ru": 0}, 1, False),  # each gain is small, all together are not
        ({"en": 0, "es": 0, "ru": 0}, 0, True),
        ({"en": -1, "es": 1, "ru": 1}, 1, True),  # the teacher
        ({"en": 1, "es": 0, "ru": -1}, -1, True),
        ({"en": 0, "es": -1, "ru": 1}, 0, False),
    ],
)
def test_when_to_stop(directions: dict[str, int], together: int, stop: bool) -> None:
    _, _, reason = probe.stop_or_go(directions, together, "en")
    assert bool(reason) is stop


def test_the_held_out_sample_asks_for_the_trained_facts_in_another_form() -> None:
    config = load_config("quickstart", ["probe={}"])
    sample = list(prompts.load_held_out(config))
    trained = {prompt.text for prompt in prompts.load_prompts(config)}
    assert Counter(prompt.language for prompt in sample) == dict.fromkeys(config.languages, 50)
    assert all(isinstance(prompt, Prompt) and prompt.answer for prompt in sample)
    assert not trained & {prompt.text for prompt in sample}
