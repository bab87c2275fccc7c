"""Prompts: every accepted source gives the same aligned rows, and every defect is named with file and line."""

from __future__ import annotations

import gzip
import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fsspec
import numpy
import pyarrow as pa
import pyarrow.parquet
import pytest

from lidr import storage
from lidr.config import PromptFields, load_config
from lidr.errors import DataError
from lidr.records import Prompt
from lidr.run_dir import RunDir
from lidr.seals import is_sealed
from lidr.stages import prompts
from lidr.stages.prompt_files import language_code, read_prompts, scan_prompts
from lidr.stages.prompts import load_prompts
from tests.conftest import make_config

TEXTS = {"en": ["Hello, you", "Bye"], "es": ["Hola, tú", "Adiós"]}
EXPECTED = [("a", "en", "Hello, you"), ("a", "es", "Hola, tú"), ("b", "en", "Bye"), ("b", "es", "Adiós")]


def rows(code: str) -> list[dict[str, str]]:
    return [{"id": key, "instruction": text} for key, text in zip("ab", TEXTS[code], strict=True)]


def write_jsonl(path: Path, items: Iterable[Any]) -> None:
    path.write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items), encoding="utf-8")


def load(path: Path | str, **prompts: Any) -> list[tuple[str, str, str]]:
    config = make_config(Path("."), languages=["en", "es"], prompts={"path": str(path), **prompts})
    return [(prompt.prompt_id, prompt.language, prompt.text) for prompt in load_prompts(config)]


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "parquet"])
@pytest.mark.parametrize("one_table", [False, True])
def test_every_file_format_gives_the_same_prompts(tmp_path: Path, suffix: str, one_table: bool) -> None:
    tables = {"all": [row | {"language": code} for code in TEXTS for row in rows(code)]} if one_table else {}
    for name, table in (tables or {code: rows(code) for code in TEXTS}).items():
        path = tmp_path / f"{name}.{suffix}"
        if suffix == "jsonl":
            write_jsonl(path, table)
        elif suffix == "json":
            path.write_text(json.dumps(table), encoding="utf-8")
        elif suffix == "csv":
            lines = [",".join(table[0]), *(",".join(f'"{value}"' for value in row.values()) for row in table)]
            path.write_text("\n".join(lines), encoding="utf-8")
        else:
            pyarrow.parquet.write_table(pa.Table.from_pylist(table), path)
    assert load(tmp_path / f"all.{suffix}" if one_table else tmp_path) == EXPECTED


def test_a_saved_data_set_and_a_hub_style_folder_load(tmp_path: Path) -> None:
    import datasets

    table = [row | {"language": code} for code in TEXTS for row in rows(code)]
    datasets.DatasetDict({"train": datasets.Dataset.from_list(table)}).save_to_disk(str(tmp_path / "saved"))
    assert load(tmp_path / "saved") == EXPECTED
    hub = tmp_path / "hub"
    (hub / "data").mkdir(parents=True)
    pyarrow.parquet.write_table(pa.Table.from_pylist(table), hub / "data" / "train-00000-of-00001.parquet")
    assert load(hub) == EXPECTED


def test_prompts_behind_a_url_are_read_and_their_changes_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    url = f"memory://{tmp_path.name}/prompts"
    system, root = fsspec.core.url_to_fs(url)

    def put(code: str, items: list[dict[str, str]]) -> None:
        system.pipe(f"{root}/{code}.jsonl", "".join(json.dumps(item) + "\n" for item in items).encode())
        storage._look.cache_clear()  # as in a new process

    for code in TEXTS:
        put(code, rows(code))
    assert load(url) == EXPECTED
    config = make_config(Path("."), languages=["en", "es"], prompts={"path": url})
    run = RunDir.start(config, tmp_path / "run", say=print)
    prompts.run(config, run, 1)
    storage._look.cache_clear()
    ((path, before),) = prompts.outputs(config, run, 1)
    assert is_sealed(path, before)
    put("es", rows("es")[::-1])  # of the same size
    ((path, after),) = prompts.outputs(config, run, 1)
    assert not is_sealed(path, after)
    system.rm(root, recursive=True)


def test_rows_are_aligned_by_id_in_the_order_of_the_dominant_language(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "en.jsonl", rows("en"))
    write_jsonl(tmp_path / "es.jsonl", reversed(rows("es")))
    assert load(tmp_path) == EXPECTED
    assert load(tmp_path, limit=1) == EXPECTED[:2]


def test_fields_and_numeric_ids_can_be_named(tmp_path: Path) -> None:
    for code in TEXTS:
        write_jsonl(tmp_path / f"{code}.jsonl", [{"n": 7, "question": TEXTS[code][0]}])
    assert load(tmp_path, fields={"id": "n", "text": "question"}) == [
        ("7", "en", "Hello, you"),
        ("7", "es", "Hola, tú"),
    ]


def test_half_of_a_surrogate_pair_becomes_a_replacement_character(tmp_path: Path) -> None:
    for code in TEXTS:
        (tmp_path / f"{code}.jsonl").write_text('{"id": "a", "instruction": "x \\ud83d"}\n')
    assert load(tmp_path) == [("a", "en", "x \ufffd"), ("a", "es", "x \ufffd")]


def test_arithmetic_prompts_are_wrapped_in_their_language(tmp_path: Path) -> None:
    for code in TEXTS:
        write_jsonl(tmp_path / f"{code}.jsonl", [{"id": "1", "instruction": "2 + {question} = ?"}])
    english, spanish = load(tmp_path, task="arithmetic")
    assert english[2].startswith("2 + {question} = ?\n") and "step by step" in english[2]
    assert "en español" in spanish[2]


@pytest.mark.parametrize(
    ("lines", "place", "remedy"),
    [
        (['{"id": "a", "instruction": "x"}', '{"id": "b", "instr'], "es.jsonl:2", "not valid JSON"),
        (['{"id": "a", "instruction": "x"}', '{"id": "a", "instruction": "y"}'], "es.jsonl:2", "es.jsonl:1 already"),
        (['{"id": "a", "instruction": "  "}'], "es.jsonl:1", "is empty"),
        (['{"id": "a", "text": "x"}'], "es.jsonl:1", "set prompts.fields.text"),
        (['{"instruction": "x"}'], "es.jsonl:1", "set prompts.fields.id"),
        (['["a", "x"]'], "es.jsonl:1", "must be an object"),
        (['{"id": "a", "instruction": "x"}'], "en.jsonl:2", "prompts.on_missing=skip"),
    ],
)
def test_a_defect_is_named_with_file_and_line(tmp_path: Path, lines: list[str], place: str, remedy: str) -> None:
    write_jsonl(tmp_path / "en.jsonl", rows("en"))
    (tmp_path / "es.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    assert place in str(caught.value)
    assert remedy in str(caught.value)


def test_missing_ids_can_be_skipped(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "en.jsonl", rows("en"))
    write_jsonl(tmp_path / "es.jsonl", rows("es")[:1])
    assert load(tmp_path, on_missing="skip") == EXPECTED[:3]


def test_missing_sources_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        load(tmp_path / "nowhere.jsonl")
    write_jsonl(tmp_path / "en.jsonl", rows("en"))
    with pytest.raises(DataError, match="no file for language es"):
        load(tmp_path)
    (tmp_path / "table.txt").write_text("x")
    with pytest.raises(DataError, match=r"not as \.txt"):
        load(tmp_path / "table.txt")


# --- other data sets, by a map of their fields


def prompts_of(rows: list[dict[str, Any]], tmp_path: Path, code: str = "en", **fields: Any) -> list[Prompt]:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return [prompt for prompt, _ in read_prompts(str(path), PromptFields(**fields), language=code)]


def test_alpaca_joins_instruction_and_input(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Sort the words.", "input": "pear, fig", "output": "fig, pear"},
        {"instruction": "Name a {colour}.", "input": "", "output": "Red"},
    ]
    found = prompts_of(rows, tmp_path, id=None, text="{instruction}\n\n{input}")
    assert [(prompt.prompt_id, prompt.text) for prompt in found] == [
        ("1", "Sort the words.\n\npear, fig"),
        ("2", "Name a {colour}."),
    ]


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("2 x 3 = <<2*3=6>>6\n#### 6", "6"),
        ("So it is.\n#### -1,250 \n", "-1,250"),
        ("1,250", "1,250"),
        ("#### Title\nA text with a heading", "#### Title\nA text with a heading"),
    ],
)
def test_gsm8k_gives_the_number_behind_the_hashes_of_the_last_line(solution: str, answer: str, tmp_path: Path) -> None:
    rows = [{"question": "What is 2 x 3?", "answer": solution}]
    assert prompts_of(rows, tmp_path, id=None, text="question", answer="answer")[0].answer == answer


def test_ultrafeedback_conversations_give_their_first_user_turn(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"},
             {"role": "assistant", "content": "Because."}]  # fmt: skip
    rows = [{"prompt_id": "u1", "chosen": turns}]
    assert prompts_of(rows, tmp_path, id="prompt_id", text="chosen") == [Prompt("u1", "en", "Why?")]


@pytest.mark.parametrize(
    ("name", "code"),
    [("arb", "ar"), ("Standard Arabic", "ar"), ("arz", None), ("zho_Hant", "zh"), ("Simplified Chinese", "zh"),
     ("pes", "fa"), ("swh", "sw"), ("ger", "de"), ("fil", None), ("", None)],
)  # fmt: skip
def test_data_sets_call_languages_in_many_ways(name: str, code: str | None) -> None:
    assert language_code(name) == code


@pytest.mark.parametrize("name", ["es", "spa", "Spanish", "español", "es-MX", "spa_Latn"])
def test_aya_calls_its_languages_in_many_ways(name: str, tmp_path: Path) -> None:
    rows = [
        {"inputs": "¿Qué es?", "targets": "Nada", "language_code": name},
        {"inputs": "What is it?", "targets": "Nothing", "language_code": "eng"},
    ]
    found = prompts_of(rows, tmp_path, "es", id=None, text="inputs", language="language_code")
    assert [prompt.text for prompt in found] == ["¿Qué es?"]


def test_a_table_of_all_languages_without_ids_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "aya.jsonl"
    path.write_text('{"inputs": "Hi", "language": "English"}\n{"inputs": "Hola", "language": "Spanish"}\n')
    config = load_config("llama3-8b-instruct", [f"prompts.path={path}", "prompts.fields={id: null, text: inputs}",
                                                "languages=[en, es]"])  # fmt: skip
    with pytest.raises(DataError, match="one table with all languages needs ids"):
        list(load_prompts(config))


def test_files_without_ids_are_aligned_by_their_rows(tmp_path: Path) -> None:
    for code, texts in {"en": ["One", "Two"], "es": ["Uno", "Dos"]}.items():
        (tmp_path / f"{code}.jsonl").write_text("".join(json.dumps({"q": text}) + "\n" for text in texts))
    config = load_config("llama3-8b-instruct", [f"prompts.path={tmp_path}", "prompts.fields={id: null, text: q}",
                                                "languages=[en, es]"])  # fmt: skip
    assert [(row.prompt_id, row.language, row.text) for row in load_prompts(config)] == [
        ("1", "en", "One"), ("1", "es", "Uno"), ("2", "en", "Two"), ("2", "es", "Dos"),
    ]  # fmt: skip


# What the Hub has: columns, splits and configurations as on the data sets' cards; the rows are our own.
TURNS = [{"content": "Name a bird.", "role": "user"}, {"content": "A wren.", "role": "assistant"}]
HUB: dict[str, tuple[dict[str, dict[str, list[dict[str, Any]]]], dict[str, Any], PromptFields, Prompt]] = {
    "alpaca": (
        {"default": {"train": [{"instruction": "Name a bird.", "input": "", "output": "A wren.", "text": "Below is"}]}},
        {}, PromptFields(id=None, text="{instruction}\n\n{input}"), Prompt("1", "en", "Name a bird."),
    ),
    "ultrafeedback_binarized": (
        {"default": {"train_prefs": [{"prompt": "Name a bird.", "prompt_id": "f0", "chosen": TURNS, "rejected": TURNS,
                                      "messages": TURNS, "score_chosen": 8.0, "score_rejected": 4.0}]}},
        {"split": "train_prefs"}, PromptFields(id="prompt_id", text="messages"), Prompt("f0", "en", "Name a bird."),
    ),
    "ultrafeedback": (
        {"default": {"train": [{"source": "flan", "instruction": "Name a bird.", "models": ["a"], "completions": []}]}},
        {}, PromptFields(id=None), Prompt("1", "en", "Name a bird."),
    ),
    "aya": (
        {"default": {"train": [
            {"inputs": "Name a bird.", "targets": "A wren.", "language": "English", "language_code": "eng"},
            {"inputs": "Nombra un ave.", "targets": "Un mirlo.", "language": "Spanish", "language_code": "spa"}]},
         "demographics": {"train": [{"user_id": "u", "languages": ["es"]}]}},
        {"language": "es"}, PromptFields(id=None, text="inputs"), Prompt("2", "es", "Nombra un ave."),
    ),
    "gsm8k": (
        {"main": {"train": [{"question": "What is 2 + 3?", "answer": "2 + 3 = 5\n#### 5"}]},
         "socratic": {"train": [{"question": "What is 2 + 3?", "answer": "What? ** 5\n#### 5"}]}},
        {"configuration": "main"}, PromptFields(id=None, text="question", answer="answer"),
        Prompt("1", "en", "What is 2 + 3?", "5"),
    ),
    "mgsm": (
        {code: {"test": [{"question": text, "answer": None, "answer_number": 5, "equation_solution": None}]}
         for code, text in {"en": "What is 2 + 3?", "es": "¿Cuánto es 2 + 3?"}.items()},
        {"split": "test", "language": "es"}, PromptFields(id=None, text="question", answer="answer_number"),
        Prompt("1", "es", "¿Cuánto es 2 + 3?", "5"),
    ),
}  # fmt: skip


def write_hub_folder(folder: Path, configurations: dict[str, dict[str, list[dict[str, Any]]]]) -> Path:
    """A data set as the Hub has it: Parquet files, and a card that says which belong to what."""
    card = ["---", "configs:"]
    for name, splits in configurations.items():
        card += [f"- config_name: {name}", "  data_files:"]
        for split, table in splits.items():
            card += [f"  - split: {split}", f"    path: {name}/{split}-*"]
            (folder / name).mkdir(parents=True, exist_ok=True)
            pyarrow.parquet.write_table(pa.Table.from_pylist(table), folder / name / f"{split}-00000-of-00001.parquet")
    (folder / "README.md").write_text("\n".join([*card, "---", "# Card", ""]), encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", HUB)
def test_data_sets_of_the_hub_are_read_by_a_map_of_their_fields(name: str, tmp_path: Path) -> None:
    configurations, where, fields, expected = HUB[name]
    path = write_hub_folder(tmp_path / name, configurations)
    assert [prompt for prompt, _ in read_prompts(str(path), fields, **where)] == [expected]


def test_rows_of_a_folder_are_those_that_are_in_it_now(tmp_path: Path) -> None:
    configurations, where, fields, expected = HUB["gsm8k"]
    path = write_hub_folder(tmp_path / "gsm8k", configurations)
    assert [prompt for prompt, _ in read_prompts(str(path), fields, **where)] == [expected]
    changed = {"main": {"train": [{"question": "What is 4 + 3?", "answer": "#### 7"}]},
               "socratic": configurations["socratic"]}  # fmt: skip
    for folder in (path, tmp_path / "other" / "gsm8k"):  # the same files with other rows; another folder of that name
        write_hub_folder(folder, changed)
        assert [prompt.answer for prompt, _ in read_prompts(str(folder), fields, **where)] == ["7"]


def test_a_saved_data_set_is_read_by_a_map_of_its_fields(tmp_path: Path) -> None:
    import datasets

    configurations, where, fields, expected = HUB["ultrafeedback_binarized"]
    tables = {split: datasets.Dataset.from_list(rows) for split, rows in configurations["default"].items()}
    datasets.DatasetDict(tables).save_to_disk(str(tmp_path / "saved"))
    assert [prompt for prompt, _ in read_prompts(str(tmp_path / "saved"), fields, **where)] == [expected]


def test_a_recipe_reads_a_configuration_per_language_or_one_with_all_of_them(tmp_path: Path) -> None:
    write_hub_folder(tmp_path / "mgsm", HUB["mgsm"][0])
    fields = {"id": None, "text": "question", "answer": "answer_number"}
    assert load(tmp_path / "mgsm", split="test", fields=fields) == [
        ("1", "en", "What is 2 + 3?"), ("1", "es", "¿Cuánto es 2 + 3?")
    ]  # fmt: skip
    names = {"en": "eng", "es": "Spanish", "sw": "swh_Latn"}
    table = [{"n": row["id"], "prompt": row["instruction"], "lang": names[code]}
             for code in TEXTS for row in rows(code)]  # fmt: skip
    table.append({"n": "a", "prompt": "Jambo", "lang": names["sw"]})
    write_hub_folder(tmp_path / "one", {"general": {"train": table}, "other": {"train": table[:1]}})
    fields = {"id": "n", "text": "prompt", "language": "lang"}
    assert load(tmp_path / "one", fields=fields, configuration="general") == EXPECTED


def test_a_table_of_one_language_is_no_source_for_a_recipe(tmp_path: Path) -> None:
    write_hub_folder(tmp_path / "gsm8k", HUB["gsm8k"][0])
    with pytest.raises(DataError, match="if it is in one language, lidr prompts localize"):
        load(tmp_path / "gsm8k", fields={"id": None, "text": "question"}, configuration="main")


def test_a_missing_configuration_or_split_is_named(tmp_path: Path) -> None:
    path = str(write_hub_folder(tmp_path / "gsm8k", HUB["gsm8k"][0]))
    fields = PromptFields(id=None, text="question")
    with pytest.raises(DataError, match=r"Config name is missing.*prompts\.configuration"):
        list(read_prompts(path, fields))
    with pytest.raises(DataError, match=r"(?i)split.*check the path, the split"):
        list(read_prompts(path, fields, configuration="main", split="trian"))


@pytest.mark.parametrize(
    ("row", "fields", "message"),
    [
        ({"instruction": {"a": 1}}, {}, r"rows.jsonl:1: 'instruction' holds an object .*and not a text"),
        ({"instruction": ["x", "y"]}, {}, "holds a list that is no conversation"),
        (
            {"instruction": "x", "answer": ["y"]},
            {"answer": "answer"},
            "'answer' holds a list .* and not a text or a number",
        ),
        ({"instruction": "x", "answer": "y"}, {"answer": "anwser"}, "no row has an answer in 'anwser'"),
        ({"instruction": "x", "answer": " "}, {"answer": "answer"}, "no row has an answer in 'answer'"),
        ({"instruction": "x", "language": "python"}, {}, r"no prompts in English.*'language' says: python.*--field"),
        ({"instruction": "x", "language": ["en"]}, {}, r"'language' holds a list .*--field language"),
        ({"instruction": TURNS[1:]}, {}, r"text of prompt '1' \(instruction\) is empty"),
    ],
)
def test_what_is_no_prompt_is_refused(
    row: dict[str, Any], fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        prompts_of([row], tmp_path, id=None, **fields)


def test_a_table_says_the_language_of_every_row_or_of_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows.jsonl:2: some rows say their language"):
        prompts_of([{"instruction": "x", "language": "en"}, {"instruction": "y", "language": None}], tmp_path, id=None)


def test_a_folder_of_tables_says_the_language_and_not_a_column(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "en.jsonl", [{"instruction": "Sort a list", "language": "python"}])
    fields = PromptFields(id=None)
    assert [prompt.text for prompt, _ in read_prompts(str(tmp_path), fields)] == ["Sort a list"]
    with pytest.raises(DataError, match="it has en and no fr"):
        list(read_prompts(str(tmp_path), fields, language="fr"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.jsonl", '{"id": 1, "instruction": "café"}'.encode("latin-1"), "not UTF-8"),
        ("p.csv", b"id,instruction\n1,Hello, you\n", r"p.csv:2: more cells than columns"),
        ("p.parquet", b"PAR1 and then nothing", "not a readable Parquet file"),
    ],
)
def test_a_damaged_file_is_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(read_prompts(str(tmp_path / name), PromptFields()))


def test_byte_order_marks_and_long_cells_are_read(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_bytes(b'\xef\xbb\xbf{"id": 1, "instruction": "x"}\n')
    (tmp_path / "p.csv").write_text(f'id,instruction\n1,"{"x" * 200_000}"\n')
    for name, length in (("p.jsonl", 1), ("p.csv", 200_000)):
        assert [len(prompt.text) for prompt, _ in read_prompts(str(tmp_path / name), PromptFields())] == [length]


def test_a_pattern_names_a_missing_column(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no field 'input' \(it has: instruction\).*--field text"):
        prompts_of([{"instruction": "x"}], tmp_path, id=None, text="{instruction}\n\n{input}")


# --- cells: blank, decoded, or refused with file and row


def read_table(path: Path, **fields: Any) -> list[tuple[str, str, str | None]]:
    scanned = scan_prompts(str(path), PromptFields(**fields))
    return [(prompt.prompt_id, prompt.text, prompt.answer) for _, prompt, _ in scanned]


def test_an_empty_cell_of_pandas_is_blank(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(
        '{"instruction": "Name a bird.", "input": NaN, "answer": 4.0}\n{"instruction": NaN, "input": null}\n'
    )
    pattern = {"id": None, "text": "{instruction}\n\n{input}", "answer": "answer"}
    assert read_table(path, **pattern) == [("1", "Name a bird.", "4"), ("2", "", None)]
    assert read_table(path, id=None) == [("1", "Name a bird.", None), ("2", "", None)]  # a sample leaves it out
    with pytest.raises(DataError, match=r"p\.jsonl:2: the text of prompt '2'"):
        list(read_prompts(str(path), PromptFields(id=None)))
    write_jsonl(tmp_path / "en.jsonl", rows("en"))
    write_jsonl(tmp_path / "es.jsonl", [rows("es")[0], {"id": "b", "instruction": float("nan")}])
    with pytest.raises(DataError, match=r"es\.jsonl:2: the text of prompt 'b'"):
        load(tmp_path)


TEXT = ["Nenne eine Größe.", "Name a bird."]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([text.encode() for text in TEXT], pa.binary()),
        pa.array([text.encode() for text in TEXT], pa.large_binary()),
        pa.array([text.encode() for text in TEXT], pa.binary()).dictionary_encode(),
        pa.array(TEXT, pa.large_string()),
        pa.array(TEXT, pa.large_string()).dictionary_encode(),
    ],
    ids=lambda column: str(column.type),
)
@pytest.mark.parametrize("in_hub_folder", [False, True])
def test_texts_of_parquet_are_decoded(column: pa.Array, in_hub_folder: bool, tmp_path: Path) -> None:
    table = pa.table({"id": pa.array([1.0, 2.0]), "instruction": column, "input": pa.array([float("nan"), None])})
    (tmp_path / "data").mkdir()
    pyarrow.parquet.write_table(table, tmp_path / "data" / "train.parquet")
    path = tmp_path if in_hub_folder else tmp_path / "data" / "train.parquet"
    assert read_table(path, text="{instruction}\n\n{input}") == [("1", TEXT[0], None), ("2", TEXT[1], None)]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([b"x", b"\xff"]), r"p\.parquet row 2: 'instruction' holds bytes that are not UTF-8"),
        (
            pa.array([b"x", b"\xff"]).view(pa.string()),
            r"p\.parquet row 2: 'instruction' cannot be read: a text is not UTF-8",
        ),
        (pa.array([1, 2]), r"p\.parquet row 1: 'instruction' holds a number \(1\) and not a text"),
        (pa.array([True, False]), "row 1: 'instruction' holds true or false"),
        (pa.array([0, 1], pa.date32()), "row 1: 'instruction' holds a value of type date"),
        (pa.array([{"a": 1}, {"a": 2}]), "row 1: 'instruction' holds an object"),
    ],
)
def test_other_columns_of_parquet_are_refused(column: pa.Array, message: str, tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pa.table({"id": [1, 2], "instruction": column}), tmp_path / "p.parquet")
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / "p.parquet")


@pytest.mark.parametrize(
    "column",
    [pa.array([0, 2**62], pa.timestamp("us")), pa.array([0, 2**31 - 1], pa.date32()),
     pa.array([0, 2**62], pa.duration("s"))],
    ids=lambda column: str(column.type),
)  # fmt: skip
def test_a_cell_that_python_cannot_hold_is_named(column: pa.Array, tmp_path: Path) -> None:
    table = pa.table({"id": [1, 2], "instruction": ["a", "b"], "made": column})
    pyarrow.parquet.write_table(table, tmp_path / "p.parquet")
    with pytest.raises(DataError, match=r"p\.parquet row 2: 'made' cannot be read"):
        read_table(tmp_path / "p.parquet")


def test_a_time_zone_that_is_none_is_named(tmp_path: Path) -> None:
    made = pa.array([0], pa.timestamp("us", tz="Foo/Bar"))
    pyarrow.parquet.write_table(pa.table({"id": [1], "instruction": ["a"], "made": made}), tmp_path / "p.parquet")
    with pytest.raises(DataError, match=r"row 1: 'made' cannot be read"):
        read_table(tmp_path / "p.parquet")


@pytest.mark.parametrize("in_hub_folder", [False, True])
@pytest.mark.parametrize("kind", [pa.float64(), pa.float32(), pa.float16()], ids=str)
def test_answers_in_short_floats_keep_their_decimals(kind: pa.DataType, in_hub_folder: bool, tmp_path: Path) -> None:
    answers = pa.array(numpy.array([0.1, 2.5, 12]).astype(kind.to_pandas_dtype()), kind)
    table = pa.table({"id": [1, 2, 3], "instruction": ["a", "b", "c"], "gold": answers})
    (tmp_path / "data").mkdir()
    pyarrow.parquet.write_table(table, tmp_path / "data" / "train.parquet")
    path = tmp_path if in_hub_folder else tmp_path / "data" / "train.parquet"
    assert [answer for _, _, answer in read_table(path, answer="gold")] == ["0.1", "2.5", "12"]


def test_a_picture_in_another_column_is_no_concern(tmp_path: Path) -> None:
    table = pa.table({"id": [1], "instruction": ["x"], "picture": [b"\xff\xd8"]})
    pyarrow.parquet.write_table(table, tmp_path / "p.parquet")
    assert read_table(tmp_path / "p.parquet") == [("1", "x", None)]


@pytest.mark.parametrize("kept", [0.0, 0.2, 0.5, 0.9])
def test_a_parquet_file_that_was_cut_off_or_damaged_is_named(kept: float, tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    words = [" ".join(str(n * k % 997) for k in range(40)) for n in range(300)]
    pyarrow.parquet.write_table(pa.table({"id": list(range(300)), "instruction": words}), path)
    whole = path.read_bytes()
    for content in (whole[: int(kept * len(whole))], whole[:400] + b"\0" * 3_000 + whole[3_400:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"p\.parquet.*not (a readable Parquet file|UTF-8)"):
            read_table(path)


def test_a_damaged_archive_in_a_hub_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl.gz").write_bytes(gzip.compress(b'{"instruction": "x"}\n' * 5_000)[:60])
    with pytest.raises(DataError, match="not readable as a data set"):
        read_table(tmp_path, id=None)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"id": 1, "instruction": "x"}, "1"),
        ({"id": 1.0, "instruction": "x"}, "1"),
        ({"id": "003", "instruction": "x"}, "003"),
    ],
)
def test_ids_have_one_spelling(given: dict[str, Any], found: str, tmp_path: Path) -> None:
    assert prompts_of([given], tmp_path)[0].prompt_id == found


@pytest.mark.parametrize("value", [True, {}, {"a": 1}, [], ["a"], "", "  ", None, float("nan"), 1.5])
@pytest.mark.parametrize("field", ["id", "instruction"])
def test_what_is_neither_id_nor_text_is_named_with_its_row(value: Any, field: str, tmp_path: Path) -> None:
    good = {"id": "a", "instruction": "x"}
    with pytest.raises(DataError, match=r"rows\.jsonl:2: "):
        prompts_of([good, good | {"id": "b"} | {field: value}], tmp_path)


def test_ids_that_are_spelt_alike_are_the_same(tmp_path: Path) -> None:
    items = [{"id": 1, "instruction": "x"}, {"id": 1.0, "instruction": "y"}]
    with pytest.raises(DataError, match=r"rows\.jsonl:2: id '1' is in .*rows\.jsonl:1 already"):
        prompts_of(items, tmp_path)
    write_jsonl(tmp_path / "en.jsonl", [{"id": "1", "instruction": "x"}, {"id": 1, "instruction": "y"}])
    write_jsonl(tmp_path / "es.jsonl", [{"id": 1.0, "instruction": "x"}])
    with pytest.raises(DataError, match=r"en\.jsonl:2: id '1' is in .*en\.jsonl:1 already"):
        load(tmp_path)
    write_jsonl(tmp_path / "en.jsonl", [{"id": "1", "instruction": "x"}])
    assert load(tmp_path) == [("1", "en", "x"), ("1", "es", "x")]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ('\ufeffid,instruction\r\n1,"He said ""hi"", then\r\nleft"\r\n2,=SUM(A1:A2)\r\n',
         [("1", 'He said "hi", then\r\nleft', None), ("2", "=SUM(A1:A2)", None)]),
        ('id;instruction\n1;Eine Frucht, bitte\n2;"a;b"\n', [("1", "Eine Frucht, bitte", None), ("2", "a;b", None)]),
        ("id\tinstruction\n1\tx; y, z\n", [("1", "x; y, z", None)]),
        ("id,instruction\n1,a\u2028b\x85c\n\n2,x\n", [("1", "a\u2028b\x85c", None), ("2", "x", None)]),
        ("id,instruction\n1,nan\n", [("1", "nan", None)]),
    ],
)  # fmt: skip
def test_csv_as_spreadsheets_write_it(content: str, found: list[tuple[str, str, None]], tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes(content.encode())
    assert read_table(tmp_path / "p.csv") == found


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,instruction\n1\n", r"p\.csv:2: fewer cells than columns"),
        ("id;instruction\n1;x;y\n", r"p\.csv:2: more cells than columns; put texts with ';' in double quotes"),
        ("id,instruction,id\n1,x,2\n", r"p\.csv:1: several columns are called 'id'"),
        ('id,instruction\n1,"x\n', r"p\.csv:2: not readable as CSV"),
        ("id,instruction\n1,x\0\n", r"p\.csv:2: 'instruction' holds a NUL"),
        ("id,instruction\n,x\n", r"p\.csv:2: the id \('id'\) is empty"),
        ("", r"p\.csv: no prompts in English"),
        ("id,instruction\n", r"p\.csv: no prompts in English"),
        ("a,b\n1,x\n", r"p\.csv:2: no field 'id' \(it has: a, b\)"),
    ],
)
def test_csv_that_cannot_be_read_is_named(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / "p.csv")


def turn(role: Any, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    ("turns", "text"),
    [
        ([turn("user", [{"type": "text", "text": "Name a bird."}, {"type": "text", "text": "A small one."}])],
         "Name a bird.\nA small one."),
        ([turn("system", "Be brief."), turn("user", "Why?"), turn("assistant", "So."), turn("user", "And?")], "Why?"),
        ([turn("developer", "Be brief."), turn("user", "Why?")], "Why?"),
        ([{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}], "Why?"),
        ([{"from": "system", "value": "Be brief."}, {"from": "human", "value": "Why?"}], "Why?"),
        ([{"role": None, "content": None, "from": "human", "value": "Why?"}], "Why?"),
        ([turn("assistant", "Hello!"), turn("user", "And then?")], ""),
        ([{"from": "gpt", "value": "Hello!"}, {"from": "human", "value": "And then?"}], ""),
        ([turn("system", "Be brief.")], ""),
        ([turn("user", None)], ""),
        ([turn("user", float("nan"))], ""),
        ([turn("user", [])], ""),
        ([], ""),
    ],
)  # fmt: skip
def test_a_conversations_prompt_is_the_users_turn_that_begins_it(
    turns: list[dict[str, Any]], text: str, tmp_path: Path
) -> None:
    write_jsonl(tmp_path / "p.jsonl", [{"turns": turns}])
    assert read_table(tmp_path / "p.jsonl", id=None, text="turns") == [("1", text, None)]


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([turn("user", [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {}}])],
         "holds a turn with a part that is no text .'image_url'"),
        ([turn("user", ["x"])], "a part that is no text"),
        ([turn("user", {"parts": ["x"]})], "'turns' holds an object"),
        ([turn("user", 12)], "'turns' holds a number"),
        ([turn("wizard", "x")], "holds a list that is no conversation .*'wizard'"),
        ([{"text": "x"}], "holds a list that is no conversation"),
        ([turn("user", [{"type": "text", "text": 3}])], "'turns' holds a number"),
    ],
)  # fmt: skip
def test_what_is_no_conversation_is_refused(turns: list[Any], message: str, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "p.jsonl", [{"turns": turns}])
    with pytest.raises(DataError, match=rf"p\.jsonl:1: .*{message}"):
        read_table(tmp_path / "p.jsonl", id=None, text="turns")


def test_a_saved_data_set_that_gives_arrays_is_read_as_values(tmp_path: Path) -> None:
    import datasets

    table = datasets.Dataset.from_list([{"id": 1, "instruction": "x", "answer": 2.0}])
    table.with_format("numpy").save_to_disk(str(tmp_path / "saved"))
    assert read_table(tmp_path / "saved", answer="answer") == [("1", "x", "2")]


def test_loading_prompts_takes_time_in_proportion_to_them(tmp_path: Path) -> None:
    def steps(count: int) -> int:
        """How much of its virtual machine SQLite runs, in thousands of instructions: no clock, so no noise."""
        for code in ("en", "es", "fr"):
            write_jsonl(tmp_path / f"{code}.jsonl", ({"id": f"p{n}", "instruction": "x"} for n in range(count)))
        config = make_config(Path("."), languages=["en", "es", "fr"], prompts={"path": str(tmp_path)})
        counted = 0

        def tick() -> None:
            nonlocal counted
            counted += 1

        connect = sqlite3.connect

        def counting(*args: Any) -> sqlite3.Connection:
            table = connect(*args)
            table.set_progress_handler(tick, 1000)
            return table

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(sqlite3, "connect", counting)
            assert sum(1 for _ in load_prompts(config)) == 3 * count
        return counted

    assert steps(2_000) < 2.5 * steps(1_000)
