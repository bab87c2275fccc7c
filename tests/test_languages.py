"""The language table: complete, and every instruction in its own language and script."""

from __future__ import annotations

import unicodedata

import pytest

from lidr.language_id import LanguageIdentifier
from lidr.languages import LANGUAGES, get_language

SCRIPTS = {"Han": {"CJK"}, "Japanese": {"CJK", "HIRAGANA", "KATAKANA"}}


@pytest.mark.parametrize("code", sorted(LANGUAGES))
def test_every_line_is_complete_and_in_its_language(code: str) -> None:
    language = LANGUAGES[code]
    assert language.answer_instruction.count("{question}") == 1
    assert language.name and language.own_name and language.translation_words
    assert all(word == word.lower() for word in language.translation_words)
    text = language.answer_instruction.replace("{question}", "").strip()
    allowed = SCRIPTS.get(language.script, {language.script.upper()})
    for written in (text, language.own_name, "".join(language.translation_words)):
        assert {unicodedata.name(letter).split()[0] for letter in written if letter.isalpha()} <= allowed
    assert LanguageIdentifier.among([code]).identify(text) == code
    # Beside Bulgarian and Ukrainian the Russian one is 0.71 sure; its wording is that of earlier results and stays.
    assert LanguageIdentifier(list(LANGUAGES)).identify(text) == (None if code == "ru" else code)


def test_the_table_has_thirty_languages_and_no_code_twice() -> None:
    assert len(LANGUAGES) >= 30
    assert all(len(code) == 2 and len(language.iso3) == 3 for code, language in LANGUAGES.items())
    for values in ({language.iso3 for language in LANGUAGES.values()}, {entry.name for entry in LANGUAGES.values()}):
        assert len(values) == len(LANGUAGES)


def test_a_run_with_portuguese_tells_it_from_spanish() -> None:
    text = "Qual é a capital do país em que as pessoas mais falam português hoje em dia?"
    assert LanguageIdentifier.among(["es", "pt"]).identify(text) == "pt"
    assert LanguageIdentifier.among(["es"]).identify(text) != "pt"


def test_an_unknown_language_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown language 'xx'; known are: en es"):
        get_language("xx")


@pytest.mark.parametrize("text", ["42", "x = 7", "```python\nprint('hello world, my friends')\n```", "", "OK"])
def test_what_is_no_language_is_undecided(text: str) -> None:
    assert LanguageIdentifier(["en", "es"]).identify(text) is None


def test_one_candidate_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two"):
        LanguageIdentifier(["en"])
