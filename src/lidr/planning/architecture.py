"""The shape of a model from its config.json alone: parameters, keys and values per token, what an adapter adds."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lidr.config import LoraSection, ModelConfig, may_be_hub_id
from lidr.errors import ConfigError

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
_SMALL_FILES = ["config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json", "*.jinja", "vocab*"]
_TIMEOUT_S = 5.0  # until the Hub counts as out of reach


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model's small files are: `folder` is None where there are none, and `note` says what that means."""

    folder: Path | None
    note: str = ""


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


def find_model(model: ModelConfig) -> Source:
    """The small files of a model: in its folder, in the Hub's cache, or fetched, without the weights.

    Where the Hub is out of reach that is known after a few seconds. Raises ConfigError for a path that is neither a
    folder nor a hub id, and for a folder without config.json.
    """
    if model.path == "lab":
        from lidr.lab import MODEL_PATH

        return Source(MODEL_PATH)
    folder = Path(model.path).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ConfigError(f"model.path {model.path}: it has no config.json; a Hugging Face model folder is needed")
        return Source(folder)
    if not may_be_hub_id(model.path):
        raise ConfigError(f"model.path {model.path}: no such folder, and not a hub id such as org/name")
    return _from_hub(model)


def _from_hub(model: ModelConfig) -> Source:
    from huggingface_hub import constants, snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    cached = try_to_load_from_cache(model.path, "config.json", revision=model.revision)
    if isinstance(cached, str):
        return Source(Path(cached).parent)
    reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else _why_not_on_hub(model)
    if reason is None:
        try:
            folder = snapshot_download(model.path, revision=model.revision, allow_patterns=_SMALL_FILES)
            return Source(Path(folder))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            reason = str(error).strip().splitlines()[0]
    return Source(None, f"model {model.path} is not on disk and not to be had from the Hub now: {reason}")


def _why_not_on_hub(model: ModelConfig) -> str | None:
    """One request without retries, since the Hub's own client tries for half a minute; None where it has the model."""
    from huggingface_hub import constants, get_token

    url = f"{constants.ENDPOINT}/{model.path}/resolve/{model.revision or 'main'}/config.json"
    request = urllib.request.Request(url, method="HEAD")
    if token := get_token():
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S):
            return None
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return "no such model, or a gated one: accept its terms on the Hub, then `hf auth login`"
        return f"the Hub says {error.code} {error.reason}"
    except (OSError, ValueError) as error:
        return f"no connection ({getattr(error, 'reason', error)})"


def architecture_of(model: ModelConfig, source: Source) -> Architecture:
    """The shape of a model whose small files were looked for. Raises ConfigError where nothing is known of it."""
    from transformers import AutoConfig

    if source.folder is not None:
        try:
            config = AutoConfig.from_pretrained(source.folder, trust_remote_code=model.trust_remote_code)
        except (ValueError, OSError) as error:
            raise ConfigError(f"{source.folder / 'config.json'}: not to be read: {error}") from error
        return measure(model.path, config, model.trust_remote_code)
    known = _KNOWN.get(model.path.rpartition("/")[2].lower())
    if known is None:
        raise ConfigError(
            f"{source.note}. To plan without the Hub, put the model's config.json into a folder and give it with "
            "--set model.path=FOLDER"
        )
    fields = {name: value for name, value in known.items() if name != "model_type"}
    return measure(model.path, AutoConfig.for_model(known["model_type"], **fields))


def measure(name: str, config: Any, trust_remote_code: bool = False) -> Architecture:
    """Build the model without memory (torch's meta device) and count. Raises ConfigError where that cannot be done."""
    import torch
    from torch import nn
    from transformers import AutoModelForCausalLM

    if hasattr(config, "quantization_config"):
        del config.quantization_config
    text = config.get_text_config()
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
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
