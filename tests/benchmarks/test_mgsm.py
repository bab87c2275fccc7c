from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from lidr.benchmarks.base import AnswerFunction, LanguageResult, Question
from lidr.benchmarks.mgsm import MgsmBenchmark, without_label
from lidr.config import load_config
from lidr.engines.base import Completion
from lidr.errors import DataError
from lidr.languages import get_language
from tests.test_numbers import SENTENCES, written

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "mgsm"
ROWS = [{"query": "2 {x} + {question}?", "response": "2,125"}, {"query": "And now?", "response": "12.5"}]


def write_rows(folder: Path, languages: Sequence[str], rows: Sequence[dict[str, Any]] = ROWS) -> str:
    folder.mkdir(exist_ok=True)
    for code in languages:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{code}.jsonl").write_text(text, encoding="utf-8")
    return str(folder)


def gold_sentence(question: Question) -> str:
    return SENTENCES[question.language][0].format(written(question.gold, question.language))


def answering(write: Any) -> AnswerFunction:
    def answer(language: str, questions: list[Question]) -> list[Completion]:
        return [Completion(question.question_id, write(question), "stop") for question in questions]

    return answer


def evaluate(benchmark: MgsmBenchmark, write: Any) -> dict[str, LanguageResult]:
    return {result.language: result for result in benchmark.evaluate(answering(write))}


def test_gold_sentences_score_one_in_every_language(tmp_path: Path) -> None:
    path = write_rows(tmp_path, list(SENTENCES))
    for language in SENTENCES:
        result = evaluate(MgsmBenchmark(path=path, languages=[language]), gold_sentence)[language]
        metrics = result.metrics.to_json()
        lines = {key: metrics.pop(key) for key in ("lpr", "ci95_lpr", "undecided_lines")}
        assert lines["lpr"] in (None, 1.0)  # a line counts from five words on
        assert metrics == {
            "accuracy": 1.0, "off_target": 0.0, "undecided": 0, "n": 2, "failed": 0, "truncated": 0, "thinking": 0,
            "ci95": [0.3424, 1.0], "ci95_off_target": [0.0, 0.6576], "accuracy_on_target": 1.0,
            "ci95_accuracy_on_target": [0.3424, 1.0],
        }  # fmt: skip
        assert [row.answer for row in result.rows] == ["2125", "12.5"]


def test_wrong_answers_score_zero(tmp_path: Path) -> None:
    benchmark = MgsmBenchmark(path=write_rows(tmp_path, ["en", "de"]), languages=["en", "de"])
    for text in ("It is 2126.", "It is 2.", "I cannot tell.", ""):
        for result in evaluate(benchmark, lambda _, text=text: text).values():
            assert result.metrics.to_json()["accuracy"] == 0.0
            assert not any(row.correct for row in result.rows)


def test_the_question_is_put_into_the_instruction_as_it_is(tmp_path: Path) -> None:
    path = write_rows(tmp_path, ["fr"])
    wrapped = MgsmBenchmark(path=path, languages=["fr"]).questions("fr")[0]
    assert wrapped.prompt == get_language("fr").answer_instruction.replace("{question}", "2 {x} + {question}?")
    assert wrapped.gold == "2125"
    bare = MgsmBenchmark(path=path, languages=["fr"], instruction=False).questions("fr")[0]
    assert bare.prompt == "2 {x} + {question}?"


def test_limit_and_other_field_names_and_tsv(tmp_path: Path) -> None:
    write_rows(tmp_path, ["en"], [{"question": "How many?", "answer": None, "answer_number": 7}] * 5)
    (tmp_path / "mgsm_sw.tsv").write_text("Ana \"5' kazi?\t1,400\n\nNgapi?\t3\n", encoding="utf-8")
    benchmark = MgsmBenchmark(path=str(tmp_path), languages=["en", "sw"], limit=2)
    assert [(question.question_id, question.gold) for question in benchmark.questions("en")] == [("1", "7"), ("2", "7")]
    assert [question.gold for question in benchmark.questions("sw")] == ["1400", "3"]
    assert "Ana \"5' kazi?" in benchmark.questions("sw")[0].prompt


def test_off_target_is_counted_and_bare_numbers_are_undecided(tmp_path: Path) -> None:
    rows = [{"query": f"¿Cuánto? {number}", "response": str(number)} for number in range(4)]
    benchmark = MgsmBenchmark(path=write_rows(tmp_path, ["es"], rows), languages=["es"])
    texts = {
        "0": "She has nothing left at the end of the day, so the answer is 0.",
        "1": "1",
        "2": "Por lo tanto, al final del día le quedan 2 manzanas.",
        "3": "Am Ende des Tages hat sie noch 3 Äpfel in ihrem Korb.",
    }
    result = evaluate(benchmark, lambda question: texts[question.gold])["es"]
    assert [row.off_target for row in result.rows] == [True, None, False, True]
    assert result.metrics.to_json() == {
        "accuracy": 1.0, "off_target": 0.5, "undecided": 1, "n": 4, "failed": 0, "truncated": 0, "thinking": 0,
        "ci95": [0.5101, 1.0], "ci95_off_target": [0.15, 0.85], "accuracy_on_target": 0.5,
        "ci95_accuracy_on_target": [0.15, 0.85], "lpr": 0.3333, "ci95_lpr": [0.0615, 0.7923], "undecided_lines": 1,
    }  # fmt: skip


def test_an_answer_that_changes_its_language_halfway_fails_by_its_lines(tmp_path: Path) -> None:
    benchmark = MgsmBenchmark(path=write_rows(tmp_path, ["es"]), languages=["es"])
    spanish = "Primero sumamos todas las manzanas que hay en la cesta de la cocina y en la mesa del comedor. "
    text = f"{spanish * 3}\nThen we subtract all of the apples that were eaten."
    metrics = evaluate(benchmark, lambda _: text)["es"].metrics.to_json()
    assert (metrics["off_target"], metrics["lpr"]) == (0.0, 0.0)


def test_english_alone_still_knows_other_languages(tmp_path: Path) -> None:
    benchmark = MgsmBenchmark(path=write_rows(tmp_path, ["en"]), languages=["en"])
    text = "Por lo tanto, al final del día le quedan 2 manzanas."
    assert evaluate(benchmark, lambda _: text)["en"].metrics.to_json()["off_target"] == 1.0


def test_a_failed_request_is_neither_right_nor_wrong(tmp_path: Path) -> None:
    benchmark = MgsmBenchmark(path=write_rows(tmp_path, ["en"]), languages=["en"])

    def answer(language: str, questions: list[Question]) -> list[Completion]:
        first, second = (question.question_id for question in questions)
        return [Completion(first, "", "error", error="no room"), Completion(second, "12.5", "stop")]

    (result,) = benchmark.evaluate(answer)
    metrics = result.metrics
    assert (metrics.value("accuracy"), metrics.count("n"), metrics.count("failed")) == (1.0, 1, 1)


def test_without_any_answer_there_are_no_numbers(tmp_path: Path) -> None:
    benchmark = MgsmBenchmark(path=write_rows(tmp_path, ["en"]), languages=["en"])
    (result,) = benchmark.evaluate(
        lambda language, questions: [Completion(question.question_id, "", "error") for question in questions]
    )
    assert result.metrics.to_json() == {
        "accuracy": None, "off_target": None, "undecided": 0, "n": 0, "failed": 2, "truncated": 0, "thinking": 0,
        "ci95": None, "ci95_off_target": None, "accuracy_on_target": None, "ci95_accuracy_on_target": None,
        "lpr": None, "ci95_lpr": None, "undecided_lines": 0,
    }  # fmt: skip


# The labels of the released data before question and answer, by language.
LABELS = {
    "en": ("Question: ", "Step-by-Step Answer: "),
    "es": ("Pregunta: ", "Respuesta paso a paso: "),
    "fr": ("Question : ", "Réponse étape par étape : "),
    "de": ("Frage: ", "Schritt-für-Schritt-Antwort: "),
    "ru": ("Задача: ", "Пошаговое решение: "),
    "zh": ("问题：", "逐步解答："),
    "ja": ("問題：", "ステップごとの答え："),
    "th": ("โจทย์: ", "คำตอบทีละขั้นตอน: "),
    "sw": ("Swali: ", "Jibu la Hatua kwa Hatua: "),
    "bn": ("প্রশ্ন: ", "ধাপে ধাপে উত্তর: "),
    "te": ("ప్రశ్న: ", "దశలవారీగా సమాధానం: "),
}


def examples(language: str, count: int, labelled: bool = True) -> list[dict[str, Any]]:
    question, answer = LABELS[language] if labelled else ("", "")
    return [
        {
            "question": f"{question}2 + {number}?",
            "answer": f"{answer}2 + {number} = {2 + number}: {SENTENCES[language][0]}",
        }
        for number in range(count)
    ]


def write_examples(folder: str, language: str, rows: Sequence[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (Path(folder) / f"{language}.train.jsonl").write_text(text, encoding="utf-8")


@pytest.mark.parametrize("labelled", [True, False])
def test_worked_examples_are_turns_before_the_question_in_every_language(tmp_path: Path, labelled: bool) -> None:
    path = write_rows(tmp_path, list(LABELS))
    for code in LABELS:
        write_examples(path, code, examples(code, 8, labelled))
    benchmark = MgsmBenchmark(path=path, languages=list(LABELS), num_fewshot=2)
    for code in LABELS:
        wrapper = get_language(code).answer_instruction
        expected = []
        for number in range(2):
            expected.append(("user", wrapper.replace("{question}", f"2 + {number}?")))
            expected.append(("assistant", f"2 + {number} = {2 + number}: {SENTENCES[code][0]}"))
        first, second = benchmark.questions(code)
        assert first.history == second.history == tuple(expected)
        assert first.prompt == wrapper.replace("{question}", "2 {x} + {question}?")


def test_bare_worked_examples_and_none(tmp_path: Path) -> None:
    path = write_rows(tmp_path, ["de"])
    assert MgsmBenchmark(path=path, languages=["de"]).questions("de")[0].history == ()
    write_examples(path, "de", examples("de", 8))
    bare = MgsmBenchmark(path=path, languages=["de"], instruction=False, num_fewshot=8).questions("de")[0]
    assert [role for role, _ in bare.history] == ["user", "assistant"] * 8
    assert bare.history[0] == ("user", "2 + 0?")
    assert MgsmBenchmark(path=path, languages=["de"]).questions("de")[0].history == ()


def test_msvamp_is_read_and_scored_alike_and_named_by_its_own_name(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "set", ["en", "es"])
    config = load_config(
        "quickstart", [f"evaluation.benchmarks.msvamp={{path: {path}, languages: [en, es], limit: 1}}"]
    )
    settings = config.evaluation.benchmarks["msvamp"]
    benchmark = MgsmBenchmark(**settings.model_dump(), name="msvamp")
    assert [(code, len(questions)) for code, questions, _ in benchmark.ahead()] == [("en", 1), ("es", 1)]
    assert evaluate(benchmark, gold_sentence)["es"].metrics.to_json()["accuracy"] == 1.0
    with pytest.raises(DataError, match=r"take th out of evaluation\.benchmarks\.msvamp\.languages"):
        MgsmBenchmark(path=path, languages=["th"], name="msvamp").questions("th")


def test_labels_go_and_colons_of_the_text_stay() -> None:
    assert without_label(["Question : a : b", "Question: c", "question d"]) == ["a : b", "c", "question d"]
    assert without_label(["问题：一：二", "问题: 三", "问题:四"]) == ["一：二", "三", "四"]
    kept = ["In a shop: 3 apples", "A farm has: 2 cows", "At 10:30 Ana has 3", "At 10:30 Bo has 2", "At 10:30 he has 1"]
    assert without_label(kept) == kept
    long = ["What is left of a long day with so many words: nothing"] * 3
    assert without_label(long) == long
    assert without_label([]) == []


def test_too_few_worked_examples_are_an_error_before_anything_is_asked(tmp_path: Path) -> None:
    path = write_rows(tmp_path, ["en", "de"])
    write_examples(path, "en", examples("en", 8))
    benchmark = MgsmBenchmark(path=path, languages=["en", "de"], num_fewshot=8)
    with pytest.raises(DataError, match=r"no worked examples in de; set .*num_fewshot to 0, or add <language>\.train"):
        next(benchmark.evaluate(lambda language, questions: pytest.fail("asked")))
    write_examples(path, "de", examples("de", 5))
    with pytest.raises(DataError, match=r"num_fewshot asks for 8 worked examples, de has 5; lower it"):
        benchmark.questions("de")
    write_examples(path, "de", [*examples("de", 1), {"question": "2 + 2?", "answer": None}])
    with pytest.raises(DataError, match=r"de\.train\.jsonl:2: no value in 'answer'"):
        MgsmBenchmark(path=path, languages=["de"], num_fewshot=1).questions("de")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"query": "a"', "not valid JSON"),
        ("[1]", "a row must be an object"),
        ('{"query": "a"}', "no value in 'answer_number' or 'response'"),
        ('{"response": "1"}', "no value in 'question' or 'query'"),
        ('{"query": " ", "response": "1"}', "no value in 'question' or 'query'"),
        ('{"query": "a", "response": "many"}', "gold answer 'many' is not a number"),
        ('{"query": "a", "response": "1 or 2"}', "gold answer '1 or 2' is not a number"),
    ],
)
def test_bad_rows_name_file_and_line_before_anything_is_asked(tmp_path: Path, line: str, complaint: str) -> None:
    write_rows(tmp_path, ["en"])
    (tmp_path / "de.jsonl").write_text(json.dumps(ROWS[0]) + "\n" + line + "\n", encoding="utf-8")
    benchmark = MgsmBenchmark(path=str(tmp_path), languages=["en", "de"])
    with pytest.raises(DataError, match=r"de\.jsonl:2: ") as raised:
        next(benchmark.evaluate(lambda language, questions: pytest.fail("asked")))
    assert complaint in str(raised.value)


def test_bad_sources_say_what_to_do(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "set", ["en", "de"])
    with pytest.raises(DataError, match=r"no file for language 'fr' .*it has en, de"):
        MgsmBenchmark(path=path, languages=["fr"]).questions("fr")
    with pytest.raises(DataError, match=r"no such folder; set evaluation\.benchmarks\.mgsm\.path"):
        MgsmBenchmark(path=str(tmp_path / "nowhere"), languages=["fr"]).questions("fr")
    (tmp_path / "set" / "fr.tsv").write_text("question without gold\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"fr\.tsv:1: 1 columns"):
        MgsmBenchmark(path=path, languages=["fr"]).questions("fr")
    (tmp_path / "set" / "ru.jsonl").write_text("\n", encoding="utf-8")
    with pytest.raises(DataError, match="no questions in ru"):
        MgsmBenchmark(path=path, languages=["ru"]).questions("ru")
    (tmp_path / "set" / "es.jsonl").write_bytes(b'{"query": "\xff"}\n')
    with pytest.raises(DataError, match=r"es\.jsonl:1: not UTF-8"):
        MgsmBenchmark(path=path, languages=["es"]).questions("es")
    with pytest.raises(ValueError, match="unknown language 'xx'"):
        MgsmBenchmark(path=path, languages=["xx"])


@pytest.mark.parametrize("gold", [12, 12.0, "12", "12.0", " 12 "])
def test_a_gold_is_a_number_however_it_is_stored(gold: Any, tmp_path: Path) -> None:
    (tmp_path / "en.jsonl").write_text(json.dumps({"query": "Hm?", "answer_number": None, "response": gold}) + "\n")
    (question,) = MgsmBenchmark(path=str(tmp_path), languages=["en"]).questions("en")
    assert question.gold == "12"


@pytest.mark.parametrize(
    "gold", [None, "", " ", float("nan"), float("inf"), True, [12], {"value": 12}, "nan", "twelve"]
)
def test_a_gold_that_is_no_number_is_named_before_anything_is_asked(gold: Any, tmp_path: Path) -> None:
    rows = [{"query": "Hm?", "response": 7}, {"query": "Hm?", "response": gold}]
    (tmp_path / "en.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"en\.jsonl:2: "):
        MgsmBenchmark(path=str(tmp_path), languages=["en"]).questions("en")


@pytest.mark.parametrize("question", [None, "", float("nan"), True, 12, ["Hm?"], {"text": "Hm?"}])
def test_a_question_that_is_no_text_is_named(question: Any, tmp_path: Path) -> None:
    (tmp_path / "en.jsonl").write_text(json.dumps({"query": question, "response": 7}) + "\n")
    with pytest.raises(DataError, match=r"en\.jsonl:1: "):
        MgsmBenchmark(path=str(tmp_path), languages=["en"]).questions("en")


def test_an_empty_gold_of_a_table_or_a_data_set_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "en.tsv").write_text("Hm?\t7\nHm?\t\n")
    with pytest.raises(DataError, match=r"en\.tsv:2: no value in 'answer_number'"):
        MgsmBenchmark(path=str(tmp_path), languages=["en"]).questions("en")
    rows = [{"question": "Größe?".encode(), "answer_number": 7.0}, {"question": b"Hm?", "answer_number": float("nan")}]
    benchmark = MgsmBenchmark(path=write_hub_folder(tmp_path / "hub", {("en", "test"): rows}), languages=["en"])
    with pytest.raises(DataError, match=r"hub/en row 2: no value in 'answer_number'"):
        benchmark.questions("en")
    benchmark.limit = 1
    (question,) = benchmark.questions("en")
    assert question.gold == "7" and "Größe?" in question.prompt


def write_hub_folder(folder: Path, splits: dict[tuple[str, str], list[dict[str, Any]]]) -> str:
    """A data set in the hub's layout: one configuration per language, one parquet file per split."""
    datasets = pytest.importorskip("datasets")
    card = ["---", "configs:"]
    for code in dict.fromkeys(code for code, _ in splits):
        card += [f"- config_name: {code}", "  data_files:"]
        (folder / code).mkdir(parents=True)
        for split, rows in ((split, rows) for (language, split), rows in splits.items() if language == code):
            datasets.Dataset.from_list(rows).to_parquet(folder / code / f"{split}-00000-of-00001.parquet")
            card += [f"  - split: {split}", f"    path: {code}/{split}-*"]
    (folder / "README.md").write_text("\n".join([*card, "---", ""]), encoding="utf-8")
    return str(folder)


def test_hub_layout_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    asked = [{"question": "Hm?", "answer": None, "answer_number": gold} for gold in (18, 2125)]
    shown = [row | {"answer_number": 2, "equation_solution": "2 = 2."} for row in examples("th", 8)]
    path = write_hub_folder(
        tmp_path / "mgsm", {("en", "test"): asked, ("th", "train"): shown, ("th", "test"): asked[:1]}
    )
    benchmark = MgsmBenchmark(path=path, languages=["en", "th"])
    assert [question.gold for question in benchmark.questions("en")] == ["18", "2125"]
    assert evaluate(benchmark, gold_sentence)["th"].metrics.to_json()["accuracy"] == 1.0
    with pytest.raises(DataError, match=r"configuration .sw., split .test."):
        MgsmBenchmark(path=path, languages=["sw"]).questions("sw")
    with_examples = MgsmBenchmark(path=path, languages=["en", "th"], instruction=False, num_fewshot=8)
    (question,) = with_examples.questions("th")
    assert question.history[:2] == (("user", "2 + 0?"), ("assistant", f"2 + 0 = 2: {SENTENCES['th'][0]}"))
    assert len(question.history) == 16
    with pytest.raises(DataError, match=r"configuration .en., split .train.*num_fewshot to 0"):
        with_examples.questions("en")


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the MGSM questions are not part of the project, and not in {REAL}")
def test_gold_sentences_score_one_on_the_real_questions() -> None:
    languages = ["en", "es", "fr", "de", "ru", "zh", "ja"]
    results = evaluate(MgsmBenchmark(path=str(REAL), languages=languages), gold_sentence)
    assert list(results) == languages
    golds = [[Decimal(row.gold) for row in result.rows] for result in results.values()]
    assert all(column == golds[0] for column in golds)
    for result in results.values():
        assert (result.metrics.to_json()["accuracy"], result.metrics.to_json()["n"]) == (1.0, 250)
        assert result.metrics.to_json()["off_target"] == 0.0
