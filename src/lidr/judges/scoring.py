"""How good is one answer, from 1 to 10."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lidr.judges.base import Judge, Reply, tag_mark, unscored_reason
from lidr.language_id import LanguageIdentifier
from lidr.language_names import asks_for_other_language
from lidr.languages import get_language
from lidr.records import Rating
from lidr.templates import fill_template, read_template
from lidr.thinking import split_thinking

_IN_BRACKETS = re.compile(r"\[\[([^\[\]\n]{0,40})\]\]")
_NUMBER = r"(\d{1,3}(?:\.\d{1,9})?)(?:\s*+/\s*+10)?"
_RATING = re.compile(rf"\s*+{_NUMBER}\s*+")
# Possessive, so that the time is proportional to the length.
_RATING_LINE = re.compile(rf"[^\w.\-−]*+(?:Rating:[^\w.\-−]*+)?{_NUMBER}\W*+", re.I)
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
    """The rating of a reply, `[[7]]` or a last line that is just a number; None without a single one from 1 to 10.

    All ratings of a reply must agree, those in double brackets and those that have a line of their own.
    """
    found = [_RATING.fullmatch(content) for content in _IN_BRACKETS.findall(text)]
    lines = [_RATING_LINE.fullmatch(line.strip()) for line in text.strip().splitlines()]
    if not found and not (lines and lines[-1]):
        return None
    values = {float(match[1]) if match else None for match in (*found, *filter(None, lines))}
    value = values.pop() if len(values) == 1 else None
    return value if value is not None and LOWEST <= value <= HIGHEST else None


def _rated(item: Answered, reply: Reply) -> Rating:
    value = None if reply.error or reply.cut_off else read_rating(split_thinking(reply.text).answer)
    unscored = None if value is not None else unscored_reason(reply)
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
