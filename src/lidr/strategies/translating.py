"""How the model brings its own answers into another language: how often, how decoded, and what it is asked."""

from __future__ import annotations

from dataclasses import dataclass

from lidr.config import TranslationsConfig
from lidr.languages import get_language
from lidr.templates import fill_template, read_template

PREFILL = "<translated>\n"
STOP = "</translated>"


@dataclass(frozen=True, slots=True)
class Translating:
    """Every answer is translated so many times, decoded in this way.

    `guided` does not translate: the model answers the prompt in the other language, with the prompt and its answer in
    the first one as the turns before.
    """

    samples: int
    decoding: TranslationsConfig
    guided: bool = False

    @property
    def template(self) -> str:
        """The template of the request."""
        if self.guided:
            return read_template("guided")
        return read_template("translate_text_first" if self.decoding.text_first else "translate")

    @property
    def stop(self) -> tuple[str, ...]:
        """The strings that end it."""
        return () if self.guided else (STOP,)

    def request(self, text: str, target: str) -> str:
        """The user's turn that asks for a text in the language `target`: its translation, or a guided answer to it."""
        values = {"prompt" if self.guided else "text": text}
        return fill_template(self.template, language=get_language(target).name, **values)
