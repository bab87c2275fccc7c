"""The translator contract: pieces in, translations out, each as soon as it is there."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from lidr.commands.prompts.protect import Cut
from lidr.plugins import Plugin


@dataclass(frozen=True, slots=True)
class Piece:
    """A text to be translated. `keep` are spans that must come back as they are, for translators that can be told."""

    key: str
    text: str
    keep: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Offer:
    """What came back for a piece: a text, or the `failure` in its place.

    A `passing` failure (a server that was away) is tried again by the next command, any other one is remembered.
    """

    key: str
    text: str | None
    failure: str = ""
    passing: bool = False


class Translator(Protocol):
    """Something that translates. Its memory is given back by `close`.

    `identity` is all that shapes its texts. `cuts` is how a prompt is taken apart, at first and when it is retried.
    `usd_per_million_characters` is None for one that costs nothing by the character.
    """

    identity: dict[str, Any]
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
