"""Writes an export: the data, row by row, what the tool needs beside them, and notes on how to use them.

A folder under its final name is complete: everything is written beside it first and renamed at the end.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lidr.commands.export.collect import Selection, answered_by, read_pairs
from lidr.commands.export.formats.base import SPLITS, Export, ExportedPair, ExportFormat, provenance
from lidr.config import Config
from lidr.errors import ConfigError, RunError
from lidr.plugins import load
from lidr.records import Json
from lidr.run_dir import RunDir
from lidr.storage import hash_file

if TYPE_CHECKING:
    from pyarrow import DataType
    from pyarrow.parquet import ParquetWriter

_NOTE = "export.json"
_BATCH = 1024  # rows in memory at a time
Counts = dict[str, dict[str, int]]  # pairs by language and split


class _Table(Protocol):
    def write(self, row: Json) -> None: ...

    def close(self) -> None: ...


def write_export(
    config: Config, run: RunDir, name: str, selection: Selection, out: Path, plain: bool | None, system: bool
) -> Export:
    """Write the folder `out`, in place of an earlier export there; returns what is in it.

    `plain` chooses texts instead of conversations; None is the format's own default. Raises RunError if `out` holds
    something else, or if there is nothing to export.
    """
    kind = open_format(name)
    plain = kind.plain_by_default if plain is None else plain
    out = out.resolve()
    _check_replaceable(out)
    aside = out.with_name(f".{out.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
    except OSError as error:
        raise RunError(f"--out {out}: cannot be made: {error.strerror}; give another folder") from None
    try:
        counts = _write_data(kind, plain, read_pairs(run, selection, system), selection, aside)
        export = _describe(config, run, name, plain, system, selection, counts)
        if not export.total("train"):
            raise RunError(f"nothing to train on: no pair in {', '.join(selection.languages)} that is not held out")
        for file, text in _texts(kind, export, aside).items():
            (aside / file).write_text(text, encoding="utf-8")
        _swap(aside, out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return export


def open_format(name: str) -> ExportFormat:
    """The format of that name. Raises ConfigError if there is none, or it cannot be used without settings."""
    found = load("exports", name)[0]
    if missing := [field for field, about in found.model_fields.items() if about.is_required()]:
        raise ConfigError(f"--format {name}: a format has no settings, and {missing[0]} is one that it needs")
    if not isinstance(made := found(), ExportFormat) or not getattr(made, "title", ""):
        raise ConfigError(f"--format {name}: it has no title")
    return made


def _check_replaceable(out: Path) -> None:
    """An earlier export may be replaced, but nothing that was added to its folder, such as a trained model."""
    if out.exists() and not out.is_dir():
        raise RunError(f"--out {out}: a file is there; name a folder")
    there = {path.name for path in out.iterdir()} if out.exists() else set()
    if others := sorted(there - _earlier_files(out)):
        raise RunError(
            f"--out {out}: it holds {', '.join(others[:3])}, which is no export of ours; give another folder"
        )


def _earlier_files(out: Path) -> set[str]:
    try:
        return {_NOTE, *json.loads((out / _NOTE).read_text(encoding="utf-8"))["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _swap(aside: Path, out: Path) -> None:
    """Put the new folder in the old one's place. The old one goes only once the new one is complete."""
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    aside.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _write_data(
    kind: ExportFormat, plain: bool, pairs: Iterable[ExportedPair], selection: Selection, folder: Path
) -> Counts:
    counts = {code: dict.fromkeys(SPLITS, 0) for code in selection.languages}
    tables: dict[str, _Table] = {}
    with ExitStack() as stack:
        for item in pairs:
            split = "test" if item.pair.prompt_id in selection.held_out else "train"
            if split not in tables:  # a file without rows would have no columns
                path = folder / kind.file_name(split)
                tables[split] = _ParquetTable(path) if kind.suffix == ".parquet" else _JsonTable(path)
                stack.callback(tables[split].close)
            tables[split].write(kind.columns(item, plain) | provenance(item))
            counts[item.pair.language][split] += 1
    return counts


class _JsonTable:
    """One JSON object per line."""

    def __init__(self, path: Path) -> None:
        self._handle = path.open("w", encoding="utf-8")

    def write(self, row: Json) -> None:
        self._handle.write(json.dumps(row, ensure_ascii=False) + "\n")

    def close(self) -> None:
        self._handle.close()


class _ParquetTable:
    """A Parquet file that grows by row groups."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: ParquetWriter | None = None
        self._rows: list[Json] = []

    def write(self, row: Json) -> None:
        self._rows.append(row)
        if len(self._rows) == _BATCH:
            self._flush()

    def _flush(self) -> None:
        import pyarrow
        from pyarrow import parquet

        if not self._rows:
            return
        schema = pyarrow.schema([(name, _arrow_type(name, value)) for name, value in self._rows[0].items()])
        self._writer = self._writer or parquet.ParquetWriter(self._path, schema)
        self._writer.write_table(pyarrow.Table.from_pylist(self._rows, schema))
        self._rows = []

    def close(self) -> None:
        self._flush()
        if self._writer:
            self._writer.close()


def _arrow_type(name: str, value: object) -> DataType:
    """A column's type, by its kind and not by its first value: a system prompt may be null there."""
    import pyarrow

    if isinstance(value, list):
        return pyarrow.list_(pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())]))
    return pyarrow.int32() if name == "iteration" else pyarrow.string()


def _describe(
    config: Config, run: RunDir, name: str, plain: bool, system: bool, selection: Selection, counts: Counts
) -> Export:
    training, numbers = config.training, selection.iterations
    models = {number: answered_by(run, number) for number in numbers}
    return Export(
        run=config.name, format=name, plain=plain, iterations=numbers, counts=counts,
        models={f"M{number - 1}": model.fingerprint for number, model in models.items()},
        start_from=_model_name(config, numbers[0] - 1),
        system_prompt=models[numbers[-1]].system_prompt if system else None,
        beta=training.beta, alpha=training.alpha, learning_rate=training.learning_rate, epochs=training.epochs,
        max_length=training.max_length,
    )  # fmt: skip


def _model_name(config: Config, number: int) -> str:
    """How a command names M_number: on the Hub, or a path to fill in. No path of this machine goes into an export."""
    from lidr.cards.base import hub_id

    return (hub_id(config.model.path) if number == 0 else None) or f"path/to/M{number}"


def _texts(kind: ExportFormat, export: Export, folder: Path) -> dict[str, str]:
    """The small files beside the data, by name."""
    data = {kind.file_name(split): hash_file(folder / kind.file_name(split)) for split in export.splits}
    beside = kind.files(export) | {"README.md": _readme(kind, export)}
    note = {
        "schema": 1,
        "lidr": version("lidr"),
        "run": export.run,
        "format": export.format,
        "form": "plain" if export.plain else "conversational",
        "iterations": export.iterations,
        "models": export.models,
        "system_prompt": export.system_prompt,
        "pairs": export.counts,
        "sha256": data,
        "files": [*data, *beside],
    }
    return beside | {_NOTE: json.dumps(note, indent=1, ensure_ascii=False) + "\n"}


def _readme(kind: ExportFormat, export: Export) -> str:
    from lidr.report.formatting import language_name
    from lidr.report.markdown import lines_table

    rows = [[language_name(code), *map(by_split.get, export.splits)] for code, by_split in export.counts.items()]
    rows.append(["All", *map(export.total, export.splits)])
    numbers = ", ".join(map(str, export.iterations))
    first = f"M{export.iterations[0] - 1}"
    path = "" if export.start_from != f"path/to/{first}" else f" `{export.start_from}` is where you have that model."
    held_out = (
        "`test` is the prompts that the run's training holds out, in all languages alike.\n\n"
        if "test" in export.splits
        else ""
    )
    passed_over = "" if kind.suffix == ".parquet" else f"{kind.title} passes over these columns."
    return f"""# Preference pairs of {export.run} for {kind.title}

Written by `lidr export`. Iteration {numbers}; the settings are those of the run's recipe, and {first} is the
model that they are for.{path} A trainer's loss may differ from lidr's in how it averages the NLL term.

{kind.usage(export)}
## Pairs

{lines_table(["Language", *export.splits], rows)}

{held_out}Every row has `id`, `prompt_id` (the same in every language), `language`, `kind`, `iteration`, `model` and
`model_fingerprint` (of the model that wrote both answers), `chosen_from` and `rejected_from` (a language for a direct
answer, `en->es` for a translation). {passed_over}
"""
