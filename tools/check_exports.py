"""Loads exports with a tool's own code: `python tools/check_exports.py TOOL FOLDER MODEL`, in the tool's environment.

FOLDER is what `lidr export` wrote for the tool; MODEL is a folder with a tokenizer. Every row has to come out of
the tool's loader with its own prompt and its own two answers. `tools/test_exports.sh` makes the environments.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

Texts = tuple[str, str, str]  # prompt with everything before the answer, chosen, rejected


def main() -> None:
    """See the module's docstring. The exit code is 1 where a row comes out wrong."""
    tool, folder, model = sys.argv[1], Path(sys.argv[2]).resolve(), Path(sys.argv[3]).resolve()
    note = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    rows = [json.loads(line) for line in (folder / "train.jsonl").open(encoding="utf-8")]
    with tempfile.TemporaryDirectory() as work, contextlib.chdir(folder):
        os.environ.setdefault("HF_DATASETS_CACHE", work)
        loaded = list(LOADERS[tool](folder, model, note["form"] == "plain"))
    wrong = [place for place, (row, found) in enumerate(zip(rows, loaded, strict=True)) if not agrees(row, found)]
    if wrong:
        place = wrong[0]
        sys.exit(f"{len(wrong)} of {len(rows)} rows are wrong; row {place}:\n{rows[place]}\n{loaded[place]}")
    print(f"{tool} {note['form']}: {len(rows)} rows as they were exported; the first as the tool has it:")
    for name, text in zip(("prompt", "chosen", "rejected"), loaded[0], strict=True):
        print(f"  {name:<9}{text!r}")


def agrees(row: dict[str, Any], found: Texts) -> bool:
    """Whether the tool has the row's texts, with nothing but markup around the answers."""
    prompt, system, chosen, rejected = written(row)
    return (
        prompt in found[0]
        and (system or "") in found[0]
        and all(
            text.strip().removesuffix("<|im_end|>").strip() == wanted
            for text, wanted in zip(found[1:], (chosen, rejected), strict=True)
        )
    )


def written(row: dict[str, Any]) -> tuple[str, str | None, str, str]:
    """(prompt, system prompt, chosen, rejected) of a row in any of the formats."""
    turns = next((row[name] for name in ("messages", "conversations", "prompt", "instruction") if name in row), "")
    system = row.get("system")
    if isinstance(turns, list):
        system = next((turn["content"] for turn in turns if turn.get("role") == "system"), system)
        turns = turns[-1].get("content", turns[-1].get("value"))
    return turns, system, text_of(row["chosen"]), text_of(row["rejected"])


def text_of(side: Any) -> str:
    side = side[-1] if isinstance(side, list) else side
    return side if isinstance(side, str) else side.get("content", side.get("value"))


def load_trl(folder: Path, model: Path, plain: bool) -> Iterator[Texts]:
    """The data set that DPOTrainer trains on, decoded."""
    from datasets import load_dataset
    from trl import DPOConfig, DPOTrainer

    data = load_dataset("json", data_files="train.jsonl", split="train")
    with tempfile.TemporaryDirectory() as work:
        arguments = DPOConfig(work, bf16=False, use_cpu=True, report_to="none")
        trainer = DPOTrainer(str(model), args=arguments, train_dataset=data)
    decode = trainer.processing_class.decode
    for row in trainer.train_dataset:
        yield decode(row["prompt_ids"]), decode(row["chosen_ids"]), decode(row["rejected_ids"])


def load_llamafactory(folder: Path, model: Path, plain: bool) -> Iterator[Texts]:
    """`get_dataset` under the shipped configuration, decoded by the labels."""
    import yaml
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from transformers import AutoTokenizer

    settings = yaml.safe_load(Path("llamafactory.yaml").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as work:
        settings |= {"model_name_or_path": str(model), "output_dir": work, "use_cpu": True}
        model_args, data_args, training_args, _, _ = get_train_args(settings)
        tokenizer = AutoTokenizer.from_pretrained(model)
        template = get_template_and_fix_tokenizer(tokenizer, data_args)
        module = get_dataset(template, model_args, data_args, training_args, "rm", tokenizer=tokenizer)
    for row in module["train_dataset"]:
        sides = []
        for side in ("chosen", "rejected"):
            ids, labels = row[f"{side}_input_ids"], row[f"{side}_labels"]
            begin = sum(label == -100 for label in labels)
            sides += [tokenizer.decode(ids[:begin]), tokenizer.decode(ids[begin:])]
        yield sides[0], sides[1], sides[3]


def load_axolotl(folder: Path, model: Path, plain: bool) -> Iterator[Texts]:
    """The rows that Axolotl hands to its trainer: its schema of settings, its reader of files, its prompt strategy."""
    import yaml
    from axolotl.prompt_strategies.dpo import load
    from axolotl.utils.data.shared import load_dataset_with_config
    from axolotl.utils.dict import DictDefault
    from axolotl.utils.schemas.config import AxolotlInputConfig
    from transformers import AutoTokenizer

    settings = yaml.safe_load(Path("axolotl.yaml").read_text(encoding="utf-8"))
    AxolotlInputConfig.model_validate(settings)
    cfg = DictDefault(settings)
    tokenizer = AutoTokenizer.from_pretrained(model)
    data = load_dataset_with_config(cfg.datasets[0], False, streaming=False)
    found = load(cfg.datasets[0]["type"], cfg, dataset_idx=0)
    transform, options = found if isinstance(found, tuple) else (found, {})
    arguments = {} if plain else {"fn_kwargs": {"tokenizer": tokenizer}}
    for row in data.map(transform, **arguments, **options):
        yield row["prompt"], row["chosen"], row["rejected"]


def load_openrlhf(folder: Path, model: Path, plain: bool) -> Iterator[Texts]:
    """RewardDataset with `is_dpo`, as train_dpo builds it from the options in the README."""
    from openrlhf.datasets import RewardDataset
    from openrlhf.datasets.utils import blending_datasets
    from transformers import AutoTokenizer

    readme = Path("README.md").read_text(encoding="utf-8")
    template = "--data.apply_chat_template" in readme.partition("Older versions")[0]
    keys = {"prompt_key": "prompt", "chosen_key": "chosen", "rejected_key": "rejected"}
    data_args = SimpleNamespace(apply_chat_template=template, tokenizer_chat_template=None, **keys)
    strategy = SimpleNamespace(
        args=SimpleNamespace(data=data_args, use_ms=False), print=lambda *_: None, is_rank_0=lambda: False
    )
    tokenizer = AutoTokenizer.from_pretrained(model)
    data = blending_datasets("train.jsonl", None, strategy, dataset_split="train")
    dataset = RewardDataset(data, tokenizer, 512, strategy, is_dpo=True, num_processors=1)
    for place in range(len(dataset)):
        chosen, _, rejected, _, prompt_length = dataset[place]
        prompt = tokenizer.decode(chosen[0][:prompt_length])
        yield prompt, tokenizer.decode(chosen[0][prompt_length:]), tokenizer.decode(rejected[0][prompt_length:])


LOADERS: dict[str, Callable[[Path, Path, bool], Iterator[Texts]]] = {
    "trl": load_trl,
    "llamafactory": load_llamafactory,
    "axolotl": load_axolotl,
    "openrlhf": load_openrlhf,
}

if __name__ == "__main__":
    main()
