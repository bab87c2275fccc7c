"""Audits of documents: nothing counts but what is there, and agreement with labels is what a person computes."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lidr.cli import app
from lidr.commands.audit import audit
from lidr.commands.audit.agreement import cohens_kappa, measure_agreement, read_labels
from lidr.commands.audit.document import Document, find_documents, read_document, windows
from lidr.commands.audit.rules import RULES, audit_by_rules
from lidr.errors import DataError, EngineError
from lidr.judges.base import Reply
from lidr.report.variables import BY_NAME, VARIABLES
from tests.support.openai_server import TestServer

PAPER = """# Counting sheep

Ann Example, University of Examples; Ben Sample, Acme Inc.

Abstract. We measure how well small models count sheep.

Algorithm 1: count until asleep.
Our code is available at https://github.com/example/sheep. The data are a publicly available data set of
meadows, split into training and test sets of 900 and 100 pictures. Everything ran on one NVIDIA A100 with
PyTorch 2.3.1, with a learning rate of 5e-6 and a batch size of 16.

## References

[1] Somebody Else. They used a TPU v4 at another university.
"""
QUOTATIONS = {
    "research_type": ("experimental", "We measure how well small models count sheep"),
    "affiliation": ("collaboration", "University of Examples; Ben Sample, Acme Inc."),
    "pseudocode": ("yes", "Algorithm 1: count until asleep."),
    "open_source_code": ("yes", "Our code is available at https://github.com/example/sheep"),
    "open_data_sets": ("yes", "a publicly available data set of meadows"),
    "data_set_splits": ("yes", "training and test sets of 900 and 100 pictures"),
    "hardware": ("yes", "ran on one NVIDIA A100"),
    "software_dependencies": ("yes", "NVIDIA A100 with PyTorch 2.3.1"),
    "experiment_setup": ("yes", "a learning rate of 5e-6 and a batch size of 16"),
}


def document(text: str = PAPER, name: str = "paper.md") -> Document:
    return Document(name, (text,))


def reply_text(**changes: Any) -> str:
    entries = {name: {"value": value, "quotation": quotation} for name, (value, quotation) in QUOTATIONS.items()}
    return json.dumps({name: entry for name, entry in (entries | changes).items() if entry is not ...})


def findings(text: str, about: Document | None = None, error: str | None = None) -> dict[str, audit.Finding]:
    found = audit.read_findings(about or document(), Reply(text, [], 0, 0, error))
    return {finding.variable: finding for finding in found}


# --- quotations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "quotation"),
    [
        ("We used   two\nGPUs of one kind.", "We used two GPUs of one kind."),
        ("a repro-\nducible experiment", "a reproducible experiment"),
        ("a repro\u00ad\nducible experiment", "a reproducible experiment"),
        ("the state-of-the-\nart method", "the state-of-the-art method"),
        ("an eﬃcient and ﬂexible way", "an efficient and flexible way"),
        ("the “best” model’s score", 'the "best" model\'s score'),
        ("from 3–5 runs of it all", "from 3-5 runs of it all"),
        ("Universita\u0308t Wien in Wien", "Universität Wien in Wien"),
    ],
)
def test_layout_is_no_part_of_a_quotation(tmp_path: Path, text: str, quotation: str) -> None:
    (tmp_path / "a.txt").write_text(f"Before it.\n\n{text}\n\nAfter it.", encoding="utf-8")
    passage = read_document(tmp_path / "a.txt").find(quotation)
    assert passage is not None and passage.place == "line 3"


@pytest.mark.parametrize(
    ("text", "quotation"),
    [
        ("We did not release the code of it.", "We did release the code of it."),
        ("in 3-5 epochs of training", "in 35 epochs of training"),
        ("batches of 1 000 examples", "batches of 1000 examples"),
        ("Our code is on the web.", "our code is on the web."),
        ("the model is the model", "the model"),  # too short to be evidence
        ("Nothing of this kind here.", ""),
    ],
)
def test_another_wording_is_no_quotation(text: str, quotation: str) -> None:
    assert document(text).find(quotation) is None


def test_a_passage_is_the_documents_own_text_with_its_page() -> None:
    paged = Document("a.pdf", ("First page.", "Some eﬃ-\ncient way", "to do it."), paged=True)
    passage = paged.find("efficient way to do it.")
    assert passage is not None
    assert (passage.text, passage.place) == ("eﬃ- cient way to do it.", "page 2")


# --- a model's reply --------------------------------------------------------------------------------------------------


def test_a_reply_that_can_be_relied_on() -> None:
    for text in (reply_text(), f"```json\n{reply_text()}\n```"):
        found = findings(text)
        assert {name: finding.value for name, finding in found.items()} == {
            name: value for name, (value, _) in QUOTATIONS.items()
        }
        assert found["hardware"].evidence[0].text == "ran on one NVIDIA A100"


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"value": "yes", "quotation": "trained on 512 TPU v5 chips"}, "not in the document"),
        ({"value": "no", "quotation": "we tell nothing of hardware"}, "not in the document"),
        ({"value": "yes", "quotation": "A100"}, "too short"),
        ({"value": "yes", "quotation": " "}, "without a quotation"),
        ({"value": "maybe", "quotation": "ran on one NVIDIA A100"}, "'maybe' is not one of yes, no"),
        ({"value": True, "quotation": "ran on one NVIDIA A100"}, "'True' is not one of"),
        ({"value": ["yes"], "quotation": "ran on one NVIDIA A100"}, "is not one of"),
        ({"value": "yes"}, "not a value and a quotation"),
        ({"value": "yes", "quotation": None}, "not a value and a quotation"),
        ("yes", "not a value and a quotation"),
        (..., "leaves it out"),
    ],
)
def test_what_cannot_be_relied_on_is_unscored(entry: Any, reason: str) -> None:
    found = findings(reply_text(hardware=entry))
    assert found["hardware"].value is None
    assert reason in str(found["hardware"].unscored)
    assert all(finding.value for name, finding in found.items() if name != "hardware")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("The paper is reproducible.", "not JSON"),
        (f"Here you are: {reply_text()}", "not JSON"),
        (reply_text()[:-40], "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not a JSON object"),
        (reply_text(score={"value": "yes", "quotation": ""}), "unknown variable 'score'"),
        (reply_text()[:-1] + ', "hardware": {"value": "no", "quotation": ""}}', "twice"),
    ],
)
def test_a_damaged_reply_scores_nothing(text: str, reason: str) -> None:
    found = findings(text)
    assert all(finding.value is None and reason in str(finding.unscored) for finding in found.values())


def test_a_reply_that_failed_scores_nothing() -> None:
    found = findings("", error="too long")
    assert {finding.unscored for finding in found.values()} == {"the model gave no reply: too long"}


def test_an_absence_needs_no_quotation() -> None:
    assert findings(reply_text(hardware={"value": "no", "quotation": ""}))["hardware"].value == "no"


# --- pieces -----------------------------------------------------------------------------------------------------------


def test_pieces_cover_the_document_and_fit() -> None:
    text = "".join(f"Sentence number {i} of the text.{chr(10) * (1 + (i % 7 == 0))}" for i in range(500))
    for about in (document(text), Document("a.pdf", tuple(text[i : i + 900] for i in range(0, len(text), 900)), True)):
        pieces = windows(about, 2000)
        assert all(0 < end - start <= 2000 for start, end in pieces)
        assert pieces[0][0] == 0 and pieces[-1][1] == len(about.text)
        assert all(after[0] < before[1] < after[1] for before, after in pairwise(pieces))
    assert windows(document("x" * 5000), 1000)[-1][1] == 5000
    assert windows(document("short text"), 1000) == [(0, 10)]


def piece(variable: str, value: str | None) -> tuple[audit.Finding, ...]:
    """A piece in which everything is absent but one variable, which has this value."""
    unscored = None if value else "it broke"
    return tuple(
        audit.Finding(item.name, value, unscored=unscored)
        if item.name == variable
        else audit.Finding(item.name, item.absent)
        for item in VARIABLES
    )


@pytest.mark.parametrize(
    ("variable", "values", "merged"),
    [
        ("hardware", ["no", "yes", "no"], "yes"),
        ("hardware", ["no", "no"], "no"),
        ("hardware", ["no", None], None),  # it may be in the piece that broke
        ("hardware", [None, "yes"], "yes"),
        ("research_type", ["theoretical", "experimental"], "experimental"),
        ("research_type", ["theoretical", None], None),
        ("research_type", ["not given", "theoretical"], "theoretical"),
        ("affiliation", ["academia", "industry"], "academia"),  # further on, others are named
        ("affiliation", ["academia", None], "academia"),
        ("affiliation", [None, "academia"], None),
    ],
)
def test_pieces_are_merged_without_guessing(variable: str, values: list[str | None], merged: str | None) -> None:
    found = {item.variable: item for item in audit.merge([piece(variable, value) for value in values])}
    assert found[variable].value == merged
    assert (found[variable].unscored is None) == (merged is not None)


# --- rules ------------------------------------------------------------------------------------------------------------


def test_rules_find_what_stands_there_and_quote_it() -> None:
    about = document()
    found = {finding.variable: finding for finding in audit_by_rules(about).findings}
    assert {name: finding.value for name, finding in found.items()} == {
        name: value for name, (value, _) in QUOTATIONS.items()
    }
    for finding in found.values():
        assert finding.evidence
        for passage in finding.evidence:
            assert passage.text in " ".join(PAPER.split())


def test_rules_do_not_count_promises_and_references() -> None:
    text = PAPER.replace("is available at", "will be at").replace("NVIDIA A100", "computer")
    found = audit_by_rules(document(text)).values
    assert found["open_source_code"] == "no"
    assert found["hardware"] == "no"  # the TPU is in a reference
    assert found["pseudocode"] == "yes"


def test_rules_find_nothing_in_an_unrelated_text() -> None:
    values = audit_by_rules(document("It rained all night, and in the morning the road was gone. " * 50)).values
    assert values == {variable.name: variable.absent for variable in VARIABLES}


def test_rules_exist_for_values_that_variables_have() -> None:
    named = {(variable.name, value) for variable in VARIABLES for value in variable.values}
    assert named - set(RULES) == {("affiliation", "collaboration")}  # both kinds together
    assert set(RULES) <= named


# --- documents --------------------------------------------------------------------------------------------------------


def make_pdf(*pages: str) -> bytes:
    """A PDF of one line of text per page."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>"]
    kids = " ".join(f"{4 + 2 * i} 0 R" for i in range(len(pages)))
    objects.append(f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>")
    objects.append("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
    for i, text in enumerate(pages):
        resources = "/Resources << /Font << /F1 3 0 R >> >> /MediaBox [0 0 600 800]"
        objects.append(f"<< /Type /Page /Parent 2 0 R {resources} /Contents {5 + 2 * i} 0 R >>")
        stream = f"BT /F1 12 Tf 40 700 Td ({text}) Tj ET"
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    body, offsets = "%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += f"{number} 0 obj\n{content}\nendobj\n"
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    trailer = f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(body)}\n%%EOF\n"
    return (body + f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}" + trailer).encode()


def test_a_pdf_is_read_page_by_page(tmp_path: Path) -> None:
    pytest.importorskip("pypdf", reason="PDF files need lidr[pdf]")
    path = tmp_path / "paper.pdf"
    path.write_bytes(make_pdf("We ran it all", "on one NVIDIA A100 card"))
    about = read_document(path)
    assert about.pages == ("We ran it all", "on one NVIDIA A100 card")
    passage = about.find("one NVIDIA A100")
    assert passage is not None and passage.place == "page 2"
    path.write_bytes(make_pdf(""))
    with pytest.raises(DataError, match="no text in it; it may be scanned"):
        read_document(path)
    path.write_bytes(b"this is no PDF")
    with pytest.raises(DataError, match=r"paper\.pdf: not a PDF"):
        read_document(path)


def test_documents_that_cannot_be_read(tmp_path: Path) -> None:
    for name, content, words in (
        ("a.docx", b"x", "one of .txt"), ("a.txt", b"\xff\xfe", "not UTF-8"), ("b.md", b" \n", "no text"),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=words):
            read_document(tmp_path / name)
    with pytest.raises(DataError, match="no such file"):
        read_document(tmp_path / "absent.txt")


def test_a_folder_holds_documents_or_audits(tmp_path: Path) -> None:
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "a.md").write_text(PAPER, encoding="utf-8")
    (tmp_path / "papers" / "data.json").write_text("{}", encoding="utf-8")
    assert find_documents([tmp_path / "papers"]) == ([tmp_path / "papers" / "a.md"], [])
    audit.write_audit(audit_by_rules(document(name="a.md")), tmp_path / "audits")
    assert find_documents([tmp_path / "audits"]) == ([], [tmp_path / "audits" / "a.md.json"])
    with pytest.raises(DataError, match=r"two files a\.md"):
        find_documents([tmp_path / "papers", tmp_path / "papers" / "a.md"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no document in it"):
        find_documents([tmp_path / "empty"])


def test_an_audit_survives_the_disk_and_its_page_is_harmless(tmp_path: Path) -> None:
    hostile = document("Algorithm 1: <script>alert(1)</script> | [x](http://y) `z`\n", "odd.md")
    made = audit_by_rules(hostile)
    page = audit.write_audit(made, tmp_path).read_text(encoding="utf-8")
    assert "<script>" not in page and "[x](" not in page
    assert audit.read_audit(tmp_path / "odd.md.json") == made
    for content in ("{}", "[]", "no JSON", json.dumps({"schema": 1, "findings": [{"variable": "x"}]})):
        (tmp_path / "bad.json").write_text(content, encoding="utf-8")
        with pytest.raises(DataError, match="not an audit"):
            audit.read_audit(tmp_path / "bad.json")


# --- agreement --------------------------------------------------------------------------------------------------------


def test_kappa_is_cohens() -> None:
    # 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: observed 0.7, expected 0.5 * 0.6 + 0.5 * 0.4 = 0.5, kappa 0.4;
    # standard error sqrt(0.7 * 0.3 / 50) / 0.5 = 0.12961.
    pairs = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15
    kappa, interval = cohens_kappa(pairs)
    assert kappa == pytest.approx(0.4)
    assert interval == pytest.approx((0.4 - 1.96 * 0.12961, 0.4 + 1.96 * 0.12961), abs=1e-4)
    # Three values: 6 of 8 agree; a 4 and 4 times, b 2 and 3, c 2 and 1: expected (16 + 6 + 2) / 64 = 0.375, kappa 0.6.
    assert cohens_kappa(list(zip("aaaabbcc", "aaabbbca", strict=True)))[0] == pytest.approx(0.6)
    assert cohens_kappa([("yes", "no"), ("no", "yes")])[0] == pytest.approx(-1)
    assert cohens_kappa([("yes", "yes"), ("no", "no")]) == (1.0, None)
    assert cohens_kappa([("yes", "yes")] * 3) == (None, None)
    assert cohens_kappa([]) == (None, None)


def test_agreement_counts_what_was_not_scored() -> None:
    # hardware: labels yes yes yes no no, judged yes no (unscored) yes no.
    labels = {f"{i}.md": {"hardware": value} for i, value in enumerate(["yes", "yes", "yes", "no", "no"])}
    judged = {f"{i}.md": {"hardware": value} for i, value in enumerate(["yes", "no", None, "yes", "no"])}
    (row,) = measure_agreement(labels, judged)
    assert (row.n, row.scored, row.unscored, row.right) == (5, 4, 1, 2)
    assert row.accuracy == pytest.approx(2 / 4) and row.right_of_all == pytest.approx(2 / 5)
    assert row.kappa == pytest.approx(0.0)
    yes, no = row.classes
    assert (yes.labelled, yes.judged, yes.right, yes.precision, yes.recall) == (2, 2, 1, 0.5, 0.5)
    assert (no.labelled, no.judged, no.right, no.precision, no.recall) == (2, 2, 1, 0.5, 0.5)
    # Wilson's interval of 2 in 4: centre 0.5, half width z * sqrt(0.0625 + z^2 / 64) / (1 + z^2 / 4) = 0.3500.
    assert row.accuracy_interval == pytest.approx((0.15, 0.85), abs=1e-3)
    with pytest.raises(DataError, match=r"'9\.md'"):
        measure_agreement({"9.md": {"hardware": "yes"}}, judged)


def test_labels_in_either_form(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("document,variable,value\na.pdf,hardware,yes\na.pdf,pseudocode,no\nb.md,hardware,no\n", "utf-8")
    long_form = read_labels(path)
    path.write_text("document,hardware,pseudocode\r\na.pdf,yes,no\r\nb.md,no,\r\n", "utf-8-sig")
    assert (
        read_labels(path) == long_form == {"a.pdf": {"hardware": "yes", "pseudocode": "no"}, "b.md": {"hardware": "no"}}
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("document,variable,value\na,hardware,perhaps\n", r"labels\.csv:2: hardware is one of yes, no, not 'perhaps'"),
        ("document,variable,value\na,hardware,yes\na,hardwear,yes\n", r"labels\.csv:3: no variable 'hardwear'"),
        ("document,variable,value\na,hardware,yes\na,hardware,no\n", r"labels\.csv:3: a has a label for hardware"),
        ("document,variable,value\na,hardware\n", r"labels\.csv:2: 3 cells"),
        ("document,variable,value\na,hardware,yes,no\n", r"labels\.csv:2: 3 cells"),
        ("document,variable,value\n,hardware,yes\n", r"labels\.csv:2: no document"),
        ("document,variable,value\n", "no label in it"),
        ("paper,hardware\na,yes\n", r"labels\.csv:1: no column `document`"),
        ("document,gpu\na,yes\n", r"labels\.csv:1: no variable 'gpu'"),
        ("document\na\n", "no label in it"),
        ("document,hardware,hardware\na,yes,no\n", "occurs twice"),
        ('document,hardware\n"a,yes\n', "not a CSV table"),
        ("", "no column"),
    ],
)
def test_labels_that_are_not_exact(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=words):
        read_labels(tmp_path / "labels.csv")


# --- the command ------------------------------------------------------------------------------------------------------


def run_audit(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["audit", *map(str, arguments)])


def test_the_command_with_rules_and_labels(tmp_path: Path) -> None:
    (tmp_path / "paper.md").write_text(PAPER, encoding="utf-8")
    labels = tmp_path / "labels.csv"
    labels.write_text("document,hardware,pseudocode\npaper.md,yes,no\n", encoding="utf-8")
    out = tmp_path / "out"
    done = run_audit(tmp_path / "paper.md", "--judge", "rules", "--out", out)
    assert done.exit_code == 0, done.output
    assert "judged by rules" in done.output
    assert "not by a model" in (out / "paper.md.md").read_text(encoding="utf-8")
    done = run_audit(out, "--labels", labels, "--out", out)  # what is there is not judged again
    assert done.exit_code == 0, done.output
    content = json.loads((out / "agreement.json").read_text(encoding="utf-8"))
    assert [(row["variable"], row["right"], row["n"]) for row in content["variables"]] == [
        ("pseudocode", 0, 1), ("hardware", 1, 1),
    ]  # fmt: skip
    assert "rules (regular expressions, no model)" in (out / "agreement.md").read_text(encoding="utf-8")


def test_the_command_says_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "paper.md").write_text(PAPER, encoding="utf-8")
    assert "name the model that judges" in run_audit(tmp_path / "paper.md").output
    assert "rules ask no model" in run_audit(tmp_path / "paper.md", "--judge", "rules", "--model", "m").output


@pytest.mark.usefixtures("impatient")
def test_a_served_model_judges_and_its_replies_are_kept(tmp_path: Path) -> None:
    (tmp_path / "paper.md").write_text(PAPER, encoding="utf-8")
    invented = reply_text(software_dependencies={"value": "yes", "quotation": "we pinned everything with care"})
    with TestServer(lambda body: invented) as server:
        command = (tmp_path / "paper.md", "--model", "m", "--base-url", server.base_url, "--out", tmp_path / "out")
        for _ in range(2):
            done = run_audit(*command)
            assert done.exit_code == 0, done.output
        assert server.counters.requests - server.counters.lists == 1
        content = server.counters.bodies[-1]["messages"][-1]["content"]
    assert PAPER in content and all(f"- {name}: " in content for name in BY_NAME)
    made = audit.read_audit(tmp_path / "out" / "paper.md.json")
    assert made.values == {name: value for name, (value, _) in QUOTATIONS.items()} | {"software_dependencies": None}
    assert made.judge["kind"] == "model" and made.judge["model"] == "m"
    page = (tmp_path / "out" / "paper.md.md").read_text(encoding="utf-8")
    assert "| Software dependencies | unscored | yes, but the quotation is too short or not in the document" in page


@pytest.mark.usefixtures("impatient")
def test_a_server_that_is_away_is_told_as_the_audits(tmp_path: Path) -> None:
    (tmp_path / "paper.md").write_text(PAPER, encoding="utf-8")
    done = run_audit(tmp_path / "paper.md", "--model", "m", "--base-url", "http://127.0.0.1:9/v1", "--out", tmp_path,
                     "--set", "max_retries=0")  # fmt: skip
    assert isinstance(done.exception, EngineError)
    assert "evaluation.judge" not in str(done.exception)


@pytest.mark.usefixtures("impatient")
def test_a_long_document_is_judged_in_pieces(tmp_path: Path) -> None:
    lines = [f"It rained all night, and in the morning road {number} was gone.\n" for number in range(120)]
    lines[60] = "All of it ran on one NVIDIA A100 card.\n"
    (tmp_path / "long.txt").write_text("\n".join(lines), encoding="utf-8")

    def answer(body: dict[str, Any]) -> str:
        entries = {item.name: {"value": item.absent, "quotation": ""} for item in VARIABLES}
        if "A100" in body["messages"][-1]["content"]:
            entries["hardware"] = {"value": "yes", "quotation": "All of it ran on one NVIDIA A100 card."}
        return json.dumps(entries)

    with TestServer(answer) as server:
        done = run_audit(tmp_path / "long.txt", "--model", "m", "--base-url", server.base_url,
                         "--window", "1500", "--out", tmp_path)  # fmt: skip
        assert done.exit_code == 0, done.output
        contents = [body["messages"][-1]["content"] for body in server.counters.bodies]
    made = audit.read_audit(tmp_path / "long.txt.json")
    assert made.windows == len(contents) >= 5
    assert all("a part of the text" in content and len(content) < 5000 for content in contents)
    assert made.values == {item.name: "yes" if item.name == "hardware" else item.absent for item in VARIABLES}
    assert made.findings[6].evidence[0].place == "line 121"


def test_audits_of_several_judges_are_not_mixed() -> None:
    by_rules = audit_by_rules(document(name="a.md"))
    by_model = audit.Audit("b.md", {"kind": "model", "model": "m"}, 1, 10, by_rules.findings)
    assert set(audit.by_document([by_rules])) == {"a.md"}
    with pytest.raises(DataError, match="another judge"):
        audit.by_document([by_rules, by_model])
    with pytest.raises(DataError, match="audited twice"):
        audit.by_document([by_rules, by_rules])


def test_a_paper_beside_a_json_file_of_its_name_is_read(tmp_path: Path) -> None:
    for name in ("a.txt", "a.json", "b.txt", "b.txt.md", "b.txt.json", "agreement.md", "agreement.json"):
        (tmp_path / name).write_text("x")
    documents, kept = find_documents([tmp_path])
    assert ([path.name for path in documents], kept) == (["a.txt", "b.txt"], [])
