"""A model with Python code of its own: `trust_remote_code` reaches whatever loads it, and its code goes with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lidr.config import JudgeConfig, ModelConfig
from lidr.engines import Request, Sampling, open_model
from lidr.engines.transformers import Transformers
from lidr.errors import ConfigError
from lidr.judges import open_judge
from lidr.lab import MODEL_PATH
from lidr.models.architecture import find_architecture
from lidr.run_dir import RunDir
from tests.support.written_pairs import train, written_run

CODE = {
    "configuration_own.py": "from transformers import LlamaConfig\n\n\nclass OwnConfig(LlamaConfig):\n"
    "    model_type = 'own_llama'\n",
    "modeling_own.py": "from transformers import LlamaForCausalLM\n\nfrom .configuration_own import OwnConfig\n\n\n"
    "class OwnForCausalLM(LlamaForCausalLM):\n    config_class = OwnConfig\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The laboratory's model as a class of its own."""
    folder = Path(shutil.copytree(MODEL_PATH, tmp_path / "own"))
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "llama"
    own = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    config |= {"model_type": "own_llama", "architectures": ["OwnForCausalLM"], "auto_map": own}
    (folder / "config.json").write_text(json.dumps(config))
    for name, code in CODE.items():
        (folder / name).write_text(code)
    return folder


def answer(folder: Path, trust_remote_code: bool) -> str:
    request = Request("1", (("user", "What is the capital of France?"),))
    with open_model(Transformers(device="cpu"), str(folder), trust_remote_code) as engine:
        return next(iter(engine.generate([request], Sampling(max_new_tokens=8)))).text


@pytest.mark.parametrize("lora", ["", "training.lora={rank: 2, alpha: 4}"])
def test_it_is_trained_saved_with_its_code_and_answers(folder: Path, tmp_path: Path, lora: str) -> None:
    settings = ["model.trust_remote_code=true", *([lora] if lora else [])]
    train(*written_run(tmp_path / "run", *settings, model=folder))
    run = RunDir(tmp_path / "run")
    trained = run.model_folder(1)
    assert all((trained / name).read_text() == code for name, code in CODE.items())
    saved = json.loads((trained / "config.json").read_text())
    assert saved["auto_map"]["AutoModelForCausalLM"] == "modeling_own.OwnForCausalLM"
    assert saved["model_type"] == "own_llama"
    assert answer(trained, trust_remote_code=True)
    with pytest.raises(ConfigError, match=r"set model\.trust_remote_code to true"):
        answer(trained, trust_remote_code=False)


def test_a_judge_and_the_planner_load_it_too(folder: Path, tmp_path: Path) -> None:
    settings = {"model": str(folder), "max_new_tokens": 4, "logprobs": False}
    for allowed in (True, False):
        judge = JudgeConfig.model_validate(settings | {"trust_remote_code": allowed})
        with open_judge(judge, tmp_path / f"{allowed}.sqlite", tmp_path / "cache.json") as opened:
            if allowed:
                assert opened.ask(["Hello"], "judge")[0].error is None
            else:
                with pytest.raises(ConfigError, match="brings Python code of its own"):
                    opened.ask(["Hello"], "judge")
    found, _, _ = find_architecture(ModelConfig(path=str(folder), trust_remote_code=True))
    assert found.parameters == find_architecture(ModelConfig(path="lab"))[0].parameters
    with pytest.raises(ConfigError, match=r"set model\.trust_remote_code to true"):
        find_architecture(ModelConfig(path=str(folder)))
