"""The benchmarks with a judge, and language confusion: known preferences come back, whatever the faults."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lidr.benchmarks.mt_bench import read_questions
from lidr.benchmarks.shared.alpaca_files import read_annotations, read_model_outputs
from lidr.benchmarks.shared.duels import Duel, count_together
from lidr.benchmarks.shared.reading import read_instructions
from lidr.commands.evaluate import evaluation_config
from lidr.config import Config
from lidr.engines.base import Completion, Request, Sampling
from lidr.errors import DataError, EngineError
from lidr.lab import MODEL_PATH
from lidr.lab.world import FACTS, question
from lidr.languages.identification import LanguageIdentifier
from lidr.languages.names import asks_for_other_language
from lidr.models import fingerprint
from lidr.results import read_metrics
from lidr.run_dir import RunDir
from lidr.seals import is_sealed, seal
from lidr.stages import evaluation
from tests.support.openai_server import Faults, TestServer
from tests.support.rule_judge import RuleJudge, essay, judge_settings, quality, read_conversation, word_length

OUTPUTS = Path(__file__).resolve().parents[3] / "shared" / "data" / "x-alpacaeval" / "outputs"
TESTED, OTHER = OUTPUTS / "gpt-4-turbo-2024-04-09", OUTPUTS / "gpt-3.5-turbo-0125"
SPANISH = "El río corre despacio por el casco antiguo, y la gente pasea por su orilla cada tarde."


pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def server() -> Iterator[TestServer]:
    with TestServer(RuleJudge(margin=5)) as server:
        yield server


def make_config(server: TestServer, benchmarks: dict[str, Any], **changes: Any) -> Config:
    judge = judge_settings(server)
    decoding = {"max_new_tokens": 24, "repetition_penalty": 1.0}
    values = {
        "name": "t", "model": {"path": "lab"}, "languages": ["en"], "iterations": 0,
        "evaluation": {"judge": judge, "benchmarks": benchmarks} | decoding,
    }  # fmt: skip
    return Config.model_validate(values | changes)


def evaluate(config: Config, path: Path, iteration: int = 0) -> RunDir:
    run = RunDir.start(config, path, say=lambda line: None)
    evaluation.run(config, run, iteration)
    return run


def write_outputs(folder: Path, language: str, answers: Iterable[tuple[str, str]], generator: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"instruction": asked, "output": said, "generator": generator, "dataset": "d"} for asked, said in answers]
    (folder / f"{language}.json").write_text(json.dumps(rows), encoding="utf-8")


def rows_of(run: RunDir, benchmark: str, language: str, iteration: int = 0) -> list[dict[str, Any]]:
    path = run.evaluation(iteration, benchmark) / f"{language}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Scripted:
    """An engine that says what `answer` makes of a request's last turn; None is an error."""

    def __init__(self, answer: Callable[[str], str | None]) -> None:
        self.answer, self.asked = answer, []  # type: tuple[Callable[[str], str | None], list[Request]]

    def generate(
        self, requests: Iterable[Request], sampling: Sampling, done: Collection[str] = frozenset()
    ) -> Iterator[Completion]:
        for request in reversed(list(requests)):
            if request.request_id not in done:
                self.asked.append(request)
                text = self.answer(request.messages[-1][1])
                yield (
                    Completion(request.request_id, "", "error", error="the prompt is too long")
                    if text is None
                    else Completion(request.request_id, text, "stop", 5, 7)
                )

    def close(self) -> None:
        pass


def use(monkeypatch: pytest.MonkeyPatch, *engines: Scripted) -> None:
    """Let the models of the iterations answer by these engines."""

    @contextmanager
    def open_scripted(config: Config, folder: Path) -> Iterator[Scripted]:
        yield engines[1 if folder.name == "5_model" else 0]

    monkeypatch.setattr(evaluation, "open_engine", open_scripted)


# --- MT-Bench ---------------------------------------------------------------------------------------------------------

MT_ROWS: list[dict[str, Any]] = [
    {"question_id": 81, "category": "writing", "turns": ["Write of the sea", "Now of 40 words"]},
    {"question_id": 82, "category": "math", "turns": ["Two and two?", "And 10 words more?"], "reference": ["4", "14"]},
    {"question_id": 83, "category": "math", "turns": ["Only 20 words"], "reference": [None]},
    {"question_id": 84, "category": "roleplay", "turns": ["Fail please", "Never 30 asked"]},
]


def write_questions(folder: Path, language: str, rows: list[dict[str, Any]]) -> str:
    folder.mkdir(exist_ok=True)
    (folder / f"{language}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(folder)


def by_number(content: str) -> str | None:
    """As many words as the prompt's number says, five without one; no answer to a prompt that says fail."""
    if "Fail" in content:
        return None
    return essay(next((int(word) for word in content.split() if word.isdigit()), 5))


def test_mt_bench_asks_two_turns_and_scores_them(
    server: TestServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Scripted(by_number)
    use(monkeypatch, engine)
    config = make_config(server, {"mt_bench": {"path": write_questions(tmp_path / "questions", "en", MT_ROWS)}})
    run = evaluate(config, tmp_path / "run")
    metrics = read_metrics(run, 0, "mt_bench")["en"].to_json()
    # A rating is 1 + words / 10: five words have 1, and 10, 20 and 40 words 2, 3 and 5.
    expected: dict[str, Any] = {
        "score": ((1 + 5) / 2 + (1 + 2) / 2 + 3) / 3,
        "score_turn_1": round(5 / 3, 3),
        "score_turn_2": 3.5,
    }
    expected |= {"by_category": {"math": 2.0, "writing": 3.0}, "n": 3, "unscored": 0, "ruled": 0, "failed": 2}
    expected |= {"off_target": 0.0, "lpr": 1.0}
    assert {name: metrics[name] for name in expected} == expected
    assert metrics["ci95_score"][0] <= metrics["score"] <= metrics["ci95_score"][1]
    assert [row["question_id"] for row in rows_of(run, "mt_bench", "en")] == ["81.1", "82.1", "83.1", "81.2", "82.2"]
    later = {request.messages[-1][1]: request.messages for request in engine.asked if len(request.messages) > 2}
    assert later["Now of 40 words"][1:] == (
        ("user", "Write of the sea"), ("assistant", essay(5)), ("user", "Now of 40 words"),
    )  # fmt: skip
    assert set(later) == {"Now of 40 words", "And 10 words more?"}
    seen = [read_conversation(body["messages"][-1]["content"]) for body in server.counters.bodies]
    assert [
        ("user", "Two and two?"), ("assistant", essay(5)), ("user", "And 10 words more?"), ("assistant", essay(10)),
        ("reference_answer", "14"),
    ] in seen  # fmt: skip
    assert [("user", "Only 20 words"), ("assistant", essay(20))] in seen
    asked = (len(engine.asked), server.counters.requests)
    evaluate(config, tmp_path / "run")
    assert (len(engine.asked), server.counters.requests) == asked == (6, 5)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"question_id": 2, "turns": [', r"en\.jsonl:2: not valid JSON"),
        ('{"question_id": 2, "turns": "one"}', r"en\.jsonl:2: 'turns' holds a text .* not a list with a text per turn"),
        ('{"question_id": 2, "turns": ["one", 2]}', r"en\.jsonl:2: 'turns' holds a number"),
        ('{"question_id": true, "turns": ["one"]}', r"en\.jsonl:2: 'question_id' holds true or false"),
        ('{"question_id": 1.5, "turns": ["one"]}', r"en\.jsonl:2: 'question_id' holds a number \(1.5\)"),
        ('{"question_id": 1.0, "turns": ["one"]}', r"en\.jsonl:2: question_id '1' occurs twice"),
        ('{"question_id": NaN, "turns": ["one"]}', r"en\.jsonl:2: the id \('question_id'\) is empty"),
        ('{"question_id": 2, "turns": ["a"], "category": 3}', r"en\.jsonl:2: 'category' holds a number"),
        ('{"question_id": 2, "turns": []}', r"en\.jsonl:2: needs 'question_id'"),
        ('{"question_id": 2, "turns": ["a", " "]}', r"en\.jsonl:2: needs 'question_id'"),
        ('{"question_id": 2, "turns": ["a", "b", "c"]}', r"en\.jsonl:2: needs 'question_id'"),
        ('{"turns": ["a"]}', r"en\.jsonl:2: needs 'question_id'"),
        ('{"question_id": 2, "turns": ["a"], "reference": "4"}', r"en\.jsonl:2: 'reference' holds a text"),
        ('{"question_id": 1, "turns": ["a"]}', r"en\.jsonl:2: question_id '1' occurs twice"),
        ('["a"]', r"en\.jsonl:2: a row must be an object"),
    ],
)
def test_errors_in_question_files_name_file_and_line(tmp_path: Path, row: str, message: str) -> None:
    (tmp_path / "en.jsonl").write_text('{"question_id": 1, "turns": ["a"]}\n' + row + "\n")
    with pytest.raises(DataError, match=message):
        read_questions(str(tmp_path), "en")
    assert read_questions(str(tmp_path), "en", limit=1)[0].turns == ("a",)


def test_missing_questions_are_errors_that_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "en.jsonl").write_text("\n")
    with pytest.raises(DataError, match=r"no questions in en; set evaluation\.benchmarks\.mt_bench\.path"):
        read_questions(str(tmp_path), "en")
    with pytest.raises(DataError, match=r"no file for language 'es' .* take es out of|'es' out of"):
        read_questions(str(tmp_path), "es")
    with pytest.raises(DataError, match="no such folder"):
        read_questions(str(tmp_path / "nowhere"), "en")


def test_mt_bench_measures_the_laboratorys_model(server: TestServer, tmp_path: Path) -> None:
    for language in ("en", "es"):
        turns = [[question(fact, language, 0), question(fact, language, 1)] for fact in FACTS[:2]]
        rows = [{"question_id": n, "category": f"c{n % 2}", "turns": pair} for n, pair in enumerate(turns)]
        path = write_questions(tmp_path / "questions", language, rows)
    config = make_config(server, {"mt_bench": {"path": path}}, languages=["en", "es"])
    run = evaluate(config, tmp_path / "run")
    metrics = {code: found.to_json() for code, found in read_metrics(run, 0, "mt_bench").items()}
    for language in ("en", "es"):
        ratings = rows_of(run, "mt_bench", language)
        assert len(ratings) == 4 and {row["group"] for row in ratings} == {"c0", "c1"}
        answers = [
            json.loads(line)["text"]
            for part in ("turn_1", "turn_2")
            for line in (run.evaluation(0, "mt_bench") / "answers" / f"{language}.{part}.jsonl").open(encoding="utf-8")
        ]
        by_rule = [row["rating"] for row in ratings if row["rule"] is None]
        assert by_rule and all(answers)
        expected = [1.0 if row["rule"] else 1 + quality(text) // 10 for row, text in zip(ratings, answers, strict=True)]
        assert [row["rating"] for row in ratings] == expected
        assert metrics[language]["score"] == pytest.approx(sum(expected) / 4, abs=1e-3)
        assert (metrics[language]["n"], metrics[language]["failed"]) == (2, 0)


# --- head to head inside a run ----------------------------------------------------------------------------------------


def run_with_two_models(server: TestServer, folder: Path) -> tuple[Config, RunDir]:
    """A run whose M1 is there, as training would leave it."""
    instructions = folder / "instructions"
    write_outputs(instructions, "en", [(f"Topic {n}?", "") for n in range(1, 9)], "none")
    config = make_config(
        server,
        {"head_to_head": {"path": str(instructions)}},
        languages=["en", "es"],
        iterations=1,
        prompts={"path": "lab"},
        evaluation={
            "judge": judge_settings(server),
            "benchmarks": {"head_to_head": {"path": str(instructions), "languages": ["en"]}},
        },
    )
    run = RunDir.start(config, folder / "run", say=lambda line: None)
    model = run.model_folder(1)
    model.parent.mkdir(parents=True)
    aside = model.with_name("aside")
    shutil.copytree(MODEL_PATH, aside)
    seal(aside, model, {}, 1, fingerprint(aside))
    return config, run


def words_for(content: str, numbers: dict[int, int | None]) -> str | None:
    words = numbers[int(content.split()[1].rstrip("?"))]
    return None if words is None else essay(words)


@pytest.mark.parametrize("initial_first", [True, False])
def test_a_trained_model_is_compared_with_the_model_as_it_came(
    server: TestServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, initial_first: bool
) -> None:
    config, run = run_with_two_models(server, tmp_path)
    before: dict[int, int | None] = {1: 20, 2: 20, 3: 20, 4: 20, 5: 40, 6: 20, 7: None, 8: 20}
    after: dict[int, int | None] = {1: 40, 2: 40, 3: 26, 4: 23, 5: 20, 6: 20, 7: 40, 8: None}
    engines = [Scripted(partial(words_for, numbers=numbers)) for numbers in (before, after)]
    use(monkeypatch, *engines)
    if initial_first:
        evaluation.run(config, run, 0)
        assert server.counters.requests == 0
        assert rows_of(run, "head_to_head", "en") == []
    evaluation.run(config, run, 1)
    assert [len(engine.asked) for engine in engines] == [8, 8]
    metrics = read_metrics(run, 1, "head_to_head")["en"].to_json()
    assert (metrics["n"], metrics["failed"], metrics["unscored"], metrics["ruled"]) == (6, 2, 0, 1)
    outcomes = {row["question_id"]: row["outcome"] for row in rows_of(run, "head_to_head", "en", 1)}
    assert outcomes == {"1": "win", "2": "win", "3": "win", "4": "tie", "5": "lose", "6": "tie"}
    assert server.counters.requests == metrics["judge"]["requests"] == 10
    evaluation.run(config, run, 0)  # M0 itself only answers, and those answers are there
    assert [len(engine.asked) for engine in engines] == [8, 8]
    own = read_metrics(run, 0, "head_to_head")["en"].to_json()
    assert (own["n"], own["off_target"]) == (8, 0.0) and "win" not in own


# --- against recorded answers -----------------------------------------------------------------------------------------


def recorded(server: TestServer, folder: Path, **benchmarks: Any) -> Config:
    """Two small models' recorded answers: the one under test wins twice, ties once and loses once."""
    asked = ["One?", "Two? {{second}}", "Three?", "Four?"]
    lengths = [(40, 20), (60, 21), (20, 22), (20, 40)]
    for code in ("en", "de"):
        for name, side in (("mine", 0), ("theirs", 1)):
            answers = [f"{essay(pair[side])}.{' ' * side}" for pair in lengths]
            order = range(4) if name == "mine" else range(3, -1, -1)  # joined by instruction, not by position
            write_outputs(folder / name, code, [(asked[n], answers[n]) for n in order], name)
    return make_config(server, benchmarks, model={"path": str(folder / "mine")}, languages=["en"])


def test_x_alpacaeval_writes_files_that_say_the_same(server: TestServer, tmp_path: Path) -> None:
    config = recorded(server, tmp_path, x_alpacaeval={"reference": str(tmp_path / "theirs")})
    run = evaluate(config, tmp_path / "run")
    metrics = read_metrics(run, 0, "x_alpacaeval")["en"].to_json()
    rows = rows_of(run, "x_alpacaeval", "en")
    folder = run.evaluation(0, "x_alpacaeval") / "alpaca_eval" / "en"
    notes = read_annotations(folder / "annotations.json")
    assert [note.preference for note in notes] == pytest.approx([row["preference"] for row in rows])
    assert [row["outcome"] for row in rows] == ["win", "win", "tie", "lose"]
    assert {(note.reference, note.model, note.annotator) for note in notes} == {("theirs", "t", "rule")}
    assert metrics["win_rate"] == pytest.approx(sum(row["preference"] for row in rows) / 4, abs=1e-4)
    assert metrics["ci95_win_rate"][0] <= metrics["win_rate"] <= metrics["ci95_win_rate"][1]
    assert 0 < metrics["lc_win_rate"] < 1 and metrics["mean_length"] > metrics["mean_reference_length"]
    mine = read_model_outputs(tmp_path / "mine", "en")
    outputs = json.loads((folder / "model_outputs.json").read_text(encoding="utf-8"))
    assert [(row["instruction"], row["output"], row["dataset"]) for row in outputs] == [
        (row.instruction, row.output, "d") for row in mine
    ]


def test_two_benchmarks_ask_the_judge_once(server: TestServer, tmp_path: Path) -> None:
    theirs = str(tmp_path / "theirs")
    evaluate(recorded(server, tmp_path, head_to_head={"against": theirs}), tmp_path / "run")
    assert server.counters.requests == 8
    both = recorded(server, tmp_path, head_to_head={"against": theirs}, x_alpacaeval={"reference": theirs})
    run = evaluate(both, tmp_path / "run")
    assert server.counters.requests == 8
    pairwise, alpaca = (read_metrics(run, 0, name)["en"].to_json() for name in ("head_to_head", "x_alpacaeval"))
    assert pairwise["preference"] == alpaca["win_rate"]


def test_another_judge_makes_the_verdicts_anew(server: TestServer, tmp_path: Path) -> None:
    config = recorded(server, tmp_path, head_to_head={"against": str(tmp_path / "theirs")})
    evaluate(config, tmp_path / "run")
    for name, value in (("max_new_tokens", 7), ("logprobs", False), ("model", "other")):
        judge = config.evaluation.judge.model_copy(update={name: value})  # type: ignore[union-attr]
        settings = config.evaluation.model_copy(update={"judge": judge})
        before = server.counters.requests
        evaluate(config.model_copy(update={"evaluation": settings}), tmp_path / "run")
        assert server.counters.requests == before + 8


def test_a_run_may_lie_beside_its_instructions(server: TestServer, tmp_path: Path) -> None:
    config = recorded(server, tmp_path, head_to_head={"against": str(tmp_path / "theirs")})
    for name in ("mine", "theirs"):
        run = evaluate(config, tmp_path / name / "run")
        outputs = evaluation.outputs(config, run, 0)
        assert all(is_sealed(path, made_from) for path, made_from in outputs)


def test_answers_to_other_questions_are_an_error(server: TestServer, tmp_path: Path) -> None:
    theirs = str(tmp_path / "theirs")
    config = recorded(server, tmp_path, head_to_head={"against": theirs})
    write_outputs(tmp_path / "theirs", "en", [("One?", "yes"), ("Another?", "no")], "theirs")
    with pytest.raises(DataError, match=r"theirs/en\.json: no answer to question 2 .* the same instructions"):
        evaluate(config, tmp_path / "run")
    config = recorded(server, tmp_path, head_to_head={"against": theirs, "path": theirs})
    with pytest.raises(DataError, match=r"mine/en\.json item 1: answers 'One\?', but the question here is 'Four\?'"):
        evaluate(config, tmp_path / "run")
    questions = write_questions(tmp_path / "questions", "en", [{"question_id": 1, "turns": ["One?", "More?"]}])
    config = recorded(server, tmp_path, mt_bench={"path": questions})
    with pytest.raises(DataError, match="recorded answers are to single questions"):
        evaluate(config, tmp_path / "run")


def test_an_emoji_cut_in_two_is_no_stumbling_block(server: TestServer, tmp_path: Path) -> None:
    answers = [("Half \ud83d?", f"{essay(20)} \ud83d"), ("Two?", essay(9))]
    write_outputs(tmp_path / "mine", "en", answers, "mine")
    write_outputs(tmp_path / "theirs", "en", [("Half \ud83d?", essay(9)), ("Two?", essay(30))], "theirs")
    theirs = str(tmp_path / "theirs")
    benchmarks = {"x_alpacaeval": {"reference": theirs}, "language_confusion": {}}
    run = evaluate(make_config(server, benchmarks, model={"path": str(tmp_path / "mine")}), tmp_path / "run")
    assert read_metrics(run, 0, "x_alpacaeval")["en"].to_json()["win"] == 0.5
    assert rows_of(run, "language_confusion", "en")[0]["text"].endswith(" \ufffd")


def test_a_row_without_a_data_set_has_none(tmp_path: Path) -> None:
    (tmp_path / "en.json").write_text('[{"instruction": "One?", "dataset": null}, {"instruction": "Two?"}]')
    assert [row.group for row in read_instructions(str(tmp_path), "en", None, "field")] == ["", ""]


def test_language_confusion_counts_answers_that_leave_their_language(server: TestServer, tmp_path: Path) -> None:
    english = "The river runs slowly through the old town, and people walk along it in the evening."
    answers = [("1?", SPANISH), ("2?", f"{SPANISH}\n{english}"), ("3?", english), ("4?", "42")]
    write_outputs(tmp_path / "mine", "es", answers, "mine")
    config = make_config(
        server, {"language_confusion": {}}, model={"path": str(tmp_path / "mine")}, languages=["en", "es"]
    )
    with pytest.raises(DataError, match=r"no file for language 'en' .* evaluation\.benchmarks\.language_confusion"):
        evaluate(config, tmp_path / "run")
    config = make_config(server, {"language_confusion": {"languages": ["es"]}}, model={"path": str(tmp_path / "mine")})
    run = evaluate(config, tmp_path / "run")
    metrics = read_metrics(run, 0, "language_confusion")["es"].to_json()
    assert (metrics["lpr"], metrics["n"], metrics["undecided"], metrics["failed"]) == (round(1 / 3, 4), 3, 1, 0)
    assert [row["wrong_lines"] for row in rows_of(run, "language_confusion", "es")] == [
        [], [[english, "en"]], [[english, "en"]], [],
    ]  # fmt: skip
    assert server.counters.requests == 0


@pytest.mark.parametrize("name", ["head_to_head", "x_alpacaeval"])
def test_judged_answers_have_the_line_level_figure_beside_the_off_target_share(
    name: str, server: TestServer, tmp_path: Path
) -> None:
    english = "The river runs slowly through the old town, and people walk along it in the evening."
    mixed = f"{SPANISH}\n{SPANISH}\n{SPANISH}\n{SPANISH}\n{english}"
    answers = [("1?", SPANISH), ("2?", mixed), ("3?", english), ("4?", "42"), ("¿Cómo se dice en inglés?", english)]
    for folder in ("mine", "theirs"):
        write_outputs(tmp_path / folder, "es", answers, folder)
    settings = {"languages": ["es"], "against" if name == "head_to_head" else "reference": str(tmp_path / "theirs")}
    config = make_config(server, {name: settings}, model={"path": str(tmp_path / "mine")}, languages=["en", "es"])
    metrics = read_metrics(evaluate(config, tmp_path / "run"), 0, name)["es"].to_json()
    assert (metrics["off_target"], metrics["undecided"]) == (0.4, 1)
    assert (metrics["lpr"], metrics["undecided_lines"], metrics["other_language_asked"]) == (round(1 / 3, 4), 1, 1)


# --- real answers -----------------------------------------------------------------------------------------------------

LANGUAGES = ("en", "es", "de")
LIMIT = 40
BY_WORD_LENGTH = RuleJudge(margin=15, measure=word_length)


def real_config(server: TestServer, *settings: str) -> Config:
    if not TESTED.exists():
        pytest.skip("the X-AlpacaEval outputs (non-commercial licence) are not part of the project")
    server.answer = BY_WORD_LENGTH
    judge = judge_settings(server)
    chosen = [f"evaluation.judge={json.dumps(judge)}", "name=t"]
    chosen += [f"evaluation.benchmarks.head_to_head.{setting}" for setting in (f"against={OTHER}", f"limit={LIMIT}")]
    nowhere = Path("no evaluation was made here")
    return evaluation_config(
        str(TESTED), nowhere, benchmarks=["head_to_head"], languages=LANGUAGES, settings=[*chosen, *settings]
    )


def files_of(run: RunDir) -> dict[str, bytes]:
    """Rows and metrics, without the seals, which name the server's address."""
    folder = run.evaluation(0, "head_to_head")
    return {path.name: path.read_bytes() for path in folder.glob("*.json*") if not path.name.startswith(".")}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of an evaluation on a server without faults."""
    with TestServer(BY_WORD_LENGTH) as server:
        run = evaluate(real_config(server), tmp_path_factory.mktemp("real") / "run")
        used = [metrics.judge and metrics.judge.requests for metrics in read_metrics(run, 0, "head_to_head").values()]
        assert server.counters.requests == sum(used)
        return files_of(run)


def known_outcome(language: str, prompt: str, answer: str, opponent: str) -> str:
    """What the rule says of two answers, computed from them directly."""
    identify = LanguageIdentifier().identify
    if answer.strip() == opponent.strip():
        return "tie"
    if not asks_for_other_language(prompt, language):
        wrong = [identify(text) not in (None, language) for text in (answer, opponent)]
        if any(wrong):
            return "tie" if all(wrong) else "lose" if wrong[0] else "win"
    difference = word_length(answer) - word_length(opponent)
    return "win" if difference > 15 else "lose" if difference < -15 else "tie"


def test_real_answers_are_judged_just_as_the_rule_says(undisturbed: dict[str, bytes]) -> None:
    metrics = json.loads(undisturbed["metrics.json"])
    for language in LANGUAGES:
        mine, theirs = (read_model_outputs(folder, language)[:LIMIT] for folder in (TESTED, OTHER))
        by_instruction = {row.instruction: row.output for row in theirs}
        expected = [
            known_outcome(language, row.instruction, row.output, by_instruction[row.instruction]) for row in mine
        ]
        verdicts = [json.loads(line) for line in undisturbed[f"{language}.jsonl"].splitlines()]
        assert [verdict["outcome"] for verdict in verdicts] == expected
        found = metrics[language]
        assert (found["n"], found["unscored"], found["failed"]) == (LIMIT, 0, 0)
        assert [found[name] for name in ("win", "tie", "lose")] == [
            round(expected.count(name) / LIMIT, 4) for name in ("win", "tie", "lose")
        ]
        assert min(found["win"], found["tie"], found["lose"]) > 0


def test_faults_of_the_server_change_nothing(server: TestServer, tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    server.faults = Faults(0.06, 0.06, 0.06, cut=0.06, malformed=0.06)
    run = evaluate(real_config(server), tmp_path / "run")
    assert files_of(run) == undisturbed
    faults = server.counters.faults
    assert len(faults) == 5 and faults.total() > 0.2 * server.counters.requests
    asked = sum(entry["judge"]["requests"] for entry in json.loads(undisturbed["metrics.json"]).values())
    assert server.counters.requests == asked + faults.total()


def test_an_evaluation_goes_on_after_limits_and_a_dead_server(
    server: TestServer, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    run = tmp_path / "run"
    with pytest.raises(EngineError, match=r"evaluation\.judge\.max_requests 50 is reached"):
        evaluate(real_config(server, "evaluation.judge.max_requests=50"), run)
    assert server.counters.requests == 50

    def dying(body: dict[str, Any]) -> Any:
        if server.counters.requests >= 130:
            server.switch_off()
        return BY_WORD_LENGTH(body)

    config = real_config(server, "evaluation.judge.engine.max_retries=0")
    server.answer = dying
    with pytest.raises(EngineError, match=r"^evaluation\.judge: http"):
        evaluate(config, run)
    server.switch_on()
    done = evaluate(real_config(server), run)
    assert files_of(done) == undisturbed


def test_a_killed_evaluation_goes_on(server: TestServer, tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    server.faults = Faults(slow=1.0, slow_s=0.02)
    config = real_config(server)
    run = RunDir.start(config, tmp_path / "run", say=lambda line: None)
    command = [sys.executable, "-m", "lidr", "evaluate", str(run.path), "--iteration", "0"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while server.counters.requests < 100 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert server.counters.requests >= 100 and not (run.evaluation(0, "head_to_head") / "metrics.json").exists()
    server.faults = Faults()
    asked = server.counters.requests
    evaluation.run(config, run, 0)
    assert files_of(run) == undisturbed
    expected = sum(entry["judge"]["requests"] for entry in json.loads(undisturbed["metrics.json"]).values())
    assert server.counters.requests - asked <= expected - 100 + 8


# --- duels ------------------------------------------------------------------------------------------------------------


def test_a_prompt_whose_duels_are_all_unscored_is_no_tie() -> None:
    duels = [Duel("1", "es", None), Duel("1", "fr", None), Duel("2", "es", 1), Duel("2", "fr", None)]
    counted = count_together([*duels, Duel("3", "es", 1), Duel("3", "fr", -1), Duel("4", "es", -1)])
    assert (counted.wins, counted.losses, counted.ties, counted.unscored) == (1, 1, 1, 1)
