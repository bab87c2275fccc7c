"""A model's weights before and after training: loaded to be trained, saved as a plain Hugging Face folder."""

from __future__ import annotations

import ctypes
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from lidr.config import Config, LoraSection
from lidr.errors import ConfigError
from lidr.model_files import OTHER_WEIGHTS, model_files
from lidr.models import load_model
from lidr.run_dir import Model, write_text
from lidr.training.rounding import round_stochastically
from lidr.training.trainer import uses_bf16

_NOT_COPIED = (
    "*.safetensors",
    "*.index.json",
    *(f"*{suffix}" for suffix in OTHER_WEIGHTS),
    "config.json",
    "README.md",
    ".*",
)


def load_base(config: Config, model: Model, device: torch.device) -> Any:
    """M_t in float32: updates of the size of the paper's learning rates vanish in bfloat16 weights.

    Under LoRA the weights are frozen, so they are kept in 16 bits where products run in 16 bits, or in 4 (QLoRA).
    """
    if device.type == "cpu":
        _keep_freed_memory()
    lora = config.training.lora
    bf16 = uses_bf16(config.training, device)
    settings: dict[str, Any] = {"dtype": torch.bfloat16 if lora and bf16 else torch.float32}
    if lora and lora.quantize:
        settings |= {"quantization_config": _nf4(device), "device_map": {"": device}}
    loaded = load_model(model.folder, config.model.trust_remote_code, **settings)
    return loaded if lora and lora.quantize else loaded.to(device)


def _keep_freed_memory() -> None:
    """Have the C library (glibc) reuse the memory of freed tensors instead of asking the system for pages each time.

    Rows differ in length, so training frees and takes memory all the time: a tenth of its time on SmolLM2-135M.
    """
    options = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if options:
        options(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        options(-3, 2**25)  # M_MMAP_THRESHOLD, the largest that glibc takes


def _nf4(device: torch.device) -> Any:
    from importlib.util import find_spec

    from transformers import BitsAndBytesConfig

    if device.type != "cuda" or find_spec("bitsandbytes") is None:
        raise ConfigError(
            "training.lora.quantize: 4-bit weights need a GPU and bitsandbytes (`pip install lidr[qlora]`); "
            "set it to null to train the adapter on unquantised weights"
        )
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_use_double_quant=True,
    )


def add_adapter(model: Any, lora: LoraSection) -> Any:
    """The model frozen, with a fresh float32 adapter that changes nothing yet (Hu et al. 2021, arXiv 2106.09685)."""
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if lora.quantize:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    settings = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, settings)
    except ValueError as error:
        raise ConfigError(f"training.lora.targets {lora.targets}: {error}") from None


def save_full(trainer: Any, source: Model, out: Path) -> None:
    """The trained weights as a plain Hugging Face folder; every process takes part, the first one writes."""
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.args.should_save:
        _write(trainer.accelerator.unwrap_model(trainer.model), weights, source.folder, out)


def merge_adapter(config: Config, source: Model, adapter: Path, out: Path) -> None:
    """M_{t+1} = M_t + adapter as a plain Hugging Face folder; added up in float32, whatever M_t was trained in."""
    from peft import PeftModel

    base = load_model(source.folder, config.model.trust_remote_code, dtype=torch.float32)
    merged = PeftModel.from_pretrained(base, adapter).merge_and_unload()
    _write(merged, merged.state_dict(), source.folder, out)


def _write(model: Any, weights: dict[str, torch.Tensor], source: Path, out: Path) -> None:
    """In the number format of the model it came from (see `rounding`), with that model's tokenizer."""
    shutil.rmtree(out, ignore_errors=True)
    dtype = stored_dtype(source)
    rounded = {
        name: round_stochastically(value, dtype, name) if value.is_floating_point() else value
        for name, value in weights.items()
    }
    for copy, original in model.all_tied_weights_keys.items():  # one tensor under two names is written once
        if copy in rounded and original in rounded and torch.equal(weights[copy], weights[original]):
            rounded[copy] = rounded[original]
    model.save_pretrained(out, state_dict=rounded)
    saved = json.loads((out / "config.json").read_text(encoding="utf-8"))
    write_text(out / "config.json", json.dumps(saved | {"dtype": str(dtype).removeprefix("torch.")}, indent=2) + "\n")
    for file in [*source.iterdir(), *(file for file in model_files(source) if file.parent != source)]:
        if file.is_file() and not any(file.match(pattern) for pattern in _NOT_COPIED):
            beside = out / file.relative_to(source)
            beside.parent.mkdir(exist_ok=True)
            shutil.copy(file, beside)


def stored_dtype(folder: Path) -> torch.dtype:
    """The number format of a model folder's weights, from its config.json; float32 if that names none."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    name = str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch.")
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ConfigError(f"{folder / 'config.json'}: dtype {name} is not a number format of weights; correct it")
    return dtype
