"""How judges are asked by default: in the package's templates, for a label or a number in double brackets."""

from __future__ import annotations

import math
import re

from lidr.judges.base import HIGHEST, LOWEST, AnsweredQuestion, Comparison, JudgeProtocol, Reply, tag_mark
from lidr.languages import get_language
from lidr.templates import fill_template, read_template
from lidr.thinking import split_thinking

_LABELS = ("A", "B")
_IN_BRACKETS = re.compile(r"\[\[([^\[\]\n]{0,40})\]\]")
_AROUND = r"[\s*_`\"'“”«»()\[\]{}<>#:.!。：–—-]*+"
_ALONE = re.compile(rf"{_AROUND}([AB]){_AROUND}")  # a line such as "A", "**B**." or "(A)"
_FIRST = re.compile(r"[\s*_`\"'(\[]*+([AB])[*_`\"')\]]*+[:.][*_]*+\s")  # "A: ..." or "**B**. ...", not "A careful one"
_MENTIONED = re.compile(r"(?<![^\W_])[AB](?![^\W_])")
_NUMBER = r"(\d{1,3}(?:\.\d{1,9})?)(?:\s*+/\s*+10)?"
_RATING = re.compile(rf"\s*+{_NUMBER}\s*+")
# Possessive, so that the time is proportional to the length.
_RATING_LINE = re.compile(rf"[^\w.\-−]*+(?:Rating:[^\w.\-−]*+)?{_NUMBER}\W*+", re.I)


class Standard(JudgeProtocol):
    """The templates `judge_pairwise` and `judge_score`."""

    def ask_which(self, comparison: Comparison, swapped: bool) -> str:
        first, second = comparison.answer, comparison.opponent
        if swapped:
            first, second = second, first
        return fill_template(
            read_template("judge_pairwise"),
            language=get_language(comparison.language).name,
            prompt=comparison.prompt,
            first=first,
            second=second,
            mark=tag_mark(comparison.prompt, first, second),
        )

    def read_which(self, reply: Reply) -> float | None:
        return preference(reply)

    def ask_points(self, item: AnsweredQuestion) -> str:
        turns = [*item.history, ("user", item.prompt), ("assistant", item.answer)]
        if item.reference:
            turns.append(("reference_answer", item.reference))
        mark = tag_mark(*(text for _, text in turns))
        conversation = "\n\n".join(f"<{role}_{mark}>\n{text}\n</{role}_{mark}>" for role, text in turns)
        language = get_language(item.language).name
        return fill_template(read_template("judge_score"), language=language, conversation=conversation)

    def read_points(self, reply: Reply) -> float | None:
        return None if reply.error or reply.cut_off else read_rating(split_thinking(reply.text).answer)


def preference(reply: Reply) -> float | None:
    """How far the judge prefers answer A, from 0 to 1; None for a reply without a single verdict.

    If the reply begins with a label and has the probabilities of both, it is p(A) / (p(A) + p(B)), as in AlpacaEval 2
    (arXiv 2404.04475, section 2). Otherwise the label itself decides.
    """
    if reply.error is not None:
        return None
    label, is_first = read_label(split_thinking(reply.text).answer)
    if label is None or (reply.cut_off and not is_first):  # what was cut off may have been another verdict
        return None
    chance = dict.fromkeys(_LABELS, 0.0)
    for token, logprob in reply.first_token:
        if token.strip() in chance:
            chance[token.strip()] += math.exp(logprob)
    if is_first and sum(chance.values()) > 0.5:
        return chance["A"] / sum(chance.values())
    return float(label == "A")


def read_label(text: str) -> tuple[str | None, bool]:
    """The label that a reply names as its verdict, None without a single one; and whether the reply begins with it.

    A verdict is a label in double brackets, a label alone on the first or the last line, or one before a colon or full
    stop at the beginning ("A. It is complete.") if no other is mentioned. All verdicts of a reply must agree, and a
    letter within a sentence is not a verdict. The template offers no tie, so a reply that states one has no verdict.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return None, False
    bracketed = {content.strip() for content in _IN_BRACKETS.findall(text)}
    alone = [match[1] if (match := _ALONE.fullmatch(line)) else None for line in lines]
    verdicts = bracketed | {label for label in alone if label}
    first = alone[0]
    if not verdicts and (match := _FIRST.match(lines[0])) and set(_MENTIONED.findall(text)) == {match[1]}:
        first = match[1]
        verdicts = {first}
    if len(verdicts) != 1 or not (bracketed or first or alone[-1]):
        return None, False
    label = verdicts.pop()
    return (label, label == first) if label in _LABELS else (None, False)


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
