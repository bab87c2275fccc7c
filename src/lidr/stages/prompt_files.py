"""Rows and prompts out of files, folders and Hugging Face data sets, by a map of their fields."""

from __future__ import annotations

import re
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path

from lidr.cells import answer_cell, id_cell, is_blank, text_cell
from lidr.config import PromptFields, may_be_hub_id
from lidr.errors import DataError
from lidr.languages import LANGUAGES
from lidr.records import Json, Prompt
from lidr.storage import local_path
from lidr.tables import SUFFIXES, configurations, language_files, read_dataset, read_table

LanguageRow = tuple[str | None, str, Json]  # language (None if the source does not say it), place, row
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
# The roles of a conversation: OpenAI's, and those of ShareGPT and Gemma.
_USERS = ("user", "human")
_BEFORE_USERS = ("system", "developer")
_OTHERS = ("assistant", "gpt", "model", "chatgpt", "bing", "bard", "tool", "function", "function_call", "observation")
_LAST_LINE = re.compile(r"(?:\A|\n)####[ \t]*([^\n]*\S)\s*\Z")  # of a GSM8K solution; a heading elsewhere is text
# Beside the table's own codes and names: ISO 639-2/B, the standard variety of a macrolanguage (as FLORES and Aya have
# it), and the names on Aya's card. Dialects (arz, ary ...) are languages of their own.
_ALIASES = {
    "arb": "ar", "standard arabic": "ar", "modern standard arabic": "ar", "cmn": "zh", "chi": "zh",
    "simplified chinese": "zh", "traditional chinese": "zh", "chinese (simplified)": "zh",
    "chinese (traditional)": "zh",
    "pes": "fa", "per": "fa", "farsi": "fa", "iranian persian": "fa", "swh": "sw", "ekk": "et", "iw": "he",
    "castilian": "es", "ger": "de", "fre": "fr", "dut": "nl", "rum": "ro", "cze": "cs", "slo": "sk", "gre": "el",
    "panjabi": "pa", "eastern panjabi": "pa",
}  # fmt: skip


def read_prompts(
    path: str,
    fields: PromptFields,
    *,
    split: str = "train",
    configuration: str | None = None,
    language: str = "en",
) -> Iterator[tuple[Prompt, Json]]:
    """Prompts in one language, each with the row that it comes from, in the order of the source.

    `path` is a file, a folder with `<language>.jsonl` (or .json, .csv, .tsv, .parquet), or a Hugging Face data set (hub
    id or folder). If one table has the column `fields.language`, rows in other languages are left out. Raises DataError
    for bad rows and for an id that comes twice.
    """
    scanned = scan_prompts(path, fields, split=split, configuration=configuration, language=language)
    with scratch_table("id PRIMARY KEY, place") as seen:
        for place, prompt, row in scanned:
            if not prompt.text.strip():
                raise blank(place, prompt.prompt_id, fields)
            if fields.id is not None:  # numbers cannot come twice
                note_id(seen, prompt.prompt_id, place)
            yield prompt, row


def scan_prompts(
    path: str,
    fields: PromptFields,
    *,
    split: str = "train",
    configuration: str | None = None,
    language: str = "en",
    needs_answer: bool = True,
) -> Iterator[tuple[str, Prompt, Json]]:
    """(place for messages, prompt, row) as `read_prompts`; blank texts and repeated ids are for the caller to judge.

    A column of answers without any is an error unless `needs_answer` is off: translated tables have numbers alone.
    """
    found, has_answer = False, fields.answer is None or not needs_answer
    others: set[str] = set()
    by_column: bool | None = None
    for number, (told, place, row) in enumerate(_rows(path, split, configuration, language), 1):
        if told is None:
            name = language_cell(row, place, fields)
            by_column = bool(name) if by_column is None else by_column
            if by_column != bool(name):
                raise DataError(
                    f"{place}: some rows say their language in {fields.language!r}, others do not; fill it everywhere"
                )
            if name and language_code(name) != language:
                if len(others) < 10:
                    others.add(name)
                continue
        prompt = make_prompt(row, place, number, fields, language)
        found, has_answer = True, has_answer or prompt.answer is not None
        yield place, prompt, row
    if not found:
        said = f" (its column {fields.language!r} says: {', '.join(sorted(others))})" if others else ""
        raise DataError(
            f"{path}: no prompts in {LANGUAGES[language].name} in it{said}; check the path, the split, the language "
            "and its column (--field language=...)"
        )
    if not has_answer:
        raise DataError(
            f"{path}: no row has an answer in {fields.answer!r}; correct --field answer=... or leave it out"
        )


def _rows(path: str, split: str, configuration: str | None, language: str) -> Iterator[LanguageRow]:
    local = local_path(path, "source")
    if local.is_file():
        return ((None, place, row) for place, row in read_table(local))
    if codes := language_files(local):
        if language not in codes:
            raise DataError(f"{local}: it has {', '.join(codes)} and no {language}; name another language")
        return ((language, place, row) for place, row in read_table(codes[language]))
    return read_hub_rows(str(local) if local.exists() else path, [language], split, configuration)


def read_hub_rows(path: str, languages: list[str], split: str, configuration: str | None) -> Iterator[LanguageRow]:
    """The rows of a Hugging Face data set, which has a configuration per language, or one table for all of them.

    One table is read if its configuration is named, or if there is not one for every language. Raises DataError.
    """
    if not Path(path).exists() and (not may_be_hub_id(path) or Path(path).suffix in SUFFIXES):
        raise DataError(
            f"{path}: no such file or folder, and not a hub id such as org/name; correct it (in a recipe prompts.path)"
        )
    way_out = "check the path, the split and the configuration (--configuration, prompts.configuration)"
    names = [] if configuration else configurations(path, way_out)
    if set(languages) <= set(names):
        for code in languages:
            yield from ((code, place, row) for place, row in read_dataset(path, code, split, way_out))
    else:
        yield from ((None, place, row) for place, row in read_dataset(path, configuration, split, way_out))


def make_prompt(row: Json, place: str, number: int, fields: PromptFields, language: str) -> Prompt:
    """The prompt of one row, `number` being its number from 1; its text may be blank.

    Raises DataError that names the place and the remedy.
    """
    if fields.id is not None and fields.id not in row:
        raise _lacks(place, row, "id", fields.id, "; null numbers the rows")
    prompt_id = str(number) if fields.id is None else id_cell(row[fields.id], place, fields.id)
    text = _text(row, place, fields.text)
    known = "" if fields.answer is None else _answer(answer_cell(row.get(fields.answer), place, fields.answer))
    return Prompt(prompt_id, language, text, known if known.strip() else None)


def _text(row: Json, place: str, field: str) -> str:
    """The text of a column, or of a pattern of columns; its paragraphs whose columns are all blank are left out."""
    names = _PLACEHOLDER.findall(field)
    for name in names or [field]:
        if name not in row:
            raise _lacks(place, row, "text", name)
    if not names:
        return _content(row[field], place, field)
    texts = {name: _content(row[name], place, name) for name in names}
    kept = []
    for paragraph in field.split("\n\n"):
        inside = _PLACEHOLDER.findall(paragraph)
        if not inside or any(texts[name].strip() for name in inside):
            kept.append(_PLACEHOLDER.sub(lambda found: texts[found[1]], paragraph))
    return "\n\n".join(kept) if any(text.strip() for text in texts.values()) else ""


def _content(value: object, place: str, name: str) -> str:
    """A column's text; of a conversation the user's turn that begins it. Blank if there is none. Raises DataError."""
    if not isinstance(value, list) or is_blank(value):
        return text_cell(value, place, name)
    for turn in value:
        role = turn.get("role") or turn.get("from") if isinstance(turn, dict) else None
        if role in _USERS:
            content = turn.get("content")
            return _parts(turn.get("value") if content is None else content, place, name)
        if role in _OTHERS:  # what a user says later is no prompt without the turns before it
            return ""
        if role not in _BEFORE_USERS:
            known = ", ".join((*_USERS, *_BEFORE_USERS, *_OTHERS))
            raise DataError(
                f"{place}: {name!r} holds a list that is no conversation ({str(turn)[:60]}): its turns need a role (or "
                f"from) out of {known}, and content (or value); name another column, or make one of texts"
            )
    return ""


def _parts(content: object, place: str, name: str) -> str:
    """The text of a turn; parts of a text are joined by line breaks. Raises DataError for pictures and the like."""
    if not isinstance(content, list):
        return text_cell(content, place, name)
    for part in content:
        if not isinstance(part, dict) or part.get("type") not in ("text", "input_text"):
            kind = part.get("type") if isinstance(part, dict) else str(part)[:60]
            raise DataError(f"{place}: {name!r} holds a turn with a part that is no text ({kind!r}); remove the row")
    return "\n".join(text_cell(part.get("text"), place, name) for part in content)


def _answer(text: str) -> str:
    """The right answer; of a worked solution in GSM8K's format what follows `####` in its last line."""
    found = _LAST_LINE.search(text)
    return found[1] if found else text


def _lacks(place: str, row: Json, option: str, name: str, more: str = "") -> DataError:
    have = ", ".join(map(str, row)) or "none"
    return DataError(
        f"{place}: no field {name!r} (it has: {have}); set prompts.fields.{option} (--field {option}=...{more}), or "
        "add the field to the row"
    )


def blank(place: str, prompt_id: str, fields: PromptFields) -> DataError:
    """A text without anything in it."""
    return DataError(
        f"{place}: the text of prompt {prompt_id!r} ({fields.text}) is empty, or its conversation does not begin with "
        "a user's turn; fill it or remove the row"
    )


def twice(place: str, prompt_id: str, first: str) -> DataError:
    """An id that another row has as well."""
    return DataError(
        f'{place}: id {prompt_id!r} is in {first} already; ids must be unique, and 1, 1.0 and "1" are the same '
        "id (lidr prompts sample leaves out rows that are the same)"
    )


def note_id(table: sqlite3.Connection, prompt_id: str, place: str) -> None:
    """Keep an id in a table (id PRIMARY KEY, place). Raises DataError if it is there already."""
    try:
        table.execute("INSERT INTO prompt VALUES (?, ?)", (prompt_id, place))
    except sqlite3.IntegrityError:
        first = table.execute("SELECT place FROM prompt WHERE id = ?", (prompt_id,)).fetchone()[0]
        raise twice(place, prompt_id, first) from None


@contextmanager
def scratch_table(columns: str) -> Iterator[sqlite3.Connection]:
    """A table `prompt` in a temporary database on disk, so that a million rows need no memory.

    Raises DataError if the disk has no room for it.
    """
    with tempfile.TemporaryDirectory() as folder, closing(sqlite3.connect(Path(folder) / "rows.db")) as table:
        table.execute("PRAGMA journal_mode = MEMORY")  # nothing of it has to survive the process
        table.execute("PRAGMA synchronous = OFF")
        table.execute("PRAGMA cache_size = -65536")  # 64 MiB, which hold the index of half a million rows
        table.execute(f"CREATE TABLE prompt ({columns})")
        try:
            yield table
        except sqlite3.OperationalError as error:
            raise DataError(f"{folder}: prompts cannot be kept there ({error}); make room, or set TMPDIR") from None


def language_cell(row: Json, place: str, fields: PromptFields) -> str:
    """What a row says its language is, "" if nothing. Raises DataError."""
    try:
        return text_cell(row.get(fields.language), place, fields.language).strip()
    except DataError as error:
        raise DataError(f"{error} (--field language=..., prompts.fields.language)") from None


def language_code(name: str) -> str | None:
    """The table's code for what a data set calls a language: `es`, `spa`, `Spanish`, `español`, `es-MX`, `spa_Latn`."""
    return _code(name.strip().casefold())


@lru_cache(maxsize=1024)  # a wrong column may hold as many names as there are rows
def _code(text: str) -> str | None:
    base = re.split(r"[-_]", text)[0]
    for entry in LANGUAGES.values():
        if base in (entry.code, entry.iso3) or text in (entry.name.casefold(), entry.own_name.casefold()):
            return entry.code
    return _ALIASES.get(text) or _ALIASES.get(base)
