"""What was learned is what is saved: stochastic rounding, tied weights, and the measurement of what is left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from lidr.config import Config, load_config
from lidr.lab import MODEL_PATH
from lidr.lab.world import FACTS, answer, question
from lidr.records import PreferencePair, content_id
from lidr.report.findings import saved_sentences
from lidr.results import Results, Saved
from lidr.run_dir import RunDir
from lidr.seals import seal, write_sealed
from lidr.stages import STAGES
from lidr.storage import hash_file, partial_path
from lidr.training.rounding import round_stochastically
from lidr.training.saved import alarm, share_kept

LANGUAGES = ("en", "es")


def model_folder(path: Path, dtype: torch.dtype) -> Path:
    """The laboratory's model in another number format."""
    model = AutoModelForCausalLM.from_pretrained(MODEL_PATH, dtype=dtype)
    model.save_pretrained(path)
    AutoTokenizer.from_pretrained(MODEL_PATH).save_pretrained(path)
    return path


def paired_run(path: Path, model: Path, *settings: str) -> tuple[RunDir, Config]:
    """A run whose pairs are facts of the laboratory with a wrong fact beside each."""
    common = [f"model.path={model}", "languages=[en, es]", "iterations=1", "training.batch_size=4"]
    config = load_config("quickstart", [*common, "evaluation.benchmarks={}", "engine.device=cpu", *settings])
    run = RunDir.start(config, path, say=print)
    counts, files = {}, {}
    for code in (*LANGUAGES, "dropped"):
        target = run.dropped(1) if code == "dropped" else run.pairs(1, code)
        target.parent.mkdir(parents=True, exist_ok=True)
        facts = [] if code == "dropped" else FACTS[:16]
        with partial_path(target).open("w", encoding="utf-8") as handle:
            for n, fact in enumerate(facts):
                texts = question(fact, code, 0), answer(fact, code), answer(FACTS[-n - 1], code)
                kind = "dominant" if code == "en" else "non_dominant"
                row = PreferencePair(content_id(code, *texts), f"p{n}", code, kind, *texts, "en->es", code)
                handle.write(row.to_json() + "\n")
        files[code] = hash_file(partial_path(target))
        seal(partial_path(target), target, {}, len(facts), files[code])
        counts[code] = len(facts)
    summary = {"pairs": {code: counts[code] for code in LANGUAGES}, "dropped": {code: {} for code in LANGUAGES}}
    write_sealed(run.pair_summary(1), {}, [json.dumps(summary | {"files": files})])
    return run, config


def train(run: RunDir, config: Config) -> dict[str, Any]:
    """Train iteration 1; returns the event `saved`."""
    with run.lock():
        STAGES["training"].run(config, run, 1)
    (event,) = [row for row in run.read_log() if row["event"] == "saved"]
    return event


# --- rounding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_takes_one_of_the_two_neighbours_and_is_right_on_average(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(200, generator=generator) * torch.logspace(-4, 3, 200)
    draws = torch.stack([round_stochastically(values, dtype, f"w{n}").float() for n in range(2000)])
    lower, upper = draws.min(0).values, draws.max(0).values
    steps = torch.nextafter(values.to(dtype).abs(), torch.tensor(float("inf"), dtype=dtype)).float()
    width = steps - values.to(dtype).abs().float()  # between neighbours, near each value
    assert bool((lower <= values).all() and (values <= upper).all())
    assert bool((upper - lower <= width * 1.01).all())
    assert all(len(draws[:, n].unique()) <= 2 for n in range(200))
    error = (draws.mean(0) - values).abs() / width
    assert error.max() < 4 * 0.5 / 2000**0.5  # four standard errors of a coin


def test_rounding_keeps_what_the_format_has_and_what_is_not_a_number() -> None:
    values = torch.tensor([0.0, -0.0, 1.0, -2.5, float("inf"), float("-inf"), 3.3895e38])
    rounded = round_stochastically(values, torch.bfloat16, "w")
    assert torch.equal(rounded[:6].float(), values[:6])
    assert rounded[6].isfinite() or rounded[6] == values[6].to(torch.bfloat16)
    assert bool(round_stochastically(torch.tensor([float("nan")]), torch.bfloat16, "w").isnan().all())
    large = torch.tensor([1e6, 70000.0])  # beyond float16
    assert torch.equal(round_stochastically(large, torch.float16, "w"), large.half())


def test_rounding_is_the_same_for_the_same_weights_only() -> None:
    values = torch.randn(3, 1000, generator=torch.Generator().manual_seed(0))
    first = round_stochastically(values, torch.bfloat16, "w")
    assert torch.equal(first, round_stochastically(values.clone(), torch.bfloat16, "w"))
    assert not torch.equal(first, round_stochastically(values, torch.bfloat16, "other"))
    moved = values.clone()
    moved[0, 0] += 1e-4
    assert not torch.equal(first[1:], round_stochastically(moved, torch.bfloat16, "w")[1:])
    assert round_stochastically(values, torch.float32, "w") is values


# --- saving -----------------------------------------------------------------------------------------------------------


def test_small_updates_survive_saving_in_bfloat16(tmp_path: Path) -> None:
    base = model_folder(tmp_path / "m", torch.bfloat16)
    run, config = paired_run(tmp_path / "run", base, "training.learning_rate=2e-6", "training.epochs=2")
    event = train(run, config)
    assert event["stored"] == "bfloat16" and event["measure"] == "margin" and event["pairs"] == 32
    assert event["trained"] > 0.001
    assert event["kept"] == pytest.approx(1, abs=0.1)
    # Rounding to the nearest number loses most of the same updates: they are small beside the steps of bfloat16.
    before, after = load_file(base / "model.safetensors"), load_file(run.model_folder(1) / "model.safetensors")
    moved = sum((before[name] != after[name]).sum().item() for name in before)
    assert 0 < moved / sum(tensor.numel() for tensor in before.values()) < 0.2
    assert before.keys() == after.keys()  # tied weights are written once
    assert all(tensor.dtype == torch.bfloat16 for tensor in after.values())
    summary = json.loads((run.training(1) / "summary.json").read_text(encoding="utf-8"))
    assert summary["saved"] == {name: event[name] for name in summary["saved"]}


def test_the_same_training_saves_the_same_bytes(tmp_path: Path) -> None:
    base = model_folder(tmp_path / "m", torch.bfloat16)
    hashes = set()
    for name in ("a", "b"):
        run, config = paired_run(tmp_path / name, base, "training.learning_rate=2e-6")
        train(run, config)
        hashes.add(hash_file(run.model_folder(1) / "model.safetensors"))
    assert len(hashes) == 1


def test_a_merged_adapter_is_saved_like_trained_weights(tmp_path: Path) -> None:
    base = model_folder(tmp_path / "m", torch.bfloat16)
    lora = "training.lora={rank: 4, alpha: 8}"
    run, config = paired_run(tmp_path / "run", base, lora, "training.learning_rate=1e-3", "training.epochs=2")
    event = train(run, config)
    assert event["trained"] > 0.01 and event["kept"] == pytest.approx(1, abs=0.1)
    assert load_file(run.model_folder(1) / "model.safetensors").keys() == load_file(base / "model.safetensors").keys()


def test_an_engine_that_rounds_again_raises_an_alarm(tmp_path: Path) -> None:
    """M_0 is a bfloat16 model kept in float32: M_1 has every update on disk, and the engine's bfloat16 drops them."""
    plain = AutoModelForCausalLM.from_pretrained(model_folder(tmp_path / "m", torch.bfloat16), dtype=torch.float32)
    plain.save_pretrained(tmp_path / "m")
    settings = ("training.learning_rate=1e-6", "engine.dtype=bfloat16")
    run, config = paired_run(tmp_path / "run", tmp_path / "m", *settings)
    event = train(run, config)
    assert (event["stored"], event["loaded"]) == ("float32", "bfloat16")
    assert event["kept"] < 0.9
    (alarm,) = [row for row in run.read_log() if row["event"] == "alarm"]
    assert alarm["alarm"] == "saved_model" and "Set the engine's dtype to float32" in alarm["message"]
    entry = {"iteration": 1, "pairs": {}, "dropped": {}, "saved": event}
    ((topic, sentence),) = saved_sentences(Results.from_json({"iterations": [entry]}))
    assert topic == "Saved model, iteration 1"
    assert f"({event['kept'] * 100:.0f} %)" in sentence and "stored as float32 and loaded as bfloat16" in sentence


def test_sft_measures_the_chosen_answers(tmp_path: Path) -> None:
    settings = ("training.objective=sft", "training.learning_rate=1e-4", "engine.dtype=float32")
    run, config = paired_run(tmp_path / "run", MODEL_PATH, *settings)
    event = train(run, config)
    assert event["measure"] == "chosen_logp" and event["trained"] > 0
    assert event["kept"] == pytest.approx(1, abs=0.01)


def saved(trained: float, kept: float, stored: str, loaded: str) -> Saved:
    return Saved(32, "margin", trained, kept, stored, loaded, share_kept(trained, kept))


def test_no_gain_is_no_share() -> None:
    lost = saved(0.08, 0.0002, "bfloat16", "bfloat16")
    assert lost.kept == pytest.approx(0.0025)
    assert "raise training.learning_rate" in (alarm(lost) or "")
    assert saved(-0.01, 0.2, "bfloat16", "bfloat16").kept is None
    assert saved(1e-6, -3e-6, "float32", "float32").kept is None
    assert alarm(saved(0.08, 0.0721, "bfloat16", "bfloat16")) is None
    assert "engine.quantize" in (alarm(saved(0.08, 0.01, "bfloat16", "int8 (quantised)")) or "")
