"""What would fail later in a run is found before anything is spent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lidr import loop
from lidr.config import Config, load_config
from lidr.errors import ConfigError, DataError
from lidr.lab import MODEL_PATH
from lidr.preflight import check, check_owed
from lidr.run_dir import RunDir
from tests.support.tiny_tokenizers import CHATML, byte_level

JUDGE = "evaluation.judge={model: m, engine: {type: openai, base_url: 'http://127.0.0.1:9/v1'}}"


@pytest.fixture(autouse=True)
def _engines_stay_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model is loaded here."""

    @contextmanager
    def open_none(*_: Any) -> Iterator[None]:
        raise AssertionError("an engine was opened")
        yield

    for stage in ("responses", "translations", "evaluation", "probe"):
        monkeypatch.setattr(f"lidr.stages.{stage}.open_engine", open_none, raising=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["engine.device=cuda:99"], r"engine\.device cuda:99: no such GPU"),
        (["engine.device=mps"], r"engine\.device mps: not on this machine"),
        (["training.report_to=[trackio]"], r"training\.report_to trackio: not installed"),
        (["training.distributed=nowhere.yaml"], r"training\.distributed nowhere\.yaml: neither ddp, fsdp2"),
        (["training.launch=no-such-launcher --nodes 2"], r"training\.launch: there is no command no-such-launcher"),
        (["training.launch=python $NOT_SET_ANYWHERE"], "the environment variable NOT_SET_ANYWHERE is not set"),
        (["training.lora={targets: [q_proj, banana]}"], r"no module banana; it has .*q_proj"),
        ([JUDGE, "evaluation.judge.engine={type: openai, launch: 'no-such-server {model} {port}'}"],
         r"evaluation\.judge\.engine\.launch: there is no command no-such-server"),
        ([JUDGE, "evaluation.judge.engine={type: openai}"], "OPENAI_API_KEY"),
        (["evaluation.benchmarks.mgsm={path: ./nowhere, languages: [en]}"], "nowhere: no such folder"),
        ([JUDGE, "evaluation.benchmarks.mt_bench={path: ./nowhere}"], "nowhere: no such folder"),
        ([JUDGE, "evaluation.benchmarks.x_alpacaeval={reference: ./nowhere}"], "nowhere"),
        ([JUDGE, "evaluation.benchmarks.head_to_head={path: ./nowhere}"], "nowhere: no such folder"),
        (["evaluation.benchmarks.language_confusion={path: ./nowhere}"], "nowhere: no such folder"),
    ],
    ids=lambda value: str(value)[:70],
)  # fmt: skip
def test_it_is_found_before_anything_is_spent(
    settings: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    config = load_config("quickstart", ["probe={prompts: 2}", *settings])
    run_dir = RunDir.start(config, tmp_path / "run", say=print)
    with pytest.raises((ConfigError, DataError), match=message):
        loop.run(config, run_dir)
    assert not list(run_dir.path.glob("iteration_*")) and not (run_dir.path / "probe").exists()


def test_a_damaged_file_of_a_benchmark_is_found_before_another_is_asked(tmp_path: Path) -> None:
    folder = tmp_path / "mgsm"
    folder.mkdir()
    (folder / "en.jsonl").write_text(json.dumps({"query": "What is 1 and 1?", "response": "2"}) + "\n")
    (folder / "es.jsonl").write_text(json.dumps({"query": "What is 1 and 1?", "response": "two"}) + "\n")
    settings = f"evaluation.benchmarks={{lab: {{}}, mgsm: {{path: {folder}, languages: [en, es]}}}}"
    config = load_config("evaluation", [settings])
    run_dir = RunDir.start(config, tmp_path / "run", say=print)
    with pytest.raises(DataError, match=r"es\.jsonl:1"):
        loop.run(config, run_dir)
    assert not list(run_dir.path.rglob("*.jsonl"))


def test_a_chat_template_that_cannot_be_trained_with_is_found(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(MODEL_PATH, model)
    byte_level(CHATML.replace("<|im_end|>", "<|stop|>")).save_pretrained(model)
    config = load_config("quickstart", [f"model.path={model}"])
    run_dir = RunDir.start(config, tmp_path / "run", say=print)
    with pytest.raises(ConfigError, match="does not end the assistant's turn"):
        loop.run(config, run_dir)


def test_what_is_right_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEAD", "node1")
    settings = ["training.lora={targets: [q_proj, down_proj]}", "training.launch=python -m x $HEAD",
                "training.report_to=[tensorboard]", "training.distributed=fsdp2"]  # fmt: skip
    config = load_config("quickstart", settings)
    check(config, RunDir.start(config, tmp_path / "run", say=print))


def test_a_finished_run_needs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be looked at on a machine that has neither the device nor the packages."""
    config: Config = load_config("quickstart", ["engine.device=cuda:99", "iterations=0"])
    run_dir = RunDir.start(config, tmp_path / "run", say=print)
    monkeypatch.setattr("lidr.preflight.run_status", lambda *_: [("0", "evaluation", "done", "")])
    check_owed(config, run_dir)
