"""`lidr evaluate`: any model and any run, resumed, added to, and refused with a message that helps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lidr import loop
from lidr.cli import app
from lidr.commands.evaluate import evaluation_config, model_name
from lidr.config import load_config
from lidr.errors import ConfigError, DataError, EngineError, LidrError, ReplaceError, RunError
from lidr.run_dir import RunDir
from lidr.status import run_status
from tests.support.openai_server import Reply, TestServer
from tests.support.rule_judge import RuleJudge, essay, judge_settings

MGSM = [{"query": "How much is 2 + 3?", "response": "5"}, {"query": "And 4 + 5?", "response": "9"}]


@pytest.fixture(autouse=True)
def _elsewhere(impatient: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server() -> Iterator[TestServer]:
    with TestServer(RuleJudge(margin=5)) as server:
        yield server


def lidr(*arguments: str) -> str:
    """Run `lidr evaluate` in this process; returns what it says. Raises what the command raises."""
    done = CliRunner().invoke(app, ["evaluate", *arguments])
    if done.exception:
        raise done.exception
    assert done.exit_code == 0
    return done.output


def setting(name: str, value: Any) -> list[str]:
    return ["--set", f"{name}={json.dumps(value)}"]


def mgsm(folder: Path, languages: tuple[str, ...] = ("en",)) -> list[str]:
    """Settings that ask a tiny MGSM."""
    folder.mkdir(exist_ok=True)
    for code in languages:
        (folder / f"{code}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in MGSM), encoding="utf-8")
    return setting("evaluation.benchmarks.mgsm.path", str(folder))


def write_answers(folder: Path, languages: tuple[str, ...] = ("en", "es"), words: tuple[int, ...] = (30, 10)) -> str:
    folder.mkdir(parents=True)
    for code in languages:
        rows = [
            {"instruction": f"Topic {number}?", "output": essay(n), "generator": folder.name}
            for number, n in enumerate(words)
        ]
        (folder / f"{code}.json").write_text(json.dumps(rows), encoding="utf-8")
    return str(folder)


def results_of(folder: Path) -> dict[str, Any]:
    """Model -> its benchmarks."""
    models = json.loads((folder / "results.json").read_text(encoding="utf-8"))["models"]
    return {model["name"]: model["benchmarks"] for model in models}


# --- a model's weights ------------------------------------------------------------------------------------------------

SHORT = setting("evaluation.max_new_tokens", 8) + setting("engine.device", "cpu")


def test_a_model_is_measured_and_more_can_be_added(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [*mgsm(tmp_path / "mgsm", ("en", "es")), *SHORT]
    lidr("lab", "--benchmarks", "mgsm", "--languages", "en,es", *settings)
    folder = tmp_path / "evaluations" / "lab"
    (found,) = results_of(folder).values()
    assert list(found) == ["mgsm"] and list(found["mgsm"]) == ["en", "es"]
    assert found["mgsm"]["en"]["n"] == 2 and found["mgsm"]["en"]["accuracy"] in (0.0, 0.5, 1.0)
    answers = folder / "iteration_0" / "6_evaluation" / "mgsm" / "answers"
    assert all(json.loads(line)["text"] for line in (answers / "es.jsonl").open(encoding="utf-8"))
    assert (folder / "report.html").exists()
    stamps = {path: path.stat().st_mtime_ns for path in answers.iterdir()}
    instructions = write_answers(tmp_path / "instructions")
    more = setting("evaluation.benchmarks.language_confusion.path", instructions)
    lidr("lab", "--benchmarks", "language_confusion", *more)
    (found,) = results_of(folder).values()
    assert list(found) == ["mgsm", "language_confusion"] and list(found["language_confusion"]) == ["en", "es"]
    lidr("lab", "--benchmarks", "mgsm", *mgsm(tmp_path / "mgsm", ("en", "es")), *SHORT)  # the same files, written again
    assert {path: path.stat().st_mtime_ns for path in answers.iterdir()} == stamps
    file = tmp_path / "mgsm" / "es.jsonl"
    file.write_text(file.read_text(encoding="utf-8").replace("?", "??"), encoding="utf-8")
    with pytest.raises(ReplaceError, match="files changed"):
        lidr("lab", "--benchmarks", "mgsm", *settings)


# --- a served model ---------------------------------------------------------------------------------------------------


def test_a_served_model_is_measured(server: TestServer, tmp_path: Path) -> None:
    server.answer = lambda body: "The answer is 5." if "2 + 3" in str(body) else "The answer is 8."
    arguments = ["org/served", "--benchmarks", "mgsm", "--languages", "en", "--base-url", server.base_url]
    lidr(*arguments, *mgsm(tmp_path / "mgsm"))
    (found,) = results_of(tmp_path / "evaluations" / "org--served").values()
    assert found["mgsm"]["en"]["accuracy"] == 0.5
    assert {body["model"] for body in server.counters.bodies} == {"org/served"}
    assert all(body["repetition_penalty"] == 1 for body in server.counters.bodies)
    lidr(*arguments)  # nothing is owed
    assert server.counters.requests == 2


def test_a_served_model_and_its_judge_may_be_on_one_server(server: TestServer, tmp_path: Path) -> None:
    rule = server.answer
    server.answer = lambda body: essay(20) if body["model"] == "served" else rule(body)
    other = write_answers(tmp_path / "other", words=(40, 10))
    settings = setting("evaluation.judge", judge_settings(server))
    settings += setting("evaluation.benchmarks.head_to_head.against", other)
    arguments = ["served", "--benchmarks", "head_to_head", "--languages", "en", "--base-url", server.base_url]
    lidr(*arguments, *settings)
    (found,) = results_of(tmp_path / "evaluations" / "served").values()
    assert (found["head_to_head"]["en"]["win"], found["head_to_head"]["en"]["lose"]) == (0.5, 0.5)


def test_verdicts_that_the_judge_owes_are_asked_for_by_the_next_command(server: TestServer, tmp_path: Path) -> None:
    rule = server.answer
    mine, other = write_answers(tmp_path / "mine"), write_answers(tmp_path / "other", words=(20, 20))
    settings = setting("evaluation.judge", judge_settings(server, logprobs=False))
    settings += setting("evaluation.benchmarks.head_to_head.against", other)
    arguments = [mine, "--benchmarks", "head_to_head", "--languages", "en"]
    server.answer = lambda body: Reply(None) if "Topic 1?" in str(body) else rule(body)
    lidr(*arguments, *settings)
    run_dir, config = RunDir.load(tmp_path / "evaluations" / "mine")
    (found,) = results_of(run_dir.path).values()
    assert (found["head_to_head"]["en"]["win"], found["head_to_head"]["en"]["unscored"]) == (1.0, 1)
    assert found["head_to_head"]["en"]["judge"]["passing"] == 2
    ((_, _, state, detail),) = run_status(config, run_dir)
    assert state == "stale" and "owed_verdicts" in detail
    server.answer, server.counters.requests = rule, 0
    lidr(*arguments)
    assert server.counters.requests == 2
    (found,) = results_of(run_dir.path).values()
    assert (found["head_to_head"]["en"]["win"], found["head_to_head"]["en"]["lose"]) == (0.5, 0.5)
    lidr(*arguments)  # nothing is owed
    assert server.counters.requests == 2 and run_status(config, run_dir)[0][2] == "done"


def test_the_harness_needs_weights(server: TestServer, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.benchmarks\.mmlu: .*\(a served model, or answers alone\)"):
        lidr("served", "--benchmarks", "mmlu", "--languages", "en", "--base-url", server.base_url)
    with pytest.raises(ConfigError, match=r"evaluation\.benchmarks\.mmlu: .*\(a served model, or answers alone\)"):
        lidr(write_answers(tmp_path / "answers"), "--benchmarks", "mmlu", "--languages", "en")


def test_a_server_that_is_away_or_refuses_is_a_message(server: TestServer, tmp_path: Path) -> None:
    arguments = ["served", "--benchmarks", "mgsm", "--languages", "en", "--base-url", server.base_url]
    server.answer = lambda body: Reply("", status=404, error="no model served here")
    with pytest.raises(EngineError, match="refuses model served: 404 no model served here"):
        lidr(*arguments, *mgsm(tmp_path / "mgsm"))
    server.switch_off()
    with pytest.raises(EngineError, match=r"^no connection to http://127\.0\.0\.1"):
        lidr(*arguments, *mgsm(tmp_path / "mgsm"))
    # What could not be measured is not in the way of the next command.
    server.switch_on()
    server.answer = lambda body: Reply("It is 4.")
    answered = write_answers(tmp_path / "asked")
    lidr(
        "served",
        "--benchmarks",
        "language_confusion",
        *arguments[3:],
        *setting("evaluation.benchmarks.language_confusion.path", answered),
    )
    server.switch_off()
    answers, other = write_answers(tmp_path / "answers"), write_answers(tmp_path / "other", words=(20, 20))
    settings = setting("evaluation.judge", judge_settings(server))
    settings += setting("evaluation.benchmarks.head_to_head.against", other)
    with pytest.raises(EngineError, match=r"^evaluation\.judge: no connection to http://127\.0\.0\.1"):
        lidr(answers, "--benchmarks", "head_to_head", "--languages", "en", *settings)


# --- recorded answers -------------------------------------------------------------------------------------------------


def test_a_folder_of_answers_is_measured(server: TestServer, tmp_path: Path) -> None:
    answers, other = write_answers(tmp_path / "answers"), write_answers(tmp_path / "other", words=(10, 10))
    settings = setting("evaluation.judge", judge_settings(server))
    settings += setting("evaluation.benchmarks.head_to_head.against", other)
    lidr(answers, "--benchmarks", "head_to_head,language_confusion", "--languages", "en,es", *settings)
    (found,) = results_of(tmp_path / "evaluations" / "answers").values()
    assert [found["head_to_head"]["en"][name] for name in ("win", "tie", "lose")] == [0.5, 0.5, 0.0]
    assert found["language_confusion"]["en"]["failed"] == 0
    asked = server.counters.requests
    rows = json.loads((Path(answers) / "en.json").read_text())
    rows[0]["output"] = essay(11)
    (Path(answers) / "en.json").write_text(json.dumps(rows))
    lidr(answers)  # other answers are another model: measured again, and only what is new is asked
    (found,) = results_of(tmp_path / "evaluations" / "answers").values()
    assert [found["head_to_head"]["en"][name] for name in ("win", "tie", "lose")] == [0.0, 1.0, 0.0]
    assert server.counters.requests == asked + 2


def test_languages_that_a_folder_lacks_are_named(server: TestServer, tmp_path: Path) -> None:
    answers, other = write_answers(tmp_path / "answers"), write_answers(tmp_path / "other", ("en",))
    settings = setting("evaluation.judge", judge_settings(server))
    settings += setting("evaluation.benchmarks.head_to_head.against", other)
    with pytest.raises(
        DataError, match=r"answers: no file for language 'fr' .* it has en, es.*head_to_head\.languages"
    ):
        lidr(answers, "--benchmarks", "head_to_head", "--languages", "fr", *settings)
    with pytest.raises(DataError, match=r"other/es\.json: no such file .* has en\.json.* outputs in 'es'"):
        lidr(answers, "--benchmarks", "head_to_head", "--languages", "en,es", *settings)


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lab"], "no benchmark is named; give --benchmarks with some of arc, "),
        (["lab", "--benchmarks", "mgms"], "--benchmarks: no benchmark mgms; there are arc, "),
        (["lab", "--benchmarks", "mgsm", "--languages", "xx"], "xx"),
        (["lab", "--benchmarks", "head_to_head"], "head_to_head needs a judge; set evaluation.judge.model"),
        (["lab", "--benchmarks", "x_alpacaeval"], "evaluation.benchmarks.x_alpacaeval.reference: missing"),
        (["lab", "--benchmarks", "mt_bench"], "evaluation.benchmarks.mt_bench.path: missing"),
        (["lab", "--benchmarks", "language_confusion"], "evaluation.benchmarks.language_confusion.path: missing"),
        (["./nowhere", "--benchmarks", "lab"], "no such folder"),
        (["empty", "--benchmarks", "lab"], "config.json"),
        (["lab", "--benchmarks", "mgsm", "--recipe", "evaluatoin"], "did you mean evaluation"),
        (["lab", "--benchmarks", "mgsm", *setting("evaluation.benchmarks.mgsm.path", "./nowhere")], "no such"),
        (["lab", "--benchmarks", "lab", "--base-url", "localhost:8000"], "a URL is needed"),
    ],
)
def test_errors_say_what_to_do(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(LidrError) as caught:
        lidr(*arguments)
    assert message in str(caught.value)


def test_a_model_is_not_compared_with_itself(server: TestServer, tmp_path: Path) -> None:
    settings = [f"evaluation.judge={json.dumps(judge_settings(server))}"]
    with pytest.raises(ConfigError, match=r"head_to_head\.against: M0 is the model itself here; name a folder"):
        evaluation_config(
            write_answers(tmp_path / "answers"), tmp_path / "out", benchmarks=["head_to_head"], settings=settings
        )


def test_an_evaluation_does_not_replace_something_else(tmp_path: Path) -> None:
    one, two = write_answers(tmp_path / "a" / "gpt"), write_answers(tmp_path / "b" / "gpt")
    arguments = ["--benchmarks", "language_confusion", "--languages", "en"]
    lidr(one, *arguments)
    lidr("a/../a/gpt", *arguments)
    before = (tmp_path / "evaluations" / "gpt" / "results.json").read_bytes()
    with pytest.raises(
        ConfigError, match=r"evaluations/gpt holds an evaluation of .*a/gpt; give another --out for .*b"
    ):
        lidr(two, *arguments)
    assert (tmp_path / "evaluations" / "gpt" / "results.json").read_bytes() == before
    RunDir.start(load_config("quickstart"), tmp_path / "run", say=print)
    with pytest.raises(ConfigError, match=r"run holds a training run of lab; give another --out"):
        lidr("lab", "--out", "run", *arguments)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(RunError, match="full is not empty and holds no run"):
        lidr(one, "--out", "full", *arguments)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("org/name", "org--name"),
        ("lab", "lab"),
        ("gpt-4.1 (May)", "gpt-4.1-May"),
        ("...", "model"),
        ("日本/語", "日本--語"),
    ],
)
def test_every_model_has_a_name_that_can_be_a_folder(model: str, name: str) -> None:
    assert model_name(model) == name


def test_the_recipe_gives_the_rest_and_settings_come_last(tmp_path: Path) -> None:
    settings = ["evaluation.max_new_tokens=9"]
    config = evaluation_config("lab", tmp_path / "out", "quickstart", ["mgsm"], ["en", "ru"], settings=settings)
    assert (config.iterations, config.prompts, config.name) == (0, None, "lab")
    assert (config.evaluation.max_new_tokens, config.evaluation.repetition_penalty) == (9, 1.0)
    assert config.evaluation.benchmarks["mgsm"].languages == ["en", "ru"]  # type: ignore[attr-defined]
    assert "lab" in config.evaluation.benchmarks  # the recipe's own stays


def test_a_recipe_may_say_only_what_it_wants_of_an_evaluation(server: TestServer, tmp_path: Path) -> None:
    answers, other = write_answers(tmp_path / "answers"), write_answers(tmp_path / "other", words=(10, 10))
    judged = {"judge": judge_settings(server), "benchmarks": {"head_to_head": {"against": other}}}
    (tmp_path / "mine.yaml").write_text(json.dumps({"evaluation": judged}))
    lidr(answers, "--recipe", "mine.yaml")
    (found,) = results_of(tmp_path / "evaluations" / "answers").values()
    assert set(found["head_to_head"]) == {"en", "es"}  # the languages that the folder has


def test_a_missing_file_is_noticed_before_anything_is_spent(server: TestServer, tmp_path: Path) -> None:
    answers = write_answers(tmp_path / "answers", languages=("en", "es", "de"))
    other = write_answers(tmp_path / "other", languages=("en", "es"))
    settings = setting("evaluation.judge", judge_settings(server))
    settings += setting("evaluation.benchmarks.head_to_head.against", other)
    with pytest.raises(DataError, match=r"other/de\.json: no such file"):
        lidr(answers, "--benchmarks", "head_to_head", *settings)
    assert server.counters.requests == 0


def test_answers_with_unicode_line_ends_are_read_back(server: TestServer, tmp_path: Path) -> None:
    server.answer = lambda body: Reply("One\u2028two\u2029three\x85four: 4.")
    arguments = ["served", "--benchmarks", "mgsm", "--languages", "en", "--base-url", server.base_url]
    lidr(*arguments, *mgsm(tmp_path / "mgsm"))
    (found,) = results_of(tmp_path / "evaluations" / "served").values()
    assert found["mgsm"]["en"]["failed"] == 0 and found["mgsm"]["en"]["n"] > 0


def test_answers_that_were_cut_off_are_said(server: TestServer, tmp_path: Path) -> None:
    server.answer = lambda body: Reply("I think that", "length")
    arguments = ["served", "--benchmarks", "mgsm", "--languages", "en", "--base-url", server.base_url]
    said = lidr(*arguments, *mgsm(tmp_path / "mgsm"))
    assert "answers cut off by evaluation.max_new_tokens: mgsm in en (" in said
    report = (tmp_path / "evaluations/served/report.md").read_text()
    assert "Answers cut off" in report and "answers cut off by the length limit: " in report
    assert "did not fit the model's context" not in report  # that is about prompts, in the harness


def test_languages_add_to_those_that_were_measured(tmp_path: Path) -> None:
    answers = write_answers(tmp_path / "answers")
    for code in ("en", "es"):
        lidr(answers, "--benchmarks", "language_confusion", "--languages", code)
    (found,) = results_of(tmp_path / "evaluations" / "answers").values()
    assert list(found["language_confusion"]) == ["en", "es"]


# --- inside a run -----------------------------------------------------------------------------------------------------


def test_more_benchmarks_in_a_run_leave_its_models_alone(tmp_path: Path) -> None:
    small = ["iterations=1", "languages=[en, es]", "prompts.limit=6", "training.epochs=1", "training.batch_size=4"]
    small += ["pairs.minimum=1", "evaluation.benchmarks.lab.languages=[en]", "evaluation.max_new_tokens=8"]
    config = load_config("quickstart", small)
    run = RunDir.start(config, tmp_path / "run", say=print)
    loop.run(config, run)
    trained = {path: path.stat().st_mtime_ns for path in run.model_folder(1).rglob("*")}
    before = results_of(run.path)
    arguments = ["--benchmarks", "mgsm", "--languages", "es", *mgsm(tmp_path / "mgsm", ("es",))]
    for iteration in ("M0", "M1"):  # the first model that owes the benchmark, then the next
        lidr(str(run.path), *arguments)
        found = results_of(run.path)
        assert list(found[iteration]["mgsm"]) == ["es"] and found[iteration]["mgsm"]["es"]["n"] == 2
    assert {name: benchmarks["lab"] for name, benchmarks in found.items()} == {
        name: benchmarks["lab"] for name, benchmarks in before.items()
    }
    assert "complete, nothing owed" in lidr(str(run.path))
    assert {path: path.stat().st_mtime_ns for path in run.model_folder(1).rglob("*")} == trained
    run, config = RunDir.load(run.path)
    assert {state for _, stage, state, _ in run_status(config, run) if stage != "probe"} == {"done"}
