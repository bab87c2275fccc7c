"""Models: known by the content of their weights, and GGUF files become plain folders that answer the same."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch

from lidr.config import ModelConfig
from lidr.engines import Request, Sampling, open_model
from lidr.engines.transformers import Transformers
from lidr.errors import ConfigError
from lidr.lab import MODEL_PATH
from lidr.models import end_of_turn_ids, fingerprint, import_gguf, load_tokenizer, resolve_model
from lidr.storage import hash_file


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(MODEL_PATH, tmp_path / "copy"))
    assert fingerprint(copy) == fingerprint(MODEL_PATH)
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert fingerprint(copy) != fingerprint(MODEL_PATH)


def test_a_changed_folder_is_noticed_in_spite_of_the_cache(tmp_path: Path) -> None:
    copy, cache = Path(shutil.copytree(MODEL_PATH, tmp_path / "copy")), tmp_path / "cache.json"
    first = resolve_model(ModelConfig(path=str(copy)), cache)
    assert resolve_model(ModelConfig(path=str(copy)), cache) == first
    (copy / "generation_config.json").write_text('{"eos_token_id": 7}')
    assert resolve_model(ModelConfig(path=str(copy)), cache)[1] != first[1]


@pytest.mark.parametrize("value", ['"<|end|>"', "[[5]]", "true", "1.5", "{}"])
def test_an_end_token_that_is_no_number_is_named(value: str, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(MODEL_PATH, tmp_path / "copy"))
    (copy / "generation_config.json").write_text(f'{{"eos_token_id": {value}}}')
    with pytest.raises(ConfigError, match=r"generation_config\.json: eos_token_id is .*, not a number"):
        end_of_turn_ids(copy, load_tokenizer(copy))


def test_a_model_may_be_behind_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    url = f"memory://{tmp_path.name}/model"
    system, root = fsspec.core.url_to_fs(url)
    for file in MODEL_PATH.iterdir():
        if file.is_file():
            system.pipe(f"{root}/{file.name}", file.read_bytes())
    system.pipe(f"{root}/optimizer.pt", b"not needed")
    folder, found = resolve_model(ModelConfig(path=url), tmp_path / "cache.json")
    assert found == fingerprint(MODEL_PATH)
    assert folder.is_relative_to(tmp_path / "xdg") and not (folder / "optimizer.pt").exists()
    assert resolve_model(ModelConfig(path=url), tmp_path / "cache.json") == (folder, found)
    with pytest.raises(ConfigError, match=r"model\.revision is for hub ids"):
        resolve_model(ModelConfig(path=url, revision="v1"), tmp_path / "cache.json")
    system.rm(root, recursive=True)


@pytest.mark.parametrize("path", ["./nowhere", "/no/such/folder", "justname", "folder/missing.gguf"])
def test_a_missing_model_is_named(path: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        resolve_model(ModelConfig(path=path), tmp_path / "cache.json")


def test_a_folder_without_configuration_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no config\.json"):
        resolve_model(ModelConfig(path=str(tmp_path)), tmp_path / "cache.json")


def test_a_base_model_without_chat_template_is_refused(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(MODEL_PATH, tmp_path / "copy"))
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match="use an instruct model"):
        load_tokenizer(copy)


def write_gguf(path: Path, chat_template: str | None) -> dict[str, Any]:
    """A tiny Llama with random weights and a byte-level tokenizer, in GGUF; returns its weights by GGUF name."""
    import gguf

    torch.manual_seed(0)
    width, layers, heads, inner = 32, 2, 4, 64
    tokens = ["<|end|>", "<|user|>", *(_byte_symbols()), "ab"]
    writer = gguf.GGUFWriter(str(path), "llama")
    for name, value in (("context_length", 128), ("embedding_length", width), ("block_count", layers),
                        ("feed_forward_length", inner), ("head_count", heads), ("head_count_kv", heads)):  # fmt: skip
        getattr(writer, f"add_{name}")(value)
    writer.add_rope_dimension_count(width // heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3] + [1] * (len(tokens) - 2))
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(0)
    writer.add_bos_token_id(0)
    if chat_template:
        writer.add_chat_template(chat_template)
    shapes = {"token_embd": (len(tokens), width), "output": (len(tokens), width), "output_norm": (width,)}
    for layer in range(layers):
        block = {"attn_q": (width, width), "attn_k": (width, width), "attn_v": (width, width),
                 "attn_output": (width, width), "ffn_gate": (inner, width), "ffn_up": (inner, width),
                 "ffn_down": (width, inner), "attn_norm": (width,), "ffn_norm": (width,)}  # fmt: skip
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in block.items()}
    weights = {f"{name}.weight": torch.randn(shape) * 0.1 for name, shape in shapes.items()}
    for name, value in weights.items():
        writer.add_tensor(name, value.numpy())
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        write()
    writer.close()
    return weights


def _byte_symbols() -> list[str]:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return list(bytes_to_unicode().values())


TEMPLATE = "{% for m in messages %}<|user|>{{ m['content'] }}<|end|>{% endfor %}"


def test_a_gguf_file_becomes_a_plain_folder(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    pytest.importorskip("gguf", reason="pip install lidr[gguf]")
    weights = write_gguf(tmp_path / "tiny.gguf", TEMPLATE)
    import_gguf(tmp_path / "tiny.gguf", tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    embedded = weights["token_embd.weight"].to(torch.bfloat16).float()
    assert torch.equal(model.get_input_embeddings().weight, embedded)
    assert "quantization_config" not in json.loads((tmp_path / "out" / "config.json").read_text())
    tokenizer = load_tokenizer(tmp_path / "out")
    rendered = tokenizer.apply_chat_template([{"role": "user", "content": "ab"}], tokenize=False)
    assert rendered == "<|user|>ab<|end|>"
    model.save_pretrained(tmp_path / "again")  # what transformers refuses for the model as it was loaded


def test_a_gguf_file_is_a_model_that_is_imported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gguf", reason="pip install lidr[gguf]")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    file, cache = tmp_path / "tiny.gguf", tmp_path / "cache.json"
    write_gguf(file, TEMPLATE)
    config = ModelConfig(path=str(file))
    folder, found = resolve_model(config, cache)
    assert folder == tmp_path / "xdg" / "lidr" / "gguf" / hash_file(file)
    assert capsys.readouterr().err.count("importing it into") == 1
    with open_model(Transformers(), str(folder)) as engine:
        requests = [Request("1", (("user", "ab"),))]
        assert next(engine.generate(requests, Sampling(max_new_tokens=4))).completion_tokens > 0

    def again(*_: Any) -> None:
        pytest.fail("imported again")

    monkeypatch.setattr("lidr.models.import_gguf", again)
    assert resolve_model(config, cache) == (folder, found)
    assert resolve_model(config, tmp_path / "another.json") == (folder, found)  # known by content, to other runs too
    monkeypatch.setattr("lidr.models.hash_file", again)
    assert resolve_model(config, cache) == (folder, found)  # the file is not read again
    os.utime(file, ns=(1, 1))
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert resolve_model(config, cache) == (folder, found)
    file.write_bytes(b"GGUF, but no more")
    with pytest.raises(ConfigError, match=r"tiny\.gguf: damaged"):
        resolve_model(config, cache)


def test_gguf_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="pip install lidr[gguf]")
    write_gguf(tmp_path / "base.gguf", None)
    with pytest.raises(ConfigError, match="no chat template"):
        import_gguf(tmp_path / "base.gguf", tmp_path / "out")
    whole = (tmp_path / "base.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: len(whole) - 200])
    with pytest.raises(ConfigError, match=r"cut\.gguf: damaged"):
        import_gguf(tmp_path / "cut.gguf", tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("precious")
    with pytest.raises(ConfigError, match="not empty"):
        import_gguf(tmp_path / "base.gguf", tmp_path / "full")
