"""Load a model's weights for training, and save them as a plain Hugging Face folder."""

from __future__ import annotations

import ctypes
import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel, set_seed

from lidr.config import Config, LoraSection
from lidr.errors import ConfigError, RunError
from lidr.machine.devices import uses_bf16
from lidr.models import load_model, loading
from lidr.models.files import OTHER_WEIGHTS, model_files
from lidr.records import Json
from lidr.run_dir import Model
from lidr.storage import write_text
from lidr.training.rounding import round_stochastically

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import Trainer

_NOT_COPIED = (
    "*.safetensors",
    "*.index.json",
    *(f"*{suffix}" for suffix in OTHER_WEIGHTS),
    "config.json",
    "README.md",
    ".*",
)


def load_base(config: Config, model: Model, device: torch.device) -> PreTrainedModel:
    """M_t in float32: bfloat16 weights would lose updates of the size of the paper's learning rates.

    LoRA freezes the weights, so they are kept in 16 bits if products run in 16 bits, or in 4 bits (QLoRA).
    """
    if device.type == "cpu":
        _keep_freed_memory()
    lora = config.training.lora
    bf16 = uses_bf16(config.training, device)
    settings: Json = {"dtype": torch.bfloat16 if lora and bf16 else torch.float32}
    if lora and lora.quantize:
        settings |= {"quantization_config": _nf4(device), "device_map": {"": device}}
    loaded = load_model(model.folder, config.model.trust_remote_code, **settings)
    return loaded if lora and lora.quantize else loaded.to(device)


def _keep_freed_memory() -> None:
    """Make the C library (glibc) reuse the memory of freed tensors instead of requesting pages again.

    Rows differ in length, so training allocates and frees all the time: a tenth of its time on SmolLM2-135M.
    """
    options = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if options:
        options(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        options(-3, 2**25)  # M_MMAP_THRESHOLD, the largest that glibc takes


def _nf4(device: torch.device) -> BitsAndBytesConfig:
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


def add_adapter(model: PreTrainedModel, lora: LoraSection, seed: int) -> PeftModel:
    """The frozen model with a new float32 adapter that changes nothing yet (Hu et al. 2021, arXiv 2106.09685).

    The seed alone decides the adapter's first weights. Raises ConfigError for a target that the model does not have,
    and for a target that shares its weights with another module: merging the adapter would change both.
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
    """Raises ConfigError as `add_adapter` does, without reading the weights."""
    allowed = {"trust_remote_code": trust_remote_code}
    with loading(folder, "model", trust_remote_code), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, **allowed), **allowed)
    model.tie_weights()
    add_adapter(model, lora.model_copy(update={"quantize": None}), seed=0)


def _unknown(lora: LoraSection, names: list[str]) -> str:
    """The message about targets that the model does not have; empty if it has all."""
    unknown = [target for target in lora.targets if not any(f".{name}".endswith(f".{target}") for name in names)]
    if not unknown or lora.targets == "all-linear":
        return ""
    last = sorted({name.rpartition(".")[2] for name in names if not name.rpartition(".")[2].isdigit()})
    return f"the model has no module {', '.join(unknown)}; it has {', '.join(last)[:500]}"


def _refuse_unusable_targets(model: PeftModel, lora: LoraSection, names: list[str]) -> None:
    """Raises ConfigError for a target that fits no module, or a module that shares its weights."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    modules = [(name.removeprefix("base_model.model."), module) for name, module in model.named_modules()]
    adapted = {name: module for name, module in modules if isinstance(module, BaseTunerLayer)}
    targets = sorted(model.peft_config["default"].target_modules or ())
    if any(not any(f".{name}".endswith(f".{target}") for name in adapted) for target in targets):
        raise ConfigError(f"training.lora.targets {lora.targets}: {_unknown(lora, names)}")
    users: dict[int, list[str]] = {}  # id of a weight -> modules that hold it
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
    """The sum of the bits of every floating-point tensor, each number read as an integer; it shows a changed tensor."""
    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return {
        name: int(value.detach().contiguous().view(integers[value.element_size()]).sum(dtype=torch.int64))
        for name, value in weights.items()
        if value.is_floating_point()
    }


def refuse_unchanged(before: dict[str, int], weights: dict[str, torch.Tensor]) -> None:
    """Raises RunError if training has not changed any weight; `before` are the `bit_sums` at the start."""
    if all(bit_sums({name: weights[name]})[name] == known for name, known in before.items() if name in weights):
        raise RunError(
            "the training changed not one weight, so the new model would be the old one: its learning rate or its "
            "gradients were 0, or too small for float32 (metrics.jsonl has both, step by step). Raise "
            "training.learning_rate, or look at the pairs"
        )


def save_full(trainer: Trainer, source: Model, before: dict[str, int], out: Path) -> None:
    """Save the trained weights as a plain Hugging Face folder; all processes take part, the first one writes.

    Raises RunError if no weight has changed; `before` are the `bit_sums` at the start.
    """
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.args.should_save:
        refuse_unchanged(before, weights)
        _write(trainer.accelerator.unwrap_model(trainer.model), weights, source.folder, out)


def merge_adapter(config: Config, source: Model, adapter: Path, out: Path) -> None:
    """Save M_{t+1} = M_t + adapter as a plain Hugging Face folder; the sum is in float32 for any precision of training.

    Raises RunError if the adapter changes nothing.
    """
    from peft import PeftModel

    base = load_model(source.folder, config.model.trust_remote_code, dtype=torch.float32)
    before = bit_sums(base.state_dict())
    merged = PeftModel.from_pretrained(base, adapter).merge_and_unload()
    refuse_unchanged(before, merged.state_dict())
    _write(merged, merged.state_dict(), source.folder, out)


def _write(model: PreTrainedModel, weights: dict[str, torch.Tensor], source: Path, out: Path) -> None:
    """Save weights in the number format of the source model (see `rounding`), with its tokenizer."""
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
    """The number format of a model folder's weights from its config.json; float32 if it names none."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    name = str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch.")
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ConfigError(f"{folder / 'config.json'}: dtype {name} is not a number format of weights; correct it")
    return dtype
