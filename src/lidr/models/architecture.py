"""The shape of a model, from its config.json alone: parameters, keys and values per token, size of an adapter."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lidr.config import LoraSection, ModelConfig, may_be_hub_id
from lidr.errors import ConfigError
from lidr.models import find_model, loading
from lidr.models.files import check_model_folder
from lidr.records import Json

if TYPE_CHECKING:
    from transformers import PretrainedConfig

# From the config.json of the models in shipped recipes, for planning without the Hub.
_KNOWN: dict[str, Json] = {
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
    """A model's shape: counts of parameters, and widths in numbers per token."""

    name: str
    parameters: int
    active: int  # parameters that a token uses: fewer in a mixture of experts
    in_linear: int  # parameters of the layers' matrices; only these are quantised
    embeddings: int  # parameters of the input and output embeddings; one matrix if tied
    layers: int
    hidden: int
    intermediate: int  # of all experts that a token uses
    query: int
    kv: int  # width of the keys, and of the values
    vocabulary: int
    context: int | None
    stored_bytes: int  # per parameter on disk
    linears: tuple[tuple[str, int, int], ...]  # (name, inputs, outputs) of every matrix in the layers

    @cached_property
    def kv_numbers(self) -> int:
        """Numbers of keys and values in the cache per token."""
        return 2 * self.layers * self.kv

    def adapter_parameters(self, lora: LoraSection) -> int:
        """Parameters of a LoRA adapter: two matrices of the rank beside each of its targets."""
        wanted = lora.targets
        chosen = [linear for linear in self.linears if wanted == "all-linear" or linear[0] in wanted]
        return sum(lora.rank * (inputs + outputs) for _, inputs, outputs in chosen)

    def activation_bytes(self, bf16: bool) -> int:
        """Bytes that one layer keeps per token for the backward pass.

        Without mixed precision this gives 12,096 numbers for SmolLM2-135M; 12,300 were measured. With it the residual
        stream and the norms are in float32, and the inputs of matrix products in bfloat16.
        """
        inner = 3 * self.query + 4 * self.kv + 4 * self.intermediate
        return 20 * self.hidden + 2 * inner if bf16 else 4 * (6 * self.hidden + inner)


@cache
def find_architecture(model: ModelConfig) -> tuple[Architecture, Path | None, str]:
    """The shape of a model, the folder of its small files, and a note on the source of the shape.

    If the Hub fails for a model that the planner knows, the folder is None and the note says so; else it is empty.
    Raises ConfigError if nothing is known of the model (after a few seconds if the Hub is out of reach), if its files
    are damaged, and if its weights are not in safetensors files.
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


def measure(name: str, config: PretrainedConfig, trust_remote_code: bool = False) -> Architecture:
    """Build the model on torch's meta device, which takes no memory, and count. Raises ConfigError if that fails."""
    import torch
    from torch import nn
    from transformers import AutoModelForCausalLM

    config = copy.deepcopy(config)  # it may belong to a model in use
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    text = config.get_text_config()
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    except Exception as error:  # an inconsistent shape may raise anything
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


def _experts(text: PretrainedConfig) -> tuple[int, int]:
    """(experts that a token uses, experts of a layer); (1, 1) for a dense model."""
    names = ("num_local_experts", "num_experts", "n_routed_experts")
    of = next((count for name in names if (count := getattr(text, name, None))), None)
    return (int(getattr(text, "num_experts_per_tok", None) or 1), int(of)) if of else (1, 1)


def _intermediate(text: PretrainedConfig, used: int) -> int:
    width = getattr(text, "moe_intermediate_size", None) if used > 1 else None
    return used * int(width or getattr(text, "intermediate_size", None) or 4 * text.hidden_size)


def weights_on_disk(folder: Path | None) -> bool:
    """Whether the folder has the model's weights, too."""
    return folder is not None and any(name.endswith(".safetensors") for name in os.listdir(folder))
