"""Checkpoints: a damaged one is not used, the one before it is, and the weights are those of a whole training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lidr.errors import RunError
from lidr.run_dir import RunDir
from lidr.storage import partial_path
from lidr.training import worker
from lidr.training.checkpoints import COMPLETE, forget_after, last_checkpoint, layout, mark_complete
from tests.support.written_pairs import same, train, with_settings, written_run

LORA = "training.lora={rank: 2, alpha: 4, dropout: 0.1}"
SETTINGS = ("training.save_steps=2",)


class Killed(BaseException):
    pass


@pytest.fixture(scope="module", params=[(), (LORA,)], ids=["full", "lora"])
def killed(
    request: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, tuple[str, ...], dict[str, torch.Tensor]]:
    """A run that died at step 5 of 6 with checkpoints of steps 2 and 4, its settings, and the undisturbed weights."""
    folder = tmp_path_factory.mktemp("checkpoints")
    settings = (*SETTINGS, *request.param)
    undisturbed = train(*written_run(folder / "undisturbed", *settings))
    run, config = written_run(folder / "killed", *settings)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(worker.Telemetry, "on_step_begin", dies_at(4), raising=False)
        with pytest.raises(Killed):
            train(run, config)
    assert steps(run) == [2, 4]
    return run.path, settings, undisturbed


def dies_at(step: int) -> Callable[..., None]:
    def on_step_begin(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == step:
            raise Killed

    return on_step_begin


@pytest.mark.parametrize(("minutes", "kept"), [("1e-6", [2, 3]), ("10", []), ("null", [])])
def test_a_checkpoint_is_written_when_the_last_one_is_old(minutes: str, kept: list[int], tmp_path: Path) -> None:
    run, config = written_run(tmp_path, "training.save_steps=100", f"training.save_minutes={minutes}")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(worker.Telemetry, "on_step_begin", dies_at(3), raising=False)
        with pytest.raises(Killed):
            train(run, config)
    assert (steps(run) if (run.training(1) / "checkpoints").exists() else []) == kept


def steps(run: RunDir) -> list[int]:
    return sorted(int(path.name.rpartition("-")[2]) for path in (run.training(1) / "checkpoints").iterdir())


def logged(run: RunDir) -> list[int]:
    return [row["step"] for row in run.read_log() if row["event"] == "train"]


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


FILES = ["*model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json", "rng_state.pth"]


@pytest.mark.parametrize("damage", [truncate, empty, flip, Path.unlink])
@pytest.mark.parametrize("name", FILES)
def test_every_damage_is_found(killed: Any, tmp_path: Path, damage: Callable[[Path], None], name: str) -> None:
    path, _, _ = killed
    folder = tmp_path / "checkpoints"
    shutil.copytree(RunDir(path).training(1) / "checkpoints", folder)
    assert last_checkpoint(folder) == folder / "checkpoint-4"
    damage(next((folder / "checkpoint-4").glob(name)))
    assert last_checkpoint(folder) == folder / "checkpoint-2"


@pytest.mark.parametrize("damage", [truncate, empty])
@pytest.mark.parametrize("name", FILES)
def test_damage_is_found_under_the_empty_mark_of_earlier_versions(
    killed: Any, tmp_path: Path, damage: Callable[[Path], None], name: str
) -> None:
    path, _, _ = killed
    folder = tmp_path / "checkpoints"
    shutil.copytree(RunDir(path).training(1) / "checkpoints", folder)
    for checkpoint in folder.iterdir():
        (checkpoint / COMPLETE).write_text("")
    assert last_checkpoint(folder) == folder / "checkpoint-4"
    damage(next((folder / "checkpoint-4").glob(name)))
    assert last_checkpoint(folder) == folder / "checkpoint-2"


def test_the_checkpoint_before_a_damaged_one_is_used(
    killed: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, settings, undisturbed = killed
    run = RunDir(Path(shutil.copytree(path, tmp_path / "run")))
    truncate(run.training(1) / "checkpoints" / "checkpoint-4" / "optimizer.pt")
    before = len(logged(run))
    assert same(train(run, with_settings(*settings)), undisturbed)
    assert logged(run)[before:] == [3, 4, 5, 6]
    assert "checkpoint-4 is not used" in (said := capsys.readouterr().err) and "continues from checkpoint-2" in said
    events = [row for row in run.read_log() if row["event"] == "checkpoint"]
    assert len(events) == 1 and "continues from checkpoint-2" in events[0]["message"]


def test_where_no_checkpoint_is_good_training_starts_over(
    killed: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, settings, undisturbed = killed
    run = RunDir(Path(shutil.copytree(path, tmp_path / "run")))
    for checkpoint in (run.training(1) / "checkpoints").iterdir():
        (checkpoint / COMPLETE).write_text("?")
    before = len(logged(run))
    assert same(train(run, with_settings(*settings)), undisturbed)
    assert logged(run)[before:] == [1, 2, 3, 4, 5, 6]
    assert capsys.readouterr().err.count("training starts over") == 2


def test_what_defines_nothing_takes_its_new_value_in_a_training_that_continues(
    killed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, settings, undisturbed = killed
    run = RunDir(Path(shutil.copytree(path, tmp_path / "run")))
    marked: list[str] = []
    monkeypatch.setattr("lidr.training.trainer.mark_complete", lambda folder, _: marked.append(folder.name))
    changed = with_settings(*settings, "training.save_steps=1", "training.gradient_checkpointing=true")
    assert same(train(run, changed), undisturbed)
    assert marked == ["checkpoint-5", "checkpoint-6"]


def test_a_checkpoint_of_a_model_that_was_shared_otherwise_is_not_used(tmp_path: Path) -> None:
    zero3 = with_settings("training.distributed=zero3").training
    checkpoint = tmp_path / "checkpoint-3"
    checkpoint.mkdir()
    (checkpoint / "model.bin").write_text("shares")
    mark_complete(checkpoint, layout(zero3, processes=4))
    reasons: list[str] = []
    assert last_checkpoint(tmp_path, layout(zero3, processes=4)) == checkpoint
    assert last_checkpoint(tmp_path, layout(zero3, processes=2), reasons.append) is None
    assert last_checkpoint(tmp_path, layout(with_settings().training, processes=4), reasons.append) is None
    assert all("written with training.distributed zero3 with 4 processes" in reason for reason in reasons)
    assert layout(with_settings().training, 1) == layout(with_settings().training, 8)


def test_newer_checkpoints_than_the_one_used_are_removed(tmp_path: Path) -> None:
    for step in (5, 10, 20):
        (tmp_path / f"checkpoint-{step}").mkdir()
    (tmp_path / "checkpoint-of-mine").mkdir()
    mark_complete(tmp_path / "checkpoint-5", "ddp")
    (tmp_path / "checkpoint-20" / COMPLETE).write_text("{}")
    kept = last_checkpoint(tmp_path)
    assert kept == tmp_path / "checkpoint-5"
    forget_after(tmp_path, kept)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-5", "checkpoint-of-mine"]


def test_damage_beside_the_checkpoints_is_mended(
    killed: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, settings, undisturbed = killed
    run = RunDir(Path(shutil.copytree(path, tmp_path / "run")))
    table = next((run.training(1) / "tokens").glob("*.arrow"))
    truncate(table)
    reference = run.reference_logps(1)
    before = reference.read_text()
    row = json.loads(before.splitlines()[0])
    reference.write_text(before.replace(str(row["chosen"]), str(row["chosen"] - 1)))
    (run.training(1) / "packing.json").write_text("{")
    (run.training(1) / "tmpabc").mkdir()
    assert same(train(run, with_settings(*settings)), undisturbed)
    assert reference.read_text() == before
    assert "reference_logps.jsonl is damaged; its log-probabilities are computed again" in capsys.readouterr().err
    assert not list(run.training(1).glob("tmp*"))


@pytest.mark.parametrize("damage", ['"chosen": "x"', '"chosen": NaN', '"chose": 1', "}{"])
def test_damaged_rows_of_an_unfinished_reference_pass_are_computed_again(
    killed: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    path, settings, undisturbed = killed
    run = RunDir(Path(shutil.copytree(path, tmp_path / "run")))
    reference = run.reference_logps(1)
    before = reference.read_text()
    rows = [json.loads(line) for line in before.splitlines()]
    lines = [json.dumps({name: row[name] for name in ("id", "chosen", "rejected")}) for row in rows[:5]]
    lines[2] = lines[2].replace(f'"chosen": {rows[2]["chosen"]}', damage)
    partial_path(reference).write_text("\n".join(lines) + '\n{"id": "to')
    reference.unlink()
    assert same(train(run, with_settings(*settings)), undisturbed)
    assert reference.read_text() == before
    assert "reference_logps.partial.jsonl is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("setting", ["training.learning_rate=1e-30", f"{LORA} training.learning_rate=1e-30"])
def test_a_training_that_changes_no_weight_is_an_error(tmp_path: Path, setting: str) -> None:
    run, config = written_run(tmp_path / "run", *setting.replace("} ", "}\n").split("\n"))
    for _ in range(2):  # at the next start, too
        with pytest.raises(RunError, match=r"changed not one weight.*Raise training\.learning_rate"):
            train(run, config)
        assert not run.model_folder(1).exists() and not partial_path(run.model_folder(1)).exists()
