"""The engine contract: text in, text or its log-probability out, every row as soon as it is finished."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Protocol

from lidr.engine_settings import EngineSettings
from lidr.engines.memory import EngineUse, Need
from lidr.machine.hardware import GIB, Hardware
from lidr.models.architecture import Architecture

FinishReason = Literal["stop", "length", "error"]


@dataclass(frozen=True, slots=True)
class Request:
    """One conversation to be continued.

    `messages` are (role, content) turns that end with a user turn; `prefill` is text with which the assistant's turn
    already begins (it is not repeated in the completion). `needs_text` says that an empty answer is of no use: a server
    that sends one is asked again.
    """

    request_id: str
    messages: tuple[tuple[str, str], ...]
    prefill: str = ""
    needs_text: bool = False

    @property
    def characters(self) -> int:
        return _characters(self.messages) + len(self.prefill)


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """An answer to a conversation that ends with a user turn. `ended`: its end of turn counts as one of its tokens."""

    request_id: str
    messages: tuple[tuple[str, str], ...]
    answer: str
    ended: bool = True

    @property
    def characters(self) -> int:
        """Of the prompt: answers to the same one belong together."""
        return _characters(self.messages)


def _characters(messages: tuple[tuple[str, str], ...]) -> int:
    return sum(len(content) for _, content in messages)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to decode. `temperature` 0 is greedy; a completion ends before the first of the `stop` strings.

    `top_logprobs` asks for the log-probabilities of that many likeliest first tokens, as far as the engine has them.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 42
    top_logprobs: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Completion:
    """What the model wrote after the prompt and the prefill.

    `finish_reason` is "stop" (the model ended its turn, or a stop string came), "length" (cut off by
    `max_new_tokens`) or "error" (no answer: `error` says why and `text` is empty; `passing` says that the same request
    may be answered at another time). `stopped_by` is the stop string that ended it, where one did. `first_token` are
    (token's text, log-probability) of the likeliest first tokens, where `Sampling.top_logprobs` asked for them and the
    engine has them. `thinking` says that a thinking block was set aside from the text (`lidr.thinking`); engines leave
    it there.
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
    """log p(answer | conversation) in nats, summed over the answer's tokens; None exactly when `error` says why."""

    request_id: str
    logp: float | None
    completion_tokens: int = 0
    error: str | None = None


class EnginePlugin(EngineSettings):
    """An engine. Its fields are its settings; nothing is loaded before `open`."""

    can_score: ClassVar[bool] = False
    """Whether its engine is a `ScoringEngine`."""
    in_cluster: ClassVar[bool] = False
    """Whether it can be the engine of a worker of `ray`: it holds the weights, and is part of this package."""
    batches_together: ClassVar[int] = 8
    """A worker of a cluster is handed at most so many times `at_once` requests: its slots run empty at the end."""

    @abstractmethod
    def open(self, model: str, trust_remote_code: bool) -> Engine:
        """The engine with a model: a folder in Hugging Face's format, or its name on the `server`."""

    def check(self, field: str) -> None:
        """Raise ConfigError for what it needs and this machine lacks. `field` is where the recipe has it."""

    def loads_as(self, stored: str) -> tuple[str, str | None]:
        """The torch dtype and the quantisation in which it loads weights that are `stored` in a dtype on disk."""
        return stored, None

    def at_once(self) -> int:
        """Requests that it answers at the same time."""
        return 1

    def gpus(self) -> int:
        """GPUs that it takes by itself, if there are some."""
        return 1

    def memory_gib(self, weights_gib: float) -> float:
        """For `lidr plan`: memory on each device, for weights of that size in 16 bits."""
        return weights_gib

    def use(self, shape: Architecture, hardware: Hardware, longest: float, mean: float) -> EngineUse:
        """For `lidr plan`: all that it takes, for requests of so many tokens with their answers."""
        gib = self.memory_gib(2.0 * shape.parameters / GIB)
        return EngineUse(Need.of({"engine": gib * GIB}, hardware.device), self.at_once())

    def fixes(self, use: EngineUse, hardware: Hardware) -> Iterator[tuple[str, EnginePlugin]]:
        """For `lidr plan`: changes such as `quantize=int8` with which it takes less, the mildest first."""
        yield from ()

    def sharing(self, share: float) -> tuple[str, EnginePlugin] | None:
        """For `lidr plan`: the change with which it takes that share of the GPU's memory, if there is one."""
        return None

    def notes(self) -> list[str]:
        """For `lidr plan`: what it assumes of this engine."""
        return []


def plugin_of(engine: EngineSettings) -> EnginePlugin:
    """The engine of a recipe's section."""
    assert isinstance(engine, EnginePlugin)  # made by `lidr.plugins`
    return engine


class Engine(Protocol):
    """A model that answers. Open one with `open_engine`, which gives its memory back at the end."""

    def generate(
        self, requests: Iterable[Request], sampling: Sampling, done: Collection[str] = frozenset()
    ) -> Iterator[Completion]:
        """Yield one completion per request that is not in `done`, each as soon as it is finished, in any order.

        `requests` is always the full list of a stage, and `done` the ids whose completions are already kept: batches
        are formed from the full list, so that what a row is batched with does not depend on where a run was resumed.
        Completions of `done` requests may be yielded again; the caller ignores them.
        """
        ...

    def close(self) -> None:
        """Free the model. Calling it twice is harmless."""
        ...


class ScoringEngine(Engine, Protocol):
    """One that also tells log-probabilities of given answers, see `EnginePlugin.can_score`."""

    def score(self, requests: Iterable[ScoreRequest], done: Collection[str] = frozenset()) -> Iterator[Scored]:
        """Yield the log-probability of every answer that is not in `done`, in any order; `done` as in `generate`."""
        ...
