"""Translators of prompt sets. A new one is one file here and one line in TRANSLATORS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lidr.commands.prompts.translators.base import Offer, Piece, Translator
from lidr.engine_settings import EngineSettings
from lidr.errors import ConfigError

__all__ = ["TRANSLATORS", "Offer", "Piece", "Settings", "Translator", "open_translator"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line says of the translator; each takes what concerns it."""

    engine: EngineSettings
    model: str | None = None
    max_new_tokens: int = 2048
    project: str | None = None
    location: str = "global"
    api_endpoint: str | None = None
    usd_per_million_characters: float | None = None


def _google(settings: Settings) -> Translator:
    from lidr.commands.prompts.translators.google import GoogleTranslator

    return GoogleTranslator(
        settings.project, settings.location, settings.api_endpoint, settings.usd_per_million_characters
    )


def _engine(settings: Settings) -> Translator:
    from lidr.commands.prompts.translators.engine import EngineTranslator

    return EngineTranslator(settings.engine, _named(settings), settings.max_new_tokens)


def _seq2seq(settings: Settings) -> Translator:
    from lidr.commands.prompts.translators.seq2seq import Seq2SeqTranslator

    return Seq2SeqTranslator(_named(settings))


def _ctranslate2(settings: Settings) -> Translator:
    from lidr.commands.prompts.translators.seq2seq import Seq2SeqTranslator

    return Seq2SeqTranslator(_named(settings), backend="ctranslate2")


def _named(settings: Settings) -> str:
    if settings.model is None:
        raise ConfigError("--model is missing: a folder, a hub id, or with --base-url the name on the server")
    return settings.model


TRANSLATORS: dict[str, Callable[[Settings], Translator]] = {
    "google": _google,
    "model": _engine,
    "seq2seq": _seq2seq,
    "ctranslate2": _ctranslate2,
}


def open_translator(name: str, settings: Settings) -> Translator:
    """The translator of that name. Raises ConfigError for an unknown name or settings that it cannot work with."""
    if name not in TRANSLATORS:
        raise ConfigError(f"--with {name}: no such translator; there are {', '.join(TRANSLATORS)}")
    return TRANSLATORS[name](settings)
