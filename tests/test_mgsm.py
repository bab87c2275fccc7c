from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from lidr.benchmarks.base import AnswerFunction, LanguageResult, Question
from lidr.benchmarks.mgsm import MgsmBenchmark
from lidr.benchmarks.statistics import wilson_interval
from lidr.engines.base import Completion
from lidr.errors import DataError
from lidr.languages import get_language
from tests.test_numbers import SENTENCES, written

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "mgsm"
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
    benchmark = MgsmBenchmark(path=write_rows(tmp_path, list(SENTENCES)), languages=list(SENTENCES))
    results = evaluate(benchmark, gold_sentence)
    assert list(results) == list(SENTENCES)
    for result in results.values():
        assert result.metrics == {
            "accuracy": 1.0, "off_target": 0.0, "undecided": 0, "n": 2, "ci95": [0.3424, 1.0], "failed": 0
        }  # fmt: skip
        assert [row.answer for row in result.rows] == ["2125", "12.5"]


def test_wrong_answers_score_zero(tmp_path: Path) -> None:
    benchmark = MgsmBenchmark(path=write_rows(tmp_path, ["en", "de"]), languages=["en", "de"])
    for text in ("It is 2126.", "It is 2.", "I cannot tell.", ""):
        for result in evaluate(benchmark, lambda _, text=text: text).values():
            assert result.metrics["accuracy"] == 0.0
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
    benchmark = MgsmBenchmark(path=write_rows(tmp_path, ["es"], rows), languages=["es"], candidates=["de"])
    texts = {
        "0": "She has nothing left at the end of the day, so the answer is 0.",
        "1": "1",
        "2": "Por lo tanto, al final del día le quedan 2 manzanas.",
        "3": "Am Ende des Tages hat sie noch 3 Äpfel in ihrem Korb.",
    }
    result = evaluate(benchmark, lambda question: texts[question.gold])["es"]
    assert [row.off_target for row in result.rows] == [True, None, False, True]
    assert result.metrics == {
        "accuracy": 1.0, "off_target": 0.5, "undecided": 1, "n": 4, "ci95": [0.5101, 1.0], "failed": 0
    }  # fmt: skip


def test_english_alone_still_knows_other_languages(tmp_path: Path) -> None:
    benchmark = MgsmBenchmark(path=write_rows(tmp_path, ["en"]), languages=["en"])
    text = "Por lo tanto, al final del día le quedan 2 manzanas."
    assert evaluate(benchmark, lambda _: text)["en"].metrics["off_target"] == 1.0


def test_a_failed_request_is_neither_right_nor_wrong(tmp_path: Path) -> None:
    benchmark = MgsmBenchmark(path=write_rows(tmp_path, ["en"]), languages=["en"])

    def answer(language: str, questions: list[Question]) -> list[Completion]:
        first, second = (question.question_id for question in questions)
        return [Completion(first, "", "error", error="no room"), Completion(second, "12.5", "stop")]

    (result,) = benchmark.evaluate(answer)
    assert (result.metrics["accuracy"], result.metrics["n"], result.metrics["failed"]) == (1.0, 1, 1)


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
    with pytest.raises(DataError, match=r"es\.jsonl: not UTF-8"):
        MgsmBenchmark(path=path, languages=["es"]).questions("es")
    with pytest.raises(ValueError, match="unknown language 'xx'"):
        MgsmBenchmark(path=path, languages=["xx"])


def test_hub_layout_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "mgsm"
    card = ["---", "configs:"]
    for code, golds in (("en", [18, 2125]), ("th", [3])):
        columns = {"question": [f"{code}?"] * len(golds), "answer": [None] * len(golds), "answer_number": golds}
        (folder / code).mkdir(parents=True)
        datasets.Dataset.from_dict(columns).to_parquet(folder / code / "test-00000-of-00001.parquet")
        card += [f"- config_name: {code}", "  data_files:", "  - split: test", f"    path: {code}/test-*"]
    (folder / "README.md").write_text("\n".join([*card, "---", ""]), encoding="utf-8")
    benchmark = MgsmBenchmark(path=str(folder), languages=["en", "th"])
    assert [question.gold for question in benchmark.questions("en")] == ["18", "2125"]
    assert evaluate(benchmark, gold_sentence)["th"].metrics["accuracy"] == 1.0
    with pytest.raises(DataError, match="cannot load language 'sw'"):
        MgsmBenchmark(path=str(folder), languages=["sw"]).questions("sw")


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the MGSM questions are not part of the project, and not in {REAL}")
def test_gold_sentences_score_one_on_the_real_questions() -> None:
    languages = ["en", "es", "fr", "de", "ru", "zh", "ja"]
    results = evaluate(MgsmBenchmark(path=str(REAL), languages=languages), gold_sentence)
    assert list(results) == languages
    golds = [[Decimal(row.gold) for row in result.rows] for result in results.values()]
    assert all(column == golds[0] for column in golds)
    for result in results.values():
        assert (result.metrics["accuracy"], result.metrics["n"]) == (1.0, 250)
        assert result.metrics["off_target"] == 0.0


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(0, 0, 0.0, 1.0), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (114, 250, 0.3954, 0.5180)],
)
def test_wilson_interval(successes: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=1e-4)


def test_wilson_interval_refuses_the_impossible() -> None:
    with pytest.raises(ValueError, match="impossible"):
        wilson_interval(3, 2)
    assert wilson_interval(5, 10, 0.5)[0] > wilson_interval(5, 10, 0.99)[0]
