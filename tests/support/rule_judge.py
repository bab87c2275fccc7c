"""A judge by rule, in place of a model: it reads our templates, so what it prefers is known exactly."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from tests.support.openai_server import Reply, TestServer


def read_pair(content: str) -> tuple[str, str] | None:
    """The two answers of a pairwise request, in the order in which they are shown; None for other requests."""
    mark = re.search(r"<message_(\w+)>", content)  # the first tag, before any text of the models
    if mark is None:
        return None
    first, second = (content.partition(f"<answer_{label}_{mark[1]}>\n")[2] for label in "AB")
    return first.partition(f"\n</answer_A_{mark[1]}>")[0], second.partition(f"\n</answer_B_{mark[1]}>")[0]


def read_conversation(content: str) -> list[tuple[str, str]]:
    """The (role, text) turns of a scoring request; a reference answer is one, too."""
    mark = re.search(r"<user_(\w+)>", content)
    if mark is None:
        return []
    return re.findall(rf"<(\w+)_{mark[1]}>\n(.*?)\n</\1_{mark[1]}>", content, re.S)


def quality(text: str) -> int:
    """What the judge takes for quality: how many different words an answer has."""
    return len(set(text.lower().split()))


def word_length(text: str) -> int:
    """Another measure, on which real models differ less: the mean length of a word, in hundredths of a character."""
    words = text.split()
    return 100 * sum(map(len, words)) // max(len(words), 1)


class RuleJudge:
    """Prefers the answer of higher `quality`, or of another `measure`; one that is not more than `margin` above the
    other is no better, and then the one shown first is named, as a biased judge does.

    `strength` is how sure it is, as the difference of the two labels' log-probabilities; `garble` is the share of
    requests (by their text) to which it says something that is no verdict.
    """

    def __init__(
        self,
        margin: int = 0,
        strength: float = 4.0,
        garble: float = 0.0,
        measure: Callable[[str], int] = quality,
    ) -> None:
        self.margin, self.strength, self.garble, self.measure = margin, strength, garble, measure

    def __call__(self, body: dict[str, Any]) -> Reply:
        content: str = body["messages"][-1]["content"]
        if self.garble and sum(map(ord, content)) % 1000 < 1000 * self.garble:
            return Reply("As a language model, I find both of them lovely.")
        pair = read_pair(content)
        if pair is None:
            answer = [text for role, text in read_conversation(content) if role == "assistant"][-1]
            return Reply(f"It is clear enough. Rating: [[{min(10, 1 + quality(answer) // 10)}]]")
        better = "A" if self.measure(pair[0]) + self.margin >= self.measure(pair[1]) else "B"
        other = "B" if better == "A" else "A"
        sure = -math.log1p(math.exp(-self.strength))
        return Reply(better, first_token=((better, sure), (other, sure - self.strength), (" the", -20.0)))


def judge_settings(server: TestServer, **changes: Any) -> dict[str, Any]:
    """`evaluation.judge` of a recipe with a judge on this server; `changes` are fields of it."""
    engine = {"type": "openai", "base_url": server.base_url, "concurrency": 4}
    return {"model": "rule", "engine": engine} | changes


def essay(words: int) -> str:
    """An English text of so many different words (300 at most), so of this `quality`."""
    nouns = _NOUNS.split()
    return " ".join(f"{nouns[n % 30]}{_ENDINGS[n // 30]}" for n in range(words))


_NOUNS = (
    "garden window kitchen mother winter silver yellow morning teacher doctor sister brother summer father finger "
    "village farmer weather picture leather butter number letter shoulder thunder wonder corner border pepper paper"
)
_ENDINGS = ("", "s", "like", "less", "ful", "ness", "ing", "ed", "house", "work")
