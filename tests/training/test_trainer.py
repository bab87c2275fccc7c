"""The trainer: one optimiser step is the mean over its pairs however they are packed, and it resumes exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM

from lidr.config import load_config
from lidr.errors import RunError
from lidr.lab import MODEL_PATH
from lidr.lab.world import FACTS, answer, question
from lidr.likelihood.forward import PairForward
from lidr.likelihood.tokens import tokenize_answer, tokenize_prompt
from lidr.models import end_of_turn_ids, load_tokenizer
from lidr.progress_bar import Progress
from lidr.training.checkpoints import COMPLETE, last_checkpoint
from lidr.training.loss import dpo_nll_loss
from lidr.training.trainer import PairTrainer, Telemetry, training_arguments


def load() -> Any:
    return AutoModelForCausalLM.from_pretrained(MODEL_PATH, dtype=torch.float32)


@pytest.fixture(scope="module")
def pairs() -> list[dict[str, Any]]:
    """21 pairs of different lengths, so that the last optimiser step of 8 is not full."""
    tokenizer = load_tokenizer(MODEL_PATH)
    ends = end_of_turn_ids(MODEL_PATH, tokenizer)
    rows: list[dict[str, Any]] = []
    for number, fact in enumerate(FACTS[:21]):
        language = ["es", "ru", "en"][number % 3]
        messages = [{"role": "user", "content": question(fact, language, 0)}]
        text, ids = tokenize_prompt(tokenizer, messages)
        sides = {"chosen": answer(fact, language), "rejected": answer(FACTS[-number - 1], "en")}
        row = {f"{side}_ids": tokenize_answer(tokenizer, messages, text, said, ends) for side, said in sides.items()}
        kind = "dominant" if language == "en" else "non_dominant"
        rows.append({"id": str(number), "language": language, "kind": kind, "prompt_ids": ids, **row})
    model = load()
    with torch.inference_mode():
        logps = model(**PairForward(model, packed=True).collate(rows, with_rejected=True)).tolist()
    for number, row in enumerate(rows):
        row |= {"reference_chosen_logps": logps[number], "reference_rejected_logps": logps[number + 21]}
    return rows


def train(
    pairs: list[dict[str, Any]],
    folder: Path,
    *settings: str,
    resume: bool = False,
    packed: bool = True,
    held_out: list[dict[str, Any]] | None = None,
) -> tuple[Any, list[Any]]:
    """The trained lab model, and what was logged as (event, values)."""
    config = load_config("quickstart", ["training.batch_size=8", "training.epochs=2", *settings])
    model = load()
    arguments = training_arguments(config, folder, len(pairs), torch.device("cpu"))
    logs: list[Any] = []
    telemetry = Telemetry(
        Progress("", 42), lambda event, **values: logs.append({"event": event, **values}), config.training
    )
    trainer = PairTrainer(
        config,
        PairForward(model, packed),
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(pairs),
        eval_dataset=Dataset.from_list(held_out) if held_out else None,
        callbacks=[telemetry],
    )
    checkpoint = last_checkpoint(folder) if resume else None
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return model, logs


def difference(a: Any, b: Any) -> float:
    return max((x - y).abs().max().item() for x, y in zip(a.parameters(), b.parameters(), strict=True))


def of(logs: list[Any], event: str, name: str) -> list[Any]:
    return [row[name] for row in logs if row["event"] == event]


@pytest.mark.parametrize("budget", [1, 150])
def test_the_token_budget_does_not_change_the_step(pairs: list[dict[str, Any]], tmp_path: Path, budget: int) -> None:
    whole, logs = train(pairs, tmp_path / "whole", "training.token_budget=100000")
    split, split_logs = train(pairs, tmp_path / "split", f"training.token_budget={budget}")
    assert of(split_logs, "train", "loss") == pytest.approx(of(logs, "train", "loss"), abs=1e-4)
    assert difference(whole, split) < 2e-5
    assert difference(whole, load()) > 5e-4


def test_padding_gives_the_same_training(pairs: list[dict[str, Any]], tmp_path: Path) -> None:
    packed, _ = train(pairs, tmp_path / "packed")
    padded, _ = train(pairs, tmp_path / "padded", "training.token_budget=200", packed=False)
    assert difference(packed, padded) < 2e-5


@pytest.mark.parametrize("normalization", ["sequence", "batch_token"])
def test_the_first_loss_is_the_formula(pairs: list[dict[str, Any]], tmp_path: Path, normalization: str) -> None:
    settings = ["training.epochs=1", "training.alpha=0.5", f"training.nll_normalization={normalization}"]
    _, logs = train(pairs[:8], tmp_path, *settings, "training.token_budget=120")
    chosen, rejected = (
        torch.tensor([pair[f"reference_{side}_logps"] for pair in pairs[:8]]) for side in ("chosen", "rejected")
    )
    lengths = torch.tensor([len(pair["chosen_ids"]) for pair in pairs[:8]], dtype=torch.float32)
    divisor = lengths if normalization == "sequence" else lengths.mean() * torch.ones(8)
    expected = dpo_nll_loss(chosen, rejected, chosen, rejected, divisor, beta=0.1, alpha=0.5)
    first = logs[0]
    assert first["loss"] == pytest.approx(expected.loss.mean().item(), abs=1e-4)
    assert first["nll"] == pytest.approx(expected.nll.mean().item(), abs=1e-4)
    assert first["margin"] == pytest.approx(0, abs=1e-4)


def test_telemetry_is_the_mean_of_each_language_and_kind(pairs: list[dict[str, Any]], tmp_path: Path) -> None:
    _, logs = train(pairs[:8], tmp_path, "training.epochs=1", "training.token_budget=120")
    groups = logs[0]["groups"]
    assert {code: group["pairs"] for code, group in groups["language"].items()} == {"es": 3, "ru": 3, "en": 2}
    assert {kind: group["pairs"] for kind, group in groups["kind"].items()} == {"non_dominant": 6, "dominant": 2}
    russian = [pair for pair in pairs[:8] if pair["language"] == "ru"]
    for name, value in {
        "chosen_logp": sum(pair["reference_chosen_logps"] for pair in russian) / 3,
        "rejected_logp": sum(pair["reference_rejected_logps"] for pair in russian) / 3,
        "rejected_length": sum(len(pair["rejected_ids"]) for pair in russian) / 3,
        "nll": -sum(pair["reference_chosen_logps"] / len(pair["chosen_ids"]) for pair in russian) / 3,
    }.items():
        assert groups["language"]["ru"][name] == pytest.approx(value, abs=1e-4), name


def test_training_continues_from_the_last_complete_checkpoint(pairs: list[dict[str, Any]], tmp_path: Path) -> None:
    settings = ["training.token_budget=150", "training.save_steps=2"]
    whole, logs = train(pairs, tmp_path / "whole", *settings)
    folder = tmp_path / "whole"
    assert [path.name for path in folder.glob("checkpoint-*")]
    (folder / "checkpoint-6" / COMPLETE).unlink()  # as if the process had died while it was written
    resumed, resumed_logs = train(pairs, folder, *settings, resume=True)
    assert of(resumed_logs, "train", "step") == [5, 6]
    assert of(resumed_logs, "train", "loss") == of(logs, "train", "loss")[4:]
    assert difference(whole, resumed) == 0


def test_sft_uses_the_chosen_side_only(pairs: list[dict[str, Any]], tmp_path: Path) -> None:
    bare = [{key: value for key, value in pair.items() if not key.startswith("reference")} for pair in pairs]
    settings = ["training.objective=sft", "training.token_budget=150"]
    model, logs = train(bare, tmp_path / "a", *settings)
    other = [pair | {"rejected_ids": pair["chosen_ids"][-3:]} for pair in bare]
    assert difference(model, train(other, tmp_path / "b", *settings)[0]) == 0
    assert "dpo" not in logs[0] and logs[-1]["nll"] < logs[0]["nll"]


def test_held_out_pairs_are_measured_and_not_trained_on(pairs: list[dict[str, Any]], tmp_path: Path) -> None:
    settings = ["training.held_out=4", "training.eval_steps=3", "training.token_budget=150"]
    model, logs = train(pairs[:16], tmp_path / "a", *settings, held_out=pairs[16:])
    alone, _ = train(pairs[:16], tmp_path / "b", "training.token_budget=150")
    assert difference(model, alone) == 0
    assert of(logs, "held_out", "step") == [0, 3, 4]  # the last step is measured too
    chosen = [pair["reference_chosen_logps"] for pair in pairs[16:]]
    nll = -sum(logp / len(pair["chosen_ids"]) for logp, pair in zip(chosen, pairs[16:], strict=True)) / 5
    first = next(row for row in logs if row["event"] == "held_out")
    assert first["pairs"] == 5 and first["nll"] == pytest.approx(nll, abs=1e-4)
    assert first["loss"] == pytest.approx(nll + 0.693147, abs=1e-4)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(
    pairs: list[dict[str, Any]], tmp_path: Path
) -> None:
    broken = [pair | {"reference_chosen_logps": float("nan")} if pair["id"] == "20" else pair for pair in pairs]
    with pytest.raises(
        RunError, match=r"step \d: the loss or its gradient is not finite.*Lower training.learning_rate"
    ):
        train(broken, tmp_path, "training.save_steps=1")
    kept = last_checkpoint(tmp_path)
    if kept:  # none where the broken pair is in the first step
        weights = AutoModelForCausalLM.from_pretrained(kept).state_dict().values()
        assert all(value.isfinite().all() for value in weights)
