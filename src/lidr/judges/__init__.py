"""Judges: an engine, a template and a parser. A verdict that does not parse is unscored, never a tie.

`pairwise` says which of two answers is better, in both orders; `scoring` gives one answer 1 to 10 points.
"""

from __future__ import annotations

from lidr.judges.base import (
    AnsweredQuestion,
    Comparison,
    Judge,
    JudgeProtocol,
    Reply,
    judge_identity,
    open_judge,
    read_replies,
    usage,
)
from lidr.judges.pairwise import compare, summarise
from lidr.judges.scoring import score_answers

__all__ = [
    "AnsweredQuestion",
    "Comparison",
    "Judge",
    "JudgeProtocol",
    "Reply",
    "compare",
    "judge_identity",
    "open_judge",
    "read_replies",
    "score_answers",
    "summarise",
    "usage",
]
