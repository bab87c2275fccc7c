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
    scripts = {unicodedata.name(letter).split()[0] for letter in text if letter.isalpha()}
    assert scripts <= SCRIPTS.get(language.script, {language.script.upper()})
    assert LanguageIdentifier(list(LANGUAGES)).identify(text) == code


def test_an_unknown_language_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown language 'xx'; known are: en es"):
        get_language("xx")


@pytest.mark.parametrize("text", ["42", "x = 7", "```python\nprint('hello world, my friends')\n```", "", "OK"])
def test_what_is_no_language_is_undecided(text: str) -> None:
    assert LanguageIdentifier(["en", "es"]).identify(text) is None


def test_one_candidate_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two"):
        LanguageIdentifier(["en"])
