"""Confusion pairs: an answer in one language against one that switches."""

from __future__ import annotations

from pathlib import Path

from lidr.records import Prompt, Response
from lidr.strategies.base import Answers, Candidate, strategy_of
from tests.conftest import make_config

PURE = "La respuesta a esta pregunta está escrita entera en el idioma español."
LONG = f"{PURE}\nEsta segunda línea también está escrita en el idioma español, como debe ser."
MIXED = f"{PURE}\nThe second line of this answer is written in the English language, which is wrong."


def spanish(*texts: str, prompt: str = "¿Qué es?") -> Candidate:
    config = make_config(Path("prompts"), pairs={"strategy": {"type": "confusion", "samples": 2}})
    answers = Answers(0, "p", {"en": Prompt("p", "en", "What is it?"), "es": Prompt("p", "es", prompt)})
    answers.responses["es"] = [Response("", "p", "es", text, "stop", 1, sample=k) for k, text in enumerate(texts)]
    return next(made for made in strategy_of(config).candidates(answers, config) if made.language == "es")


def test_the_two_sides_are_nearest_in_length() -> None:
    found = spanish(PURE, MIXED, LONG)
    assert (found.chosen.text, found.rejected.text) == (LONG, MIXED)


def test_without_one_of_the_two_there_is_a_reason() -> None:
    assert spanish(PURE, LONG).chosen.problem == "no_mixed_sample"
    assert spanish(MIXED, MIXED).chosen.problem == "no_pure_sample"
    assert spanish("42", "43").chosen.problem == "no_pure_sample"


def test_who_asks_for_english_gets_it() -> None:
    assert spanish(PURE, MIXED, prompt="Traduce al inglés: Hola").chosen.problem == "wants_other_language"
