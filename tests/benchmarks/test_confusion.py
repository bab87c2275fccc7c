"""Language confusion: lines and words in another language, and what only looks like it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lidr.benchmarks.shared.pass_rates import pass_rates
from lidr.languages import LANGUAGES
from lidr.languages.confusion import Confusion, check_answer
from lidr.languages.identification import LanguageIdentifier
from lidr.statistics import wilson_interval

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "mgsm"
IDENTIFIER = LanguageIdentifier()


def check(text: str, language: str) -> Confusion:
    return check_answer(text, language, IDENTIFIER)


@pytest.mark.parametrize("code", sorted(LANGUAGES))
def test_every_language_passes_in_itself_and_is_wrong_in_another(code: str) -> None:
    text = LANGUAGES[code].answer_instruction.replace("{question}", "").strip()
    identifier = LanguageIdentifier.among([code])
    assert check_answer(text, code, identifier) == Confusion(1, 0, (), ())
    other = "en" if code != "en" else "es"
    assert check_answer(text, other, identifier) == Confusion(1, 0, ((text, code),), ())


def test_one_wrong_line_is_found_among_right_and_short_ones() -> None:
    wrong = "So the answer to your question is five apples."
    text = f"# Antwort\n\nAm Ende des Tages hat sie noch drei Äpfel im Korb.\n\n{wrong}\n\nViele Grüße"
    assert check(text, "de") == Confusion(2, 0, ((wrong, "en"),), ())


def test_a_paragraph_that_switches_half_way_is_found_by_its_sentences() -> None:
    german, wrong = (
        "Am Ende des Tages hat sie noch drei Äpfel im Korb.",
        "So she still has three of the apples in her basket.",
    )
    text = f"{german} Viele Grüße! {german} {wrong}"
    assert not check(text, "de").wrong_lines
    assert check_answer(text, "de", IDENTIFIER, by_sentence=True) == Confusion(3, 0, ((wrong, "en"),), ())


def test_a_line_without_two_longer_sentences_is_read_as_a_whole() -> None:
    text = "Chelsea a 24 kilos de sucre. Elle les divise en 4 sacs de manière égale."
    assert check(text, "fr") == check_answer(text, "fr", IDENTIFIER, by_sentence=True) == Confusion(1, 0, (), ())


@pytest.mark.parametrize(
    "text",
    [
        "Die Antwort steht hier unten im Text.\n```python\nfor word in the_list_of_words:\n    print(word)\n```",
        "Die Antwort steht hier unten im Text.\n$the price of all the apples$",
        "Die Antwort steht hier unten im Text.\nhttps://example.com/this/is/the/page",
        "Die Antwort steht hier unten im Text.\n8. **The Boy from Oz** by Peter Allen (1998)",
        "Die Antwort steht hier unten im Text.\nMeryl Streep, Hugh Jackman, Sarah Jessica Parker",
        "Die Antwort steht hier unten im Text.\n- the next one",
    ],
)
def test_code_links_names_and_short_lines_are_no_confusion(text: str) -> None:
    assert not check(text, "de").wrong_lines
    assert check(text, "de").lines == 1


def test_prices_are_no_formulas() -> None:
    text = "She sells them at $2 each, or $18 a day."
    assert check(text, "ru").wrong_lines == ((text, "en"),)


def test_japanese_without_kana_is_undecided_but_chinese_is_wrong() -> None:
    assert check("材料費、人件費、交通費、通信費", "ja") == Confusion(0, 1, (), ())
    assert check("因此，她每天在市场上赚18美元。", "ja").wrong_lines == (("因此，她每天在市场上赚18美元。", "zh"),)
    assert check("したがって、彼女は毎日18ドルを稼ぎます。", "zh").wrong_lines[0][1] == "ja"


@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        ("ru", "Давайте посчитаем total количество яблок у них", ("total",)),
        ("ru", "Она использовалаhouse для своих целей, и house тоже", ("house",)),
        ("zh", "我们需要consider所有因素才能回答这个问题", ("consider",)),
        ("ja", "彼女は毎日市場でapplesを五個買っています。", ("apples",)),
        ("ko", "그는 매일 아침 apples를 다섯 개 먹습니다", ("apples",)),
        ("th", "เขามี apples ทั้งหมดห้าลูกในตะกร้าของเขาแล้ว", ("apples",)),
        ("ar", "لدى سارة five apples في السلة وهي تريد المزيد", ("five", "apples")),
        ("bn", "সারার কাছে মোট পাঁচটি apples আছে এবং সে আরও চায়", ("apples",)),
        ("te", "సారా దగ్గర మొత్తం ఐదు apples ఉన్నాయి ఇంకా కావాలి", ("apples",)),
    ],
)
def test_foreign_words_are_found(language: str, text: str, words: tuple[str, ...]) -> None:
    assert check(text, language) == Confusion(1, 0, (), words)


@pytest.mark.parametrize(
    "phrase",
    [
        "iPhone", "NASA", "5 km/h", "120 kcal", "x", "main.py", "/usr/local/bin", "anna@example.com", "html",
        '"house"', "«table»", "“chair”", "(machine learning)", "online-курс", "`print`", "$price$",
        "\\frac{total}{price}", "print(value)", "total = price", "ctrl + shift", "Journey to the center of the Earth",
        "Homo sapiens", "www.example.org",
    ],
)  # fmt: skip
def test_what_is_no_foreign_word(phrase: str) -> None:
    assert check(f"Здесь мы говорим о том, что такое {phrase} и зачем это нужно.", "ru") == Confusion(1, 0, (), ())


def test_words_are_not_looked_for_in_latin_languages_nor_beside_wrong_lines() -> None:
    assert check("Wir haben heute in der Schule das Wort apples gelernt.", "de").wrong_words == ()
    text = "Давайте посчитаем total количество яблок у них\nSo the answer to your question is five apples."
    assert check(text, "ru").wrong_lines and check(text, "ru").wrong_words == ()


def test_pass_rates_follow_the_definition() -> None:
    right, wrong_line = Confusion(2, 0, (), ()), Confusion(3, 1, (("a line", "en"),), ())
    wrong_word, undecided = Confusion(1, 0, (), ("apples",)), Confusion(0, 1, (), ())
    answers = [*[right] * 6, *[wrong_word] * 2, *[wrong_line] * 2, *[undecided] * 3]
    assert pass_rates(answers, "ru").to_json() == {
        "lpr": 0.8, "wpr": 0.75, "lcpr": 0.7742,
        "ci95_lpr": [round(bound, 4) for bound in wilson_interval(8, 10)],
        "ci95_wpr": [round(bound, 4) for bound in wilson_interval(6, 8)],
        "n": 10, "undecided": 3, "undecided_lines": 3, "lines": 20,
    }  # fmt: skip


def test_pass_rates_are_none_where_undefined() -> None:
    right, wrong = Confusion(2, 0, (), ()), Confusion(1, 0, (("a line", "en"),), ())
    rates = pass_rates([right, wrong], "es").to_json()
    assert (rates["lpr"], rates["wpr"], rates["lcpr"], rates["ci95_wpr"]) == (0.5, None, None, None)
    rates = pass_rates([wrong], "ru").to_json()
    assert (rates["lpr"], rates["wpr"], rates["lcpr"]) == (0.0, None, None)
    rates = pass_rates([Confusion(1, 0, (), ("apples",))], "ru").to_json()
    assert (rates["lpr"], rates["wpr"], rates["lcpr"]) == (1.0, 0.0, 0.0)
    rates = pass_rates([check("42", "ru")], "ru").to_json()
    assert (rates["lpr"], rates["ci95_lpr"], rates["n"], rates["undecided"]) == (None, None, 0, 1)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the MGSM questions are not part of the project, and not in {REAL}")
@pytest.mark.parametrize("language", ["en", "es", "fr", "de", "ru", "zh", "ja"])
def test_no_false_alarm_on_the_real_questions(language: str) -> None:
    lines = (REAL / f"{language}.jsonl").read_text(encoding="utf-8").splitlines()
    rates = pass_rates([check(json.loads(line)["query"], language) for line in lines], language).to_json()
    assert rates["lpr"] == 1.0 and rates["wpr"] in (1.0, None)
    assert rates["undecided"] <= 2
