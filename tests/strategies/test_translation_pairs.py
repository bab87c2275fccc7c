"""Translation pairs: which two translations become a pair, and that the pair teaches to translate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lidr.commands.plan.work import count_prompts
from lidr.engines.base import Completion, Request
from lidr.records import Prompt, Response, Translation
from lidr.strategies.base import Answers, Candidate, strategy_of
from lidr.strategies.translating import PREFILL, STOP
from tests.conftest import ToyEngine, ToyRun, make_config

STRATEGY: dict[str, Any] = {"type": "translation_pairs", "samples": 3}
ENGLISH = "First we add the apples of both boxes. In the end there are 7."
KEPT = "Primero sumamos las manzanas de las dos cajas. Al final son 7."
LONG = "Primero sumamos todas las manzanas que hay en las dos cajas de la tienda. Al final son 7."
LOST = "Primero sumamos las manzanas de las dos cajas. Al final son 9."
MIXED = "Primero sumamos las manzanas de las dos cajas.\nIn the end there are seven apples in it, that is 7."


def spanish(*texts: str | None, answer: str = ENGLISH, prompt: str = "How many apples?") -> Candidate:
    config = make_config(Path("prompts"), languages=["en", "es"], pairs={"strategy": STRATEGY})
    answers = Answers(0, "p", {"en": Prompt("p", "en", prompt), "es": Prompt("p", "es", "¿Cuántas?")})
    answers.responses["en"] = [Response("", "p", "en", answer, "stop", 1)]
    made = [Translation("", "p", "en", "es", text, None if text else "translation_unparsed") for text in texts]
    answers.translations["en", "es"], answers.further_translations["en", "es"] = made[0], made[1:]
    [found] = strategy_of(config).candidates(answers, config)
    return found


@pytest.mark.parametrize("other", [LOST, MIXED, "Primero sumamos las manzanas de las dos cajas de la tienda."])
def test_the_result_and_the_language_decide_and_of_several_the_nearest_in_length(other: str) -> None:
    found = spanish(LONG, other, KEPT)
    assert found.chosen.text == min((KEPT, LONG), key=lambda text: abs(len(text) - len(other)))
    assert found.rejected.text == other
    assert found.prompt and ENGLISH in found.prompt.text and "into Spanish" in found.prompt.text


def test_without_one_of_the_two_there_is_a_reason() -> None:
    assert spanish(KEPT, LONG, None).chosen.problem == "no_translation_loses"
    assert spanish(LOST, MIXED, None).chosen.problem == "no_translation_keeps"
    assert spanish(None, None, None).chosen.problem == "translation_unparsed"
    assert spanish(KEPT, LOST, answer="We add the apples.").chosen.problem == "no_result"
    assert spanish(KEPT, LOST, prompt="Translate into Spanish: 7").chosen.problem == "translation_task"


def numbered(request: Request, text: str) -> Completion | None:
    """Answers end in their prompt's number, translations in that number or in 99, by their id."""
    asked = request.messages[-1][1]
    if "<sentence>" not in asked:
        return Completion(request.request_id, f"{text}, so it is {asked[-1]}.", "stop", 5, 7)
    number = asked.partition(", so it is ")[2][0]
    result = number if int(request.request_id, 16) % 2 else "99"
    return Completion(request.request_id, f"{text}, o sea {result}.", "stop", 5, 7, stopped_by=STOP)


def toy_config(toy_run: ToyRun, samples: int, **gates: Any) -> Any:
    pairs = {"strategy": {"type": "translation_pairs", "samples": samples}, "gates": {"max_similarity": None} | gates}
    return make_config(toy_run.prompts, languages=["en", "es"], pairs=pairs)


def test_the_pair_is_the_request_with_its_tags_and_gates_see_the_text(toy_run: ToyRun) -> None:
    config = toy_config(toy_run, 4)
    engine = toy_run.use(ToyEngine(fail=numbered))
    toy_run.run("prompts", "responses", "translations", "pairs", config=config)
    requests = {request.messages[-1][1] for request in engine.asked if request.prefill}
    pairs = toy_run.rows(toy_run.run_dir.pairs(1, "es"))
    assert pairs and all(pair["prompt"] in requests for pair in pairs)
    for pair in pairs:
        assert all(
            pair[side].startswith(PREFILL) and pair[side].endswith(f"\n{STOP}") for side in ("chosen", "rejected")
        )
        assert f"sea {pair['prompt_id'][1]}." in pair["chosen"] and "sea 99." in pair["rejected"]
        assert pair["kind"] == "translation" and pair["chosen_from"] == "en->es"
    assert count_prompts(config).translations.total() == 24 == sum(bool(request.prefill) for request in engine.asked)

    def looping(request: Request, text: str) -> Completion | None:
        made = numbered(request, text)
        return made if made is None or "99" not in made.text else Completion(
            request.request_id, made.text + " una y otra vez" * 9, "stop", 5, 7, stopped_by=STOP
        )  # fmt: skip

    again = ToyRun(toy_run.prompts, toy_run.run_dir.path.with_name("loops"), toy_run.monkeypatch)
    again.use(ToyEngine(fail=looping))
    again.run("prompts", "responses", "translations", "pairs", config=toy_config(again, 4, max_length_ratio=None))
    assert {row["reason"] for row in again.rows(again.run_dir.dropped(1))} >= {"loop"}


def test_more_translations_keep_the_first_ones(toy_run: ToyRun) -> None:
    engine = toy_run.use(ToyEngine(fail=numbered))
    toy_run.run("prompts", "responses", "translations", config=toy_config(toy_run, 2))
    path, asked = toy_run.run_dir.translations(1, "en", "es"), len(engine.asked)
    before = toy_run.rows(path)
    assert [row["sample"] for row in before] == [0, 1] * 6
    toy_run.run("translations", config=toy_config(toy_run, 3))
    assert len(engine.asked) - asked == 6
    assert [row for row in toy_run.rows(path) if row["sample"] < 2] == before


def test_the_plan_counts_the_answer_that_is_to_be_translated_as_the_pairs_prompt(toy_run: ToyRun) -> None:
    planned = count_prompts(toy_config(toy_run, 4))
    assert planned.pairs == {("es", "en->es", "en->es", "en"): 6}
