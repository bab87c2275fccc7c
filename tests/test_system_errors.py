"""What the operating system refuses is one line with path, reason and way out; nothing that was finished is lost."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lidr import cli, run_dir
from lidr.errors import RunError
from lidr.records import canonical_json, content_id
from lidr.run_dir import RunDir
from lidr.seals import RowFile, read_rows, read_seal, write_sealed
from lidr.storage import partial_path, write_text
from lidr.system_errors import explain, writing
from tests.conftest import ToyRun, make_config

IDS = [content_id(number) for number in range(40)]


def os_error(number: int, *names: str) -> OSError:
    return OSError(number, os.strerror(number), *names)


def test_a_system_error_has_path_reason_and_way_out() -> None:
    assert explain(os_error(errno.ENOSPC, "runs/a")) == (
        "runs/a: no space left on device; free some space there and run the same command again: "
        "everything finished is kept"
    )
    for number in (errno.EFBIG, errno.EROFS, errno.EACCES, errno.EMFILE, errno.EDQUOT, errno.EIO, errno.EISDIR):
        assert (explain(os_error(number, "x")) or "").startswith(f"x: {os.strerror(number).lower()}; ")
    assert "perhaps a temporary one in" in (explain(os_error(errno.ENOSPC)) or "")
    assert explain(ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")) == (
        "connection refused; mend this and run the same command again: everything finished is kept"
    )


def test_what_libraries_make_of_a_system_error_is_understood(tmp_path: Path) -> None:
    wrapped = RuntimeError("a data set could not be made")
    wrapped.__cause__ = os_error(errno.ENOSPC, "tokens")
    assert (explain(wrapped) or "").startswith("tokens: no space left")
    wrapped.__cause__ = RunError("es.jsonl: damaged")
    assert explain(wrapped) == "es.jsonl: damaged"
    for text in (
        "Error while serializing: I/O error: No space left on device (os error 28)",
        'IoError(Os { code: 28, kind: StorageFull, message: "No space left on device" })',
        "[enforce fail at inline_container.cc:672] . unexpected pos 7168 vs 7060",
    ):
        with pytest.raises(OSError, match="iteration_1") as caught, writing(tmp_path / "iteration_1"):
            raise RuntimeError(text)
        assert caught.value.errno == errno.ENOSPC
        assert explain(RuntimeError(text))
    for number in (errno.ENOSPC, errno.EROFS):
        full = sqlite3.OperationalError("database or disk is full")
        full.sqlite_errorcode = sqlite3.SQLITE_FULL if number == errno.ENOSPC else sqlite3.SQLITE_READONLY
        words = "free some space" if number == errno.ENOSPC else "another file system"
        assert "database or disk is full" in (explain(full) or "") and words in (explain(full) or "")
    assert explain(ValueError("a fault of ours")) is explain(RuntimeError("[Errno 5000] what?")) is None


def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and last line of standard error of a command in this process."""
    monkeypatch.setattr(sys, "argv", ["lidr", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    err = capsys.readouterr().err.strip()
    assert "Traceback" not in err
    return int(ended.value.code or 0), err.splitlines()[-1] if err else ""


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("file", "file: not a directory; a file is where a folder has to be"),
        ("file/below", "file/below: not a directory; a file is where a folder has to be"),
        ("link", "link: this link leads to nothing"),
        ("x" * 300, "file name too long; give a shorter name"),
        ("circle", "circle: too many levels of symbolic links; its links lead in a circle"),
    ],
)
def test_a_run_where_none_can_be(
    path: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "circle").symlink_to("circle")
    monkeypatch.chdir(tmp_path)
    code, line = command(monkeypatch, capsys, "run", "quickstart", "--run-dir", path)
    assert code and line.startswith("error: ") and message in line
    assert (tmp_path / "file").read_text() == "x"


def test_a_run_directory_that_may_only_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDir.start(make_config(tmp_path, prompts={"path": "lab"}, languages=["en", "es"]), tmp_path / "run", print)
    opened, replaced = os.open, Path.open

    def refuse(path: object, *arguments: object, **options: object) -> int:
        raise os_error(errno.EROFS, str(path))

    def read_only(self: Path, mode: str = "r", *arguments: object, **options: object) -> object:
        if set(mode) & set("wax+") and self.is_relative_to(run.path):
            raise os_error(errno.EROFS, str(self))
        return replaced(self, mode, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", read_only)
    code, line = command(monkeypatch, capsys, "report", str(run.path))
    assert code == 1 and "results.json: read-only file system; name a folder on another file system" in line
    code, _ = command(monkeypatch, capsys, "status", str(run.path))
    assert code == 0, "status only reads"
    monkeypatch.setattr(run_dir.os, "open", refuse)
    code, line = command(monkeypatch, capsys, "pair", str(run.path), "-i", "1")
    assert code == 1 and ".lock: read-only file system" in line
    monkeypatch.setattr(run_dir.os, "open", opened)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Files may not grow beyond this many bytes; writing fails half-way through a row, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_costs_no_row(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "es.jsonl", {})
    file.open(IDS)

    def append_all() -> None:
        for row_id in IDS:
            file.append(row_id, {"text": "a text that is long enough to be cut"})

    with file_size_limit(1000), pytest.raises(OSError, match=r"es\.partial\.jsonl") as caught:
        append_all()
    assert caught.value.errno == errno.EFBIG
    kept = len(file)
    assert 5 < kept < 20
    file.append(IDS[-1], {"text": "room again, in the same process"})
    assert file.row(IDS[-1]) == {"text": "room again, in the same process"}
    again = RowFile(tmp_path / "es.jsonl", {})
    again.open(IDS)
    assert len(again) == kept + 1


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    write_text(tmp_path / "results.json", "old")
    write_sealed(tmp_path / "old.jsonl", {}, ["{}"])
    with file_size_limit(1000):
        with pytest.raises(OSError, match=r"results\.json"):
            write_text(tmp_path / "results.json", "x" * 5000)
        with pytest.raises(OSError, match=r"new\.jsonl"):
            write_sealed(tmp_path / "new.jsonl", {}, ["x" * 5000])
    assert (tmp_path / "results.json").read_text() == "old"
    assert not (tmp_path / "new.jsonl").exists() and not list(tmp_path.glob("*.tmp"))


def test_a_disk_that_is_full_at_the_seal_loses_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lidr.records import Response

    def rows(file: RowFile) -> Iterator[Response]:
        return (Response(row_id, "p", "es", finish_reason="stop", completion_tokens=1, **file.row(row_id))
                for row_id in IDS)  # fmt: skip

    file = RowFile(tmp_path / "es.jsonl", {})
    file.open(IDS)
    for row_id in IDS:
        file.append(row_id, {"text": "answer"})
    with file_size_limit(partial_path(file.path).stat().st_size), pytest.raises(OSError, match=r"es\.jsonl"):
        file.seal(rows(file))
    again = RowFile(tmp_path / "es.jsonl", {})
    again.open(IDS)
    assert len(again) == len(IDS)
    again.seal(rows(again))
    assert len(list(read_rows(file.path))) == len(IDS)


def test_what_killed_processes_left_is_removed_and_nothing_that_goes_on(toy_run: ToyRun) -> None:
    toy_run.run("prompts", "responses")
    run = toy_run.run_dir
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    folder = run.iteration(1)
    write_sealed(folder / "5_model", inputs := {"pairs": "a"}, ["{}"])
    dead = f".x.{gone.pid}-01234567.tmp"
    left = ["1_prompts.partial.jsonl", "2_responses/es.partial.jsonl", "2_responses/es.ordered.jsonl", f"../{dead}",
            f"2_responses/{dead}", "2_responses/.es.jsonl.seal.tmp", "2_responses/fr.partial.tmp",
            "2_responses/es.paragraphs.partial.jsonl", "5_training/tmpabc/x.arrow", "5_training/checkpoints/c-1/x",
            "5_training/tokens/x", "5_model.partial/x"]  # fmt: skip
    stay = ["3_translations/en-es.partial.jsonl", "3_translations/en-es.paragraphs.partial.jsonl",
            "4_pairs/reference_logps.partial.jsonl", "../notes.tmp", "../.mine.tmp", "5_training/adapter/x",
            f"2_responses/.x.{os.getppid()}-01234567.tmp", "../../iteration_2/5_training/checkpoints/c-1/x",
            "../iteration_2/2_responses/es.partial.jsonl"]  # fmt: skip
    for name in (*left, *stay):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    (folder / "5_training" / "inputs.json").write_text(canonical_json(inputs))
    with run.lock():
        pass
    assert [name for name in left if (folder / name).exists()] == []
    assert [name for name in stay if not (folder / name).exists()] == []
    assert not (folder / "5_training" / "checkpoints").exists()


def test_checkpoints_of_a_training_that_goes_on_stay(toy_run: ToyRun) -> None:
    folder = toy_run.run_dir.iteration(1)
    write_sealed(folder / "5_model", {"pairs": "old"}, ["{}"])
    (folder / "5_training" / "checkpoints" / "checkpoint-4").mkdir(parents=True)
    (folder / "5_training" / "inputs.json").write_text(canonical_json({"pairs": "new"}))
    with toy_run.run_dir.lock():
        assert (folder / "5_training" / "checkpoints" / "checkpoint-4").exists()


WRITER = """
import sys
from pathlib import Path
from lidr.run_dir import write_text
for number in range(200):
    write_text(Path(sys.argv[1]), sys.argv[2] * 20000 + str(number))
"""


def test_two_writers_of_one_file_leave_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), letter]) for letter in "ab"]
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            text = path.read_text()
            assert set(text[:20000]) in ({"a"}, {"b"}) and len(text) < 20004
        time.sleep(0.01)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_a_reader_that_goes_away_is_no_fault(tmp_path: Path) -> None:
    run = RunDir.start(make_config(tmp_path, prompts={"path": "lab"}, languages=["en", "es"]), tmp_path / "run", print)
    for arguments in (["status", str(run.path)], ["recipes"], ["--help"]):
        process = subprocess.Popen(
            [sys.executable, "-m", "lidr", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGPIPE, signal.SIG_IGN),
        )  # fmt: skip
        assert process.stdout and process.stderr
        process.stdout.close()
        err = process.stderr.read()
        process.wait()
        assert err == "", arguments
    assert read_seal(run.path) is None


def test_a_full_disk_never_advises_to_remove_what_was_paid_for(tmp_path: Path) -> None:
    from lidr.commands.prompts.translation import Memory
    from lidr.commands.prompts.translators.base import Offer

    memory = Memory(tmp_path / "memory.sqlite")
    for number in range(3):
        memory.keep(Offer(f"{number}", "text", ""))
    with file_size_limit(20_000), pytest.raises(OSError, match=r"memory\.sqlite") as caught:
        memory.keep(Offer("long", "x" * 200_000, ""))
    assert "remove" not in (explain(caught.value) or "remove")
    assert len(memory) == 3
    memory.close()
    (tmp_path / "memory.sqlite").write_bytes(b"no data base" * 500)
    with pytest.raises(RunError, match=r"memory\.sqlite cannot be used .*: restore it, or remove it"):
        Memory(tmp_path / "memory.sqlite")
