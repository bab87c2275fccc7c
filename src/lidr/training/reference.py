"""log pi_ref of both answers of every pair, computed before training with the frozen model and kept with the pairs."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from lidr.config import Config, TrainingConfig
from lidr.errors import RunError
from lidr.likelihood.forward import PairForward, to_device
from lidr.likelihood.packing import Pair, plan_rows
from lidr.machine.devices import pick_device, uses_bf16
from lidr.progress_bar import Progress
from lidr.records import Row, content_id
from lidr.run_dir import Model
from lidr.seals import RowFile, read_rows, read_seal

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel

PAIRS_PER_BLOCK = 64  # computed between two writes


@dataclass(frozen=True, slots=True)
class ReferenceLogps(Row):
    """Log-probabilities (nats, summed over tokens) of a pair's answers under the reference; see `key` for `id`."""

    id: str
    pair_id: str
    chosen: float
    rejected: float


def reference_name(config: Config, model: Model) -> str:
    """The reference's fingerprint, and `bfloat16` if it computes in it: float32 gives other log-probabilities."""
    bf16 = uses_bf16(config.training, pick_device(config.device))
    return f"{model.fingerprint} bfloat16" if bf16 else model.fingerprint


def key(reference: str, pair: Pair) -> str:
    """A row's id: a hash of the reference (see `reference_name`), the pair's id and its tokens."""
    return content_id(reference, pair["id"], pair["prompt_ids"], pair["chosen_ids"], pair["rejected_ids"])


def is_complete(dataset: Dataset, reference: str, path: Path) -> bool:
    """Whether the file has the log-probabilities of every pair under this reference."""
    return read_seal(path) is not None and all(row is not None for row in _rows_of(dataset, reference, path))


def is_readable(partial: Path) -> bool:
    """Whether every row of an unfinished file has its two numbers. The last line may be cut off by a crash."""
    with partial.open("rb") as lines:
        return all(_has_numbers(line) for line in lines if line.endswith(b"\n"))


def _has_numbers(line: bytes) -> bool:
    try:
        row = json.loads(line)
        return int(row["id"], 16) >= 0 and math.isfinite(row["chosen"]) and math.isfinite(row["rejected"])
    except (ValueError, LookupError, TypeError, OverflowError):
        return False


def add_columns(dataset: Dataset, reference: str, path: Path) -> Dataset:
    """The data set with the columns `reference_chosen_logps` and `reference_rejected_logps` from a complete file.

    Raises RunError if the file lacks a pair.
    """
    found = numpy.empty((2, len(dataset)))  # (sides, pairs)
    for number, row in enumerate(_rows_of(dataset, reference, path)):
        if row is None:
            raise RunError(f"{path}: it lacks log-probabilities of a pair; delete the file and run again")
        found[:, number] = row.chosen, row.rejected
    for side, logps in zip(("chosen", "rejected"), found, strict=True):
        dataset = dataset.add_column(f"reference_{side}_logps", logps)
    return dataset


def _rows_of(dataset: Dataset, reference: str, path: Path) -> Iterator[ReferenceLogps | None]:
    """The file's row of every pair; None for the first pair that is missing and all after it.

    The file has the order of the pairs and may have rows between them, so one pass is enough.
    """
    rows = read_rows(path)
    for pair in dataset:
        row_id = key(reference, pair)
        yield next((ReferenceLogps.from_dict(row) for row in rows if row["id"] == row_id), None)


def write_reference(
    config: Config,
    dataset: Dataset,
    model: PreTrainedModel,
    forward: PairForward,
    reference: str,
    path: Path,
    progress: Progress,
) -> None:
    """Compute the rows that the file lacks, in all processes; the first one writes.

    Blocks are cut from the full list of pairs, so a resumed pass computes the same rows as an uninterrupted one.
    """
    state = PartialState()
    file = RowFile(path, {})
    keys = array("Q")  # (pairs,) in the first process; numbers, because a million texts of 16 digits take 70 MB
    owed = [numpy.empty(0, numpy.uint8)]  # a bit per pair, sent to all processes
    if state.is_main_process:
        keys.extend(int(key(reference, pair), 16) for pair in dataset)
        file.open(_hex(number) for number in keys)
        owed = [numpy.packbits(numpy.fromiter((_hex(number) not in file for number in keys), bool, len(keys)))]
    broadcast_object_list(owed)
    is_owed = numpy.unpackbits(owed[0], count=len(dataset))  # (pairs,)
    for start in range(0, len(dataset), PAIRS_PER_BLOCK):
        block = range(start, min(start + PAIRS_PER_BLOCK, len(dataset)))
        if is_owed[start : start + PAIRS_PER_BLOCK].any():
            found = gather_object(list(pair_logps(config, model, forward, dataset.select(block).to_list())))
            for number, chosen, rejected in sorted(found) if state.is_main_process else []:
                row_id = _hex(keys[start + number])
                if row_id not in file:
                    file.append(row_id, {"chosen": chosen, "rejected": rejected})
        progress.advance(len(block))
    if state.is_main_process:
        rows = ((_hex(number), pair_id) for number, pair_id in zip(keys, dataset["id"], strict=True))
        kept = ((row_id, pair_id, file.row(row_id)) for row_id, pair_id in rows)
        file.seal(ReferenceLogps(row_id, pair_id, row["chosen"], row["rejected"]) for row_id, pair_id, row in kept)
    state.wait_for_everyone()


def _hex(number: int) -> str:
    """The written form of a row's id."""
    return f"{number:016x}"


@torch.no_grad()
def pair_logps(
    config: Config, model: PreTrainedModel, forward: PairForward, pairs: list[Pair]
) -> Iterator[tuple[int, float, float]]:
    """(index in `pairs`, log-probability of chosen, log-probability of rejected) of this process's share."""
    state = PartialState()
    costs = [forward.cost(pair, with_rejected=True) for pair in pairs]
    for items in plan_rows(costs, config.training.token_budget, state.num_processes)[state.process_index]:
        if items:
            row = to_device(forward.collate([pairs[item] for item in items], with_rejected=True), model.device)
            with autocast(config.training, model.device):
                logps = model(**row).tolist()
            yield from zip(items, logps[: len(items)], logps[len(items) :], strict=True)


def autocast(training: TrainingConfig, device: torch.device) -> AbstractContextManager[object]:
    """A context that sets the precision of training."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if uses_bf16(training, device) else nullcontext()
