"""NeMo RL: `context` and two ranked `completions` (PreferenceDataset), or three texts (BinaryPreferenceDataset).

Source: NeMo RL's guide to DPO, and its `nemo_rl/data/datasets/preference_datasets` and `preference_preprocessor`: the
lower rank is preferred, exactly two completions. Its package on PyPI is empty, so its own loader is not run in our
checks.
"""

from __future__ import annotations

from typing import ClassVar

import yaml

from lidr.commands.export.formats.base import Export, ExportedPair, ExportFormat, answer, fenced, messages, texts
from lidr.records import Json


class NemoRl(ExportFormat):
    """NeMo RL: `context` and two ranked `completions` (PreferenceDataset), or three texts (BinaryPreferenceDataset)."""

    title: ClassVar[str] = "NeMo RL"

    def columns(self, item: ExportedPair, plain: bool) -> Json:
        if plain:
            return texts(item)
        ranked = enumerate((item.pair.chosen, item.pair.rejected))
        return {
            "context": messages(item),
            "completions": [{"rank": rank, "completion": [answer(text)]} for rank, text in ranked],
        }

    def files(self, export: Export) -> dict[str, str]:
        kind = "BinaryPreferenceDataset" if export.plain else "PreferenceDataset"
        data = {
            split: {"dataset_name": kind, "data_path": f"path/to/this/folder/{self.file_name(split)}", "split": "train"}
            for split in export.splits
        }
        measured = "test" in data
        settings = {
            "defaults": "path/to/NeMo-RL/examples/configs/dpo.yaml",
            "dpo": {
                "max_num_epochs": export.epochs,
                "reference_policy_kl_penalty": export.beta,
                "sft_loss_weight": export.alpha,
                **({} if measured else {"val_period": 0, "val_at_start": False}),
            },
            **({} if measured else {"checkpointing": {"metric_name": None}}),
            "policy": {
                "model_name": export.start_from,
                "tokenizer": {"name": export.start_from},
                "max_total_sequence_length": export.max_length,
                "optimizer": {"kwargs": {"lr": export.learning_rate}},
            },
            "data": {"train": data["train"], "validation": data.get("test")},
        }
        return {"nemo_rl.yaml": yaml.safe_dump(settings, sort_keys=False)}

    def usage(self, export: Export) -> str:
        code = "uv run examples/run_dpo.py --config path/to/this/folder/nemo_rl.yaml"
        note = (
            "A text as the prompt becomes one user turn, and the model's chat template goes around it.\n"
            if export.plain
            else "Rank 0 is the chosen answer.\n"
        )
        return (
            f"Set the paths in `nemo_rl.yaml`, then in a checkout of NeMo RL:\n\n{fenced('bash', code)}\n{note}"
            "`nemo_rl.yaml` has what differs from NeMo RL's own `dpo.yaml`, in the form it has had since `data.train` "
            "took the place of `data.train_data_path`.\n"
        )
