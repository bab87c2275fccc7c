"""OpenRLHF: `prompt`, `chosen`, `rejected`, as lists of messages for its chat template, or as texts.

Source: OpenRLHF's `RewardDataset` with `is_dpo`, version 0.11: with a prompt key it renders prompt and prompt + answer.
"""

from __future__ import annotations

import shlex
from typing import ClassVar

from lidr.commands.export.formats.base import (
    CHOSEN,
    PROMPT,
    REJECTED,
    Export,
    ExportedPair,
    ExportFormat,
    conversation,
    fenced,
    texts,
)
from lidr.records import Json


class OpenRlhf(ExportFormat):
    """OpenRLHF: `prompt`, `chosen`, `rejected`, as lists of messages for its chat template, or as texts."""

    title: ClassVar[str] = "OpenRLHF"

    def columns(self, item: ExportedPair, plain: bool) -> Json:
        return texts(item) if plain else conversation(item)

    def usage(self, export: Export) -> str:
        # A file of its own is always the split `train`; the default, `test`, would fail.
        measured = ["--eval.dataset test.jsonl --eval.split train"] if "test" in export.splits else []
        template = [] if export.plain else ["--data.apply_chat_template"]
        options = [
            f"--model.model_name_or_path {shlex.quote(export.start_from)}",
            "--data.dataset train.jsonl",
            f"--data.prompt_key {PROMPT} --data.chosen_key {CHOSEN} --data.rejected_key {REJECTED}",
            *template,
            *measured,
            f"--data.max_len {export.max_length}",
            f"--model.beta {export.beta} --model.nll_loss_coef {export.alpha}",
            f"--adam.lr {export.learning_rate} --train.max_epochs {export.epochs}",
            "--ckpt.output_dir trained",
        ]
        code = " \\\n  ".join(["deepspeed --module openrlhf.cli.train_dpo", *options])
        note = (
            "The rows are texts and go in as they are; `--data.input_template` puts something around each prompt.\n"
            if export.plain
            else ""
        )
        return (
            f"In this folder, with OpenRLHF 0.11:\n\n{fenced('bash', code)}\n{note}"
            "Older versions spell the options without their group: `--prompt_key`, `--chosen_key`, `--rejected_key`, "
            "`--apply_chat_template`.\n"
        )
