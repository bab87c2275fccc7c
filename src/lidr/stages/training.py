"""Step 5: M_{t+1} from M_t on the preference pairs, with DPO + NLL, or with the NLL alone (SFT)."""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pydantic import StrictInt, TypeAdapter, ValidationError

from lidr.config import Config
from lidr.errors import DamagedError, RunError
from lidr.progress_bar import Progress, track
from lidr.records import canonical_json
from lidr.results import Saved
from lidr.run_dir import Model, RunDir
from lidr.seals import (
    Inputs,
    Outputs,
    check_sealed,
    digest,
    input_changes,
    is_missing,
    read_document,
    read_json,
    read_seal,
    seal,
    sealed,
    write_sealed,
)
from lidr.stages.pairs import read_pairs, read_summary
from lidr.stages.shortage import check_pairs
from lidr.storage import partial_path, write_text
from lidr.system_errors import writing

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

# A changed value of these does not change what is trained, up to rounding.
_NOT_DEFINING = {
    "reference",  # its fingerprint is an input
    "save_steps",
    "save_minutes",
    "eval_steps",
    "gradient_checkpointing",
    "token_budget",
    "report_to",
    "num_processes",
    "distributed",
    "launch",
}


_LABELS = ("id", "prompt_id", "language", "kind")
_TOKENS = ("prompt_ids", "chosen_ids", "rejected_ids")


def inputs(config: Config, run: RunDir, iteration: int) -> Inputs:
    """Everything that the trained weights depend on."""
    return {
        "pairs": digest(run.pair_summary(iteration)),
        "model": run.model(config, iteration - 1).fingerprint,
        "reference": run.reference(config, iteration).fingerprint,
        "training": config.training.model_dump(exclude=_NOT_DEFINING),
        "system_prompt": config.system_prompt,
        "seed": config.seed,
    }


def outputs(config: Config, run: RunDir, iteration: int) -> Outputs:
    return [(run.model_folder(iteration), inputs(config, run, iteration))]


def run(config: Config, run_dir: RunDir, iteration: int) -> None:
    """Tokenise, compute the reference, train (continuing from a checkpoint), and seal the model's folder."""
    made_from = inputs(config, run_dir, iteration)
    _refuse_unsealed(run_dir.model_folder(iteration))
    folder, partial = run_dir.training(iteration), partial_path(run_dir.model_folder(iteration))
    _forget_other_training(folder, made_from)
    _sweep(folder)
    start = run_dir.checked_model(config, iteration - 1)
    pairs = read_summary(run_dir, iteration).total
    with track(f"iteration {iteration}  tokenise", pairs) as tokenising:
        dataset, too_long = _tokenize(config, run_dir, iteration, start, tokenising)
    if too_long:  # these were not known when the loop looked at the pairs
        check_pairs(config, run_dir, iteration, too_long, list(dataset["prompt_id"]))
    from lidr.training.launch import check_trackers, run_workers

    check_trackers(config.training)
    began = time.monotonic()
    if _owes_reference(config, run_dir, iteration, dataset):
        run_workers("reference", config, run_dir, iteration)
    run_workers("train", config, run_dir, iteration)
    saved = _measure_saved(config, run_dir, iteration)
    seconds = round(time.monotonic() - began, 3)
    summary = {"pairs": len(dataset), "too_long": too_long, "saved": asdict(saved)}
    write_sealed(folder / "summary.json", {}, [json.dumps(summary, indent=1)])
    run_dir.log("stage", iteration=iteration, stage="training", seconds=seconds, rows=len(dataset))
    from lidr.models import combined, file_hashes

    hashes = file_hashes(partial)
    seal(partial, run_dir.model_folder(iteration), made_from, len(dataset), combined(hashes), hashes)
    (folder / "trained.json").unlink(missing_ok=True)
    for leftover in ("checkpoints", "tokens"):
        shutil.rmtree(folder / leftover, ignore_errors=True)


def _measure_saved(config: Config, run_dir: RunDir, iteration: int) -> Saved:
    """Log how much of the training's gain the saved model has, as the engine loads it (event `saved`)."""
    from lidr.training.saved import alarm, measure_saved, sample
    from lidr.training.worker import pairs_with_reference, split

    trained_on, _ = split(pairs_with_reference(config, run_dir, iteration), config)
    found = measure_saved(config, run_dir, iteration, sample(trained_on, config))
    run_dir.log("saved", iteration=iteration, **asdict(found))
    if message := alarm(found):
        steps = config.training.epochs * math.ceil(len(trained_on) / config.training.batch_size)
        run_dir.log("alarm", iteration=iteration, step=steps, alarm="saved_model", message=message)
        print(f"iteration {iteration}  {message}", file=sys.stderr)
    return found


def _refuse_unsealed(folder: Path) -> None:
    """Raise DamagedError if a model's seal is missing: to replace the model would cost a training."""
    if folder.exists() and read_seal(folder) is None:
        raise DamagedError(
            f"{folder}: its seal ({folder.parent / f'.{folder.name}.seal.json'}) is missing; put it back, or delete "
            "the folder and start the run again, which trains again"
        )


def _sweep(folder: Path) -> None:
    """Remove leftovers of a killed training, and a damaged note."""
    for leftover in folder.glob("tmp*"):
        shutil.rmtree(leftover, ignore_errors=True)
    packing = folder / "packing.json"
    try:
        read_json(packing, "it is made again")
    except DamagedError:
        packing.unlink()


def _forget_damaged_reference(file: Path) -> None:
    """Remove damaged log-probabilities: to compute them again costs one pass."""
    from lidr.training.reference import is_readable

    partial, damaged = partial_path(file), []
    if partial.exists() and not is_readable(partial):
        damaged.append(partial)
    try:
        if file.exists():
            check_sealed(file)
    except RunError:
        damaged.append(file)
    for path in damaged:
        print(f"{path} is damaged; its log-probabilities are computed again", file=sys.stderr)
        path.unlink()


def _owes_reference(config: Config, run_dir: RunDir, iteration: int, dataset: Dataset) -> bool:
    """Whether the reference pass has to run: for log pi_ref, or to try out packing, which a sharded model cannot."""
    from lidr.training.reference import is_complete, reference_name

    if config.training.distributed != "ddp" and not (run_dir.training(iteration) / "packing.json").exists():
        return True
    policy = run_dir.reference(config, iteration)
    file = run_dir.reference_logps(iteration)
    _forget_damaged_reference(file)
    return config.training.objective == "dpo" and not is_complete(dataset, reference_name(config, policy), file)


def _tokenize(
    config: Config, run_dir: RunDir, iteration: int, start: Model, progress: Progress
) -> tuple[Dataset, dict[str, int]]:
    """The pairs as a memory-mapped data set of token ids, and how many were too long, by language."""
    from datasets import Dataset, Features, Sequence, Value, load_from_disk

    from lidr.models import end_of_turn_ids, load_tokenizer

    tokenizer = load_tokenizer(start.folder, config.model.trust_remote_code)
    end_ids = end_of_turn_ids(start.folder, tokenizer)
    too_long: Counter[str] = Counter()
    ids, text = Sequence(Value("int32")), Value("string")
    features = Features(dict.fromkeys(_LABELS, text) | dict.fromkeys(_TOKENS, ids))

    def rows() -> Iterator[dict[str, str | list[int]]]:
        for pair in _read_pairs(config, run_dir, iteration):
            row = _tokenize_pair(config, tokenizer, end_ids, pair)
            progress.advance()
            longest = len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))
            if longest > config.training.max_length:
                too_long[pair["language"]] += 1
            else:
                yield row

    if next(rows(), None) is None:
        check_pairs(config, run_dir, iteration, too_long, [])
    too_long.clear()
    progress.rows = 0
    folder = run_dir.training(iteration) / "tokens"
    shutil.rmtree(folder, ignore_errors=True)
    with writing(folder), TemporaryDirectory(dir=run_dir.training(iteration)) as cache:
        dataset = Dataset.from_generator(rows, features=features, cache_dir=cache, fingerprint="pairs")
        dataset.save_to_disk(folder)
    return load_from_disk(str(folder)), dict(too_long)


def _tokenize_pair(
    config: Config, tokenizer: PreTrainedTokenizerBase, end_ids: set[int], pair: dict[str, Any]
) -> dict[str, str | list[int]]:
    from lidr.likelihood.tokens import tokenize_answer, tokenize_prompt

    system = [{"role": "system", "content": config.system_prompt}] if config.system_prompt else []
    messages = [*system, {"role": "user", "content": pair["prompt"]}]
    prompt, prompt_ids = tokenize_prompt(tokenizer, messages, end_ids)
    sides = {
        f"{side}_ids": tokenize_answer(tokenizer, messages, prompt, pair[side], end_ids)
        for side in ("chosen", "rejected")
    }
    for side in ("chosen", "rejected"):
        if pair.get(f"{side}_cut_off"):
            sides[f"{side}_ids"].pop()  # the model did not end its turn there
    return {name: pair[name] for name in _LABELS} | {"prompt_ids": prompt_ids, **sides}


def _read_pairs(config: Config, run_dir: RunDir, iteration: int) -> Iterator[dict[str, Any]]:
    for code in config.languages:
        yield from read_pairs(run_dir, iteration, code)


_FORGET = "put it back, or delete it and its seal (.summary.json.seal.json) to go on without what it measured"


@dataclass(frozen=True, slots=True)
class TrainingSummary:
    """What a training left out, pairs by language, and how much of its gain was saved (None in older runs)."""

    too_long: dict[str, StrictInt] = field(default_factory=dict)
    saved: Saved | None = None


_SUMMARY = TypeAdapter(TrainingSummary)


def read_training_summary(run_dir: RunDir, iteration: int) -> TrainingSummary:
    """The summary of a finished training. Raises DamagedError if it does not fit the pairs and the model.

    Without it nothing is lost but the measurement of what was saved, if no pair was left out.
    """
    path, folder = run_dir.training(iteration) / "summary.json", run_dir.model_folder(iteration)
    left_out = read_summary(run_dir, iteration).total - sealed(folder).rows
    remedy = f"put it back, or delete {folder} and start the run again, which trains again" if left_out else _FORGET
    try:
        if is_missing(path):
            raise DamagedError(f"{path}: missing")
        found = read_document(path) if read_seal(path) else read_json(path, remedy)  # older ones have no seal
    except DamagedError:
        raise DamagedError(f"{path}: damaged or missing; {remedy}") from None
    try:
        summary = _SUMMARY.validate_python(found)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise DamagedError(f"{path}: damaged ({where}); {remedy}") from None
    if sum(summary.too_long.values()) != left_out:
        raise DamagedError(f"{path}: damaged or missing: {left_out} pairs were too long; {remedy}")
    return summary


def inputs_note(run: RunDir, iteration: int) -> Path:
    """The file with the inputs of a training's checkpoints."""
    return run.training(iteration) / "inputs.json"


def has_checkpoint(run: RunDir, iteration: int) -> bool:
    """Whether a training was begun that can be continued."""
    return any((run.training(iteration) / "checkpoints").glob("checkpoint-*"))


def _forget_other_training(folder: Path, made_from: Inputs) -> None:
    """Remove the checkpoints of a training with other inputs, which must not be continued."""
    note = folder / "inputs.json"
    remedy = f"delete {folder} to train from the start, or put the file back"
    begun = read_json(note, remedy) if note.exists() and (folder / "checkpoints").exists() else None
    if begun is None or input_changes(begun, made_from):
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(note, canonical_json(made_from))
