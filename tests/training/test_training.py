"""The training stage on a run directory: several processes, kill -9 and resume, LoRA, trackers, held-out pairs."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file

from lidr.config import load_config
from lidr.errors import ConfigError, RunError
from lidr.lab import MODEL_PATH
from lidr.loop import run as lidr_run
from lidr.models import load_model
from lidr.run_dir import RunDir
from lidr.seals import read_rows, write_sealed
from lidr.stages import STAGES
from lidr.storage import partial_path
from lidr.training.launch import command_line
from lidr.training.reference import add_columns, is_complete, key
from lidr.training.trainer import training_arguments
from tests.support.written_pairs import same, with_settings, written_run
from tests.support.written_pairs import train as train_written

SMALL = ["languages=[en, es, ru]", "prompts.limit=36", "iterations=1", "training.batch_size=8", "pairs.minimum=1"]


@pytest.fixture(scope="module")
def paired(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its pairs, not trained yet."""
    path = tmp_path_factory.mktemp("runs") / "paired"
    config = load_config("quickstart", SMALL)
    run_dir = RunDir.start(config, path, say=print)
    for stage in ("prompts", "responses", "translations", "pairs"):
        STAGES[stage].run(config, run_dir, 1)
    return path


@pytest.fixture
def run(paired: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(paired, tmp_path / "run"))


def train(path: Path, *settings: str) -> dict[str, torch.Tensor]:
    """Run the stage; returns the weights that it made."""
    config = load_config("quickstart", [*SMALL, *settings])
    run_dir = RunDir.start(config, path, say=print)
    with run_dir.lock():
        STAGES["training"].run(config, run_dir, 1)
    return weights(path)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path / "iteration_1" / "5_model" / "model.safetensors")


def difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max((a[name].float() - b[name].float()).abs().max().item() for name in a)


def logged(path: Path, event: str = "train") -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["event"] == event]


def copied(path: Path, name: str) -> Path:
    return Path(shutil.copytree(path, path.parent / name))


def test_two_processes_train_as_one(run: Path) -> None:
    other = copied(run, "other")
    one = train(run, "training.num_processes=1")
    two = train(other, "training.num_processes=2", "training.token_budget=150")
    assert difference(one, two) < 1e-4
    assert difference(one, load_file(MODEL_PATH / "model.safetensors")) > 5e-4
    of_one, of_two = logged(run), logged(other)
    assert [row["step"] for row in of_two] == [row["step"] for row in of_one]  # written once, by the first process
    for name in ("loss", "nll", "margin", "chosen_logp", "pairs"):
        assert [row[name] for row in of_two] == pytest.approx([row[name] for row in of_one], abs=1e-3), name
    assert [row["groups"]["language"].keys() for row in of_two] == [row["groups"]["language"].keys() for row in of_one]
    rows = [list(read_rows(path / "iteration_1" / "4_pairs" / "reference_logps.jsonl")) for path in (run, other)]
    assert [row["pair_id"] for row in rows[0]] == [row["pair_id"] for row in rows[1]]
    assert [row["chosen"] for row in rows[0]] == pytest.approx([row["chosen"] for row in rows[1]], abs=1e-4)


def test_two_machines_started_by_a_command_of_ones_own(run: Path, tmp_path: Path) -> None:
    """The plain host list of docs/training.md, with both hosts on this machine."""
    other = copied(run, "other")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = tmp_path / "hosts.sh"
    script.write_text(
        "for rank in 0 1; do\n"
        f"  {sys.executable} -m torch.distributed.run --nnodes 2 --node_rank $rank --nproc_per_node 1 "
        f'--master_addr 127.0.0.1 --master_port {port} "$@" &\n'
        "done\nwait -n && wait -n\n"
    )
    assert difference(train(run), train(other, f"training.launch=bash {script}")) < 1e-4


def test_a_model_sharded_by_fsdp2_computes_the_same() -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    folder = Path(__file__).parents[2]
    done = subprocess.run([*command, "-m", "tests.support.sharded"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0 and "sharded equals whole" in done.stdout, done.stderr[-2000:]


def test_killed_in_the_middle_of_an_epoch_and_continued(run: Path) -> None:
    whole, settings = copied(run, "whole"), ["training.epochs=12", "training.save_steps=7"]
    config = load_config("quickstart", [*SMALL, *settings])
    RunDir.start(config, run, say=print)
    process = subprocess.Popen([sys.executable, "-m", "lidr", "train", str(run), "--iteration", "1"])
    checkpoint = run / "iteration_1" / "5_training" / "checkpoints" / "checkpoint-7" / "complete"
    while not checkpoint.exists():
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (run / "iteration_1" / "5_model").exists()
    steps = len(logged(run))
    resumed = train(run, *settings)
    assert len(logged(run)) > steps and logged(run)[steps]["step"] > 1  # it went on, and did not start again
    uninterrupted = train(whole, *settings)
    assert all(torch.equal(resumed[name], uninterrupted[name]) for name in uninterrupted)


def test_reference_log_probabilities_are_computed_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(run)

    def again(*arguments: Any) -> None:
        raise AssertionError("the reference pass must not run again")

    with monkeypatch.context() as patched:
        patched.setattr("lidr.training.worker.write_reference", again)
        train(run, "training.learning_rate=1e-4", "training.epochs=1")
    file = run / "iteration_1" / "4_pairs" / "reference_logps.jsonl"
    rows = file.read_text().splitlines()
    partial_path(file).write_text("\n".join(rows[:-3]) + "\n")  # three are owed, the others are kept
    file.unlink()
    train(run, "training.learning_rate=2e-4", "training.epochs=1")
    assert file.read_text().splitlines() == rows


def test_another_precision_has_a_reference_of_its_own(run: Path) -> None:
    """Log-probabilities in float32 are too far from those in bfloat16 for the check at the first step."""
    file = run / "iteration_1" / "4_pairs" / "reference_logps.jsonl"
    kept = {}
    for precision in ("bfloat16", "float32"):
        train(run, f"training.precision={precision}", "training.epochs=1")
        kept[precision] = {row["pair_id"]: row["chosen"] for row in read_rows(file)}
    assert kept["float32"].keys() == kept["bfloat16"].keys() and kept["float32"] != kept["bfloat16"]
    assert kept["float32"] == pytest.approx(kept["bfloat16"], abs=2.0)


def test_lora_trains_an_adapter_and_merges_it(run: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    targets = "[q_proj, v_proj]"
    merged = train(run, f"training.lora={{rank: 4, alpha: 8, targets: {targets}}}", "training.learning_rate=1e-3")
    start = load_file(MODEL_PATH / "model.safetensors")
    changed = {name for name in start if not torch.equal(start[name].float(), merged[name].float())}
    assert changed and all("q_proj" in name or "v_proj" in name for name in changed)
    assert logged(run)[0]["margin"] == 0  # the reference is the model with its adapter disabled
    assert logged(run)[-1]["loss"] < logged(run)[0]["loss"]
    base = AutoModelForCausalLM.from_pretrained(MODEL_PATH, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(base, run / "iteration_1" / "5_training" / "adapter")
    whole = AutoModelForCausalLM.from_pretrained(run / "iteration_1" / "5_model", dtype=torch.float32)
    ids = torch.arange(20)[None]
    assert torch.allclose(adapted(ids).logits, whole(ids).logits, atol=1e-4)


@pytest.mark.parametrize(("settings", "passes"), [((), 6), (("training.lora={rank: 4, alpha: 8}",), 4)])
def test_the_cost_of_training_is_logged(run: Path, settings: tuple[str, ...], passes: int) -> None:
    train(run, *settings)
    [cost] = logged(run, "cost")
    answers = sum(step["pairs"] * (step["chosen_length"] + step["rejected_length"]) for step in logged(run))
    parameters = sum(weight.numel() for weight in load_file(MODEL_PATH / "model.safetensors").values())
    assert answers < cost["tokens"] < 6 * answers  # and the prompts
    flops = cost["tflops_per_second"] * 1e12 * cost["seconds"]
    assert flops == pytest.approx(passes * parameters * cost["tokens"], rel=0.05)
    assert cost["mfu"] is None and 0.1 < cost["peak_gib"] < 20


def test_unknown_lora_targets_are_named(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"training.lora.targets \['nonsense'\]"):
        train(run, "training.lora={targets: [nonsense]}")


def test_quantised_weights_need_a_gpu(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"lora.quantize: 4-bit weights need a GPU and bitsandbytes"):
        train(run, "training.lora={quantize: nf4}")


def test_held_out_prompts_are_measured_in_all_languages(run: Path) -> None:
    train(run, "training.held_out=6", "training.eval_steps=3")
    rows = logged(run, "held_out")
    assert [row["step"] for row in rows][:2] == [0, 3]
    pairs = [row for code in ("en", "es", "ru") for row in read_rows(run / "iteration_1" / "4_pairs" / f"{code}.jsonl")]
    per_epoch = sum(row["pairs"] for row in logged(run)) / 2
    assert rows[0]["pairs"] + per_epoch == len(pairs)
    assert rows[0]["loss"] > rows[-1]["loss"]


def test_more_held_out_prompts_than_there_are(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"training.held_out 35: only \d+ prompts have pairs"):
        train(run, "training.held_out=35")


def test_a_tracker_gets_the_values(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(run, "training.report_to=[tensorboard]")
    (file,) = (run / "iteration_1" / "5_training" / "tensorboard").rglob("events.*")
    events = EventAccumulator(str(file)).Reload()
    losses = [event.value for event in events.Scalars("train/loss")]
    assert losses == pytest.approx([row["loss"] for row in logged(run)], abs=1e-4)
    assert "train/language/es/nll" in events.Tags()["scalars"]


def test_a_tracker_that_is_not_installed_is_named(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"training.report_to trackio: not installed; `pip install trackio`"):
        train(run, "training.report_to=[trackio]")


def test_a_failing_process_ends_the_stage_and_keeps_the_pairs(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError, match="the training processes ended with exit code"):
        train(run, "training.num_processes=2", "training.lora={targets: [nonsense]}")
    assert "training.lora.targets ['nonsense']" in capfd.readouterr().err
    assert (run / "iteration_1" / "4_pairs" / "reference_logps.jsonl").exists()


@pytest.mark.parametrize(
    ("settings", "gpus", "begins", "ends"),
    [
        ([], 0, None, None),
        ([], 1, None, None),
        ([], 4, ["-m", "torch.distributed.run"], ["--nproc_per_node", "4"]),
        (["training.num_processes=2"], 8, ["-m", "torch.distributed.run"], ["--nproc_per_node", "2"]),
        (["training.distributed=fsdp2"], 8, ["-m", "accelerate.commands.launch"], ["--num_processes", "8"]),
        (["training.distributed=zero3"], 8, ["-m", "accelerate.commands.launch"], ["--num_processes", "8"]),
    ],
)
def test_what_starts_the_processes(settings: list[str], gpus: int, begins: Any, ends: Any) -> None:
    command = command_line("train", load_config("quickstart", settings).training, gpus)
    assert (command and (command[1:3], command[-2:])) == (begins and (begins, ends))


def test_reference_log_probabilities_are_joined_in_one_pass(tmp_path: Path) -> None:
    pairs = Dataset.from_list(
        [{"id": str(n), "prompt_ids": [n], "chosen_ids": [n, 1], "rejected_ids": [2]} for n in range(6)]
    )
    file = tmp_path / "reference_logps.jsonl"
    assert not is_complete(pairs, "m", file)
    rows = ({"id": key("m", pair), "pair_id": pair["id"], "chosen": -0.1 * n - 1 / 3, "rejected": -n / 7}
            for n, pair in enumerate(pairs))  # fmt: skip
    write_sealed(file, {}, map(json.dumps, rows))
    assert is_complete(pairs, "m", file) and not is_complete(pairs, "other", file)
    some = pairs.select([1, 4])  # as with a smaller training.max_length
    assert is_complete(some, "m", file)
    joined = add_columns(some, "m", file)
    assert joined["reference_chosen_logps"][:] == [-0.1 * n - 1 / 3 for n in (1, 4)]
    assert joined["reference_rejected_logps"][:] == [-n / 7 for n in (1, 4)]
    changed = Dataset.from_list([*pairs.to_list()[:5], pairs[5] | {"chosen_ids": [9]}])
    assert not is_complete(changed, "m", file)
    with pytest.raises(RunError, match="lacks log-probabilities"):
        add_columns(changed, "m", file)


def test_the_reference_pass_is_never_sharded() -> None:
    training = load_config("quickstart", ["training.distributed=zero3"]).training
    assert command_line("reference", training, 1) is None
    assert "torch.distributed.run" in (command_line("reference", training, 2) or [])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.distributed=zero4", "training.distributed zero4: neither ddp, fsdp2, zero3 nor a file"),
        ("training.launch=nosuchlauncher --nodes 2", "training.launch: there is no command nosuchlauncher"),
    ],
)
def test_a_launcher_that_is_not_there(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        command_line("train", load_config("quickstart", [setting]).training, 2)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant_with_warmup"])
@pytest.mark.parametrize(("pairs", "ratio"), [(2, 0.03), (2, 0.99), (4, 0.5), (10, 0.03)])
def test_no_step_of_a_short_training_has_learning_rate_0(
    tmp_path: Path, schedule: str, pairs: int, ratio: float
) -> None:
    settings = [f"training.schedule={schedule}", f"training.warmup_ratio={ratio}", "training.epochs=1"]
    if schedule != "cosine":
        arguments = training_arguments(with_settings(*settings), tmp_path, 2 * pairs, torch.device("cpu"))
        assert arguments.warmup_steps == 0
        return
    written, config = written_run(tmp_path / "run", *settings, pairs=pairs)
    trained = train_written(written, config)
    rates = [row["learning_rate"] for row in logged(written.path)]
    assert len(rates) == -(-2 * pairs // 4) and all(rate > 0 for rate in rates)
    assert not same(trained, load_file(MODEL_PATH / "model.safetensors"))


def test_a_longer_training_warms_up_as_the_recipe_says(tmp_path: Path) -> None:
    for pairs, steps in ((24, 1), (400, 3), (404, 4)):
        arguments = training_arguments(with_settings("training.epochs=1"), tmp_path, pairs, torch.device("cpu"))
        assert arguments.warmup_steps == steps


def test_the_seed_alone_decides_what_an_adapter_starts_from(tmp_path: Path) -> None:
    found = []
    for number, seed in enumerate((1, 1, 2)):
        torch.manual_seed(number)  # what this process has drawn before does not matter
        settings = ["training.lora={rank: 2, alpha: 4, dropout: 0.1}", f"seed={seed}"]
        found.append(train_written(*written_run(tmp_path / f"run{number}", *settings)))
    assert same(found[0], found[1]) and not same(found[0], found[2])
    own = written_run(tmp_path / "own", "training.lora={rank: 2, alpha: 4, dropout: 0.1}", "seed=1")[0]
    subprocess.run([sys.executable, "-m", "lidr", "train", str(own.path), "--iteration", "1"], check=True)
    assert same(found[0], weights(own.path))


def test_two_processes_start_from_the_adapter_of_one(tmp_path: Path) -> None:
    lora = ["training.lora={rank: 2, alpha: 4}", "training.epochs=1"]
    one = train_written(*written_run(tmp_path / "one", *lora))
    two = train_written(*written_run(tmp_path / "two", *lora, "training.num_processes=2"))
    assert difference(one, two) < 1e-4 < difference(one, load_file(MODEL_PATH / "model.safetensors"))


@pytest.mark.parametrize(
    "targets", ["[lm_head]", "[q_proj, embed_tokens]", "[model.embed_tokens]", "[embed_tokens, lm_head]"]
)
def test_an_adapter_on_shared_weights_is_refused_before_anything_is_answered(tmp_path: Path, targets: str) -> None:
    settings = ["name=tied", f"training.lora={{targets: {targets}}}"]
    run_dir, config = written_run(tmp_path / "run", *settings)
    message = r"lm_head and model\.embed_tokens share their weights"
    with pytest.raises(ConfigError, match=message):
        train_written(run_dir, config)
    assert not run_dir.metrics.exists()
    fresh = RunDir.start(config, tmp_path / "fresh", say=print)
    with pytest.raises(ConfigError, match=message):
        lidr_run(config, fresh)
    assert not fresh.iteration(1).exists()


def test_one_unknown_target_among_known_ones_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the model has no module k_projection; it has .*q_proj"):
        train_written(*written_run(tmp_path / "run", "training.lora={targets: [q_proj, k_projection]}"))


@pytest.mark.parametrize("targets", ["all-linear", "[lm_head, embed_tokens]"])
def test_the_merged_model_is_the_adapted_one(tmp_path: Path, targets: str) -> None:
    from peft import PeftModel

    model = Path(shutil.copytree(MODEL_PATH, tmp_path / "untied"))
    tensors = load_file(model / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    shape = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(shape | {"tie_word_embeddings": False}))
    settings = [f"training.lora={{rank: 4, alpha: 8, targets: {targets}}}", "training.learning_rate=1e-2"]
    run_dir, config = written_run(tmp_path / "run", *settings, model=model)
    train_written(run_dir, config)
    base = load_model(model, dtype=torch.float32)
    before = base(torch.arange(20)[None]).logits
    adapted = PeftModel.from_pretrained(base, run_dir.training(1) / "adapter")(torch.arange(20)[None]).logits
    merged = load_model(run_dir.model_folder(1), dtype=torch.float32)(torch.arange(20)[None]).logits
    assert torch.allclose(adapted, merged, atol=0.02 * (adapted - before).abs().max().item())
