"""TRL: `prompt`, `chosen`, `rejected`, as lists of messages or as texts.

Source: TRL's documentation, "Dataset formats and types" (preference, explicit prompt); checked with TRL 1.16.
"""

from __future__ import annotations

from typing import ClassVar

from lidr.commands.export.formats.base import Export, ExportedPair, ExportFormat, conversation, fenced, texts
from lidr.records import Json


class Trl(ExportFormat):
    """TRL: `prompt`, `chosen`, `rejected`, as lists of messages or as texts."""

    title: ClassVar[str] = "TRL"

    def columns(self, item: ExportedPair, plain: bool) -> Json:
        return texts(item) if plain else conversation(item)

    def usage(self, export: Export) -> str:
        files = ", ".join(f'"{split}": "{split}.jsonl"' for split in export.splits)
        evaluated = ', eval_dataset=pairs["test"]' if "test" in export.splits else ""
        code = f"""
from datasets import load_dataset
from trl import DPOConfig, DPOTrainer

pairs = load_dataset("json", data_files={{{files}}})
arguments = DPOConfig(
    "trained",
    loss_type=["sigmoid", "sft"],
    loss_weights=[1.0, {export.alpha}],
    beta={export.beta},
    learning_rate={export.learning_rate},
    num_train_epochs={export.epochs},
    max_length={export.max_length},
)
trainer = DPOTrainer("{export.start_from}", args=arguments, train_dataset=pairs["train"]{evaluated})
trainer.train()
"""
        note = (
            "The rows are texts: TRL applies no chat template, and ends each answer with the end-of-sequence token.\n"
            if export.plain
            else "The rows are conversations: TRL applies the model's own chat template.\n"
        )
        return f"{note}\n{fenced('python', code)}"
