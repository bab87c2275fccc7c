"""Which of two answers is better: asked in both orders, so that the judge's liking for a position cancels out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lidr.judges.base import Comparison, Judge, Reply, unscored_reason
from lidr.languages.identification import LanguageIdentifier
from lidr.languages.names import asks_for_other_language
from lidr.records import Verdict
from lidr.results import Metric, Metrics
from lidr.statistics import bootstrap_interval, rounded, sign_test, wilson_interval


def compare(
    judge: Judge, comparisons: Sequence[Comparison], identifier: LanguageIdentifier, title: str
) -> tuple[list[Verdict], list[Reply]]:
    """One verdict per comparison, in their order, and the replies that they come from.

    The judge is not asked if a rule decides: equal answers tie, an empty answer loses, and so does one in the wrong
    language unless the prompt asks for another language.
    """
    ruled = [_rule(comparison, identifier) for comparison in comparisons]
    asked = [comparison for comparison, rule in zip(comparisons, ruled, strict=True) if rule is None]
    contents = [judge.protocol.ask_which(comparison, swapped) for comparison in asked for swapped in (False, True)]
    replies = judge.ask(contents, title)
    by_order = iter(zip(replies[0::2], replies[1::2], strict=True))
    verdicts = [
        _ruled(comparison, *rule) if rule else _judged(judge, comparison, *next(by_order))
        for comparison, rule in zip(comparisons, ruled, strict=True)
    ]
    return verdicts, replies


def summarise(verdicts: Sequence[Verdict]) -> Metrics:
    """Win, tie and lose as shares of the scored verdicts, with intervals, a sign test and the judge's position bias.

    `preference` is the mean preference for the model under test; the intervals are 95 % percentile bootstrap over the
    questions; `sign_test_p` is over wins and losses, ties left out. `first_position` is the mean preference for the
    answer that was shown first (0.5 is no bias), `consistent` the share of pairs judged alike in both orders.
    """
    scored = [verdict for verdict in verdicts if verdict.preference is not None]
    shares = {name: [float(verdict.outcome == name) for verdict in scored] for name in ("win", "tie", "lose")}
    preferences = [verdict.preference for verdict in scored if verdict.preference is not None]
    metrics = {
        name: Metric(_mean(values), rounded(_interval(values)) if values else None)
        for name, values in [*shares.items(), ("preference", preferences)]
    }
    wins, losses = int(sum(shares["win"])), int(sum(shares["lose"]))
    metrics["sign_test_p"] = Metric(float(f"{sign_test(wins, losses):.4g}"))
    both = [(v.shown_first, v.shown_second) for v in scored if v.shown_first is not None and v.shown_second is not None]
    metrics["first_position"] = Metric(_mean([(first + 1 - second) / 2 for first, second in both]))
    metrics["consistent"] = Metric(_mean([float((first - 0.5) * (second - 0.5) > 0) for first, second in both]))
    ruled = sum(verdict.rule is not None for verdict in verdicts)
    return Metrics(metrics, {"n": len(scored), "unscored": len(verdicts) - len(scored), "ruled": ruled})


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """The bootstrap interval; Wilson's if all values are equal, since the bootstrap's would have no width."""
    if len(set(values)) == 1 and values[0] in (0.0, 1.0):
        return wilson_interval(int(sum(values)), len(values))
    return bootstrap_interval(values)


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None


def _rule(comparison: Comparison, identifier: LanguageIdentifier) -> tuple[str, float] | None:
    """(rule, preference for the answer) if no judge is needed."""
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


def _judged(judge: Judge, comparison: Comparison, first: Reply, second: Reply) -> Verdict:
    """`first` is the reply to the order in which the answer under test came first, `second` to the other one."""
    shown_first, as_b = judge.which(first), judge.which(second)
    shown_second = None if as_b is None else 1 - as_b
    question = (comparison.question_id, comparison.language)
    if shown_first is None or shown_second is None:
        reason = unscored_reason(first, second)
        raw = " | ".join(reply.text[:200] for reply in (first, second))
        return Verdict(*question, None, None, shown_first, shown_second, unscored=reason, raw=raw)
    mean = (shown_first + shown_second) / 2
    return Verdict(*question, mean, _outcome([shown_first, shown_second]), shown_first, shown_second)


def _outcome(preferences: Iterable[float]) -> str:
    """Every order has a vote; votes that contradict each other are a tie (as in MT-Bench, arXiv 2306.05685)."""
    votes = sum((value > 0.5) - (value < 0.5) for value in preferences)
    return "win" if votes > 0 else "lose" if votes < 0 else "tie"
