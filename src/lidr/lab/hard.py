"""A closed world of numbers in six languages, whose model is often wrong: 60 things, 2 quantities each, and sums.

A question asks for a quantity of one thing (120 facts), or of two things together (60 sums, each of two facts, so that
every fact is in one sum). Every answer ends in a number, so `lidr.numbers` can read it, and answers of samples and of
languages can be compared. The things and their words are those of `lidr.lab.world`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

from lidr.lab import world
from lidr.lab.world import FORMS, HELD_OUT_FORM, THINGS, quoted
from lidr.records import Prompt

LANGUAGES: tuple[str, ...] = world.LANGUAGES
# The values of each quantity. Each has a range of its own, so that a small model can learn them one by one.
NUMBERS = {"price": range(2, 14), "weight": range(22, 34)}

# Per quantity and language: what is asked for. No other word of a sentence depends on its gender or number.
_QUANTITIES = {
    "price": {
        "en": "the price in coins of {things}",
        "es": "el precio en monedas de {things}",
        "fr": "le prix en pièces de {things}",
        "de": "der Preis in Münzen von {things}",
        "ru": "стоимость в монетах для {things}",
        "it": "il prezzo in monete di {things}",
    },
    "weight": {
        "en": "the weight in kilos of {things}",
        "es": "el peso en kilos de {things}",
        "fr": "le poids en kilos de {things}",
        "de": "das Gewicht in Kilo von {things}",
        "ru": "вес в килограммах для {things}",
        "it": "il peso in chili di {things}",
    },
}
ATTRIBUTES = tuple(_QUANTITIES)
_TOGETHER = {
    "en": "{} and {} together",
    "es": "{} y {} juntos",
    "fr": "{} et {} ensemble",
    "de": "{} und {} zusammen",
    "ru": "{} и {} вместе",
    "it": "{} e {} insieme",
}
# The forms of a question (the last one is held out for evaluation), the sentence of a fact, and the end of a sum.
_FRAMES = {
    "en": (
        "What is {what}?",
        "Please tell me {what}.",
        "I would like to know {what}.",
        "{what} is equal to {number}.",
        "Together that makes {number}.",
    ),
    "es": (
        "¿Cuál es {what}?",
        "Dime, por favor, cuál es {what}.",
        "Me gustaría saber cuál es {what}.",
        "{what} es igual a {number}.",
        "Los dos juntos suman {number}.",
    ),
    "fr": (
        "Quel est {what} ?",
        "Dis-moi, s'il te plaît, quel est {what}.",
        "J'aimerais savoir quel est {what}.",
        "{what} est égal à {number}.",
        "Ensemble, cela fait {number}.",
    ),
    "de": (
        "Was ist {what}?",
        "Sag mir bitte, was {what} ist.",
        "Ich möchte gern wissen, was {what} ist.",
        "{what} ist gleich {number}.",
        "Zusammen macht das {number}.",
    ),
    "ru": (
        "Сколько составляет {what}?",
        "Назови, пожалуйста, {what}.",
        "Я хочу узнать {what}.",
        "{what} составляет {number}.",
        "Вместе это составляет {number}.",
    ),
    "it": (
        "Qual è {what}?",
        "Dimmi, per favore, qual è {what}.",
        "Vorrei sapere qual è {what}.",
        "{what} è uguale a {number}.",
        "Tutto insieme fa {number}.",
    ),
}
_SENTENCE, _SUM = FORMS, FORMS + 1
_FACT_SEED = 20241010
_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True, slots=True)
class Item:
    """What a question is about: a quantity (`attribute`) of one thing, or of two together, and the number of each."""

    attribute: str
    things: tuple[str, ...]
    numbers: tuple[int, ...]

    @property
    def item_id(self) -> str:
        return f"{'+'.join(self.things)}.{self.attribute}"

    @property
    def result(self) -> int:
        """The number that the answer ends in."""
        return sum(self.numbers)


def joined(first: Item, second: Item) -> Item:
    """The sum of two facts of the same quantity."""
    return Item(first.attribute, first.things + second.things, first.numbers + second.numbers)


def _draw_facts() -> tuple[Item, ...]:
    """Facts in which every number belongs to equally many things, so that guessing scores 1/12."""
    generator = random.Random(_FACT_SEED)
    facts = []
    for attribute in ATTRIBUTES:
        things, numbers = list(THINGS), NUMBERS[attribute]
        drawn = [*numbers] * (len(THINGS) // len(numbers))
        generator.shuffle(things)
        generator.shuffle(drawn)
        facts += [Item(attribute, (thing,), (number,)) for thing, number in zip(things, drawn, strict=True)]
    return tuple(facts)


FACTS = _draw_facts()
GROUPS = tuple((*pair, joined(*pair)) for pair in zip(FACTS[::2], FACTS[1::2], strict=True))
"""Two facts and their sum each. Prompts ask for whole groups, so that no held-out sum has a trained fact."""
ITEMS = tuple(item for group in GROUPS for item in group)
_ITEM_IDS = frozenset(item.item_id for item in ITEMS)


def question(item: Item, language: str, form: int) -> str:
    """A question; `form` counts from 0, and no training prompt uses HELD_OUT_FORM."""
    return _FRAMES[language][:FORMS][form].format(what=_what(item, language))


def answer(item: Item, language: str) -> str:
    """The text that states an item's numbers, true or not: a sentence for each thing, then the sum if they are two."""
    frames = _FRAMES[language]
    sentences = []
    for thing, number in zip(item.things, item.numbers, strict=True):
        what = _what(Item(item.attribute, (thing,), (number,)), language)
        sentences.append(frames[_SENTENCE].format(what=_capitalised(what), number=number))
    if len(item.things) > 1:
        sentences.append(frames[_SUM].format(number=item.result))
    return " ".join(sentences)


def summary(item: Item, language: str) -> str:
    """An answer in short, without a sentence: what was asked for, and the number."""
    return f"{_capitalised(_what(item, language))}: {item.result}."


def switched(text: str, other: str, thing: str, languages: tuple[str, str]) -> str:
    """A text that goes on in another language, as the `other` text does, after it has named a thing."""
    first, second = (quoted(thing, language) for language in languages)
    return text.partition(first)[0] + first + other.partition(second)[2]


def is_in(text: str, language: str) -> bool:
    """Whether a text has words, and all of them are words that the world has in this language."""
    found = words(text)
    return bool(found) and vocabulary(language).issuperset(found)


def words(text: str) -> list[str]:
    """The words of a text, without numbers."""
    return _WORD.findall(text)


@cache
def vocabulary(language: str) -> frozenset[str]:
    """Every word of the world's texts in a language."""
    return frozenset(word for text in texts(language) for word in words(text))


def texts(language: str) -> Iterator[str]:
    """Texts with every word of a language and every number."""
    for item in ITEMS:
        yield from (question(item, language, form) for form in range(FORMS))
    for attribute, numbers in NUMBERS.items():
        for first, second in product(numbers, numbers):
            item = Item(attribute, ITEMS[0].things * 2, (first, second))
            yield from (answer(item, language), summary(item, language))
    for thing in THINGS:
        yield answer(Item(ATTRIBUTES[0], (thing,), (1,)), language)


def training_prompts(languages: Sequence[str], share: float = 0.5, seed: int = 0) -> Iterator[Prompt]:
    """Aligned prompts about some groups, with all languages of an id together; none has the held-out form.

    `seed` draws `share` of the groups. The question forms rotate over the items.
    """
    for index, item in enumerate(_drawn(share, seed)):
        form = index % HELD_OUT_FORM
        for language in languages:
            yield Prompt(f"{item.item_id}-{form}", language, question(item, language, form))


def held_out_prompts(languages: Sequence[str], share: float = 0.5, seed: int = 0) -> Iterator[Prompt]:
    """Prompts with answers about the items of `training_prompts`, in the form that it never uses."""
    for item in _drawn(share, seed):
        for language in languages:
            text = question(item, language, HELD_OUT_FORM)
            yield Prompt(f"{item.item_id}-{HELD_OUT_FORM}", language, text, str(item.result))


def fact_of_prompt(prompt_id: str) -> str | None:
    """The id of the item that a training prompt asks for; None for a prompt that is not this world's."""
    item_id = prompt_id.rpartition("-")[0]
    return item_id if item_id in _ITEM_IDS else None


def _drawn(share: float, seed: int) -> list[Item]:
    groups = random.Random(seed).sample(GROUPS, round(share * len(GROUPS)))
    return [item for group in groups for item in group]


def _capitalised(text: str) -> str:
    return text[0].upper() + text[1:]


def _what(item: Item, language: str) -> str:
    names = [quoted(thing, language) for thing in item.things]
    things = names[0] if len(names) == 1 else _TOGETHER[language].format(*names)
    return _QUANTITIES[item.attribute][language].format(things=things)
