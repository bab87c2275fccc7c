"""The rows of a run's files. They are frozen, one JSON object per line, and joined by `prompt_id` and `language`.

A row that could not be made says so in its field `failure`, `error` or `reason`; a failure is never stored as text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal, Self

Json = dict[str, object]  # an object of a JSON text


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def content_id(*parts: object) -> str:
    """A row's id: 16 hex digits (64 bits) of the SHA-256 of everything that defines the row."""
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()[:16]


def writable(text: str) -> str:
    """The text with U+FFFD for lone surrogates (half of an emoji), which cannot be written as UTF-8."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class Row:
    """What the records share: conversion to and from a line of JSON, with the fields in their declared order."""

    __slots__ = ()

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls, row: Mapping[str, object]) -> Self:
        return cls(**{field.name: row[field.name] for field in fields(cls) if field.name in row})  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Prompt(Row):
    """x_i^l: prompt i in language l. `prompt_id` is the same in every language.

    `answer` is the right answer if the source has one. Training never looks at it; the probe may.
    """

    prompt_id: str
    language: str
    text: str
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class Response(Row):
    """y_i^l = M_t(x_i^l). `text` is None exactly when `error` says why there is no answer.

    `sample` counts the answers to one prompt in one language, from 0.
    """

    id: str
    prompt_id: str
    language: str
    text: str | None
    finish_reason: Literal["stop", "length", "error"]
    completion_tokens: int
    error: str | None = None
    sample: int = 0


@dataclass(frozen=True, slots=True)
class Translation(Row):
    """y_i^{source->target}, made by M_t from its own answer. `text` is None exactly when `failure` names the reason.

    `recovered` says how a text was rescued: "unclosed" (the turn ended without the closing tag) or "paragraphs" (the
    whole was cut off, broke the format, came back unchanged or was summed up, and was translated paragraph by
    paragraph). `tokens` is how many were generated for the whole, `paragraph_tokens` for its paragraphs; None if it was
    not tried by paragraphs. `sample` counts the translations of one answer, from 0.
    """

    id: str
    prompt_id: str
    source_language: str
    target_language: str
    text: str | None
    failure: str | None = None
    recovered: str | None = None
    tokens: int = 0
    paragraph_tokens: int | None = None
    sample: int = 0

    @property
    def all_tokens(self) -> int:
        return self.tokens + (self.paragraph_tokens or 0)


@dataclass(frozen=True, slots=True)
class Score(Row):
    """log p(y | x_i^given) of one of a prompt's answers under a model, in nats, summed over the answer's `tokens`.

    `origin` is a language code for a direct answer, whose number is `sample`, or "en->es" for a translation. `logp`
    is None exactly when `error` says why.
    """

    id: str
    prompt_id: str
    given: str
    origin: str
    sample: int
    logp: float | None
    tokens: int
    error: str | None = None


@dataclass(frozen=True, slots=True)
class PreferencePair(Row):
    """(x, y_w, y_l) in one language. `kind` groups pairs; by default it is "non_dominant" or "dominant".

    `chosen_from` and `rejected_from` say where a text comes from: a language code for a direct answer in it, or
    "en->es" for a translation. `chosen_cut_off` and `rejected_cut_off` say that the length limit ended a text, so it
    has no end of turn. The scores are the numbers by which the strategy preferred one to the other, if it has any.
    """

    id: str
    prompt_id: str
    language: str
    kind: str
    prompt: str
    chosen: str
    rejected: str
    chosen_from: str
    rejected_from: str
    chosen_cut_off: bool = False
    rejected_cut_off: bool = False
    chosen_score: float | None = None
    rejected_score: float | None = None

    def to_json(self) -> str:
        """Without the fields that are None, such as the scores of a strategy that does not score."""
        row = {name: value for name, value in asdict(self).items() if value is not None}
        return json.dumps(row, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Dropped(Row):
    """A pair that was not made, and the reason. `detail` is for people."""

    prompt_id: str
    language: str
    kind: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Verdict(Row):
    """How a judge compares an answer with another one. `preference` is from 0 to 1, where 1 prefers the answer.

    It is None exactly when `unscored` says why. `shown_first` and `shown_second` are the preferences in the two orders;
    `rule` names what decided without the judge ("identical", "empty", "wrong_language").
    """

    question_id: str
    language: str
    preference: float | None
    outcome: str | None
    shown_first: float | None = None
    shown_second: float | None = None
    rule: str | None = None
    unscored: str | None = None
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Rating(Row):
    """A judge's points for one answer, 1 to 10. `rating` is None exactly when `unscored` says why; `rule` as above."""

    question_id: str
    language: str
    rating: float | None
    group: str = ""
    rule: str | None = None
    unscored: str | None = None
    raw: str = ""
