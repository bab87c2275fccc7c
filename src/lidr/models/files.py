"""The files of a model's folder: which of them change its answers, and whether they are complete.

Weights are read from safetensors files only: they cannot run code, and their content identifies the model.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

from lidr.errors import ConfigError
from lidr.records import Json

# Configuration, tokenizer, chat template, and Python code that a recipe may allow.
SMALL_SUFFIXES = (".json", ".model", ".jinja", ".txt", ".py", ".spm", ".codes", ".tiktoken")
# Weights in other formats, and files that training leaves: never read, never copied.
OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".ot", ".distcp", ".npz", ".pkl", ".onnx", ".gguf")
_SUBFOLDERS = (
    "additional_chat_templates/*.jinja",
    "custom_generate/*.py",
)  # transformers reads them too
_JSON = ("generation_config.json", "tokenizer_config.json", "tokenizer.json", "special_tokens_map.json")
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_AGAIN = "copy or fetch the model again"


def model_files(folder: Path) -> list[Path]:
    """The files that change a model's answers, also in subfolders: configuration, tokenizer, code and weights."""
    suffixes = {*SMALL_SUFFIXES, ".safetensors"}
    own = sorted(file for file in folder.iterdir() if file.suffix in suffixes and not file.name.startswith("."))
    nested = {file for pattern in _SUBFOLDERS for file in folder.glob(pattern)}
    nested |= {file for file in _weight_files(folder) if file.parent != folder and file.is_file()}
    return own + sorted(nested)


def check_model_folder(folder: Path, name: str, weights: bool = True) -> None:
    """Read configuration, tokenizer and the headers of the weights of the model that a recipe calls `name`.

    Without `weights` (for planning) the folder may lack weights. Raises ConfigError with the file, the reason and a
    remedy if a file is damaged or missing, and if transformers would load weights from other than safetensors files.
    """
    config = read_json(folder / "config.json")
    if not isinstance(config.get("model_type", ""), str):
        raise ConfigError(f"{folder / 'config.json'}: model_type is no text; {_AGAIN}")
    for file in (folder / other for other in _JSON):
        if file.exists():
            read_json(file)
    _check_tokenizer(folder / "tokenizer.json")
    if (folder / "adapter_config.json").exists():
        raise ConfigError(
            f"model.path {name}: {folder} holds a LoRA adapter beside a model, and transformers would load both; merge "
            "them (PEFT's merge_and_unload), or take the adapter's files out"
        )
    if any(folder.glob("*.distcp")):
        raise ConfigError(
            f"model.path {name}: {folder} holds a distributed checkpoint (*.distcp), which transformers would load "
            "instead of safetensors files; move it out of the folder"
        )
    if weights or any(file.suffix in (".safetensors", *OTHER_WEIGHTS) for file in folder.iterdir()):
        check_weights(folder, name)


def check_weights(folder: Path, name: str) -> None:
    """Read the headers of a folder's safetensors files. Raises ConfigError as `check_model_folder` does."""
    files = _weight_files(folder)
    index = _index(folder)
    if index is None and not files[0].is_file():
        raise ConfigError(_no_safetensors(folder, name))
    for file in files:
        if not file.is_file():
            raise ConfigError(f"{index}: the file {file.relative_to(folder)} that it names is missing; {_AGAIN}")
        names = tensor_names(file)
        wanted = {tensor for tensor, shard in _weight_map(index).items() if folder / shard == file} if index else set()
        if missing := sorted(wanted - names):
            raise ConfigError(f"{file}: {missing[0]} is not in it, though {index} says so; {_AGAIN}")


def check_adapter(folder: Path) -> None:
    """Check a LoRA adapter in PEFT's format. Raises ConfigError."""
    read_json(folder / "adapter_config.json")
    weights = folder / "adapter_model.safetensors"
    if (folder / "adapter_model.bin").exists() and not weights.exists():
        raise ConfigError(
            f"engine.adapter {folder}: its weights are in adapter_model.bin, and only safetensors files are read. "
            f'Convert it once: python -c "import torch, safetensors.torch as s; s.save_file(torch.load('
            f"'{folder}/adapter_model.bin', weights_only=True), '{weights}')\""
        )
    if weights.exists():
        tensor_names(weights)


def tensor_names(file: Path) -> set[str]:
    """The names in the header of a safetensors file. Raises ConfigError if the file is damaged or cut off."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as opened:
            names = set(opened.keys())
    except (SafetensorError, OSError) as error:
        with file.open("rb") as handle:
            pointer = handle.read(30).startswith(b"version https://git-lfs")
        hint = "it is a Git LFS pointer; run `git lfs pull` there" if pointer else _AGAIN
        raise ConfigError(f"{file}: damaged, no whole safetensors file ({error}); {hint}") from None
    if not names:
        raise ConfigError(f"{file}: there are no weights in it; {_AGAIN}")
    return names


def read_json(file: Path) -> Json:
    """The object in a JSON file. Raises ConfigError that names the file."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}); {_AGAIN}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: damaged, it is not JSON ({str(error)[:100]}); {_AGAIN}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{file}: damaged, a JSON object is needed and there is a {type(found).__name__}; {_AGAIN}")
    return found


def _check_tokenizer(file: Path) -> None:
    from tokenizers import Tokenizer

    if not file.exists():
        return
    try:
        Tokenizer.from_file(str(file))
    except Exception as error:  # the package raises no other class
        raise ConfigError(f"{file}: damaged, no tokenizer ({str(error)[:200]}); {_AGAIN}") from None


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files that transformers reads, whether they exist or not."""
    if index := _index(folder):
        return [folder / shard for shard in sorted(set(_weight_map(index).values()))]
    named = _named_weights(folder)
    return [folder / named] if named else [folder / _WEIGHTS]


def _index(folder: Path) -> Path | None:
    """The index of a model's shards, if transformers uses it."""
    named = _named_weights(folder)
    if named:
        return folder / named if named.endswith(".index.json") else None
    return folder / _INDEX if (folder / _INDEX).is_file() and not (folder / _WEIGHTS).is_file() else None


def _named_weights(folder: Path) -> str:
    """The file of weights that config.json names, which is rare; else an empty text."""
    if not (folder / "config.json").is_file():
        return ""
    named = read_json(folder / "config.json").get("transformers_weights")
    return _inside(folder / "config.json", str(named)) if named else ""


def _weight_map(index: Path) -> dict[str, str]:
    """Tensor -> file of a sharded model. Raises ConfigError if the index has no such map."""
    found = read_json(index).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise ConfigError(f"{index}: damaged, it has no weight_map; {_AGAIN}")
    return {tensor: _inside(index, shard) for tensor, shard in found.items()}


def _inside(source: Path, name: object) -> str:
    """The name of a file in the folder. Raises ConfigError if it leads out of the folder."""
    path = PurePosixPath(str(name))
    if not isinstance(name, str) or path.is_absolute() or ".." in path.parts:
        raise ConfigError(f"{source}: {name!r} is no file of this folder; {_AGAIN}")
    return name


def _no_safetensors(folder: Path, name: str) -> str:
    others = [file for file in folder.iterdir() if file.suffix in OTHER_WEIGHTS and not file.name.startswith(".")]
    if not others:
        return (
            f"model.path {name}: {folder} has no {_WEIGHTS}, nor {_INDEX} with its files; put the weights there (a "
            "repository of the Hub that has them in other formats only must be converted)"
        )
    largest = max(others, key=lambda file: file.stat().st_size).name
    reason = f"model.path {name}: its weights are in {largest}, and only safetensors files are read"
    if not largest.startswith("pytorch_model"):
        return f"{reason}; save the model with save_pretrained of transformers, and set model.path to that folder"
    out = f"{folder.name}-safetensors"
    return (
        f"{reason}. Convert it once with these two lines, and set model.path to {out}:\n"
        f"python -c \"from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; f, out = '{folder}', "
        f"'{out}'\n"
        "M.from_pretrained(f, dtype='auto').save_pretrained(out); T.from_pretrained(f).save_pretrained(out)\""
    )
