"""The shape of a model from its config.json alone: parameters, keys and values per token, what an adapter adds."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from lidr.config import LoraSection, ModelConfig, may_be_hub_id
from lidr.errors import ConfigError
from lidr.models import find_model, loading
from lidr.models.files import check_model_folder

# Of the models that shipped recipes name, for planning without the Hub; from the config.json of each.
_KNOWN: dict[str, dict[str, Any]] = {
    "meta-llama-3-8b-instruct": {
        "model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 14336,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 8192,
        "dtype": "bfloat16",
    },
    "qwen2-7b-instruct": {
        "model_type": "qwen2", "num_hidden_layers": 28, "hidden_size": 3584, "intermediate_size": 18944,
        "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "max_position_embeddings": 32768,
        "dtype": "bfloat16",
    },
    "smollm2-135m-instruct": {
        "model_type": "llama", "num_hidden_layers": 30, "hidden_size": 576, "intermediate_size": 1536,
        "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152, "max_position_embeddings": 8192,
        "tie_word_embeddings": True, "dtype": "bfloat16",
    },
}  # fmt: skip


@dataclass(frozen=True)
class Architecture:
    """What arithmetic needs of a model. Numbers of parameters, widths in numbers per token."""

    name: str
    parameters: int
    active: int  # parameters that a token goes through: fewer in a mixture of experts
    in_linear: int  # parameters of the layers' matrices, which 4 and 8 bits are for
    embeddings: int  # parameters of the input and output embeddings, one matrix where they are tied
    layers: int
    hidden: int
    intermediate: int  # of the experts that a token goes through
    query: int
    kv: int  # of the keys, and as many of the values
    vocabulary: int
    context: int | None
    stored_bytes: int  # per parameter on disk
    linears: tuple[tuple[str, int, int], ...]  # (name, inputs, outputs) of every matrix of the layers

    @cached_property
    def kv_numbers(self) -> int:
        """Numbers of keys and values that every token leaves in the cache."""
        return 2 * self.layers * self.kv

    def adapter_parameters(self, lora: LoraSection) -> int:
        """Parameters of a LoRA adapter: two matrices of the rank beside each of its targets."""
        wanted = lora.targets
        chosen = [linear for linear in self.linears if wanted == "all-linear" or linear[0] in wanted]
        return sum(lora.rank * (inputs + outputs) for _, inputs, outputs in chosen)

    def activation_bytes(self, bf16: bool) -> int:
        """What one layer keeps per token for the backward pass.

        Without mixed precision 12,096 numbers in SmolLM2-135M; measured are 12,300. With it the residual stream and the
        norms stay in float32, and the inputs of matrix products are in bfloat16.
        """
        inner = 3 * self.query + 4 * self.kv + 4 * self.intermediate
        return 20 * self.hidden + 2 * inner if bf16 else 4 * (6 * self.hidden + inner)


@cache
def find_architecture(model: ModelConfig) -> tuple[Architecture, Path | None, str]:
    """The shape of a model, the folder of its small files, and a note on where the shape is from.

    Where the Hub does not give a model that the planner knows, the folder is None and the note says so; else the note
    is empty. Raises ConfigError if nothing is known of the model, after a few seconds where the Hub is out of reach,
    and where its files are damaged or its weights are not in safetensors files.
    """
    from transformers import AutoConfig

    try:
        folder = find_model(model, weights=False)
    except ConfigError as error:
        if not may_be_hub_id(model.path):
            raise
        known = _KNOWN.get(model.path.rpartition("/")[2].lower())
        if known is None:
            raise ConfigError(
                f"{error}. To plan without the Hub, put the model's config.json into a folder and give it with "
                "--set model.path=FOLDER"
            ) from error
        shape = measure(model.path, AutoConfig.for_model(**known))
        return shape, None, f"{error}. Its shape is taken from the planner's own table"
    check_model_folder(folder, model.path, weights=False)
    with loading(folder, "model", model.trust_remote_code):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=model.trust_remote_code)
    return measure(model.path, config, model.trust_remote_code), folder, ""


def measure(name: str, config: Any, trust_remote_code: bool = False) -> Architecture:
    """Build the model without memory (torch's meta device) and count. Raises ConfigError if that cannot be done."""
    import torch
    from torch import nn
    from transformers import AutoModelForCausalLM

    config = copy.deepcopy(config)  # it may be that of a model in use
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    text = config.get_text_config()
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    except Exception as error:  # a shape that fits together nowhere may raise anything
        raise ConfigError(f"model.path {name}: transformers cannot build it from its config.json: {error}") from error
    model.tie_weights()
    head = model.get_output_embeddings()
    linears = [
        (path.rpartition(".")[2], module.in_features, module.out_features)
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    ]
    parameters = {id(weight): (path, weight.numel()) for path, weight in model.named_parameters()}.values()
    experts = sum(count for path, count in parameters if ".experts." in path)
    used, of = _experts(text)
    total = sum(count for _, count in parameters)
    embeddings = {id(module.weight): module.weight.numel() for module in (model.get_input_embeddings(), head) if module}
    heads = text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    return Architecture(
        name=name,
        parameters=total,
        active=total - experts + experts * used // of,
        in_linear=sum(inputs * outputs for _, inputs, outputs in linears),
        embeddings=sum(embeddings.values()),
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        intermediate=_intermediate(text, used if of > 1 else 1),
        query=heads * width,
        kv=(getattr(text, "num_key_value_heads", None) or heads) * width,
        vocabulary=text.vocab_size,
        context=getattr(text, "max_position_embeddings", None),
        stored_bytes=(getattr(config, "dtype", None) or torch.float32).itemsize,
        linears=tuple(linears),
    )


def _experts(text: Any) -> tuple[int, int]:
    """(experts that a token goes through, experts of a layer); (1, 1) for a dense model."""
    names = ("num_local_experts", "num_experts", "n_routed_experts")
    of = next((count for name in names if (count := getattr(text, name, None))), None)
    return (int(getattr(text, "num_experts_per_tok", None) or 1), int(of)) if of else (1, 1)


def _intermediate(text: Any, used: int) -> int:
    width = getattr(text, "moe_intermediate_size", None) if used > 1 else None
    return used * int(width or getattr(text, "intermediate_size", None) or 4 * text.hidden_size)


def weights_on_disk(folder: Path | None) -> bool:
    """Whether a model's weights are there, too."""
    return folder is not None and any(name.endswith(".safetensors") for name in os.listdir(folder))
