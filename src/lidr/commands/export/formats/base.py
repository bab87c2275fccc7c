"""What every format is given: a pair with its origin, and the export as a whole for its usage notes."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from lidr.plugins import Plugin
from lidr.records import Json, PreferencePair

SPLITS = ("train", "test")  # and the names of their files
PROMPT, CHOSEN, REJECTED = "prompt", "chosen", "rejected"


@dataclass(frozen=True, slots=True)
class ExportedPair:
    """A preference pair of `iteration`, whose answers came from `model`.

    `model` is M_{iteration-1} by its name, `model_fingerprint` the SHA-256 that the run keeps of it. `system_prompt` is
    the one the answers were given under, or None if there was none or it is left out.
    """

    pair: PreferencePair
    iteration: int
    model: str
    model_fingerprint: str
    system_prompt: str | None


@dataclass(frozen=True, slots=True)
class Export:
    """What was exported, with the settings of `training` that any trainer needs, for the usage notes.

    `counts` is pairs by language and split; `start_from` is the model to train, as a command names it.
    """

    run: str
    format: str
    plain: bool
    iterations: list[int]
    counts: dict[str, dict[str, int]]
    models: dict[str, str]  # name -> fingerprint
    start_from: str
    system_prompt: str | None
    beta: float
    alpha: float
    learning_rate: float
    epochs: int
    max_length: int

    def total(self, split: str) -> int:
        return sum(by_split[split] for by_split in self.counts.values())

    @property
    def splits(self) -> list[str]:
        """The splits with a pair in them: train, and test if prompts were held out."""
        return [split for split in SPLITS if self.total(split)]


class ExportFormat(Plugin):
    """One tool's format. Its rows have the tool's own columns; the provenance columns come after them."""

    kind: ClassVar[str] = "exports"
    title: ClassVar[str]
    """The tool's name."""
    plain_by_default: ClassVar[bool] = False
    """Whether rows are texts, and not conversations, if the user does not say."""
    suffix: ClassVar[str] = ".jsonl"
    """The end of the data files' names, `.jsonl` or `.parquet`."""

    @abstractmethod
    def columns(self, item: ExportedPair, plain: bool) -> Json:
        """The tool's own columns of a row."""

    @abstractmethod
    def usage(self, export: Export) -> str:
        """Markdown that says how to use the export with the tool."""

    def files(self, export: Export) -> dict[str, str]:
        """Small text files beside the data, by name."""
        return {}

    def file_name(self, split: str) -> str:
        return split + self.suffix


def provenance(item: ExportedPair) -> Json:
    """The columns that say where a row comes from. All tools ignore them."""
    pair = item.pair
    return {
        "id": pair.id,
        "prompt_id": pair.prompt_id,
        "language": pair.language,
        "kind": pair.kind,
        "iteration": item.iteration,
        "model": item.model,
        "model_fingerprint": item.model_fingerprint,
        "chosen_from": pair.chosen_from,
        "rejected_from": pair.rejected_from,
    }


def messages(item: ExportedPair) -> list[dict[str, str]]:
    """The conversation up to the answer: the system prompt, if there is one, and one user turn."""
    system = [{"role": "system", "content": item.system_prompt}] if item.system_prompt else []
    return [*system, {"role": "user", "content": item.pair.prompt}]


def answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def texts(item: ExportedPair) -> Json:
    """The plain form: three strings. There is no place for a system prompt."""
    return {PROMPT: item.pair.prompt, CHOSEN: item.pair.chosen, REJECTED: item.pair.rejected}


def conversation(item: ExportedPair) -> Json:
    """The conversational form: three lists of messages."""
    return {PROMPT: messages(item), CHOSEN: [answer(item.pair.chosen)], REJECTED: [answer(item.pair.rejected)]}


def fenced(kind: str, code: str) -> str:
    """Our own code in a page of Markdown; it never holds anything that a model wrote."""
    return f"```{kind}\n{code.strip()}\n```\n"
