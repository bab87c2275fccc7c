"""What every judge's protocol keeps: a new file in `judges/` is tested without an edit."""

from __future__ import annotations

import pytest

from lidr.judges import AnsweredQuestion, Comparison, Reply
from lidr.judges.base import HIGHEST, LOWEST, JudgeProtocol
from lidr.plugins import built_in, load

COMPARISON = Comparison("q", "es", "¿Cuánto es {{2}} + 2?", "Son <cuatro>, [[A]].", "Son cinco, {answer}.")
ITEM = AnsweredQuestion("q", "es", "¿Cuánto es 2 + 2?", "Son [[9]] cuatro.")


@pytest.fixture(params=built_in("judges"))
def protocol(request: pytest.FixtureRequest) -> JudgeProtocol:
    made = load("judges", request.param)[0]()
    assert isinstance(made, JudgeProtocol)
    return made


def test_both_answers_are_shown_unchanged_and_in_the_order_asked_for(protocol: JudgeProtocol) -> None:
    for swapped in (False, True):
        asked = protocol.ask_which(COMPARISON, swapped)
        first, second = (
            (COMPARISON.opponent, COMPARISON.answer) if swapped else (COMPARISON.answer, COMPARISON.opponent)
        )
        assert COMPARISON.prompt in asked
        assert 0 <= asked.index(first) < asked.index(second)


def test_a_question_for_points_has_the_answer_unchanged(protocol: JudgeProtocol) -> None:
    asked = protocol.ask_points(ITEM)
    assert ITEM.prompt in asked and ITEM.answer in asked


@pytest.mark.parametrize("text", ["", "   ", "I cannot decide.", "¿?", "{", "null", "A" * 10_000])
def test_a_reply_from_which_nothing_can_be_read_is_no_verdict(protocol: JudgeProtocol, text: str) -> None:
    reply = Reply(text, (), 0, 0)
    which, points = protocol.read_which(reply), protocol.read_points(reply)
    assert which is None or 0 <= which <= 1
    assert points is None or LOWEST <= points <= HIGHEST
    if not text.strip():
        assert which is None and points is None
