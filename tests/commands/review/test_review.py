"""The native-speaker review: sheets that are blind and harmless, and verdicts that are refused or counted right."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import typer

from lidr.commands.review.cli import review
from lidr.commands.review.collect import open_sheet
from lidr.commands.review.read import Judged, join, parse_verdicts
from lidr.commands.review.sheet import Sheet, page_data, render_page, sample_pairs, script_safe, text_direction
from lidr.commands.review.summary import Agreement, agreement, cohens_kappa, summarise
from lidr.config import Config
from lidr.errors import DataError, RunError
from lidr.records import PreferencePair, content_id
from lidr.results import DuelCounts, ImbalanceProbe, LanguageProbe, Metrics
from lidr.run_dir import RunDir
from lidr.seals import write_sealed

HOSTILE = """</script><script>document.title = "owned"</script> ' " & \u2028 \x00 """
HOSTILE += """<img src=x onerror="document.title='owned'">"""

# Language -> (prompt, chosen, rejected), written for this test.
TEXTS = {
    "en": ("Where does rain come from?", "From clouds: drops grow until they fall.", "From the sea floor."),
    "es": ("¿De dónde viene la lluvia?", "De las nubes: las gotas crecen hasta caer.\n\n  1. Agua\n  2. Nube", HOSTILE),
    "ar": ("من أين يأتي المطر؟", "يأتي المطر من السحب (Wolken).", "From clouds, the rain is coming."),
    "ja": ("雨はどこから来ますか。", "雲から来ます。しずくが大きくなると落ちます。", "海の底から来ます。"),
}
PROMPTS = 8


def make_pair(language: str, number: int, rejected_from: str = "") -> PreferencePair:
    prompt, chosen, rejected = (f"{text} {number}" for text in TEXTS[language])
    rejected += rejected_from
    chosen_from = "en" if language == "en" else f"en->{language}"
    rejected_from = rejected_from or language
    pair_id = content_id(f"p{number}", language, prompt, chosen, rejected, rejected_from)
    kind = "dominant" if language == "en" else "non_dominant"
    return PreferencePair(pair_id, f"p{number}", language, kind, prompt, chosen, rejected, chosen_from, rejected_from)


def make_run(path: Path, languages: tuple[str, ...] = tuple(TEXTS), note: str = "") -> tuple[Config, RunDir]:
    """A run that has nothing but the pairs of iteration 1: eight per language, and twice as many in English."""
    config = Config.model_validate({
        "name": "toy-run", "model": {"path": "lab"}, "languages": list(languages), "iterations": 2,
        "prompts": {"path": str(path.parent)},
    })  # fmt: skip
    run = RunDir.start(config, path, say=lambda line: None)
    for code in languages:
        origins = ("es->en", "ar->en") if code == "en" else ("",)
        pairs = [make_pair(code, number, origin) for number in range(PROMPTS) for origin in origins]
        write_sealed(run.pairs(1, code), {"note": note}, [pair.to_json() + note for pair in pairs])
    write_sealed(run.pair_summary(1), {}, [json.dumps({"pairs": dict.fromkeys(languages, PROMPTS)})])
    return config, run


def make_sheet(language: str = "es", seed: int = 42, key: str = "k") -> Sheet:
    return Sheet("toy-run", 1, language, seed, key)


def rows(language: str) -> list[dict[str, Any]]:
    return [json.loads(make_pair(language, number).to_json()) for number in range(PROMPTS)]


def make_verdicts(
    config: Config, run: RunDir, prefers: list[str | None], language: str = "es", name: str = "Ana", seed: int = 42
) -> dict[str, Any]:
    """What the page saves when the first pairs of a language are judged like this."""
    sheet = open_sheet(config, run, 1, language, seed)
    verdicts = []
    for number, prefer in enumerate(prefers):
        pair_id = make_pair(language, number).id
        sides = ("A", "B") if sheet.is_chosen_first(pair_id) else ("B", "A")
        said = {"chosen": sides[0], "rejected": sides[1]}.get(prefer or "", prefer)
        verdicts.append({"pair": sheet.pair_name(pair_id), "verdict": said, "comment": ""})
    return {
        "schema": 1, "kind": "lidr-review-verdicts", "run": "toy-run", "iteration": 1, "language": language,
        "sheet": sheet.fingerprint, "seed": seed, "reviewer": {"name": name, "level": "native"},
        "saved": "2026-01-02T03:04:05.000Z", "verdicts": verdicts,
    }  # fmt: skip


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


# --- the sheet --------------------------------------------------------------------------------------------------------


def test_a_sample_is_the_same_prompts_in_every_language_and_in_every_order() -> None:
    spanish = sample_pairs(rows("es"), 5, seed=1)
    shuffled = rows("es")
    random.Random(0).shuffle(shuffled)
    assert sample_pairs(shuffled, 5, seed=1) == spanish
    assert [row["prompt_id"] for row in sample_pairs(rows("ja"), 5, seed=1)] == [row["prompt_id"] for row in spanish]
    assert sample_pairs(rows("es"), 3, seed=1) == spanish[:3]
    draws = {tuple(row["prompt_id"] for row in sample_pairs(rows("es"), 5, seed=seed)) for seed in range(10)}
    assert len(draws) > 5
    assert len(sample_pairs(rows("es"), 100, seed=1)) == PROMPTS


def test_a_prompt_with_several_pairs_gives_one() -> None:
    several = [
        json.loads(make_pair("en", n, origin).to_json()) for n in range(PROMPTS) for origin in ("es->en", "ar->en")
    ]
    drawn = sample_pairs(several, 100, seed=3)
    assert sorted(row["prompt_id"] for row in drawn) == [f"p{number}" for number in range(PROMPTS)]
    assert {row["rejected_from"] for row in drawn} == {"es->en", "ar->en"}
    assert sample_pairs(several[::-1], 100, seed=3) == drawn


def test_sides_are_a_fair_coin_that_needs_the_key() -> None:
    ids = [content_id(number) for number in range(2000)]
    first = [make_sheet().is_chosen_first(pair_id) for pair_id in ids]
    assert 900 < sum(first) < 1100
    for other in (make_sheet(key="l"), make_sheet(seed=43)):
        same = sum(a == other.is_chosen_first(pair_id) for a, pair_id in zip(first, ids, strict=True))
        assert 900 < same < 1100


def test_the_page_does_not_tell_which_side_was_chosen() -> None:
    sheet, pairs = make_sheet(key="the digest of the file"), rows("es")
    page = render_page(sheet, pairs)
    for pair in pairs:
        assert pair["id"] not in page  # a hash of chosen and rejected, in this order
    assert not re.search("chosen|rejected|en->es|the digest|\\bp[0-7]\\b", page, re.I)
    data = page_data(sheet, pairs)
    orders = set()
    for pair, shown in zip(pairs, data["pairs"], strict=True):
        assert set(shown) == {"pair", "prompt", "A", "B"}
        assert all(set(shown[part]) == {"text", "dir"} for part in ("prompt", "A", "B"))
        orders.add(shown["A"]["text"] == pair["chosen"])
    assert orders == {True, False}


class Elements(HTMLParser):
    """The elements of a page, and the texts of its scripts by type."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.found[-1] if self.found else ("", {})
        if tag == "script":
            self.scripts.setdefault(attributes.get("type") or "code", data)


def test_the_page_loads_nothing_and_hostile_text_stays_text() -> None:
    page = render_page(make_sheet(), rows("es"))
    elements = Elements(page)
    assert [tag for tag, _ in elements.found].count("script") == 2
    for tag, attributes in elements.found:
        assert tag not in ("img", "link", "iframe", "object", "a", "form")
        assert not {"src", "href", "action", "style"} & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]
    assert "http://" not in page and "https://" not in page and "url(" not in page and "@import" not in page
    policy = next(a["content"] for _, a in elements.found if a.get("http-equiv") == "Content-Security-Policy") or ""
    script_hash = base64.b64encode(hashlib.sha256(elements.scripts["code"].encode()).digest()).decode()
    assert "default-src 'none'" in policy and f"script-src 'sha256-{script_hash}'" in policy
    told = json.loads(elements.scripts["application/json"])
    texts = {pair[side]["text"] for pair in told["pairs"] for side in "AB"}
    assert HOSTILE.replace("\x00", "\ufffd") + " 0" in texts


def test_json_in_a_script_is_json_and_cannot_end_it() -> None:
    value = {"text": "</script> <!-- & \u2028 \u2029 雨"}
    text = script_safe(value)
    assert json.loads(text) == value
    assert not set("<>&\u2028\u2029") & set(text)


@pytest.mark.parametrize(
    ("text", "language", "direction"),
    [
        ("من أين يأتي المطر؟", "ar", "rtl"),
        ("יורד גשם (rain)", "he", "rtl"),
        ("باران", "fa", "rtl"),
        ("بارش", "ur", "rtl"),
        ("From clouds.", "ar", "ltr"),
        ("1, 2", "ar", "rtl"),
        ("1, 2", "es", "ltr"),
        ("De las nubes", "es", "ltr"),
        ("雲から来ます", "ja", "ltr"),
    ],
)
def test_direction_is_that_of_the_letters(text: str, language: str, direction: str) -> None:
    assert text_direction(text, language) == direction


def test_languages_and_directions_are_marked() -> None:
    page = render_page(make_sheet("ar"), rows("ar"))
    texts = [a for _, a in Elements(page).found if a.get("id") in ("prompt", "text-A", "text-B")]
    assert [a["lang"] for a in texts] == ["ar", "ar", "ar"]
    for pair in page_data(make_sheet("ar"), rows("ar"))["pairs"]:
        assert pair["prompt"]["dir"] == "rtl"
        assert {pair["A"]["dir"], pair["B"]["dir"]} == {"rtl", "ltr"}  # the rejected answers are English


def test_sheets_are_written_by_language(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, run = make_run(tmp_path / "run")
    review(run.path, languages="es,ja", pairs=4)
    pages = sorted((run.path / "review").glob("*.html"))
    assert [page.name for page in pages] == ["review-toy-run-es.html", "review-toy-run-ja.html"]
    before = pages[0].read_bytes()
    review(run.path, languages="es", pairs=4, out=tmp_path / "one.html")
    assert (tmp_path / "one.html").read_bytes() == before
    review(run.path, pairs=100, out=tmp_path / "all")
    assert len(list((tmp_path / "all").iterdir())) == len(TEXTS)
    assert "pairs for 8 prompts, fewer than 100" in capsys.readouterr().err


def test_what_cannot_be_reviewed_is_an_error(tmp_path: Path) -> None:
    _, run = make_run(tmp_path / "run")
    with pytest.raises(RunError, match="no language 'it'; its recipe has en, es, ar, ja"):
        review(run.path, languages="it")
    with pytest.raises(RunError, match="no iteration 3"):
        review(run.path, iteration=3)
    with pytest.raises(RunError, match="not complete yet"):
        review(run.path, iteration=2)
    with pytest.raises(RunError, match="add --languages CODE"):
        review(run.path, out=tmp_path / "all.html")
    with pytest.raises(typer.BadParameter, match="--read"):
        review(run.path, [tmp_path / "verdicts.json"])
    with pytest.raises(typer.BadParameter, match="takes files alone"):
        review(run.path, read=True, languages="es")


# --- verdicts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "other"}, "no file of verdicts"),
        ({"schema": 2}, "schema 2; this version of lidr reads schema 1"),
        ({"seed": "x"}, "seed: "),
        ({"extra": 1}, "extra: "),
        ({"reviewer": {"name": "", "level": "native"}}, "reviewer.name: "),
        (
            {"reviewer": {"name": "Ana", "level": "guru"}},
            "reviewer.level: .*'native', 'fluent' or 'learner', not \"guru\"",
        ),
        ({"verdicts": [{"pair": "a", "verdict": "C", "comment": ""}]}, r"verdicts\[0\].verdict: .*not \"C\""),
        ({"verdicts": [{"pair": "a", "comment": ""}]}, r"verdicts\[0\].verdict: Field required"),
        ({"verdicts": [{"pair": "a", "verdict": "A", "comment": "\ud800"}]}, r"verdicts\[0\].comment: "),
    ],
)
def test_a_damaged_file_is_refused_by_name_and_place(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    config, run = make_run(tmp_path / "run", ("en", "es"))
    content = make_verdicts(config, run, ["chosen"]) | change
    with pytest.raises(DataError, match=rf"^back\.json: {message}"):
        parse_verdicts(json.dumps(content), "back.json")


def test_no_json_is_refused(tmp_path: Path) -> None:
    config, run = make_run(tmp_path / "run", ("en", "es"))
    good = json.dumps(make_verdicts(config, run, ["chosen"]))
    for text in ("", "[]", "null", good[:-5], "[" * 100_000):
        with pytest.raises(DataError, match=r"^back\.json: "):
            parse_verdicts(text, "back.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "binary.json", tmp_path / "absent.json"):
        with pytest.raises(DataError, match=f"{path.name}: cannot be read"):
            review(run.path, [path], read=True)
    assert not (run.path / "review").exists()


def test_verdicts_of_another_run_are_refused(tmp_path: Path) -> None:
    config, run = make_run(tmp_path / "run", ("en", "es"))
    _, other = make_run(tmp_path / "other", ("en", "es"), note=" ")
    back = write(tmp_path / "back.json", make_verdicts(config, run, ["chosen"]))
    with pytest.raises(DataError, match=r"back\.json: these verdicts are about other pairs than run 'toy-run' has"):
        review(other.path, [back], read=True)
    assert not (other.path / "review").exists()
    _, third = make_run(tmp_path / "third", ("en", "ja"))
    with pytest.raises(DataError, match=r"back\.json: .* no language 'es'"):
        review(third.path, [back], read=True)
    other_seed = write(tmp_path / "seed.json", json.loads(back.read_text()) | {"seed": 43})
    with pytest.raises(DataError, match=r"seed\.json: these verdicts are about other pairs"):
        review(run.path, [other_seed], read=True)


def test_unknown_and_repeated_pairs_are_refused(tmp_path: Path) -> None:
    config, run = make_run(tmp_path / "run", ("en", "es"))
    content = make_verdicts(config, run, ["chosen", "tie"])
    sheet = open_sheet(config, run, 1, "es", 42)
    content["verdicts"][1]["pair"] = "0123456789abcdef"
    with pytest.raises(DataError, match=r"back: verdicts\[1\]: pair '0123456789abcdef' is not among"):
        join(parse_verdicts(json.dumps(content), "back"), sheet, rows("es"), "back")
    content["verdicts"][1]["pair"] = content["verdicts"][0]["pair"]
    with pytest.raises(DataError, match=r"back: verdicts\[1\]: .* twice \(first in verdicts\[0\]\)"):
        join(parse_verdicts(json.dumps(content), "back"), sheet, rows("es"), "back")


def test_nobody_judges_a_pair_twice(tmp_path: Path) -> None:
    config, run = make_run(tmp_path / "run", ("en", "es"))
    first = write(tmp_path / "a.json", make_verdicts(config, run, ["chosen"]))
    second = write(tmp_path / "b.json", make_verdicts(config, run, ["rejected"], name=" ANA "))
    with pytest.raises(DataError, match=r"b\.json: ' ANA ' has judged the same sheet in .*a\.json"):
        review(run.path, [first, second], read=True)
    other_sheet = write(tmp_path / "c.json", make_verdicts(config, run, ["rejected"], seed=7))
    with pytest.raises(DataError, match=r"c\.json: reviewer 'Ana' has judged pair \w+ \(prompt p0\) in .*a\.json"):
        review(run.path, [first, other_sheet], read=True)
    assert not (run.path / "review").exists()


# --- the summary ------------------------------------------------------------------------------------------------------


def test_accuracy_beside_the_probe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, run = make_run(tmp_path / "run")
    prefers = ["chosen", "chosen", "chosen", "rejected", "tie", "unsure", None]
    back = write(tmp_path / "back.json", make_verdicts(config, run, prefers))
    review(run.path, [back], read=True)
    told = capsys.readouterr()
    assert "lidr probe" in told.err and "0.750 (0.30-0.95)" in told.out  # Wilson's interval of 3 in 4
    summary = json.loads((run.path / "review" / "summary.json").read_text())
    (entry,) = summary["languages"]
    assert entry["pairs"] == 6 and entry["probe"] is None
    human = entry["human"]
    assert (human["value"], human["wins"], human["losses"], human["ties"], human["unscored"]) == (0.75, 3, 1, 1, 1)
    assert human["ci95"] == [0.3006, 0.9544]
    joined = [json.loads(line) for line in (run.path / "review" / "verdicts.jsonl").read_text().splitlines()]
    assert [(row["pair_id"], row["prefers"]) for row in joined] == [
        (make_pair("es", number).id, prefer) for number, prefer in enumerate(prefers) if prefer
    ]

    reward = {"value": 0.6, "ci95": [0.4, 0.8], "wins": 12, "losses": 8, "p": 0.5, "ties": 0, "unscored": 0}
    spanish = {"own": {"n": 10}, "off_target": 0.0, "verdict": "weak", "reward_accuracy": {"judge": reward}}
    found = {"dominant": "en", "by": ["judge"], "prompts": 20, "languages": {"es": spanish}}
    write_sealed(run.probe(0), {}, [json.dumps(found)])
    review(run.path, [], read=True)  # of what was kept
    told = capsys.readouterr()
    assert "0.600 (0.40-0.80)" in told.out and "lidr probe" not in told.err
    again = json.loads((run.path / "review" / "summary.json").read_text())
    assert again["languages"][0]["probe"] == {"judge": reward} and again["languages"][0]["human"] == human


def test_files_come_one_after_the_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, run = make_run(tmp_path / "run")
    with pytest.raises(DataError, match="no verdicts yet"):
        review(run.path, [], read=True)
    review(run.path, [write(tmp_path / "a.json", make_verdicts(config, run, ["chosen"]))], read=True)
    review(run.path, [write(tmp_path / "b.json", make_verdicts(config, run, ["tie"], name="../[b]Ö"))], read=True)
    # Ana has judged another pair and saved again.
    review(run.path, [write(tmp_path / "a2.json", make_verdicts(config, run, ["chosen", "chosen"]))], read=True)
    review(run.path, [write(tmp_path / "j.json", make_verdicts(config, run, ["rejected"], language="ja"))], read=True)
    assert "../[b]Ö" in capsys.readouterr().out
    kept = sorted(path.name for path in (run.path / "review" / "verdicts").iterdir())
    assert len(kept) == 3 and kept[0].startswith("es-iteration_1-ana-") and "-b-ö-" in kept[1]
    summary = json.loads((run.path / "review" / "summary.json").read_text())
    spanish, japanese = sorted(summary["languages"], key=lambda entry: entry["language"])
    assert [item["name"] for item in spanish["reviewers"]] == ["../[b]Ö", "Ana"]
    assert spanish["pairs"] == 2 and spanish["human"]["wins"] == 2
    assert japanese["human"]["value"] == 0.0

    _, run = make_run(tmp_path / "run", note=" ")  # the pairs are regenerated
    with pytest.raises(DataError, match="no verdicts yet"):
        review(run.path, [], read=True)
    assert capsys.readouterr().err.count("left out: ") == 3


def judged(pair: str, prefers: str, reviewer: str, is_chosen_first: bool = True) -> Judged:
    sides = ("A", "B") if is_chosen_first else ("B", "A")
    answer = {"chosen": sides[0], "rejected": sides[1]}.get(prefers, prefers)
    return Judged(pair, pair, 1, "es", reviewer, "native", prefers, answer, is_chosen_first, "")


def test_a_pair_counts_once_by_the_sum_of_its_reviewers() -> None:
    said = {"p1": ("chosen", "chosen"), "p2": ("chosen", "rejected"), "p3": ("rejected", "tie"),
            "p4": ("unsure", "unsure"), "p5": ("unsure", "rejected"), "p6": ("chosen", "unsure")}  # fmt: skip
    verdicts = [
        judged(pair, prefers, name) for pair, both in said.items() for prefers, name in zip(both, "xy", strict=True)
    ]
    (entry,) = summarise("toy", verdicts, None).languages
    human = entry.human
    assert (human.wins, human.losses, human.ties, human.unscored) == (2, 2, 1, 1)
    assert [item.human.wins for item in entry.reviewers] == [3, 1]
    assert entry.agreement == [Agreement(("x", "y"), 3, 0.3333, 0.0)]


def test_kappa_by_hand() -> None:
    # 50 items; both yes 20, both no 15: 0.7 agree, 0.5 do by chance.
    labels = [(1, 1)] * 20 + [(1, 0)] * 5 + [(0, 1)] * 10 + [(0, 0)] * 15
    assert cohens_kappa(labels) == pytest.approx(0.4)
    assert cohens_kappa([(1, 1), (0, 0)]) == 1.0
    assert cohens_kappa([]) is None
    assert cohens_kappa([(1, 1)] * 3) is None


def test_agreement_is_by_what_reviewers_saw() -> None:
    """Two who always say A agree by chance alone; sheets with other sides are compared by the texts."""
    sides = {"p1": True, "p2": False, "p3": True, "p4": False}
    always_a = [judged(pair, "chosen" if first else "rejected", "x", first) for pair, first in sides.items()]
    assert agreement(always_a, always_a) == Agreement(("x", "x"), 4, 1.0, None)
    turned = [
        judged(pair, verdict.prefers, "y", not sides[pair]) for pair, verdict in zip(sides, always_a, strict=True)
    ]
    assert [verdict.answer for verdict in turned] == ["B"] * 4
    assert agreement(always_a, turned).agreement == 1.0


def test_the_probe_of_m0_is_not_set_beside_later_pairs() -> None:
    counted = {"judge": DuelCounts(0.6, (0.4, 0.8), 6, 4, 0.75, 0)}
    of_language = LanguageProbe(Metrics(), 0.0, "weak", reward_accuracy=counted)
    found = ImbalanceProbe("M0", "en", ("judge",), 10, {"es": of_language})
    first = judged("p1", "chosen", "x")
    later = Judged("p1", "p1", 2, "es", "x", "native", "chosen", "A", True, "")
    entries = summarise("toy", [first, later], found).languages
    assert [(entry.iteration, entry.probe) for entry in entries] == [(1, counted), (2, None)]
