"""Pairs: who is chosen and rejected, which gate stops what, and every prompt accounted for."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lidr.config import Config, GatesConfig, dump_config, load_config
from lidr.engines.base import Completion, Request
from lidr.lab import MODEL_PATH
from lidr.languages.identification import LanguageIdentifier
from lidr.models import end_of_turn_ids, load_tokenizer
from lidr.records import Dropped, PreferencePair, Prompt
from lidr.seals import input_changes
from lidr.stages import pairs
from lidr.stages.pairs import (
    ends_in_loop,
    make_pair,
    most_repeated_line,
    read_summary,
    similarity,
    switched_language,
)
from lidr.stages.training import _LABELS, _tokenize_pair
from lidr.strategies.base import Candidate, Original, Side, draws_of, is_translation_task, strategy_of
from lidr.strategies.imbalance import rejected_sources
from lidr.word_use import WordUse, count_words
from tests.conftest import ToyEngine, ToyRun, make_config

SPANISH = "La respuesta correcta es que el agua hierve a cien grados al nivel del mar."
OTHER_SPANISH = "Hierve cuando alcanza unos noventa grados, según dicen algunas personas mayores."
ENGLISH = "The right answer is that water boils at one hundred degrees at sea level."
IDENTIFIER = LanguageIdentifier(["en", "es", "fr"])
REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "msvamp"


def gate(chosen: str, rejected: str, any_language: bool = False, **gates: Any) -> str | None:
    """The reason for which a Spanish pair is dropped, or None."""
    prompt = Prompt("p", "es", "¿A qué temperatura hierve el agua?")
    sides = Side(chosen, "en->es"), Side(rejected, "es")
    candidate = Candidate("p", "es", "non_dominant", prompt, *sides, any_language)
    outcome = make_pair(candidate, GatesConfig(**gates), IDENTIFIER)
    return outcome.reason if isinstance(outcome, Dropped) else None


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason", "off"),
    [
        (SPANISH, OTHER_SPANISH, None, {}),
        (SPANISH, SPANISH, "identical", {"identical": False, "max_similarity": None}),
        (SPANISH, f"{SPANISH}  ", "near_identical", {"max_similarity": None}),
        (SPANISH, f"{OTHER_SPANISH} " * 5 + "Fin.", "length_ratio", {"max_length_ratio": None}),
        (SPANISH, "Sí.\nNo.\n" * 5 + SPANISH, "repeated_lines", {"max_line_repeats": None}),
        (SPANISH, "Hierve a " + "cien grados, " * 9, "loop", {"loops": False}),
        (ENGLISH, OTHER_SPANISH, "chosen_wrong_language", {"wrong_language": None}),
        (f"{SPANISH}\n{ENGLISH}", OTHER_SPANISH, "chosen_switches_language", {"wrong_lines": False}),
        (f"{SPANISH} {ENGLISH}", OTHER_SPANISH, "chosen_switches_language", {"wrong_lines": False}),
        (f"{SPANISH}\n{ENGLISH}", OTHER_SPANISH, "chosen_switches_language", {"wrong_language": None}),
    ],
)
def test_each_gate_stops_its_pair_and_can_be_switched_off(
    chosen: str, rejected: str, reason: str | None, off: dict[str, Any]
) -> None:
    assert gate(chosen, rejected) == reason
    assert gate(chosen, rejected, **off) is None


def test_a_rejected_side_in_the_wrong_language_is_dropped_on_request() -> None:
    assert gate(SPANISH, ENGLISH) is None
    assert gate(SPANISH, ENGLISH, wrong_language="either") == "rejected_wrong_language"
    assert gate(SPANISH, ENGLISH, wrong_language="either", any_language=True) is None


def test_too_short_to_tell_the_language_is_not_wrong() -> None:
    assert gate("100 °C", "90 °C") is None


def test_code_and_names_are_no_wrong_language() -> None:
    code = "def total(prices):\n    return sum(prices)\n\nprint(total([1, 2, 3]))"
    names = "Meryl Streep, Hugh Jackman, Sarah Jessica Parker, Viola Davis"
    assert gate(code, OTHER_SPANISH) is None
    assert gate(names, OTHER_SPANISH) is None


@pytest.mark.parametrize(
    "line",
    [
        "```\n# print all of the names that are in the list\nprint(names)\n```",
        "Meryl Streep, Hugh Jackman, Sarah Jessica Parker, Viola Davis",
        "\\[ \\text{the total number of kids} = 7 + 13 = 20 \\]",
        "7 + 13 = 20, 20 / 4 = 5, 5 * 2 = 10",
        "So it is: 100 °C",
    ],
)
def test_code_names_numbers_and_short_lines_are_no_switch(line: str) -> None:
    assert gate(f"{SPANISH}\n{line}", f"{OTHER_SPANISH}\n{OTHER_SPANISH[::-1]}") is None


def test_only_the_chosen_side_must_not_switch() -> None:
    mixed = f"{SPANISH}\n{ENGLISH}"
    assert gate(OTHER_SPANISH, mixed) is None
    assert gate(mixed, OTHER_SPANISH, any_language=True) is None


def test_a_prompt_that_asks_for_another_language_may_get_it() -> None:
    sides = Side(f"{SPANISH}\n{ENGLISH}", "en->es"), Side(OTHER_SPANISH, "es")
    for text, expected in (("Dilo en español y en inglés.", None), ("Dilo.", f"en: {ENGLISH[:80]}")):
        candidate = Candidate("p", "es", "non_dominant", Prompt("p", "es", text), *sides)
        outcome = make_pair(candidate, GatesConfig(), IDENTIFIER)
        assert (outcome.detail if isinstance(outcome, Dropped) else None) == expected


def test_pairs_made_before_there_was_the_gate_stay(toy_run: ToyRun) -> None:
    toy_run.run("prompts", "responses", "translations", "pairs")
    before = pairs.inputs(toy_run.config, toy_run.run_dir, 1)
    older = before | {"pairs": before["pairs"] | {"gates": dict(before["pairs"]["gates"])}}
    del older["pairs"]["gates"]["wrong_lines"]
    assert input_changes(older, before) == []
    off = make_config(toy_run.prompts, pairs={"gates": {"wrong_lines": False}})
    assert input_changes(older, pairs.inputs(off, toy_run.run_dir, 1)) == ["pairs.gates.wrong_lines: None -> False"]


def real_texts(code: str) -> list[str]:
    rows = (REAL / f"{code}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(row)["query"] for row in rows]


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the MSVAMP questions are not part of the project, and not in {REAL}")
@pytest.mark.parametrize("code", ["en", "es", "fr", "de", "ru", "zh", "ja", "th", "sw", "bn"])
def test_real_texts_pass_line_by_line_and_mixed_ones_do_not(code: str) -> None:
    def switched(text: str) -> bool:
        candidate = Candidate("p", code, "k", Prompt("p", code, "?"), Side(text, code), Side("x", code))
        return switched_language(text, candidate, GatesConfig(), identifier) is not None

    identifier, other = LanguageIdentifier.among([code]), "es" if code == "en" else "en"
    clean = real_texts(code)
    mixed = ["\n".join(both) for both in zip(clean[:100], real_texts(other)[100:200], strict=True)]
    assert sum(map(switched, clean)) <= 0.005 * len(clean)
    assert sum(map(switched, mixed)) >= 0.97 * len(mixed)


@pytest.mark.parametrize(
    ("chosen", "rejected", "gates", "reason"),
    [
        ("Le quedan 7 manzanas.", "Al final tiene 9 peras.", {}, None),
        ("Le quedan 7 manzanas.", "Al final tiene 9 peras.", {"result_kept": True, "results_differ": True}, None),
        ("Le quedan 8 manzanas.", "Al final tiene 9 peras.", {"result_kept": True}, "result_changed"),
        ("Le quedan manzanas.", "Al final tiene 9 peras.", {"result_kept": True}, "result_changed"),
        ("Le quedan 7 manzanas.", "Al final tiene 7 peras.", {"results_differ": True}, "same_result"),
        ("Le quedan 7 manzanas.", "Al final tiene 7 peras.", {"result_kept": True}, None),
        ("Le quedan manzanas.", "Al final tiene peras.", {"results_differ": True}, "same_result"),
        ("Le quedan 7 manzanas.", "Al final tiene peras.", {"results_differ": True}, None),
    ],
)
def test_final_numbers(chosen: str, rejected: str, gates: dict[str, bool], reason: str | None) -> None:
    sides = (
        Side(chosen, "en->es", made_from=Original("She has 1,007 - 1,000 = 7 apples left.", "en")),
        Side(rejected, "es"),
    )
    candidate = Candidate("p", "es", "non_dominant", Prompt("p", "es", "x"), *sides)
    outcome = make_pair(candidate, GatesConfig(**gates), IDENTIFIER)
    assert (outcome.reason if isinstance(outcome, Dropped) else None) == reason


def test_half_translated_sentences_are_dropped() -> None:
    use = {"es": WordUse(count_words([SPANISH, OTHER_SPANISH] * 3), count_words([ENGLISH] * 3))}
    mixed = SPANISH.replace("el agua hierve", "water boils").replace("nivel del mar", "sea level")
    candidate = Candidate(
        "p", "es", "non_dominant", Prompt("p", "es", "x"), Side(mixed, "en->es"), Side("No sé.", "es")
    )
    gates = {"max_length_ratio": None}
    assert isinstance(make_pair(candidate, GatesConfig(**gates), IDENTIFIER, {}), PreferencePair)
    assert isinstance(make_pair(candidate, GatesConfig(max_foreign_words=None), IDENTIFIER, use), Dropped)
    outcome = make_pair(candidate, GatesConfig(**gates), IDENTIFIER, use)
    assert outcome == Dropped("p", "es", "non_dominant", "chosen_mixed_languages", "water boils sea level")


def test_the_control_draws_the_sides_and_changes_nothing_else(toy_run: ToyRun) -> None:
    toy_run.run("prompts", "responses", "translations", "pairs")
    pairs = [row for code in toy_run.config.languages for row in toy_run.rows(toy_run.run_dir.pairs(1, code))]
    control = make_config(toy_run.prompts, pairs={"strategy": "random_sides"})
    toy_run.run("pairs", config=control)
    drawn = [row for code in toy_run.config.languages for row in toy_run.rows(toy_run.run_dir.pairs(1, code))]
    swapped = [row["chosen"] != other["chosen"] for row, other in zip(pairs, drawn, strict=True)]
    assert 0.2 < sum(swapped) / len(swapped) < 0.8
    for row, other, is_swapped in zip(pairs, drawn, swapped, strict=True):
        sides = [row["chosen"], row["rejected"], row["chosen_from"], row["rejected_from"]]
        found = [other["chosen"], other["rejected"], other["chosen_from"], other["rejected_from"]]
        assert found == ([sides[1], sides[0], sides[3], sides[2]] if is_swapped else sides)
        assert (row["prompt_id"], row["prompt"]) == (other["prompt_id"], other["prompt"])


def test_the_control_of_another_strategy_needs_what_that_one_needs(toy_run: ToyRun) -> None:
    strategy = {"type": "random_sides", "of": {"type": "verified_majority", "samples": 3}}
    config = make_config(toy_run.prompts, pairs={"strategy": strategy})
    assert draws_of(config).samples == 3
    assert load_config_again(config, toy_run.prompts.parent) == config
    assert strategy_of(config).meanings().keys() == {"no_majority", "no_sample_agrees", "no_sample_differs"}
    assert strategy_of(config).directions(config) == []


def load_config_again(config: Config, folder: Path) -> Config:
    file = folder / "again.yaml"
    file.write_text(dump_config(config), encoding="utf-8")
    return load_config(file)


def test_a_sides_own_problem_comes_first() -> None:
    prompt = Prompt("p", "es", "x")
    bad = Candidate(
        "p", "es", "non_dominant", prompt, Side(None, "en->es", "translation_empty"), Side("y", "es", "truncated")
    )
    outcome = make_pair(bad, GatesConfig(), IDENTIFIER)
    assert outcome == Dropped("p", "es", "non_dominant", "translation_empty", "en->es")


@pytest.mark.parametrize(
    ("text", "loops"),
    [
        ("so it goes on " * 6, True),
        ("Start. " + "ja " * 30, True),
        ("這是一個重複的句子，" * 8, True),
        ("| --- " * 40 + "|", False),
        ("a perfectly normal answer that ends once", False),
        ("one two " * 4, False),
        ("very, very, very, very, very good", False),
        ("x", False),
        ("", False),
    ],
)
def test_loops(text: str, loops: bool) -> None:
    assert ends_in_loop(text) is loops


def test_repeated_lines_ignore_rules_and_blank_lines() -> None:
    assert most_repeated_line("---\n" * 9 + "\n" * 9 + "a\na\nb") == 2


def test_similarity_works_without_spaces() -> None:
    assert similarity("我喜欢吃苹果和香蕉", "我喜欢吃苹果和香蕉") == 1.0
    assert similarity("我喜欢吃苹果和香蕉", "今天天气非常好适合散步") < 0.1
    assert similarity("a b c d", "a b c e") == 3 / 5


def test_the_dominant_languages_rejected_side_rotates() -> None:
    others = ["es", "fr", "de"]
    assert [rejected_sources(position, others, "one") for position in range(4)] == [["es"], ["fr"], ["de"], ["es"]]
    assert rejected_sources(0, others, "all") == others
    assert rejected_sources(5, others, "de") == ["de"]
    assert rejected_sources(5, others, "none") == []
    assert rejected_sources(5, [], "one") == []


def test_pairs_are_the_papers(toy_run: ToyRun) -> None:
    toy_run.run("prompts", "responses", "translations", "pairs")
    spanish = PreferencePair.from_dict(toy_run.rows(toy_run.run_dir.pairs(1, "es"))[2])
    assert (spanish.prompt_id, spanish.prompt) == ("p2", "es: 2")
    assert spanish.chosen.endswith("número 2 translated twice over")
    assert spanish.rejected.endswith("número 2 own es")
    assert (spanish.chosen_from, spanish.rejected_from) == ("en->es", "es")
    english = PreferencePair.from_dict(toy_run.rows(toy_run.run_dir.pairs(1, "en"))[2])
    assert english.chosen.endswith("number 2 own en")
    assert english.rejected.endswith("number 2 translated twice over")
    assert (english.kind, english.chosen_from, english.rejected_from) == ("dominant", "en", "de->en")


@pytest.mark.parametrize(("policy", "dominant"), [("one", 6), ("all", 18), ("fr", 6), ("none", 0)])
def test_every_prompt_ends_in_a_pair_or_under_one_reason(toy_run: ToyRun, policy: str, dominant: int) -> None:
    def unruly(request: Request, text: str) -> Completion | None:
        content = request.messages[-1][1]
        if "into French" in content and " 3 " in content:
            return Completion(request.request_id, "<sentence>", "stop", 1, 1)
        if content == "de: 4":
            return Completion(request.request_id, text, "length", 1, 1)
        return None

    toy_run.use(ToyEngine(fail=unruly))
    config = make_config(toy_run.prompts, pairs={"dominant_rejected": policy})
    toy_run.run("prompts", "responses", "translations", "pairs", config=config)
    made = [row for code in config.languages for row in toy_run.rows(toy_run.run_dir.pairs(1, code))]
    dropped = toy_run.rows(toy_run.run_dir.dropped(1))
    counts = Counter(row["language"] for row in made + dropped)
    assert counts == Counter({"en": dominant, "es": 6, "fr": 6, "de": 6}) - Counter()
    assert len({(row["prompt_id"], row["language"]) for row in made if row["language"] != "en"}) == 16
    summary = read_summary(toy_run.run_dir, 1)
    assert summary.dropped["fr"] == {"translation_unparsed": 1}
    assert summary.dropped["de"] == {"truncated": 1}
    assert summary.total == len(made)


def test_a_rejected_answer_that_was_cut_off_may_be_kept(toy_run: ToyRun) -> None:
    def cut_off(request: Request, text: str) -> Completion | None:
        content = request.messages[-1][1]
        return Completion(request.request_id, text, "length", 1, 1) if content in ("de: 4", "en: 1") else None

    toy_run.use(ToyEngine(fail=cut_off))
    config = make_config(toy_run.prompts, pairs={"gates": {"truncated": "chosen"}, "dominant_rejected": "none"})
    toy_run.run("prompts", "responses", "translations", "pairs", config=config)
    german = {row["prompt_id"]: row for row in toy_run.rows(toy_run.run_dir.pairs(1, "de"))}
    assert set(german) == {"p0", "p2", "p3", "p4", "p5"}  # of p1 there is no English answer to learn from
    assert [key for key, row in german.items() if row["rejected_cut_off"]] == ["p4"]
    assert not any(row["chosen_cut_off"] for row in german.values())
    assert read_summary(toy_run.run_dir, 1).dropped["de"] == {"truncated": 1}


def test_what_was_cut_off_is_not_trained_to_end() -> None:
    tokenizer = load_tokenizer(MODEL_PATH)
    end_ids = end_of_turn_ids(MODEL_PATH, tokenizer)
    pair = {
        "prompt_id": "p",
        "language": "es",
        "kind": "non_dominant",
        "prompt": "Hola",
        "chosen": "Sí.",
        "rejected": "No lo",
    }
    config = load_config("quickstart")
    pair |= dict.fromkeys(set(_LABELS) - set(pair), "")
    whole = _tokenize_pair(config, tokenizer, end_ids, pair)
    cut = _tokenize_pair(config, tokenizer, end_ids, pair | {"rejected_cut_off": True})
    assert whole["rejected_ids"][-1] in end_ids and cut["rejected_ids"] == whole["rejected_ids"][:-1]
    assert cut["chosen_ids"] == whole["chosen_ids"] and cut["chosen_ids"][-1] in end_ids


def test_prompts_that_a_language_lacks_are_counted(toy_run: ToyRun) -> None:
    for code, lacking in (("fr", "p1"), ("en", "p5")):
        path = toy_run.prompts / f"{code}.jsonl"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if f'"{lacking}"' not in line))
    config = make_config(toy_run.prompts, prompts={"path": str(toy_run.prompts), "on_missing": "skip"})
    toy_run.run("prompts", "responses", "translations", "pairs", config=config)
    dropped = toy_run.rows(toy_run.run_dir.dropped(1))
    assert {(row["prompt_id"], row["language"], row["reason"]) for row in dropped} == {
        ("p1", "fr", "prompt_missing"),
        *(("p5", code, "prompt_missing") for code in config.languages),
    }


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("Translate this sentence into French: hello", "en", True),
        ("Übersetze den folgenden Satz", "de", True),
        ("把下面的句子翻译成英文", "zh", True),
        ("What is the boiling point of water?", "en", False),
    ],
)
def test_translation_tasks_are_recognised(text: str, language: str, expected: bool) -> None:
    assert is_translation_task(Prompt("p", language, text)) is expected


@pytest.mark.parametrize("policy", ["drop", "keep_source", None])
def test_translation_tasks_follow_their_policy(toy_run: ToyRun, policy: str | None) -> None:
    path = toy_run.prompts / "en.jsonl"
    path.write_text(path.read_text().replace('"en: 0"', '"en: 0 translate"'))
    config = make_config(toy_run.prompts, pairs={"gates": {"translation_tasks": policy, "max_length_ratio": None}})
    toy_run.run("prompts", "responses", "translations", "pairs", config=config)
    dropped = {(row["prompt_id"], row["reason"]) for row in toy_run.rows(toy_run.run_dir.dropped(1))}
    first = [row for row in toy_run.rows(toy_run.run_dir.pairs(1, "es")) if row["prompt_id"] == "p0"]
    if policy == "drop":
        assert dropped == {("p0", "translation_task")} and not first
    elif policy == "keep_source":
        assert first[0]["chosen_from"] == "en" and "English language" in first[0]["chosen"]
    else:
        assert first[0]["chosen_from"] == "en->es"
