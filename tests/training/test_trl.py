"""Where TRL's DPOTrainer and we mean the same loss, we compute the same loss and the same gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from lidr.config import load_config
from lidr.lab import MODEL_PATH
from lidr.likelihood.forward import PairForward
from lidr.training.trainer import PairTrainer, step_rows, training_arguments
from tests.likelihood.test_packing import random_pairs

ALPHA, BETA = 0.7, 0.2


def load() -> Any:
    return AutoModelForCausalLM.from_pretrained(MODEL_PATH, dtype=torch.float32)


def by_trl(pairs: list[dict[str, Any]], policy: Any, folder: Path) -> float:
    """Loss of one batch; the gradients are left in the policy."""
    from trl import DPOConfig, DPOTrainer

    class Pretokenised(DPOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    settings = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, ALPHA], "beta": BETA}
    plain = {"bf16": False, "use_cpu": True, "report_to": "none", "gradient_checkpointing": False}
    size = len(pairs)
    arguments = DPOConfig(
        str(folder), per_device_train_batch_size=size, remove_unused_columns=False, **settings, **plain
    )
    trainer = Pretokenised(
        model=policy,
        ref_model=load(),
        args=arguments,
        train_dataset=Dataset.from_list(pairs),
        processing_class=AutoTokenizer.from_pretrained(MODEL_PATH),
    )
    loss = trainer.compute_loss(policy, next(iter(trainer.get_train_dataloader())))
    loss.backward()
    return float(loss)


def by_us(pairs: list[dict[str, Any]], policy: Any, folder: Path, normalization: str) -> float:
    settings = [f"training.alpha={ALPHA}", f"training.beta={BETA}", f"training.nll_normalization={normalization}"]
    config = load_config("quickstart", settings)
    reference = load()
    with torch.no_grad():
        logps = reference(**PairForward(reference, packed=True).collate(pairs, with_rejected=True)).tolist()
    labels = {"language": "es", "kind": "non_dominant"}
    rows = [
        pair | labels | {"reference_chosen_logps": chosen, "reference_rejected_logps": rejected}
        for pair, chosen, rejected in zip(pairs, logps[: len(pairs)], logps[len(pairs) :], strict=True)
    ]
    forward = PairForward(policy, packed=True)
    arguments = training_arguments(config, folder, len(rows), torch.device("cpu"))
    trainer = PairTrainer(config, forward, model=policy, args=arguments, train_dataset=Dataset.from_list(rows))
    loss = sum(trainer.compute_loss(policy, row) for row in step_rows(rows, forward, config.training))
    loss.backward()  # type: ignore[union-attr]
    return float(loss)


@pytest.mark.parametrize(("count", "normalization"), [(1, "sequence"), (5, "batch_token")])
def test_loss_and_gradients_are_those_of_trl(count: int, normalization: str, tmp_path: Path) -> None:
    """TRL's `sft` term is the mean over the tokens of the batch: the sequence's own where the batch is one pair."""
    pairs = random_pairs()[:count]
    ours, theirs = load(), load()
    with torch.no_grad():
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            one.add_(0.02 * torch.randn(one.shape, generator=torch.Generator().manual_seed(one.numel())))
            other.copy_(one)
    expected = by_trl(pairs, theirs, tmp_path / "trl")
    assert by_us(pairs, ours, tmp_path / "ours", normalization) == pytest.approx(expected, abs=1e-5)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        assert (one.grad - other.grad).abs().max().item() < 1e-5
