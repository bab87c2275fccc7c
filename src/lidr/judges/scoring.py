"""How good is one answer, from 1 to 10."""

from __future__ import annotations

from collections.abc import Sequence

from lidr.judges.base import LOWEST, AnsweredQuestion, Judge, Reply, unscored_reason
from lidr.languages.identification import LanguageIdentifier
from lidr.languages.names import asks_for_other_language
from lidr.records import Rating


def score_answers(
    judge: Judge, answered: Sequence[AnsweredQuestion], identifier: LanguageIdentifier, title: str
) -> tuple[list[Rating], list[Reply]]:
    """One rating per answer, in their order, and the replies that they come from.

    An empty answer, and one in the wrong language unless the prompt asks for another language, has the lowest rating
    without being asked about.
    """
    ruled = [_rule(item, identifier) for item in answered]
    asked = [judge.protocol.ask_points(item) for item, rule in zip(answered, ruled, strict=True) if rule is None]
    replies = judge.ask(asked, title)
    remaining = iter(replies)
    ratings = [
        Rating(item.question_id, item.language, LOWEST, item.group, rule=rule)
        if rule
        else _rated(judge, item, next(remaining))
        for item, rule in zip(answered, ruled, strict=True)
    ]
    return ratings, replies


def _rated(judge: Judge, item: AnsweredQuestion, reply: Reply) -> Rating:
    value = judge.points(reply)
    unscored = None if value is not None else unscored_reason(reply)
    return Rating(item.question_id, item.language, value, item.group, unscored=unscored, raw=reply.text[:500])


def _rule(item: AnsweredQuestion, identifier: LanguageIdentifier) -> str | None:
    if not item.answer.strip():
        return "empty"
    asked = [item.prompt, *(text for role, text in item.history if role == "user")]
    if any(asks_for_other_language(text, item.language) for text in asked):
        return None
    return "wrong_language" if identifier.is_other(item.answer, item.language) else None
