"""Axolotl: `messages`, `chosen`, `rejected` for `chat_template.default`, or texts for `chatml.prompt_pairs`.

Source: Axolotl's documentation, "RLHF (Beta)", DPO; checked with its prompt strategies, version 0.19.
"""

from __future__ import annotations

from typing import ClassVar

import yaml

from lidr.commands.export.formats.base import (
    CHOSEN,
    REJECTED,
    Export,
    ExportedPair,
    ExportFormat,
    answer,
    fenced,
    messages,
    texts,
)
from lidr.records import Json


class Axolotl(ExportFormat):
    """Axolotl: `messages`, `chosen`, `rejected` for `chat_template.default`, or texts for `chatml.prompt_pairs`."""

    title: ClassVar[str] = "Axolotl"

    def columns(self, item: ExportedPair, plain: bool) -> Json:
        if plain:
            return texts(item) | ({"system": item.system_prompt} if item.system_prompt else {})
        return {"messages": messages(item), CHOSEN: answer(item.pair.chosen), REJECTED: answer(item.pair.rejected)}

    def files(self, export: Export) -> dict[str, str]:
        fields = {"field_messages": "messages", "field_chosen": CHOSEN, "field_rejected": REJECTED}
        reading = {"type": "chatml.prompt_pairs"} if export.plain else {"type": "chat_template.default", **fields}
        data = {
            split: [{"path": self.file_name(split), "ds_type": "json", "split": "train", **reading}]
            for split in export.splits
        }
        settings = {
            "base_model": export.start_from,
            "rl": "dpo",
            "rl_beta": export.beta,
            "dpo_loss_type": ["sigmoid", "sft"],
            "dpo_loss_weights": [1.0, export.alpha],
            **({} if export.plain else {"chat_template": "tokenizer_default"}),
            "datasets": data["train"],
            **({"test_datasets": data["test"]} if "test" in data else {}),
            "sequence_len": export.max_length,
            "micro_batch_size": 1,
            "gradient_accumulation_steps": 16,
            "num_epochs": export.epochs,
            "learning_rate": export.learning_rate,
            "optimizer": "adamw_torch",
            "output_dir": "trained",
        }
        return {"axolotl.yaml": yaml.safe_dump(settings, sort_keys=False)}

    def usage(self, export: Export) -> str:
        note = (
            "`chatml.prompt_pairs` writes ChatML around the texts; for a Llama 3 model set "
            "`type: llama3.prompt_pairs`.\n"
            if export.plain
            else "The model's own chat template is applied.\n"
        )
        code = "axolotl train axolotl.yaml"
        return (
            f"In this folder:\n\n{fenced('bash', code)}\n"
            f"or take `datasets` over into a configuration of your own. {note}"
        )
