"""Copies of what a URL names: made once, copied again when the remote files change, and never half."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import uuid
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest

from lidr import storage
from lidr.benchmarks.mgsm import MgsmBenchmark
from lidr.errors import ConfigError, RunError
from lidr.run_dir import RunDir
from lidr.storage import cache_folder, local_copy, local_path, stamps
from tests.conftest import make_config


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "lidr"


class Bucket:
    """A folder in memory, behind a URL of its own."""

    def __init__(self) -> None:
        self.url = f"memory://{uuid.uuid4().hex}/data"
        self.system, self.root = fsspec.core.url_to_fs(self.url)

    def put(self, name: str, text: str) -> None:
        """Write a file, as another machine would: a new process sees it."""
        self.system.pipe(f"{self.root}/{name}", text.encode())
        storage._look.cache_clear()


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    bucket = Bucket()
    bucket.put("en.jsonl", "one")
    bucket.put("sub/es.jsonl", "two")
    yield bucket
    bucket.system.rm(bucket.root, recursive=True)


def contents(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_a_folder_and_a_file_are_copied_into_the_cache(bucket: Bucket, cache: Path) -> None:
    folder, file = local_copy(bucket.url, "x.path"), local_copy(f"{bucket.url}/en.jsonl", "x.path")
    assert contents(folder) == {"en.jsonl": "one", "sub/es.jsonl": "two"}
    assert (file.name, file.read_text()) == ("en.jsonl", "one")
    assert folder.is_relative_to(cache) and file.is_relative_to(cache) and folder.name == "data"


def test_only_matching_files_are_copied(bucket: Bucket) -> None:
    bucket.put("pickle.bin", "evil")
    assert contents(local_copy(bucket.url, "x.path", ["en*"])) == {"en.jsonl": "one"}
    with pytest.raises(ConfigError, match=r"x\.path memory://.*no file named \*\.safetensors"):
        local_copy(bucket.url, "x.path", ["*.safetensors"])


def test_a_copy_is_used_again_until_the_remote_files_change(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, before = local_copy(bucket.url, "x.path"), stamps(bucket.url, "x.path")
    assert "copying 2 files" in capsys.readouterr().err
    storage._look.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(storage, "_copy", None)
        assert local_copy(bucket.url, "x.path") == first
        assert stamps(bucket.url, "x.path") == before
    bucket.put("en.jsonl", "ONE")  # of the same size
    assert stamps(bucket.url, "x.path") != before
    assert contents(local_copy(bucket.url, "x.path"))["en.jsonl"] == "ONE"
    bucket.put("fr.jsonl", "three")
    assert "fr.jsonl" in contents(local_copy(bucket.url, "x.path"))


def test_a_url_is_looked_at_once_for_all_fields(bucket: Bucket) -> None:
    before = stamps(bucket.url, "prompts.path")
    bucket.system.pipe(f"{bucket.root}/en.jsonl", b"changed meanwhile")
    assert stamps(bucket.url, "model.path") == before
    with pytest.raises(ConfigError, match=r"^model\.path memory://"):
        local_copy(bucket.url, "model.path", ["nothing"])
    with pytest.raises(ConfigError, match=r"^prompts\.path memory://"):
        local_copy(bucket.url, "prompts.path", ["nothing"])


@pytest.mark.parametrize("damage", ["dies", "cut", "changes"])
def test_a_half_copy_never_counts(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    get = type(bucket.system).get

    def half(system: Any, sources: list[str], targets: list[str], **options: Any) -> None:
        get(system, sources[:1], targets[:1])
        if damage == "dies":
            raise KeyboardInterrupt
        get(system, sources[1:], targets[1:])
        if damage == "cut":
            Path(targets[1]).write_text("tw")
        if damage == "changes":
            system.pipe(f"{bucket.root}/en.jsonl", b"NEW")

    with monkeypatch.context() as patched:
        patched.setattr(type(bucket.system), "get", half)
        error, message = (KeyboardInterrupt, None) if damage == "dies" else (ConfigError, "run the same command again")
        with pytest.raises(error, match=message):
            local_copy(bucket.url, "x.path")
    whole = contents(local_copy(bucket.url, "x.path"))
    assert whole == {"en.jsonl": "NEW" if damage == "changes" else "one", "sub/es.jsonl": "two"}


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("memory://nowhere/at/all", "no such file or folder"),
        ("nonsense://bucket/folder", "Protocol not known"),
    ],
)
def test_what_is_not_there_is_named(url: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=rf"prompts\.path {url}: .*{reason}"):
        local_copy(url, "prompts.path")


def test_a_refused_access_is_named(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("Access Denied")

    with monkeypatch.context() as patched:
        patched.setattr(type(bucket.system), "find", refuse)
        with pytest.raises(ConfigError, match=rf"prompts\.path {bucket.url}: .*Access Denied.*your access"):
            local_copy(bucket.url, "prompts.path")


@pytest.mark.parametrize(("protocol", "package"), [("s3", "s3fs"), ("gs", "gcsfs"), ("abfs", "adlfs")])
def test_a_missing_package_is_named(protocol: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(ConfigError, match=rf"model\.path {protocol}://b/m: .*`pip install {package}`"):
        local_copy(f"{protocol}://b/m", "model.path")


@pytest.mark.parametrize(
    "url",
    ["ftp://ann:hunter2@host/x", "https://host/x?X-Amz-Signature=hunter2", "abfs://c@a/x?st=1&sig=hunter2"],
)
def test_secrets_in_urls_are_refused_and_not_shown(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="must hold no password") as caught:
        local_copy(url, "model.path")
    assert "hunter2" not in str(caught.value) + "".join(capsys.readouterr())


def test_the_empty_files_that_stand_for_folders_are_left_out(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    find = type(bucket.system).find
    empty = {"size": 0, "type": "file"}

    def with_markers(system: Any, path: str, **options: Any) -> dict[str, Any]:
        return {path: empty, f"{path}/sub/": empty, **find(system, path, **options)}

    with monkeypatch.context() as patched:
        patched.setattr(type(bucket.system), "find", with_markers)
        assert contents(local_copy(bucket.url, "x.path")) == {"en.jsonl": "one", "sub/es.jsonl": "two"}
        with pytest.raises(ConfigError, match="or it is empty"):
            local_copy(f"{bucket.url}/nothing", "x.path")


def test_files_of_a_web_server_are_copied_and_their_changes_noticed(tmp_path: Path) -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    file = tmp_path / "served" / "en.jsonl"
    file.parent.mkdir()
    file.write_text("a link: http://127.0.0.1/other.txt")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=file.parent)) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/en.jsonl"
        first = local_copy(url, "x.path")
        assert first.read_bytes() == file.read_bytes()
        assert contents(local_copy(url.removesuffix("en.jsonl"), "x.path")).keys() == {"en.jsonl"}
        file.write_text("longer " * 10)
        storage._look.cache_clear()
        assert local_copy(url, "x.path").read_text() == "longer " * 10
        server.shutdown()


def test_a_server_that_hides_changes_is_refused(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(type(bucket.system), "find", lambda system, root, **_: {f"{root}/en.jsonl": {}})
        patched.setattr(type(bucket.system), "info", lambda system, path: {})
        with pytest.raises(ConfigError, match="does not say when a file has changed"):
            local_copy(bucket.url, "x.path")


def test_names_that_lead_out_of_the_cache_are_refused(bucket: Bucket) -> None:
    bucket.put("../evil.txt", "x")
    with pytest.raises(ConfigError, match=r"`\.\.`"):
        local_copy(bucket.url, "x.path")


def test_local_paths_stay_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.jsonl").write_text("x")
    assert local_path("~/a.jsonl", "x.path") == tmp_path / "a.jsonl"
    assert list(stamps("~/a.jsonl", "x.path")) == [str(tmp_path / "a.jsonl")]
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / ".cache" / "lidr"


def test_benchmark_questions_may_be_behind_a_url(bucket: Bucket) -> None:
    bucket.put("es.jsonl", json.dumps({"query": "¿2 + 2?", "response": "4"}))
    bucket.put("es.train.jsonl", json.dumps({"question": "¿1 + 1?", "answer": "2"}))
    benchmark = MgsmBenchmark(path=bucket.url, languages=["es"], num_fewshot=1, instruction=False)
    (question,) = benchmark.questions("es")
    assert (question.prompt, question.gold, question.history[0]) == ("¿2 + 2?", "4", ("user", "¿1 + 1?"))


def test_a_run_directory_behind_a_url_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match=r"s3:/bucket/run: a run lives on a local disk"):
        RunDir.start(make_config(tmp_path), Path("s3://bucket/run"), say=print)
    assert list(tmp_path.iterdir()) == []


def test_a_deleted_cache_is_filled_again(bucket: Bucket, cache: Path) -> None:
    before = contents(local_copy(bucket.url, "x.path"))
    shutil.rmtree(cache)
    assert contents(local_copy(bucket.url, "x.path")) == before
