"""Find a model on disk or on the Hub, identify it by the content of its files, and import GGUF files."""

from __future__ import annotations

import hashlib
import json
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from lidr.config import LABORATORIES, ModelConfig, may_be_hub_id
from lidr.errors import ConfigError, DamagedError, LidrError
from lidr.languages import LANGUAGES
from lidr.models.files import SMALL_SUFFIXES, check_model_folder, model_files, read_json
from lidr.seals import sealed, way_out
from lidr.storage import cache_folder, hash_file, is_url, kept_copy, local_copy, locked, write_text

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# The files that a run fetches of a model: safetensors and small text files, no pickles, no other formats.
_SMALL_FILES = [f"*{suffix}" for suffix in SMALL_SUFFIXES]
_ALL_FILES = ["*.safetensors", *_SMALL_FILES]
_HUB_TIMEOUT_S = 5.0  # if only small files are needed; then the Hub counts as out of reach


class CacheEntry(TypedDict, total=False):
    """What `resolve_model` remembers of a model. `checked` says that its files are complete."""

    folder: str
    stamp: list[list[str | int]]  # name, size and time of each file
    fingerprint: str
    checked: bool


def resolve_model(model: ModelConfig, cache: Path) -> tuple[Path, str]:
    """The local folder of a model and its fingerprint, a SHA-256 over configuration, tokenizer and weights.

    `cache` is a small JSON file that remembers fingerprints by size and time of the files, because hashing 16 GB takes
    half a minute. Raises ConfigError if the model is neither on disk nor on the Hub nor behind a URL, if one of its
    files is damaged, and if its weights are not in safetensors files.
    """
    known = read_model_cache(cache)
    name = f"{model.path}@{model.revision}"
    folder = find_model(model, known.get(name))
    stamp = _stamps([*_gguf_file(model), *model_files(folder)])
    entry: CacheEntry = known.get(name, {})
    if entry.get("stamp") != stamp or not entry.get("checked") or not isinstance(entry.get("fingerprint"), str):
        check_model_folder(folder, model.path)
        entry = {"folder": str(folder), "stamp": stamp, "fingerprint": fingerprint(folder), "checked": True}
        with suppress(OSError):  # a read-only run works without the cache
            write_text(cache, json.dumps(known | {name: entry}) + "\n")
    return folder, entry["fingerprint"]


def read_model_cache(cache: Path) -> dict[str, CacheEntry]:
    """What `resolve_model` remembers, by path and revision, without damaged entries."""
    try:
        found: dict[str, CacheEntry] = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    entries = found.items() if isinstance(found, dict) else ()
    return {
        name: entry
        for name, entry in entries
        if isinstance(entry, dict) and isinstance(entry.get("folder"), str) and isinstance(entry.get("stamp", []), list)
    }


def find_model(model: ModelConfig, known: CacheEntry | None = None, weights: bool = True) -> Path:
    """The local folder of a model, which is fetched or imported if necessary.

    `known` is what `resolve_model` remembers of it. Without `weights` only the small files are fetched, and the attempt
    to reach the Hub takes a few seconds at most. Raises ConfigError.
    """
    folder = _local_folder(model, known, weights)
    if not (folder / "config.json").exists():
        if (folder / "adapter_config.json").exists():
            raise ConfigError(
                f"model.path {model.path}: {folder} is a LoRA adapter and no model; merge it into its base model "
                "(PEFT's merge_and_unload, then save_pretrained), or with engine.type vllm name it as engine.adapter"
            )
        raise ConfigError(
            f"model.path {model.path}: {folder} has no config.json; a Hugging Face model folder is needed "
            "(`lidr evaluate` also takes a folder of <language>.json answers)"
        )
    return folder


def recorded_answers(folder: Path) -> list[Path]:
    """The `<language>.json` files of a folder with a model's answers instead of its weights; else an empty list."""
    if (folder / "config.json").exists():
        return []
    return [file for code in LANGUAGES if (file := folder / f"{code}.json").is_file()]


def fingerprint(folder: Path) -> str:
    """SHA-256 over the names and contents of a model folder's configuration, tokenizer and weights."""
    return combined(file_hashes(folder))


def file_hashes(folder: Path) -> dict[str, str]:
    """Name -> SHA-256 of the files that make up a model's fingerprint."""
    return {file.relative_to(folder).as_posix(): hash_file(file) for file in model_files(folder)}


def combined(hashes: dict[str, str]) -> str:
    """The fingerprint of a model with these files."""
    return hashlib.sha256("".join(f"{name} {sha256}\n" for name, sha256 in hashes.items()).encode()).hexdigest()


def check_trained(folder: Path, cache: Path) -> None:
    """Raises DamagedError if a trained model has changed since it was sealed; `cache` as for `resolve_model`."""
    seal, unreadable = sealed(folder), None
    try:
        if resolve_model(ModelConfig(path=str(folder)), cache)[1] == seal.sha256:
            return
    except ConfigError as error:  # its message does not say that the model can be made again
        unreadable = error
    found, known = file_hashes(folder), {name: sha256 for name, (_, sha256) in (seal.files or {}).items()}
    if unreadable and combined(found) == seal.sha256:
        raise unreadable
    if added := sorted(found.keys() - known.keys()) if known else []:
        raise DamagedError(f"{folder / added[0]}: this file is no part of the model that was trained; move it away")
    changed = [name for name, sha256 in known.items() if found.get(name) != sha256]
    path = folder / changed[0] if changed else folder
    raise DamagedError(f"{path}: damaged: its content is not what was trained; {way_out(folder)}")


def quiet() -> None:
    """Disable the progress bars of the libraries; lidr has its own progress lines."""
    import datasets
    import transformers

    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()


def load_tokenizer(folder: Path, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a chat model. Raises ConfigError if it has no chat template."""
    from transformers import AutoTokenizer

    quiet()
    with loading(folder, "tokenizer", trust_remote_code):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    if not tokenizer.chat_template:
        raise ConfigError(f"model.path {folder}: its tokenizer has no chat template; use an instruct model")
    return tokenizer


def load_model(folder: Path, trust_remote_code: bool = False, **settings: object) -> PreTrainedModel:
    """The causal language model of a folder, with every parameter read from safetensors files.

    `settings` are arguments of from_pretrained. Raises ConfigError if transformers cannot load the model, and if a
    parameter is missing from the files: transformers would set it to random numbers.
    """
    from transformers import AutoModelForCausalLM

    quiet()
    with loading(folder, "model", trust_remote_code):
        model, found = AutoModelForCausalLM.from_pretrained(
            folder, trust_remote_code=trust_remote_code, use_safetensors=True, output_loading_info=True, **settings
        )
    missing = sorted({name for name, _ in model.named_parameters()}.intersection(found["missing_keys"]))
    if missing:
        raise ConfigError(
            f"{folder}: its weights lack {', '.join(missing[:3])} ({len(missing)} in all), which would be random "
            "numbers; copy or fetch the model again"
        )
    return model


@contextmanager
def loading(folder: Path, what: str, trust_remote_code: bool) -> Iterator[None]:
    """Turn an error of transformers, or of a model's own code, into a ConfigError that names the folder."""
    try:
        yield
    except (MemoryError, LidrError):
        raise
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's, which a tokenizer need not import
            raise
        reason = " ".join(str(error).split())
        if "trust_remote_code" in reason and not trust_remote_code:
            raise ConfigError(
                f"{folder}: this {what} brings Python code of its own; read it, and set model.trust_remote_code to true"
            ) from error
        raise ConfigError(
            f"{folder}: transformers cannot load this {what} ({type(error).__name__}: {reason[:400]}); copy or "
            "fetch it again, or use one that transformers knows"
        ) from error


def end_of_turn_ids(folder: Path, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The tokens that end the assistant's turn: the generation configuration's and the tokenizer's end of sequence."""
    configured: list[object] = []
    for name in ("generation_config.json", "config.json"):
        if (folder / name).exists() and not configured:
            value = read_json(folder / name).get("eos_token_id")
            configured = value if isinstance(value, list) else [value]
            if not all(token is None or type(token) is int for token in configured):
                raise ConfigError(f"{folder / name}: eos_token_id is {value!r}, not a number or a list of numbers")
    ids = {token for token in [*configured, tokenizer.eos_token_id] if isinstance(token, int)}
    if not ids:
        raise ConfigError(f"model.path {folder}: neither its configuration nor its tokenizer names an end token")
    return ids


def import_gguf(file: Path, out: Path) -> None:
    """Turn a GGUF file into a plain Hugging Face folder with bfloat16 safetensors weights.

    transformers dequantises the file while loading, but keeps the quantizer's state, and so refuses to save and to
    train. Therefore the weights go into a new model of the same configuration. Raises ConfigError for a file that is
    missing, not GGUF, damaged or without a chat template, for an `out` that is not empty, and if the package that reads
    GGUF files is missing.
    """
    if not file.is_file():
        raise ConfigError(f"{file}: no such GGUF file")
    with file.open("rb") as handle:
        if handle.read(4) != b"GGUF":
            raise ConfigError(f"{file}: not a GGUF file (such a file begins with the letters GGUF)")
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty; name a new folder")
    import torch

    tokenizer, loaded = _load_gguf(file)
    weights = {key: value.to(torch.bfloat16) for key, value in loaded.state_dict().items()}
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.dtype = torch.bfloat16
    plain = type(loaded)._from_config(config, dtype=torch.bfloat16)
    plain.load_state_dict(weights)
    plain.generation_config = loaded.generation_config
    partial = out.with_name(f".{out.name}.partial")
    plain.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    if out.exists():
        out.rmdir()
    partial.rename(out)


def _load_gguf(file: Path) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Tokenizer and dequantised float32 model. A base model is refused before its weights are loaded."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    quiet()
    source, name = str(file.parent), file.name
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=name)
        if not tokenizer.chat_template:
            raise ConfigError(f"{file}: carries no chat template, so it is a base model; lidr needs an instruct model")
        return tokenizer, AutoModelForCausalLM.from_pretrained(source, gguf_file=name, dtype=torch.float32)
    except ImportError as error:
        raise ConfigError(f"{file}: reading GGUF files takes `pip install lidr[gguf]` ({error})") from error
    except (ValueError, IndexError, KeyError, OSError, struct.error) as error:
        raise ConfigError(
            f"{file}: damaged (fetch it again), or of an architecture that transformers does not read: {error}"
        ) from error


def _local_folder(model: ModelConfig, known: CacheEntry | None, weights: bool) -> Path:
    local = model.path in LABORATORIES or Path(model.path).expanduser().is_dir() or _gguf_file(model)
    if model.revision and local and not is_url(model.path):
        raise ConfigError(
            f"model.revision {model.revision}: {model.path} is on this disk, and revisions are for hub ids; set it to "
            "null"
        )
    if model.path in LABORATORIES:
        from lidr.lab import MODEL_PATHS

        return MODEL_PATHS[model.path]
    if is_url(model.path):
        if model.revision:
            raise ConfigError("model.revision is for hub ids; an hf:// URL takes it after the name, hf://org/name@v1")
        if not weights and (whole := kept_copy(model.path, "model.path", _ALL_FILES)):
            return whole
        return local_copy(model.path, "model.path", _ALL_FILES if weights else _SMALL_FILES)
    folder = Path(model.path).expanduser()
    if folder.is_dir():
        return folder
    if files := _gguf_file(model):
        return _imported_gguf(files[0], known, weights)
    if known and (Path(known["folder"]) / "config.json").exists():
        return Path(known["folder"])
    if not may_be_hub_id(model.path):
        raise ConfigError(f"model.path {model.path}: no such folder or .gguf file, and not a hub id such as org/name")
    try:
        return _from_hub(model, weights)
    except Exception as error:  # the exception types differ between releases of the Hub's client
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"model.path {model.path}: no such folder, and the Hub gave no such model: {reason}"
        ) from error


def _from_hub(model: ModelConfig, weights: bool) -> Path:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, snapshot_download, try_to_load_from_cache

    if weights:
        return Path(snapshot_download(model.path, revision=model.revision, allow_patterns=_ALL_FILES))
    cached = try_to_load_from_cache(model.path, "config.json", revision=model.revision)
    if isinstance(cached, str):
        return Path(cached).parent
    # One request without retries, because downloads retry for half a minute.
    get_hf_file_metadata(hf_hub_url(model.path, "config.json", revision=model.revision), timeout=_HUB_TIMEOUT_S)
    return Path(snapshot_download(model.path, revision=model.revision, allow_patterns=_SMALL_FILES))


def _gguf_file(model: ModelConfig) -> list[Path]:
    """The GGUF file that model.path names; empty if it names something else."""
    file = Path(model.path).expanduser()
    return [file] if file.suffix == ".gguf" and file.is_file() else []


def _imported_gguf(file: Path, known: CacheEntry | None, weights: bool) -> Path:
    """The folder in the cache with the imported GGUF file; each content is imported once."""
    if known and known.get("stamp", [])[:1] == _stamps([file]) and Path(known["folder"]).is_dir():
        return Path(known["folder"])
    imported = cache_folder() / "gguf"
    folder = imported / hash_file(file)
    if not weights and not folder.exists():
        raise ConfigError(
            f"model.path {file}: this GGUF file has not been imported yet; run `lidr import-gguf {file} FOLDER` first, "
            "and give --set model.path=FOLDER"
        )
    with locked(imported):
        if not folder.exists():
            print(f"model.path {file}: importing it into {folder}, once", file=sys.stderr, flush=True)
            import_gguf(file, folder)
    return folder


def _stamps(files: list[Path]) -> list[list[str | int]]:
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
