"""Errors that the user can fix. They are shown as a message without a traceback."""

from __future__ import annotations

from lidr.credentials import mask


class LidrError(Exception):
    """Base of the errors below. A message names the file, line or field, and the way out; credentials are masked."""

    def __init__(self, message: str) -> None:
        super().__init__(mask(message))

    exit_code = 2  # of the command line


class ConfigError(LidrError):
    """A recipe or a model that cannot be used."""


class DataError(LidrError):
    """Prompts or benchmark questions that cannot be used."""


class RunError(LidrError):
    """A run directory that cannot be used as asked."""


class DamagedError(RunError):
    """A file of a run that has changed since it was finished, or cannot be read."""


class ReplaceError(RunError):
    """Going on would replace finished work that nobody has asked to replace."""


class EngineError(LidrError):
    """An engine that cannot answer: a server that is away or refuses, a budget that is used up."""
