"""The engine contract: text in, text or its log-probability out, each row as soon as it is finished."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal, Protocol

from lidr.engine_settings import EngineSettings
from lidr.engines.memory import EngineUse, Need
from lidr.machine.hardware import GIB, Hardware
from lidr.models.architecture import Architecture
from lidr.records import Json

FinishReason = Literal["stop", "length", "error"]
Turn = Literal["assistant", "user"]


@dataclass(frozen=True, slots=True)
class Request:
    """A conversation to be continued.

    `messages` are (role, content) turns that end with a user turn; `prefill` is the given beginning of the assistant's
    turn (it is not repeated in the completion). `needs_text` says that an empty answer is of no use; a request to a
    server is then sent again.

    If `turn` is "user", the model writes the user's turn that follows `messages` (perhaps only a system turn, or none),
    for engines that can do it (`EnginePlugin.writes_user_turns`). Control tokens that it writes stay in the text.
    """

    request_id: str
    messages: tuple[tuple[str, str], ...]
    prefill: str = ""
    needs_text: bool = False
    turn: Turn = "assistant"

    @property
    def characters(self) -> int:
        return _characters(self.messages) + len(self.prefill)


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """An answer to a conversation that ends with a user turn. `ended`: the end of turn counts as one of its tokens."""

    request_id: str
    messages: tuple[tuple[str, str], ...]
    answer: str
    ended: bool = True

    @property
    def characters(self) -> int:
        """The length of the prompt, so that answers to one prompt are together."""
        return _characters(self.messages)


def _characters(messages: tuple[tuple[str, str], ...]) -> int:
    return sum(len(content) for _, content in messages)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to decode. `temperature` 0 is greedy; a completion ends before the first of the `stop` strings.

    `top_logprobs` asks for the log-probabilities of that many likeliest first tokens, if the engine has them.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 42
    top_logprobs: int = 0

    def as_dict(self) -> Json:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Completion:
    """The model's text after the prompt and the prefill.

    `finish_reason` is "stop" (the model ended its turn or wrote a stop string), "length" (cut off by `max_new_tokens`)
    or "error" (no answer: `error` says why, `text` is empty; `passing` says that the same request may succeed later).
    `stopped_by` is the stop string that ended it, if any. `first_token` are (token's text, log-probability) of the
    likeliest first tokens, if `Sampling.top_logprobs` asked for them and the engine has them. `thinking` says that
    `lidr.thinking` has removed a thinking block from the text; engines leave it in.
    """

    request_id: str
    text: str
    finish_reason: FinishReason
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str | None = None
    stopped_by: str | None = None
    first_token: tuple[tuple[str, float], ...] = ()
    thinking: bool = False
    passing: bool = False


@dataclass(frozen=True, slots=True)
class Scored:
    """log p(answer | conversation) in nats, summed over the answer's tokens; None exactly if `error` says why."""

    request_id: str
    logp: float | None
    completion_tokens: int = 0
    error: str | None = None


class EnginePlugin(EngineSettings):
    """An engine. Its fields are its settings; only `open` loads anything."""

    can_score: ClassVar[bool] = False
    """Whether `open` returns a `ScoringEngine`."""
    writes_user_turns: ClassVar[bool] = False
    """Whether it answers requests whose `turn` is the user's."""
    in_cluster: ClassVar[bool] = False
    """Whether a worker of `ray` can use it: it has the weights, and is part of this package."""
    batches_together: ClassVar[int] = 8
    """A worker of a cluster gets at most so many times `at_once` requests; its slots run empty at their end."""

    @abstractmethod
    def open(self, model: str, trust_remote_code: bool) -> Engine:
        """The engine with a model: a folder in Hugging Face's format, or its name on the `server`."""

    def check(self, field: str) -> None:
        """Raise ConfigError if this machine lacks something that it needs. `field` is its place in the recipe."""

    def loads_as(self, stored: str) -> tuple[str, str | None]:
        """The torch dtype and the quantisation in which it loads weights of the dtype `stored`."""
        return stored, None

    def at_once(self) -> int:
        """The number of requests that it answers at the same time."""
        return 1

    def gpus(self) -> int:
        """The number of GPUs that it takes, if there are any."""
        return 1

    def memory_gib(self, weights_gib: float) -> float:
        """For `lidr plan`: memory on each device, if the weights have this size in 16 bits."""
        return weights_gib

    def use(self, shape: Architecture, hardware: Hardware, longest: float, mean: float) -> EngineUse:
        """For `lidr plan`: its use of the hardware; `longest` and `mean` are tokens of requests with their answers."""
        gib = self.memory_gib(2.0 * shape.parameters / GIB)
        return EngineUse(Need.of({"engine": gib * GIB}, hardware.device), self.at_once())

    def fixes(self, use: EngineUse, hardware: Hardware) -> Iterator[tuple[str, EnginePlugin]]:
        """For `lidr plan`: changes that save memory, such as `quantize=int8`, the mildest first."""
        yield from ()

    def sharing(self, share: float) -> tuple[str, EnginePlugin] | None:
        """For `lidr plan`: the change that limits it to this share of the GPU's memory, if there is one."""
        return None

    def notes(self) -> list[str]:
        """For `lidr plan`: its assumptions about this engine."""
        return []


def plugin_of(engine: EngineSettings) -> EnginePlugin:
    """The engine of a recipe's section."""
    assert isinstance(engine, EnginePlugin)  # `lidr.plugins` makes no other
    return engine


class Engine(Protocol):
    """A model that answers. Open it with `open_engine`, which closes it at the end."""

    def generate(
        self, requests: Iterable[Request], sampling: Sampling, done: Collection[str] = frozenset()
    ) -> Iterator[Completion]:
        """Yield a completion for each request that is not in `done`, as soon as it is finished, in any order.

        `requests` is always the full list of a stage, and `done` the ids with kept completions. Batches are formed from
        the full list, so the batch of a row does not depend on where a run was resumed. Completions of `done` requests
        may be yielded again; the caller ignores them.
        """
        ...

    def close(self) -> None:
        """Free the model. Calling it twice is harmless."""
        ...


class ScoringEngine(Engine, Protocol):
    """An engine that also gives the log-probabilities of answers, see `EnginePlugin.can_score`."""

    def score(self, requests: Iterable[ScoreRequest], done: Collection[str] = frozenset()) -> Iterator[Scored]:
        """Yield the log-probability of every answer that is not in `done`, in any order; `done` as in `generate`."""
        ...
