"""log pi_ref of both answers of every pair: one pass with the frozen model before training, kept beside the pairs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from lidr.config import Config, TrainingConfig
from lidr.progress import Progress
from lidr.records import Row, content_id
from lidr.run_dir import RowFile, read_rows
from lidr.training.forward import PairForward, to_device
from lidr.training.packing import plan_rows
from lidr.training.trainer import uses_bf16

PAIRS_PER_BLOCK = 64  # computed between two writes


@dataclass(frozen=True, slots=True)
class ReferenceLogps(Row):
    """Log-probabilities (nats, summed over tokens) of a pair's answers under the reference; see `key` for `id`."""

    id: str
    pair_id: str
    chosen: float
    rejected: float


def key(fingerprint: str, pair: dict[str, Any]) -> str:
    """What a row is kept under: the reference model, the pair's id and its tokens."""
    return content_id(fingerprint, *(pair[name] for name in ("id", "prompt_ids", "chosen_ids", "rejected_ids")))


def is_complete(dataset: Any, fingerprint: str, path: Path) -> bool:
    """Whether every pair's reference log-probabilities are on disk, computed with this model."""
    known = {row["id"] for row in read_rows(path)} if path.exists() else set()
    return all(key(fingerprint, pair) in known for pair in dataset)


def add_columns(dataset: Any, fingerprint: str, path: Path) -> Any:
    """The data set with columns `reference_chosen_logps` and `reference_rejected_logps`, from a complete file."""
    known = {row["id"]: row for row in read_rows(path)}
    rows = [known[key(fingerprint, pair)] for pair in dataset]
    for side in ("chosen", "rejected"):
        dataset = dataset.add_column(f"reference_{side}_logps", [row[side] for row in rows])
    return dataset


def write_reference(
    config: Config, dataset: Any, model: Any, forward: PairForward, fingerprint: str, path: Path, progress: Progress
) -> None:
    """Compute what is owed of the file, all processes together; the first one writes.

    Blocks are cut from the full list of pairs, so a killed pass computes the same rows as one that was not.
    """
    state = PartialState()
    file = RowFile(path, {})
    keys = [key(fingerprint, pair) for pair in dataset]
    kept: list[set[str]] = [set()]
    if state.is_main_process:
        file.open(keys)
        kept = [set(file)]
    broadcast_object_list(kept)
    for start in range(0, len(keys), PAIRS_PER_BLOCK):
        block = range(start, min(start + PAIRS_PER_BLOCK, len(keys)))
        if not all(keys[number] in kept[0] for number in block):
            found = gather_object(list(_logps(config, model, forward, dataset.select(block).to_list())))
            for number, chosen, rejected in sorted(found) if state.is_main_process else []:
                row_id = keys[start + number]
                if row_id not in file:
                    file.append(row_id, {"chosen": chosen, "rejected": rejected})
        progress.advance(len(block))
    if state.is_main_process:
        ids = dataset["id"]
        rows = ((row_id, ids[number], file.row(row_id)) for number, row_id in enumerate(keys))
        file.seal(ReferenceLogps(row_id, pair_id, row["chosen"], row["rejected"]) for row_id, pair_id, row in rows)
    state.wait_for_everyone()


@torch.no_grad()
def _logps(
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
