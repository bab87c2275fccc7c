"""A model's weights before and after training: loaded to be trained, saved as a plain Hugging Face folder."""

from __future__ import annotations

import ctypes
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, set_seed

from lidr.config import Config, LoraSection
from lidr.errors import ConfigError, RunError
from lidr.machine.devices import uses_bf16
from lidr.models import load_model, loading
from lidr.models.files import OTHER_WEIGHTS, model_files
from lidr.run_dir import Model
from lidr.storage import write_text
from lidr.training.rounding import round_stochastically

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


def add_adapter(model: Any, lora: LoraSection, seed: int) -> Any:
    """The model frozen, with a fresh float32 adapter that changes nothing yet (Hu et al. 2021, arXiv 2106.09685).

    The seed alone decides what the adapter starts from. Raises ConfigError for targets that the model does not have,
    and for a target whose weights another module uses too: merged, the adapter would change both.
    """
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
    names = [name for name, _ in model.named_modules() if name]
    set_seed(seed)
    try:
        adapted = get_peft_model(model, settings)
    except (ValueError, TypeError, AttributeError) as error:
        said = " ".join(str(error).split())[:300]
        raise ConfigError(f"training.lora.targets {lora.targets}: {_unknown(lora, names) or said}") from None
    _refuse_unusable_targets(adapted, lora, names)
    return adapted


def check_targets(folder: Path, lora: LoraSection, trust_remote_code: bool) -> None:
    """Raises ConfigError as `add_adapter` does for the model of a folder, whose weights are not read for it."""
    allowed = {"trust_remote_code": trust_remote_code}
    with loading(folder, "model", trust_remote_code), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, **allowed), **allowed)
    model.tie_weights()
    add_adapter(model, lora.model_copy(update={"quantize": None}), seed=0)


def _unknown(lora: LoraSection, names: list[str]) -> str:
    """Which targets fit no module of the model, and what it has instead; empty if all fit."""
    unknown = [target for target in lora.targets if not any(f".{name}".endswith(f".{target}") for name in names)]
    if not unknown or lora.targets == "all-linear":
        return ""
    last = sorted({name.rpartition(".")[2] for name in names if not name.rpartition(".")[2].isdigit()})
    return f"the model has no module {', '.join(unknown)}; it has {', '.join(last)[:500]}"


def _refuse_unusable_targets(model: Any, lora: LoraSection, names: list[str]) -> None:
    """Raises ConfigError for targets of an adapted model that fit no module, or a module that shares its weights."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    modules = [(name.removeprefix("base_model.model."), module) for name, module in model.named_modules()]
    adapted = {name: module for name, module in modules if isinstance(module, BaseTunerLayer)}
    targets = sorted(model.peft_config["default"].target_modules or ())
    if any(not any(f".{name}".endswith(f".{target}") for name in adapted) for target in targets):
        raise ConfigError(f"training.lora.targets {lora.targets}: {_unknown(lora, names)}")
    users: dict[int, list[str]] = {}  # of each weight: the modules that hold it
    for name, module in modules:
        for weight in module.parameters(recurse=False):
            users.setdefault(id(weight), []).append(name.removesuffix(".base_layer"))
    for module in adapted.values():
        for weight in module.get_base_layer().parameters(recurse=False):
            if len(holders := users[id(weight)]) > 1:
                raise ConfigError(
                    f"training.lora.targets {lora.targets}: {' and '.join(sorted(holders))} share their weights in "
                    "this model (tied embeddings), and a merged adapter would change both; leave them out"
                )


def bit_sums(weights: dict[str, torch.Tensor]) -> dict[str, int]:
    """The sum of the bits of every floating-point tensor, each number read as an integer: tells whether it changed."""
    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return {
        name: int(value.detach().contiguous().view(integers[value.element_size()]).sum(dtype=torch.int64))
        for name, value in weights.items()
        if value.is_floating_point()
    }


def refuse_unchanged(before: dict[str, int], weights: dict[str, torch.Tensor]) -> None:
    """Raises RunError if training has not changed a single weight; `before` are its `bit_sums` at the start."""
    if all(bit_sums({name: weights[name]})[name] == known for name, known in before.items() if name in weights):
        raise RunError(
            "the training changed not one weight, so the new model would be the old one: its learning rate or its "
            "gradients were 0, or too small for float32 (metrics.jsonl has both, step by step). Raise "
            "training.learning_rate, or look at the pairs"
        )


def save_full(trainer: Any, source: Model, before: dict[str, int], out: Path) -> None:
    """The trained weights as a plain Hugging Face folder; every process takes part, the first one writes.

    Raises RunError if they are those of the start, whose `bit_sums` are `before`.
    """
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.args.should_save:
        refuse_unchanged(before, weights)
        _write(trainer.accelerator.unwrap_model(trainer.model), weights, source.folder, out)


def merge_adapter(config: Config, source: Model, adapter: Path, out: Path) -> None:
    """M_{t+1} = M_t + adapter as a plain Hugging Face folder; added up in float32, whatever M_t was trained in.

    Raises RunError if the adapter changes nothing.
    """
    from peft import PeftModel

    base = load_model(source.folder, config.model.trust_remote_code, dtype=torch.float32)
    before = bit_sums(base.state_dict())
    merged = PeftModel.from_pretrained(base, adapter).merge_and_unload()
    refuse_unchanged(before, merged.state_dict())
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
