"""Samples of prompt sets: the draw, duplicates, bounds, strata, and the command."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lidr.cli import app
from lidr.commands.prompts.near_duplicates import NearDuplicates, banding
from lidr.commands.prompts.sampling import Sample, Wanted, allocate, draw_sample
from lidr.errors import ConfigError, DataError, LidrError
from lidr.languages import LANGUAGES
from lidr.records import Prompt

Rows = list[tuple[str, Prompt, dict[str, Any]]]

WORDS = ["river", "stone", "market", "letter", "window", "garden", "teacher", "number", "winter", "bridge", "orange",
         "story", "engine", "paper", "music"]  # fmt: skip


def text(seed: int, words: int = 14) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words)) + f" {seed}?"


def placed(prompts: list[Prompt], **columns: Any) -> Rows:
    return [(f"p.jsonl:{number}", prompt, columns) for number, prompt in enumerate(prompts, 1)]


def prompts(n: int) -> list[Prompt]:
    return [Prompt(f"p{i}", "en", text(i)) for i in range(n)]


def drawn(sample: Sample) -> list[str]:
    return [prompt.prompt_id for prompt, _ in sample.prompts]


def test_the_draw_depends_on_the_seed_and_the_ids_and_not_on_the_order_of_the_rows() -> None:
    rows = placed(prompts(200))
    first = drawn(draw_sample(rows, Wanted(20)))
    assert len(set(first)) == 20
    assert drawn(draw_sample(rows[::-1], Wanted(20))) == first
    assert drawn(draw_sample(rows, Wanted(20, seed=1))) != first
    assert drawn(draw_sample(rows, Wanted(50)))[:20] == first
    assert len(set(first) - set(drawn(draw_sample(placed(prompts(220)), Wanted(20))))) < 8


def test_equal_and_nearly_equal_prompts_are_drawn_once() -> None:
    originals = prompts(50)
    copies = [Prompt(f"same{i}", "en", "  " + prompt.text.upper().replace(" ", "  "))
              for i, prompt in enumerate(originals[:10])]  # fmt: skip
    changed = [Prompt(f"near{i}", "en", prompt.text + " Yes") for i, prompt in enumerate(originals[10:30])]
    rows = placed(copies + originals + changed)
    sample = draw_sample(rows, Wanted(80))
    assert sample.left_out == {"duplicate": 10, "near duplicate": 20}
    assert len(sample.prompts) == 50
    assert not any(name.startswith("same") for name in drawn(sample))  # the first id is kept, wherever its row is
    assert drawn(draw_sample(rows[::-1], Wanted(80))) == drawn(sample)
    assert len(draw_sample(rows, Wanted(80, near=None)).prompts) == 70


def test_a_row_that_comes_twice_is_a_duplicate_and_an_id_with_two_texts_an_error() -> None:
    sample = draw_sample(placed([Prompt("a", "en", "Why?"), Prompt("a", "en", "Why?")]), Wanted(5))
    assert (drawn(sample), sample.left_out) == (["a"], {"duplicate": 1})
    with pytest.raises(DataError, match=r"p.jsonl:2: id 'a' is in p.jsonl:1 already"):
        draw_sample(placed([Prompt("a", "en", "Why?"), Prompt("a", "en", "How?")]), Wanted(5))


def test_planted_near_duplicates_are_found_and_other_texts_are_not() -> None:
    near = NearDuplicates(0.8)
    originals = [text(i, words=40) for i in range(300)]
    assert sum(near.seen(original) for original in originals) == 0
    changed = [original.replace(original.split()[5], "lantern", 1) for original in originals]
    assert sum(near.seen(one) for one in changed) >= 297


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0])
def test_the_bands_propose_nearly_every_pair_at_the_threshold(threshold: float) -> None:
    rows, bands = banding(threshold)
    assert rows * bands <= 128
    assert 1 - (1 - threshold**rows) ** bands >= 0.995


@pytest.mark.parametrize(("threshold", "template_words"), [(0.8, 30), (0.5, 4), (0.3, 0)])
def test_near_duplicates_are_those_of_comparing_all_sets_of_shingles(threshold: float, template_words: int) -> None:
    template = text(1, words=template_words) if template_words else ""
    texts = [f"{template} {text(i, words=12)}".strip() for i in range(2, 200)]
    near, kept, differ = NearDuplicates(threshold), list[set[str]](), 0
    for one in texts:
        shingles = {one[i : i + 5] for i in range(len(one) - 4)}
        expected = any(len(shingles & other) / len(shingles | other) >= threshold for other in kept)
        found = near.seen(one)
        differ += found != expected
        if not found:
            kept.append(shingles)
    assert 20 < len(kept) < 190
    assert differ <= 2  # the bands may miss one in 200


def test_what_is_blank_too_short_or_too_long_is_counted() -> None:
    rows = placed([Prompt(str(n), "en", "x" * n) for n in (0, 3, 10, 11, 30)])
    sample = draw_sample(rows, Wanted(9, min_characters=10, max_characters=20, near=None))
    assert sorted(drawn(sample)) == ["10", "11"]
    assert sample.left_out == {"empty": 1, "too short": 1, "too long": 1}
    with pytest.raises(DataError, match="no prompt is left to draw from"):
        draw_sample(rows, Wanted(9, min_characters=50))


def test_strata_keep_their_proportions() -> None:
    assert allocate({"a": 50, "b": 30, "c": 20}, 10) == {"a": 5, "b": 3, "c": 2}
    assert allocate({"a": 1, "b": 1, "c": 1}, 2) == {"a": 1, "b": 1, "c": 0}
    assert allocate({"a": 2, "b": 1}, 100) == {"a": 2, "b": 1}
    rows = placed(prompts(200)[:40], kind="rare") + placed(prompts(200)[40:], kind="common")
    sample = draw_sample(rows, Wanted(50, stratify="kind"))
    assert Counter(stratum for _, stratum in sample.prompts) == {"common": 40, "rare": 10}
    assert sample.strata == {"common": (160, 40), "rare": (40, 10)}


def test_what_near_duplicates_leave_open_in_a_stratum_comes_from_the_others() -> None:
    rows = placed([Prompt(f"a{i}", "en", text(0) + "!" * i) for i in range(10)], kind="a")
    rows += placed([Prompt(f"b{i}", "en", text(i + 1)) for i in range(10)], kind="b")
    sample = draw_sample(rows, Wanted(8, stratify="kind"))
    assert Counter(stratum for _, stratum in sample.prompts) == {"a": 1, "b": 7}
    # Most of what is passed over at first is nearly equal, too: all that can be drawn is drawn.
    rows += placed([Prompt(f"c{i}", "en", text(1) + "!" * (i + 1)) for i in range(30)], kind="b")
    assert len(draw_sample(rows, Wanted(11, stratify="kind")).prompts) == 11


def write(path: Path, items: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_command_draws_the_same_ids_in_every_language(tmp_path: Path) -> None:
    for code in ("en", "es"):
        write(tmp_path / "all" / f"{code}.jsonl", [{"q": f"{code} {text(i)}", "n": i, "a": i} for i in range(30)])
    command = ["prompts", "sample", str(tmp_path / "all"), "--n", "5", "--out", str(tmp_path / "some"), "--field",
               "text=q", "--field", "id=n", "--field", "answer=a", "--task", "arithmetic"]  # fmt: skip
    assert CliRunner().invoke(app, command).exit_code == 0
    english, spanish = read(tmp_path / "some" / "en.jsonl"), read(tmp_path / "some" / "es.jsonl")
    assert [row["id"] for row in english] == [row["id"] for row in spanish]
    instruction = LANGUAGES["es"].answer_instruction
    assert spanish[0]["instruction"] == instruction.replace("{question}", f"es {text(int(spanish[0]['id']))}")
    assert spanish[0]["answer"] == spanish[0]["id"]
    assert CliRunner().invoke(app, command).exit_code == 0  # the same again: nothing to replace
    again = CliRunner().invoke(app, [*command, "--seed", "1"])
    assert isinstance(again.exception, ConfigError) and "--force" in str(again.exception)
    assert read(tmp_path / "some" / "en.jsonl") == english
    assert CliRunner().invoke(app, [*command, "--seed", "1", "--force"]).exit_code == 0
    assert read(tmp_path / "some" / "en.jsonl") != english


def test_prompts_that_a_language_lacks_are_not_drawn(tmp_path: Path) -> None:
    for code, numbers in (("en", range(20)), ("es", range(0, 20, 2)), ("fr", range(0, 20, 5))):
        write(tmp_path / "all" / f"{code}.jsonl", [{"id": i, "instruction": f"{code} {text(i)}"} for i in numbers])
    command = ["prompts", "sample", str(tmp_path / "all"), "--n", "20", "--out", str(tmp_path / "some")]
    result = CliRunner().invoke(app, command)
    assert "missing in es" in result.output and "missing in fr" in result.output
    ids = {code: [row["id"] for row in read(tmp_path / "some" / f"{code}.jsonl")] for code in ("en", "es", "fr")}
    assert ids["en"] == ids["es"] == ids["fr"] and sorted(ids["en"]) == ["0", "10"]


def test_numbered_rows_are_drawn_at_the_same_places(tmp_path: Path) -> None:
    for code in ("en", "es"):
        write(tmp_path / "all" / f"{code}.jsonl", [{"instruction": f"{code} {text(i)}"} for i in range(20)])
    command = ["prompts", "sample", str(tmp_path / "all"), "--n", "5", "--out", str(tmp_path / "some")]
    assert CliRunner().invoke(app, [*command, "--field", "id=null"]).exit_code == 0
    english, spanish = read(tmp_path / "some" / "en.jsonl"), read(tmp_path / "some" / "es.jsonl")
    assert [(row["id"], row["instruction"][3:]) for row in english] == [
        (row["id"], row["instruction"][3:]) for row in spanish
    ]


def test_the_stratum_and_the_columns_of_the_prompt_do_not_get_in_each_others_way(tmp_path: Path) -> None:
    source = write(tmp_path / "p.jsonl", [{"id": i, "instruction": text(i), "level": i % 2} for i in range(10)])
    for name in ("level", "instruction"):
        out = tmp_path / f"{name}.jsonl"
        command = ["prompts", "sample", str(source), "--n", "4", "--out", str(out), "--stratify", name]
        assert CliRunner().invoke(app, command).exit_code == 0
        assert all(row["instruction"] == text(int(row["id"])) for row in read(out))
    assert sorted(row["level"] for row in read(tmp_path / "level.jsonl")) == ["0", "0", "1", "1"]


@pytest.mark.parametrize(
    ("source", "out", "message"),
    [
        ("all", "all", "that is the source itself"),
        ("all/en.jsonl", "all/en.jsonl", "that is the source itself"),
        ("all", "file.jsonl", "it must be a folder"),
        ("all", "old", r"tables that are not of this sample \(it\)"),
        ("all/en.jsonl", "file.jsonl/x.jsonl", "cannot be written"),
    ],
)
def test_nothing_is_replaced_by_mistake(source: str, out: str, message: str, tmp_path: Path) -> None:
    for path in ("all/en.jsonl", "all/es.jsonl", "old/it.jsonl", "file.jsonl"):
        write(tmp_path / path, [{"id": i, "instruction": text(i)} for i in range(9)])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.jsonl")}
    command = ["prompts", "sample", str(tmp_path / source), "--n", "2", "--out", str(tmp_path / out), "--force"]
    with pytest.raises(ConfigError, match=message):
        CliRunner().invoke(app, command, catch_exceptions=False)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.jsonl")} == before


def test_any_name_of_a_column_may_be_given(tmp_path: Path) -> None:
    source = write(tmp_path / "p.jsonl", [{"1": 7, "on": "Why?", "context": "Says who?"}])
    out = tmp_path / "o.jsonl"
    command = ["prompts", "sample", str(source), "--n", "1", "--out", str(out), "--field", "id=1", "--field"]
    assert CliRunner().invoke(app, [*command, "text=on"]).exit_code == 0
    assert read(out) == [{"id": "7", "instruction": "Why?"}]
    assert CliRunner().invoke(app, [*command, r"text={on}\n\n{context}", "--force"]).exit_code == 0
    assert read(out) == [{"id": "7", "instruction": "Why?\n\nSays who?"}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--field", "txt=q"], "the fields are id, text, language, answer"),
        (["--field", "text"], "write it as field=column"),
        (["--language", "xx"], "unknown language"),
        (["--out", "sample.csv"], "name it with .jsonl"),
        (["--near", "1.5"], "a Jaccard index"),
        (["--near", "0.1"], "a Jaccard index"),
        (["--field", "text=null"], "the fields are id, text, language, answer"),
        (["--stratify", "kind"], "no field 'kind' to stratify by"),
    ],
)
def test_wrong_options_name_the_way_out(options: list[str], message: str, tmp_path: Path) -> None:
    source = write(tmp_path / "p.jsonl", [{"id": 1, "instruction": "Why is the sky blue?"}])
    out = tmp_path / "o.jsonl"
    result = CliRunner().invoke(app, ["prompts", "sample", str(source), "--n", "1", "--out", str(out), *options])
    assert isinstance(result.exception, LidrError) and message in str(result.exception)
    assert not out.exists()
