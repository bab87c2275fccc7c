"""Which of two answers is better: asked in both orders, so that the judge's liking for a position cancels out."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lidr.judges.base import Judge, Reply, tag_mark, unscored_reason
from lidr.language_id import LanguageIdentifier
from lidr.language_names import asks_for_other_language
from lidr.languages import get_language
from lidr.records import Verdict
from lidr.statistics import bootstrap_interval, rounded, sign_test, wilson_interval
from lidr.templates import fill_template, read_template
from lidr.thinking import split_thinking

_LABELS = ("A", "B")
_IN_BRACKETS = re.compile(r"\[\[([^\[\]\n]{0,40})\]\]")
_AROUND = r"[\s*_`\"'“”«»()\[\]{}<>#:.!。：–—-]*+"
_ALONE = re.compile(rf"{_AROUND}([AB]){_AROUND}")  # a line such as "A", "**B**." or "(A)"
_FIRST = re.compile(r"[\s*_`\"'(\[]*+([AB])[*_`\"')\]]*+[:.][*_]*+\s")  # "A: ..." or "**B**. ...", not "A careful one"
_MENTIONED = re.compile(r"(?<![^\W_])[AB](?![^\W_])")


@dataclass(frozen=True, slots=True)
class Comparison:
    """An answer of the model under test, and the one that it is compared with."""

    question_id: str
    language: str
    prompt: str
    answer: str
    opponent: str


def compare(
    judge: Judge, comparisons: Sequence[Comparison], identifier: LanguageIdentifier, title: str
) -> tuple[list[Verdict], list[Reply]]:
    """One verdict per comparison, in their order, and the replies that they come from.

    What a rule decides is not asked: equal answers tie, an empty answer loses, and so does one in the wrong language
    unless the prompt asks for another language.
    """
    ruled = [_rule(comparison, identifier) for comparison in comparisons]
    asked = [comparison for comparison, rule in zip(comparisons, ruled, strict=True) if rule is None]
    contents = [content for comparison in asked for content in (_content(comparison), _content(comparison, swap=True))]
    replies = judge.ask(contents, title)
    by_order = iter(zip(replies[0::2], replies[1::2], strict=True))
    verdicts = [
        _ruled(comparison, *rule) if rule else _judged(comparison, *next(by_order))
        for comparison, rule in zip(comparisons, ruled, strict=True)
    ]
    return verdicts, replies


def preference(reply: Reply) -> float | None:
    """How far the judge prefers answer A, from 0 to 1; None for a reply without a single verdict.

    By the probabilities of the two labels where the reply begins with one and has them: p(A) / (p(A) + p(B)), as in
    AlpacaEval 2 (arXiv 2404.04475, section 2). Otherwise by the label itself.
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
    letter within a sentence is none. The template offers no tie, so a reply that states one has no verdict.
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


def summarise(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Win, tie and lose as shares of the scored verdicts, with intervals, a sign test and the judge's position bias.

    `preference` is the mean preference for the model under test; the intervals are 95 % percentile bootstrap over the
    questions; `sign_test_p` is over wins and losses, ties left out. `first_position` is the mean preference for the
    answer that was shown first (0.5 is no bias), `consistent` the share of pairs judged alike in both orders.
    """
    scored = [verdict for verdict in verdicts if verdict.preference is not None]
    shares = {name: [float(verdict.outcome == name) for verdict in scored] for name in ("win", "tie", "lose")}
    preferences = [verdict.preference for verdict in scored if verdict.preference is not None]
    metrics: dict[str, Any] = {"n": len(scored), "unscored": len(verdicts) - len(scored)}
    for name, values in [*shares.items(), ("preference", preferences)]:
        metrics[name] = _mean(values)
        metrics[f"ci95_{name}"] = rounded(_interval(values)) if values else None
    metrics["sign_test_p"] = float(f"{sign_test(int(sum(shares['win'])), int(sum(shares['lose']))):.4g}")
    both = [(v.shown_first, v.shown_second) for v in scored if v.shown_first is not None and v.shown_second is not None]
    metrics["first_position"] = _mean([(first + 1 - second) / 2 for first, second in both])
    metrics["consistent"] = _mean([float((first - 0.5) * (second - 0.5) > 0) for first, second in both])
    metrics["ruled"] = sum(verdict.rule is not None for verdict in verdicts)
    return metrics


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """Bootstrap, but where all values are alike, which leaves it no width, Wilson's interval."""
    if len(set(values)) == 1 and values[0] in (0.0, 1.0):
        return wilson_interval(int(sum(values)), len(values))
    return bootstrap_interval(values)


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None


def _content(comparison: Comparison, swap: bool = False) -> str:
    first, second = comparison.answer, comparison.opponent
    if swap:
        first, second = second, first
    return fill_template(
        read_template("judge_pairwise"),
        language=get_language(comparison.language).name,
        prompt=comparison.prompt,
        first=first,
        second=second,
        mark=tag_mark(comparison.prompt, first, second),
    )


def _rule(comparison: Comparison, identifier: LanguageIdentifier) -> tuple[str, float] | None:
    """(rule, preference for the answer) where no judge is needed."""
    answer, opponent = comparison.answer.strip(), comparison.opponent.strip()
    if answer == opponent:
        return "identical", 0.5
    if not answer or not opponent:
        return "empty", float(bool(answer))
    if asks_for_other_language(comparison.prompt, comparison.language):
        return None
    wrong = [identifier.is_other(text, comparison.language) for text in (answer, opponent)]
    if not any(wrong):
        return None
    return "wrong_language", 0.5 if all(wrong) else float(wrong[1])


def _ruled(comparison: Comparison, rule: str, value: float) -> Verdict:
    return Verdict(comparison.question_id, comparison.language, value, _outcome([value]), rule=rule)


def _judged(comparison: Comparison, first: Reply, second: Reply) -> Verdict:
    """`first` is the reply to the order in which the answer under test came first, `second` to the other one."""
    shown_first, as_b = preference(first), preference(second)
    shown_second = None if as_b is None else 1 - as_b
    question = (comparison.question_id, comparison.language)
    if shown_first is None or shown_second is None:
        reason = unscored_reason(first, second)
        raw = " | ".join(reply.text[:200] for reply in (first, second))
        return Verdict(*question, None, None, shown_first, shown_second, unscored=reason, raw=raw)
    mean = (shown_first + shown_second) / 2
    return Verdict(*question, mean, _outcome([shown_first, shown_second]), shown_first, shown_second)


def _outcome(preferences: Iterable[float]) -> str:
    """Every order has a vote; where they contradict each other it is a tie (as in MT-Bench, arXiv 2306.05685)."""
    votes = sum((value > 0.5) - (value < 0.5) for value in preferences)
    return "win" if votes > 0 else "lose" if votes < 0 else "tie"
