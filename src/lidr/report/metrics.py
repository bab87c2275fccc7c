"""The metrics that the report knows: their keys in results.json, and their words."""

from __future__ import annotations

from dataclasses import dataclass

from lidr.report.formatting import Interval


@dataclass(frozen=True, slots=True)
class Aside:
    """What else results.json counts, for the notes: all languages together, or their mean."""

    key: str
    words: str
    is_mean: bool = False


@dataclass(frozen=True, slots=True)
class MeasureKind:
    """A metric of results.json. `section` is where it is shown: accuracy, judged, language or other.

    The key ones get a tile, those that are told a sentence in the summary. `middle` is the value that says nothing.
    """

    key: str
    title: str
    short: str
    note: str
    section: str
    interval_key: str = ""
    count_keys: tuple[str, ...] = ()
    lower_is_better: bool = False
    asides: tuple[Aside, ...] = ()
    limits: Interval = (0.0, 1.0)
    middle: float | None = None
    is_zoomed: bool = False  # plotted over the values that occur, not over all that could
    is_share: bool = False  # of the counted answers, so that Wilson's interval holds where none is given
    is_key: bool = False
    is_told: bool = True


_FAILED = Aside("failed", "questions without an answer, left out")
_THINKING = Aside("thinking", "answers with a thinking block, which was set aside")
_UNSCORED = Aside("unscored", "without a verdict, left out")
_RULED = Aside("ruled", "decided by a rule, without the judge")

ACCURACY = MeasureKind(
    "accuracy", "Accuracy", "accuracy", "share of right answers", "accuracy", "ci95", ("n",), is_share=True,
    is_key=True,
    asides=(
        _FAILED,
        Aside("truncated", "answers cut off by the length limit"),
        Aside("truncated_prompts", "prompts whose beginning did not fit the model's context"),
        Aside("without_gold", "items whose right choice the data does not name, counted as wrong"),
    ),
)  # fmt: skip
ACCURACY_ON_TARGET = MeasureKind(
    "accuracy_on_target", "Accuracy on target", "accuracy on target",
    "share of answers that are right and in the question's language", "accuracy", "ci95_accuracy_on_target", ("n",),
    is_share=True,
)  # fmt: skip
HELD_OUT = MeasureKind(
    "accuracy_held_out", "Accuracy on held-out items", "held-out accuracy",
    "share of right answers to what no training prompt asked for", "accuracy", "ci95_held_out", ("n_held_out",),
    is_share=True,
)  # fmt: skip
ACCURACY_NORM = MeasureKind(
    "accuracy_norm", "Accuracy by likelihood per character", "normalised accuracy",
    "share of items whose right choice has the highest log-likelihood per character (the harness's acc_norm)",
    "accuracy", "ci95_accuracy_norm", ("n",), is_share=True, is_told=False,
)  # fmt: skip
PREFERENCE = MeasureKind(
    "preference", "Mean preference", "mean preference",
    "how far the judge prefers the model's answers, from 0 to 1; 0.5 is neither side", "judged", "ci95_preference",
    ("n",), middle=0.5, is_told=False, asides=(_FAILED, _UNSCORED, _RULED),
)  # fmt: skip
WIN_RATE = MeasureKind(
    "win_rate", "Win rate", "win rate", "the judge's mean preference for the model over the reference answers",
    "judged", "ci95_win_rate", ("n",), middle=0.5, is_key=True, asides=(_FAILED, _UNSCORED, _RULED),
)  # fmt: skip
LC_WIN_RATE = MeasureKind(
    "lc_win_rate", "Length-controlled win rate", "length-controlled win rate",
    "what the win rate would be if both sides' answers had the same length", "judged", "ci95_lc_win_rate",
    ("n",), middle=0.5, is_key=True,
    asides=(
        Aside("mean_length", "mean length of the answers in characters", is_mean=True),
        Aside("mean_reference_length", "of the reference answers", is_mean=True),
    ),
)  # fmt: skip
SCORE = MeasureKind(
    "score", "Score", "score", "the judge's mean rating from 1 to 10, over turns and questions", "judged",
    "ci95_score", ("n",), limits=(1.0, 10.0), is_key=True, asides=(_FAILED, _UNSCORED, _RULED),
)  # fmt: skip
OFF_TARGET = MeasureKind(
    "off_target", "Off-target answers", "off-target share",
    "share of answers in another language than the question's; lower is better", "language", "ci95_off_target",
    ("n", "n_held_out"), lower_is_better=True, is_zoomed=True, is_share=True, is_key=True,
    asides=(Aside("undecided", "language not told, counted as on target"), _THINKING),
)  # fmt: skip
LPR = MeasureKind(
    "lpr", "Line-level pass rate", "line pass rate",
    "share of answers without a line in another language (LPR)", "language", "ci95_lpr", ("n",), is_zoomed=True,
    is_share=True,
    asides=(
        Aside("undecided_lines", "answers without a line whose language can be told, left out"), _FAILED, _THINKING,
    ),
)  # fmt: skip
WPR = MeasureKind(
    "wpr", "Word-level pass rate", "word pass rate",
    "share of answers without a foreign word in Latin letters, among those whose lines pass and whose language has "
    "another script (WPR)",
    "language", "ci95_wpr", is_zoomed=True, is_told=False,
)  # fmt: skip
LCPR = MeasureKind(
    "lcpr", "Language confusion pass rate", "language confusion pass rate",
    "harmonic mean of the two pass rates (LCPR)", "language", "ci95_lcpr", is_zoomed=True, is_told=False,
)  # fmt: skip
KINDS = (
    ACCURACY, ACCURACY_ON_TARGET, HELD_OUT, ACCURACY_NORM, WIN_RATE, LC_WIN_RATE, PREFERENCE, SCORE,
    OFF_TARGET, LPR, WPR, LCPR,
)  # fmt: skip

# Numbers that are shown elsewhere (the bars of head to head, the judge's table) or only support another one.
BOOKKEEPING = frozenset(
    {
        "win", "tie", "lose", "sign_test_p", "first_position", "consistent", "stderr", "num_fewshot", "lines",
        "score_turn_1", "score_turn_2", "other_language_asked",
        "n", "failed", "undecided", "unscored", "ruled", "truncated", "truncated_prompts", "without_gold",
        "thinking", "undecided_lines",
    }
)  # fmt: skip
