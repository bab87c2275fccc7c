"""MGSM: grade-school arithmetic, 250 questions per language (Shi et al. 2022, arXiv 2210.03057)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from lidr.benchmarks.base import AnswerFunction, LanguageResult, Question, Score
from lidr.benchmarks.numbers import extract_answer, number_text, parse_number, same_number
from lidr.benchmarks.statistics import wilson_interval
from lidr.config import may_be_hub_id
from lidr.engines.base import Completion
from lidr.errors import DataError
from lidr.language_id import LanguageIdentifier
from lidr.languages import LANGUAGES, get_language

_QUESTION_FIELDS = ("question", "query")
_GOLD_FIELDS = ("answer_number", "response")
_FILES = ("{}.jsonl", "{}.tsv", "mgsm_{}.tsv")
_WAY_OUT = (
    "set evaluation.benchmarks.mgsm.path to a folder of <language>.jsonl (query, response) or <language>.tsv "
    "(question TAB answer) files, or to a Hugging Face data set with one configuration per language"
)


class MgsmBenchmark:
    """Accuracy of the final number, and the share of answers in another language than the question's.

    `path` is a local folder of `<language>.jsonl` or `.tsv` files, or a Hugging Face data set (hub id or folder) with
    one configuration per language. `limit` asks only the first n questions of each language; `instruction` wraps them
    in the request for step-by-step reasoning. Languages are told apart among those asked, English, and `candidates`.
    """

    def __init__(
        self,
        *,
        path: str,
        languages: Sequence[str],
        limit: int | None = None,
        instruction: bool = True,
        candidates: Sequence[str] = (),
    ) -> None:
        self.path, self.limit, self.instruction = path, limit, instruction
        self.languages = tuple(get_language(code).code for code in languages)
        answered_in = {"en", *languages, *candidates}
        # With English alone there is nothing to tell apart: then any language of the table may turn up.
        self._identifier = LanguageIdentifier(sorted(answered_in) if len(answered_in) > 1 else list(LANGUAGES))

    def questions(self, language: str) -> list[Question]:
        """The questions of one language, with golds in plain digits. Raises DataError for rows that cannot be used."""
        wrapper = get_language(language).answer_instruction if self.instruction else "{question}"
        questions = []
        for number, (place, row) in enumerate(_read(self.path, language), 1):
            question, gold = _field(row, _QUESTION_FIELDS, place), _field(row, _GOLD_FIELDS, place)
            # The released golds are written the English way ("2,125") in every language.
            value = parse_number(gold, "en")
            if value is None:
                raise DataError(f"{place}: the gold answer {gold[:60]!r} is not a number; correct it or remove the row")
            prompt = wrapper.replace("{question}", question)
            questions.append(Question(str(number), language, prompt, number_text(value)))
            if number == self.limit:
                break
        if not questions:
            raise DataError(f"{self.path}: no questions in {language}; {_WAY_OUT}")
        return questions

    def evaluate(self, answer: AnswerFunction) -> Iterator[LanguageResult]:
        """See `Benchmark.evaluate`. All questions are read before the first is asked, so a bad row costs no answers.

        A question that the engine failed to answer (`Completion.error`) is left out and counted in `failed`: it is
        neither right nor wrong.
        """
        questions = {language: self.questions(language) for language in self.languages}
        for language, asked in questions.items():
            pairs = list(zip(asked, answer(language, asked), strict=True))
            rows = [self.score(*pair) for pair in pairs if pair[1].finish_reason != "error"]
            yield LanguageResult(language, rows, _metrics(rows) | {"failed": len(pairs) - len(rows)})

    def score(self, question: Question, completion: Completion) -> Score:
        """Score one answer; the language is told from the answer's text alone."""
        number = extract_answer(completion.text, question.language)
        language = self._identifier.identify(completion.text)
        return Score(
            question_id=question.question_id,
            language=question.language,
            text=completion.text,
            answer=None if number is None else number_text(number),
            gold=question.gold,
            correct=same_number(number, Decimal(question.gold)),
            off_target=None if language is None else language != question.language,
        )


def _metrics(rows: list[Score]) -> dict[str, Any]:
    """Accuracy and off-target over all rows; both are None where there are none."""
    n, correct = len(rows), sum(row.correct for row in rows)
    return {
        "accuracy": round(correct / n, 4) if n else None,
        "off_target": round(sum(row.off_target is True for row in rows) / n, 4) if n else None,
        "undecided": sum(row.off_target is None for row in rows),
        "n": n,
        "ci95": [round(bound, 4) for bound in wilson_interval(correct, n)] if n else None,
    }


def _read(path: str, language: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place for messages, row) of every row of one language."""
    folder = Path(path).expanduser()
    files = {code: file for code in LANGUAGES for name in _FILES if (file := folder / name.format(code)).is_file()}
    if language in files:
        yield from _read_file(files[language])
    elif files:
        raise DataError(
            f"{folder}: no file for language {language!r} (wanted {language}.jsonl or {language}.tsv; it has "
            f"{', '.join(files)}); add it, or take {language} out of evaluation.benchmarks.mgsm.languages"
        )
    elif not folder.exists() and not may_be_hub_id(path):
        raise DataError(f"{path}: no such folder; {_WAY_OUT}")
    else:
        yield from _read_dataset(str(folder) if folder.exists() else path, language)


def _read_file(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig") as handle:
            for number, line in enumerate(handle, 1):
                if line.strip():
                    yield f"{path}:{number}", _parse(line, f"{path}:{number}", path.suffix)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error}); convert it") from None


def _parse(line: str, place: str, suffix: str) -> dict[str, Any]:
    if suffix == ".tsv":
        # Split by hand: the questions hold quotation marks, which a CSV reader takes for its own.
        columns = line.rstrip("\r\n").split("\t")
        if len(columns) != 2:
            raise DataError(f"{place}: {len(columns)} columns, expected question TAB answer; correct the line")
        return {"question": columns[0], "answer_number": columns[1]}
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{place}: not valid JSON (column {error.colno}: {error.msg}); repair or remove it") from None
    if not isinstance(row, dict):
        raise DataError(f"{place}: a row must be an object with fields, this is {str(row)[:60]!r}; correct it")
    return row


def _read_dataset(path: str, language: str) -> Iterator[tuple[str, dict[str, Any]]]:
    import datasets

    try:
        rows = datasets.load_dataset(path, language, split="test")
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"{path}: cannot load language {language!r}, split 'test': {error}; {_WAY_OUT}") from error
    for number, row in enumerate(rows, 1):
        yield f"{path}/{language} row {number}", row


def _field(row: dict[str, Any], names: tuple[str, ...], place: str) -> str:
    """The first of the fields that has a value, as text."""
    for name in names:
        value = row.get(name)
        if value is not None and not isinstance(value, bool) and str(value).strip():
            return str(value).strip()
    have = ", ".join(map(str, row)) or "none"
    raise DataError(f"{place}: no value in {' or '.join(map(repr, names))} (fields: {have}); add it or remove the row")
