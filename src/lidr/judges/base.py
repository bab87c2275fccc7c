"""What all judges share: replies kept by content, limits on requests and money, and what it all cost."""

from __future__ import annotations

import sqlite3
import sys
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

from pydantic import TypeAdapter, ValidationError

from lidr.config import JudgeConfig, ModelConfig
from lidr.engine_settings import engine_identity
from lidr.engines import Completion, Engine, Request, Sampling, open_model
from lidr.engines.openai.protocol import LogProbability, Tokens
from lidr.errors import ConfigError, EngineError, RunError
from lidr.plugins import Plugin, calling
from lidr.progress_bar import track
from lidr.records import Json, Row, content_id
from lidr.results import JudgeUsage
from lidr.system_errors import writing

# Increase it with every change to the code that changes the requests or the meaning of a reply.
FORMAT = 1
# An estimate for what has not been sent yet; a token of European text has three to four bytes, of other scripts more.
_BYTES_PER_TOKEN = 3
LOWEST, HIGHEST = 1.0, 10.0  # points


@dataclass(frozen=True, slots=True)
class Reply(Row):
    """What the judge said to one request. `error` says why it said nothing; `first_token` as in `Completion`.

    `cut_off` says that the reply reached the length limit. `passing` says that the judge may answer later: the reply is
    not kept, and the next run asks again.
    """

    text: str
    first_token: tuple[tuple[str, LogProbability], ...]
    prompt_tokens: Tokens
    completion_tokens: Tokens
    error: str | None = None
    cut_off: bool = False
    passing: bool = False


_REPLY = TypeAdapter(Reply)


@dataclass(frozen=True, slots=True)
class Comparison:
    """An answer of the model under test, and the one that it is compared with."""

    question_id: str
    language: str
    prompt: str
    answer: str
    opponent: str


@dataclass(frozen=True, slots=True)
class AnsweredQuestion:
    """A question with its answer. `history` are the (role, content) turns before it, `reference` is a right answer."""

    question_id: str
    language: str
    prompt: str
    answer: str
    history: tuple[tuple[str, str], ...] = ()
    group: str = ""
    reference: str = ""


class JudgeProtocol(Plugin):
    """What a judge is asked, and how its replies are read: `evaluation.judge.protocol`. Its fields are its settings."""

    kind: ClassVar[str] = "judges"

    @abstractmethod
    def ask_which(self, comparison: Comparison, swapped: bool) -> str:
        """The request for the better of two answers; `swapped` shows the opponent's first."""

    @abstractmethod
    def read_which(self, reply: Reply) -> float | None:
        """How far the answer that was shown first is preferred, from 0 to 1; None if the reply has no verdict."""

    @abstractmethod
    def ask_points(self, item: AnsweredQuestion) -> str:
        """The request for the points of one answer."""

    @abstractmethod
    def read_points(self, reply: Reply) -> float | None:
        """From LOWEST to HIGHEST; None for a reply without points."""


class Judge:
    """Asks an engine, keeps every reply under a hash of its request, and asks nothing twice.

    `store` is a SQLite file that the benchmarks and models of a run share, so that the next attempt continues
    with what is owed. `max_requests` and `budget_usd` count everything of this judge in it.
    """

    def __init__(self, config: JudgeConfig, identity: Json, engine: Callable[[], Engine], store: Path) -> None:
        self.config, self.identity, self.engine = config, identity, engine
        assert isinstance(config.protocol, JudgeProtocol)  # made by `lidr.plugins`
        self.protocol = config.protocol
        self.sampling = Sampling(config.max_new_tokens, top_logprobs=20 if config.logprobs else 0)
        self.store = store
        self._warned = False  # of replies that cannot be read
        store.parent.mkdir(parents=True, exist_ok=True)
        with writing(store):
            self._table = sqlite3.connect(store)
        self._execute("CREATE TABLE IF NOT EXISTS reply (id TEXT PRIMARY KEY, judge TEXT, row TEXT) WITHOUT ROWID")

    def close(self) -> None:
        self._table.close()

    def ask(self, contents: Sequence[str], title: str) -> list[Reply]:
        """One reply per user message, in their order.

        Raises EngineError if the server is away, or a limit is reached; all replies until then are kept.
        """
        keys = [content_id(self.identity, self.sampling.as_dict(), content) for content in contents]
        requests = {
            key: Request(key, (("user", content),), needs_text=True)
            for key, content in zip(keys, contents, strict=True)
        }
        kept = {key: reply for key in requests if (reply := self._kept(key))}
        done = frozenset(kept)
        with track(title, len(requests), kept=len(kept)) as progress:
            if len(done) < len(requests):
                purse = _Purse(self.config, _replies_of(self._table, self.config.model))
                for completion in self._replies(purse.affordable(requests.values(), done), done):
                    if completion.request_id in done:
                        continue
                    kept[completion.request_id] = reply = _reply(completion)
                    if not reply.passing:
                        self._keep(completion.request_id, reply)
                    purse.settle(reply, requests[completion.request_id])
                    progress.advance(tokens=reply.completion_tokens, dropped=reply.error is not None)
                purse.check(len(requests) - progress.rows)
        return [kept[key] for key in keys]

    def which(self, reply: Reply) -> float | None:
        """The preference in a reply, by the protocol; see `JudgeProtocol.read_which`."""
        return self._within(0.0, 1.0, "read_which", self.protocol.read_which, reply)

    def points(self, reply: Reply) -> float | None:
        """The points in a reply, by the protocol; see `JudgeProtocol.read_points`."""
        return self._within(LOWEST, HIGHEST, "read_points", self.protocol.read_points, reply)

    def _within(
        self, low: float, high: float, name: str, read: Callable[[Reply], float | None], reply: Reply
    ) -> float | None:
        with calling(self.protocol, name):
            value = read(reply)
            if value is not None and not low <= value <= high:
                raise ValueError(f"it gave {value}, which is not from {low} to {high}")
        return value

    def usage(self, replies: Sequence[Reply]) -> JudgeUsage:
        """What some replies took; see `usage`."""
        return usage(self.config, replies)

    def _replies(self, requests: Iterable[Request], done: Collection[str]) -> Iterator[Completion]:
        """The engine's completions; its errors say that it is the judge's engine, not that of the model under test."""
        try:
            yield from self.engine().generate(requests, self.sampling, done)
        except EngineError as error:
            raise EngineError(f"evaluation.judge: {error}") from error

    def _kept(self, key: str) -> Reply | None:
        """A reply of an earlier attempt. One that cannot be read, or that says nothing, is asked for again."""
        found = self._execute("SELECT row FROM reply WHERE id = ?", (key,)).fetchone()
        reply = _read(found[0]) if found else None
        if found and reply is None and not self._warned:
            self._warned = True
            print(f"{self.store}: a reply there cannot be read; such replies are asked for again", file=sys.stderr)
        if reply and self.config.engine.type == "openai" and not (reply.error or reply.cut_off or reply.text.strip()):
            return None
        return reply

    def _keep(self, key: str, reply: Reply) -> None:
        with writing(self.store), self._table:
            self._execute("INSERT OR REPLACE INTO reply VALUES (?, ?, ?)", (key, self.config.model, reply.to_json()))

    def _execute(self, command: str, values: tuple[str, ...] = ()) -> sqlite3.Cursor:
        try:
            with writing(self.store):
                return self._table.execute(command, values)
        except sqlite3.DatabaseError as error:
            raise RunError(
                f"{self.store} cannot be used ({error}). It keeps the judge's replies: restore it, or remove it and "
                "run again, which asks for all of them again"
            ) from None


def usage(config: JudgeConfig, replies: Sequence[Reply]) -> JudgeUsage:
    """Requests and tokens behind some replies, and their cost by the recipe's prices (None without prices).

    `passing` counts the requests that got no reply for now, which the next run asks again.
    """
    cost = _cost(config, replies)
    return JudgeUsage(
        len(replies),
        sum(reply.prompt_tokens for reply in replies),
        sum(reply.completion_tokens for reply in replies),
        None if cost is None else round(cost, 6),
        sum(reply.passing for reply in replies),
    )


def read_replies(store: Path, judge: str) -> list[Reply]:
    """All replies of a judge, by its model's name, that a run keeps and that can be read; each was asked for once."""
    if not store.exists():
        return []
    try:
        with closing(sqlite3.connect(f"{store.resolve().as_uri()}?mode=ro", uri=True)) as table:
            return list(_replies_of(table, judge))
    except sqlite3.DatabaseError as error:
        print(f"{store}: the judge's replies cannot be read ({error}); their cost is not counted", file=sys.stderr)
        return []


def _replies_of(table: sqlite3.Connection, judge: str) -> Iterator[Reply]:
    with closing(table.execute("SELECT row FROM reply WHERE judge = ?", (judge,))) as rows:
        yield from (reply for (row,) in rows if (reply := _read(row)))


def _read(row: str | bytes) -> Reply | None:
    """A kept reply; None for a row that is damaged, or has values that no reply can have."""
    try:
        return _REPLY.validate_json(row, strict=True)
    except (ValidationError, TypeError):
        return None


class _Purse:
    """Lets requests through as long as the limits allow; what is under way counts at its estimated cost."""

    def __init__(self, config: JudgeConfig, replies: Iterator[Reply]) -> None:
        self.config, self.limit = config, ""
        self.requests, self.spent, self.reserved = 0, 0.0, 0.0
        if config.max_requests is not None or config.budget_usd is not None:
            for reply in replies:
                self.requests += 1
                self.spent += _cost(config, [reply]) or 0.0

    def affordable(self, requests: Iterable[Request], done: Collection[str]) -> Iterator[Request]:
        """Those that the limits allow, and those that are `done`, which cost nothing."""
        config = self.config
        for request in requests:
            if request.request_id in done:
                yield request
                continue
            estimate = self._estimate(request)
            if config.max_requests is not None and self.requests >= config.max_requests:
                self.limit = f"max_requests {config.max_requests}"
            elif config.budget_usd is not None and self.spent + self.reserved + estimate > config.budget_usd:
                self.limit = f"budget_usd {config.budget_usd}"
            if self.limit:
                return
            self.requests += 1
            self.reserved += estimate
            yield request

    def settle(self, reply: Reply, request: Request) -> None:
        """Count a reply at its cost. Raises EngineError if the server does not report it."""
        self.reserved -= self._estimate(request)
        self.spent += _cost(self.config, [reply]) or 0.0
        if self.config.budget_usd is not None and reply.error is None and not reply.prompt_tokens:
            raise EngineError(
                "evaluation.judge.budget_usd cannot be kept: the server does not say how many tokens its replies took. "
                "Set it to null, and max_requests instead; all verdicts are kept"
            )

    def check(self, missing: int) -> None:
        """Raise EngineError if a limit was reached."""
        if self.limit:
            spent = f" and cost {self.spent:.2f} USD" if self.spent else ""
            raise EngineError(
                f"the judge's limit evaluation.judge.{self.limit} is reached: {self.requests} requests were made"
                f"{spent}; {missing} more are owed here. All verdicts are kept: raise the limit and run again"
            )
        if missing:
            raise EngineError(f"the judge's engine ended with {missing} replies missing; run again")

    def _estimate(self, request: Request) -> float:
        tokens = sum(len(text.encode()) for _, text in request.messages) // _BYTES_PER_TOKEN
        return price(self.config, tokens, self.config.max_new_tokens) or 0.0


def price(judge: JudgeConfig, read: float, written: float) -> float | None:
    """USD of so many tokens at the recipe's prices; None if it has no prices."""
    if judge.usd_per_million_input_tokens is None or judge.usd_per_million_output_tokens is None:
        return None
    usd = judge.usd_per_million_input_tokens * read + judge.usd_per_million_output_tokens * written
    return judge.engine.discount * usd / 1e6


def _cost(config: JudgeConfig, replies: Sequence[Reply]) -> float | None:
    return price(
        config, sum(reply.prompt_tokens for reply in replies), sum(reply.completion_tokens for reply in replies)
    )


def unscored_reason(*replies: Reply) -> str:
    """Why there is no verdict in these replies: an error, the limit of the length, or their text."""
    error = next((reply.error for reply in replies if reply.error), None)
    return error or ("cut_off" if any(reply.cut_off for reply in replies) else "unparsed")


def tag_mark(*texts: str) -> str:
    """Six hex digits for the names of the tags around some texts, which cannot know them and so cannot close a tag."""
    return content_id(*texts)[:6]


def _reply(completion: Completion) -> Reply:
    return Reply(
        completion.text,
        completion.first_token,
        completion.prompt_tokens,
        completion.completion_tokens,
        error=completion.error,
        cut_off=completion.finish_reason == "length",
        passing=completion.passing,
    )


def judge_identity(config: JudgeConfig, cache_file: Path) -> Json:
    """What makes two judges the same: model, server or weights, and decoding. `cache_file` as in `resolve_model`."""
    decoding: Json = {"format": FORMAT, "logprobs": config.logprobs, "max_new_tokens": config.max_new_tokens}
    if server := config.engine.server:
        return {"model": config.model} | server | decoding
    return {"model": _local_model(config, cache_file)[1]} | engine_identity(config.engine) | decoding


def _local_model(config: JudgeConfig, cache_file: Path) -> tuple[Path, str]:
    """Folder and fingerprint of a judge with weights."""
    from lidr.models import resolve_model

    try:
        return resolve_model(ModelConfig(path=config.model, revision=config.revision), cache_file)
    except ConfigError as error:
        hint = "a judge on a server needs evaluation.judge.engine: {type: openai, base_url: ...}"
        raise ConfigError(f"evaluation.judge: {error}; {hint}") from error


@contextmanager
def open_judge(config: JudgeConfig, store: Path, cache_file: Path) -> Iterator[Judge]:
    """The recipe's judge; its engine is opened with the first request that is owed."""
    with ExitStack() as stack:

        def start() -> Engine:
            model = config.model if config.engine.server else str(_local_model(config, cache_file)[0])
            return stack.enter_context(open_model(config.engine, model, config.trust_remote_code))

        judge = Judge(config, judge_identity(config, cache_file), cache(start), store)
        stack.callback(judge.close)
        yield judge
