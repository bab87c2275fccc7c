"""LLaMA-Factory: ShareGPT rows (conversations) or Alpaca rows (texts), and the `dataset_info.json` that names them.

Source: LLaMA-Factory's `data/README.md`, "Preference Dataset"; checked with its loader, version 0.9.5. A `columns`
entry replaces all default names there, so every column in use is named.
"""

from __future__ import annotations

import json
from typing import ClassVar

import yaml

from lidr.commands.export.formats.base import CHOSEN, REJECTED, Export, ExportedPair, ExportFormat, fenced
from lidr.records import Json

_NAMES = {"train": "pairs", "test": "pairs_test"}


class LlamaFactory(ExportFormat):
    """LLaMA-Factory: ShareGPT or Alpaca rows, and the `dataset_info.json` that names them."""

    title: ClassVar[str] = "LLaMA-Factory"

    def columns(self, item: ExportedPair, plain: bool) -> Json:
        pair = item.pair
        system = {"system": item.system_prompt} if item.system_prompt else {}
        if plain:
            return {"instruction": pair.prompt, "input": "", CHOSEN: pair.chosen, REJECTED: pair.rejected, **system}
        return {
            "conversations": [{"from": "human", "value": pair.prompt}],
            CHOSEN: {"from": "gpt", "value": pair.chosen},
            REJECTED: {"from": "gpt", "value": pair.rejected},
            **system,
        }

    def files(self, export: Export) -> dict[str, str]:
        names = {CHOSEN: CHOSEN, REJECTED: REJECTED} | ({"system": "system"} if export.system_prompt else {})
        if export.plain:
            entry = {"formatting": "alpaca", "columns": {"prompt": "instruction", "query": "input", **names}}
        else:
            entry = {"formatting": "sharegpt", "columns": {"messages": "conversations", **names}}
        info = {
            _NAMES[split]: {"file_name": self.file_name(split), "ranking": True, **entry} for split in export.splits
        }
        settings = {
            "model_name_or_path": export.start_from,
            "stage": "dpo",
            "do_train": True,
            "finetuning_type": "full",
            "dataset_dir": ".",
            "dataset": _NAMES["train"],
            **({"eval_dataset": _NAMES["test"], "eval_strategy": "epoch"} if "test" in export.splits else {}),
            "cutoff_len": export.max_length,
            "pref_loss": "sigmoid",
            "pref_beta": export.beta,
            "pref_ftx": export.alpha,
            "learning_rate": export.learning_rate,
            "num_train_epochs": export.epochs,
            "output_dir": "trained",
        }
        return {
            "dataset_info.json": json.dumps(info, indent=2) + "\n",
            "llamafactory.yaml": yaml.safe_dump(settings, sort_keys=False),
        }

    def usage(self, export: Export) -> str:
        return (
            f"In this folder:\n\n{fenced('bash', 'llamafactory-cli train llamafactory.yaml')}\n"
            "or name `dataset_dir` and `dataset: pairs` in a configuration of your own. LLaMA-Factory reads the "
            "prompt's form from the tokenizer's chat template; set `template` if its page names one for your model.\n"
        )
