"""Translating prompt sets: what is protected, what is set aside, what is kept, and the command with each translator."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lidr.cli import app
from lidr.commands.prompts.protect import check, cut, join, protected
from lidr.commands.prompts.translation import translate_prompts
from lidr.commands.prompts.translators.base import Offer, Piece
from lidr.errors import ConfigError, EngineError, RunError
from lidr.languages.identification import LanguageIdentifier
from lidr.records import Prompt
from lidr.run_dir import RunDir
from lidr.stages.prompts import load_prompts
from tests.conftest import make_config
from tests.support.google_translate_server import GoogleServer
from tests.support.openai_server import Reply, TestServer

IDENTIFIER = LanguageIdentifier()
TEXT = """Read {name}'s file at https://example.org/a?b=1 and sum its 1,250.5 values.

```python
print("hello world")
```
Then mail `total` to me@example.org, please.
- [PLACE] comes <b>first</b>"""


@pytest.mark.parametrize("how", ["whole", "paragraphs", "blocks", "lines", "spans"])
def test_the_parts_give_the_text_again(how: Any) -> None:
    for text in (TEXT, "One line", "  spaces around \n", "a\n\n\nb", "```\nonly code\n```", "`x` {y}", "12\n\n13"):
        parts = cut(text, how)
        assert join(parts, {part.text: part.text for part in parts if part.translated}) == text
    if how != "whole":
        assert not any("hello world" in part.text for part in cut(TEXT, how) if part.translated)


def test_masks_stand_for_what_is_kept_and_must_come_back_once() -> None:
    parts = cut("Ask {name} about https://example.org now", "lines")
    assert parts[0].text == "Ask __0__ about __1__ now" and parts[0].kept == ("{name}", "https://example.org")
    assert join(parts, {parts[0].text: "Sobre __1__, a __ 0 __"}) == "Sobre https://example.org, a {name}"
    assert join(parts, {parts[0].text: "Sobre __1__"}) is None
    assert join(parts, {parts[0].text: "__0__ __1__ __1__"}) is None
    assert [part.text for part in cut("Ask {name} about it", "spans") if part.translated] == ["Ask", "about it"]


def test_what_is_protected_is_found() -> None:
    assert protected("Use %s, ${HOME}, {{a}} and %(n)d of [NAME], <br/>, <<x>> or 50 %.") == [
        "%s", "${HOME}", "{{a}}", "%(n)d", "[NAME]", "<br/>", "<<x>>",
    ]  # fmt: skip
    assert protected("See www.example.org/path. (https://a.org)") == ["www.example.org/path", "https://a.org"]
    assert protected("She said [sic] it costs {nothing}") == ["{nothing}"]


@pytest.mark.parametrize(
    ("source", "translation", "reason"),
    [
        ("Give {n} reasons for the decision.", "Da {n} razones para la decisión.", ""),
        ("Give {n} reasons for the decision.", "Da {m} razones para la decisión.", "placeholder"),
        ("Run `ls -l` in the folder now.", "Ejecuta `ls` en la carpeta ahora.", "code"),
        ("```\nx = 1\n```\nExplain this code to me.", "```\nx = 2\n```\nExplícame este código.", "code"),
        ("Read https://a.org/b and answer.", "Lee https://a.org/c y responde.", "address"),
        ("It costs 1,250.50 dollars in total.", "Cuesta 1.250,50 dólares en total.", ""),
        ("It costs 12,500 dollars in total.", "Cuesta 12 500 dólares en total.", ""),
        ("It costs 12 dollars in total.", "Cuesta 21 dólares en total.", "numbers"),
        ("The 3 houses are red and old.", "Las tres casas son rojas y viejas.", "numbers"),
        ("First line here\nSecond line here", "Primera línea aquí, segunda línea aquí", "line_breaks"),
        ("Name the capital of this country.", "", "empty"),
        ("Name the capital of this country.", "Name the capital city of this country.", "not_translated"),
        ("Name the capital of this country.", "Nenne die Hauptstadt von diesem Land.", "wrong_language"),
        ("pH", "pH", ""),
    ],
)
def test_a_translation_that_lost_something_is_told_by_its_reason(source: str, translation: str, reason: str) -> None:
    assert check(source, translation, ("en", "es"), IDENTIFIER) == reason


def test_digits_of_other_scripts_are_the_same_numbers() -> None:
    assert (
        check("She has 15 apples and 1,000 pears.", "لديها ١٥ تفاحة و ١٬٠٠٠ كمثرى في البيت.", ("en", "ar"), IDENTIFIER)
        == ""
    )


SPANISH = {
    "Write a short poem about the sea.": "Escribe un poema corto sobre el mar.",
    "Explain {term} to a child of 8 years.": "Explica {term} a un niño de 8 años.",
    "Explain": "Explica",
    "to a child of 8 years.": "a un niño de 8 años.",
    "Why is the sky blue in the morning?": "¿Por qué el cielo es azul por la mañana?",
}  # fmt: skip
PROMPTS = [Prompt("a", "en", "Write a short poem about the sea."),
           Prompt("b", "en", "Explain {term} to a child of 8 years.", "8"),
           Prompt("c", "en", "Why is the sky blue in the morning?", "Rayleigh")]  # fmt: skip


class Book:
    """A translator out of a phrase book that counts what it is asked, loses the placeholder at first, and may die."""

    cuts: Any = ("whole", "spans")

    def __init__(self, dies_after: int = 99, loses: bool = True, price: float | None = None) -> None:
        self.identity = {"translator": "book"}
        self.usd_per_million_characters = price
        self.dies_after, self.loses, self.asked = dies_after, loses, list[str]()

    def translate(
        self, pieces: Iterable[Piece], source: str, target: str, retry: bool, done: Collection[str] = frozenset()
    ) -> Iterator[Offer]:
        for piece in pieces:
            if piece.key in done:
                continue
            if len(self.asked) >= self.dies_after:
                raise EngineError("the book is closed")
            self.asked.append(piece.text)
            text = SPANISH.get(piece.text)
            if text and self.loses and not retry:
                text = text.replace("{term}", "el término")
            yield Offer(piece.key, text, "" if text else "unknown")

    def close(self) -> None:
        pass


def run(translator: Book, out: Path, prompts: list[Prompt] = PROMPTS, **more: Any) -> Any:
    settings = {"made_from": "p.jsonl", "max_usd": None, "say": lambda line: None} | more
    return translate_prompts(lambda: iter(prompts), translator, "en", ["es"], out, **settings)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_what_fails_is_retried_once_and_the_files_are_aligned(tmp_path: Path) -> None:
    book = Book()
    outcome = run(book, tmp_path)["es"]
    assert (outcome.translated, outcome.retried, dict(outcome.aside)) == (3, 1, {})
    assert outcome.characters == sum(map(len, book.asked)) and outcome.usd is None
    assert rows(tmp_path / "es.jsonl") == [
        {"id": "a", "instruction": "Escribe un poema corto sobre el mar."},
        {"id": "b", "instruction": "Explica {term} a un niño de 8 años.", "answer": "8"},
        {"id": "c", "instruction": "¿Por qué el cielo es azul por la mañana?"},
    ]
    assert rows(tmp_path / "en.jsonl")[2] == {
        "id": "c", "instruction": "Why is the sky blue in the morning?", "answer": "Rayleigh",
    }  # fmt: skip
    assert not (tmp_path / "es.failed.jsonl").exists()


def test_what_fails_twice_is_set_aside_with_its_reason(tmp_path: Path) -> None:
    prompts = [*PROMPTS, Prompt("d", "en", "A sentence that is not in the book."),
               Prompt("e", "en", "Explain {term} with 3 words.")]  # fmt: skip
    outcome = run(Book(), tmp_path, prompts)["es"]
    assert dict(outcome.aside) == {"unknown": 2}
    assert [row["id"] for row in rows(tmp_path / "es.jsonl")] == ["a", "b", "c"]
    failed = rows(tmp_path / "es.failed.jsonl")
    assert [(row["id"], row["reason"]) for row in failed] == [("d", "unknown"), ("e", "unknown")]


def test_interrupted_and_continued_equals_uninterrupted_and_nothing_is_asked_twice(tmp_path: Path) -> None:
    whole = Book()
    run(whole, tmp_path / "whole")
    asked: list[str] = []
    for _ in range(6):
        book = Book(dies_after=1)
        try:
            run(book, tmp_path / "parts")
            asked += book.asked
            break
        except EngineError:
            asked += book.asked
            assert not (tmp_path / "parts" / "es.jsonl").exists()
    assert sorted(asked) == sorted(whole.asked)
    for name in ("en.jsonl", "es.jsonl"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    more = Book()
    outcome = run(more, tmp_path / "whole", [Prompt("z", "en", "Explain"), *PROMPTS])["es"]
    assert more.asked == ["Explain"] and outcome.characters == len("Explain")


def test_a_failure_that_passes_is_asked_again_by_the_next_command(tmp_path: Path) -> None:
    class Away(Book):
        def translate(self, pieces: Iterable[Piece], *more: Any, **options: Any) -> Iterator[Offer]:
            yield from (Offer(piece.key, None, "translation_error", passing=True) for piece in pieces)

    outcome = run(Away(), tmp_path)["es"]
    assert dict(outcome.aside) == {"translation_error": 3} and not rows(tmp_path / "es.jsonl")
    assert run(Book(), tmp_path)["es"].translated == 3 and not (tmp_path / "es.failed.jsonl").exists()


def test_only_one_command_at_a_time_works_in_a_folder(tmp_path: Path) -> None:
    run(Book(), tmp_path)
    with RunDir(tmp_path).lock(), pytest.raises(RunError, match="is in use by process"):
        run(Book(), tmp_path)


def test_the_cost_is_said_before_and_capped(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(ConfigError, match="more than --max-usd"):
        run(Book(price=20.0), tmp_path, max_usd=0.000001, say=said.append)
    assert said and "105 characters" in said[0] and "about 0.00 USD at 20 USD a million" in said[0]
    assert not (tmp_path / "es.jsonl").exists()
    # The retry would go beyond what the first attempt left.
    with pytest.raises(EngineError, match="is reached"):
        run(Book(price=20.0), tmp_path, max_usd=110 * 20 / 1e6, say=said.append)
    book = Book(price=20.0)
    run(book, tmp_path, max_usd=1, say=said.append)
    assert set(book.asked) <= {"Explain", "to a child of 8 years."}


def test_languages_of_one_folder_stay_translations_of_the_same_texts(tmp_path: Path) -> None:
    run(Book(), tmp_path)
    moved = [Prompt("a", "en", PROMPTS[2].text), *PROMPTS[1:]]
    settings = {"made_from": "p.jsonl", "max_usd": None, "say": lambda line: None}
    with pytest.raises(ConfigError, match="have changed since es was made"):
        translate_prompts(lambda: iter(moved), Book(), "en", ["fr"], tmp_path, **settings)  # type: ignore[arg-type]
    assert run(Book(), tmp_path, moved)["es"].translated == 3
    (tmp_path / "fr.jsonl").write_text("mine")
    with pytest.raises(ConfigError, match="was not made by this command"):
        translate_prompts(lambda: iter(moved), Book(), "en", ["fr"], tmp_path, **settings)  # type: ignore[arg-type]
    assert (tmp_path / "fr.jsonl").read_text() == "mine"


def test_what_is_paid_by_the_character_is_not_sent_again_unchanged(tmp_path: Path) -> None:
    prompts = [Prompt("a", "en", "A sentence that is not in the book.")]
    for price, times in ((20.0, 1), (None, 2)):
        book = Book(price=price)
        run(book, tmp_path / str(times), prompts)
        assert book.asked == [prompts[0].text] * times


def test_a_folder_of_something_else_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "es.jsonl").write_text("mine")
    with pytest.raises(ConfigError, match="was not made by this command"):
        run(Book(), tmp_path)
    run(Book(), tmp_path / "new")
    with pytest.raises(ConfigError, match=r"holds a translation of p\.jsonl"):
        run(Book(), tmp_path / "new", made_from="other.jsonl")


# --- the command with Google's client


def source_file(tmp_path: Path, texts: Iterable[str]) -> Path:
    path = tmp_path / "source.jsonl"
    path.write_text("".join(json.dumps({"id": n, "instruction": text}) + "\n" for n, text in enumerate(texts)))
    return path


def google(tmp_path: Path, server: GoogleServer, texts: Iterable[str], *more: str) -> Any:
    command = ["prompts", "localize", str(source_file(tmp_path, texts)), "--to", "es,zh", "--project", "p", "--out",
               str(tmp_path / "out"), "--api-endpoint", server.url, *more]  # fmt: skip
    return CliRunner().invoke(app, command)


def in_target(text: str, target: str) -> str:
    start = {"es": "Esta es la pregunta que tienes que responder:", "zh-CN": "这是您需要回答的问题："}[target]
    return f"{start} {text.split(':')[-1]}"


def test_google_translates_in_batches_within_its_limits(tmp_path: Path) -> None:
    texts = [f"This is the question that you have to answer: {n} {{x}}" for n in range(1030)]
    with GoogleServer(translate=in_target).run() as server:
        result = google(tmp_path, server, texts, "--to", "es")
        assert result.exit_code == 0, result.exception
    assert [row["instruction"] for row in rows(tmp_path / "out" / "es.jsonl")][7].endswith("7 {x}")
    assert set(server.paths) == {"/v3/projects/p/locations/global:translateText?%24alt=json%3Benum-encoding%3Dint"}
    first = server.requests[0]
    assert (first["mimeType"], first["sourceLanguageCode"], first["targetLanguageCode"]) == ("text/plain", "en", "es")
    assert "__0__" in first["contents"][0] and all(len(body["contents"]) <= 1024 for body in server.requests)
    assert "characters" in result.stderr and "USD" in result.stderr


def test_a_quota_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lidr.commands.prompts.translators.google._RETRY_S", 2.0)
    with GoogleServer(translate=in_target, refuse=lambda number: 429 if number == 1 else 0).run() as server:
        assert google(tmp_path, server, ["Is this the question?"]).exit_code == 0
    assert len(server.requests) == 3


@pytest.mark.parametrize(("status", "message"), [(429, "quota is used up"), (403, "as asked"), (400, "as asked")])
def test_what_google_refuses_ends_the_command_and_what_was_paid_is_kept(
    status: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lidr.commands.prompts.translators.google._RETRY_S", 0.5)
    with GoogleServer(translate=in_target, refuse=lambda number: status if number > 1 else 0).run() as server:
        result = google(tmp_path, server, ["Is this the question?"])
        assert isinstance(result.exception, EngineError) and message in str(result.exception)
        server.refuse = lambda number: 0
        before = len(server.requests)
        assert google(tmp_path, server, ["Is this the question?"]).exit_code == 0
        assert [body["targetLanguageCode"] for body in server.requests[before:]] == ["zh-CN"]


def test_a_missing_project_and_a_low_limit_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    with GoogleServer().run() as server:
        result = google(tmp_path, server, ["Is this the question?"], "--max-usd", "0.0000001")
        assert "more than --max-usd" in str(result.exception)
        command = ["prompts", "localize", str(tmp_path / "source.jsonl"), "--to", "es", "--api-endpoint", server.url]
        assert "GOOGLE_CLOUD_PROJECT" in str(CliRunner().invoke(app, command).exception)
        assert not server.requests


# --- the command with language models


def by_the_book(body: dict[str, Any]) -> Reply:
    """A served model that knows the book, and that leaves a placeholder alone only where it is told to."""
    asked = body["messages"][-2 if body["messages"][-1]["role"] == "assistant" else -1]["content"]
    text = asked.partition("<sentence>\n")[2].partition("\n</sentence>")[0]
    said = SPANISH.get(text, "I cannot do that, I am sorry.")
    if "exactly as they are:\n{term}" not in asked:
        said = said.replace("{term}", "el término")
    return Reply(f"<translated>\n{said}\n</translated>")


def test_a_served_model_translates_by_the_tag_protocol(tmp_path: Path) -> None:
    source = tmp_path / "questions.jsonl"
    texts = [*list(SPANISH)[:2], "Tell me what is not in the book of phrases."]
    source.write_text("".join(json.dumps({"qid": f"q{n}", "query": text}) + "\n" for n, text in enumerate(texts)))
    with TestServer(by_the_book) as server:
        command = ["prompts", "localize", str(source), "--field", "id=qid", "--field", "text=query", "--to", "es",
                   "--with", "model", "--model", "m", "--base-url", server.base_url,
                   "--out", str(tmp_path / "out")]  # fmt: skip
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.exception
        sent = server.counters.requests
        assert CliRunner().invoke(app, command).exit_code == 0 and server.counters.requests == sent
    assert [(row["id"], row["instruction"]) for row in rows(tmp_path / "out" / "es.jsonl")] == [
        ("q0", SPANISH[texts[0]]), ("q1", SPANISH[texts[1]]),
    ]  # fmt: skip
    aside = rows(tmp_path / "out" / "es.failed.jsonl")
    assert aside == [{"id": "q2", "reason": "not_translated", "offered": "I cannot do that, I am sorry."}]
    assert "1 prompt set aside" in result.stderr and "of which retried" in result.stdout


def test_the_output_is_what_a_recipe_takes(tmp_path: Path) -> None:
    run(Book(), tmp_path, [*PROMPTS, Prompt("d", "en", "A sentence that is not in the book.")])
    prompts = {"path": str(tmp_path), "on_missing": "skip"}
    found = load_prompts(make_config(tmp_path, languages=["en", "es"], prompts=prompts))
    assert [(prompt.prompt_id, prompt.language) for prompt in found] == [
        *((prompt_id, language) for prompt_id in "abc" for language in ("en", "es")), ("d", "en"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--with", "deepl"], "use ctranslate2 or google or model"),
        (["--with", "model"], "--model is missing"),
        (["--with", "model", "--model", "no/such/folder"], "no/such/folder"),
        (["--with", "model", "--model", "lab", "--set", "bach_size=3"], "bach_size"),
        (["--with", "model", "--model", "lab", "--set", "engine.bach_size=3"], "--set bach_size"),
        (["--to", "xx"], "unknown language"),
    ],
)
def test_wrong_options_name_the_way_out(options: list[str], message: str, tmp_path: Path) -> None:
    source = source_file(tmp_path, ["Is this the question?"])
    command = ["prompts", "localize", str(source), "--to", "es", "--out", str(tmp_path / "o"), *options]
    result = CliRunner().invoke(app, command)
    assert message in str(result.exception)
