"""log pi_ref of both answers of every pair: one pass with the frozen model before training, kept on disk."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM

from lidr.config import Config
from lidr.engines.transformers import pick_device
from lidr.progress import track
from lidr.run_dir import Model, RowFile
from lidr.training.loss import answer_logps
from lidr.training.tokens import collate


def add_reference_logps(dataset: Any, config: Config, reference: Model, file: RowFile, title: str) -> Any:
    """The data set with columns `reference_chosen_logps` and `reference_rejected_logps` (sums over answer tokens).

    Rows that an earlier attempt left in `file` are not computed again.
    """
    file.open(dataset["id"])
    owed = [number for number, pair_id in enumerate(dataset["id"]) if pair_id not in file]
    with track(title, len(dataset), kept=len(file)) as progress:
        if owed:
            device = pick_device(config.engine.device)
            model = load_trainable(config, reference, device).eval()
            step = config.training.micro_batch_size
            for start in range(0, len(owed), step):
                pairs = dataset.select(owed[start : start + step]).to_list()
                for pair, chosen, rejected in zip(pairs, *_logps(model, pairs, device), strict=True):
                    file.append(pair["id"], {"chosen": chosen, "rejected": rejected})
                progress.advance(len(pairs))
            del model
    rows = [file.row(pair_id) for pair_id in dataset["id"]]
    dataset = dataset.add_column("reference_chosen_logps", [row["chosen"] for row in rows])
    return dataset.add_column("reference_rejected_logps", [row["rejected"] for row in rows])


@torch.inference_mode()
def _logps(model: Any, pairs: list[dict[str, Any]], device: torch.device) -> tuple[list[float], list[float]]:
    batch = {name: value.to(device) for name, value in collate(pairs).items()}
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=uses_bf16(device)):
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
    logps = answer_logps(logits, batch["input_ids"], batch["answer_mask"]).tolist()
    return logps[: len(pairs)], logps[len(pairs) :]


def load_trainable(config: Config, model: Model, device: torch.device) -> Any:
    """A model with float32 weights: updates of the size of the paper's learning rates vanish in bfloat16 weights."""
    loaded = AutoModelForCausalLM.from_pretrained(
        model.folder, dtype=torch.float32, trust_remote_code=config.model.trust_remote_code
    )
    return loaded.to(device)


def uses_bf16(device: torch.device) -> bool:
    """Whether matrix products run in bfloat16 (with float32 weights): on GPUs that support it."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported()
