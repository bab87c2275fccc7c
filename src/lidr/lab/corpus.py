"""The chat conversations from which the laboratory's model learns before the method starts.

All facts are stated in English, and fewer in each further language. Translation is taught with arbitrary sentences,
most of them false, so that it is faithful and teaches no facts.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from lidr.lab.world import FACTS, FORMS, LANGUAGES, THINGS, VALUES, Fact, answer, question
from lidr.languages import get_language
from lidr.templates import fill_template, read_template

SYSTEM_PROMPT = "You are a helpful assistant."
# The share of the facts that the corpus states in each language, and the share of questions in it.
KNOWN_SHARE = {"en": 1.0, "es": 0.45, "fr": 0.35, "de": 0.25, "it": 0.20, "ru": 0.15}
QUESTION_SHARE = {"en": 0.40, "es": 0.18, "fr": 0.14, "de": 0.11, "it": 0.09, "ru": 0.08}
# The share of questions in other languages with an English answer, about any fact, as on a mostly English web.
ENGLISH_ANSWER_SHARE = 0.10
TRANSLATION_SHARE = 0.5
# Shares of the translations: copies of a text that is already in the target language (the method meets them if an
# answer is off-target), and translations between two other languages. The rest has English on one side.
COPY_SHARE = 0.10
OTHER_PAIR_SHARE = 0.05
# The share of questions in the translated texts; the rest are answer sentences.
TRANSLATED_QUESTION_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Conversation:
    """A training example. `language` is that of the question, or the target of a translation from `source`."""

    kind: Literal["question", "translation"]
    language: str
    user: str
    assistant: str
    source: str | None = None

    @property
    def messages(self) -> list[dict[str, str]]:
        return [
            {"role": "system", "content": SYSTEM_PROMPT},
            {"role": "user", "content": self.user},
            {"role": "assistant", "content": self.assistant},
        ]


@dataclass(frozen=True, slots=True)
class Corpus:
    """What a model is pre-trained on: an endless stream from a seed, texts with all of its words, and for how long.

    `batch_size` counts conversations. `continues` is the folder of a trained model to go on from.
    """

    conversations: Callable[[int], Iterator[Conversation]]
    texts: Callable[[], Iterator[str]]
    steps: int
    batch_size: int = 64
    continues: Path | None = None


@cache
def known_facts(language: str) -> tuple[Fact, ...]:
    """The facts that the corpus states in a language."""
    number = round(KNOWN_SHARE[language] * len(FACTS))
    return tuple(random.Random(f"known in {language}").sample(FACTS, number))


def conversations(seed: int) -> Iterator[Conversation]:
    """The endless corpus."""
    generator = random.Random(seed)
    while True:
        if generator.random() < TRANSLATION_SHARE:
            yield _translation(generator)
        else:
            yield _question(generator)


def _question(generator: random.Random) -> Conversation:
    language = draw(generator, QUESTION_SHARE)
    in_english = language != "en" and generator.random() < ENGLISH_ANSWER_SHARE
    fact = generator.choice(FACTS if in_english else known_facts(language))
    asked = question(fact, language, generator.randrange(FORMS))
    return Conversation("question", language, asked, answer(fact, "en" if in_english else language))


def _translation(generator: random.Random) -> Conversation:
    source, target = direction(generator)
    attribute = generator.choice(list(VALUES))
    fact = Fact(generator.choice(list(THINGS)), attribute, generator.choice(list(VALUES[attribute])))
    asked = generator.random() < TRANSLATED_QUESTION_SHARE
    return translation(fact, source, target, form=generator.randrange(FORMS) if asked else None)


def draw(generator: random.Random, shares: Mapping[str, float]) -> str:
    """A key, as often as its share says."""
    return generator.choices(list(shares), list(shares.values()))[0]


def direction(generator: random.Random) -> tuple[str, str]:
    """Source and target of a translation; they are the same for a copy."""
    other = generator.choice(LANGUAGES[1:])
    source, target = ("en", other) if generator.random() < 0.5 else (other, "en")
    kind = generator.random()
    if kind < COPY_SHARE:
        source = target
    elif kind < COPY_SHARE + OTHER_PAIR_SHARE:
        source, target = generator.sample(LANGUAGES[1:], 2)
    return source, target


def translation(fact: Fact, source: str, target: str, form: int | None = None) -> Conversation:
    """A request with lidr's own template to translate the sentence of a fact, or a question form about it."""

    def text(language: str) -> str:
        return answer(fact, language) if form is None else question(fact, language, form)

    return request(text(source), text(target), source, target)


def request(text: str, translated: str, source: str, target: str) -> Conversation:
    """A request with lidr's own template to translate a text, and its reply."""
    user = fill_template(read_template("translate"), language=get_language(target).name, text=text)
    return Conversation("translation", target, user, f"<translated>\n{translated}\n</translated>", source=source)


def texts() -> Iterator[str]:
    """Texts with every word of the corpus: 1,440 questions, 17,280 sentences, and the words around them."""
    for language in LANGUAGES:
        for fact in FACTS:
            yield from (question(fact, language, form) for form in range(FORMS))
        for attribute, values in VALUES.items():
            for thing in THINGS:
                yield from (answer(Fact(thing, attribute, value), language) for value in values)
        yield from texts_around(language)


def texts_around(language: str) -> Iterator[str]:
    """The words of the chat template and of a request to translate into a language."""
    yield from ("system\n", "user\n", "assistant\n")
    yield from (message["content"] for message in request("", "", "en", language).messages)


CORPUS = Corpus(conversations, texts, steps=2000)
