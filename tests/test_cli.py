"""The command line: quick help, clear errors, stages one by one, and status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lidr import cli
from lidr.run_dir import RunDir


def lidr(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lidr", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom lidr.cli import main\nsys.argv = ['lidr', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'pydantic', 'datasets', 'numpy', 'matplotlib', 'yaml', 'rich.progress'}\n"
        "print('LOADED', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "translate" in done.stdout
    assert "LOADED []" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "quikstart"], "did you mean quickstart"),
        (["run", "quickstart", "--set", "training.bet=1"], "did you mean beta"),
        (["run", "quickstart", "--set", "model.path=./nowhere"], "no such folder"),
        (["run", "quickstart", "--set", "prompts.path=./nowhere"], "no such file or folder"),
        (["run", "quickstart", "--set", "prompts.path=prompts"], "not a hub id"),
        (["status", "nowhere"], "holds no run"),
        (["import-gguf", "nowhere.gguf", "out"], "no such GGUF file"),
        (["import-gguf", __file__, "out"], "not a GGUF file"),
    ],
)
def test_errors_are_messages_without_traceback(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = lidr(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", ""], "'RECIPE': '' is neither a path nor a name"),
        (["run", "quickstart", "--run-dir", ""], "'--run-dir': '' is neither"),
        (["run", "quickstart", "--run-dir", "a\nb"], "'--run-dir': 'a\\nb' is neither"),
        (["run", "quickstart", "--run-dir", str(Path(cli.__file__).parent / "x")], "lidr's own package"),
        (["plan", "quickstart", "--run-dir", " "], "'--run-dir': ' ' is neither"),
        (["evaluate", ""], "'' is neither"),
        (["evaluate", "lab", "--benchmarks", ""], "'' names nothing; leave --benchmarks out"),
        (["evaluate", "lab", "--benchmarks", "lab", "--languages", " ,"], "leave --languages out"),
        (["evaluate", "lab", "--benchmarks", "lab", "--out", ""], "'--out': '' is neither"),
        (["status", ""], "'RUN': '' is neither"),
        (["report", "a\tb"], "'RUN': 'a\\tb' is neither"),
        (["card", ""], "'RUN': '' is neither"),
        (["review", ""], "'RUN': '' is neither"),
        (["export", "", "-f", "trl", "--out", "x"], "'RUN': '' is neither"),
        (["export", "run", "-f", "trl", "--out", ""], "'--out': '' is neither"),
        (["audit", ""], "'' is neither"),
        (["prompts", "sample", "", "-n", "1", "--out", "x"], "'' is neither"),
        (["import-gguf", "", "x"], "'FILE': '' is neither"),
        (["lab", "pretrain", ""], "'OUT': '' is neither"),
    ],
    ids=" ".join,
)
def test_arguments_that_cannot_be_meant_are_refused(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 2 and message in result.output
    assert not list(tmp_path.iterdir())


def test_recipes_are_listed() -> None:
    out = lidr("recipes").stdout
    assert "quickstart" in out and "llama3-8b-instruct" in out


def test_stages_one_by_one_and_status(tmp_path: Path) -> None:
    settings = ["iterations=1", "languages=[en, es]", "prompts.limit=6", "training.epochs=1",
                "evaluation.benchmarks.lab.languages=[en, es]", "training.batch_size=4",
                "pairs.minimum=1"]  # fmt: skip
    from lidr.config import load_config

    RunDir.start(load_config("quickstart", settings), tmp_path / "run", say=print)
    run = str(tmp_path / "run")
    early = lidr("translate", run)
    assert early.returncode == 2 and "run the step before this one first" in early.stderr
    for command in ("respond", "translate", "pair", "train", "evaluate", "report"):
        done = lidr(command, run)
        assert done.returncode == 0, done.stderr
        if command == "pair":
            assert "drop reasons" in done.stdout
    again = lidr("respond", run)
    assert "nothing owed" in again.stderr
    status = lidr("status", run).stdout
    assert "owed" not in status  # `evaluate` has measured M0 and M1
    rows = json.loads(lidr("status", run, "--json").stdout)
    assert {row["state"] for row in rows} == {"done"} and rows[0].keys() == {"iteration", "stage", "state", "detail"}
    assert (tmp_path / "run" / "report.html").exists()


def test_the_version_help_and_old_names(tmp_path: Path) -> None:
    runner = CliRunner()
    assert runner.invoke(cli.app, ["--version"]).stdout.startswith("lidr ")
    assert runner.invoke(cli.app, ["plan", "-h"]).exit_code == 0
    done = runner.invoke(cli.app, ["export", "pairs", "run", "-f", "trl", "--out", str(tmp_path / "out")])
    assert done.exit_code == 2 and "the command is `lidr export RUN` now" in done.stderr
