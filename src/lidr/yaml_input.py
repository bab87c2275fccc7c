"""YAML that a user wrote: plain values only, within bounds, each key once.

Dates stay text, and so do keys such as `no` and `50256`, which YAML would read as a truth value and a number. `010`
and `1:30`, which are 8 and 90 in YAML, are refused.
"""

from __future__ import annotations

import math
import re
import stat
from pathlib import Path

import yaml

from lidr.errors import ConfigError

MAX_BYTES = 200_000
MAX_DEPTH = 40
MAX_VALUES = 5_000  # an alias counts as what it repeats
_MAX_DIGITS = 30
_OTHER_BASE = re.compile(r"[-+]?0[0-9_]+|.*:.*")  # octal and base 60

_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = {f"{_TAG}{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map")}
_MERGE = f"{_TAG}merge"


class _Loader(yaml.SafeLoader):
    """Without dates and the `=` of YAML 1.1."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (f"{_TAG}timestamp", f"{_TAG}value")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_mapping(path: Path) -> dict[str, object]:
    """The fields of a YAML file. Raises ConfigError that names file, field or line, and what is wrong."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise ConfigError(f"{path}: is {kind}; name a YAML file")
        if status.st_size > MAX_BYTES:
            raise ConfigError(f"{path}: has {status.st_size:,} bytes, and a recipe {MAX_BYTES:,} at most; shorten it")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); name a YAML file") from None
    value = read_value(text, str(path))
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: a recipe is a mapping of fields to values")
    return value


def read_value(text: str, place: str) -> object:
    """One YAML value. Raises ConfigError that begins with `place`."""
    try:
        _check_size(text)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _Checked().count(node, "", frozenset())
            return _unshared(loader.construct_document(node))
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        hint = "put a text with special characters in quotes"
        raise ConfigError(f"{place}: not valid YAML: {where}{problem}; {hint}") from None
    except _Refused as error:
        raise ConfigError(f"{place}: {error}") from None
    except (ValueError, LookupError) as error:  # `!!int` before a text that is not a number
        raise ConfigError(f"{place}: a value is not what its tag says ({error}); leave the tag out") from None


class _Refused(Exception):
    """A value that no recipe can hold."""


def _check_size(text: str) -> None:
    """Refuse what is nested too deep or too much, before anything recursive works on it."""
    depth = 0
    for number, event in enumerate(yaml.parse(text, Loader=_Loader)):
        if number > 2 * MAX_VALUES:
            raise _Refused(f"has over {MAX_VALUES:,} values; shorten it")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise _Refused(f"line {line}: nested more than {MAX_DEPTH} deep; no field of a recipe is")


class _Checked:
    """Counts the values below a node with its aliases written out, and refuses what no recipe can hold."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}

    def count(self, node: yaml.Node, where: str, above: frozenset[int]) -> int:
        if id(node) in above:
            raise _Refused(f"{_at(node, where)}: an alias is inside of what it repeats; write it out")
        if id(node) in self.counts:
            return self.counts[id(node)]
        if node.tag not in _PLAIN_TAGS:
            raise _Refused(f"{_at(node, where)}: {_short_tag(node)} is not for recipes; write a plain value")
        inside = above | {id(node)}
        if isinstance(node, yaml.MappingNode):
            found = 1 + self._count_fields(node, where, inside)
        elif isinstance(node, yaml.SequenceNode):
            found = 1 + sum(self.count(item, f"{where}[{i}]", inside) for i, item in enumerate(node.value))
        else:
            assert isinstance(node, yaml.ScalarNode)
            _check_scalar(node, where)
            found = 1
        if found > MAX_VALUES:
            raise _Refused(f"{_at(node, where)}: has over {MAX_VALUES:,} values, aliases written out; shorten it")
        self.counts[id(node)] = found
        return found

    def _count_fields(self, node: yaml.MappingNode, where: str, inside: frozenset[int]) -> int:
        found, seen = 0, set()
        for key, value in node.value:
            if key.tag == _MERGE:
                key.value = "<<"
            elif not isinstance(key, yaml.ScalarNode) or key.tag not in _PLAIN_TAGS or not key.value:
                raise _Refused(f"{_at(key, where)}: a field's name is a text; put it in quotes")
            else:
                key.tag = f"{_TAG}str"
                _check_scalar(key, where)
            name = str(key.value)
            inner = f"{where}.{name[:60]}" if where else name[:60]
            if name in seen:
                raise _Refused(f"{_at(key, inner)}: is given twice; keep one of the two")
            seen.add(name)
            found += 1 + self.count(value, inner, inside)
        return found


def _check_scalar(node: yaml.ScalarNode, where: str) -> None:
    text = str(node.value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _Refused(f"{_at(node, where)}: holds half of a character (a lone surrogate); correct it") from None
    if "\0" in text:
        raise _Refused(f"{_at(node, where)}: holds a NUL character; take it out")
    if node.tag in (f"{_TAG}int", f"{_TAG}float") and len(text) > _MAX_DIGITS:
        raise _Refused(f"{_at(node, where)}: a number of {len(text):,} characters; no field takes one")
    if node.tag in (f"{_TAG}int", f"{_TAG}float") and _OTHER_BASE.fullmatch(text):
        hint = "write a number without zeros in front and without colons, and put a text in quotes"
        raise _Refused(f"{_at(node, where)}: a number that is octal or in base 60 in YAML; {hint}")
    if node.tag == f"{_TAG}float":
        value = yaml.SafeLoader("").construct_yaml_float(node)
        if not math.isfinite(value):
            raise _Refused(f"{_at(node, where)}: {text} is not a number that a recipe can hold; give a finite one")


def _at(node: yaml.Node, where: str) -> str:
    line = node.start_mark.line + 1 if node.start_mark else 1
    return f"{where} (line {line})" if where else f"line {line}"


def _short_tag(node: yaml.Node) -> str:
    return str(node.tag).replace(_TAG, "!!")[:60]


def _unshared(value: object) -> object:
    """A copy in which no object occurs twice, so that a change in one place does not affect another."""
    if isinstance(value, dict):
        return {name: _unshared(inner) for name, inner in value.items()}
    return [_unshared(item) for item in value] if isinstance(value, list) else value
