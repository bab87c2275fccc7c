"""Model folders: weights from safetensors alone, everything that changes answers is known, damage is named at load."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lidr.config import ModelConfig, load_config
from lidr.engine_settings import engine_identity
from lidr.errors import ConfigError
from lidr.lab import MODEL_PATH
from lidr.models import fingerprint, load_model, load_tokenizer, resolve_model
from lidr.models.architecture import find_architecture
from lidr.models.files import check_adapter
from lidr.run_dir import RunDir
from tests.support.written_pairs import train, written_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the laboratory's model."""
    return Path(shutil.copytree(MODEL_PATH, tmp_path / "model"))


def resolve(folder: Path) -> str:
    return resolve_model(ModelConfig(path=str(folder)), folder.parent / "cache.json")[1]


def sharded(folder: Path, below: str = "") -> dict[str, str]:
    """Split the weights into two files, listed in an index."""
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    parts = {f"{below}part-1.safetensors": names[::2], f"{below}part-2.safetensors": names[1::2]}
    (folder / below).mkdir(exist_ok=True)
    for file, tensors in parts.items():
        save_file({name: weights[name] for name in tensors}, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors").unlink()
    index = {name: file for file, tensors in parts.items() for name in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return index


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.ckpt", "consolidated.00.pth", "tf_model.h5", "flax_model.msgpack"]
)
def test_weights_in_other_formats_are_refused(folder: Path, name: str) -> None:
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(
        ConfigError, match=rf"its weights are in {name}, and only safetensors files are read"
    ) as refused:
        resolve(folder)
    assert ("python -c" in str(refused.value)) == (name == "pytorch_model.bin")


def test_the_two_lines_of_the_message_convert_the_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess
    import sys

    before = load_file(folder / "model.safetensors")
    torch.save(before, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError) as refused:
        resolve(folder)
    command = str(refused.value).partition("\n")[2].replace("python -c", f"{sys.executable} -c")
    subprocess.run(["bash", "-c", command], cwd=folder.parent, check=True, capture_output=True)
    converted = folder.parent / "model-safetensors"
    resolve(converted)
    model = load_model(converted).state_dict()
    assert all(torch.equal(model[name], value) for name, value in before.items())


def test_a_folder_that_an_earlier_version_accepted_is_refused_too(folder: Path) -> None:
    cache = folder.parent / "cache.json"
    resolve(folder)
    known = json.loads(cache.read_text())
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    for entry in known.values():
        del entry["checked"]
        entry["stamp"] = [stamp for stamp in entry["stamp"] if stamp[0] != "model.safetensors"]
    cache.write_text(json.dumps(known))
    with pytest.raises(ConfigError, match=r"pytorch_model\.bin"):
        resolve(folder)


def test_beside_safetensors_other_weights_do_not_count(folder: Path) -> None:
    torch.save({"model.norm.weight": torch.zeros(1)}, folder / "pytorch_model.bin")
    assert resolve(folder) == fingerprint(MODEL_PATH)
    assert torch.equal(
        load_model(folder).state_dict()["lm_head.weight"], load_model(MODEL_PATH).state_dict()["lm_head.weight"]
    )


def test_the_planner_refuses_what_a_run_would_refuse(folder: Path) -> None:
    model = ModelConfig(path=str(folder))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"pytorch_model\.bin"):
        find_architecture(model)
    (folder / "pytorch_model.bin").unlink()
    assert find_architecture(model)[0].layers == 3  # a folder with a shape alone can be planned for
    find_architecture.cache_clear()
    for text in ("null", '{"model_type": "llama", "hidden_size": 0}', '{"model_type": "llama", "vocab_size": "x"}'):
        (folder / "config.json").write_text(text)
        with pytest.raises(ConfigError):
            find_architecture(model)


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"has no model\.safetensors"):
        resolve(folder)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def rewrite(text: str) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        file.write_text(text)

    return write


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("config.json", cut, "it is not JSON"),
        ("config.json", rewrite("[]"), "a JSON object is needed"),
        ("config.json", rewrite("[" * 100_000), "it is not JSON"),
        ("config.json", rewrite('{"model_type": 7}'), "model_type is no text"),
        ("config.json", lambda file: file.write_bytes(b"\xff\xfe\x00"), "it is not JSON"),
        ("generation_config.json", rewrite("null"), "a JSON object is needed"),
        ("tokenizer_config.json", rewrite("{"), "it is not JSON"),
        ("tokenizer.json", cut, "it is not JSON"),
        ("tokenizer.json", rewrite('{"model": 1}'), "no tokenizer"),
        ("model.safetensors", cut, "no whole safetensors file"),
        ("model.safetensors", rewrite(""), "no whole safetensors file"),
        ("model.safetensors", rewrite("x" * 5000), "no whole safetensors file"),
        ("model.safetensors", rewrite("version https://git-lfs.github.com/spec/v1\noid x\n"), "run `git lfs pull`"),
        ("model.safetensors", lambda file: save_file({}, file), "there are no weights in it"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named(folder: Path, name: str, damage: Callable[[Path], object], message: str) -> None:
    damage(folder / name)
    with pytest.raises(ConfigError, match=message) as refused:
        resolve(folder)
    assert str(folder / name) in str(refused.value)


def test_sharded_weights_and_what_may_be_wrong_with_them(folder: Path) -> None:
    index = sharded(folder)
    resolve(folder)
    assert load_model(folder).num_parameters() == load_model(MODEL_PATH).num_parameters()
    file = folder / "model.safetensors.index.json"
    first = min(index)

    def refused(index: object, message: str) -> None:
        file.write_text(json.dumps({"weight_map": index}))
        with pytest.raises(ConfigError, match=message):
            resolve(folder)

    refused(index | {first: "part-3.safetensors"}, r"the file part-3\.safetensors that it names is missing")
    refused(index | {"more.weight": "part-1.safetensors"}, r"more\.weight is not in it")
    refused(index | {first: "../part-1.safetensors"}, "is no file of this folder")
    refused(index | {first: 3}, "is no file of this folder")
    refused([], "it has no weight_map")
    file.write_text(json.dumps({"weight_map": index}))
    (folder / "part-2.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"part-2\.safetensors that it names is missing"):
        resolve(folder)


def test_weights_that_lack_a_parameter_are_refused_and_not_drawn_at_random(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"its weights lack model\.norm\.weight"):
        load_model(folder)


def test_what_transformers_cannot_load_is_named(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": "many"}))
    with pytest.raises(ConfigError, match=r"model: transformers cannot load this model"):
        load_model(folder)
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "unheard_of"}))
    with pytest.raises(ConfigError, match=r"model: transformers cannot load this model"):
        load_model(folder)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"model: transformers cannot load this tokenizer"):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    "name", ["additional_chat_templates/default.jinja", "custom_generate/generate.py", "source.spm"]
)
def test_every_file_that_changes_answers_is_known(folder: Path, name: str) -> None:
    before = resolve(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("one")
    after = resolve(folder)
    (folder / name).write_text("two")
    os.utime(folder / name, ns=(1, 1))
    assert len({before, after, resolve(folder)}) == 3


def test_shards_in_a_subfolder_are_known(folder: Path) -> None:
    sharded(folder, "weights/")
    before = resolve(folder)
    file = folder / "weights" / "part-1.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    assert resolve(folder) != before


def test_an_adapter_is_no_model(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds a LoRA adapter beside a model"):
        resolve(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ConfigError, match="is a LoRA adapter and no model"):
        resolve(folder)


def test_an_adapter_of_vllm_has_safetensors(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"r": 8}')
    torch.save({"a": torch.zeros(2)}, tmp_path / "adapter_model.bin")
    engine = load_config("evaluation", [f"engine={{type: vllm, adapter: {tmp_path}}}"]).engine
    with pytest.raises(ConfigError, match=r"its weights are in adapter_model\.bin.*Convert it once"):
        engine_identity(engine)
    save_file({"a": torch.zeros(2)}, tmp_path / "adapter_model.safetensors")
    check_adapter(tmp_path)
    cut(tmp_path / "adapter_model.safetensors")
    with pytest.raises(ConfigError, match=r"adapter_model\.safetensors: damaged"):
        check_adapter(tmp_path)


@pytest.mark.parametrize("arguments", ["tokenizer: other/one", "hf_overrides: {rope_theta: 1}"])
def test_vllms_arguments_that_change_answers_are_part_of_the_model(arguments: str, tmp_path: Path) -> None:
    def found(engine: str) -> str:
        return RunDir(tmp_path).model(load_config("evaluation", ["model.path=lab", f"engine={engine}"]), 0).fingerprint

    assert found(f"{{type: vllm, arguments: {{{arguments}}}}}") != found("{type: vllm}")
    with pytest.raises(ConfigError, match=r"load_format pt: only safetensors"):
        found("{type: vllm, arguments: {load_format: pt}}")


@pytest.mark.parametrize("path", ["lab", "folder"])
def test_a_revision_of_what_is_on_disk_is_refused(folder: Path, path: str) -> None:
    model = ModelConfig(path=path if path == "lab" else str(folder), revision="v1")
    with pytest.raises(ConfigError, match=r"model\.revision v1: .* is on this disk"):
        resolve_model(model, folder.parent / "cache.json")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", "{}", '{"KEY": 3}', '{"KEY": {"folder": 3}}', '{"KEY": {"folder": "x", "stamp": 1}}',
             '{"KEY": {"folder": "x", "stamp": []}}', "\x00", "[" * 100_000],
)  # fmt: skip
def test_a_damaged_cache_of_fingerprints_is_written_anew(folder: Path, text: str) -> None:
    cache = folder.parent / "cache.json"
    cache.write_text(text.replace("KEY", f"{folder}@None"))
    assert resolve(folder) == fingerprint(folder)
    assert json.loads(cache.read_text())[f"{folder}@None"]["fingerprint"] == fingerprint(folder)


def test_what_goes_with_a_trained_model(folder: Path, tmp_path: Path) -> None:
    torch.save({"lm_head.weight": torch.zeros(1)}, folder / "pytorch_model.bin")
    for name in ("pytorch_model.bin.index.json", "training_args.bin", "optimizer.pt", "LICENSE", "source.spm"):
        (folder / name).write_text("{}")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("{{ messages }}")
    run, config = written_run(tmp_path / "run", "training.epochs=1", model=folder)
    train(run, config)
    names = {file.relative_to(run.model_folder(1)).as_posix() for file in run.model_folder(1).rglob("*")}
    assert {"LICENSE", "source.spm", "additional_chat_templates/tool_use.jinja", "model.safetensors"} <= names
    assert not [name for name in names if ".bin" in name or name.endswith(".pt")]
