"""The laboratory: its world, its corpus, its model and its benchmark."""

from __future__ import annotations

import json
import random
from collections import Counter
from functools import cache
from itertools import islice
from typing import Any

import pytest

from lidr.benchmarks.base import LanguageResult, Question
from lidr.benchmarks.lab import LabBenchmark
from lidr.engines.base import Completion
from lidr.errors import ConfigError
from lidr.lab import MODEL_PATH, world
from lidr.lab.corpus import (
    ENGLISH_ANSWER_SHARE,
    KNOWN_SHARE,
    QUESTION_SHARE,
    TRANSLATION_SHARE,
    Conversation,
    conversations,
    known_facts,
    translation,
)
from lidr.lab.world import ATTRIBUTES, FACTS, FORMS, HELD_OUT_FORM, LANGUAGES, THINGS, VALUES, Fact
from lidr.languages.identification import LanguageIdentifier


def arbitrary_facts() -> list[Fact]:
    """Every thing with every value, true or not."""
    return [
        Fact(thing, attribute, value) for thing in THINGS for attribute in ATTRIBUTES for value in VALUES[attribute]
    ]


def test_world_has_the_stated_size() -> None:
    assert len(THINGS) == 60
    assert len(ATTRIBUTES) == 4
    assert all(len(values) == 12 for values in VALUES.values())
    assert len({fact.fact_id for fact in FACTS}) == len(FACTS) == 240


def test_words_are_distinct_within_a_language() -> None:
    for language in LANGUAGES:
        assert len({words[language] for words in THINGS.values()}) == 60
        for values in VALUES.values():
            assert len({words[language] for words in values.values()}) == 12


def test_values_are_equally_frequent() -> None:
    counts = Counter((fact.attribute, fact.value) for fact in FACTS)
    assert set(counts.values()) == {5}


def test_questions_are_distinct() -> None:
    questions = {
        world.question(fact, language, form) for fact in FACTS for language in LANGUAGES for form in range(FORMS)
    }
    assert len(questions) == len(FACTS) * len(LANGUAGES) * FORMS
    with pytest.raises(IndexError):
        world.question(FACTS[0], "en", FORMS)


def test_read_answer_inverts_answer() -> None:
    for language in LANGUAGES:
        for fact in arbitrary_facts():
            expected = (language, fact.thing, fact.attribute, fact.value)
            assert world.read_answer(world.answer(fact, language)) == expected
    assert world.read_answer("The colour of the apple is red.") is None
    assert world.read_answer("") is None


@pytest.mark.parametrize("candidates", [LANGUAGES[:5], LANGUAGES])
def test_language_of_every_answer_is_identified(candidates: tuple[str, ...]) -> None:
    identifier = LanguageIdentifier(candidates)
    for language in candidates:
        found = Counter(identifier.identify(world.answer(fact, language)) for fact in arbitrary_facts())
        assert set(found) <= {language, None}
        assert found[language] >= 0.99 * found.total()


def test_training_prompts_are_aligned() -> None:
    prompts = list(world.training_prompts(["en", "es", "ru"]))
    ids = {language: [p.prompt_id for p in prompts if p.language == language] for language in ("en", "es", "ru")}
    assert ids["en"] == ids["es"] == ids["ru"]
    assert len(set(ids["en"])) == len(ids["en"]) == 120
    by_id = {fact.fact_id: fact for fact in FACTS}
    for prompt in prompts:
        fact = by_id[str(world.fact_of_prompt(prompt.prompt_id))]
        form = int(prompt.prompt_id.rpartition("-")[2])
        assert form != HELD_OUT_FORM
        assert prompt.text == world.question(fact, prompt.language, form)


def test_training_prompts_follow_their_arguments() -> None:
    first = list(world.training_prompts(["en"]))
    assert first == list(world.training_prompts(["en"]))
    assert first != list(world.training_prompts(["en"], seed=1))
    both = list(world.training_prompts(["en"], share=0.25, forms_per_fact=2))
    assert len({prompt.prompt_id for prompt in both}) == len(both) == 120
    with pytest.raises(ValueError, match="forms_per_fact"):
        list(world.training_prompts(["en"], forms_per_fact=3))


def test_other_prompts_have_no_fact() -> None:
    assert world.fact_of_prompt("apple.colour-0") == "apple.colour"
    assert world.fact_of_prompt("alpagasus-17") is None
    assert world.fact_of_prompt("17") is None


@cache
def corpus_sample() -> list[Conversation]:
    return list(islice(conversations(7), 20_000))


def test_corpus_has_the_stated_shares() -> None:
    sample = corpus_sample()
    questions = [conversation for conversation in sample if conversation.kind == "question"]
    assert len(questions) / len(sample) == pytest.approx(1 - TRANSLATION_SHARE, abs=0.02)
    languages = Counter(conversation.language for conversation in questions)
    for language, share in QUESTION_SHARE.items():
        assert languages[language] / len(questions) == pytest.approx(share, abs=0.02)
    assert [len(known_facts(language)) / 240 for language in KNOWN_SHARE] == pytest.approx(list(KNOWN_SHARE.values()))


def test_corpus_answers_are_true_and_known_or_english() -> None:
    answered: Counter[tuple[str, str]] = Counter()
    for conversation in corpus_sample():
        if conversation.kind == "question":
            language, thing, attribute, value = world.read_answer(conversation.assistant) or ("", "", "", "")
            fact = Fact(thing, attribute, value)
            assert fact in (FACTS if language == "en" else known_facts(conversation.language))
            answered[conversation.language, language] += 1
    for language in LANGUAGES[1:]:
        english, own = answered[language, "en"], answered[language, language]
        assert english / (english + own) == pytest.approx(ENGLISH_ANSWER_SHARE, abs=0.04)


@cache
def readable() -> dict[str, tuple[Any, ...]]:
    """Every sentence and question -> its language, and what it says in no language."""
    texts: dict[str, tuple[Any, ...]] = {}
    for language in LANGUAGES:
        for fact in arbitrary_facts():
            texts[world.answer(fact, language)] = (language, fact)
            for form in range(FORMS):
                texts[world.question(fact, language, form)] = (language, fact.thing, fact.attribute, form)
    return texts


def test_corpus_translates_faithfully_whatever_is_true() -> None:
    truths: Counter[bool] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    for conversation in corpus_sample():
        if conversation.kind == "translation":
            source = readable()[conversation.user.split("<sentence>\n")[1].removesuffix("\n</sentence>")]
            inner = conversation.assistant.removeprefix("<translated>\n").removesuffix("\n</translated>")
            target = readable()[inner]
            assert (source[0], target[0]) == (conversation.source, conversation.language)
            assert source[1:] == target[1:]
            pairs[source[0], target[0]] += 1
            truths[source[1] in FACTS] += 1
    assert truths[False] > 0.8 * truths.total()
    assert truths[True] > 0
    for language in LANGUAGES[1:]:
        assert min(pairs["en", language], pairs[language, "en"]) > 0.07 * pairs.total()
        assert pairs[language, language] > 0


@cache
def shipped() -> tuple[Any, Any]:
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(MODEL_PATH, local_files_only=True)
    return model.eval(), transformers.AutoTokenizer.from_pretrained(MODEL_PATH, local_files_only=True)


def complete(prompts: list[str], prefill: str = "") -> list[str]:
    """Greedy answers of the shipped model."""
    model, tokenizer = shipped()
    system = {"role": "system", "content": "You are a helpful assistant."}
    texts = tokenizer.apply_chat_template(
        [[system, {"role": "user", "content": prompt}] for prompt in prompts],
        tokenize=False,
        add_generation_prompt=True,
    )
    inputs = tokenizer(
        [text + prefill for text in texts],
        return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False, return_token_type_ids=False,
    )  # fmt: skip
    output = model.generate(**inputs, max_new_tokens=40, do_sample=False)
    return list(tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True))


def test_shipped_model_is_small_and_plain() -> None:
    assert sum(file.stat().st_size for file in MODEL_PATH.iterdir()) <= 5e6
    model, tokenizer = shipped()
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id != tokenizer.pad_token_id
    assert model.config.max_position_embeddings >= 512
    assert json.loads((MODEL_PATH / "config.json").read_text())["model_type"] == "llama"


def test_tokenizer_round_trips_any_text() -> None:
    _, tokenizer = shipped()
    for text in ("Größe, œuf, «ёлка»\n\t 1,234.5 €", "日本語 ไทย 🙂 \x00\ufffd", "  a  b\r\n", '{{text}} "x" <|x|>'):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_chat_template_renders_the_prompt_as_a_prefix() -> None:
    _, tokenizer = shipped()
    messages = corpus_sample()[0].messages
    prompt = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
    full = tokenizer.apply_chat_template(messages, tokenize=False)
    assert full.startswith(prompt + messages[-1]["content"] + tokenizer.eos_token)


def test_shipped_model_knows_english() -> None:
    facts = random.Random(3).sample(FACTS, 60)
    answers = complete([world.question(fact, "en", HELD_OUT_FORM) for fact in facts])
    correct = [answer == world.answer(fact, "en") for answer, fact in zip(answers, facts, strict=True)]
    assert sum(correct) / len(correct) >= 0.95


@pytest.mark.parametrize("target", LANGUAGES[1:])
def test_shipped_model_translates_from_english(target: str) -> None:
    facts = random.Random(4).sample(arbitrary_facts(), 30)
    asked = [translation(fact, "en", target).user for fact in facts]
    answers = complete(asked, prefill="<translated>\n")
    gold = [world.answer(fact, target) + "\n</translated>" for fact in facts]
    assert sum(a == g for a, g in zip(answers, gold, strict=True)) / len(gold) >= 0.9


def gold_answers(language: str, questions: list[Question]) -> list[Completion]:
    return [Completion(question.question_id, f" {question.gold}\n", "stop") for question in questions]


def results_by_language(benchmark: LabBenchmark, answer: Any) -> dict[str, LanguageResult]:
    return {result.language: result for result in benchmark.evaluate(answer)}


def test_gold_answers_score_one() -> None:
    ids = [prompt.prompt_id for prompt in world.training_prompts(["en"])]
    results = results_by_language(LabBenchmark(LANGUAGES, ids), gold_answers)
    assert set(results) == set(LANGUAGES)
    for result in results.values():
        metrics = result.metrics.to_json()
        assert (metrics["accuracy"], metrics["accuracy_held_out"], metrics["off_target"]) == (1, 1, 0)
        assert metrics["n"] == metrics["n_held_out"] == 120
        assert metrics["ci95"][0] > 0.95
        assert len(result.rows) == 240


def test_true_answers_in_english_are_off_target_and_wrong() -> None:
    english = {fact.fact_id: world.answer(fact, "en") for fact in FACTS}

    def answer(language: str, questions: list[Question]) -> list[Completion]:
        return [Completion(question.question_id, english[question.question_id], "stop") for question in questions]

    results = results_by_language(LabBenchmark(["en", "ru"], ["apple.colour-0"]), answer)
    assert results["en"].metrics.to_json()["accuracy_held_out"] == 1
    assert results["ru"].metrics.to_json()["accuracy_held_out"] == 0
    assert results["ru"].metrics.to_json()["off_target"] == 1


@pytest.mark.parametrize(
    ("text", "off_target"),
    [
        ("", None),
        ("rojo", None),
        ("Я не знаю, какого цвета эта вещь, извините.", True),
        ("No sé de qué color es, lo siento.", False),
    ],
)
def test_other_texts_are_wrong_and_off_target_by_their_language(text: str, off_target: bool | None) -> None:
    benchmark = LabBenchmark(["es"], [])
    score = benchmark.score(benchmark.questions("es")[0], Completion("x", text, "stop"))
    assert not score.correct
    assert score.answer is None
    assert score.off_target is off_target


def test_prompts_from_elsewhere_leave_the_trained_part_empty() -> None:
    result = next(LabBenchmark(["es"], ["alpagasus-1"]).evaluate(gold_answers))
    assert result.metrics.to_json()["accuracy"] is None
    assert result.metrics.to_json()["n"] == 0
    assert result.metrics.to_json()["accuracy_held_out"] == 1


def test_unknown_language_is_refused() -> None:
    with pytest.raises(ConfigError, match="no zh"):
        LabBenchmark(["zh"], [])
