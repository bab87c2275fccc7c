"""Translations: the tag protocol, the rescue of long answers, and no failure that looks like a text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lidr.engines.base import Completion, Request
from lidr.seals import is_sealed
from lidr.stages.translations import inputs, parse_guided, parse_translation, split_paragraphs
from lidr.strategies.translating import PREFILL, STOP
from tests.conftest import ToyEngine, ToyRun, make_config

SECOND = "and a second paragraph, of number 8"


def completion(text: str, finish_reason: Any = "stop", stopped_by: str | None = STOP) -> Completion:
    return Completion("0" * 16, text, finish_reason, stopped_by=stopped_by)


@pytest.mark.parametrize(
    ("made", "text", "failure", "recovered"),
    [
        (completion("hola\n"), "hola", None, None),
        (completion("<translated>\nhola"), "hola", None, None),  # the model repeats the tag it was given
        (completion("hola", stopped_by=None), "hola", None, "unclosed"),
        (completion("hola que", "length", None), None, "translation_cut_off", None),
        (completion(" \n"), None, "translation_empty", None),
        (completion("<sentence>hello</sentence> hola"), None, "translation_unparsed", None),
        (Completion("0" * 16, "", "error", error="too long"), None, "translation_error", None),
    ],
)
def test_parse(made: Completion, text: str | None, failure: str | None, recovered: str | None) -> None:
    assert parse_translation(made) == {"text": text, "failure": failure, "recovered": recovered, "tokens": 0}


def test_without_recovery_an_unclosed_translation_is_a_failure() -> None:
    assert parse_translation(completion("hola", stopped_by=None), recover=False)["failure"] == "translation_unparsed"


@pytest.mark.parametrize(
    ("text", "paragraphs"),
    [
        ("one\n\ntwo\n \nthree", ["one", "two", "three"]),
        ("- one\n- two", ["- one", "- two"]),
        ("a single line", ["a single line"]),
        ("\n\nled by blank lines\n\nend\n", ["led by blank lines", "end"]),
    ],
)
def test_split_paragraphs_loses_nothing(text: str, paragraphs: list[str]) -> None:
    parts = split_paragraphs(text)
    assert parts[0::2] == paragraphs
    assert "".join(parts) == text.strip()


def test_only_directions_that_a_pair_needs_are_translated(toy_run: ToyRun) -> None:
    toy_run.run("prompts", "responses", "translations")
    translations = {
        f"{source}-{target}": toy_run.rows(toy_run.run_dir.translations(1, source, target))
        for code in ("es", "fr", "de")
        for source, target in (("en", code), (code, "en"))
    }
    assert [len(translations[f"en-{code}"]) for code in ("es", "fr", "de")] == [6, 6, 6]
    back = {key: [row["prompt_id"] for row in rows] for key, rows in translations.items() if key.endswith("-en")}
    assert back == {"es-en": ["p0", "p3"], "fr-en": ["p1", "p4"], "de-en": ["p2", "p5"]}
    assert all(row["failure"] is None for rows in translations.values() for row in rows)


def test_requests_carry_the_protocol(toy_run: ToyRun) -> None:
    engine = toy_run.use(ToyEngine())
    toy_run.run("prompts", "responses", "translations")
    request = engine.asked[-1]
    assert request.prefill == PREFILL
    assert request.messages[0] == ("system", "You are a helpful assistant.")
    assert "<sentence>\n" in request.messages[1][1]


def test_the_text_may_come_before_the_request(toy_run: ToyRun) -> None:
    engine = toy_run.use(ToyEngine())
    toy_run.run("prompts", "responses", "translations")
    text_first = make_config(toy_run.prompts, translations={"text_first": True})
    toy_run.run("translations", config=text_first)
    before, after = (request.messages[1][1] for request in engine.asked[-36:][::18])
    assert before.endswith("\n</sentence>") and after.startswith("<sentence>\n")
    path = toy_run.run_dir.translations(1, "en", "es")
    assert is_sealed(path, inputs(text_first, toy_run.run_dir, 1, "en", "es"))
    assert not is_sealed(path, inputs(toy_run.config, toy_run.run_dir, 1, "en", "es"))


def test_a_guided_answer_is_asked_for_after_the_question_and_the_answer_in_the_dominant_language(
    toy_run: ToyRun,
) -> None:
    engine = toy_run.use(ToyEngine())
    guided = make_config(toy_run.prompts, pairs={"strategy": "guided"})
    toy_run.run("prompts", "responses", "translations", config=guided)
    path = toy_run.run_dir.translations(1, "en", "es")
    assert is_sealed(path, inputs(guided, toy_run.run_dir, 1, "en", "es"))
    rows = toy_run.rows(path)
    assert [row["failure"] for row in rows] == [None] * 6
    asked = [request for request in engine.asked if len(request.messages) == 4]
    request = next(request for request in asked if request.messages[-1][1].endswith("\n\nes: 2"))
    roles, texts = zip(*request.messages, strict=True)
    assert roles == ("system", "user", "assistant", "user")
    answer = next(row["text"] for row in toy_run.rows(toy_run.run_dir.responses(1, "en")) if row["prompt_id"] == "p2")
    assert texts[1:3] == ("en: 2", answer) and "in Spanish" in texts[3]
    assert not request.prefill and len(asked) == 24


@pytest.mark.parametrize(
    ("completion", "text", "failure"),
    [
        (Completion("1", " Son 7.\n", "stop"), "Son 7.", None),
        (Completion("1", "Son", "length"), None, "translation_cut_off"),
        (Completion("1", "", "error", error="no room"), None, "translation_error"),
        (Completion("1", " \n", "stop"), None, "translation_empty"),
    ],
)
def test_guided_answers_fail_by_their_reasons(completion: Completion, text: str | None, failure: str | None) -> None:
    assert parse_guided(completion) == {"text": text, "failure": failure, "recovered": None, "tokens": 0}


def test_a_cut_off_translation_is_rescued_paragraph_by_paragraph(toy_run: ToyRun) -> None:
    def two_paragraphs(request: Request, text: str) -> Completion | None:
        if request.messages[-1][1].startswith("en: "):
            return Completion(request.request_id, f"{text}\n\nparagraph two of number 8", "stop", 1, 1)
        if "\n\nparagraph two" in request.messages[-1][1]:
            return Completion(request.request_id, "cut", "length", 1, 1)
        return None

    toy_run.use(ToyEngine(fail=two_paragraphs))
    toy_run.run("prompts", "responses", "translations")
    rows = toy_run.rows(toy_run.run_dir.translations(1, "en", "es"))
    assert {row["recovered"] for row in rows} == {"paragraphs"}
    first, gap, second = rows[0]["text"].partition("\n\n")
    assert gap and "español" in first and second.startswith("La respuesta") and " 8 " in second
    assert not list(toy_run.run_dir.iteration(1).glob("3_translations/*partial*"))


def long_answers(whole: Callable[[str], str], piece: Callable[[str], str]) -> ToyEngine:
    """English answers have two paragraphs; `whole` and `piece` make the translations of both and of one."""

    def completion(request: Request, text: str) -> Completion | None:
        asked = request.messages[-1][1]
        if asked.startswith("en: "):
            return Completion(request.request_id, f"{text}\n\n{SECOND}", "stop", 1, 1)
        if SECOND not in asked or "into Spanish" not in asked:
            return None
        source = asked.partition("<sentence>\n")[2].partition("\n</sentence>")[0]
        made = whole(source) if "\n\n" in source else piece(source)
        return Completion(request.request_id, made, "stop", 1, 1, stopped_by=STOP)

    return ToyEngine(fail=completion)


@pytest.mark.parametrize(
    "whole",
    [lambda source: "8", lambda source: source, lambda source: f"los dos <translated>{source}"],
    ids=["its sum alone", "the text itself", "a second beginning"],
)
def test_what_did_not_come_back_translated_is_rescued_too(toy_run: ToyRun, whole: Callable[[str], str]) -> None:
    toy_run.use(long_answers(whole, lambda source: "el segundo, del número 8"))
    toy_run.run("prompts", "responses", "translations")
    rows = toy_run.rows(toy_run.run_dir.translations(1, "en", "es"))
    assert {row["recovered"] for row in rows} == {"paragraphs"}
    assert all("español" in row["text"] and row["text"].endswith("\n\nel segundo, del número 8") for row in rows)


def test_a_sum_up_that_paragraphs_cannot_mend_is_no_translation(toy_run: ToyRun) -> None:
    engine = toy_run.use(long_answers(lambda source: "8", lambda source: " "))
    toy_run.run("prompts", "responses", "translations", "pairs")
    rows = toy_run.rows(toy_run.run_dir.translations(1, "en", "es"))
    assert {(row["text"], row["failure"]) for row in rows} == {(None, "translation_shortened")}
    dropped = toy_run.rows(toy_run.run_dir.dropped(1))
    assert sum((row["language"], row["reason"]) == ("es", "translation_shortened") for row in dropped) == 6
    asked = len(engine.asked)
    toy_run.run("translations")
    assert len(engine.asked) == asked


def test_what_comes_back_unchanged_twice_is_kept_for_the_language_gate(toy_run: ToyRun) -> None:
    toy_run.use(long_answers(lambda source: source, lambda source: " "))
    toy_run.run("prompts", "responses", "translations")
    rows = toy_run.rows(toy_run.run_dir.translations(1, "en", "es"))
    assert all(SECOND in row["text"] and row["failure"] is None for row in rows)


def test_what_cannot_be_rescued_is_dropped_with_its_reason(toy_run: ToyRun) -> None:
    def always_cut(request: Request, text: str) -> Completion | None:
        return Completion(request.request_id, "endless", "length", 1, 1) if "into German" in text_of(request) else None

    def text_of(request: Request) -> str:
        return request.messages[-1][1]

    toy_run.use(ToyEngine(fail=always_cut))
    toy_run.run("prompts", "responses", "translations", "pairs")
    rows = toy_run.rows(toy_run.run_dir.translations(1, "en", "de"))
    assert {(row["text"], row["failure"]) for row in rows} == {(None, "translation_cut_off")}
    dropped = toy_run.rows(toy_run.run_dir.dropped(1))
    assert {(row["language"], row["reason"]) for row in dropped} == {("de", "translation_cut_off")}
    assert len(dropped) == 6


def test_truncated_and_failed_answers_are_not_translated(toy_run: ToyRun) -> None:
    def broken(request: Request, text: str) -> Completion | None:
        match request.messages[-1][1]:
            case "en: 1":
                return Completion(request.request_id, text, "length", 1, 1)
            case "en: 2":
                return Completion(request.request_id, "  ", "stop", 1, 1)
        return None

    toy_run.use(ToyEngine(fail=broken))
    toy_run.run("prompts", "responses", "translations", "pairs")
    rows = toy_run.rows(toy_run.run_dir.translations(1, "en", "es"))
    assert [row["prompt_id"] for row in rows] == ["p0", "p3", "p4", "p5"]
    reasons = {row["prompt_id"]: row["reason"] for row in toy_run.rows(toy_run.run_dir.dropped(1))}
    assert reasons == {"p1": "truncated", "p2": "response_empty"}


def test_an_engine_that_dies_loses_only_what_it_had_not_finished(toy_run: ToyRun) -> None:
    toy_run.use(ToyEngine(stop_after=9))
    with pytest.raises(ConnectionError):
        toy_run.run("prompts", "responses")
    engine = toy_run.use(ToyEngine())
    toy_run.run("responses")
    assert len(engine.asked) == 24 - 9
    interrupted = [toy_run.run_dir.responses(1, code).read_bytes() for code in toy_run.config.languages]
    for code in toy_run.config.languages:
        toy_run.run_dir.responses(1, code).unlink()
    toy_run.run("responses")
    assert [toy_run.run_dir.responses(1, code).read_bytes() for code in toy_run.config.languages] == interrupted


def test_a_changed_limit_asks_only_for_the_new_prompts(toy_run: ToyRun) -> None:
    few = make_config(toy_run.prompts, prompts={"path": str(toy_run.prompts), "limit": 4})
    toy_run.run("prompts", "responses", config=few)
    engine = toy_run.use(ToyEngine())
    toy_run.run("prompts", "responses")
    assert sorted({request.messages[-1][1].partition(": ")[2] for request in engine.asked}) == ["4", "5"]
