"""The files of alpaca-eval 0.6.6: outputs of models, and annotations of pairs, both JSON lists of objects.

Outputs: `instruction`, `output`, `generator`, `dataset`. Annotations: `instruction`, `output_1` and `generator_1` (the
reference), `output_2` and `generator_2` (the model under test), `annotator`, and `preference` from 1 (output_1) to 2
(output_2), null if the judge gave none. In our code a preference is from 0 to 1, where 1 is the model under test.
"""

# No `from __future__ import annotations` here: it would take the name of the function below.
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lidr.benchmarks.base import Question
from lidr.engines.base import Completion
from lidr.errors import DataError
from lidr.judges import Comparison
from lidr.records import Json, Verdict, writable
from lidr.storage import local_path, write_text
from lidr.tables import PlacedRow, read_table


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """One answer of a model. `output` may be empty; `dataset` is the part of the benchmark, if the file says so."""

    instruction: str
    output: str
    generator: str
    dataset: str = ""


@dataclass(frozen=True, slots=True)
class Annotation:
    """One judged pair. `preference` is from 0 (reference) to 1 (model), None if unscored; lengths in characters."""

    instruction: str
    reference: str
    model: str
    annotator: str
    preference: float | None
    reference_length: int
    model_length: int


def read_model_outputs(path: str | Path, language: str) -> list[ModelOutput]:
    """The outputs of `<path>/<language>.json`, in the file's order. Raises DataError for files that cannot be used."""
    folder = local_path(str(path), "evaluation.benchmarks")
    file = folder / f"{language}.json"
    if not file.is_file():
        have = ", ".join(sorted(found.name for found in folder.glob("*.json"))) or "no .json file"
        raise DataError(f"{file}: no such file ({folder} has {have}); add the model's outputs in {language!r}")
    return [
        ModelOutput(
            instruction=_text(row, "instruction", place),
            output=_text(row, "output", place, may_be_empty=True),
            generator=_text(row, "generator", place),
            dataset=_text(row, "dataset", place, may_be_empty=True) if row.get("dataset") is not None else "",
        )
        for place, row in _read_items(file)
    ]


def model_outputs(questions: Sequence[Question], answers: Sequence[Completion], generator: str) -> list[dict[str, str]]:
    """The rows of an outputs file. An answer that the engine failed to give is left out: it is no empty output."""
    return [
        {
            "instruction": question.prompt,
            "output": answer.text,
            "generator": generator,
            "dataset": question.group,
        }
        for question, answer in zip(questions, answers, strict=True)
        if answer.finish_reason != "error"
    ]


def annotations(
    comparisons: Sequence[Comparison], verdicts: Sequence[Verdict], model: str, reference: str, annotator: str
) -> list[Json]:
    """The rows of an annotations file: one per comparison, with the names of both models and of the judge.

    Raises ValueError for a preference that is impossible, or a verdict on another question.
    """
    rows: list[Json] = []
    for comparison, verdict in zip(comparisons, verdicts, strict=True):
        if comparison.question_id != verdict.question_id:
            raise ValueError(f"question {comparison.question_id} is beside a verdict on {verdict.question_id}")
        preference = verdict.preference
        if preference is not None and not 0 <= preference <= 1:
            raise ValueError(f"question {verdict.question_id}: preference {preference} is not between 0 and 1")
        rows.append(
            {
                "instruction": comparison.prompt,
                "output_1": comparison.opponent,
                "generator_1": reference,
                "output_2": comparison.answer,
                "generator_2": model,
                "annotator": annotator,
                "preference": None if preference is None else 1 + preference,
            }
        )
    return rows


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write the rows of either kind as alpaca-eval does, a JSON list; the folder is created if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(list(rows), ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def read_annotations(path: str | Path) -> list[Annotation]:
    """The annotations of one model against one reference, in the file's order.

    Raises DataError for a file that cannot be used, also one with several models or references: a win rate over a
    mixture means nothing.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise DataError(f"{file}: no such file; give the annotations.json of an evaluation with alpaca-eval or lidr")
    found = [
        Annotation(
            instruction=_text(row, "instruction", place),
            reference=_text(row, "generator_1", place),
            model=_text(row, "generator_2", place),
            annotator=_text(row, "annotator", place, may_be_empty=True),
            preference=_preference(row, place),
            reference_length=len(_text(row, "output_1", place, may_be_empty=True)),
            model_length=len(_text(row, "output_2", place, may_be_empty=True)),
        )
        for place, row in _read_items(file)
    ]
    references, models = {item.reference for item in found}, {item.model for item in found}
    for field, names in (("generator_1", references), ("generator_2", models)):
        if len(names) > 1:
            raise DataError(f"{file}: several models in {field!r} ({', '.join(sorted(names))}); split the file by it")
    return found


def _read_items(file: Path) -> list[PlacedRow]:
    """(place for messages, row) of every item of a JSON list of objects; there must be one."""
    items = list(read_table(file))
    if not items:
        raise DataError(f"{file}: holds no items; an object per instruction is needed")
    return items


def _value(row: Json, field: str, place: str) -> object:
    if field not in row:
        raise DataError(f"{place}: no field {field!r} (fields: {', '.join(row) or 'none'}); add it")
    return row[field]


def _text(row: Json, field: str, place: str, *, may_be_empty: bool = False) -> str:
    value = _value(row, field, place)
    if not isinstance(value, str):
        raise DataError(f"{place}: {field!r} is not text but {str(value)[:60]!r}; correct it")
    if not value.strip() and not may_be_empty:
        raise DataError(f"{place}: {field!r} is empty; fill it or remove the item")
    return writable(value)


def _preference(row: Json, place: str) -> float | None:
    """The preference from 0 to 1. null and NaN are unscored; 0 is how older files write a draw."""
    value = _value(row, "preference", place)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not (value == 0 or 1 <= value <= 2):
        raise DataError(
            f"{place}: preference {value!r} is not between 1 (output_1) and 2 (output_2); correct it, or write null "
            "if the judge gave none"
        )
    return 0.5 if value == 0 else value - 1.0
