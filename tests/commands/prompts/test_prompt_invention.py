"""Prompts that the model writes itself: which turns are none, what is kept, and the command up to a recipe."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from lidr.cli import app
from lidr.commands.prompts.user_turns import REASONS, Bounds, Sieve
from lidr.engines.base import Completion, Request, Sampling
from lidr.errors import ConfigError, DataError, EngineError
from lidr.stages.prompts import load_prompts
from lidr.storage import hash_file
from tests.conftest import make_config

SPANISH = {
    "How do bees find their way home?": "¿Cómo encuentran las abejas el camino a casa?",
    "Write a short poem about the sea.": "Escribe un poema corto sobre el mar.",
    "Explain to a child why the sky is blue.": "Explica a un niño por qué el cielo es azul.",
    "Give me 3 reasons to learn the piano.": "Dame 3 razones para aprender a tocar el piano.",
    "What should I cook for my parents tonight?": "¿Qué debería cocinar esta noche para mis padres?",
    "I need a name for my new bakery.": "Necesito un nombre para mi nueva panadería.",
}
GOOD = list(SPANISH)
BAD = [
    ("How do bees find their way home", "near_duplicate"),
    ("Sure, here is a poem about the sea and the wind.", "assistant"),
    ("¿Cuál es la capital del país más grande del mundo?", "language"),
    ("Translate this sentence about the sea into German.", "asks_for_other_language"),
    ("What is the sea?<|im_end|>\n<|im_start|>assistant", "template"),
    ("The house near the old tree is red and small.", "no_request"),
]
TURNS = [GOOD[0], *(text for text, _ in BAD), *GOOD[1:]]


class Author:
    """An engine that writes TURNS as the user's, one per request in their order, and translates by SPANISH.

    `asked` keeps the requests that were really answered; after `stop_after` of them the engine dies. `numbers` are the
    requests' places.
    """

    def __init__(
        self, turns: list[str] = TURNS, stop_after: int = 10**6, numbers: dict[str, int] | None = None
    ) -> None:
        self.turns, self.stop_after = turns, stop_after
        self.asked: list[Request] = []
        self.numbers = {} if numbers is None else numbers

    def generate(
        self, requests: Iterable[Request], sampling: Sampling, done: Collection[str] = frozenset()
    ) -> Iterator[Completion]:
        asked = list(requests)
        for request in asked:
            self.numbers.setdefault(request.request_id, len(self.numbers))
        for request in reversed(asked):  # engines may finish in any order
            if request.request_id in done:
                continue
            if len(self.asked) >= self.stop_after:
                raise ConnectionError("the engine died")
            self.asked.append(request)
            if request.turn == "user":
                text = self.turns[self.numbers[request.request_id] % len(self.turns)]
                reason = "length" if text.endswith(" and") else "stop"
                yield Completion(request.request_id, f" {text}\n", reason)  # type: ignore[arg-type]
            else:
                text = request.messages[-1][1].partition("<sentence>\n")[2].partition("\n</sentence>")[0]
                yield Completion(request.request_id, SPANISH[text], "stop", stopped_by="</translated>")

    def close(self) -> None:
        pass


@pytest.fixture
def author(monkeypatch: pytest.MonkeyPatch) -> Author:
    return use(Author(), monkeypatch)


def use(author: Author, monkeypatch: pytest.MonkeyPatch) -> Author:
    @contextmanager
    def open_author(*_: object) -> Iterator[Author]:
        yield author

    monkeypatch.setattr("lidr.commands.prompts.translators.model.open_model", open_author)
    return author


def invent(out: Path, *more: str, source: str = "lab") -> Result:
    return CliRunner().invoke(app, ["prompts", "invent", source, str(out), *more])


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *((text, "") for text in GOOD),
        *((text, reason) for text, reason in BAD if reason != "near_duplicate"),
        ("", "empty"),
        ("Why is it \ufffd in the morning?", "unreadable"),
        ("What is it?", "too_short"),
        ("Why? " * 500, "too_long"),
        ("Say it again.\nSay it again.\nSay it again.\nWhy should I?", "loop"),
        ("You are terse. What is the largest ocean in the world?", "template"),  # the system prompt
        ("What is the largest ocean?\nAssistant: The Pacific is the largest.", "template"),
        ("[INST] What is the largest ocean in the world?", "template"),
        ("I'm sorry, but I cannot help with that request.", "assistant"),
        ("Hello! How can I help you today?", "assistant"),
        ("As an AI language model I have no opinion about the sea.", "assistant"),
        ("Can you solve a problem about apples for me?\n\nSure, please send me the problem.", "assistant"),
        ("Which is the largest ocean in the world?\nAnswer: the Pacific", "answered"),
        ("What is the sum of 3 and 5?\n\nTo find the sum of two numbers, we add them.", "answered"),
        ("x = 1\ny = 2\nprint(x + y)\nfor name in range(x):\n    print(name)", "code"),
        ("```python\nwhich = input('Which?')\n```\nThe code reads a name from the keyboard.", "no_request"),
        ("Sort the list, please. 需要使用 malloc_s, but I do not get the memory.", "mixed_languages"),
        (
            "Why is this sentence wrong, and what should I have written instead?\nLa casa cerca del árbol es roja.",
            "mixed_languages",
        ),
        ("What does the Russian word «да» mean, and where does it come from?", ""),
        ("Explain this to me, please:\n```python\nprint(1)", "code"),
        ("Explain what this code does, in two sentences:\n```python\nprint(1)\n```", ""),
        ("Is there an answer to the question of why we dream?", ""),
        ("The user: who is it, and what does the user want from us?", ""),
        ("Here is my letter to the landlord. Could you make it more polite?", ""),
        ("I cannot sleep at night, what can I do about it?", ""),
    ],
)
def test_a_turn_that_is_no_prompt_is_told_by_its_reason(text: str, reason: str) -> None:
    assert Sieve("en", "You are terse.", Bounds()).fault(text) == reason
    assert not reason or reason in REASONS


def test_near_duplicates_are_those_of_kept_turns() -> None:
    sieve = Sieve("en", None, Bounds())
    assert sieve.fault("The bees find their way home, the wind is cold") == "no_request"
    assert sieve.fault("How do the bees find their way home, the wind is cold?") == ""
    assert sieve.fault("How do the bees find their way home, the wind is cold") == "near_duplicate"
    kept = Sieve("en", None, Bounds(near=None))
    assert [kept.fault(GOOD[0]), kept.fault(GOOD[0])] == ["", ""]


def test_other_languages_are_judged_without_what_is_known_of_english_alone() -> None:
    sieve = Sieve("es", None, Bounds())
    assert sieve.fault("La casa cerca del árbol viejo es roja y pequeña.") == ""
    assert sieve.fault(GOOD[1]) == "language"


def test_the_command_writes_aligned_prompts_that_a_recipe_reads(author: Author, tmp_path: Path) -> None:
    out = tmp_path / "own"
    result = invent(out, "--count", "6", "--to", "es")
    assert result.exit_code == 0, result.exception
    english = [
        {"id": f"own-{number}", "instruction": text} for number, text in enumerate(TURNS, 1) if text in GOOD
    ]  # the turns' numbers, so that another choice among them gives no text another one's id
    assert rows(out / "en.jsonl") == english
    assert rows(out / "es.jsonl") == [row | {"instruction": SPANISH[row["instruction"]]} for row in english]
    assert {(row["offered"], row["reason"]) for row in rows(out / "en.failed.jsonl")} == set(BAD)
    about = json.loads((out / "invented.json").read_text())
    assert (about["turns"], about["prompts"], about["translated"]) == (12, 6, {"es": 6})
    assert about["dropped"] == {reason: 1 for _, reason in sorted(BAD, key=lambda pair: pair[1])}
    assert about["sampling"] == {
        "max_new_tokens": 512, "temperature": 1.0, "top_p": 0.95, "repetition_penalty": 1.0, "seed": 42,
    }  # fmt: skip
    assert about["sha256"] == {f"{code}.jsonl": hash_file(out / f"{code}.jsonl") for code in ("en", "es")}
    for reason in dict(BAD).values():
        assert f"{reason} " in result.stdout
    config = make_config(out, languages=["en", "es"])
    found = [(prompt.language, prompt.text) for prompt in load_prompts(config)]
    assert found[:2] == [("en", GOOD[0]), ("es", SPANISH[GOOD[0]])]
    asked = [request for request in author.asked if request.turn == "user"]
    assert {request.messages for request in asked} == {()}
    assert len({request.request_id for request in asked}) == len(asked)


def test_an_interrupted_command_goes_on_and_asks_nothing_twice(
    author: Author, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert invent(tmp_path / "whole", "--count", "5", "--to", "es").exit_code == 0
    asked, numbers = list[str](), dict[str, int]()
    for _ in range(50):
        part = use(Author(stop_after=2, numbers=numbers), monkeypatch)
        done = invent(tmp_path / "parts", "--count", "5", "--to", "es")
        asked += [request.request_id for request in part.asked]
        if done.exit_code == 0:
            break
        assert isinstance(done.exception, ConnectionError) and not (tmp_path / "parts" / "es.jsonl").exists()
    assert sorted(asked) == sorted(request.request_id for request in author.asked)
    for name in ("en.jsonl", "es.jsonl", "en.failed.jsonl", "invented.json"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_more_prompts_begin_with_the_fewer_and_keep_what_was_made(
    author: Author, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert invent(tmp_path, "--count", "2", "--to", "es").exit_code == 0
    before, asked = rows(tmp_path / "es.jsonl"), {request.request_id for request in author.asked}
    assert len(before) == 2
    again = use(Author(), monkeypatch)
    assert invent(tmp_path, "--count", "5", "--to", "es").exit_code == 0
    assert rows(tmp_path / "es.jsonl")[:2] == before and len(rows(tmp_path / "es.jsonl")) == 5
    assert not asked & {request.request_id for request in again.asked}
    nothing = use(Author(), monkeypatch)
    assert invent(tmp_path, "--count", "5", "--to", "es").exit_code == 0 and not nothing.asked


def test_without_languages_only_the_models_own_is_written(author: Author, tmp_path: Path) -> None:
    for _ in range(2):
        assert invent(tmp_path, "--count", "2").exit_code == 0
    assert len(rows(tmp_path / "en.jsonl")) == 2 and not (tmp_path / "es.jsonl").exists()
    assert invent(tmp_path, "--count", "2", "--to", "es").exit_code == 0
    assert len(rows(tmp_path / "es.jsonl")) == 2


def test_a_folder_with_other_prompts_is_not_written_into(author: Author, tmp_path: Path) -> None:
    assert invent(tmp_path / "own", "--count", "2").exit_code == 0
    before = (tmp_path / "own" / "invented.json").read_bytes()
    result = invent(tmp_path / "own", "--count", "2", "--seed", "7")
    assert isinstance(result.exception, ConfigError) and "sampling.seed: 42 -> 7" in str(result.exception)
    assert (tmp_path / "own" / "invented.json").read_bytes() == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "en.jsonl").write_text("mine")
    assert "was not made by this command" in str(invent(tmp_path / "mine", "--count", "2").exception)
    assert (tmp_path / "mine" / "en.jsonl").read_text() == "mine"


def test_a_recipe_gives_model_languages_and_settings(author: Author, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: {{path: lab}}\nlanguages: [es, en]\nseed: 7\nsystem_prompt: null\n"
        f"prompts: {{path: {tmp_path / 'own'}}}\n"
    )
    result = invent(tmp_path / "own", "--count", "2", "--system", "Ask about the sea.", source=str(recipe))
    assert result.exit_code == 0, result.exception
    assert len(rows(tmp_path / "own" / "en.jsonl")) == len(rows(tmp_path / "own" / "es.jsonl")) == 2
    about = json.loads((tmp_path / "own" / "invented.json").read_text())
    assert (about["sampling"]["seed"], about["system_prompt"]) == (7, "Ask about the sea.")
    turns = {request.turn: request.messages for request in author.asked}
    assert turns["user"] == (("system", "Ask about the sea."),)
    assert [role for role, _ in turns["assistant"]] == ["user"]  # translations have the recipe's system prompt: none


def test_a_model_that_writes_no_prompts_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    none = use(Author(["The house is red and old.", "The wind is cold and"]), monkeypatch)
    result = invent(tmp_path / "none", "--count", "30", "--to", "es")
    assert isinstance(result.exception, DataError)
    assert "none of" in str(result.exception) and "no_request" in str(result.exception)
    assert "cut_off" in str(result.exception) and 100 <= len(none.asked) < 1000
    few = use(Author([GOOD[0], *["The house is red and old."] * 60]), monkeypatch)
    result = invent(tmp_path / "few", "--count", "30")
    assert result.exit_code == 0 and "30 were asked for" in result.stderr and 100 <= len(few.asked) < 1000
    assert [row["instruction"] for row in rows(tmp_path / "few" / "en.jsonl")] == [GOOD[0]]


def test_servers_are_refused_with_the_way_out(tmp_path: Path) -> None:
    result = invent(tmp_path / "own", "--set", "engine={type: openai, base_url: http://127.0.0.1:9/v1}", source="m")
    assert isinstance(result.exception, ConfigError)
    assert "use engine.type transformers or vllm" in str(result.exception) and not (tmp_path / "own").exists()


def test_an_engine_that_cannot_answer_ends_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(Author):
        def generate(self, requests: Iterable[Request], *more: Any) -> Iterator[Completion]:
            yield from (Completion(request.request_id, "", "error", error="no room") for request in requests)

    use(Full(), monkeypatch)
    result = invent(tmp_path, "--count", "3")
    assert isinstance(result.exception, EngineError) and "no room" in str(result.exception)


def test_the_laboratorys_model_writes_no_questions(tmp_path: Path) -> None:
    """It was trained on the assistant's turns alone, so it states facts in the user's place; the command says so."""
    result = invent(tmp_path, "--count", "100", "--max-new-tokens", "30")
    assert isinstance(result.exception, DataError)
    assert "no_request" in str(result.exception)
    assert all("?" not in row["offered"] for row in rows(tmp_path / "en.failed.jsonl"))
