"""A damaged file of a run is refused by its own name with a way out; it is never used, and no result changes unsaid."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lidr.cards import Published, write_cards
from lidr.cli import app
from lidr.commands.export.collect import read_pairs, select
from lidr.config import Config
from lidr.errors import DamagedError, LidrError, RunError
from lidr.models import check_trained, combined, file_hashes
from lidr.report import page as report
from lidr.results import Saved, read_results
from lidr.run_dir import RunDir
from lidr.seals import RowFile, is_sealed, read_document, read_rows, read_seal, seal, write_sealed
from lidr.stages.results import write_results
from lidr.stages.training import read_training_summary
from lidr.status import run_status
from lidr.storage import partial_path, write_text
from tests.conftest import ToyEngine, ToyRun
from tests.support.publishing import finish, results

ROWS = [json.dumps({"id": f"{number:016x}", "text": f"row {number}"}) for number in range(5)]


def cut(data: bytes) -> bytes:
    return b"".join(data.splitlines(True)[:-1])


def flip(data: bytes) -> bytes:
    """One bit of a character in the middle: the size stays, and here the JSON does, too."""
    place = data.index(b"row 2") + 4
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def no_text(data: bytes) -> bytes:
    return bytes([data[0] | 128]) + data[1:]


DAMAGES: list[Callable[[bytes], bytes]] = [cut, flip, no_text, lambda data: b"", lambda data: b"[" * len(data)]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("older", [False, True])
def test_a_sealed_file_is_compared_with_its_seal_when_it_is_read(
    damage: Callable[[bytes], bytes], older: bool, tmp_path: Path
) -> None:
    path = tmp_path / "es.jsonl"
    write_sealed(path, {"a": 1}, ROWS)
    assert len(list(read_rows(path))) == 5
    if older:  # whose seals do not have the size
        note = tmp_path / ".es.jsonl.seal.json"
        note.write_text(
            json.dumps({k: v for k, v in json.loads(note.read_text()).items() if k not in ("size", "check")})
        )
        assert is_sealed(path, {"a": 1})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DamagedError, match=r"es\.jsonl.*delete it and start the run again"):
        list(read_rows(path))
    with pytest.raises(DamagedError, match=r"es\.jsonl"):
        RowFile(path, {"a": 2}).open([f"{number:016x}" for number in range(5)])
    assert path.exists()
    if not older and damage in (cut, DAMAGES[3]):
        with pytest.raises(DamagedError, match=r"es\.jsonl: damaged: it has [\d,]+ bytes, and had 220"):
            is_sealed(path, {"a": 1})


@pytest.mark.parametrize("content", ["", "null", "[]", "{", '{"rows": 1}', '{"inputs": 5, "rows": 1, "sha256": "a"}',
                                     '{"inputs": {}, "rows": "many", "sha256": "a"}', "\xff"])  # fmt: skip
def test_a_damaged_seal_is_named(content: str, tmp_path: Path) -> None:
    path = tmp_path / "es.jsonl"
    write_sealed(path, {}, ROWS)
    (tmp_path / ".es.jsonl.seal.json").write_text(content, encoding="latin-1")
    with pytest.raises(DamagedError, match=r"\.es\.jsonl\.seal\.json: this seal is damaged; delete it"):
        read_seal(path)


def test_a_damaged_document_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_sealed(path, {}, [json.dumps({"es": {"accuracy": 0.25}}, indent=1)])
    assert read_document(path) == {"es": {"accuracy": 0.25}}
    path.write_text(path.read_text().replace("0.25", "0.75"))
    with pytest.raises(DamagedError, match=r"metrics\.json: damaged: its content is not what was finished"):
        read_document(path)


def test_a_damaged_file_is_made_again_once_it_is_deleted(toy_run: ToyRun) -> None:
    toy_run.run("prompts", "responses", "translations", "pairs")
    run, pairs = toy_run.run_dir, toy_run.run_dir.pairs(1, "es").read_bytes()
    answers = run.responses(1, "es")
    before = answers.read_bytes()
    answers.write_bytes(cut(before))
    for stage in ("responses", "translations", "pairs"):
        with pytest.raises(DamagedError, match=r"2_responses/es\.jsonl: damaged"):
            toy_run.run(stage)
    answers.unlink()
    engine = toy_run.use(ToyEngine())
    toy_run.run("responses", "translations", "pairs")
    assert len(engine.asked) == 6, "only the answers in this language are asked for again"
    assert answers.read_bytes() == before
    assert run.pairs(1, "es").read_bytes() == pairs


@pytest.mark.parametrize("name", ["1_prompts.jsonl", "2_responses/es.jsonl", "3_translations/en-es.jsonl"])
def test_what_pairs_are_made_from_is_read_to_its_seal(name: str, toy_run: ToyRun) -> None:
    toy_run.run("prompts", "responses", "translations")
    file = toy_run.run_dir.iteration(1) / name
    data = file.read_bytes()
    file.write_bytes(data.replace(b"1", b"2", 1) if b"1" in data else data)
    with pytest.raises(DamagedError, match=name.replace(".", r"\.")):
        toy_run.run("pairs")
    assert not toy_run.run_dir.pair_summary(1).exists()


def test_pairs_must_be_those_that_the_summary_counted(toy_run: ToyRun, tmp_path: Path) -> None:
    toy_run.run("prompts", "responses", "translations", "pairs")
    config, run = toy_run.config, toy_run.run_dir
    chosen = select(config, run, None, [])
    assert list(read_pairs(run, chosen, system=False))
    rows = run.pairs(1, "es").read_text(encoding="utf-8").splitlines()
    write_sealed(run.pairs(1, "es"), {}, rows[:-1])  # a file of its own, with a good seal
    with pytest.raises(DamagedError, match=r"es\.jsonl: not the file that .*summary\.json has counted"):
        list(read_pairs(run, chosen, system=False))
    run.pairs(1, "es").unlink()
    with pytest.raises(RunError, match=r"es\.jsonl is not complete"):
        list(read_pairs(run, chosen, system=False))
    assert ("1", "pairs", "partial") in [row[:3] for row in run_status(config, run)]


@pytest.fixture
def finished(toy_run: ToyRun) -> tuple[Config, RunDir]:
    return finish(toy_run)


def test_status_names_a_damaged_file_once(finished: tuple[Config, RunDir]) -> None:
    config, run = finished
    run.responses(1, "fr").write_text("", encoding="utf-8")
    states = [row[2] for row in run_status(config, run)]
    assert states.count("damaged") == 1
    [detail] = [row[3] for row in run_status(config, run) if row[2] == "damaged"]
    assert "2_responses/fr.jsonl" in detail
    result = CliRunner().invoke(app, ["status", str(run.path)], env={"COLUMNS": "300"})
    assert result.exit_code == 0 and "damaged" in result.stdout


def sealed_model(run: RunDir) -> Path:
    folder = run.model_folder(1)
    partial = partial_path(folder)
    shutil.copytree(folder, partial)
    hashes = file_hashes(partial)
    kept = read_seal(folder)
    assert kept
    seal(partial, folder, kept.inputs, kept.rows, combined(hashes), hashes)
    return folder


def test_a_trained_model_is_compared_with_its_seal_before_it_is_loaded(finished: tuple[Config, RunDir]) -> None:
    _, run = finished
    folder = sealed_model(run)
    weights = folder / "model.safetensors"
    check_trained(folder, run.model_cache)
    before = weights.read_bytes()
    weights.write_bytes(before[:-9] + bytes([before[-9] ^ 1]) + before[-8:])
    with pytest.raises(DamagedError, match=r"5_model/model\.safetensors: damaged.*delete all of .*5_model and start"):
        check_trained(folder, run.model_cache)
    weights.write_bytes(before)
    check_trained(folder, run.model_cache)
    (folder / "generation_config.json").write_text("{}")
    with pytest.raises(DamagedError, match=r"generation_config\.json: damaged: it has 2 bytes"):
        check_trained(folder, run.model_cache)
    (folder / "generation_config.json").unlink()
    with pytest.raises(DamagedError, match=r"generation_config\.json: damaged: it is missing"):
        read_seal(folder)


def test_another_file_in_a_trained_model_is_named(finished: tuple[Config, RunDir]) -> None:
    _, run = finished
    folder = sealed_model(run)
    (folder / "special_tokens_map.json").write_text("{}")
    with pytest.raises(DamagedError, match=r"special_tokens_map\.json: this file is no part of the model.*move it"):
        check_trained(folder, run.model_cache)


def test_damaged_weights_are_neither_pushed_nor_trained_from(finished: tuple[Config, RunDir]) -> None:
    config, run = finished
    weights = run.model_folder(1) / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    with pytest.raises(DamagedError, match="5_model"):
        run.checked_model(config, 1)
    result = CliRunner().invoke(app, ["push", str(run.path), "--model-repo", "org/model"])
    assert isinstance(result.exception, DamagedError) and "5_model" in str(result.exception)


def test_a_model_without_its_seal_is_not_trained_over(finished: tuple[Config, RunDir]) -> None:
    from lidr.stages import training

    config, run = finished
    (run.iteration(1) / ".5_model.seal.json").unlink()
    with pytest.raises(DamagedError, match=r"5_model: its seal .* is missing; put it back"):
        training.run(config, run, 1)
    assert (run.model_folder(1) / "model.safetensors").exists()


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"models": 5}', '{"models": [{"name": 5, "benchmarks": {}}]}', "\xff",
     '{"models": [{"name": "Mx", "benchmarks": {}}]}', '{"models": [], "iterations": [{"iteration": "x"}]}'],
)  # fmt: skip
def test_damaged_results_are_named(content: str, finished: tuple[Config, RunDir]) -> None:
    _, run = finished
    run.results.write_text(content, encoding="latin-1")
    with pytest.raises(DamagedError, match=r"results\.json: damaged.*lidr report .*writes it again"):
        read_results(run)


def test_results_are_compared_with_what_was_measured(finished: tuple[Config, RunDir]) -> None:
    _, run = finished
    measured = results()["models"][0]["benchmarks"]["lab"]
    write_sealed(run.evaluation(0, "lab") / "metrics.json", {}, [json.dumps(measured)])
    assert read_results(run).models
    write_text(run.results, run.results.read_text().replace("0.95", "0.96"))
    with pytest.raises(DamagedError, match=r"results\.json: M0's lab is not what .*metrics\.json says"):
        read_results(run)


def test_what_results_leave_out_is_said(toy_run: ToyRun, capsys: pytest.CaptureFixture[str]) -> None:
    toy_run.run("prompts", "responses", "translations", "pairs")
    toy_run.run_dir.prompts(1).unlink()
    assert write_results(toy_run.config, toy_run.run_dir).iterations == ()
    assert "4_pairs/summary.json is left out of the results: " in capsys.readouterr().err


def test_a_damaged_log_is_read_around(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunDir(tmp_path)
    good = {"iteration": 1, "stage": "pairs", "seconds": 1.0}
    run.log("stage", **good)
    with run.metrics.open("ab") as file:
        file.write(
            b'{"event": "stage", "iteration": 1}\nnull\n\xff\xfe\n{"event": "train", "step": "x"}\n{"event": "st'
        )
    run.log("stage", **good)
    assert [event["event"] for event in run.read_log()] == ["stage", "stage"], "the torn line costs no other"
    list(run.read_log())
    assert capsys.readouterr().err.count("left out 5 damaged lines, the first is line 2") == 1
    with run.metrics.open("ab") as file:
        file.write(b'{"event": "st')
    assert len(list(run.read_log())) == 2


def test_a_damaged_count_of_long_pairs_is_named(finished: tuple[Config, RunDir]) -> None:
    _, run = finished
    assert read_training_summary(run, 1).too_long == {}, "which is known without the file"
    kept = read_seal(run.model_folder(1))
    assert kept
    note = run.iteration(1) / ".5_model.seal.json"
    note.write_text(json.dumps({"inputs": kept.inputs, "rows": kept.rows - 2, "sha256": kept.sha256}))
    run.training(1).mkdir(exist_ok=True)
    for content in ("", "{}", '{"too_long": 5}', '{"too_long": {"es": 1}}', '{"too_long": {"es": "two"}}'):
        (run.training(1) / "summary.json").write_text(content)
        with pytest.raises(DamagedError, match=r"5_training/summary\.json: damaged"):
            read_training_summary(run, 1)
    (run.training(1) / "summary.json").write_text('{"too_long": {"es": 2}}')
    assert read_training_summary(run, 1).too_long == {"es": 2}


@pytest.mark.parametrize("content", ["", "[]", "a: [", "\xff", "5"])
def test_a_damaged_recipe_or_environment_is_named(content: str, finished: tuple[Config, RunDir]) -> None:
    config, run = finished
    write_results(config, run)
    (run.path / "environment.json").write_text(content, encoding="latin-1")
    with pytest.raises(DamagedError, match=r"environment\.json: damaged .*; delete it"):
        report.run(config, run)
    run.recipe.write_text(content, encoding="latin-1")
    with pytest.raises(LidrError, match=r"recipe\.yaml: "):
        RunDir.start(config, run.path, say=print)


def test_a_damaged_name_of_a_field_is_found_before_the_row_is_used(toy_run: ToyRun) -> None:
    toy_run.run("prompts", "responses", "translations", "pairs")
    config, run = toy_run.config, toy_run.run_dir
    path = run.pairs(1, "es")
    path.write_bytes(path.read_bytes().replace(b'"chosen":', b'"bhosen":', 1))
    with pytest.raises(DamagedError, match=r"es\.jsonl: damaged: its content"):
        list(read_pairs(run, select(config, run, None, []), system=False))


@pytest.mark.parametrize("name", ["4_pairs/summary.json", "4_pairs/.summary.json.seal.json", ".5_model.seal.json"])
@pytest.mark.parametrize("command", [["card"], ["export", "-f", "trl", "--out", "out"]])
def test_what_a_trained_model_was_made_from_must_be_there(
    name: str, command: list[str], finished: tuple[Config, RunDir], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, run = finished
    monkeypatch.chdir(tmp_path)
    (run.iteration(1) / name).unlink()
    result = CliRunner().invoke(app, [*command, str(run.path)])
    assert isinstance(result.exception, RunError)
    assert ("5_model" if "5_model" in name else "4_pairs/summary.json") in str(result.exception)


def test_a_report_that_is_no_text_is_written_again(finished: tuple[Config, RunDir]) -> None:
    config, run = finished
    write_results(config, run)
    report.run(config, run)
    assert not report.is_outdated(run)
    (run.path / "report.html").write_bytes(b"\xff\xfe\x00" * 1000)
    assert report.is_outdated(run)


def test_a_missing_summary_of_a_training_is_named_while_its_seal_is_there(finished: tuple[Config, RunDir]) -> None:
    _, run = finished
    path = run.training(1) / "summary.json"
    saved = Saved(32, "margin", 0.5, 0.5, "float32", "float32", 1.0)
    write_sealed(path, {}, [json.dumps({"too_long": {}, "saved": asdict(saved)})])
    assert read_training_summary(run, 1).saved == saved
    path.unlink()
    with pytest.raises(DamagedError, match=r"summary\.json: damaged or missing; put it back, or delete it and its"):
        read_training_summary(run, 1)


def test_cards_say_that_results_are_missing(
    finished: tuple[Config, RunDir], capsys: pytest.CaptureFixture[str]
) -> None:
    config, run = finished
    run.results.unlink()
    write_cards(config, run, None, Published(), run.path / "out")
    assert "results.json is missing, so the cards have no figures; `lidr report" in capsys.readouterr().err
