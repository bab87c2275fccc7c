"""An engine of several engines: workers on a Ray cluster, each with the model on its own GPUs or CPU cores.

It uses only Ray's core: one actor per worker, which streams its answers back row by row.
"""

from __future__ import annotations

import math
import os
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, cast

from lidr.engines.base import Completion, Engine, Request, Sampling, Scored, ScoreRequest, ScoringEngine, plugin_of
from lidr.engines.ray import Ray
from lidr.errors import EngineError, LidrError
from lidr.machine.torch_environment import TORCH_ENVIRONMENT
from lidr.models.chat import DATE, today

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ImportError as error:
    raise EngineError(f'engine.type ray needs one more package: pip install "lidr[ray]" ({error})') from None

if TYPE_CHECKING:
    from ray import ObjectRef, ObjectRefGenerator
    from ray.actor import ActorHandle

T = TypeVar("T")

WINDOW_PIECES = 64  # requests of so many pieces are sorted by length; bounds the memory
MAX_DEATHS = 3  # in a row, of workers that load the model or that answer the same piece
WAIT_S = 10.0  # after this time without news, check that the cluster has room for a worker
TOGETHER_S = 0.1  # a worker sends the answers of this time in one message
CLOSE_S = 5.0  # workers have this time to free the model before their processes are ended
OBJECT_STORE_BYTES = 2**27  # of a Ray that is started here; texts are small, and Ray's default is 30 % of the memory


class _Options(TypedDict):
    """The options of a worker's actor."""

    num_cpus: int
    num_gpus: float
    runtime_env: dict[str, dict[str, str]]


class _Worker:
    """The class of an actor. Loading is a separate call, so that its error differs from the death of a process."""

    def __init__(self, make_engine: Callable[[], Engine]) -> None:
        self.make_engine = make_engine

    def load(self) -> None:
        self.engine = self.make_engine()

    def answer(self, requests: list[Any], sampling: Sampling | None, done: frozenset[str]) -> Iterator[list[Any]]:
        """Completions, or scores of given answers if `sampling` is None."""
        yield from together(
            self.engine.generate(requests, sampling, done)
            if sampling
            else cast(ScoringEngine, self.engine).score(requests, done)
        )

    def close(self) -> None:
        self.engine.close()


def together(completions: Iterable[T]) -> Iterator[list[T]]:
    """Answers in messages, each with those of TOGETHER_S seconds, because every message costs its reader some time."""
    answers: list[T] = []
    sent = time.monotonic()
    try:
        for completion in completions:
            answers.append(completion)
            if time.monotonic() - sent >= TOGETHER_S:
                yield answers
                answers, sent = [], time.monotonic()
    except Exception:
        yield answers  # so that finished answers are not lost
        raise
    yield answers


@dataclass(slots=True, eq=False)
class _Piece:
    """Requests that one worker answers together, and the ids that are still owed."""

    requests: list[Request | ScoreRequest]
    owed: set[str]
    deaths: int = 0  # of its workers since the last answer


@dataclass(slots=True, eq=False)
class _Seat:
    """A worker. `loading` is None if it is ready to answer; it works on the first of `pieces`."""

    actor: ActorHandle
    loading: ObjectRef | None
    pieces: deque[tuple[_Piece, ObjectRefGenerator]] = field(default_factory=deque)  # with the stream of answers

    @property
    def awaited(self) -> ObjectRef | ObjectRefGenerator | None:
        return self.loading if self.loading is not None else self.pieces[0][1] if self.pieces else None

    def takes(self, ahead: int) -> bool:
        """Whether it gets a piece after `ahead` others: early enough not to wait, late enough to leave it to others."""
        if self.loading is not None or len(self.pieces) != ahead:
            return False
        return not ahead or 4 * len(self.pieces[0][0].owed) <= len(self.pieces[0][0].requests)


class RayEngine:
    """`workers` engines that share the requests of a call.

    The full list of requests and the number of workers decide the pieces, so they are the same in an interrupted and an
    uninterrupted run; it does not matter which worker gets which. If a worker dies, another one gets the rows that it
    has not answered. An engine's error in a worker is raised here as EngineError.
    """

    def __init__(self, config: Ray, make_engine: Callable[[], Engine]) -> None:
        self.config, self.make_engine, self.failed_starts = config, make_engine, 0
        self.seats: list[_Seat] = []
        self.connected = _connect(config.address)
        try:
            self.options = _actor_options(config)
            self.count = _count_workers(config, self.options)
            self.seats = [self._start() for _ in range(self.count)]
            self._wait_until_loaded()
        except BaseException:
            self.close()
            raise

    def generate(
        self, requests: Iterable[Request], sampling: Sampling, done: Collection[str] = frozenset()
    ) -> Iterator[Completion]:
        """See `Engine.generate`. If it is ended early, it cancels the workers' pieces."""
        yield from self._share_out(requests, sampling, done)

    def score(self, requests: Iterable[ScoreRequest], done: Collection[str] = frozenset()) -> Iterator[Scored]:
        """See `ScoringEngine.score`."""
        yield from self._share_out(requests, None, done)

    def _share_out(self, requests: Iterable[Any], sampling: Sampling | None, done: Collection[str]) -> Iterator[Any]:
        worker = plugin_of(self.config.worker)
        at_once = worker.at_once()
        pieces = cut(requests, done, at_once, at_once * worker.batches_together, self.count)
        queue = deque(islice(pieces, 1))  # pieces of workers that died, then the next new one
        try:
            while queue or any(seat.pieces for seat in self.seats):
                self._hand_out(queue, pieces, sampling)
                for seat in self._wait():
                    yield from self._receive(seat, queue)
        finally:
            for seat in self.seats:
                for _, stream in seat.pieces:
                    ray.cancel(stream)
                seat.pieces.clear()

    def close(self) -> None:
        """Free the models and end the workers, and also Ray if this engine started it or connected to it."""
        if ray.is_initialized():
            closing = [seat.actor.close.remote() for seat in self.seats if seat.loading is None]
            if closing:
                ray.wait(closing, num_returns=len(closing), timeout=CLOSE_S)
            for seat in self.seats:
                ray.kill(seat.actor)
            if self.connected:
                ray.shutdown()
        self.seats, self.connected = [], False

    def _start(self) -> _Seat:
        actor = ray.remote(_Worker).options(**self.options).remote(self.make_engine)
        return _Seat(actor, actor.load.remote())

    def _wait_until_loaded(self) -> None:
        """Wait while workers keep finishing to load. One is enough to begin; the others join when they are ready."""
        told = False
        while any(seat.loading is not None for seat in self.seats):
            ready = self._wait()
            for seat in ready:
                list(self._receive(seat, deque()))
            if not ready:
                if any(seat.loading is None for seat in self.seats):
                    return
                if not told:
                    print("waiting for workers: they load the model, or others use the cluster", file=sys.stderr)
                told = True

    def _hand_out(self, queue: deque[_Piece], pieces: Iterator[_Piece], sampling: Sampling | None) -> None:
        """Give pieces to workers that are free or nearly so."""
        for ahead in (0, 1):
            for seat in self.seats:
                if queue and seat.takes(ahead):
                    piece = queue.popleft()
                    queue.extend(islice(pieces, 0 if queue else 1))
                    done = frozenset(request.request_id for request in piece.requests) - piece.owed
                    method = seat.actor.answer.options(num_returns="streaming")
                    seat.pieces.append((piece, method.remote(piece.requests, sampling, done)))

    def _wait(self) -> list[_Seat]:
        """Workers with news. Raises EngineError if no worker is left and none can be started."""
        awaited = {id(seat.awaited): seat for seat in self.seats if seat.awaited is not None}
        references = [seat.awaited for seat in awaited.values()]
        ready, _ = ray.wait(references, num_returns=1, timeout=WAIT_S)
        if not ready and all(seat.loading is not None for seat in self.seats) and not _room(self.options):
            raise EngineError(f"the workers have died, and {_shortage(1, self.options)}; run again to continue")
        if ready:  # take all, so that a worker that always has news does not delay others
            ready, _ = ray.wait(references, num_returns=len(references), timeout=0)
        return [awaited[id(reference)] for reference in ready]

    def _receive(self, seat: _Seat, queue: deque[_Piece]) -> Iterator[Completion | Scored]:
        """Take a worker's message: that it has loaded the model, answers, the end of a piece, or its death."""
        try:
            if seat.loading is not None:
                ray.get(seat.loading)
                seat.loading, self.failed_starts = None, 0
                return
            piece, stream = seat.pieces[0]
            completions = ray.get(next(stream))
        except StopIteration:
            seat.pieces.popleft()
        except RayTaskError as error:
            raise _raised_in_worker(error) from None
        except RayError as error:
            self._replace(seat, error, queue)
        else:
            piece.owed.difference_update(completion.request_id for completion in completions)
            piece.deaths = 0
            yield from completions

    def _replace(self, seat: _Seat, error: Exception, queue: deque[_Piece]) -> None:
        """Replace a worker that died, and take back its pieces. Raises EngineError after MAX_DEATHS."""
        reason = " ".join(str(error).split())[:500]
        if seat.loading is not None:
            self.failed_starts += 1
            if self.failed_starts == MAX_DEATHS:
                raise EngineError(f"{MAX_DEATHS} workers in a row died before the model was loaded: {reason}")
        if seat.pieces and (piece := seat.pieces[0][0]).owed:
            piece.deaths += 1
            if piece.deaths == MAX_DEATHS:
                raise EngineError(
                    f"{MAX_DEATHS} workers in a row died of the same {len(piece.owed)} requests, one of them "
                    f"{min(piece.owed)}: {reason}"
                )
        owed = sum(len(piece.owed) for piece, _ in seat.pieces)
        print(f"a worker died, {owed} rows go to others; starting a new one ({reason})", file=sys.stderr)
        queue.extendleft(piece for piece, _ in reversed(seat.pieces) if piece.owed)
        ray.kill(seat.actor)  # it may be disconnected and still run
        self.seats[self.seats.index(seat)] = self._start()


def cut(
    requests: Iterable[Request | ScoreRequest], done: Collection[str], smallest: int, largest: int, workers: int
) -> Iterator[_Piece]:
    """Pieces with owed requests, those with long prompts first.

    A piece is half of an even share of the remaining requests, in whole batches of `smallest`: large at first and small
    at the end, so that workers finish together (guided self-scheduling, Polychronopoulos and Kuck, 1987). `done` only
    decides which pieces are left out.
    """
    remaining = iter(requests)
    while window := list(islice(remaining, largest * WINDOW_PIECES)):
        window.sort(key=lambda request: (-request.characters, request.messages, request.request_id))
        share, start = math.ceil(len(window) / workers), 0
        while start < len(window):
            batches = math.ceil((len(window) - start) / (2 * workers * smallest))
            size = min(largest, share, batches * smallest) if workers > 1 else largest
            part = window[start : start + size]
            start += size
            owed = {request.request_id for request in part if request.request_id not in done}
            if owed:
                yield _Piece(part, owed)


def _connect(address: str | None) -> bool:
    """Start Ray or connect to a cluster; False if this process already has one. Raises EngineError if that fails."""
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    here = {} if address else {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **here)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise EngineError(
            f"engine.address {address}: {' '.join(str(error).split())[:300]}; start the cluster with `ray start`, and "
            "lidr on one of its nodes"
        ) from None
    return True


def _actor_options(config: Ray) -> _Options:
    """The needs of each worker, and its environment: threads for its own cores only."""
    gpus = config.gpus_per_worker
    if gpus is None:
        gpus = plugin_of(config.worker).gpus() if any(node.get("GPU") for node in _nodes()) else 0
    variables = {name: os.environ.get(name, value) for name, value in TORCH_ENVIRONMENT.items()}
    variables["OMP_NUM_THREADS"] = str(config.cpus_per_worker)
    variables[DATE] = today().isoformat()
    return {"num_cpus": config.cpus_per_worker, "num_gpus": gpus, "runtime_env": {"env_vars": variables}}


def _count_workers(config: Ray, options: _Options) -> int:
    """The number that the recipe asks for, or that fits. Raises EngineError if fewer fit."""
    room = _room(options)
    count = config.workers or room
    if not 0 < count <= room:
        raise EngineError(f"engine.workers: {_shortage(max(1, count), options)}")
    return count


def _needs(options: _Options) -> dict[str, float]:
    return {"CPU": options["num_cpus"], "GPU": options["num_gpus"]}


def _nodes() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _room(options: _Options) -> int:
    """The number of workers that fit if nothing else uses the cluster; all that a worker needs is on one node."""
    needs = {name: each for name, each in _needs(options).items() if each}
    # Workers may share GPUs (0.1 of one each), and 1 / 0.1 must be 10.
    return sum(min(int(node.get(name, 0) / each + 1e-6) for name, each in needs.items()) for node in _nodes())


def _shortage(count: int, options: _Options) -> str:
    nodes = _nodes()
    has = " and ".join(f"{sum(node.get(name, 0) for node in nodes):g} {name}s" for name in ("GPU", "CPU"))
    return (
        f"{count} with {options['num_gpus']:g} GPUs and {options['num_cpus']} CPUs each, all on one node, do not fit: "
        f"the cluster has {has} on {len(nodes)} nodes, which is room for {_room(options)}"
    )


def _raised_in_worker(error: RayTaskError) -> EngineError:
    """The message alone if it is written for the user; else with the worker's traceback."""
    cause = error.cause
    if isinstance(cause, LidrError):
        return EngineError(str(cause))
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # Ray colours it
    return EngineError(f"the engine of a worker failed: {type(cause).__name__}: {cause}\n{text}")
