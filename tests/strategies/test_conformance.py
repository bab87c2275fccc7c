"""What every strategy keeps: a new file in `strategies/` is tested without an edit."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import pytest

from lidr.config import Config
from lidr.plugins import built_in
from lidr.records import Prompt, Response, Score, Translation
from lidr.stages.pairs import REASONS
from lidr.strategies.base import Answers, Candidate, all_draws, all_translating, scorers_of, strategy_of
from tests.conftest import WORDS, make_config

CODES = list(WORDS)
SETTINGS: dict[str, dict[str, Any]] = {  # of those that need some, or are slow without
    "verified_majority": {"samples": 3},
    "mixture": {"of": {"imbalance": 2, "translation_pairs": 1, "confusion": 1}},
}


def recipe(name: str) -> Config:
    strategy = {"type": name, **SETTINGS.get(name, {})}
    try:
        return make_config(Path("prompts"), pairs={"strategy": strategy})
    except ValueError:  # a recipe that prefers nothing in the dominant language
        return make_config(Path("prompts"), pairs={"strategy": strategy, "dominant_rejected": "none"})


@pytest.fixture(params=built_in("strategies"))
def config(request: pytest.FixtureRequest) -> Config:
    return recipe(request.param)


def answers_to(config: Config, position: int, fault: str = "") -> Answers:
    """A prompt with all that the strategy asks for; with a `fault` every answer has it."""
    draw = random.Random(position)
    strategy = strategy_of(config)
    part = strategy.part_of(f"p{position}", config)
    draws, translating = all_draws(config)[part], all_translating(config)[part]
    answers = Answers(position, f"p{position}", {code: Prompt(f"p{position}", code, "?") for code in CODES})

    def response(code: str, sample: int) -> Response:
        text = f"{WORDS[code]} {position}, so it is {draw.choice([3, 3, 3, 4])}."
        if draw.random() < 0.3:  # some answers switch to another language
            text += f"\n{WORDS[draw.choice([other for other in CODES if other != code])]} 5, so it is 5."
        if fault == "error":
            return Response("r", answers.prompt_id, code, None, "error", 0, sample=sample, error="no room")
        return Response("r", answers.prompt_id, code, text, "length" if fault == "length" else "stop", 9, sample=sample)

    for code in CODES:
        answers.responses[code] = [response(code, sample) for sample in range(draws.of(code))]
        if strategy.needs_initial(config):
            answers.initial[code] = [response(code, 0)]
    failure = "translation_unparsed" if fault else None
    for source, target in strategy.translations(answers, config):
        texts = [f"{WORDS[target]} {position}, translated from {source}, so it is {3 + k}." for k in range(4)]
        answers.translations[source, target], *further = [
            Translation("t", answers.prompt_id, source, target, None if fault else text, failure, sample=k)
            for k, text in enumerate(texts[: translating.samples])
        ]
        answers.further_translations[source, target] = further
    for asked in strategy.scores(answers, config):
        logp = -9 * draw.random()
        answers.scores[asked] = Score("s", answers.prompt_id, asked.given, asked.origin, asked.sample, logp, 9)
    return answers


def candidates(config: Config, answers: Answers) -> list[Candidate]:
    return list(strategy_of(config).candidates(answers, config))


def test_the_same_answers_give_the_same_candidates(config: Config) -> None:
    for position in range(20):
        assert candidates(config, answers_to(config, position)) == candidates(config, answers_to(config, position))


def test_candidates_are_of_the_recipe_and_of_the_answers(config: Config) -> None:
    made = 0
    for position in range(20):
        answers = answers_to(config, position)
        texts = {response.text for responses in answers.responses.values() for response in responses}
        texts |= {translation.text for translation in answers.translations.values()}
        texts |= {made.text for further in answers.further_translations.values() for made in further}
        texts |= {response.text for responses in answers.initial.values() for response in responses}
        for candidate in candidates(config, answers):
            assert candidate.prompt_id == answers.prompt_id and candidate.language in config.languages
            assert candidate.kind.isidentifier()
            sides = candidate.chosen, candidate.rejected
            assert all(side.origin and (side.text is None or side.text in texts) for side in sides)
            fails = any(side.problem for side in sides)
            assert fails or all(side.text is not None for side in sides)
            made += not fails
    assert made  # on answers without a fault it makes pairs


@pytest.mark.parametrize("fault", ["error", "length"])
def test_answers_with_a_fault_become_no_pair_and_have_a_reason_with_a_meaning(config: Config, fault: str) -> None:
    known = REASONS | strategy_of(config).meanings()
    found = [made for position in range(5) for made in candidates(config, answers_to(config, position, fault))]
    assert found
    for candidate in found:
        problem = candidate.chosen.problem or candidate.rejected.problem
        assert problem in known, problem


def test_a_language_without_a_prompt_is_no_error(config: Config) -> None:
    whole = answers_to(config, 1)
    for code in CODES:
        part = Answers(1, "p1", {c: whole.prompts[c] for c in CODES if c != code})
        part.responses.update({c: whole.responses[c] for c in part.prompts})
        part.initial.update({c: found for c, found in whole.initial.items() if c != code})
        part.translations.update({way: found for way, found in whole.translations.items() if code not in way})
        candidates(config, part)


def test_what_it_asks_of_a_prompt_is_what_it_has_announced(config: Config) -> None:
    strategy = strategy_of(config)
    ways, models = strategy.directions(config), scorers_of(config)
    assert all(source != target and {source, target} <= set(CODES) for source, target in ways)
    for position in range(20):
        answers = answers_to(config, position)
        assert set(strategy.translations(answers, config)) <= set(ways)
        assert 0 <= strategy.part_of(answers.prompt_id, config) < len(strategy.parts())
        assert {wanted.model for wanted in strategy.scores(answers, config)} <= set(models)


def test_it_says_what_it_does_and_what_it_costs(config: Config) -> None:
    strategy = strategy_of(config)
    sentences: list[Any] = [strategy.chosen_in_words(), strategy.rejected_in_words(), *strategy.caveats("English")]
    assert all(isinstance(said, str) and said.strip() for said in sentences)
    lines = [*strategy.answers_in_words(config), *strategy.pairs_in_words(config)]
    assert all(line.strip() for line in lines)
    planned = list(itertools.islice(strategy.planned(answers_to(config, 0), config), 100))
    assert planned and all(language in CODES for language, *_ in planned)
    assert Config.model_validate(config.model_dump()).pairs.strategy == config.pairs.strategy
