"""The record of reproducibility: every value from the run's own files, and nothing if the run knows nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lidr.config import Config, dump_config
from lidr.report import page as report
from lidr.report.pseudocode import pseudocode
from lidr.report.record import make_record, write_record
from lidr.report.variables import VARIABLES
from lidr.run_dir import RunDir
from lidr.seals import write_sealed
from lidr.storage import write_text

ENVIRONMENT = {
    "python": "3.11.7",
    "platform": "Linux",
    "processor": "A processor",
    "cpus": 8,
    "gpus": ["NVIDIA H100, 81559 MiB, 580.1"],
    "packages": {"lidr": "0.1.0", "torch": "2.13.0", "openai": "not installed"},
    "git": {"commit": "0123abcd", "modified": False},
    "seed": 42,
}
FIGURES = {"accuracy": 0.5, "n": 120, "ci95": [0.4, 0.6], "n_held_out": 110}
RESULTS = {
    "schema": 1,
    "models": [{"name": "M0", "path": "lab", "benchmarks": {"lab": {"en": FIGURES, "es": FIGURES}}}],
    "iterations": [{"iteration": 1, "pairs": {"en": 20, "es": 46}, "dropped": {}, "dropped_by_language": {}}],
}


def make_config(**changes: Any) -> Config:
    values: dict[str, Any] = {
        "name": "t",
        "model": {"path": "lab"},
        "languages": ["en", "es"],
        "prompts": {"path": "lab"},
        "evaluation": {"benchmarks": {"lab": {}}},
    }
    return Config.model_validate(values | changes)


def make_run(path: Path, config: Config, environment: dict[str, Any] = ENVIRONMENT) -> RunDir:
    """A run as far as the record reads it."""
    path.mkdir()
    run = RunDir(path)
    write_text(run.recipe, dump_config(config))
    write_text(run.results, json.dumps(RESULTS))
    write_text(path / "environment.json", json.dumps(environment))
    write_sealed(run.prompts(1), {}, ['{"prompt_id": "1"}'] * 240)
    write_sealed(run.responses(1, "en"), {"model": "fingerprint-of-M0"}, ["{}"])
    return run


def look_up(run: RunDir, source: str) -> Any:
    """The value that `file: a.b[0].c` names, read from the run without the record's help."""
    name, _, field = source.partition(": ")
    text = (run.path / name).read_text(encoding="utf-8")
    value = yaml.safe_load(text) if name.endswith(".yaml") else json.loads(text)
    for part in re.findall(r"\w+", field):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def test_every_value_is_in_the_file_that_it_names(tmp_path: Path) -> None:
    config = make_config(about={"affiliation": "A university"})
    run = make_run(tmp_path / "run", config)
    record = make_record(config, run)
    assert list(record) == [variable.name for variable in VARIABLES]
    checked = 0
    for entry in record.values():
        assert entry.value is not None and entry.evidence
        for item in entry.evidence:
            if not item.source.endswith("SHA-256 of the file"):
                found = look_up(run, item.source)
                assert found == (item.value if isinstance(found, str) else json.loads(item.value)), item.source
                checked += 1
    assert checked > 40
    assert record["affiliation"].value == "A university"
    assert "training: 240 prompts" in str(record["data_set_splits"].value)
    assert "iteration 1: 66 pairs" in str(record["data_set_splits"].value)
    assert "questions of lab: en 120 + 110, es 120 + 110" in str(record["data_set_splits"].value)
    assert "NVIDIA H100" in str(record["hardware"].value)
    assert "openai" not in str(record["software_dependencies"].value)
    assert any(item.value == "fingerprint-of-M0" for item in record["experiment_setup"].evidence)


def test_what_the_run_does_not_know_is_not_given(tmp_path: Path) -> None:
    record = make_record(make_config(), RunDir(tmp_path))
    unknown = {name for name, entry in record.items() if entry.value is None}
    assert unknown == {
        "research_type", "affiliation", "open_source_code", "data_set_splits", "hardware", "software_dependencies",
    }  # fmt: skip
    assert all(record[name].missing and record[name].status == "not given" for name in unknown)
    assert "about.affiliation" in str(record["affiliation"].missing)


@pytest.mark.parametrize(
    ("git", "status", "words"),
    [
        ({"commit": "0123abcd", "modified": True}, "given in part", "changed after that commit"),
        ({"commit": "0123abcd", "modified": False}, "given in part", "is public"),
        (None, "given", ""),
    ],
)
def test_changed_code_is_told(tmp_path: Path, git: dict[str, Any] | None, status: str, words: str) -> None:
    config = make_config()
    entry = make_record(config, make_run(tmp_path / "run", config, ENVIRONMENT | {"git": git}))["open_source_code"]
    assert entry.status == status
    assert words in str(entry.missing)


def test_data_on_this_machine_are_not_open(tmp_path: Path) -> None:
    local = make_config(prompts={"path": str(tmp_path)})
    entry = make_record(local, RunDir(tmp_path))["open_data_sets"]
    assert entry.status == "given in part" and "prompts.path" in str(entry.missing)
    hub = make_config(prompts={"path": "org/name"}, evaluation={"benchmarks": {"mgsm": {}, "mmlu": {}}})
    entry = make_record(hub, RunDir(tmp_path))["open_data_sets"]
    assert entry.status == "given"
    assert "org/name on the Hub" in str(entry.value) and "juletxara/mgsm on the Hub" in str(entry.value)
    assert "lm-evaluation-harness" in str(entry.value)


def test_hardware_behind_a_server_is_unknown(tmp_path: Path) -> None:
    served = make_config(iterations=0, model={"path": "big"}, engine={"type": "openai", "base_url": "http://far/v1"})
    entry = make_record(served, make_run(tmp_path / "run", served))["hardware"]
    assert "http://far/v1 ran on hardware that the run does not know" in str(entry.missing)


def test_a_hub_model_without_a_revision_is_told(tmp_path: Path) -> None:
    entry = make_record(make_config(model={"path": "org/model"}), RunDir(tmp_path))["experiment_setup"]
    assert "model.revision" in str(entry.missing)
    pinned = make_config(model={"path": "org/model", "revision": "abc"})
    assert make_record(pinned, RunDir(tmp_path))["experiment_setup"].missing is None


def test_pseudocode_has_the_recipes_parameters() -> None:
    text = "\n".join(pseudocode(make_config(training={"beta": 0.37, "alpha": 0.5}, iterations=3)))
    assert "sigmoid(0.37 *" in text and "0.5 * -log pi(y_w|x) / |y_w|" in text
    assert "for t = 0 ... 2:" in text and "ref = M[t]" in text and "one l per i in rotation" in text
    supervised = "\n".join(pseudocode(make_config(training={"objective": "sft", "reference": "initial"})))
    assert "sigmoid" not in supervised and "ref" not in supervised.replace("preference", "")
    assert "rejected y[i, l->d]" not in "\n".join(pseudocode(make_config(pairs={"dominant_rejected": "none"})))
    assert "and l = es" in "\n".join(pseudocode(make_config(pairs={"dominant_rejected": "es"})))
    only_measured = pseudocode(make_config(iterations=0, prompts=None))
    assert only_measured[1] == "measure M0 on lab" and len(only_measured) == 3


def test_the_record_comes_with_the_report_and_goes_out_of_date_with_it(tmp_path: Path) -> None:
    config = make_config(about={"affiliation": "A | B <script>\n# heading"})
    run = make_run(tmp_path / "run", config)
    report.run(config, run)
    content = json.loads((run.path / "reproducibility.json").read_text(encoding="utf-8"))
    assert content["schema"] == 1
    assert [row["name"] for row in content["variables"]] == [variable.name for variable in VARIABLES]
    assert content["variables"][1]["value"] == "A | B <script>\n# heading"
    page = (run.path / "reproducibility.md").read_text(encoding="utf-8")
    assert "A \\| B \\<script\\> \\# heading" in page and "\n# heading" not in page.partition("```")[0]
    assert "(reproducibility.md)" in (run.path / "report.md").read_text(encoding="utf-8")
    assert 'href="reproducibility.md"' in (run.path / "report.html").read_text(encoding="utf-8")
    assert not report.is_outdated(run)
    (run.path / "reproducibility.md").unlink()
    assert report.is_outdated(run)
    report.run(config, run)
    write_text(run.path / "environment.json", json.dumps(ENVIRONMENT | {"cpus": 9}))
    assert report.is_outdated(run)


def test_the_same_run_gives_the_same_record(tmp_path: Path) -> None:
    config = make_config()
    run = make_run(tmp_path / "run", config)
    texts = []
    for _ in range(2):
        write_record(config, run)
        texts.append((run.path / "reproducibility.md").read_bytes())
    assert texts[0] == texts[1]
