"""The translator contract: pieces in, translations out, each as soon as it is ready."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol

from lidr.commands.prompts.protect import Cut
from lidr.plugins import Plugin
from lidr.records import Json


@dataclass(frozen=True, slots=True)
class Piece:
    """A text to be translated. `keep` are spans that must come back unchanged, for translators that can use them."""

    key: str
    text: str
    keep: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Offer:
    """What came back for a piece: a text, or the `failure` in its place.

    The next command retries a `passing` failure (a server that was away); any other one is remembered.
    """

    key: str
    text: str | None
    failure: str = ""
    passing: bool = False


class Translator(Protocol):
    """Something that translates; `close` frees its memory.

    `identity` is all that shapes its texts. `cuts` is how a prompt is cut, at first and in a retry.
    `usd_per_million_characters` is None if it does not charge by the character.
    """

    identity: Json
    cuts: tuple[Cut, Cut]
    usd_per_million_characters: float | None

    def translate(
        self, pieces: Iterable[Piece], source: str, target: str, retry: bool, done: Collection[str] = frozenset()
    ) -> Iterator[Offer]:
        """One offer per piece whose key is not in `done`, in any order.

        `pieces` is always the full list, so that what a piece is batched with does not depend on where the command was
        interrupted. Raises EngineError if it cannot go on; what was offered is kept.
        """
        ...

    def close(self) -> None: ...


class TranslatorPlugin(Plugin):
    """What `lidr prompts localize --with` names; its fields are its settings."""

    kind: ClassVar[str] = "translators"

    @abstractmethod
    def open(self) -> Translator:
        """The translator. Raises ConfigError for what is missing."""
