"""The batch mode of OpenAI's API: files of requests, answered within a day at a lower price.

The requests of a stage are always cut into the same chunks. Every batch has its chunk's hash in its metadata, so that a
later run finds what was sent before, and nothing is paid twice.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import IO, Any, Final, Literal, NoReturn

from openai import APIConnectionError, APIStatusError, NotFoundError, Omit, OpenAI, omit

from lidr.engines.base import Completion, Request, Sampling
from lidr.engines.openai.engine import OpenAIEngine
from lidr.engines.openai.failures import SAME_FAILURES, all_refused, same_words
from lidr.engines.openai.protocol import (
    ROW_STATUS,
    DamagedReply,
    FailedReply,
    Part,
    PartT,
    Tokens,
    error_completion,
    may_pass,
    one_line,
    parse,
    read_part,
    read_reply,
    said,
)
from lidr.errors import EngineError
from lidr.records import Json

POLL_S = 30.0
MAX_ROWS = 50_000  # OpenAI's limits are this and 200 MB
MAX_BYTES = 180_000_000
# After so many polls in a row without a reply, each with several attempts, the run ends; the batches continue.
SILENT_POLLS = 20
_ENDPOINT: Final = "/v1/chat/completions"
_ENDED = ("completed", "failed", "expired", "cancelled")
DAMAGED_ANSWERS = 2  # after so many to one row, each in another batch, the row has failed
_NO_BATCHES = (404, 405, 501)
Failure = APIStatusError | APIConnectionError | DamagedReply
_FAILURES = (APIStatusError, APIConnectionError, DamagedReply)
_AGAIN = "run the same command again"


@dataclass
class _Chunk:
    """The rows of one batch. `owed` has the requests without an answer, by id and without their messages."""

    file: IO[bytes]  # JSON lines of all rows
    hash: str
    owed: dict[str, Request]
    damaged: Counter[str] = field(default_factory=Counter)  # request id -> answers that could not be read


class _Counts(Part):
    total: Tokens
    completed: Tokens
    failed: Tokens


class _Fault(Part):
    message: str | None = None


class _Faults(Part):
    data: list[_Fault] | None = None


class Batch(Part):
    """A batch as the API describes it."""

    id: str
    status: Literal[
        "validating", "in_progress", "finalizing", "cancelling", "completed", "failed", "expired", "cancelled"
    ]
    metadata: Json | None = None
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    request_counts: _Counts | None = None
    errors: _Faults | None = None


class _Page(Part):
    data: list[object]
    has_more: bool | None = None


class _File(Part):
    id: str


class _Response(Part):
    status_code: int | None = None
    body: object = None


class _Line(Part):
    """One row of a batch's output."""

    custom_id: str
    response: _Response | None = None
    error: object = None


class BatchEngine(OpenAIEngine):
    """A server that gets its requests in files."""

    def generate(
        self, requests: Iterable[Request], sampling: Sampling, done: Collection[str] = frozenset()
    ) -> Iterator[Completion]:
        """See `Engine.generate`. It submits all chunks first, and yields rows when their batches end.

        Raises EngineError for a server without batch mode, and at the end if rows got no answer. After an interrupt the
        batches continue.
        """
        settings = self.config
        with OpenAI(
            api_key=self.key, base_url=self.base_url, max_retries=settings.max_retries, timeout=settings.timeout_s
        ) as client:
            batches = _Batches(self, client, sampling)
            try:
                for chunk in _chunks(self, requests, sampling, done):
                    with chunk.file:
                        yield from batches.begin(chunk)
                yield from batches.wait()
            except KeyboardInterrupt:
                if batches.waiting:
                    running = ", ".join(sent.batch.id for sent in batches.waiting)
                    print(f"\n{running}: goes on without us; {_AGAIN} to pick it up", file=sys.stderr, flush=True)
                raise
            batches.end()


def _chunks(
    engine: OpenAIEngine, requests: Iterable[Request], sampling: Sampling, done: Collection[str]
) -> Iterator[_Chunk]:
    """The full list in chunks, without chunks whose rows are all done."""
    chunk = _new_chunk()
    digest, rows, size = hashlib.sha256(), 0, 0
    seen: set[str] = set()  # servers refuse a batch with an id twice

    def finished() -> Iterator[_Chunk]:
        chunk.hash = digest.hexdigest()
        if chunk.owed:
            yield chunk
        chunk.file.close()

    for request in requests:
        if request.request_id in seen:
            continue
        seen.add(request.request_id)
        line = _line(engine, request, sampling)
        if rows == MAX_ROWS or size + len(line) > MAX_BYTES:
            yield from finished()
            chunk = _new_chunk()
            digest, rows, size = hashlib.sha256(), 0, 0
        chunk.file.write(line)
        digest.update(line)
        rows, size = rows + 1, size + len(line)
        if request.request_id not in done:
            chunk.owed[request.request_id] = replace(request, messages=())
    yield from finished()


def _new_chunk() -> _Chunk:
    return _Chunk(tempfile.TemporaryFile(), "", {})


def _line(engine: OpenAIEngine, request: Request, sampling: Sampling) -> bytes:
    if request.prefill and engine.prefill is None:
        engine.find_prefill()
    body = {"model": engine.model} | engine.body(request, sampling)
    row = {"custom_id": request.request_id, "method": "POST", "url": _ENDPOINT, "body": body}
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


@dataclass(eq=False)
class _Sent:
    """A batch that has not ended, in its last known state."""

    batch: Batch
    chunk: _Chunk


class _Batches:
    """The batches of one call of `generate`."""

    def __init__(self, engine: OpenAIEngine, client: OpenAI, sampling: Sampling) -> None:
        self.engine, self.client, self.sampling = engine, client, sampling
        self.waiting: list[_Sent] = []
        self.lost = 0  # rows that got no answer
        self.last = ""  # why not
        self.silent = 0  # polls in a row without a reply

    @cached_property
    def earlier(self) -> list[Batch]:
        """All batches that lidr has sent to this server, in any run."""
        try:
            return self._ours()
        except _FAILURES as error:
            if isinstance(error, APIStatusError) and error.status_code in _NO_BATCHES:
                raise EngineError(
                    f"{self.engine.base_url} has no batch mode ({self.engine.said(error)}); set engine.batch to false"
                ) from None
            self._fail(error)

    def begin(self, chunk: _Chunk) -> Iterator[Completion]:
        """Yield the answers of earlier batches of this chunk; find a running one, or submit the rest."""
        earlier = [batch for batch in self.earlier if (batch.metadata or {}).get("lidr") == chunk.hash]
        for batch in earlier:
            if batch.status in _ENDED:
                yield from self._collect(batch, chunk)
        under_way = [batch for batch in earlier if batch.status not in _ENDED]
        for batch in under_way:
            _say(batch, f"found again, {_state(batch)}")
        if not under_way and chunk.owed:
            under_way = [self._submit(chunk)]
            _say(under_way[0], f"submitted with {len(chunk.owed)} requests")
        self.waiting += [_Sent(batch, chunk) for batch in under_way]

    def wait(self) -> Iterator[Completion]:
        """Yield the rows of each batch as it ends."""
        while self.waiting:
            for sent in list(self.waiting):
                before, sent.batch = sent.batch, self._poll(sent.batch)
                if _state(sent.batch) != _state(before):
                    _say(sent.batch, _state(sent.batch))
                if sent.batch.status in _ENDED:
                    yield from self._collect(sent.batch, sent.chunk)
                    self.waiting.remove(sent)
                    if not any(other.chunk is sent.chunk for other in self.waiting):
                        self._count_lost(sent)
            if self.waiting:
                time.sleep(POLL_S)

    def end(self) -> None:
        """Raises EngineError if rows got no answer."""
        if self.lost:
            raise EngineError(
                f"{self.engine.base_url}: {self.lost} row{'s' * (self.lost > 1)} got no answer in batch mode "
                f"({self.last}). Everything else is kept; {_AGAIN}: it sends a new batch of just these"
            )

    def _count_lost(self, sent: _Sent) -> None:
        self.lost += len(sent.chunk.owed)
        if sent.batch.status != "completed":
            errors = (sent.batch.errors.data if sent.batch.errors else None) or []
            reasons = "".join(f": {one_line(error.message or 'no reason')}" for error in errors[:3])
            self.last = f"batch {sent.batch.id} {sent.batch.status}{reasons}"

    def _ours(self) -> list[Batch]:
        """All batches of lidr, newest first. Raises DamagedReply if one of them cannot be read."""
        found: dict[str, Batch] = {}
        after: str | Omit = omit
        while True:
            page = _read(_Page, self.client.batches.with_raw_response.list(limit=100, after=after))
            ids = [described["id"] for described in page.data if isinstance(described, dict) and "id" in described]
            for described in page.data:
                metadata = described.get("metadata") if isinstance(described, dict) else None
                if isinstance(metadata, dict) and "lidr" in metadata:
                    batch = read_part(Batch, described)
                    found.setdefault(batch.id, batch)
            if not page.has_more or not ids or after == ids[-1]:
                return list(found.values())
            after = str(ids[-1])

    def _submit(self, chunk: _Chunk) -> Batch:
        """A new batch of the chunk's rows without an answer."""
        with tempfile.TemporaryFile() as file:
            chunk.file.seek(0)
            file.writelines(line for line in chunk.file if json.loads(line)["custom_id"] in chunk.owed)
            file.seek(0)
            name = f"lidr-{chunk.hash[:16]}.jsonl"
            try:
                uploaded = self.client.files.with_raw_response.create(file=(name, file), purpose="batch")
                return self._create(_read(_File, uploaded).id, chunk.hash)
            except _FAILURES as error:
                self._fail(error)

    def _create(self, file_id: str, chunk_hash: str) -> Batch:
        """A new batch. If the reply is lost, the batch may still exist, so look before sending it again."""
        once = self.client.with_options(max_retries=0).batches.with_raw_response
        for attempt in range(self.engine.config.max_retries + 1):
            try:
                created = once.create(
                    input_file_id=file_id, endpoint=_ENDPOINT, completion_window="24h", metadata={"lidr": chunk_hash}
                )
                return _read(Batch, created)
            except _FAILURES as error:
                if attempt == self.engine.config.max_retries or not _passing(error):
                    raise
            time.sleep(POLL_S)
            for batch in self._ours():
                if batch.input_file_id == file_id:
                    return batch
        raise AssertionError("the last attempt returns or raises")

    def _poll(self, batch: Batch) -> Batch:
        """The batch in its current state; unchanged if the server does not reply for a while."""
        try:
            batch = _read(Batch, self.client.batches.with_raw_response.retrieve(batch.id))
            self.silent = 0
        except _FAILURES as error:
            self.silent += 1
            if self.silent > SILENT_POLLS or not _passing(error):
                self._fail(error)
        return batch

    def _fail(self, error: Failure) -> NoReturn:
        """Raises EngineError for a call that failed."""
        if isinstance(error, APIStatusError) and not _passing(error):
            self.engine.give_up(self.engine.said(error))
        reason = self.engine.said(error) if isinstance(error, APIStatusError) else one_line(error.__cause__ or error)
        raise EngineError(
            f"{self.engine.base_url} does not answer ({reason}). Batches that were submitted go on there; {_AGAIN} to "
            "pick them up"
        ) from None

    def _collect(self, batch: Batch, chunk: _Chunk) -> Iterator[Completion]:
        """An ended batch's answers for owed rows, with refusals last."""
        refused: list[Completion] = []
        for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
            for line in filter(None, self._lines(file_id)):
                completion = self._completion(line, chunk)
                if completion is not None and completion.error:
                    refused.append(completion)
                elif completion is not None:
                    self.engine.answered = True
                    yield completion
        if not self.engine.answered and len(refused) >= SAME_FAILURES and same_words(refused):
            reason = str(refused[0].error)
            self.engine.check_fields(self.engine.body(Request("", ()), self.sampling), reason)
            self.engine.give_up(all_refused(reason, len(refused)))
        yield from refused

    def _lines(self, file_id: str) -> list[bytes]:
        try:
            return self.client.files.content(file_id).content.split(b"\n")
        except NotFoundError:  # the API keeps files for a month
            return []
        except (APIStatusError, APIConnectionError) as error:
            self._fail(error)

    def _completion(self, line: bytes, chunk: _Chunk) -> Completion | None:
        """The completion in a line; None if it is not for an owed row or has no usable answer."""
        try:
            row = read_part(_Line, parse(line))
        except DamagedReply as failure:
            self.last = f"a line of the batch's output cannot be read: {failure}"
            return None
        request, response = chunk.owed.get(row.custom_id), row.response or _Response()
        if request is None:
            return None
        try:
            if response.status_code == 200:
                completion = read_reply(request, response.body, self.sampling)
            else:
                body = response.body
                reason = body.get("error") if isinstance(body, dict) else row.error
                raise FailedReply(said(response.status_code or "no reply:", reason or {}))
        except (DamagedReply, FailedReply) as failure:
            chunk.damaged[row.custom_id] += isinstance(failure, DamagedReply)
            passing = response.status_code not in ROW_STATUS
            if passing and chunk.damaged[row.custom_id] < DAMAGED_ANSWERS:
                self.last = str(failure)
                return None
            completion = error_completion(row.custom_id, str(failure), passing)
        del chunk.owed[row.custom_id]
        return completion


def _read(kind: type[PartT], raw: Any) -> PartT:
    """The API's reply to a call. Raises DamagedReply."""
    return read_part(kind, parse(raw.http_response.content))


def _passing(error: Failure) -> bool:
    return not isinstance(error, APIStatusError) or may_pass(error.status_code)


def _state(batch: Batch) -> str:
    counts = batch.request_counts
    return batch.status + (f", {counts.completed} of {counts.total} answered, {counts.failed} failed" if counts else "")


def _say(batch: Batch, what: str) -> None:
    print(f"batch {batch.id}: {what}", file=sys.stderr, flush=True)
