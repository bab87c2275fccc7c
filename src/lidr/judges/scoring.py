"""How good is one answer, from 1 to 10."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lidr.judges.base import Judge, Reply, tag_mark
from lidr.language_id import LanguageIdentifier
from lidr.language_names import asks_for_other_language
from lidr.languages import get_language
from lidr.records import Rating
from lidr.templates import fill_template, read_template

_RATING = re.compile(r"\[\[\s*(\d+(?:\.\d+)?)(?:\s*/\s*10)?\s*\]\]")
_RATING_ONLY = re.compile(r"[^\w.\-−]*(?:Rating:)?[^\w.\-−]*(\d+(?:\.\d+)?)(?:\s*/\s*10)?\W*", re.I)
LOWEST, HIGHEST = 1.0, 10.0


@dataclass(frozen=True, slots=True)
class Answered:
    """A question with its answer. `history` are the (role, content) turns before it, `reference` is a right answer."""

    question_id: str
    language: str
    prompt: str
    answer: str
    history: tuple[tuple[str, str], ...] = ()
    group: str = ""
    reference: str = ""


def score_answers(
    judge: Judge, answered: Sequence[Answered], identifier: LanguageIdentifier, title: str
) -> tuple[list[Rating], list[Reply]]:
    """One rating per answer, in their order, and the replies that they come from.

    An empty answer, and one in the wrong language unless the prompt asks for another language, has the lowest rating
    without being asked about.
    """
    ruled = [_rule(item, identifier) for item in answered]
    asked = [_content(item) for item, rule in zip(answered, ruled, strict=True) if rule is None]
    replies = judge.ask(asked, title)
    remaining = iter(replies)
    ratings = [
        Rating(item.question_id, item.language, LOWEST, item.group, rule=rule)
        if rule
        else _rated(item, next(remaining))
        for item, rule in zip(answered, ruled, strict=True)
    ]
    return ratings, replies


def read_rating(text: str) -> float | None:
    """The last `[[7]]` of a reply, or its last line if that is just a number; None where there is none from 1 to 10."""
    last_line = (text.strip().splitlines() or [""])[-1]
    found = _RATING.findall(text) or ([only[1]] if (only := _RATING_ONLY.fullmatch(last_line.strip())) else [])
    value = float(found[-1]) if found else 0.0
    return value if LOWEST <= value <= HIGHEST else None


def _rated(item: Answered, reply: Reply) -> Rating:
    value = None if reply.error else read_rating(reply.text)
    unscored = None if value is not None else reply.error or "unparsed"
    return Rating(item.question_id, item.language, value, item.group, unscored=unscored, raw=reply.text[:500])


def _rule(item: Answered, identifier: LanguageIdentifier) -> str | None:
    if not item.answer.strip():
        return "empty"
    asked = [item.prompt, *(text for role, text in item.history if role == "user")]
    if any(asks_for_other_language(text, item.language) for text in asked):
        return None
    return "wrong_language" if identifier.is_other(item.answer, item.language) else None


def _content(item: Answered) -> str:
    turns = [*item.history, ("user", item.prompt), ("assistant", item.answer)]
    if item.reference:
        turns.append(("reference_answer", item.reference))
    mark = tag_mark(*(text for _, text in turns))
    conversation = "\n\n".join(f"<{role}_{mark}>\n{text}\n</{role}_{mark}>" for role, text in turns)
    language = get_language(item.language).name
    return fill_template(read_template("judge_score"), language=language, conversation=conversation)
