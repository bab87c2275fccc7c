"""Recipes as files: what no recipe can hold is refused by name, at once."""

from __future__ import annotations

import os
import time
from itertools import pairwise
from pathlib import Path

import pytest

from lidr.config import dump_config, load_config
from lidr.errors import ConfigError
from lidr.yaml_input import MAX_BYTES, read_mapping, read_value

LETTERS = "abcdefghi"
BOMB = f"{LETTERS[0]}: &{LETTERS[0]} [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in pairwise(LETTERS)
)
MERGE_BOMB = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join(['*' + before] * 9)}]}}\n" for before, name in pairwise(LETTERS)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: " + "[" * 1500 + "]" * 1500, "line 1: nested more than"),
        ("\n".join(" " * depth + "a:" for depth in range(100)), "line 41: nested more than"),
        ("a: [" + "x, " * 20_000 + "x]", "has over 5,000 values"),
        (BOMB, "has over 5,000 values"),
        (MERGE_BOMB, "has over 5,000 values"),
        ("a: &a\n  b: *a\n", "a.b (line 1): an alias"),
        ("a: &a [1, {b: *a}]\n", "a[1].b (line 1): an alias"),
        ("a: 1\nb: {c: 3, d: 4, c: 5}\n", "b.c (line 2): is given twice"),
        ("a: 1\n'a': 2\n", "a (line 2): is given twice"),
        ("seed: " + "9" * 5000, "seed (line 1): a number of 5,000 characters"),
        ("seed: 0x" + "f" * 5000, "seed (line 1): a number"),
        ("seed: 1" + ":59" * 2000, "seed (line 1): a number"),
        ("training:\n  beta: .inf", "training.beta (line 2): .inf"),
        ("a: [1, .nan]", "a[1] (line 1): .nan"),
        ("a: 1.0e+999", "a (line 1): 1.0e+999"),
        (
            "training:\n  batch_size: 010",
            "training.batch_size (line 2): a number that is octal or in base 60 in YAML; write",
        ),
        ("a: [-0777]", "a[0] (line 1): a number that is octal"),
        ("a: {b: 1_0:30}", "a.b (line 1): a number that is octal"),
        ("a: 1:30.5", "a (line 1): a number that is octal"),
        ("a: !!int 00", "a (line 1): a number that is octal"),
        ("a: !!python/object:os.system x", "a (line 1): !!python/object:os.system is not for recipes"),
        ("a: !!binary aGk=", "!!binary"),
        ("a: !!timestamp 2026-13-01", "!!timestamp"),
        ("a: !!set {x}", "!!set"),
        ("a: !own x", "!own"),
        ("a: !!int twelve", "what its tag says"),
        ("? [a]\n: 1", "line 1: a field's name is a text"),
        ("'': 1", "line 1: a field's name is a text"),
        ('a: "\\ud800"', "half of a character"),
        ('a: "\\0"', "a NUL character"),
        ("a: \x01", "not valid YAML"),
        ("a: [", "not valid YAML: line 1"),
        ("a: 1\n---\nb: 2", "not valid YAML: line 2"),
        ("a:\n\tb: 1", "not valid YAML: line 2"),
        ("a: *nothing", "not valid YAML: line 1"),
        ("just text", "a recipe is a mapping"),
        ("", "a recipe is a mapping"),
    ],
    ids=lambda text: text[:24],
)
def test_a_recipe_that_cannot_be_is_refused_by_name(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(text, encoding="utf-8")
    start = time.process_time()
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert time.process_time() - start < 2
    said = str(caught.value)
    assert said.startswith(f"{file}: ") and message in said and said.count("\n") < 4 and len(said) < 500


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("a..b=1", "--set a..b: write it as"),
        ("=", "--set : write it as"),
        (".=1", "write it as"),
        ("a.=1", "write it as"),
        (".".join("a" * 1500) + "=1", "write it as"),
        ("languages.0=xx", "languages is a list; give it whole, languages=[...]"),
        ("training.beta=.nan", "--set training.beta: line 1: .nan"),
        ("seed=" + "9" * 5000, "--set seed: line 1: a number of 5,000"),
        ("training.batch_size=010", "--set training.batch_size: line 1: a number that is octal"),
        ("training.epochs=1:30", "--set training.epochs: line 1: a number that is octal or in base 60"),
        ("seed=0777", "--set seed: line 1: a number that is octal"),
        ("training.beta=0:0.5", "--set training.beta: line 1: a number that is octal"),
        ("seed=0o10", "seed: Input should be a valid integer"),
        ("engine=" + "[" * 1500, "nested more than"),
        ("engine.extra=&a [*a]", "an alias"),
        ("languages=[en", "--set languages: not valid YAML"),
        ("report={samples: 1, samples: 2}", "samples (line 1): is given twice"),
    ],
    ids=lambda text: text[:24],
)
def test_an_override_that_cannot_be_is_refused_by_name(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("quickstart", [override])
    assert message in str(caught.value) and len(str(caught.value)) < 400


def test_dates_and_keys_are_text() -> None:
    text = "a: 2026-13-01\nb: 2026-01-01\nc: {50256: -100, no: 1, 1.5: 2}\nd: =\n"
    assert read_value(text, "x") == {
        "a": "2026-13-01", "b": "2026-01-01", "c": {"50256": -100, "no": 1, "1.5": 2}, "d": "=",
    }  # fmt: skip


def test_numbers_and_texts_that_look_like_them() -> None:
    numbers = {"0": 0, "-0": 0, "10": 10, "1_000": 1000, "0x1F": 31, "0.5": 0.5, "01.5": 1.5, "1.5e-3": 0.0015}
    texts = ["'007'", "'1:30'", "run 010", "1:30 and on", "12:99", "a:010", "2026-01-01 10:30:00", "010:x", "/data/007"]
    assert {text: read_value(text, "x") for text in numbers} == numbers
    assert [read_value(text, "x") for text in texts] == [text.strip("'") for text in texts]
    assert read_value("{010: a, 1:30: b}", "x") == {"010": "a", "1:30": "b"}
    assert read_value('a: |\n  010\nb: !!str 1:30\nc: "010"', "x") == {"a": "010\n", "b": "1:30", "c": "010"}
    for text in ("007", "1:30", "1:30.5"):
        config = load_config("quickstart", [f"description='{text}'"])
        assert config.description == text and f"description: '{text}'" in dump_config(config)


def test_aliases_and_merges_give_values_of_their_own() -> None:
    found = read_value("a: &a {x: 1, y: [2]}\nb: *a\nc: {<<: *a, x: 3}\n", "x")
    assert found == {"a": {"x": 1, "y": [2]}, "b": {"x": 1, "y": [2]}, "c": {"x": 3, "y": [2]}}
    found["a"]["y"].append(9)  # as --set would
    assert found["b"]["y"] == found["c"]["y"] == [2]


def test_what_is_no_file_of_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_bytes("description: größer".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"recipe\.yaml: not UTF-8 at byte 15; save it as UTF-8"):
        read_mapping(file)
    file.write_bytes(os.urandom(4000))
    with pytest.raises(ConfigError, match=r"not UTF-8|not valid YAML"):
        read_mapping(file)
    with file.open("wb") as handle:
        handle.truncate(10 * 1024**3)
    with pytest.raises(ConfigError, match=f"10,737,418,240 bytes, and a recipe {MAX_BYTES:,} at most"):
        load_config(file)
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(ConfigError, match="not a regular file"):
        load_config(tmp_path / "pipe.yaml")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match="is a folder"):
        load_config(tmp_path / "folder")
    with pytest.raises(ConfigError, match="is a run; its recipe is"):
        load_config(tmp_path)


def test_a_byte_order_mark_is_no_part_of_a_recipe(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + dump_config(load_config("quickstart")).encode())
    assert load_config(file) == load_config("quickstart")
