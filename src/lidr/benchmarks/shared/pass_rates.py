"""LPR, WPR and LCPR: the shares of answers that keep to their language, see `lidr.languages.confusion`."""

from __future__ import annotations

from collections.abc import Iterable

from lidr.languages import get_language
from lidr.languages.confusion import Confusion, check_answer
from lidr.languages.identification import LanguageIdentifier
from lidr.results import Metric, Metrics
from lidr.statistics import share


def line_pass_rate(texts: Iterable[str], language: str, identifier: LanguageIdentifier) -> Metrics:
    """LPR of the answers in one language, under names that it may have beside other metrics."""
    found = pass_rates([check_answer(text, language, identifier) for text in texts], language)
    return Metrics({"lpr": found.values["lpr"]}, {"undecided_lines": found.count("undecided_lines")})


def pass_rates(answers: list[Confusion], language: str) -> Metrics:
    """LPR, WPR and LCPR of the answers in one language, without a value if undefined.

    `n` answers are judged (R above); `undecided` ones (`undecided_lines` beside other metrics) hold no line whose
    language was identified, and are not among them. `lines` is the number of lines whose language was.
    """
    judged = [answer for answer in answers if answer.lines]
    right_lines = [answer for answer in judged if not answer.wrong_lines]
    n, passed = len(judged), len(right_lines)
    wpr, lcpr = Metric(None), Metric(None)
    if passed and get_language(language).script != "Latin":
        right_words = sum(not answer.wrong_words for answer in right_lines)
        wpr = share(right_words, passed)
        lines_rate, words_rate = passed / n, right_words / passed
        lcpr = Metric(round(2 * lines_rate * words_rate / (lines_rate + words_rate), 4))
    undecided = len(answers) - n
    counts = {"n": n, "undecided": undecided, "undecided_lines": undecided, "lines": sum(a.lines for a in answers)}
    return Metrics({"lpr": share(passed, n), "wpr": wpr, "lcpr": lcpr}, counts)
