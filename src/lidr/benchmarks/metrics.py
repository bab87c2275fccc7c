"""Descriptions of metrics; a benchmark names those that it measures.

The report, the terminal and the cards know a metric only by its description. A number that no description mentions is
shown as the benchmark reports it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lidr.results import Interval


@dataclass(frozen=True, slots=True)
class Aside:
    """What else is counted, for the notes: all languages together, or their mean."""

    key: str
    words: str
    is_mean: bool = False


@dataclass(frozen=True, slots=True)
class MetricKind:
    """A metric of results.json. `key` and `counts` are its names there: the value, and how many answers it is over.

    `middle` is the value that says nothing. `supports` are numbers that are shown elsewhere, or only explain this one.
    """

    key: str
    title: str
    short: str  # within a sentence
    note: str
    section: Literal["accuracy", "judged", "language", "other"]
    counts: tuple[str, ...] = ()
    lower_is_better: bool = False
    asides: tuple[Aside, ...] = ()
    supports: tuple[str, ...] = ()
    limits: Interval = (0.0, 1.0)
    middle: float | None = None
    is_zoomed: bool = False  # plotted over the values that occur, not over all that could
    is_share: bool = False  # of the counted answers, so that Wilson's interval holds if none is given
    is_key: bool = False  # has a tile in the report
    is_told: bool = True  # has a sentence in the report's summary
    groups: tuple[str, ...] = ()
    """Values of a scored row's `group` and `correct` that the metric is the share of: two models are compared on the
    same rows."""
    in_terminal: tuple[str, ...] | None = None
    """What the terminal shows in its place; None for the metric itself."""

    @property
    def known(self) -> set[str]:
        """All names in results.json that this description accounts for."""
        return {self.key, *self.counts, *self.supports, *(aside.key for aside in self.asides)}


FAILED = Aside("failed", "questions without an answer, left out")
THINKING = Aside("thinking", "answers with a thinking block, which was set aside")
UNSCORED = Aside("unscored", "without a verdict, left out")
RULED = Aside("ruled", "decided by a rule, without the judge")
TRUNCATED = Aside("truncated", "answers cut off by the length limit")

ACCURACY = MetricKind(
    "accuracy", "Accuracy", "accuracy", "share of right answers", "accuracy", ("n",), is_share=True, is_key=True,
    asides=(FAILED, TRUNCATED), groups=("", "trained"),
)  # fmt: skip
ACCURACY_ON_TARGET = MetricKind(
    "accuracy_on_target", "Accuracy on target", "accuracy on target",
    "share of answers that are right and in the question's language", "accuracy", ("n",), is_share=True,
    in_terminal=(),
)  # fmt: skip
PREFERENCE = MetricKind(
    "preference", "Mean preference", "mean preference",
    "how far the judge prefers the model's answers, from 0 to 1; 0.5 is neither side", "judged", ("n",), middle=0.5,
    is_told=False, asides=(FAILED, UNSCORED, RULED), in_terminal=("win", "tie", "lose"),
    supports=("win", "tie", "lose", "sign_test_p", "first_position", "consistent"),
)  # fmt: skip
WIN_RATE = MetricKind(
    "win_rate", "Win rate", "win rate", "the judge's mean preference for the model over the reference answers",
    "judged", ("n",), middle=0.5, is_key=True, asides=(FAILED, UNSCORED, RULED), supports=PREFERENCE.supports,
    in_terminal=("win", "tie", "lose", "win_rate"),
)  # fmt: skip
SCORE = MetricKind(
    "score", "Score", "score", "the judge's mean rating from 1 to 10, over turns and questions", "judged", ("n",),
    limits=(1.0, 10.0), is_key=True, asides=(FAILED, UNSCORED, RULED), supports=("score_turn_1", "score_turn_2"),
)  # fmt: skip
OFF_TARGET = MetricKind(
    "off_target", "Off-target answers", "off-target share",
    "share of answers in another language than the question's; lower is better", "language", ("n", "n_held_out"),
    lower_is_better=True, is_zoomed=True, is_share=True, is_key=True, supports=("truncated",),
    asides=(Aside("undecided", "language not told, counted as on target"), THINKING),
)  # fmt: skip
LPR = MetricKind(
    "lpr", "Line-level pass rate", "line pass rate",
    "share of answers without a line in another language (LPR)", "language", ("n",), is_zoomed=True, is_share=True,
    asides=(
        Aside("undecided_lines", "answers without a line whose language can be told, left out"),
        Aside("other_language_asked", "answers to prompts that ask for another language, left out"), FAILED, THINKING,
    ),
)  # fmt: skip

COMMON = (ACCURACY, ACCURACY_ON_TARGET, WIN_RATE, PREFERENCE, SCORE, OFF_TARGET, LPR)
