"""Prompt sets in other languages, aligned by id; translations are checked, and kept so that none is paid for twice.

Every piece that a translator returns goes into a memory beside the files at once. A translation that lost something
(`protect.check`) is retried once, cut into smaller pieces; if that fails too it goes to `<language>.failed.jsonl`.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lidr.commands.prompts.protect import Part, check, cut, join, protected
from lidr.commands.prompts.translators.base import Offer, Piece, Translator
from lidr.errors import ConfigError, EngineError, RunError
from lidr.languages.identification import LanguageIdentifier
from lidr.progress_bar import track
from lidr.records import Prompt, content_id
from lidr.run_dir import RunDir
from lidr.seals import read_unsealed_rows
from lidr.storage import replacing, write_text
from lidr.system_errors import writing

_FORMAT = 1
_NUMBER = re.compile(r"[-+]?[\d.,\s]*\d")
Prompts = Callable[[], Iterable[Prompt]]


@dataclass(slots=True)
class Outcome:
    """What became of one language: prompts, how many of them were retried, and those set aside, by reason.

    `characters` is how many this command sent, `usd` their price, None if characters cost nothing.
    """

    characters: int = 0
    usd: float | None = None
    translated: int = 0
    retried: int = 0
    aside: Counter[str] = field(default_factory=Counter)


class Memory:
    """Everything that a translator returned for this folder: piece's key -> text, or the failure in its place."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._naming():
            self._table = sqlite3.connect(path)
            # A commit per piece without waiting for the disk each time.
            self._table.execute("PRAGMA journal_mode = WAL")
            self._table.execute("PRAGMA synchronous = NORMAL")
            self._table.execute("CREATE TABLE IF NOT EXISTS piece (key PRIMARY KEY, text, failure)")

    @contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            with writing(self.path):
                yield
        except sqlite3.DatabaseError as error:
            raise RunError(
                f"{self.path} cannot be used ({error}). It keeps what was translated: restore it, or remove it and run "
                "again, which asks for all of it again"
            ) from None

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.get(key) is not None

    def __len__(self) -> int:
        return int(self._table.execute("SELECT count(*) FROM piece").fetchone()[0])

    def __iter__(self) -> Iterator[str]:
        return (key for (key,) in self._table.execute("SELECT key FROM piece"))

    def get(self, key: str) -> tuple[str | None, str] | None:
        with self._naming():
            found = self._table.execute("SELECT text, failure FROM piece WHERE key = ?", (key,)).fetchone()
        return None if found is None else (found[0], found[1])

    def keep(self, offer: Offer) -> None:
        with self._naming(), self._table:
            self._table.execute("INSERT OR REPLACE INTO piece VALUES (?, ?, ?)", (offer.key, offer.text, offer.failure))

    def close(self) -> None:
        self._table.close()


def translate_prompts(
    prompts: Prompts,
    translator: Translator,
    source: str,
    targets: list[str],
    out: Path,
    *,
    made_from: str,
    max_usd: float | None,
    say: Callable[[str], None],
) -> dict[str, Outcome]:
    """Write `<language>.jsonl` for the source and every target language into `out`; outcomes by target.

    `prompts` yields the source's prompts on every call. The cost is said before anything is sent. Raises ConfigError if
    it would be more than `max_usd`, or if `out` holds something else, and RunError if another command works in `out`.
    """
    note = _claim(out, made_from, source, targets, prompts)
    outcomes = {}
    with RunDir(out).lock(), closing(Memory(out / "memory.sqlite")) as memory:
        jobs = {target: _Job(prompts, translator, memory, source, target) for target in targets}
        purse = _Purse(translator.usd_per_million_characters, max_usd, say)
        if purse.price is not None:
            purse.announce({target: job.owed_characters() for target, job in jobs.items()})
        write_text(out / "translation.json", json.dumps(note) + "\n")
        for target, job in jobs.items():
            job.ask(False, purse)
            job.look()
            job.ask(True, purse)
            outcomes[target] = job.write(out)
        write_rows(out / f"{source}.jsonl", (_row(prompt, prompt.text, prompt.answer) for prompt in prompts()))
    return outcomes


class _Job:
    """The translation into one language."""

    def __init__(self, prompts: Prompts, translator: Translator, memory: Memory, source: str, target: str) -> None:
        self.prompts, self.translator, self.memory = prompts, translator, memory
        self.source, self.target = source, target
        self.identifier = LanguageIdentifier.among([source, target])
        self.to_retry: set[str] = set()  # prompt ids whose first attempt failed
        self.outcome = Outcome()

    def owed_characters(self) -> int:
        return sum(len(piece.text) for piece in self._pieces(retry=False) if piece.key not in self.memory)

    def ask(self, retry: bool, purse: _Purse) -> None:
        """Translate what is owed, of the first attempt or the retry, and keep every piece as it comes."""
        pieces = kept = 0
        for piece in self._pieces(retry):
            pieces += 1
            kept += piece.key in self.memory
        if pieces == kept:
            return
        title = f"translate {self.source}->{self.target}" + (" (retry)" if retry else "")
        before = purse.characters
        with track(title, pieces, kept) as progress:
            sent = purse.paying(self._pieces(retry), self.memory)
            for offer in self.translator.translate(sent, self.source, self.target, retry, self.memory):
                if not offer.passing:
                    self.memory.keep(offer)
                progress.advance(dropped=offer.text is None)
        self.outcome.characters += purse.characters - before
        purse.check()

    def look(self) -> None:
        """Check the first attempt of every prompt."""
        self.to_retry = {prompt.prompt_id for prompt in self.prompts() if self._attempt(prompt, retry=False)[1]}

    def write(self, out: Path) -> Outcome:
        """The files of the target language, from the memory alone."""
        outcome, failed = self.outcome, []
        price = self.translator.usd_per_million_characters
        outcome.usd = None if price is None else outcome.characters * price / 1e6

        def rows() -> Iterator[Mapping[str, object]]:
            for prompt in self.prompts():
                retry = prompt.prompt_id in self.to_retry
                text, reason = self._attempt(prompt, retry) if retry else (self._text(prompt, retry)[0], "")
                outcome.retried += retry
                if text is None or reason:
                    text = text or self._text(prompt, retry=False)[0]
                    outcome.aside[reason] += 1
                    failed.append({"id": prompt.prompt_id, "reason": reason, "offered": text})
                else:
                    outcome.translated += 1
                    yield _row(prompt, text, _number(prompt.answer))

        write_rows(out / f"{self.target}.jsonl", rows())
        aside = out / f"{self.target}.failed.jsonl"
        if failed:
            write_rows(aside, failed)
        else:
            aside.unlink(missing_ok=True)
        return outcome

    def _pieces(self, retry: bool) -> Iterator[Piece]:
        """All pieces of the attempt, each once."""
        asked = set()
        for prompt in self.prompts():
            if retry and prompt.prompt_id not in self.to_retry:
                continue
            for part in self._parts(prompt, retry):
                key = self._key(part, retry)
                if part.translated and key not in asked:
                    asked.add(key)
                    yield Piece(key, part.text, tuple(dict.fromkeys(protected(part.text))))

    def _attempt(self, prompt: Prompt, retry: bool) -> tuple[str | None, str]:
        """(text, reason): what the memory has for a prompt, and why it cannot be used; empty if it can."""
        text, failure = self._text(prompt, retry)
        if text is None:
            return None, failure
        return text, check(prompt.text, text, (self.source, self.target), self.identifier)

    def _text(self, prompt: Prompt, retry: bool) -> tuple[str | None, str]:
        """(text, failure): what the memory has for a prompt; the failure of a missing piece is "translation_error"."""
        parts, found = self._parts(prompt, retry), {}
        for part in parts:
            if part.translated:
                text, failure = self.memory.get(self._key(part, retry)) or (None, "translation_error")
                if text is None:
                    return None, failure
                found[part.text] = text
        joined = join(parts, found)
        return joined, "placeholder" if joined is None else ""

    def _parts(self, prompt: Prompt, retry: bool) -> list[Part]:
        return cut(prompt.text, self.translator.cuts[retry])

    def _key(self, part: Part, retry: bool) -> str:
        # A retry that is paid by the character has the same keys: a piece that is not cut smaller is paid for once.
        again = retry and self.translator.usd_per_million_characters is None
        return content_id(_FORMAT, self.translator.identity, self.source, self.target, part.text, again)


class _Purse:
    """What a translator that charges by the character costs, and the limit."""

    def __init__(self, usd_per_million: float | None, max_usd: float | None, say: Callable[[str], None]) -> None:
        self.price, self.max_usd, self.say = usd_per_million, max_usd, say
        self.characters, self.reached = 0, False

    def announce(self, owed: dict[str, int]) -> None:
        """Say what is about to be sent, by target. Raises ConfigError if that is beyond the limit."""
        total = sum(owed.values())
        if self.price is None or not total:
            return
        usd = total * self.price / 1e6
        parts = ", ".join(f"{target} {count:,}" for target, count in owed.items())
        self.say(f"to be sent: {total:,} characters ({parts}), about {usd:.2f} USD at {self.price:g} USD a million; "
                 "retries come on top")  # fmt: skip
        if self.max_usd is not None and usd > self.max_usd:
            raise ConfigError(
                f"that is more than --max-usd {self.max_usd:g}; raise it, or take fewer prompts (lidr prompts sample)"
            )

    def paying(self, pieces: Iterable[Piece], done: Collection[str]) -> Iterator[Piece]:
        """The pieces until the limit is reached; those in `done` cost nothing."""
        for piece in pieces:
            if piece.key not in done:
                cost = (self.characters + len(piece.text)) * (self.price or 0.0) / 1e6
                if self.max_usd is not None and cost > self.max_usd:
                    self.reached = True
                    return
                self.characters += len(piece.text)
            yield piece

    def check(self) -> None:
        if self.reached:
            raise EngineError(
                f"--max-usd {self.max_usd:g} is reached; everything translated is kept, and the same command with a "
                "higher limit goes on"
            )


def _claim(out: Path, made_from: str, source: str, targets: list[str], prompts: Prompts) -> Mapping[str, object]:
    """Check that `out` is free or this translation's; returns the note that goes there before anything is sent.

    Raises ConfigError if `out` has something else, or tables of other languages that would no longer fit.
    """
    about, before = out / "translation.json", {"source": made_from, "from": source, "to": []}
    if about.exists():
        try:
            before |= json.loads(about.read_text(encoding="utf-8"))
        except (ValueError, TypeError):
            raise ConfigError(f"{about}: it is damaged; give another --out") from None
        if (before["source"], before["from"]) != (made_from, source):
            raise ConfigError(
                f"{out} holds a translation of {before['source']} from {before['from']}; give another --out"
            )
    own = [*before["to"], *([source] if about.exists() else [])]
    if foreign := [code for code in [source, *targets] if code not in own and (out / f"{code}.jsonl").exists()]:
        raise ConfigError(
            f"{out / f'{foreign[0]}.jsonl'} is there already and was not made by this command; give another --out"
        )
    others = [code for code in before["to"] if code not in targets and (out / f"{code}.jsonl").exists()]
    if others and _changed(out / f"{source}.jsonl", prompts):
        raise ConfigError(
            f"{made_from}: prompts have changed since {', '.join(others)} was made; name those in --to as well (what "
            "is unchanged is not sent again), or give another --out"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be made: {error.strerror}; give another --out") from None
    return before | {"to": [*before["to"], *(code for code in targets if code not in before["to"])]}


def _changed(path: Path, prompts: Prompts) -> bool:
    """Whether an id in the source's table now has another text, so that the earlier translations are not of it."""
    if not path.exists():
        return False
    texts = {row["id"]: content_id(row["instruction"]) for row in read_unsealed_rows(path)}
    return any(texts.get(prompt.prompt_id, now) != now for prompt in prompts() if (now := content_id(prompt.text)))


def _number(answer: str | None) -> str | None:
    """The answer if it is a number; one in words would be in the wrong language."""
    return answer if answer is not None and _NUMBER.fullmatch(answer.strip()) else None


def _row(prompt: Prompt, text: str, answer: str | None) -> dict[str, str]:
    return {"id": prompt.prompt_id, "instruction": text} | ({} if answer is None else {"answer": answer})


def write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Replace a file as a whole, row by row."""
    with replacing(path) as aside, aside.open("w", encoding="utf-8") as handle:
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")
        handle.flush()
        os.fsync(handle.fileno())
