"""log pi_ref of both answers of every pair: one pass with the frozen model before training, kept beside the pairs."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from lidr.config import Config, TrainingConfig
from lidr.errors import RunError
from lidr.likelihood.forward import PairForward, to_device
from lidr.likelihood.packing import plan_rows
from lidr.machine.devices import pick_device, uses_bf16
from lidr.progress import Progress
from lidr.records import Row, content_id
from lidr.run_dir import Model
from lidr.seals import RowFile, read_rows, read_seal

PAIRS_PER_BLOCK = 64  # computed between two writes


@dataclass(frozen=True, slots=True)
class ReferenceLogps(Row):
    """Log-probabilities (nats, summed over tokens) of a pair's answers under the reference; see `key` for `id`."""

    id: str
    pair_id: str
    chosen: float
    rejected: float


def reference_name(config: Config, model: Model) -> str:
    """The reference model, and bfloat16 if its products are: log-probabilities in float32 are not near enough."""
    bf16 = uses_bf16(config.training, pick_device(config.device))
    return f"{model.fingerprint} bfloat16" if bf16 else model.fingerprint


def key(reference: str, pair: dict[str, Any]) -> str:
    """What a row is kept under: the reference (see `reference_name`), the pair's id and its tokens."""
    return content_id(reference, *(pair[name] for name in ("id", "prompt_ids", "chosen_ids", "rejected_ids")))


def is_complete(dataset: Any, reference: str, path: Path) -> bool:
    """Whether every pair's reference log-probabilities are on disk, computed with this model."""
    return read_seal(path) is not None and all(row is not None for row in _rows_of(dataset, reference, path))


def is_readable(partial: Path) -> bool:
    """Whether every row of an unfinished file has its two numbers; the last line may be torn by a crash."""
    with partial.open("rb") as lines:
        return all(_has_numbers(line) for line in lines if line.endswith(b"\n"))


def _has_numbers(line: bytes) -> bool:
    try:
        row = json.loads(line)
        return int(row["id"], 16) >= 0 and math.isfinite(row["chosen"]) and math.isfinite(row["rejected"])
    except (ValueError, LookupError, TypeError, OverflowError):
        return False


def add_columns(dataset: Any, reference: str, path: Path) -> Any:
    """The data set with columns `reference_chosen_logps` and `reference_rejected_logps`, from a complete file.

    Raises RunError if the file lacks a pair.
    """
    found = numpy.empty((2, len(dataset)))  # (sides, pairs)
    for number, row in enumerate(_rows_of(dataset, reference, path)):
        if row is None:
            raise RunError(f"{path}: it lacks log-probabilities of a pair; delete the file and run again")
        found[:, number] = row["chosen"], row["rejected"]
    for side, logps in zip(("chosen", "rejected"), found, strict=True):
        dataset = dataset.add_column(f"reference_{side}_logps", logps)
    return dataset


def _rows_of(dataset: Any, reference: str, path: Path) -> Iterator[dict[str, Any] | None]:
    """The file's row of every pair, None from the first pair that it lacks.

    The file is in the order of the pairs and may hold more of them, so one pass is enough.
    """
    rows = read_rows(path)
    for pair in dataset:
        row_id = key(reference, pair)
        yield next((row for row in rows if row["id"] == row_id), None)


def write_reference(
    config: Config, dataset: Any, model: Any, forward: PairForward, reference: str, path: Path, progress: Progress
) -> None:
    """Compute what is owed of the file, all processes together; the first one writes.

    Blocks are cut from the full list of pairs, so a killed pass computes the same rows as one that was not.
    """
    state = PartialState()
    file = RowFile(path, {})
    keys = array("Q")  # (pairs,) of the first process; as numbers, since a million texts of 16 digits need 70 MB
    owed = [numpy.empty(0, numpy.uint8)]  # a bit per pair, for all processes
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
    """A row's id as it is written."""
    return f"{number:016x}"


@torch.no_grad()
def pair_logps(
    config: Config, model: Any, forward: PairForward, pairs: list[dict[str, Any]]
) -> Iterator[tuple[int, float, float]]:
    """(number in `pairs`, log-probability of the chosen, of the rejected answer) for the rows of this process."""
    state = PartialState()
    costs = [forward.cost(pair, with_rejected=True) for pair in pairs]
    for items in plan_rows(costs, config.training.token_budget, state.num_processes)[state.process_index]:
        if items:
            row = to_device(forward.collate([pairs[item] for item in items], with_rejected=True), model.device)
            with autocast(config.training, model.device):
                logps = model(**row).tolist()
            yield from zip(items, logps[: len(items)], logps[len(items) :], strict=True)


def autocast(training: TrainingConfig, device: torch.device) -> Any:
    """The precision that training runs in."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if uses_bf16(training, device) else nullcontext()
