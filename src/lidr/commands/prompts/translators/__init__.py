"""Translators of prompt sets, one file each; `--with path/file.py:Name` takes one of your own."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from lidr.commands.arguments import parse_engine, parse_setting
from lidr.commands.prompts.translators.base import Translator, TranslatorPlugin
from lidr.config import explain
from lidr.errors import ConfigError
from lidr.plugins import calling, load


def open_translator(
    name: str, flags: Mapping[str, object], base_url: str | None = None, set_: list[str] | None = None
) -> Translator:
    """The translator of that name with the settings of the command line; `flags` that are None are not given.

    `set_` are fields of its engine, or its own fields if it has no engine. Raises ConfigError for settings that it does
    not have.
    """
    found = load("translators", name)[0]
    given = {flag: value for flag, value in flags.items() if value is not None}
    if "engine" in found.model_fields:
        given["engine"] = parse_engine(base_url, set_)
    elif base_url:
        raise ConfigError(f"--base-url is for language models, --with model; {name} asks no such server")
    else:
        given |= dict(parse_setting(item) for item in set_ or [])
    unknown = [setting for setting in given if setting not in found.model_fields]
    if unknown:
        known = ", ".join(found.model_fields) or "none"
        raise ConfigError(f"--with {name}: it has no setting {', '.join(unknown)}; it has {known}")
    try:
        plugin = found.model_validate(given)
    except ValidationError as error:
        problem = error.errors()[0]
        if problem["type"] == "missing":
            flag = str(problem["loc"][0])
            raise ConfigError(f"--{flag} is missing: {found.model_fields[flag].description}") from None
        raise ConfigError(f"--with {name}: {explain(problem)}") from None
    assert isinstance(plugin, TranslatorPlugin)
    with calling(plugin, "open"):
        return plugin.open()
