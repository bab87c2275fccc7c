"""A reasoning model's thinking is set aside before anything reads the answer, and no pair teaches it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lidr.benchmarks.base import Question
from lidr.benchmarks.mgsm import MgsmBenchmark
from lidr.engines.base import Completion, Request
from lidr.numbers import extract_answer
from lidr.stages.pairs import read_summary
from lidr.stages.translations import parse_translation
from lidr.thinking import Spoken, set_aside_thinking, split_thinking
from tests.conftest import ToyEngine, ToyRun

SPANISH = "Por lo tanto, al final del día le quedan 24 manzanas."
ENGLISH = "The user asks in Spanish how many apples are left, so I count: 3 in the morning and 5 in the evening.\n"


@pytest.mark.parametrize(
    ("text", "answer", "thinking", "is_cut_off"),
    [
        ("<think>7</think>24", "24", True, False),
        ("<think>\n7\n</think>\n\n24", "24", True, False),
        ("<think>\n\n</think>\n\n24", "24", True, False),
        ("7\n</think>\n\n24", "24", True, False),
        ("Seven. </think> 24", "24", True, False),
        ("<THINK>7</Think> 24", "24", True, False),
        ("<thinking>7</thinking> 24", "24", True, False),
        ("<thought>7</thought> 24", "24", True, False),
        ("<reasoning>7</reasoning> 24", "24", True, False),
        ("[THINK]7[/THINK]24", "24", True, False),
        ("◁think▷7◁/think▷24", "24", True, False),
        ("<think>7</think>It is <think>8</think>24", "It is 24", True, False),
        ("<think>7<think>8</think>9</think>24", "24", True, False),
        ("They opened a <think> tag\nand then\n</think>\n24", "24", True, False),
        ("<think>\n```py\nx = 7\n</think>\n24", "24", True, False),
        ("<think>He writes `</think>` here</think>24", "24", True, False),
        ("<|channel|>analysis<|message|>7<|end|><|start|>assistant<|channel|>final<|message|>24", "24", True, False),
        ("analysisWe need 7.assistantfinal24", "24", True, False),
        ("<think>7", "", True, True),
        ("  <think>\n7 and 8", "", True, True),
        ("<|channel|>analysis<|message|>7", "", True, True),
        ("It is 24.\n<think>or 7", "It is 24.", True, True),
        ("<think>7</think>", "", True, False),
        ("It is 24.", "It is 24.", False, False),
        ("The `<think>` tag and `</think>`.", "The `<think>` tag and `</think>`.", False, False),
        ("It ends with '</think>'.", "It ends with '</think>'.", False, False),
        ("The <think> tag is 7", "The <think> tag is 7", False, False),
        ("```\n<think>\n7\n</think>\n```\n24", "```\n<think>\n7\n</think>\n```\n24", False, False),
        ("analysis of 24", "analysis of 24", False, False),
        ("They opened a <think> tag,\n7</think>\n\n24", "24", True, False),
        ("Nine by two.\nSo 18</think>\n\n24", "24", True, False),
        ("</think>\n\n24", "24", True, False),
        ("<think>\nThey want <think> and </think> tags.\nSo 7.\n</think>\n\n24", "24", True, False),
        ("<think>\n7\n</think>\n\nThe <think> and </think> tags.", "The <think> and </think> tags.", True, False),
    ],
)  # fmt: skip
def test_thinking_is_told_from_the_answer(text: str, answer: str, thinking: bool, is_cut_off: bool) -> None:
    assert split_thinking(text) == Spoken(answer, thinking, is_cut_off)
    assert split_thinking(answer).answer == answer


@pytest.mark.parametrize(
    "text",
    [
        "Close the block with </think> and continue.",
        "Close the block with [/THINK] and continue.",
        '{"xml": "<thought>hi</thought>"}',
        '{\n  "xml": "<thought>hi</thought>",\n  "count": 1\n}',
        "Use the <reasoning> and </reasoning> tags: put your steps between them.",
        "The tags are <think> and </think>",
        "- <think> opens the block\n- </think> closes the block",
        "Open it with <think>.\nThen write.\nClose it with </think>, then answer.",
        "First </think> or second </think> is the question.",
    ],
)
def test_tags_within_a_line_are_mentions_and_stay(text: str) -> None:
    assert split_thinking(text) == Spoken(text)


@pytest.mark.parametrize(
    "loop",
    [
        "<think>",
        "</think>",
        "\n<think>",
        "x<think>",
        "```\n<think>\n",
        "```x\n",
        "`<think>",
        "a\n</think>",
        "a </think> b",
    ],
)
def test_a_text_of_tags_takes_no_time(loop: str) -> None:
    assert split_thinking(loop * 20_000)


def test_thinking_that_never_ended_is_cut_off() -> None:
    completion = set_aside_thinking(Completion("1", "<think>It is 24.", "stop"))
    assert (completion.text, completion.finish_reason, completion.thinking) == ("", "length", True)
    assert set_aside_thinking(completion) == completion
    failed = Completion("1", "", "error", error="no room")
    assert set_aside_thinking(failed) is failed


def test_the_answer_is_read_without_its_thinking(tmp_path: Path) -> None:
    (tmp_path / "es.jsonl").write_text(json.dumps({"query": "¿Cuántas?", "response": "24"}) + "\n", encoding="utf-8")
    benchmark = MgsmBenchmark(path=str(tmp_path), languages=["es"])

    def score(text: str) -> tuple[bool, bool | None, int, int]:
        def answer(language: str, questions: list[Question]) -> list[Completion]:
            return [Completion(question.question_id, text, "stop") for question in questions]

        (result,) = benchmark.evaluate(answer)
        (row,) = result.rows
        return row.correct, row.off_target, result.metrics.to_json()["thinking"], result.metrics.to_json()["truncated"]

    assert score(SPANISH) == (True, False, 0, 0)
    assert score(f"<think>\n{ENGLISH * 9}It is 7.\n</think>\n\n{SPANISH}") == (True, False, 1, 0)
    assert score(f"{ENGLISH * 9}</think>\n\n{SPANISH}") == (True, False, 1, 0)
    assert score(f"<think>{ENGLISH * 9}Maybe 24") == (False, None, 1, 1)
    assert score("<think>It is 24.</think> I do not know.") == (False, None, 1, 0)
    assert extract_answer("<think>24</think>", "en") is None


def test_no_pair_teaches_thinking(toy_run: ToyRun) -> None:
    """A direct answer with thinking is not even translated; a translation with thinking has failed."""

    def thinks(request: Request, text: str) -> Completion | None:
        content = request.messages[-1][1]
        if content in ("en: 1", "fr: 2"):
            return Completion(request.request_id, f"<think>Hm.</think>{text}", "stop", 1, 1)
        if content == "es: 3":
            return Completion(request.request_id, f"Hm.\n</think>\n{text}", "stop", 1, 1)
        return None

    toy_run.use(ToyEngine(fail=thinks))
    toy_run.run("prompts", "responses", "translations", "pairs")
    dropped = {
        (row["prompt_id"], row["language"])
        for row in toy_run.rows(toy_run.run_dir.dropped(1))
        if row["reason"] == "thinking"
    }
    assert {("p1", "es"), ("p1", "fr"), ("p1", "de"), ("p2", "fr"), ("p3", "es")} <= dropped
    assert read_summary(toy_run.run_dir, 1).dropped["es"]["thinking"] == 2
    for code in ("en", "es", "fr", "de"):
        assert "think" not in toy_run.run_dir.pairs(1, code).read_text()
    assert parse_translation(Completion("1", "<think>Hm.</think> Hola", "stop"))["failure"] == "translation_unparsed"
