"""How well a judge's values agree with human labels: accuracy, precision, recall and Cohen's kappa, per variable."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

from lidr.commands.audit.audit import JudgedBy
from lidr.commands.audit.document import AGREEMENT
from lidr.errors import DataError
from lidr.records import Json
from lidr.report.variables import BY_NAME, VARIABLES, Variable
from lidr.statistics import wilson_interval
from lidr.storage import make_folder, write_text

Interval = tuple[float, float]
Labels = dict[str, dict[str, str]]  # document -> variable -> value
_Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class Class:
    """One value of a variable. Shares are None if there is nothing to divide by, intervals are 95 %."""

    value: str
    labelled: int
    judged: int
    right: int

    @property
    def precision(self) -> float | None:
        return self.right / self.judged if self.judged else None

    @property
    def recall(self) -> float | None:
        return self.right / self.labelled if self.labelled else None

    @property
    def precision_interval(self) -> Interval | None:
        return wilson_interval(self.right, self.judged) if self.judged else None

    @property
    def recall_interval(self) -> Interval | None:
        return wilson_interval(self.right, self.labelled) if self.labelled else None


@dataclass(frozen=True, slots=True)
class Agreement:
    """One variable over `n` labelled documents; the judge gave no value for `unscored` of them.

    `accuracy`, `kappa` and `classes` are over the others: a missing value is neither right nor wrong. `right_of_all`
    counts it as not right, so that silence does not pay.
    """

    variable: str
    n: int
    unscored: int
    right: int
    kappa: float | None
    kappa_interval: Interval | None
    classes: tuple[Class, ...]

    @property
    def scored(self) -> int:
        return self.n - self.unscored

    @property
    def accuracy(self) -> float | None:
        return self.right / self.scored if self.scored else None

    @property
    def accuracy_interval(self) -> Interval | None:
        return wilson_interval(self.right, self.scored) if self.scored else None

    @property
    def right_of_all(self) -> float | None:
        return self.right / self.n if self.n else None


def cohens_kappa(pairs: Sequence[tuple[str, str]]) -> tuple[float | None, Interval | None]:
    """Agreement of two raters beyond chance, and its 95 % interval; None if chance alone explains all.

    J. Cohen, "A Coefficient of Agreement for Nominal Scales", Educational and Psychological Measurement 20 (1960),
    37-46: (observed - expected) / (1 - expected), with the approximate standard error given there. The coefficient is
    undefined if both raters use only the same single value. The interval is for large samples: with fewer than about 30
    pairs it is a hint, and if all pairs agree it would have no width, so none is given.
    """
    n = len(pairs)
    if not n:
        return None, None
    first, second = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    observed = sum(a == b for a, b in pairs) / n
    expected = sum(first[value] * second[value] for value in first) / n**2
    if expected == 1:
        return None, None
    kappa = (observed - expected) / (1 - expected)
    if observed == 1:
        return kappa, None
    margin = _Z95 * sqrt(observed * (1 - observed) / n) / (1 - expected)
    return kappa, (max(-1.0, kappa - margin), min(1.0, kappa + margin))


def measure_agreement(labels: Labels, judged: Mapping[str, Mapping[str, str | None]]) -> list[Agreement]:
    """One Agreement per variable that has labels. `judged` is document -> variable -> value, None if unscored.

    Raises DataError for a labelled document that was not judged.
    """
    if missing := [document for document in labels if document not in judged]:
        known = ", ".join(sorted(judged)[:3])
        raise DataError(
            f"there are labels for {missing[0]!r} and {len(missing) - 1} more, but no such document among {known} ...; "
            "the column `document` holds the file's name, such as paper.pdf"
        )
    found = []
    for variable in VARIABLES:
        pairs = [
            (values[variable.name], judged[document].get(variable.name))
            for document, values in labels.items()
            if variable.name in values
        ]
        if pairs:
            found.append(_agreement(variable, pairs))
    return found


def _agreement(variable: Variable, pairs: Sequence[tuple[str, str | None]]) -> Agreement:
    scored = [(label, value) for label, value in pairs if value is not None]
    right = Counter(label for label, value in scored if label == value)
    labelled, judged = Counter(label for label, _ in scored), Counter(value for _, value in scored)
    classes = tuple(Class(value, labelled[value], judged[value], right[value]) for value in variable.allowed)
    kappa, interval = cohens_kappa(scored)
    return Agreement(variable.name, len(pairs), len(pairs) - len(scored), right.total(), kappa, interval, classes)


def read_labels(path: Path) -> Labels:
    """Human labels from a CSV: columns `document`, `variable`, `value`, or `document` and a column per variable.

    In the second form an empty cell is not a label. Raises DataError that names the line of anything inexact.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle, strict=True)
            columns = list(reader.fieldnames or [])
            _check_columns(path, columns)
            return _collect(path, columns, ((reader.line_num, row) for row in reader))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV table: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def _check_columns(path: Path, columns: list[str]) -> None:
    names = ", ".join(BY_NAME)
    if len(set(columns)) != len(columns):
        raise DataError(f"{path}:1: a column occurs twice")
    if "document" not in columns:
        raise DataError(f"{path}:1: no column `document`; give document, variable, value, or document and {names}")
    if set(columns) == {"document", "variable", "value"}:
        return
    if unknown := [column for column in columns if column != "document" and column not in BY_NAME]:
        raise DataError(f"{path}:1: no variable {unknown[0]!r}; there are {names}")
    if len(columns) == 1:
        raise DataError(f"{path}:1: no label in it; add a column per variable: {names}")


def _collect(path: Path, columns: list[str], rows: Iterable[tuple[int, dict[str, str | None]]]) -> Labels:
    labels: Labels = {}
    for line, row in rows:
        if None in row or None in row.values():  # csv's mark of too many or too few cells
            raise DataError(f"{path}:{line}: {len(columns)} cells are needed, as in the first line")
        cells = {name: (value or "").strip() for name, value in row.items()}
        document = cells.pop("document")
        if not document:
            raise DataError(f"{path}:{line}: no document")
        long_form = "variable" in columns
        given = {cells["variable"]: cells["value"]} if long_form else {k: v for k, v in cells.items() if v}
        for name, value in given.items():
            _check_label(f"{path}:{line}", name, value)
            if name in labels.setdefault(document, {}):
                raise DataError(f"{path}:{line}: {document} has a label for {name} already")
            labels[document][name] = value
    if not labels:
        raise DataError(f"{path}: no label in it")
    return labels


def _check_label(where: str, name: str, value: str) -> None:
    if name not in BY_NAME:
        raise DataError(f"{where}: no variable {name!r}; there are {', '.join(BY_NAME)}")
    if value not in BY_NAME[name].allowed:
        raise DataError(f"{where}: {name} is one of {', '.join(BY_NAME[name].allowed)}, not {value!r}")


def write_agreement(agreements: Sequence[Agreement], judge: JudgedBy, labels: Path, folder: Path) -> Path:
    """Write agreement.json and agreement.md; returns the latter."""
    from lidr.report.templates import render

    make_folder(folder)
    content = {"schema": 1, "judge": judge, "labels": labels.name, "variables": [_as_dict(row) for row in agreements]}
    write_text(folder / AGREEMENT, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    who = "rules (regular expressions, no model)" if judge["kind"] == "rules" else judge["model"]
    page = folder / "agreement.md"
    context = {"judge": who, "labels": labels.name, "rows": agreements, "variables": BY_NAME}
    write_text(page, render("agreement.md", context))
    return page


def _as_dict(row: Agreement) -> Json:
    classes = [
        {"value": item.value, "labelled": item.labelled, "judged": item.judged, "right": item.right}
        | {"precision": item.precision, "precision_ci95": item.precision_interval}
        | {"recall": item.recall, "recall_ci95": item.recall_interval}
        for item in row.classes
    ]
    return {
        "variable": row.variable, "n": row.n, "unscored": row.unscored, "right": row.right,
        "accuracy": row.accuracy, "accuracy_ci95": row.accuracy_interval, "right_of_all": row.right_of_all,
        "kappa": row.kappa, "kappa_ci95": row.kappa_interval, "values": classes,
    }  # fmt: skip
