"""The work of a training process: the reference pass, or training. `launch` starts a process for every GPU.

python -m lidr.training.worker reference|train RUN ITERATION
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate.utils import broadcast_object_list
from datasets import Dataset, load_from_disk
from transformers import PreTrainedModel, TrainingArguments, set_seed

from lidr.config import Config
from lidr.likelihood.forward import PairForward, RowLayout, find_layout, read_layout
from lidr.likelihood.packing import Pair
from lidr.machine.devices import pick_device
from lidr.models.rotary import changing_context
from lidr.progress_bar import Progress, track
from lidr.run_dir import Model, RunDir
from lidr.storage import partial_path, write_text
from lidr.system_errors import explain, writing
from lidr.training.checkpoints import forget_after, last_checkpoint, layout, step_of
from lidr.training.cost import training_cost
from lidr.training.held_out import held_out_of
from lidr.training.reference import add_columns, autocast, reference_name, write_reference
from lidr.training.saved import note_trained, sample
from lidr.training.trainer import PairTrainer, Telemetry, training_arguments
from lidr.training.weights import add_adapter, bit_sums, load_base, merge_adapter, save_full


def reference(config: Config, run_dir: RunDir, iteration: int) -> None:
    """Find out whether pairs can be packed for the model, and compute the log pi_ref that is missing."""
    set_seed(config.seed)
    dataset = _dataset(run_dir, iteration)
    arguments = training_arguments(config, run_dir.training(iteration), len(dataset), _device(config))
    policy = run_dir.reference(config, iteration)
    model = load_base(config, policy, arguments.device).eval()
    forward = _forward(config, run_dir, iteration, model, dataset, sharded=False, write=arguments.should_save)
    if config.training.objective == "dpo":
        with _progress(f"iteration {iteration}  reference", len(dataset), arguments) as progress:
            file = run_dir.reference_logps(iteration)
            write_reference(config, dataset, model, forward, reference_name(config, policy), file, progress)


def pairs_with_reference(config: Config, run_dir: RunDir, iteration: int) -> Dataset:
    """All tokenised pairs of an iteration; for DPO with log pi_ref of both sides."""
    dataset = _dataset(run_dir, iteration)
    if config.training.objective == "sft":
        return dataset
    policy = run_dir.reference(config, iteration)
    return add_columns(dataset, reference_name(config, policy), run_dir.reference_logps(iteration))


def train(config: Config, run_dir: RunDir, iteration: int) -> None:
    """Train from the last complete checkpoint, or from M_t, and write M_{t+1} to the model folder's partial path."""
    set_seed(config.seed)
    start, folder = run_dir.model(config, iteration - 1), run_dir.training(iteration)
    dataset = pairs_with_reference(config, run_dir, iteration)
    trained_on, held_out = split(dataset, config)
    arguments = training_arguments(config, folder / "checkpoints", len(trained_on), _device(config))
    sharded = config.training.distributed != "ddp"
    policy = run_dir.reference(config, iteration)
    at_reference = config.training.objective == "dpo" and policy.fingerprint == start.fingerprint
    model = load_base(config, start, arguments.device)
    forward = _forward(config, run_dir, iteration, model, dataset, sharded, write=arguments.should_save)
    before = bit_sums(model.state_dict()) if arguments.should_save and not config.training.lora else {}
    if config.training.lora:
        model = add_adapter(model, config.training.lora, config.seed)
    total = len(trained_on) * config.training.epochs
    with _progress(f"iteration {iteration}  train", total, arguments) as progress:
        telemetry = Telemetry(
            progress, lambda event, **values: run_dir.log(event, iteration=iteration, **values), config.training
        )
        trainer = PairTrainer(
            config,
            forward,
            at_reference,
            model=model,
            args=arguments,
            train_dataset=trained_on,
            eval_dataset=held_out,
            callbacks=[telemetry],
        )
        began = time.monotonic()
        _fit(trainer, run_dir, iteration, progress)
        cost = training_cost(config, trainer, time.monotonic() - began)
        if arguments.should_save and cost["tokens"]:  # no step is left if only the saving was missing
            run_dir.log("cost", iteration=iteration, stage="training", **cost)
        trained = trainer.measure(sample(trained_on, config))
        if arguments.should_save:
            note_trained(folder, trained)
    _save(config, trainer, start, before, folder / "adapter", partial_path(run_dir.model_folder(iteration)))


def split(dataset: Dataset, config: Config) -> tuple[Dataset, Dataset | None]:
    """(pairs to train on, held-out pairs or None): a prompt is held out in all languages."""
    if not config.training.held_out:
        return dataset, None
    prompts = list(dataset["prompt_id"])
    out = held_out_of(prompts, config)
    places = {inside: [n for n, prompt in enumerate(prompts) if (prompt in out) == inside] for inside in (True, False)}
    return dataset.select(places[False]), dataset.select(places[True])


def _fit(trainer: PairTrainer, run_dir: RunDir, iteration: int, progress: Progress) -> None:
    checkpoint = _good_checkpoint(trainer, run_dir, iteration, progress)
    if checkpoint:
        progress.kept = progress.rows = min(step_of(checkpoint) * trainer.objective.batch_size, progress.total)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def _good_checkpoint(trainer: PairTrainer, run_dir: RunDir, iteration: int, progress: Progress) -> Path | None:
    """The checkpoint to continue from; the first process looks for it, reports damage and informs the others."""
    found: list[Path | None] = [None]
    if trainer.args.should_save:
        folder = Path(trainer.args.output_dir)
        reasons: list[str] = []
        found = [last_checkpoint(folder, layout(trainer.objective, trainer.args.world_size), reasons.append)]
        forget_after(folder, found[0])
        for reason in reasons:
            instead = f"training continues from {found[0].name}" if found[0] else "training starts over"
            progress.say(f"{reason}; {instead}")
            run_dir.log("checkpoint", iteration=iteration, message=f"{reason}; {instead}")
    broadcast_object_list(found)
    return found[0]


def _save(config: Config, trainer: PairTrainer, start: Model, before: dict[str, int], adapter: Path, out: Path) -> None:
    if config.training.lora is None:
        save_full(trainer, start, before, out)
    else:
        trainer.save_model(str(adapter))
        trainer.accelerator.wait_for_everyone()
        if trainer.args.should_save:
            merge_adapter(config, start, adapter, out)
    trainer.accelerator.wait_for_everyone()


def _forward(
    config: Config,
    run_dir: RunDir,
    iteration: int,
    model: PreTrainedModel,
    dataset: Dataset,
    sharded: bool,
    write: bool,
) -> PairForward:
    """The model's `PairForward`. The layout is tried on the model; a sharded one takes that of the reference pass."""
    verdict = run_dir.training(iteration) / "packing.json"
    if sharded:
        layout = read_layout(verdict)
    else:
        layout = find_layout(
            model, _extremes(dataset, changing_context(model.config)), autocast(config.training, model.device)
        )
        if write:
            write_text(verdict, json.dumps(asdict(layout)) + "\n")
    if write:
        _tell(type(model).__name__, layout)
    training = config.training
    recompute_above = {True: 0, False: None, "auto": training.token_budget}[training.gradient_checkpointing]
    return PairForward(model, layout.packed, recompute_above, layout.alone_above)


def _tell(name: str, layout: RowLayout) -> None:
    if not layout.packed:
        print(f"{name} cannot be packed ({layout.why_not}); pairs are padded instead, which is slower", file=sys.stderr)
    if layout.alone_above is not None:
        print(
            f"{name}: answers of more than {layout.alone_above} tokens, the prompt included, are computed one by one, "
            "because they would change the others in their row",
            file=sys.stderr,
        )


def _extremes(dataset: Dataset, context: int | None) -> list[Pair]:
    """The shortest answer, the longest within the context and the longest of all, as pairs without a rejected side."""
    places = {
        len(pair["prompt_ids"]) + len(pair[side]): (number, side)
        for number, pair in enumerate(dataset)
        for side in ("chosen_ids", "rejected_ids")
    }
    within = max((length for length in places if context and length <= context), default=min(places))
    found = [(dataset[number], side) for number, side in (places[n] for n in (min(places), within, max(places)))]
    return [{"prompt_ids": pair["prompt_ids"], "chosen_ids": pair[side]} for pair, side in found]


def _dataset(run_dir: RunDir, iteration: int) -> Dataset:
    return load_from_disk(str(run_dir.training(iteration) / "tokens"))


def _device(config: Config) -> torch.device:
    return pick_device(config.device)


def _progress(title: str, total: int, arguments: TrainingArguments) -> AbstractContextManager[Progress]:
    """Progress that only the first process shows."""
    return track(title, total) if arguments.should_save else nullcontext(Progress(title, total))


def main() -> None:
    """See the module's docstring."""
    task, path, iteration = sys.argv[1:]
    run_dir, config = RunDir.load(Path(path))
    try:
        with writing(run_dir.iteration(int(iteration))):
            {"reference": reference, "train": train}[task](config, run_dir, int(iteration))
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        print(f"lidr: {message}", file=sys.stderr)
        sys.exit(1)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
