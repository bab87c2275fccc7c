"""One loader for everything that can be added: a built-in name, an entry point, or `path/file.py:Name`.

A plug-in is a section of the recipe, so its fields are its own settings, with docstrings and limits:
`strategy: imbalance`, or `strategy: {type: my_strategy.py:Mine, margin: 3}`. Built-in ones are the modules of their
kind's folder; those of other packages are in the entry-point group `lidr.<kind>`.
"""

from __future__ import annotations

import hashlib
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from functools import cache
from importlib import import_module, metadata, util
from inspect import isabstract
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, ClassVar

from pydantic import PrivateAttr, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from lidr.errors import ConfigError, LidrError
from lidr.records import Json
from lidr.settings import Section, refuse_credentials


class Plugin(Section):
    """Base of all plug-ins. The fields are the settings; `kind` is the package's folder for plug-ins of its kind."""

    kind: ClassVar[str] = ""
    _type: str = PrivateAttr("")
    _source: str | None = PrivateAttr(None)
    _file: Path | None = PrivateAttr(None)

    @property
    def type(self) -> str:
        """The name in the recipe; a built-in plug-in that was made in Python has the name of its module."""
        return self._type or type(self).__module__.rpartition(".")[2]

    @property
    def source(self) -> str | None:
        """SHA-256 of its file; None for a built-in one."""
        return self._source

    def as_recipe(self) -> str | Json:
        """The value in a recipe: only the name if there are no settings."""
        settings = self.model_dump(mode="json")
        return {"type": self.type, **settings} if settings else self.type

    def defining(self) -> Json:
        """Everything that defines a plug-in from outside, however the recipe spells its path."""
        return {"class": type(self).__name__, **self.model_dump(mode="json"), "source": self.source}

    @property
    def python_files(self) -> list[Path]:
        """The file it was read from; empty for a built-in plug-in or one of another package."""
        return [self._file] if self._file else []


_kept: ContextVar[Path | None] = ContextVar("kept", default=None)


@contextmanager
def looking_in(folder: Path) -> Iterator[None]:
    """Look in this folder, by name, for plug-in files that are missing: a run keeps those that its recipe names."""
    token = _kept.set(folder)
    try:
        yield
    finally:
        _kept.reset(token)


def _file(name: str) -> Path:
    """The file of `path/file.py:Name`, or the copy of it that is kept."""
    file, folder = Path(name.rpartition(":")[0]).expanduser(), _kept.get()
    if folder and not file.is_file() and (folder / file.name).is_file():
        return folder / file.name
    return file


@contextmanager
def calling(plugin: Plugin, method: str) -> Iterator[None]:
    """Turn an exception from the code of an outside plug-in into a ConfigError that names it."""
    try:
        yield
    except LidrError:
        raise
    except Exception as error:
        if plugin.source is None:
            raise
        at = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__}: {error}"
        raise ConfigError(
            f"{plugin.type}: {method} fails ({said}, {Path(at.filename).name} line {at.lineno})"
        ) from error


def reader(kind: str, default: str | None = None) -> Callable[[object], Any]:
    """A function that makes a plug-in of a kind, such as `strategies`, from a recipe's value, or raises ValueError.

    `default` is the type if the settings name none.
    """

    def read(value: object) -> Plugin:
        if isinstance(value, Plugin):
            if not value._type and not type(value).__module__.startswith("lidr."):
                raise ValueError("give its name, `path/file.py:Name`, so that other commands can load it as well")
            value._type = value.type
            return value
        settings = {"type": value} if isinstance(value, str) else value
        if default and isinstance(settings, dict):
            settings = {"type": default} | settings
        if not isinstance(settings, dict) or not isinstance(settings.get("type"), str):
            raise ValueError("a name is needed, or {type: NAME, ...} with settings")
        try:
            plugin, source = load(kind, settings["type"])
        except ConfigError as error:
            raise ValueError(str(error)) from None
        given = {name: setting for name, setting in settings.items() if name != "type"}
        refuse_credentials(given)
        _check_names(plugin, given)
        made = plugin.model_validate(given)
        made._type, made._source = settings["type"], source
        made._file = _file(made._type) if ":" in made._type else None
        return made

    return read


def _check_names(plugin: type[Plugin], given: Json) -> None:
    """Raises ValidationError for fields that the plug-in does not have, each with the nearest that it has."""
    known, problems = list(plugin.model_fields), []
    for name in given.keys() - known:
        near = get_close_matches(name, known, n=1, cutoff=0.5)
        way_out = f"did you mean {near[0]}?" if near else f"it has {', '.join(known) or 'none'}"
        problem = PydanticCustomError("no_such_setting", "no such field; {way_out}", {"way_out": way_out})
        problems.append(InitErrorDetails(type=problem, loc=(name,), input={}))
    if problems:
        raise ValidationError.from_exception_data(plugin.__name__, problems)


def is_outside(kind: str, name: str) -> bool:
    """Whether a name is that of a file's class or of another package's entry point."""
    return ":" in name or name.endswith(".py") or bool(metadata.entry_points(group=f"lidr.{kind}", name=name))


def load(kind: str, name: str) -> tuple[type[Plugin], str | None]:
    """The class of that name, and the SHA-256 of its file if it is not one of this package. Raises ConfigError."""
    if ":" in name or name.endswith(".py"):
        return _from_file(kind, name)
    if name in modules(kind) and (plugins := _plugins_of(import_module(f"{_folder(kind)}.{name}"))):
        return _checked(plugins[0], kind, name), None
    if "-" in name and name.replace("-", "_") in modules(kind):  # nemo-rl
        return load(kind, name.replace("-", "_"))
    found = metadata.entry_points(group=f"lidr.{kind}", name=name)
    if not found:
        added = sorted(point.name for point in metadata.entry_points(group=f"lidr.{kind}"))
        known = [*built_in(kind), *added, "path/file.py:Name"]
        near = get_close_matches(name, known, n=1, cutoff=0.7)
        hint = f"did you mean {near[0]}? Use" if near else "use"
        raise ConfigError(f"there is no {name}; {hint} {' or '.join(known)}")
    try:
        loaded = next(iter(found)).load()
        source = _hash(Path(str(sys.modules[loaded.__module__].__file__)))
    except Exception as error:  # another package's code, which may fail in any way
        raise ConfigError(f"{name}: the package that offers it fails ({type(error).__name__}: {error})") from error
    return _checked(loaded, kind, name), source


# The folders of kinds whose built-in plug-ins are not in a folder of that name.
_FOLDERS = {"exports": "commands.export.formats", "translators": "commands.prompts.translators"}


def _folder(kind: str) -> str:
    return f"lidr.{_FOLDERS.get(kind, kind)}"


@cache
def modules(kind: str) -> list[str]:
    """The modules of a kind's folder, by their files."""
    return [module.name for module in iter_modules(import_module(_folder(kind)).__path__) if module.name != "base"]


def built_in(kind: str) -> list[str]:
    """The names that come with the package: the modules that hold a plug-in."""
    return [name for name in modules(kind) if _plugins_of(import_module(f"{_folder(kind)}.{name}"))]


def _plugins_of(module: ModuleType) -> list[type[Plugin]]:
    """The plug-ins that a module defines."""
    return [
        found
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, Plugin) and found.__module__ == module.__name__
        if not isabstract(found)
    ]


def _from_file(kind: str, name: str) -> tuple[type[Plugin], str]:
    """A class of a Python file, which is run once per process and content."""
    path, _, wanted = name.rpartition(":")
    if not path or not wanted.isidentifier():
        raise ConfigError(f"{name}: write it as path/file.py:Name, where Name is a class of that file")
    file = _file(name)
    if not file.is_file():
        raise ConfigError(f"{path}: no such file (looked for from {Path.cwd()})")
    source = _hash(file)
    loaded = getattr(_run(file.resolve(), source), wanted, None)
    if loaded is None:
        raise ConfigError(f"{path}: it has no {wanted}")
    return _checked(loaded, kind, name), source


@cache
def _run(file: Path, source: str) -> ModuleType:
    name = f"lidr_plugin_{source[:16]}"
    spec = util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None  # it is a file
    module = util.module_from_spec(spec)
    sys.modules[name] = module  # where annotations of its classes are looked up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the file is the user's, and may fail in any way
        del sys.modules[name]
        raise ConfigError(f"{file}: it cannot be run ({type(error).__name__}: {error})") from error
    return module


def _checked(loaded: object, kind: str, name: str) -> type[Plugin]:
    if not (isinstance(loaded, type) and issubclass(loaded, Plugin) and loaded.kind == kind):
        raise ConfigError(f"{name}: it is not a class made of the one in {_folder(kind).replace('.', '/')}/base.py")
    if missing := sorted(getattr(loaded, "__abstractmethods__", ())):
        raise ConfigError(f"{name}: it has no {', '.join(missing)}")
    return loaded


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
