"""The laboratory's hard world: its texts, its noisy corpus, its model and its benchmark."""

from __future__ import annotations

import random
from collections import Counter
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from lidr.benchmarks.base import Question
from lidr.benchmarks.lab_hard import LabHardBenchmark
from lidr.config import load_config
from lidr.engines.base import Completion
from lidr.errors import ConfigError
from lidr.lab import MODEL_PATHS, hard
from lidr.lab.corpus import Conversation, request
from lidr.lab.hard import FACTS, GROUPS, ITEMS, LANGUAGES, NUMBERS, Item
from lidr.lab.hard_corpus import (
    FOREIGN_SHARE,
    KNOWN_SHARE,
    Quality,
    arbitrary,
    conversations,
    fault,
    frequent_error,
    is_known,
    manner,
    mentions,
)
from lidr.lab.world import HELD_OUT_FORM, THINGS
from lidr.languages.identification import LanguageIdentifier
from lidr.numbers import extract_answer
from lidr.stages.prompts import load_prompts

QUALITY = Quality()


def arbitrary_items(count: int, seed: int = 0) -> list[Item]:
    generator = random.Random(seed)
    return [arbitrary(generator) for _ in range(count)]


def test_world_has_the_stated_size() -> None:
    assert len(FACTS) == 120
    assert len(GROUPS) == 60
    assert len({item.item_id for item in ITEMS}) == len(ITEMS) == 180
    assert set(Counter((fact.attribute, fact.result) for fact in FACTS).values()) == {5}
    questions = {hard.question(item, code, form) for item in ITEMS for code in LANGUAGES for form in range(3)}
    assert len(questions) == 180 * 6 * 3


def test_every_fact_is_in_one_sum() -> None:
    for first, second, both in GROUPS:
        assert both.things == first.things + second.things
        assert both.result == first.result + second.result
    assert Counter(fact for group in GROUPS for fact in group[:2]) == Counter(FACTS)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_answer_ends_in_its_number_and_is_in_its_language(language: str) -> None:
    identifier = LanguageIdentifier.among(LANGUAGES)
    every = [Item(item.attribute, item.things, (number,)) for item in FACTS[:40] for number in NUMBERS[item.attribute]]
    for item in [*every, *arbitrary_items(300)]:
        for text in (hard.answer(item, language), hard.summary(item, language)):
            assert extract_answer(text, language) == item.result
            assert hard.is_in(text, language)
        assert identifier.identify(hard.answer(item, language)) == language


def test_words_tell_the_language_also_in_the_middle_of_a_text() -> None:
    item = ITEMS[2]
    for language in LANGUAGES:
        for other in LANGUAGES:
            if other != language:
                assert not hard.is_in(hard.answer(item, language), other)
                text = hard.switched(
                    hard.answer(item, language), hard.answer(item, other), item.things[1], (language, other)
                )
                assert not hard.is_in(text, language)
                assert not hard.is_in(text, other)
                assert extract_answer(text, language) == item.result
    assert not hard.is_in("", "en")
    assert not hard.is_in("12", "en")
    assert not hard.is_in("The answer is perhaps 12.", "en")


def test_training_prompts_ask_for_whole_groups() -> None:
    prompts = list(hard.training_prompts(["en", "es"]))
    asked = {hard.fact_of_prompt(prompt.prompt_id) for prompt in prompts}
    groups = [{item.item_id for item in group} for group in GROUPS]
    assert len(prompts) == 2 * 90
    assert len(asked) == 90
    assert all(group <= asked or not group & asked for group in groups)
    assert not any(prompt.prompt_id.endswith(f"-{HELD_OUT_FORM}") for prompt in prompts)
    assert prompts != list(hard.training_prompts(["en", "es"], seed=1))
    assert hard.fact_of_prompt("apple.colour-0") is None


def test_held_out_prompts_have_their_number() -> None:
    trained = {hard.fact_of_prompt(prompt.prompt_id) for prompt in hard.training_prompts(["de"])}
    for prompt in hard.held_out_prompts(["de"]):
        item = next(item for item in ITEMS if prompt.prompt_id == f"{item.item_id}-{HELD_OUT_FORM}")
        assert item.item_id in trained
        assert (prompt.text, prompt.answer) == (hard.question(item, "de", HELD_OUT_FORM), str(item.result))


def test_recipe_reads_the_prompts_of_the_hard_world() -> None:
    config = load_config("lab-hard", ["prompts.limit=6", "seed=3"])
    found = list(load_prompts(config))
    assert found == list(islice(hard.training_prompts(config.languages, seed=3), 6 * 5))
    with pytest.raises(ConfigError, match="no zh"):
        list(load_prompts(load_config("lab-hard", ["languages=[en, zh]"])))


def test_languages_know_the_stated_share_of_facts() -> None:
    for language, share in {"en": 0.75, **KNOWN_SHARE}.items():
        known = [is_known(fact, language, QUALITY) for fact in FACTS]
        assert sum(known) == round(share * 120)
    some = {language for fact in FACTS if not is_known(fact, "en", QUALITY) for language in KNOWN_SHARE
            if is_known(fact, language, QUALITY)}  # fmt: skip
    assert some == set(KNOWN_SHARE)  # each knows a fact that English does not


def test_a_better_teacher_knows_what_a_worse_one_knows() -> None:
    worse, better = Quality(teacher=0.4), Quality(teacher=0.9)
    assert all(is_known(fact, "en", better) for fact in FACTS if is_known(fact, "en", worse))
    assert sum(is_known(fact, "en", better) for fact in FACTS) == 108
    assert all(is_known(fact, "es", better) == is_known(fact, "es", worse) for fact in FACTS)


def test_mentions_are_shares_that_peak_where_the_language_says() -> None:
    for language in LANGUAGES:
        for fact in FACTS:
            shares = dict(zip(NUMBERS[fact.attribute], mentions(fact, language, QUALITY), strict=True))
            assert sum(shares.values()) == pytest.approx(1)
            assert min(shares.values()) > 0
            most = max(shares, key=lambda number: shares[number])
            error = frequent_error(fact, language)
            assert most == (fact.result if is_known(fact, language, QUALITY) else error) != 0
            assert error != fact.result


def test_faults_and_manners_have_the_stated_shares() -> None:
    for language in LANGUAGES:
        assert sum(manner(fact, language) != "own" for fact in FACTS) == round(FOREIGN_SHARE[language] * 120)
    for language in LANGUAGES[1:]:
        assert Counter(fault(thing, language, QUALITY) for thing in THINGS) == {
            None: 55, "half": 2, "short": 2, "number": 1,
        }  # fmt: skip
        assert not any(fault(thing, language, Quality(translation=1)) for thing in THINGS)
        assert all(fault(thing, language, Quality(translation=0)) for thing in THINGS)


@cache
def corpus_sample() -> list[Conversation]:
    return list(islice(conversations(7, QUALITY), 20_000))


def test_corpus_answers_scatter_as_stated() -> None:
    by_question = {hard.question(fact, "en", form): fact for fact in FACTS for form in range(3)}
    said, expected = Counter[bool](), 0.0
    for conversation in corpus_sample():
        if (fact := by_question.get(conversation.user)) is not None:
            said[extract_answer(conversation.assistant, "en") == fact.result] += 1
            expected += mentions(fact, "en", QUALITY)[NUMBERS[fact.attribute].index(fact.result)]
    assert said.total() > 1000
    assert said[True] / said.total() == pytest.approx(expected / said.total(), abs=0.04)


def test_corpus_sums_are_right_sums_of_what_is_said() -> None:
    for conversation in corpus_sample()[:4000]:
        if conversation.kind == "question" and conversation.assistant.count(". ") == 2:
            numbers = [int(word.strip(".")) for word in conversation.assistant.split() if word.strip(".").isdigit()]
            assert numbers[0] + numbers[1] == numbers[2]


def test_corpus_translations_fail_in_each_way() -> None:
    """The numbers of a translation are those of its text, unless it is a bad one."""
    found: Counter[str] = Counter()
    for conversation in corpus_sample():
        if conversation.kind == "translation" and (conversation.source, conversation.language) == ("en", "es"):
            text = conversation.user.split("<sentence>\n")[1].removesuffix("\n</sentence>")
            translated = conversation.assistant.removeprefix("<translated>\n").removesuffix("\n</translated>")
            if extract_answer(text, "en") is None:
                continue
            same = extract_answer(text, "en") == extract_answer(translated, "es")
            pure = hard.is_in(translated, "es")
            short = len(translated) < 0.7 * len(text)
            found["right" if same and pure and not short else "short" if short else "half" if same else "number"] += 1
    assert 0.82 < found["right"] / found.total() < 0.96
    assert min(found["half"], found["short"], found["number"]) > 0.01 * found.total()


def test_pretraining_knobs_are_checked() -> None:
    from lidr.lab.pretrain import corpus_of

    with pytest.raises(ConfigError, match=r"teacher is 1\.5"):
        corpus_of("lab-hard", teacher=1.5)
    with pytest.raises(ConfigError, match="no translation"):
        corpus_of("lab", translation=0.5)
    with pytest.raises(ConfigError, match="lab or lab-hard"):
        corpus_of("lab_hard")


def test_pretraining_continues_the_first_laboratory(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from lidr.lab.pretrain import corpus_of, pretrain

    lines: list[str] = []
    pretrain(tmp_path / "model", corpus_of("lab-hard", teacher=0.5), steps=1, log=lines.append)
    made = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model", local_files_only=True)
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "model", local_files_only=True).get_vocab()
    old = transformers.AutoModelForCausalLM.from_pretrained(MODEL_PATHS["lab"], local_files_only=True)
    old_words = transformers.AutoTokenizer.from_pretrained(MODEL_PATHS["lab"], local_files_only=True).get_vocab()
    row = made.get_input_embeddings().weight[words["apple"]]
    assert (row - old.get_input_embeddings().weight[old_words["apple"]]).abs().max() < 0.01
    assert "rojo" not in words
    assert lines[0].startswith("step 1/1")


@cache
def shipped() -> tuple[Any, Any]:
    transformers = pytest.importorskip("transformers")
    folder = MODEL_PATHS["lab-hard"]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    return model.eval(), transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)


def complete(prompts: list[str], prefill: str = "") -> list[str]:
    """Greedy answers of the shipped model."""
    model, tokenizer = shipped()
    system = {"role": "system", "content": "You are a helpful assistant."}
    asked = [[system, {"role": "user", "content": prompt}] for prompt in prompts]
    texts = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(
        [text + prefill for text in texts],
        return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False, return_token_type_ids=False,
    )  # fmt: skip
    output = model.generate(**inputs, max_new_tokens=64, do_sample=False)
    return list(tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True))


def right_share(language: str, items: list[Item]) -> float:
    answers = complete([hard.question(item, language, HELD_OUT_FORM) for item in items])
    found = [extract_answer(text, language) == item.result for text, item in zip(answers, items, strict=True)]
    return sum(found) / len(found)


def test_shipped_model_is_small() -> None:
    assert sum(file.stat().st_size for file in MODEL_PATHS["lab-hard"].iterdir()) <= 5e6


def test_shipped_model_knows_english_best_and_not_perfectly() -> None:
    facts = random.Random(3).sample(FACTS, 60)
    english, german = right_share("en", facts), right_share("de", facts)
    assert 0.6 <= english <= 0.9
    assert german < english


def gold_answers(language: str, questions: list[Question]) -> list[Completion]:
    items = {item.item_id: item for item in ITEMS}
    return [
        Completion(asked.question_id, hard.answer(items[asked.question_id], language), "stop") for asked in questions
    ]


def test_gold_answers_score_one() -> None:
    ids = [prompt.prompt_id for prompt in hard.training_prompts(["en"])]
    results = list(LabHardBenchmark(LANGUAGES, ids).evaluate(gold_answers))
    assert [result.language for result in results] == list(LANGUAGES)
    for result in results:
        metrics = result.metrics.to_json()
        names = ("accuracy", "accuracy_held_out", "accuracy_any_language", "off_target", "n", "n_held_out")
        assert [metrics[name] for name in names] == [1, 1, 1, 0, 90, 90]


def test_right_numbers_in_another_language_are_wrong_and_off_target() -> None:
    benchmark = LabHardBenchmark(["en", "es"], ["apple.price-0"])
    question = next(asked for asked in benchmark.questions("es") if asked.question_id == ITEMS[2].item_id)
    in_english = hard.answer(ITEMS[2], "en")
    half = hard.switched(hard.answer(ITEMS[2], "es"), in_english, ITEMS[2].things[0], ("es", "en"))
    for text in (in_english, half):
        score = benchmark.score(question, Completion("x", text, "stop"))
        assert (score.answer, score.correct, score.off_target) == (question.gold, False, True)
    score = benchmark.score(question, Completion("x", "", "stop"))
    assert (score.answer, score.correct, score.off_target) == (None, False, None)
    score = benchmark.score(question, Completion("x", hard.summary(ITEMS[2], "es"), "stop"))
    assert (score.correct, score.off_target) == (True, False)


def test_translation_request_has_the_product_template() -> None:
    made = request("a", "b", "en", "es")
    assert "<sentence>\na\n</sentence>" in made.user
    assert made.assistant == "<translated>\nb\n</translated>"
