"""transformers.Trainer with our loss: it brings schedules, checkpoints and resuming."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lidr.config import Config, TrainingConfig
from lidr.errors import RunError
from lidr.likelihood.forward import PairForward, to_device, tolerance
from lidr.likelihood.packing import Batch, Pair, plan_rows
from lidr.machine.devices import uses_bf16
from lidr.progress_bar import Progress
from lidr.training.checkpoints import last_checkpoint, layout, mark_complete
from lidr.training.loss import PairLosses, dpo_nll_loss, nll_lengths, nll_loss
from lidr.training.telemetry import Alarms, GroupMeans, nested

if TYPE_CHECKING:
    import datasets

FEW_STEPS = 6  # a shorter training has no warm-up


class Rows(Dataset[list[Batch]]):
    """One item per optimiser step of all epochs: the rows of the step that this process computes.

    The seed alone decides which pairs make a step, not the packing or the number of processes.
    """

    def __init__(
        self,
        pairs: datasets.Dataset,
        forward: PairForward,
        training: TrainingConfig,
        process: int = 0,
        processes: int = 1,
        shuffle_seed: int | None = None,
    ) -> None:
        self.pairs, self.forward, self.training, self.seed = pairs, forward, training, shuffle_seed
        self.process, self.processes = process, processes
        self.epochs = 1 if shuffle_seed is None else training.epochs
        self.steps_per_epoch = math.ceil(len(pairs) / training.batch_size)

    def __len__(self) -> int:
        return self.steps_per_epoch * self.epochs

    def __getitem__(self, step: int) -> list[Batch]:
        epoch, place = divmod(step, self.steps_per_epoch)
        order = torch.arange(len(self.pairs))
        if self.seed is not None:
            order = torch.randperm(len(self.pairs), generator=torch.Generator().manual_seed(self.seed + epoch))
        size = self.training.batch_size
        pairs = self.pairs.select(order[place * size : (place + 1) * size].tolist()).to_list()
        return step_rows(pairs, self.forward, self.training, self.process, self.processes)


def step_rows(
    pairs: list[Pair], forward: PairForward, training: TrainingConfig, process: int = 0, processes: int = 1
) -> list[Batch]:
    """The rows of one process for a step on these pairs; all processes get equally many, as sharded models need."""
    with_rejected = training.objective == "dpo"
    costs = [forward.cost(pair, with_rejected) for pair in pairs]
    shortest = pairs[costs.index(min(costs))]
    step = {"step_pairs": len(pairs), "step_length": sum(len(pair["chosen_ids"]) for pair in pairs) / len(pairs)}
    rows = []
    for items in plan_rows(costs, training.token_budget, processes)[process]:
        chosen = [pairs[item] for item in items] or [shortest]  # an empty row computes a pair that does not count
        row = forward.collate(chosen, with_rejected) | step | {"weight": float(bool(items))}
        row["chosen_lengths"] = torch.tensor([len(pair["chosen_ids"]) for pair in chosen])
        row["rejected_lengths"] = torch.tensor([len(pair["rejected_ids"]) for pair in chosen])
        if with_rejected:
            row["reference_chosen_logps"] = torch.tensor([pair["reference_chosen_logps"] for pair in chosen])
            row["reference_rejected_logps"] = torch.tensor([pair["reference_rejected_logps"] for pair in chosen])
        row["differ"] = torch.tensor([pair["chosen_ids"] != pair["rejected_ids"] for pair in chosen])
        row["language"] = [pair["language"] for pair in chosen]
        row["kind"] = [pair["kind"] for pair in chosen]
        rows.append(row)
    return rows


class PairTrainer(Trainer):
    """Trains on preference pairs; the loss is the mean over the pairs of an optimiser step, for any packing.

    The items of the data sets are `Pair`s. `at_reference` says that training starts from the reference: the first step
    raises RunError if the model does not give the reference's log-probabilities.
    """

    def __init__(self, config: Config, forward: PairForward, at_reference: bool = False, **arguments: object) -> None:
        super().__init__(**arguments)
        self.remove_callback(PrinterCallback)
        self.add_callback(_RecipesRhythm())
        if config.training.save_minutes:
            self.add_callback(_SavesByTime(60 * config.training.save_minutes))
        self.objective, self.pair_forward, self.seed = config.training, forward, config.seed
        self.at_reference = at_reference
        sets = [found for found in (self.train_dataset, self.eval_dataset) if found is not None]
        languages, kinds = (sorted({name for found in sets for name in found[key]}) for key in ("language", "kind"))
        self.means = GroupMeans(languages, kinds, self.args.device)
        self.tokens = 0  # through the model in the training steps of this process

    def get_train_dataloader(self) -> DataLoader[list[Batch]]:
        """The rows of this process, one optimiser step at a time. `Rows` has divided them among the processes."""
        return DataLoader(self._rows(self.train_dataset, self.seed), batch_size=1, collate_fn=lambda items: items[0])

    def _rows(self, pairs: datasets.Dataset, shuffle_seed: int | None) -> Rows:
        world = self.args.world_size
        return Rows(pairs, self.pair_forward, self.objective, self.args.process_index, world, shuffle_seed)

    def training_step(self, model: nn.Module, inputs: list[Batch], num_items_in_batch: object = None) -> Tensor:
        """Forward and backward pass of every row of a step; processes exchange gradients after the last row."""
        model.train()
        self.pair_forward.silence()
        state, sharded = self.accelerator.gradient_state, self.is_deepspeed_enabled
        total = torch.zeros((), device=self.args.device)
        for number, row in enumerate(inputs, 1):
            last = number == len(inputs)
            state._set_sync_gradients(last)
            with nullcontext() if last or sharded else self.accelerator.no_sync(model):
                loss, logps = self.compute_loss(model, row, return_outputs=True)
                if self.at_reference and not self.state.global_step:
                    self._check_start(logps.detach().cpu(), row)
                self.accelerator.backward(loss, **({"scale_wrt_gas": False} if sharded else {}))
            total += loss.detach()
            self.tokens += row["input_ids"].numel()
        return total

    def _check_start(self, logps: Tensor, row: Batch) -> None:
        """Raise RunError unless the first step's log-probabilities are the reference's; `logps` (2 * pairs,)."""
        reference = torch.cat([row["reference_chosen_logps"], row["reference_rejected_logps"]])
        lengths = torch.cat([row["chosen_lengths"], row["rejected_lengths"]])
        error = ((logps - reference).abs() / lengths).max().item()
        exact = not self.args.bf16 and next(self.model.parameters()).dtype == torch.float32
        if error > tolerance(exact):
            raise RunError(
                f"step 1: the model's log-probabilities are {error:.2g} nats per token away from the reference's, "
                "which is the same model. If 4_pairs/reference_logps.jsonl was changed or damaged, delete it and run "
                f"again; else {type(self.pair_forward.model).__name__} computes something at random, or depends on "
                "more than its input, and cannot be trained with DPO (training.objective: sft can be used)"
            )

    def compute_loss(
        self, model: nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: object = None
    ) -> Any:
        """Sum of a row's losses divided by the pairs of the step, times the processes that will be averaged over."""
        row = to_device(inputs, self.args.device)
        logps = model(**row)
        losses = self.pair_losses(logps, row)
        if row["weight"]:
            self.means.add(losses, logps.detach(), row)
        loss = losses.loss.sum() * (row["weight"] * self.args.world_size / row["step_pairs"])
        return (loss, logps) if return_outputs else loss

    def pair_losses(self, logps: Tensor, row: Batch) -> PairLosses:
        """The losses of each pair; `logps` (2 * pairs,), chosen first, or (pairs,) for SFT."""
        training = self.objective
        lengths = nll_lengths(row["chosen_lengths"], row["step_length"], training.nll_normalization)
        if training.objective == "sft":
            nll = nll_loss(logps, lengths)
            zero = torch.zeros_like(nll)
            return PairLosses(training.alpha * nll, zero, nll.detach(), zero, zero)
        references = (row["reference_chosen_logps"], row["reference_rejected_logps"])
        chosen, rejected = logps.chunk(2)
        return dpo_nll_loss(chosen, rejected, *references, lengths, beta=training.beta, alpha=training.alpha)

    def log(self, logs: dict[str, float], *args: object, **kwargs: object) -> None:
        """Add the means over the pairs since the last log. Raises RunError if the loss is no longer finite."""
        if "loss" in logs:
            logs |= self._take_means()
            if not all(math.isfinite(float(logs.get(name, 0))) for name in ("loss", "grad_norm")):
                kept = last_checkpoint(Path(self.args.output_dir))
                raise RunError(
                    f"step {self.state.global_step}: the loss or its gradient is not finite. Nothing of this step is "
                    f"kept; the last good checkpoint is {kept or 'the model that training started from'}. Lower "
                    "training.learning_rate, or set training.precision to float32"
                )
        super().log(logs, *args, **kwargs)

    def _take_means(self) -> dict[str, float]:
        sums = self.accelerator.reduce(self.means.sums.clone(), "sum") if self.args.world_size > 1 else self.means.sums
        return self.means.take(sums.clone(), self.objective.objective)

    @torch.no_grad()
    def measure(self, pairs: datasets.Dataset) -> dict[str, float]:
        """The loss and the means (`margin`, `nll` ...) of the current model on these pairs."""
        self.model.eval()
        self.means.sums.zero_()
        total = torch.zeros((), device=self.args.device)
        rows = self._rows(pairs, None)
        for step in range(len(rows)):
            for row in rows[step]:
                loss = self.compute_loss(self.model_wrapped, row)
                total += loss * row["step_pairs"] / len(pairs)
        loss = self.accelerator.reduce(total, "mean").item() if self.args.world_size > 1 else total.item()
        return {"loss": loss} | self._take_means()

    def evaluate(self, *_: object, **__: object) -> dict[str, float]:
        """Loss and means on the held-out pairs, logged as `eval_loss`, `eval_nll`, ..."""
        metrics = {f"eval_{name}": value for name, value in self.measure(self.eval_dataset).items()}
        self.log(metrics)
        self.control: TrainerControl = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save_checkpoint(self, *args: object, **kwargs: object) -> None:
        super()._save_checkpoint(*args, **kwargs)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            checkpoint = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            mark_complete(checkpoint, layout(self.objective, self.args.world_size))

    def floating_point_ops(self, inputs: object) -> int:
        """0: Trainer's estimate is for padded batches."""
        return 0


class _RecipesRhythm(TrainerCallback):
    """A resumed training saves and measures as often as the recipe says now, not as it said before."""

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: object, **__: object) -> None:
        state.compute_steps(args, state.max_steps)


class _SavesByTime(TrainerCallback):
    """Saves a checkpoint at the end of a step if the last one is `seconds` old.

    Processes save together, so the first one decides.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self.saved = seconds, 0.0  # the clock of the last checkpoint

    def on_train_begin(self, *_: object, **__: object) -> None:
        self.saved = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        due = torch.tensor(time.monotonic() - self.saved >= self.seconds, device=args.device)
        if args.world_size > 1:
            torch.distributed.broadcast(due, src=0)
        control.should_save |= bool(due)

    def on_save(self, *_: object, **__: object) -> None:
        self.saved = time.monotonic()


class Telemetry(TrainerCallback):
    """Passes Trainer's logs on to metrics.jsonl, shows progress and raises alarms."""

    def __init__(self, progress: Progress, log: Callable[..., None], training: TrainingConfig) -> None:
        self.progress, self.write, self.training = progress, log, training
        self.alarms: Alarms | None = None

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        if not logs or not state.is_world_process_zero:
            return
        values = {name: round(float(value), 6) for name, value in logs.items()}
        if "loss" in values:
            values["epoch"] = round(values["epoch"] * self.training.epochs, 6)  # Trainer sees all epochs as one
            self.write("train", step=state.global_step, **nested(values))
            self.alarms = self.alarms or Alarms(state.max_steps)
            for name, message in self.alarms.observe(state.global_step, values):
                self.write("alarm", step=state.global_step, alarm=name, message=message)
                self.progress.say(f"step {state.global_step}: {message}")
        elif "eval_loss" in values:
            held_out = {name.removeprefix("eval_"): value for name, value in values.items() if name != "epoch"}
            self.write("held_out", step=state.global_step, **nested(held_out))

    def on_step_end(self, *_: object, **__: object) -> None:
        self.progress.advance(min(self.training.batch_size, self.progress.total - self.progress.rows))


def training_arguments(config: Config, folder: Path, num_pairs: int, device: torch.device) -> TrainingArguments:
    """The recipe's training section as Trainer's arguments. One item of the data loader is one optimiser step."""
    training = config.training
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder.parent / "tensorboard")  # the checkpoints' folder is removed
    steps = math.ceil(num_pairs / training.batch_size) * training.epochs
    arguments = TrainingArguments(
        output_dir=str(folder),
        learning_rate=training.learning_rate,
        lr_scheduler_type=training.schedule,
        # The first step of a warm-up has learning rate 0: too much of a short training, and all of a single step.
        warmup_steps=math.ceil(training.warmup_ratio * steps) if steps >= FEW_STEPS else 0,
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        max_steps=steps,
        per_device_train_batch_size=1,
        bf16=uses_bf16(training, device),
        use_cpu=device.type == "cpu",
        seed=config.seed,
        save_strategy="steps",
        save_steps=training.save_steps,
        save_total_limit=2,  # the previous one stays until the newest is complete
        eval_strategy="steps" if training.held_out else "no",
        eval_steps=training.eval_steps,
        eval_on_start=training.held_out > 0,
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to=training.report_to or "none",
        run_name=config.name,
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        ddp_find_unused_parameters=False,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # one process per GPU, never DataParallel
    return arguments
