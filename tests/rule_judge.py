"""A judge by rule, in place of a model: it reads our templates, so what it prefers is known exactly."""

from __future__ import annotations

import math
import re
from typing import Any

from tests.openai_server import Reply


def read_pair(content: str) -> tuple[str, str] | None:
    """The two answers of a pairwise request, in the order in which they are shown; None for other requests."""
    found = re.search(r"<answer_A>\n(.*)\n</answer_A>\n\n<answer_B>\n(.*)\n</answer_B>", content, re.S)
    return (found[1], found[2]) if found else None


def quality(text: str) -> int:
    """What the judge takes for quality: how many different words an answer has."""
    return len(set(text.lower().split()))


class RuleJudge:
    """Prefers the answer of higher `quality`; one with less than `margin` more words than the other is no better, and
    then the one shown first is named, as a biased judge does.

    `strength` is how sure it is, as the difference of the two labels' log-probabilities; `garble` is the share of
    requests (by their text) to which it says something that is no verdict.
    """

    def __init__(self, margin: int = 0, strength: float = 4.0, garble: float = 0.0) -> None:
        self.margin, self.strength, self.garble = margin, strength, garble

    def __call__(self, body: dict[str, Any]) -> Reply:
        content: str = body["messages"][-1]["content"]
        if self.garble and sum(map(ord, content)) % 1000 < 1000 * self.garble:
            return Reply("As a language model, I find both of them lovely.")
        pair = read_pair(content)
        if pair is None:
            answer = content.rpartition("<assistant>\n")[2].partition("\n</assistant>")[0]
            return Reply(f"It is clear enough. Rating: [[{min(10, 1 + quality(answer) // 10)}]]")
        better = "A" if quality(pair[0]) + self.margin >= quality(pair[1]) else "B"
        other = "B" if better == "A" else "A"
        sure = -math.log1p(math.exp(-self.strength))
        return Reply(better, first_token=((better, sure), (other, sure - self.strength), (" the", -20.0)))
