"""`lidr audit`: what a paper or a page says for the nine variables of reproducibility."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lidr.commands.arguments import new_path, parse_engine, path

if TYPE_CHECKING:
    from lidr.commands.audit.audit import Audit


def audit(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="DOCUMENT|FOLDER...",
            parser=path,
            help="Text, Markdown or PDF files, or folders of them or of audits.",
        ),
    ],
    judge: Annotated[
        Literal["model", "rules"], typer.Option(help="rules: regular expressions, which need no model.")
    ] = "model",
    model: Annotated[str | None, typer.Option(help="Folder, hub id, or the name on a server.")] = None,
    base_url: Annotated[str | None, typer.Option(help="An OpenAI-compatible server that has the model.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="a=b", help="Override a field of engine.")] = None,
    window: Annotated[
        int, typer.Option(min=1000, help="Characters of a document shown to the model at a time.")
    ] = 12_000,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            parser=path,
            help="CSV of human labels: document,variable,value. Measures the judge on them.",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="PATH", parser=new_path, help="The folder for <document>.md and .json.")
    ] = Path("audits"),
) -> None:
    """Read off documents what they say for reproducibility.

    Nine variables, each with a quotation; a value whose quotation is not in the document is thrown away. A folder that
    holds audits already is not judged again.
    """
    from lidr.commands.audit import audit as audits
    from lidr.commands.audit.agreement import measure_agreement, read_labels, write_agreement
    from lidr.commands.audit.document import find_documents
    from lidr.commands.audit.show import print_agreement, print_audits
    from lidr.errors import DataError

    known = read_labels(labels) if labels else None  # before a model is asked
    documents, kept = find_documents(sources)
    if documents and kept:
        raise DataError(f"{kept[0]} is an audit and {documents[0]} a document; give the one or the other")
    found = [audits.read_audit(path) for path in kept]
    if documents:
        found = _judge(documents, judge, model, base_url, set_, window, out)
        pages = [audits.write_audit(item, out) for item in found]
        _say(f"audit: {pages[0] if len(pages) == 1 else out}")
    print_audits(found)
    if known is not None and labels:
        agreement = measure_agreement(known, audits.by_document(found))
        print_agreement(agreement)
        _say(f"agreement: {write_agreement(agreement, found[0].judge, labels, out)}")


def _judge(
    paths: list[Path],
    judge: str,
    model: str | None,
    base_url: str | None,
    settings: list[str] | None,
    window: int,
    out: Path,
) -> list[Audit]:
    from lidr.commands.audit.audit import audit_by_model
    from lidr.commands.audit.document import read_document
    from lidr.commands.audit.rules import audit_by_rules

    if judge == "rules":
        if model or base_url or settings:
            raise typer.BadParameter(
                "rules ask no model; leave out --model, --base-url and --set", param_hint="--judge"
            )
        return [audit_by_rules(read_document(path)) for path in paths]
    if model is None:
        raise typer.BadParameter("name the model that judges, or give --judge rules", param_hint="--model")
    documents = [read_document(path) for path in paths]
    return audit_by_model(model, parse_engine(base_url, settings), documents, window, out)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
