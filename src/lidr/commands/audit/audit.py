"""What a document says for each variable: a judge's values, each with a quotation that is checked against the text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Required, TypedDict

from lidr.commands.audit.document import Document, Passage, windows
from lidr.config import JudgeConfig
from lidr.engine_settings import EngineSettings
from lidr.errors import ConfigError, DataError, EngineError
from lidr.judges.base import Judge, Reply, open_judge, tag_mark
from lidr.records import Json
from lidr.report.variables import BY_NAME, VARIABLES, Variable
from lidr.storage import make_folder, write_text
from lidr.templates import fill_template, read_template
from lidr.thinking import split_thinking

SCHEMA = 1
_REPLY_TOKENS = 2048  # nine quotations of up to 60 words take some 1,200
_FENCE = re.compile(r"```(?:json)?\s*\n(.*)\n\s*```", re.S)


@dataclass(frozen=True, slots=True)
class Finding:
    """One variable of one document. `value` is None exactly when `unscored` says why."""

    variable: str
    value: str | None
    evidence: tuple[Passage, ...] = ()
    unscored: str | None = None


class JudgedBy(TypedDict, total=False):
    """Who judged: `rules` of a version, or a `model` with the other fields."""

    kind: Required[Literal["rules", "model"]]
    version: int
    model: str
    window_characters: int
    identity: Json


@dataclass(frozen=True, slots=True)
class Audit:
    """All variables of one document, which was read in `windows` pieces."""

    document: str
    judge: JudgedBy
    windows: int
    characters: int
    findings: tuple[Finding, ...]

    @property
    def values(self) -> dict[str, str | None]:
        return {finding.variable: finding.value for finding in self.findings}


# --- a model as the judge ---------------------------------------------------------------------------------------------


def audit_by_model(
    model: str, engine: EngineSettings, documents: Sequence[Document], window: int, folder: Path
) -> list[Audit]:
    """Audits of documents by a model: a folder or hub id, or a name on a server. `folder` keeps its replies.

    Raises EngineError if it does not answer, ConfigError if there is no such model.
    """
    config = JudgeConfig(model=model, engine=engine, logprobs=False, max_new_tokens=_REPLY_TOKENS)
    make_folder(folder)
    try:
        with open_judge(config, folder / ".replies.sqlite", folder / ".models.json") as judge:
            return judge_documents(judge, documents, window)
    except (EngineError, ConfigError) as error:
        # Judges name a field of recipes, which does not exist here.
        raise type(error)(str(error).replace("evaluation.judge", "audit")) from error


def judge_documents(judge: Judge, documents: Sequence[Document], window: int) -> list[Audit]:
    """Ask a model about every piece of every document, one request each, and merge what it finds.

    `window` is the most characters of a piece; with the reply it has to fit into the model's context. Raises
    EngineError if the model cannot be reached; earlier replies are kept.
    """
    pieces = [(document, start, end) for document in documents for start, end in windows(document, window)]
    replies = judge.ask([_request(*piece) for piece in pieces], "audit")
    by = JudgedBy(kind="model", model=judge.config.model, window_characters=window, identity=judge.identity)
    audits = []
    for document in documents:
        found = [
            read_findings(document, reply)
            for (owner, _, _), reply in zip(pieces, replies, strict=True)
            if owner is document
        ]
        audits.append(Audit(document.name, by, len(found), len(document.text), merge(found)))
    return audits


def _request(document: Document, start: int, end: int) -> str:
    text = document.text[start:end]
    part = "the whole text" if (start, end) == (0, len(document.text)) else "a part of the text"
    return fill_template(
        read_template("audit"),
        part=part,
        text=text,
        mark=tag_mark(text),
        variables="\n".join(map(_explained, VARIABLES)),
    )


def _explained(variable: Variable) -> str:
    values = "; ".join(f'"{value}" if it {meaning}' for value, meaning in variable.values.items())
    return f'- {variable.name}: {values}; else "{variable.absent}".'


def read_findings(document: Document, reply: Reply) -> tuple[Finding, ...]:
    """A reply about a piece of the document, one Finding per variable; what cannot be relied on is unscored."""
    try:
        entries = _parse(reply)
    except ValueError as error:
        return tuple(Finding(variable.name, None, unscored=str(error)) for variable in VARIABLES)
    return tuple(_finding(document, variable, entries.get(variable.name)) for variable in VARIABLES)


def _parse(reply: Reply) -> Json:
    """The reply's JSON object, alone or in one code fence. Raises ValueError with what is wrong with it."""
    if reply.error:
        raise ValueError(f"the model gave no reply: {reply.error}")
    text = split_thinking(reply.text).answer.strip()
    if fenced := _FENCE.fullmatch(text):
        text = fenced[1]
    try:
        entries = json.loads(text, object_pairs_hook=_without_duplicates)
    except (json.JSONDecodeError, RecursionError):
        raise ValueError(f"the reply is not JSON: {_short(reply.text)}") from None
    if not isinstance(entries, dict):
        raise ValueError(f"the reply is not a JSON object: {_short(reply.text)}")
    if unknown := [name for name in entries if name not in BY_NAME]:
        raise ValueError(f"the reply has an unknown variable {_short(unknown[0])}")
    return entries


def _without_duplicates(pairs: list[tuple[str, object]]) -> Json:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise ValueError("the reply names something twice")
    return dict(pairs)


def _finding(document: Document, variable: Variable, entry: object) -> Finding:
    def unscored(reason: str) -> Finding:
        return Finding(variable.name, None, unscored=reason)

    if entry is None:
        return unscored("the reply leaves it out")
    if not isinstance(entry, dict) or set(entry) != {"value", "quotation"} or not isinstance(entry["quotation"], str):
        return unscored(f"not a value and a quotation: {_short(json.dumps(entry, ensure_ascii=False))}")
    value, quotation = entry["value"], entry["quotation"].strip()
    if value not in variable.allowed:
        return unscored(f"{_short(str(value))} is not one of {', '.join(variable.allowed)}")
    if not quotation:
        return Finding(variable.name, value) if value == variable.absent else unscored(f"{value} without a quotation")
    if passage := document.find(quotation):
        return Finding(variable.name, value, (passage,))
    return unscored(f"{value}, but the quotation is too short or not in the document: {_short(quotation)}")


def _short(text: str) -> str:
    return repr(text if len(text) <= 120 else f"{text[:120]} ...")


def merge(pieces: Sequence[tuple[Finding, ...]]) -> tuple[Finding, ...]:
    """The findings of a document's pieces as those of the document.

    Of the values found, the one that comes first in the variable's definition counts, with all its quotations. Absence
    counts if every piece has it. The document is unscored if an unscored piece could overrule the value. The
    affiliation is that of the first piece, since later ones name the affiliations of others.
    """
    merged = []
    for index, variable in enumerate(VARIABLES):
        findings = [piece[index] for piece in pieces]
        merged.append(_merge(variable, findings[:1] if variable.name == "affiliation" else findings))
    return tuple(merged)


def _merge(variable: Variable, findings: Sequence[Finding]) -> Finding:
    value = next(value for value in (*variable.allowed, None) if any(item.value == value for item in findings))
    failed = [number for number, item in enumerate(findings, 1) if item.value is None]
    if value is None or (failed and value != variable.allowed[0]):
        reason = findings[failed[0] - 1].unscored
        where = f"piece {failed[0]} of {len(findings)}: " if len(findings) > 1 else ""
        return Finding(variable.name, None, unscored=f"{where}{reason}")
    evidence = dict.fromkeys(passage for item in findings if item.value == value for passage in item.evidence)
    return Finding(variable.name, value, tuple(evidence))


# --- audits on disk ---------------------------------------------------------------------------------------------------


def write_audit(audit: Audit, folder: Path) -> Path:
    """Write `<document>.json` and `<document>.md`; returns the latter."""
    from lidr.report.templates import render

    make_folder(folder)
    content = {"schema": SCHEMA, **asdict(audit)}
    write_text(folder / f"{audit.document}.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    page = folder / f"{audit.document}.md"
    write_text(page, render("audit.md", {"audit": audit, "variables": BY_NAME}))
    return page


def read_audit(path: Path) -> Audit:
    """An audit that `write_audit` wrote. Raises DataError for another file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("schema") != SCHEMA:
            raise ValueError("of another version")
        findings = tuple(
            Finding(**item | {"evidence": tuple(Passage(**passage) for passage in item["evidence"])})
            for item in content.pop("findings")
        )
        audit = Audit(findings=findings, **content)
        if any(item.value not in (*BY_NAME[item.variable].allowed, None) for item in findings):
            raise ValueError("with a value that no variable has")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise DataError(
            f"{path}: not an audit that `lidr audit` of this version wrote; audit the document again"
        ) from None
    return audit


def by_document(audits: Iterable[Audit]) -> dict[str, dict[str, str | None]]:
    """Document -> variable -> value. Raises DataError for a document that occurs twice, or judges that differ."""
    found: dict[str, dict[str, str | None]] = {}
    judge: JudgedBy | None = None
    for audit in audits:
        if audit.document in found:
            raise DataError(f"{audit.document} was audited twice; give one folder of audits")
        if judge not in (None, audit.judge):
            raise DataError(f"{audit.document} was judged by another judge than the others; measure one at a time")
        found[audit.document], judge = audit.values, audit.judge
    return found
