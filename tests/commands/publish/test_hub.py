"""What is pushed, what is never pushed, and what a refusal of the Hub looks like; the Hub's real client sends it.

The other side is a stand-in for the Hub on this machine (tests/hub_server.py), not the Hub itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from lidr.cards import Published
from lidr.cli import app
from lidr.commands.publish import hub
from lidr.commands.publish.hub import HubError
from lidr.config import Config
from lidr.errors import ConfigError, RunError
from lidr.run_dir import RunDir
from lidr.storage import write_text
from tests.conftest import ToyRun
from tests.support.hub_server import TOKEN, HubServer, Repo
from tests.support.publishing import add_model, finish, make_pairs

BOTH = Published("org/model", "org/pairs")


@pytest.fixture
def finished(toy_run: ToyRun) -> tuple[Config, RunDir]:
    return finish(toy_run)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """A stand-in that the Hub's client talks to, with a token that it knows and no stored one."""
    with HubServer() as running:
        point_at(running.url, monkeypatch, tmp_path)
        yield running


def point_at(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no_token"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)


def push(run: RunDir, *options: str) -> Result:
    return CliRunner().invoke(app, ["push", str(run.path), *options])


def send(config: Config, run: RunDir, published: Published = BOTH, public: bool = False) -> list[hub.Sent]:
    uploads = hub.plan_uploads(config, run, 1, published)
    return list(hub.send(uploads, public, "a push", lambda line: None))


def test_without_yes_nothing_is_sent(finished: tuple[Config, RunDir], server: HubServer) -> None:
    _, run = finished
    before = sorted(str(path) for path in run.path.rglob("*"))
    done = push(run, "--model-repo", "org/model", "--data-repo", "org/pairs")
    assert done.exit_code == 0 and "Nothing was sent" in done.output
    assert server.requests == [] and server.repos == {}
    assert sorted(str(path) for path in run.path.rglob("*")) == before
    assert "model org/model (private if new): 12 files" in done.output
    assert "model.safetensors" in done.output and "data/es/iteration_1.jsonl" in done.output
    assert "stays here: notes.md, optimizer.pt, trainer_state.json, training_args.bin" in done.output


def test_only_what_is_listed_goes(finished: tuple[Config, RunDir], server: HubServer) -> None:
    config, run = finished
    sent = send(config, run)
    documents = {f"run/{name}" for name in ("recipe.yaml", "results.json", "report.html", "report.md")}
    documents.add("run/reproducibility.md")
    model, data = server.repos["model", "org/model"], server.repos["dataset", "org/pairs"]
    assert set(model.files) == documents | {
        "README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json", "chat_template.jinja",
    }  # fmt: skip
    assert set(data.files) == documents | {"README.md"} | {f"data/{c}/iteration_1.jsonl" for c in config.languages}
    assert model.private and data.private
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert model.files[name] == (run.model_folder(1) / name).read_bytes()
    assert data.files["data/es/iteration_1.jsonl"] == run.pairs(1, "es").read_bytes()
    assert b"datasets:\n- org/pairs" in model.files["README.md"] and b"'org/model'" in model.files["README.md"]
    assert [s.commit.split("/commit/")[0] for s in sent] == [
        f"{server.url}/org/model",
        f"{server.url}/datasets/org/pairs",
    ]


def test_the_same_push_again_changes_nothing_and_a_new_one_is_a_commit(
    finished: tuple[Config, RunDir], server: HubServer
) -> None:
    config, run = finished
    send(config, run)
    first = dict(server.repos["model", "org/model"].files)
    send(config, run)
    assert len(server.repos["model", "org/model"].commits) == 1
    write_text(run.path / "report.md", "another report")
    send(config, run)
    repo = server.repos["model", "org/model"]
    assert repo.commits[1] == ["run/report.md"] and repo.files["run/report.md"] == b"another report"
    assert {**repo.files, "run/report.md": first["run/report.md"]} == first


def test_old_weights_and_pairs_go_and_files_of_others_stay(finished: tuple[Config, RunDir], server: HubServer) -> None:
    config, run = finished
    old = {"model-00001-of-00002.safetensors": b"old", "model.safetensors.index.json": b"{}", "LICENSE": b"text"}
    server.repos["model", "org/model"] = Repo(True, dict(old))
    server.repos["dataset", "org/pairs"] = Repo(True, {"data/it/iteration_1.jsonl": b"old", "data/notes.md": b"mine"})
    sent = send(config, run)
    assert [found.removed for found in sent] == [
        ["model-00001-of-00002.safetensors", "model.safetensors.index.json"], ["data/it/iteration_1.jsonl"],
    ]  # fmt: skip
    assert server.repos["model", "org/model"].files["LICENSE"] == b"text"
    assert "model-00001-of-00002.safetensors" not in server.repos["model", "org/model"].files
    assert server.repos["dataset", "org/pairs"].files["data/notes.md"] == b"mine"


def test_a_public_repository_gets_nothing_private(finished: tuple[Config, RunDir], server: HubServer) -> None:
    config, run = finished
    server.repos["dataset", "org/pairs"] = Repo(private=False)
    with pytest.raises(HubError, match="org/pairs exists and is public; nothing was sent"):
        send(config, run)
    assert ("model", "org/model") not in server.repos and not server.repos["dataset", "org/pairs"].files
    send(config, run, public=True)
    assert server.repos["dataset", "org/pairs"].files and not server.repos["model", "org/model"].private


def test_public_needs_a_licence(finished: tuple[Config, RunDir], server: HubServer) -> None:
    config, run = finished
    with pytest.raises(ConfigError, match="no licence"):
        hub.check_license(config, BOTH, public=True)
    refused = push(run, "--model-repo", "org/model", "--public", "--yes")
    assert isinstance(refused.exception, ConfigError) and server.requests == []
    done = push(run, "--model-repo", "org/model", "--public", "--license", "mit", "--yes")
    assert done.exit_code == 0 and b"license: mit" in server.repos["model", "org/model"].files["README.md"]
    assert "org/model (public if new)" in done.output and f"on the Hub: {server.url}/org/model" in done.output
    assert TOKEN not in done.output


@pytest.mark.parametrize(
    ("at", "status", "message"),
    [
        ("/api/repos/create", 401, "does not know the token"),
        ("/api/repos/create", 403, "may not write to org"),
        ("/api/models/org/model/commit/main", 403, "may not write to org"),
        ("/api/models/org/model/commit/main", 409, "somebody else is changing it"),
        ("/api/models/org/model/commit/main", 500, "the Hub refused"),
        ("/api/models/org/model", 500, "the Hub refused"),
    ],
)
def test_refusals_of_the_hub(
    finished: tuple[Config, RunDir], server: HubServer, at: str, status: int, message: str
) -> None:
    server.fail = lambda method, path: status if path == at else None
    with pytest.raises(HubError, match=message) as caught:
        send(*finished, Published("org/model"))
    assert "model org/model" in str(caught.value) and TOKEN not in str(caught.value)
    server.fail = lambda method, path: None
    send(*finished, Published("org/model"))  # the same again, and all is well
    assert len(server.repos["model", "org/model"].commits) == 1


def test_somebody_elses_organisation(finished: tuple[Config, RunDir], server: HubServer) -> None:
    with pytest.raises(HubError, match="may not write to theirs"):
        send(*finished, Published("theirs/model"))


def test_a_wrong_token_and_none(
    finished: tuple[Config, RunDir], server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong_wrong_wrong")
    with pytest.raises(HubError, match="does not know the token") as caught:
        send(*finished)
    assert "hf_wrong" not in str(caught.value)
    monkeypatch.delenv("HF_TOKEN")
    server.requests.clear()
    with pytest.raises(HubError, match="no token for the Hub"):
        send(*finished)
    assert server.requests == []


def test_the_network_is_down(finished: tuple[Config, RunDir], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with HubServer() as gone:
        url = gone.url
    point_at(url, monkeypatch, tmp_path)
    with pytest.raises(HubError, match="cannot be reached"):
        send(*finished)


def test_metadata_that_the_hub_refuses(finished: tuple[Config, RunDir], server: HubServer) -> None:
    uploads = hub.plan_uploads(*finished, 1, Published("org/model"))
    card = uploads[0].files[0]
    wrong = hub.HubFile(card.path, str(card.source).replace("license: unknown", "license: my-own"))
    broken = hub.Upload("org/model", "model", [wrong, *uploads[0].files[1:]])
    with pytest.raises(HubError, match=r'"license" must be one of'):
        list(hub.send([broken], False, "a push", lambda line: None))
    assert server.repos["model", "org/model"].files == {}


def test_a_secret_is_not_sent(
    finished: tuple[Config, RunDir], server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = finished
    write_text(run.path / "report.md", f"somebody pasted {TOKEN} here")
    with pytest.raises(RunError, match=r"run/report.md holds the value of HF_TOKEN") as caught:
        hub.plan_uploads(config, run, 1, BOTH)
    assert TOKEN not in str(caught.value)
    write_text(run.path / "report.md", "the judge's key is sk-0123456789")
    judge: dict[str, Any] = {"model": "j", "engine": {"type": "openai", "api_key_env": "JUDGE_KEY"}}
    judged = Config.model_validate(config.model_dump() | {"evaluation": {"judge": judge}})
    monkeypatch.setenv("JUDGE_KEY", "sk-0123456789")
    with pytest.raises(RunError, match="the value of JUDGE_KEY"):
        hub.plan_uploads(judged, run, 1, BOTH)
    monkeypatch.setenv("JUDGE_KEY", "sk-9876543210")
    assert hub.plan_uploads(judged, run, 1, BOTH)
    monkeypatch.setenv("SOME_API_KEY", "sk-0123456789")  # of another tool
    with pytest.raises(RunError, match="the value of SOME_API_KEY"):
        hub.plan_uploads(config, run, 1, BOTH)


def test_nothing_to_send(toy_run: ToyRun) -> None:
    config, run = make_pairs(toy_run)
    with pytest.raises(ConfigError, match="--model-repo org/name"):
        hub.plan_uploads(config, run, 1, Published())
    with pytest.raises(RunError, match="no trained model yet"):
        hub.plan_uploads(config, run, 1, BOTH)
    assert [upload.kind for upload in hub.plan_uploads(config, run, 1, Published(data_repo="org/pairs"))] == ["dataset"]
    add_model(run, pairs="0" * 64)
    with pytest.raises(RunError, match="trained on other pairs"):
        hub.plan_uploads(config, run, 1, BOTH)


def test_paths_of_this_machine_are_told(finished: tuple[Config, RunDir], toy_run: ToyRun) -> None:
    config, run = finished
    assert hub.own_paths(config) == [str(toy_run.prompts)]
    done = push(run, "--model-repo", "org/model")
    assert f"shows paths of this machine: {toy_run.prompts}" in done.output
    assert "report is missing or older" in done.output


def test_the_command_in_a_process_of_its_own(finished: tuple[Config, RunDir], tmp_path: Path) -> None:
    """As users run it: server and token by the environment alone."""
    _, run = finished
    command = [sys.executable, "-m", "lidr", "push", str(run.path), "--data-repo", "org/pairs", "--yes"]
    with HubServer() as server:
        environment = os.environ | {"HF_ENDPOINT": server.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        rows = server.repos["dataset", "org/pairs"].files["data/fr/iteration_1.jsonl"].decode().splitlines()
        assert json.loads(rows[0])["language"] == "fr"
        server.fail = lambda method, path: 403
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and "error: dataset org/pairs: the token may not write to org" in done.stderr
        assert "Traceback" not in done.stderr and TOKEN not in done.stdout + done.stderr


def test_missing_weights_stop_a_push_and_ones_own_files_below_stay(tmp_path: Path) -> None:
    upload = hub.Upload("org/m", "model", [hub.HubFile("model.safetensors", "w")])
    assert hub._stale(upload, ["model-00001-of-00002.safetensors", "models/mine.safetensors"]) == [
        "model-00001-of-00002.safetensors"
    ]
    assert hub._missing_weights(tmp_path, ["config.json"]) == "model.safetensors"
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert hub._missing_weights(tmp_path, ["model-1.safetensors"]) == "model-2.safetensors"
    assert not hub._missing_weights(tmp_path, ["model-1.safetensors", "model-2.safetensors"])
