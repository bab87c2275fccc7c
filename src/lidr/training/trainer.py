"""A transformers.Trainer with our loss: schedules, checkpoints and resume come with it, the objective is ours."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from lidr.config import Config
from lidr.progress import Progress
from lidr.training.loss import PairLosses, answer_logps, dpo_nll_loss, nll_loss
from lidr.training.reference import uses_bf16
from lidr.training.tokens import collate

COMPLETE = "complete"  # marks a checkpoint whose last file has been written


class PairTrainer(Trainer):
    """Trains on preference pairs; the loss is the mean over the pairs of an optimiser step, whatever the batches."""

    def __init__(self, config: Config, **arguments: Any) -> None:
        with_rejected = config.training.objective == "dpo"
        super().__init__(data_collator=partial(collate, with_rejected=with_rejected), **arguments)
        self.remove_callback(PrinterCallback)
        self.objective = config.training
        # Tells Trainer that compute_loss divides by the number of items of the step itself.
        self.model_accepts_loss_kwargs = True
        self._sums: dict[str, float] = defaultdict(float)
        self._rewards: dict[str, float] = defaultdict(float)

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """The micro-batches of one optimiser step, and their number of pairs, which the loss is averaged over."""
        samples, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        return samples, sum(len(sample["chosen_lengths"]) for sample in samples)

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Sum of the micro-batch's pair losses over the number of pairs in the optimiser step."""
        outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False)
        logps = answer_logps(outputs.logits, inputs["input_ids"], inputs["answer_mask"])
        losses = self.pair_losses(logps, inputs)
        self._count(losses, inputs["differ"])
        pairs = len(losses.loss) if num_items_in_batch is None else num_items_in_batch
        loss = losses.loss.sum() / pairs
        return (loss, outputs) if return_outputs else loss

    def pair_losses(self, logps: Tensor, inputs: dict[str, Tensor]) -> PairLosses:
        """The losses of each pair; `logps` is (2 * pairs,), chosen first, or (pairs,) for SFT."""
        lengths = inputs["chosen_lengths"]
        if self.objective.objective == "sft":
            nll = nll_loss(logps, lengths)
            zero = torch.zeros_like(nll)
            return PairLosses(self.objective.alpha * nll, zero, nll.detach(), zero, zero)
        chosen, rejected = logps.chunk(2)
        return dpo_nll_loss(
            chosen,
            rejected,
            inputs["reference_chosen_logps"],
            inputs["reference_rejected_logps"],
            lengths,
            beta=self.objective.beta,
            alpha=self.objective.alpha,
        )

    def _count(self, losses: PairLosses, differ: Tensor) -> None:
        """Sum up what `log` averages; rewards only over pairs whose sides differ, for equal sides have none to tell."""
        self._sums["pairs"] += len(losses.nll)
        self._sums["nll"] += losses.nll.sum().item()
        if self.objective.objective == "dpo":
            chosen, rejected = losses.chosen_reward[differ], losses.rejected_reward[differ]
            self._sums["dpo"] += losses.dpo.sum().item()
            self._sums["differing"] += len(chosen)
            values = {"margin": chosen - rejected, "reward_accuracy": (chosen > rejected).float()}
            for name, value in (values | {"chosen_reward": chosen, "rejected_reward": rejected}).items():
                self._rewards[name] += value.sum().item()

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add the means over the pairs since the last log."""
        pairs, differing = self._sums.pop("pairs", 0), self._sums.pop("differing", 0)
        if pairs:
            logs |= {name: total / pairs for name, total in self._sums.items()}
        if differing:
            logs |= {name: total / differing for name, total in self._rewards.items()}
        self._sums.clear()
        self._rewards.clear()
        super().log(logs, *args, **kwargs)


class Telemetry(TrainerCallback):
    """Passes Trainer's logs on, shows progress, and marks checkpoints as complete."""

    def __init__(self, progress: Progress, log: Callable[..., None], pairs_per_step: int) -> None:
        self.progress, self.write, self.pairs_per_step = progress, log, pairs_per_step

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self.write(step=state.global_step, **{name: round(float(value), 6) for name, value in logs.items()})

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.progress.advance(min(self.pairs_per_step, self.progress.total - self.progress.rows))

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        (Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE).touch()


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint whose writing was finished before a crash, if any."""
    complete = [path.parent for path in folder.glob(f"checkpoint-*/{COMPLETE}")]
    return max(complete, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def training_arguments(config: Config, folder: Path, num_pairs: int, device: torch.device) -> TrainingArguments:
    """The recipe's training section in Trainer's words."""
    training = config.training
    steps = math.ceil(num_pairs / training.batch_size) * training.epochs
    return TrainingArguments(
        output_dir=str(folder),
        learning_rate=training.learning_rate,
        lr_scheduler_type=training.schedule,
        warmup_steps=math.ceil(training.warmup_ratio * steps),
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        num_train_epochs=training.epochs,
        per_device_train_batch_size=training.micro_batch_size,
        gradient_accumulation_steps=training.batch_size // training.micro_batch_size,
        bf16=uses_bf16(device),
        use_cpu=device.type == "cpu",
        seed=config.seed,
        data_seed=config.seed,
        save_strategy="steps",
        save_steps=training.save_steps,
        save_total_limit=2,  # the one before stays until the newest is complete
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        **({"gradient_checkpointing": True} if training.gradient_checkpointing else {}),
    )
