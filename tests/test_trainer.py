"""The trainer: one optimiser step is the mean over its pairs however they are batched, and it resumes exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM

from lidr.config import load_config
from lidr.lab import MODEL_PATH
from lidr.lab.world import FACTS, answer, question
from lidr.models import end_of_turn_ids, load_tokenizer
from lidr.progress import Progress
from lidr.training.loss import answer_logps, dpo_nll_loss
from lidr.training.tokens import collate, tokenize_answer, tokenize_prompt
from lidr.training.trainer import COMPLETE, PairTrainer, Telemetry, last_checkpoint, training_arguments


@pytest.fixture(scope="module")
def pairs() -> list[dict[str, Any]]:
    """21 pairs of different lengths, so that the last optimiser step of 8 is not full."""
    tokenizer = load_tokenizer(MODEL_PATH)
    ends = end_of_turn_ids(MODEL_PATH, tokenizer)
    rows = []
    for number, fact in enumerate(FACTS[:21]):
        language = ["es", "ru", "de"][number % 3]
        messages = [{"role": "user", "content": question(fact, language, 0)}]
        text, ids = tokenize_prompt(tokenizer, messages)
        sides = {"chosen": answer(fact, language), "rejected": answer(FACTS[-number - 1], "en")}
        row = {f"{side}_ids": tokenize_answer(tokenizer, messages, text, said, ends) for side, said in sides.items()}
        rows.append({"id": str(number), "prompt_ids": ids, **row})
    model = AutoModelForCausalLM.from_pretrained(MODEL_PATH, dtype=torch.float32)
    batch = collate(rows)
    with torch.inference_mode():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        logps = answer_logps(logits, batch["input_ids"], batch["answer_mask"])
    for number, row in enumerate(rows):
        row |= {"reference_chosen_logps": logps[number].item(), "reference_rejected_logps": logps[number + 21].item()}
    return rows


def train(pairs: list[dict[str, Any]], folder: Path, *settings: str, resume: bool = False) -> tuple[Any, list[Any]]:
    config = load_config("quickstart", ["training.batch_size=8", "training.epochs=2", *settings])
    model = AutoModelForCausalLM.from_pretrained(MODEL_PATH, dtype=torch.float32)
    arguments = training_arguments(config, folder, len(pairs), torch.device("cpu"))
    logs: list[Any] = []
    telemetry = Telemetry(Progress("", 42), lambda **values: logs.append(values), 8)
    trainer = PairTrainer(
        config, model=model, args=arguments, train_dataset=Dataset.from_list(pairs), callbacks=[telemetry]
    )
    checkpoint = last_checkpoint(folder) if resume else None
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return model, logs


def difference(a: Any, b: Any) -> float:
    return max((x - y).abs().max().item() for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_micro_batches_do_not_change_the_step(pairs: list[dict[str, Any]], tmp_path: Path) -> None:
    whole, logs = train(pairs, tmp_path / "whole", "training.micro_batch_size=8")
    split, split_logs = train(pairs, tmp_path / "split", "training.micro_batch_size=2")
    assert [row["loss"] for row in split_logs] == pytest.approx([row["loss"] for row in logs], abs=1e-4)
    assert difference(whole, split) < 2e-5
    untrained = AutoModelForCausalLM.from_pretrained(MODEL_PATH, dtype=torch.float32)
    assert difference(whole, untrained) > 5e-4


def test_the_first_loss_is_the_formula(pairs: list[dict[str, Any]], tmp_path: Path) -> None:
    _, logs = train(pairs[:8], tmp_path, "training.micro_batch_size=4", "training.epochs=1", "training.alpha=0.5")
    chosen, rejected = (
        torch.tensor([pair[f"reference_{side}_logps"] for pair in pairs[:8]]) for side in ("chosen", "rejected")
    )
    lengths = torch.tensor([len(pair["chosen_ids"]) for pair in pairs[:8]])
    expected = dpo_nll_loss(chosen, rejected, chosen, rejected, lengths, beta=0.1, alpha=0.5)
    assert logs[0]["loss"] == pytest.approx(expected.loss.mean().item(), abs=1e-4)
    assert logs[0]["nll"] == pytest.approx(expected.nll.mean().item(), abs=1e-4)
    assert logs[0]["margin"] == pytest.approx(0, abs=1e-4)


def test_training_continues_from_the_last_complete_checkpoint(pairs: list[dict[str, Any]], tmp_path: Path) -> None:
    settings = ["training.micro_batch_size=4", "training.save_steps=2"]
    whole, logs = train(pairs, tmp_path / "whole", *settings)
    folder = tmp_path / "whole"
    assert [path.name for path in folder.glob("checkpoint-*")]
    (folder / "checkpoint-6" / COMPLETE).unlink()  # as if the process had died while it was written
    resumed, resumed_logs = train(pairs, folder, *settings, resume=True)
    assert [row["step"] for row in resumed_logs] == [5, 6]
    assert [row["loss"] for row in resumed_logs] == [row["loss"] for row in logs[4:]]
    assert difference(whole, resumed) == 0


def test_sft_uses_the_chosen_side_only(pairs: list[dict[str, Any]], tmp_path: Path) -> None:
    bare = [{key: value for key, value in pair.items() if not key.startswith("reference")} for pair in pairs]
    settings = ["training.objective=sft", "training.micro_batch_size=4"]
    model, logs = train(bare, tmp_path / "a", *settings)
    other = [pair | {"rejected_ids": pair["chosen_ids"][-3:]} for pair in bare]
    assert difference(model, train(other, tmp_path / "b", *settings)[0]) == 0
    assert "dpo" not in logs[0] and logs[-1]["nll"] < logs[0]["nll"]
