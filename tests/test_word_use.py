"""Words of the other language within a sentence: half-translated texts are distinguished from clean ones."""

from __future__ import annotations

import pytest

from lidr.word_use import WordUse, count_words

ENGLISH = [
    "Lee mows the lawn on Monday and earns 33 dollars for mowing. How much did Lee earn last week?",
    "Lee earned 33 dollars by mowing lawns last week, so the total is 33 dollars.",
    "Anna buys six pads for the heating, and she pays for the pads with a total of 10 dollars.",
] * 3
SPANISH = [
    "Lee corta el césped el lunes y gana 33 dólares por cortar. ¿Cuánto ganó Lee la semana pasada?",
    "Lee ganó 33 dólares cortando el césped la semana pasada, así que el total es 33 dólares.",
    "Anna compra seis almohadillas para la calefacción, y paga por las almohadillas un total de 10 dólares.",
] * 3
CHINESE = ["李上周割草赚了33美元。", "安娜买了六个垫子，总共花了10美元。"] * 3
USE = WordUse(count_words(SPANISH), count_words(ENGLISH))


@pytest.mark.parametrize(
    ("text", "foreign"),
    [
        ("Lee ganó mowing lawns last semana, total 33", ["mowing", "lawns", "last"]),
        ("Lee ganó 33 dólares. Anna compra almohadillas.", []),
        ("Una palabra desconocida: zanahoria.", []),
        ("", []),
    ],
)
def test_foreign_words_are_those_that_only_the_other_language_uses(text: str, foreign: list[str]) -> None:
    assert USE.foreign_words(text) == foreign


def test_formulas_and_variables_are_no_words() -> None:
    english = [
        r"Let \(x\) be the price, so \(3 \times x = 9\) and \(x = \frac{9}{3}\), and \(y\) is \(2 \times x\)"
    ] * 9
    use = WordUse(count_words(SPANISH), count_words(english))
    assert use.foreign_words(r"Sea \(x\) el precio: \(3 \times x = \text{price}\), \(\frac{9}{3}\)") == ["price"]


def test_names_and_shared_words_are_nobodys() -> None:
    assert USE.foreign_share("Lee, Anna, total") == 0.0


def test_the_share_is_of_all_words() -> None:
    assert USE.foreign_share("Lee ganó mowing lawns last semana") == 3 / 6
    assert USE.foreign_share("12 + 3 = 15") == 0.0


def test_a_script_without_spaces_counts_by_its_letters() -> None:
    use = WordUse(count_words(CHINESE), count_words(ENGLISH))
    assert use.foreign_share("李上周割草赚了33美元。") == 0.0
    assert use.foreign_share("李上周 mowing 赚了 dollars") == 2 / 7


def test_a_longer_text_in_the_other_language_makes_no_word_foreign() -> None:
    """Frequencies are relative: the same texts ten times over say the same."""
    use = WordUse(count_words(SPANISH), count_words(ENGLISH * 10))
    assert use.foreign_words("Lee ganó 33 dólares, total Anna mowing") == ["mowing"]


def test_without_texts_nothing_is_foreign() -> None:
    assert WordUse(count_words([]), count_words([])).foreign_share("mowing lawns") == 0.0
