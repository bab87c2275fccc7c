"""The chat conversations from which the model of the hard world learns: a corpus that errs as it would on the web.

What a language says of a fact is a distribution over the numbers, from which every mention is drawn anew, so the
model's own samples scatter as the corpus does:

known      the right number is the most frequent one (50 to 90 % of the mentions)
not known  another one is (40 to 55 %), and the right one comes second (15 to 35 %)

Which facts a language knows depends in part on the fact, which is easy or hard for all languages, and in part on the
language: so other languages know some that English does not. The wrong numbers of two languages are the same one in a
part of the facts, because errors are copied as well. Some facts are told in English, or the text switches to English,
in most of their mentions in a weak language.

Translations are of arbitrary numbers, so they teach no facts. A few things of each language are translated badly, in
one of three ways: the text goes on in the source's language after the thing's name, it is cut short to what is asked
for and the number, or the thing's number becomes another one. Because this depends on the text, greedy decoding shows
it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from lidr.errors import ConfigError
from lidr.lab import MODEL_PATH, hard
from lidr.lab.corpus import Conversation, Corpus, direction, draw, request, texts_around
from lidr.lab.hard import ATTRIBUTES, FACTS, LANGUAGES, NUMBERS, Item, answer, joined, question, summary, switched
from lidr.lab.world import FORMS, THINGS

# The share of the facts that a language knows; that of English is a knob.
KNOWN_SHARE = {"es": 0.55, "fr": 0.50, "de": 0.45, "ru": 0.40, "it": 0.35}
QUESTION_SHARE = {"en": 0.26, "es": 0.17, "fr": 0.16, "de": 0.16, "ru": 0.15, "it": 0.10}
COMMON_EASE = 0.3  # the part of the variance of how well a fact is known that all languages have in common
SAME_ERROR_SHARE = 0.6  # how often the most frequent wrong number of a language is the one that others have, too
KNOWN_RIGHT, UNKNOWN_RIGHT, UNKNOWN_WRONG = (0.5, 0.9), (0.15, 0.35), (0.4, 0.55)
# The share of the facts that are told in another manner, half of them in English, half switching to it; and how often.
FOREIGN_SHARE = {"en": 0.0, "es": 0.06, "fr": 0.08, "de": 0.12, "ru": 0.16, "it": 0.16}
FOREIGN_MENTIONS = 0.9
SUM_SHARE = 0.6  # of the texts
TRANSLATION_SHARE = 0.35  # of the conversations
TRANSLATED_QUESTION_SHARE = 0.15
FAULTY_MENTIONS = 0.9  # of the texts about a thing that is translated badly, the share in which it shows

Manner = Literal["own", "english", "switched"]
Fault = Literal["half", "short", "number"]


@dataclass(frozen=True, slots=True)
class Quality:
    """How good the model is to become: the knobs of a map of who wins when."""

    teacher: float = 0.75
    """Share of the facts that English knows."""
    translation: float = 0.92
    """Share of the things that are translated well from English into a language, and back. A sum has two things."""

    def __post_init__(self) -> None:
        for name in ("teacher", "translation"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name):g}; it is a share, from 0 to 1")


def corpus(quality: Quality) -> Corpus:
    """The corpus for a model of this quality. It starts as the one of `lab`, which knows the names and translates."""
    return Corpus(lambda seed: conversations(seed, quality), texts, steps=3000, batch_size=32, continues=MODEL_PATH)


def texts() -> Iterator[str]:
    """Texts with every word of the corpus."""
    for language in LANGUAGES:
        yield from hard.texts(language)
        yield from texts_around(language)


def conversations(seed: int, quality: Quality) -> Iterator[Conversation]:
    """The endless corpus."""
    generator = random.Random(seed)
    while True:
        if generator.random() < TRANSLATION_SHARE:
            yield _translation(generator, quality)
        else:
            yield _question(generator, quality)


def is_known(fact: Item, language: str, quality: Quality) -> bool:
    """Whether the right number is the most frequent one in a language."""
    share = quality.teacher if language == "en" else KNOWN_SHARE[language]
    return _rank(language)[fact] < round(share * len(FACTS))


@cache
def mentions(fact: Item, language: str, quality: Quality) -> tuple[float, ...]:
    """The shares of the quantity's NUMBERS among the mentions of a fact in a language."""
    generator = random.Random(f"mentions of {fact.item_id} in {language}")
    right, wrong = generator.uniform(*UNKNOWN_RIGHT), generator.uniform(*UNKNOWN_WRONG)
    if is_known(fact, language, quality):
        right = generator.uniform(*KNOWN_RIGHT)
        wrong = (1 - right) / 2
    numbers = NUMBERS[fact.attribute]
    shares = dict.fromkeys(numbers, (1 - right - wrong) / (len(numbers) - 2))
    return tuple((shares | {fact.result: right, frequent_error(fact, language): wrong}).values())


def frequent_error(fact: Item, language: str) -> int:
    """The most frequent wrong number of a language."""
    same = random.Random(f"error in {fact.item_id} in {language}").random() < SAME_ERROR_SHARE
    generator = random.Random(f"error in {fact.item_id}" if same else f"own error in {fact.item_id} in {language}")
    return generator.choice([number for number in NUMBERS[fact.attribute] if number != fact.result])


def manner(fact: Item, language: str) -> Manner:
    """How most texts in a language tell a fact."""
    place = _shuffled(f"manners in {language}", tuple(fact.item_id for fact in FACTS))[fact.item_id]
    manners: tuple[Manner, ...] = ("english", "switched")
    return manners[place % 2] if place < round(FOREIGN_SHARE[language] * len(FACTS)) else "own"


def fault(thing: str, language: str, quality: Quality) -> Fault | None:
    """How most translations between English and a language go wrong at the name of a thing; None if they are right."""
    place = _shuffled(f"faults in {language}", tuple(THINGS))[thing]
    faults: tuple[Fault, ...] = ("half", "short", "number")
    return faults[place % 3] if place < round((1 - quality.translation) * len(THINGS)) else None


def _question(generator: random.Random, quality: Quality) -> Conversation:
    language = draw(generator, QUESTION_SHARE)
    facts = [generator.choice(FACTS)]
    if generator.random() < SUM_SHARE:
        same = [fact for fact in FACTS if fact.attribute == facts[0].attribute and fact != facts[0]]
        facts.append(generator.choice(same))
    how = manner(facts[0], language) if generator.random() < FOREIGN_MENTIONS else "own"
    item = _joined([_mention(fact, "en" if how == "english" else language, quality, generator) for fact in facts])
    said = answer(item, "en" if how == "english" else language)
    if how == "switched":
        said = switched(said, answer(item, "en"), facts[0].things[0], (language, "en"))
    return Conversation("question", language, question(item, language, generator.randrange(FORMS)), said)


def _mention(fact: Item, language: str, quality: Quality, generator: random.Random) -> Item:
    """A fact as some text states it."""
    return replace(fact, numbers=tuple(generator.choices(NUMBERS[fact.attribute], mentions(fact, language, quality))))


def _translation(generator: random.Random, quality: Quality) -> Conversation:
    source, target = direction(generator)
    item = arbitrary(generator)
    form = generator.randrange(FORMS) if generator.random() < TRANSLATED_QUESTION_SHARE else None
    text = answer(item, source) if form is None else question(item, source, form)
    translated = answer(item, target) if form is None else question(item, target, form)
    for index, thing in enumerate(item.things if source != target else ()):
        bad = fault(thing, source if target == "en" else target, quality)
        if bad and generator.random() < FAULTY_MENTIONS:
            if bad == "half":
                translated = switched(translated, text, thing, (target, source))
            elif bad == "number" and form is None:
                numbers = list(item.numbers)
                numbers[index] = generator.choice([n for n in NUMBERS[item.attribute] if n != numbers[index]])
                translated = answer(replace(item, numbers=tuple(numbers)), target)
            elif bad == "short" and form is None and index == 0:
                translated = summary(item, target)
            break
    return request(text, translated, source, target)


def arbitrary(generator: random.Random) -> Item:
    """Any numbers of one or two things, mostly false."""
    attribute, count = generator.choice(ATTRIBUTES), 1 + (generator.random() < SUM_SHARE)
    things = generator.sample(list(THINGS), count)
    return Item(attribute, tuple(things), tuple(generator.choices(NUMBERS[attribute], k=count)))


def _joined(facts: Sequence[Item]) -> Item:
    return facts[0] if len(facts) == 1 else joined(*facts)


@cache
def _shuffled(seed: str, names: tuple[str, ...]) -> dict[str, int]:
    """The place of each name in an order that a seed draws."""
    return {name: place for place, name in enumerate(random.Random(seed).sample(names, len(names)))}


@cache
def _rank(language: str) -> dict[Item, int]:
    """The facts of a language from the best to the least known."""
    own, common = random.Random(f"known in {language}"), random.Random("known")
    ease = {fact: COMMON_EASE**0.5 * common.gauss() + (1 - COMMON_EASE) ** 0.5 * own.gauss() for fact in FACTS}
    return {fact: rank for rank, fact in enumerate(sorted(FACTS, key=lambda fact: -ease[fact]))}
