"""Best of n: which dominant answer is translated, and that only the dominant language is asked several times."""

from __future__ import annotations

from pathlib import Path

import pytest

from lidr.engines.base import Completion, Request
from lidr.strategies.base import Side, draws_of
from lidr.strategies.best_of_n import best
from tests.conftest import ToyEngine, ToyRun, make_config

PAIRS = {"strategy": {"type": "best_of_n", "samples": 3}}


@pytest.mark.parametrize(
    ("texts", "chosen"),
    [
        (["It is 7.", "It is 9.", "So it is 9."], 1),  # two end in 9
        (["It is 7.", "It is 9.", "It is 8."], 0),  # no two agree: the words do
        (["a b c", "x y z", "a b d"], 0),
        ([None, "x y z", "a b d"], 1),
        ([None, None], 0),
        (["", "1 apple"], 0),
    ],
)
def test_the_best_answer_is_the_one_that_the_others_agree_with(texts: list[str | None], chosen: int) -> None:
    sides = [Side(text, "en", None if text is not None else "response_error") for text in texts]
    assert best(sides, "en") == chosen


def test_only_the_dominant_language_is_asked_several_times() -> None:
    draws = draws_of(make_config(Path("prompts"), pairs=PAIRS))
    assert [draws.of(code) for code in ("en", "es")] == [3, 1] and draws.most == 3


def test_the_best_answer_is_translated_and_taught(toy_run: ToyRun) -> None:
    """The first sample in English is an odd one; the two others agree."""
    asked: dict[str, int] = {}

    def odd_first(request: Request, text: str) -> Completion | None:
        content = request.messages[-1][1]
        if "<sentence>" in content or not content.startswith("en: "):
            return None
        asked[content] = asked.get(content, 0) + 1
        odd = asked[content] == 3  # the toy engine answers in reverse
        said = "Something else altogether was said here 999 own en" if odd else f"{text} so it is 5"
        return Completion(request.request_id, said, "stop", 5, 7)

    engine = toy_run.use(ToyEngine(fail=odd_first))
    config = make_config(toy_run.prompts, pairs=PAIRS | {"gates": {"max_foreign_words": None}})
    toy_run.run("prompts", "responses", "translations", "pairs", config=config)
    assert len(toy_run.rows(toy_run.run_dir.responses(1, "en"))) == 18
    assert len(toy_run.rows(toy_run.run_dir.responses(1, "es"))) == 6
    translated = [request.messages[-1][1] for request in engine.asked if "into Spanish" in request.messages[-1][1]]
    assert len(translated) == 6 and not any("altogether" in content for content in translated)
    english = toy_run.rows(toy_run.run_dir.pairs(1, "en"))
    assert english and all("so it is 5" in row["chosen"] for row in english)
