"""Passwords, keys and signatures: refused in recipes, masked in whatever is written or printed."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from lidr import cli
from lidr.config import Config, changes, load_config
from lidr.credentials import find_credential, holds_credential, mask, remember
from lidr.errors import ConfigError, EngineError
from tests.engines.test_serving import Stub, stub  # noqa: F401
from tests.support.openai_server import Reply, TestServer

SECRET = "S3cretValue9"

IN_A_TEXT = [
    "http://user:{}@host/v1",
    "http://user:{}/with/slash@host/v1",
    "http://user:a#{}@host",
    "http://:{}@host/v1",
    "https://{}@host/v1",
    "HTTPS://User:{}@Host",
    "git+https://{}@example.org/x",
    "s3://name:{}@bucket/x",
    "zip://a.jsonl::https://user:{}@host/x.zip",
    "user:{}@host:6379",
    "http://host/v1?api_key={}",
    "https://host/v1?a%70i_key={}",
    "https://host/v1?version=2&access_token={}",
    "https://host/v1#token={}",
    "https://host/x?X-Amz-Signature={}&x=1",
    "abfs://c@account/x?st=1&sig={}",
    "https://host/x?key={}",
    "https://host/x?code={}abcdefgh",
    "Authorization: Bearer {}",
    "the header authorization: {} was refused",
    "x-api-key: {}",
    '{{"error": {{"api_key": "{}"}}}}',
    "{{'password': '{}'}}",
    "password={}",
    "OPENAI_API_KEY={}",
    "engine.extra_body.api_key={}",
    "apiKey: {}",
    "sk-{}",
    "hf_{}abcdefgh",
    "the key is ghp_{}abcdefgh.",
    "eyJhbGciOiJIUzI1NiJ9.{}abcdefgh.x",
    "//user:{}@localhost/x.jsonl",
    "cannot read '//user:{}@localhost'",
    "sig={}",
    "signature: {}",
    "api_key:'{}'",
    "X-Custom: Token {}",
    "Basic {}",
    "PGPASSWORD={}",
    "LLMAPIKEY={}",
    "apikey2={}",
    "OPENAI_API_KEY_2={}",
    "MYTOKEN={}",
    "TOKEN={}",
    "DBPASS={}",
    "MY_SERVER_KEY={}",
    "VLLM_KEY={}",
    "GITHUB_PAT={}",
    "SESSION_JWT={}",
    "https://host/x?server_key={}",
]

IN_A_COMMAND = [
    "serve {{model}} --port {{port}} --api-key {}",
    "serve {{model}} --port {{port}} --api-key={}",
    "serve {{model}} --port {{port}} --token={}",
    "serve {{model}} --port {{port}} --token {}",
    "serve {{model}} --port {{port}} --hf-token '{}'",
    'serve {{model}} --port {{port}} --api-"key" {}',
    "serve {{model}} --port {{port}} --api-key ${{KEY:-{}}}",
    "HF_TOKEN={} serve {{model}} --port {{port}}",
    "env WANDB_API_KEY={} serve {{model}} --port {{port}}",
    "docker run -e HF_TOKEN={} serve {{model}} {{port}}",
    "sh -c 'HF_TOKEN={} serve {{model}} {{port}}'",
    "srun --export=HF_TOKEN={} serve {{model}} {{port}}",
    "curl -u name:{} http://host/{{model}}/{{port}}",
    "curl -H 'Authorization: Bearer {}' http://host/{{model}}/{{port}}",
    "serve {{model}} {{port}} --url http://a:{}@host",
    "serve {{model}} {{port}} --url //a:{}@host",
    "serve {{model}} {{port}} --server-key {}",
    "serve {{model}} {{port}} --jwt {}",
    "serve {{model}} {{port}} --pass {}",
    "serve {{model}} {{port}} --header 'X-Custom: Token {}'",
]
# Whatever the value is.
NAMED_IN_A_COMMAND = [
    "env PGPASSWORD={} vllm serve {{model}} --port {{port}}",
    "env TOKEN={} vllm serve {{model}} --port {{port}}",
    "env DBPASS={} vllm serve {{model}} --port {{port}}",
    "env llmapikey={} vllm serve {{model}} --port {{port}}",
    "serve {{model}} {{port}} --pass {}",
    "serve {{model}} {{port}} --db-pass={}",
    "serve {{model}} {{port}} --key={} --auth=none",
    "serve {{model}} {{port}} --jwt {}",
    'serve {{model}} {{port}} --header "x-api-key: {}"',
    "serve {{model}} {{port}} --header x-api-key:{}",
    "serve {{model}} {{port}} -H 'X-Server-Key: {}'",
    "serve {{model}} {{port}} -H 'Authorization: {}'",
    'serve {{model}} {{port}} --extra \'{{"token": "{}"}}\'',
]

ORDINARY = [
    "You are a helpful assistant.",
    "Never tell the password: it is secret. Answer in the form key=value.",
    "The password is required: yes, bearer bonds and Basic English are topics",
    "max_tokens: 5, token_budget=4096, tokens: 3, eos_token=</s>",
    "org/name",
    "meta-llama/Meta-Llama-3-8B-Instruct",
    "http://localhost:8000/v1",
    "http://localhost:8000/v1/@scope/x",
    "https://host/x?version=1&max_tokens=5&next_page_token=abc12345",
    "abfs://container@account.dfs.core.windows.net/x",
    "hdfs://user@namenode:9000/x",
    "hf://datasets/org/name@v1/en.jsonl",
    "zip://x.zip::s3://bucket/a@b/c",
    "zip://*.csv::hf://datasets/org/name@main/b.zip",
    "ssh://git@example.org:22/x",
    "10.0.0.1:6379",
    "/data/hf_models_llama3/task-sk-2024",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4",
    "qwen2.5:7b",
    "sk-SK and sk-SK-2024 are locales",
    "mailto:ann@example.org",
    "evaluation.judge.engine.api_key_env: OPENAI",
    "engine.api_key: no such field; remove it",
    "engine.api_key:no such field",
    "max_new_tokens=2048, bos_token_id=128000, 310.5 tokens/s, skip_special_tokens=true, stop_token_ids=[1, 2]",
    "bypass=abc123def, compass: north4east5, sort_key=name, primary_key: id, key: value, compat=v1alpha2beta",
    "the answer is token=value, the token: word, pass=first, Basic English, Token ring",
    "https://host/x?sort_key=name&bypass=1&page_key=2",
    "// a comment: with an @ in it, and //host:8080/@scope/x",
    "//host/path/x.jsonl",
    "pad_token='<pad>' token='</s>'",
]

ORDINARY_COMMANDS = [
    "vllm serve {model} --port {port}",
    "vllm serve {model} --port {port} --api-key $KEY",
    "vllm serve {model} --port {port} --api-key=${KEY}",
    "vllm serve {model} --port {port} --api-key EMPTY --tokenizer org/name --max-tokens 5 --eos-token '</s>'",
    "env HF_TOKEN=$HF_TOKEN vllm serve {model} --port {port} --ssl-keyfile a.pem --api-key-file /run/key",
    "docker run -u 1000:1000 -p 8000:8000 image:v1 {model} {port}",
    "curl -H 'Authorization: Bearer $TOKEN' http://host/{model}/{port}",
    "srun torchrun --nnodes $SLURM_NNODES --rdzv_endpoint $HEAD:29500",
    "env PATH=/opt/x8Kq2vLm9pZt/bin:$PATH PYTHONPATH=/opt/x8Kq2vLm9pZt vllm serve {model} {port}",
    "env TOKEN=$HF_TOKEN PGPASSWORD=${PW} GIT_ASKPASS=echo serve {model} {port} --max-num-batched-tokens 2048",
    "serve {model} {port} --tokenizer name --tokenizer-mode auto --token-budget=4096 --bypass yes --compass north",
    "serve {model} {port} --header 'x-api-key: $KEY' --jwt ${JWT} --pass $PASS --token EMPTY --sort-key=name",
    """serve {model} {port} --chat-template-kwargs '{"max_tokens": 5, "image_token": "<image>", "key": "value"}'""",
]


@pytest.mark.parametrize("text", [*IN_A_TEXT, *IN_A_COMMAND])
def test_a_credential_in_a_text_is_masked(text: str) -> None:
    text = text.format(SECRET)
    assert holds_credential(text) or find_credential({"launch": text}) == "launch"
    if 'api-"key"' not in text:  # only a shell reads that one
        assert SECRET not in mask(text) and "***" in mask(text)


@pytest.mark.parametrize("text", ORDINARY)
def test_an_ordinary_text_is_left_alone(text: str) -> None:
    assert not holds_credential(text) and mask(text) == text
    assert find_credential({"system_prompt": text, "path": text, "description": text}) is None


@pytest.mark.parametrize("command", IN_A_COMMAND)
def test_a_key_in_a_command_is_found(command: str) -> None:
    assert find_credential({"engine": {"launch": command.format(SECRET)}}) == "engine.launch"


@pytest.mark.parametrize("command", ORDINARY_COMMANDS)
def test_a_command_may_refer_to_the_environment(command: str) -> None:
    assert find_credential({"launch": command}) is None


@pytest.mark.parametrize("command", NAMED_IN_A_COMMAND)
def test_a_named_value_in_a_command_is_found_whatever_it_is(command: str) -> None:
    for value in ("hunter", "mysecretkey", SECRET):
        with pytest.raises(ConfigError, match=r"engine\.launch holds a password") as caught:
            load_config("evaluation", [f"engine={json.dumps(MODEL | {'launch': command.format(value)})}"])
        assert value not in str(caught.value)
    for value in ("$KEY", "${KEY}", "EMPTY"):
        assert find_credential({"launch": command.format(value)}) is None


@pytest.mark.parametrize(
    "body",
    [
        {"headers": {"X-Custom": "Token abcdef123456"}},
        {"extra_headers": {"X-Custom": "Token plainword"}},
        {"headers": {"x-server-key": "plainword"}},
        {"auth": {"user": "bob", "pass": "mysecret"}},
        {"auth": ["bob", {"db_pass": "mysecret"}]},
        {"auth": {"user": "bob", "value": "x8Kq2vLm9pZt"}},
        {"token": "mysecret"},
        {"token": 12345678},
        {"myToken": "mysecret"},
        {"server_key": "x8Kq2vLm9pZt"},
        {"serverKey": "x8Kq2vLm9pZt"},
        {"GITHUB_PAT": "x8Kq2vLm9pZt"},
        {"jwt": "plainword"},
    ],
    ids=json.dumps,
)
def test_a_credential_in_extra_body_is_found(body: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"engine\.extra_body\.\S+ holds a password"):
        load_config("evaluation", [f"engine={json.dumps(MODEL | {'extra_body': body})}"])


def test_values_are_known_by_their_names() -> None:
    for name in ("api_key", "apiKey", "X-API-Key", "Authorization", "HF_TOKEN", "password", "client_secret",
                 "aws_secret_access_key", "Cookie", "openai_api_key"):  # fmt: skip
        for value in ("plainword", ["plainword"], {"value": "plainword"}):
            assert find_credential({"a": [{"b": {name: value}}]}), (name, value)
    assert find_credential({"password": 12345678}) and find_credential({"token": SECRET})
    assert find_credential({"headers": {f"sk-{SECRET}": "x"}}) == "headers"
    ordinary: dict[str, Any] = {
        "max_tokens": 5, "token_budget": "many", "tokenizer": "x", "monkey": "y", "tokens": 3, "keys": ["a", "b"],
        "eos_token": "</s>", "pad_token": "<pad>", "reasoning_end_token": "done", "stop_token_ids": [1, 2],
        "api_key_env": "OPENAI_API_KEY", "prompt_cache_key": "abc123x", "sort_key": "name", "key": "name",
        "primary_key": "id", "server_key": "qwen2.5-7b", "bypass": "abc123def", "compass": "north", "pass": 2,
        "cache_key": "x8Kq2vLm9pZt", "auth": {"type": "basic"}, "headers": {"X-Style": "Basic"}, "signature": "f(x)",
        "bos_token_id": 128000, "skip_special_tokens": True, "chat_template_kwargs": {"max_new_tokens": 9},
        "token": "<x>", "hf_token": True, "api_key": None, "apikey": "EMPTY", "secret": "", "session": "x",
    }  # fmt: skip
    assert find_credential({"extra_body": ordinary}) is None


def test_the_environments_secrets_are_masked_however_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "plain words/only")
    monkeypatch.setenv("SOME_KEY_FILE", "/home/ann/key")
    remember("another plain one")
    said = mask("got 'plain words/only', plain%20words%2Fonly and another plain one from /home/ann/key")
    assert said == "got '***', *** and *** from /home/ann/key"


def test_a_placeholder_in_the_place_of_a_key_hides_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")
    for word in ("EMPTY", "no-key", "", "prompts", "'text'"):
        remember(word)
    said = "error: /data/EMPTY/prompts.csv: the text of prompt '1' is EMPTY"
    assert mask(said) == said
    remember("prompts.csv of 1")
    assert mask("prompts.csv of 12") == "***2"


def test_the_environment_is_masked_by_name_and_by_look(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"LLM_KEY": "x8Kq2vLm9pZt", "DBPASS": "plainword", "MODEL_KEY": "qwen2.5-7b",
                        "GIT_ASKPASS": "/usr/bin/askpass", "MAX_TOKENS": "12345678"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    said = mask("x8Kq2vLm9pZt plainword qwen2.5-7b /usr/bin/askpass 12345678")
    assert said == "*** *** qwen2.5-7b /usr/bin/askpass 12345678"


@pytest.mark.parametrize(
    "piece",
    [
        "//",
        "=//",
        "//a:",
        "Token ",
        "pass:",
        "a",
        "a:",
        "http://",
        "x=y ",
        "--a ",
        "?a=",
        "http://a:",
        "Bearer ",
        "eyJ",
        "@",
        "'",
    ],
)
def test_masking_takes_time_in_proportion(piece: str) -> None:
    def seconds(characters: int) -> float:
        start = time.process_time()
        mask(piece * (characters // len(piece)))
        return time.process_time() - start

    assert seconds(100_000) < 8 * max(seconds(25_000), 0.05)  # 4 times as long; the square would be 16 times


def test_errors_and_lists_of_changes_are_masked() -> None:
    assert SECRET not in str(EngineError(f"http://user:{SECRET}@host: refused"))
    old = {"engine": {"extra_body": {"api_key": "plainword"}, "base_url": f"http://a:{SECRET}@h"}, "seed": 1}
    assert changes(old, {"seed": 2}) == [
        "engine.extra_body.api_key: *** -> None",
        "engine.base_url: http://***@h -> None",
        "seed: 1 -> 2",
    ]


# --- every way in -----------------------------------------------------------------------------------------------------


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of a command in this process."""
    monkeypatch.setattr(sys, "argv", ["lidr", *arguments])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def assert_nowhere(secret: str, folder: Path, said: str) -> None:
    """No file below a folder holds the secret, nor does what a command said."""
    assert secret not in said
    for file in folder.rglob("*"):
        assert not (file.is_file() and secret.encode() in file.read_bytes()), file


MODEL = {"type": "openai"}
SETTINGS: list[dict[str, Any]] = [
    {"engine": MODEL | {"base_url": f"http://user:{SECRET}@host/v1"}},
    {"engine": MODEL | {"base_url": f"http://host/v1?api_key={SECRET}"}},
    {"engine": MODEL | {"base_url": f"http://host/v1#token={SECRET}"}},
    {"engine": MODEL | {"base_url": f"https://{SECRET}@host"}},
    {"engine": MODEL | {"base_url": f"user:{SECRET}@host:80"}},
    {"engine": MODEL | {"extra_body": {"api_key": SECRET}}},
    {"engine": MODEL | {"extra_body": {"a": {"headers": [{"Authorization": f"Bearer {SECRET}"}]}}}},
    {"engine": MODEL | {"api_key_env": f"sk-{SECRET}"}},
    {"engine": MODEL | {"api_key_env": f"hf_{SECRET}abcdefgh"}},
    {"engine": MODEL | {"api_key_env": f"{SECRET}abcdef"}},
    {"engine": MODEL | {"api_key_env": f"not a name {SECRET}"}},
    {"engine": MODEL | {"launch": f"vllm serve {{model}} --port {{port}} --api-key {SECRET}"}},
    {"engine": MODEL | {"launch": f"HF_TOKEN={SECRET} vllm serve {{model}} --port {{port}}"}},
    {"engine": {"type": "vllm", "arguments": {"hf_token": SECRET}}},
    {"engine": {"type": "ray", "address": f"ray:{SECRET}@host:6379"}},
    {"engine": {"type": "transformers", "api_key": SECRET}},
    {"engine": {"type": "unknown", "api_key": SECRET}},
    {"evaluation": {"judge": {"model": "m", "engine": MODEL | {"base_url": f"http://a:{SECRET}@h"}}}},
    {"evaluation": {"judge": {"model": "m", "api_key": SECRET}}},
    {"evaluation": {"benchmarks": {"mgsm": {"path": f"https://host/x?sig={SECRET}"}}}},
    {"model": {"path": f"s3://name:{SECRET}@bucket/model"}},
    {"prompts": {"path": f"https://{SECRET}@host/x"}},
    {"training": {"launch": f"srun --token {SECRET} torchrun"}},
    {"training": {"distributed": f"https://{SECRET}@host/x.yaml"}},
    {"about": {"affiliation": f"api_key={SECRET}"}},
    {"description": f"my key is sk-{SECRET}"},
    {"name": f"sk-{SECRET}"},
    {"system_prompt": f"Authorization: Bearer {SECRET}"},
    {"api_key": SECRET},
    {f"sk-{SECRET}": 1},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: json.dumps(settings)[:60])
def test_a_recipe_with_a_credential_is_refused_before_anything_is_written(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    base: dict[str, Any] = {"model": {"path": "lab"}, "languages": ["en", "es"], "prompts": {"path": "lab"}}
    recipe.write_text(json.dumps(base | settings), encoding="utf-8")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    given = [word for name, value in settings.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    for command in (["run", str(recipe)], ["plan", str(recipe)], ["run", "quickstart", *given]):
        assert run_main(monkeypatch, *command) == 2
        said = "".join(capsys.readouterr())
        assert "error: " in said and SECRET not in said and "Traceback" not in said
        assert not list(work.iterdir())
    with pytest.raises(ValidationError) as caught:  # without the command line
        Config.model_validate({"name": "x"} | base | settings)
    assert SECRET not in str(caught.value)


def test_the_way_out_is_named() -> None:
    for setting, way_out in {
        f"engine={{type: openai, base_url: 'http://u:{SECRET}@h'}}": "in api_key_env",
        f"engine={{type: openai, api_key_env: sk-{SECRET}}}": "such as OPENAI_API_KEY",
        f"training.launch=run --token {SECRET}": "write $NAME in its place",
        f"prompts.path=https://u:{SECRET}@h/x": "in the environment",
    }.items():
        with pytest.raises(ConfigError, match=re.escape(way_out)):
            load_config("quickstart", [setting])


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "m", "--base-url", f"http://user:{SECRET}@host/v1", "--benchmarks", "lab"],
        ["evaluate", f"https://{SECRET}@host/model", "--benchmarks", "lab"],
        ["evaluate", "m", "--benchmarks", "lab", "--set", f"engine.extra_body.api_key={SECRET}"],
        ["audit", "page.md", "--model", "m", "--base-url", f"http://host/v1?api_key={SECRET}"],
        ["audit", "page.md", "--model", "m", "--base-url", "http://h/v1", "--set", f"api_key_env=sk-{SECRET}"],
        ["prompts", "localize", "x.jsonl", "--to", "es", "--with", "model", "--model", "m", "--base-url",
         f"https://{SECRET}@host/v1"],
        ["prompts", "sample", f"https://user:{SECRET}@host/x.jsonl", "-n", "3", "--out", "out.jsonl"],
        ["run", "quickstart", "--set", f"engine.extra_body.api_key: {SECRET}"],
        ["run", "quickstart", "--set", f"engine.extra_body={{api_key: {SECRET}"],
        ["run", "quickstart", "--set", f"api_key..x={SECRET}"],
        ["run", f"https://user:{SECRET}@host/recipe.yaml"],
        ["status", f"https://user:{SECRET}@host/run"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_command_with_a_credential_is_refused(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.md").write_text("a page about nothing")
    (tmp_path / "x.jsonl").write_text(json.dumps({"id": "1", "instruction": "Why?"}) + "\n")
    assert run_main(monkeypatch, *command) == 2
    assert_nowhere(SECRET, tmp_path, "".join(capsys.readouterr()))
    assert {file.name for file in tmp_path.iterdir()} == {"page.md", "x.jsonl"}


def test_a_traceback_is_masked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(**_: Any) -> None:
        raise KeyError(f"http://user:{SECRET}@host")

    monkeypatch.setattr(cli, "app", fail)
    assert run_main(monkeypatch, "run", "quickstart") == 1
    said = capsys.readouterr().err
    assert "KeyError: 'http://***@host'" in said and SECRET not in said


@pytest.mark.usefixtures("impatient")
def test_a_key_that_a_server_repeats_is_in_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused rows, a key that is cut off in a long message, and a 401: none of them shows it."""
    key = "only letters of a key without a form"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINE", key.replace(" ", "_"))
    key = key.replace(" ", "_")
    folder = tmp_path / "mgsm"
    folder.mkdir()
    rows = [{"query": f"What is {n} and {n}?", "response": str(2 * n)} for n in range(6)]
    (folder / "en.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    refuse = f"{'x' * 280} {key} may not ask {key}"

    def answer(body: dict[str, Any]) -> Reply:
        text = body["messages"][-1]["content"]
        return Reply("", status=400, error=f"{refuse} {text}") if "What is 3" in text else Reply("6")

    command = ["evaluate", "m", "--benchmarks", "mgsm", "--languages", "en", "--set", "engine.api_key_env=MINE",
               "--set", f"evaluation.benchmarks.mgsm.path={folder}"]  # fmt: skip
    with TestServer(answer) as server:
        assert run_main(monkeypatch, *command, "--base-url", server.base_url, "--out", "done") == 0
        server.key = "another"
        assert run_main(monkeypatch, *command, "--base-url", server.base_url, "--out", "refused") == 2
        assert server.counters.keys == {key}
    said = "".join(capsys.readouterr())
    assert "401 wrong key ***" in said
    for part in (key, key[:20]):
        assert_nowhere(part, tmp_path, said)
    assert "***" in next((tmp_path / "done").rglob("answers/en.jsonl")).read_text()


@pytest.mark.usefixtures("impatient")
def test_a_launched_server_gets_its_key_from_the_environment(
    stub: Stub,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from lidr.engines.openai.engine import OpenAIEngine

    shown = stub.script.read_text().replace('print("loading", model', 'print("loading", sys.argv[5:], model')
    stub.script.write_text(shown)
    config = stub.config("exits")
    config = config.model_copy(update={"launch": f"{config.launch} --api-key $MINE --name=${{MINE}}x"})
    with pytest.raises(ConfigError, match=r"engine\.launch: the environment variable MINE is not set"):
        OpenAIEngine(str(tmp_path), config)
    monkeypatch.setenv("MINE", "nothing_but_letters")
    monkeypatch.setenv("OPENAI_API_KEY", "nothing_but_letters")
    with pytest.raises(EngineError, match=r"--api-key '\$MINE'") as caught:
        OpenAIEngine(str(tmp_path), config)
    said = str(caught.value) + "".join(capsys.readouterr())
    assert "loading ['--api-key', '***', '--name=***x']" in said and "nothing_but_letters" not in said


def test_the_working_directory_is_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PWD", "/home/someone/project")
    monkeypatch.setenv("OLDPWD", "/home/someone/earlier")
    text = "/home/someone/project/runs and /home/someone/earlier"
    assert mask(text) == text
