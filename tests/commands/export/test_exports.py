"""`lidr export`: every format as its tool documents it, nothing lost, and the training's own held-out prompts."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, create_model
from typer.testing import CliRunner

from lidr.cli import app
from lidr.commands.export import write as writing
from lidr.commands.export.collect import held_out_prompts, select
from lidr.commands.export.write import write_export
from lidr.config import Config
from lidr.errors import ConfigError, RunError
from lidr.plugins import built_in, load
from lidr.records import PreferencePair
from lidr.run_dir import RunDir
from lidr.seals import digest, write_sealed
from tests.conftest import make_config

SYSTEM = "You are a careful assistant."
EXPORTS = {name: load("exports", name)[0]() for name in built_in("exports")}
FORMS = [(name, plain) for name in EXPORTS for plain in (True, False)]
# What a model may write: line breaks of several kinds, quotes, Markdown, a table's bar.
ODD = 'First "line".\n```\n# not a heading\n\u2028| a | b |\\'


def pair(number: int, language: str, text: str = "") -> PreferencePair:
    prompt_id = f"p{number}"
    return PreferencePair(
        f"{number:08x}{language}", prompt_id, language, "non_dominant", f"{language}: question {number}",
        text or f"{language}: good answer {number}", f"{language}: poor answer {number}", f"en->{language}", language,
    )  # fmt: skip


def add_pairs(run: RunDir, iteration: int, rows: dict[str, list[PreferencePair]], system: str | None = SYSTEM) -> None:
    """An iteration that has made these pairs."""
    for code, pairs in rows.items():
        write_sealed(run.pairs(iteration, code), {}, [row.to_json() for row in pairs])
        write_sealed(run.responses(iteration, code), {"model": f"{iteration:064x}", "system_prompt": system}, [])
    summary = {"pairs": {code: len(pairs) for code, pairs in rows.items()}, "dropped": {}}
    write_sealed(run.pair_summary(iteration), {}, [json.dumps(summary)])


def make_run(path: Path, **changes: Any) -> tuple[Config, RunDir]:
    """Two iterations: four prompts in two languages, then one prompt in one."""
    config = make_config(path / "prompts", languages=["en", "es", "fr"], iterations=3, **changes)
    run = RunDir.start(config, path / "run", say=lambda line: None)
    add_pairs(
        run, 1, {"en": [], "es": [pair(n, "es") for n in range(4)], "fr": [pair(n, "fr", ODD) for n in (2, 0, 3)]}
    )
    add_pairs(run, 2, {"en": [], "es": [pair(7, "es")], "fr": []})
    return config, run


def export(path: Path, name: str = "trl", iteration: str | None = "1", languages: str = "", plain: bool | None = None,
           system: bool = True, **changes: Any) -> Path:  # fmt: skip
    config, run = make_run(path, **changes)
    codes = languages.split(",") if languages else []
    write_export(config, run, name, select(config, run, iteration, codes), path / "out", plain, system)
    return path / "out"


def rows_of(out: Path, split: str = "train") -> list[dict[str, Any]]:
    if (out / f"{split}.parquet").exists():
        from pyarrow import parquet

        found: list[dict[str, Any]] = parquet.read_table(out / f"{split}.parquet").to_pylist()
        return found
    return [json.loads(line) for line in (out / f"{split}.jsonl").open(encoding="utf-8")]


# --- the formats, as the tools' own documentation describes them ------------------------------------------------------


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Provenance(Closed):
    id: str
    prompt_id: str
    language: str
    kind: str
    iteration: int
    model: str
    model_fingerprint: str
    chosen_from: str
    rejected_from: str


class Asked(Closed):
    role: Literal["system", "user"]
    content: str


class AnsweredQuestion(Closed):
    role: Literal["assistant"]
    content: str


HUMAN = create_model("HUMAN", __base__=Closed, **{"from": (Literal["human"], ...), "value": (str, ...)})  # type: ignore[call-overload]
GPT = create_model("GPT", __base__=Closed, **{"from": (Literal["gpt"], ...), "value": (str, ...)})  # type: ignore[call-overload]
RANKED = create_model("RANKED", __base__=Closed, rank=(int, ...), completion=(list[AnsweredQuestion], ...))
TEXTS = {"prompt": str, "chosen": str, "rejected": str}
TURNS = {"prompt": list[Asked], "chosen": list[AnsweredQuestion], "rejected": list[AnsweredQuestion]}
SCHEMAS: dict[tuple[str, bool], dict[str, Any]] = {
    ("trl", True): TEXTS,
    ("trl", False): TURNS,
    ("llamafactory", True): {"instruction": str, "input": str, "chosen": str, "rejected": str, "system": str},
    ("llamafactory", False): {"conversations": list[HUMAN], "chosen": GPT, "rejected": GPT, "system": str},  # type: ignore[valid-type]
    ("nemo_rl", True): TEXTS,
    ("nemo_rl", False): {"context": list[Asked], "completions": list[RANKED]},  # type: ignore[valid-type]
    ("axolotl", True): TEXTS | {"system": str},
    ("axolotl", False): {"messages": list[Asked], "chosen": AnsweredQuestion, "rejected": AnsweredQuestion},
    ("openrlhf", True): TEXTS,
    ("openrlhf", False): TURNS,
    ("parquet", True): TEXTS | {"system_prompt": str},
    ("parquet", False): TURNS,
}


def texts_in(value: Any) -> set[str]:
    """All texts of a row, however deep."""
    if isinstance(value, dict):
        return set().union(*map(texts_in, value.values()))
    if isinstance(value, list):
        return set().union(*map(texts_in, value))
    return {value} if isinstance(value, str) else set()


@pytest.mark.parametrize(("name", "plain"), FORMS)
def test_rows_follow_the_documented_schema(name: str, plain: bool, tmp_path: Path) -> None:
    fields = {field: (kind, ...) for field, kind in SCHEMAS[name, plain].items()}
    schema = create_model("Row", __base__=Provenance, **fields)  # type: ignore[call-overload]
    rows = rows_of(export(tmp_path, name, plain=plain))
    for row in rows:
        schema.model_validate(row)
    assert [row["id"] for row in rows] == [pair(n, "es").id for n in range(4)] + [pair(n, "fr").id for n in (2, 0, 3)]
    expected = pair(2, "fr", ODD)
    assert {expected.prompt, ODD, expected.rejected} <= texts_in(rows[4])
    assert (rows[4]["model"], rows[4]["model_fingerprint"], rows[4]["iteration"]) == ("M0", f"{1:064x}", 1)
    assert (rows[4]["chosen_from"], rows[4]["rejected_from"]) == ("en->fr", "fr")
    has_place = "system" in json.dumps(list(SCHEMAS[name, plain])) or not plain
    assert (SYSTEM in texts_in(rows[4])) == has_place


def test_the_chosen_answer_has_the_lower_rank_for_nemo_rl(tmp_path: Path) -> None:
    for row in rows_of(export(tmp_path, "nemo_rl", languages="es")):
        first, second = row["completions"]
        assert first["rank"] < second["rank"]
        assert "good" in first["completion"][0]["content"] and "poor" in second["completion"][0]["content"]


def test_the_command_offers_every_format() -> None:
    from lidr.commands.export.cli import export

    offered = inspect.signature(export, eval_str=True).parameters["format"].annotation.__metadata__[0].help
    assert all(name in offered for name in EXPORTS)


# --- which pairs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("iteration", "found"), [(None, [2]), ("1", [1]), ("all", [1, 2])])
def test_iterations(iteration: str | None, found: list[int], tmp_path: Path) -> None:
    rows = rows_of(export(tmp_path, iteration=iteration))
    assert sorted({row["iteration"] for row in rows}) == found
    assert len(rows) == sum({1: 7, 2: 1}[number] for number in found)


def test_the_default_is_the_last_iteration_that_made_a_pair(tmp_path: Path) -> None:
    config, run = make_run(tmp_path)
    add_pairs(run, 3, {"en": [], "es": [], "fr": []})
    assert select(config, run, None, []).iterations == [2]


@pytest.mark.parametrize("iteration", ["0", "3", "4", "last", "-1"])
def test_an_iteration_without_pairs_is_refused(iteration: str, tmp_path: Path) -> None:
    config, run = make_run(tmp_path)
    with pytest.raises(RunError, match=f"--iteration {iteration}: .*1, 2"):
        select(config, run, iteration, [])


def test_languages(tmp_path: Path) -> None:
    config, run = make_run(tmp_path)
    assert {row["language"] for row in rows_of(export(tmp_path, languages="fr"))} == {"fr"}
    with pytest.raises(RunError, match="--languages ja: the pairs of this run are in en, es, fr"):
        select(config, run, "1", ["es", "ja"])
    with pytest.raises(RunError, match="nothing to train on: no pair in en"):
        export(tmp_path / "other", languages="en")
    assert not (tmp_path / "other/out").exists()


def test_a_run_without_pairs(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    run = RunDir.start(config, tmp_path / "run", say=lambda line: None)
    with pytest.raises(RunError, match="has no pairs yet; `lidr run"):
        select(config, run, None, [])


def test_the_system_prompt_is_the_one_the_answers_were_given_under(tmp_path: Path) -> None:
    roles = [turn["role"] for turn in rows_of(export(tmp_path, system_prompt="Set later."))[0]["prompt"]]
    assert roles == ["system", "user"]
    assert SYSTEM in (tmp_path / "out/train.jsonl").read_text(encoding="utf-8")
    assert "Set later." not in (tmp_path / "out/train.jsonl").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", EXPORTS)
def test_the_system_prompt_can_be_left_out(name: str, tmp_path: Path) -> None:
    out = export(tmp_path, name, system=False)
    assert not any(SYSTEM in texts_in(row) for row in rows_of(out))
    for file in out.iterdir():
        assert file.suffix == ".parquet" or SYSTEM not in file.read_text(encoding="utf-8")


# --- held-out prompts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_length", [4096, 70])
def test_the_prompts_that_the_training_holds_out_go_into_a_file_of_their_own(max_length: int, tmp_path: Path) -> None:
    """Those of the training's own data set, which lacks pairs that are too long; the draw depends on it."""
    from lidr.stages.training import _tokenize
    from lidr.training.worker import split

    training = {"held_out": 2, "max_length": max_length}
    config, run = make_run(tmp_path, training=training, system_prompt=None)
    long = [pair(n, "es", "¿Y ahora qué? " * 30 if n == 1 else "") for n in range(9)]
    add_pairs(run, 1, {"en": [], "es": long, "fr": [pair(n, "fr") for n in range(1) if max_length > 70]}, system=None)
    run.training(1).mkdir(parents=True)

    class Silent:
        rows = 0

        def advance(self) -> None:
            pass

    tokens, too_long = _tokenize(config, run, 1, run.model(config, 0), Silent())
    assert bool(too_long) == (max_length == 70)
    expected = set(split(tokens, config)[1]["prompt_id"])
    assert held_out_prompts(config, run, 1) == expected
    made = write_export(config, run, "trl", select(config, run, "1", []), tmp_path / "out", None, True)
    train, test = rows_of(tmp_path / "out"), rows_of(tmp_path / "out", "test")
    assert {row["prompt_id"] for row in test} == expected
    assert not expected & {row["prompt_id"] for row in train}
    assert (len(train), len(test)) == (made.total("train"), made.total("test"))
    assert len(train) + len(test) == 9 + (max_length > 70)


def test_after_a_training_that_found_none_too_long_nothing_is_tokenised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = make_run(tmp_path, training={"held_out": 1})
    expected = held_out_prompts(config, run, 1)
    made_from = {"pairs": digest(run.pair_summary(1)), "training": {"max_length": config.training.max_length}}
    write_sealed(run.model_folder(1), made_from, ["{}"] * 7)
    run.training(1).mkdir()
    (run.training(1) / "summary.json").write_text('{"pairs": 7, "too_long": {}}', encoding="utf-8")
    monkeypatch.setattr("lidr.commands.export.collect._length_check", None)
    assert held_out_prompts(config, run, 1) == expected
    (run.training(1) / "summary.json").write_text('{"pairs": 6, "too_long": {"es": 1}}', encoding="utf-8")
    write_sealed(run.model_folder(1), made_from, ["{}"] * 6)
    with pytest.raises(TypeError):  # now it would tokenise
        held_out_prompts(config, run, 1)


def test_more_held_out_than_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"training\.held_out 9: only 4 prompts have pairs"):
        export(tmp_path, training={"held_out": 9})


# --- the folder -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPORTS)
def test_the_same_run_gives_the_same_files(name: str, tmp_path: Path) -> None:
    first, second = export(tmp_path / "a", name, "all"), export(tmp_path / "b", name, "all")
    assert sorted(file.name for file in first.iterdir()) == sorted(file.name for file in second.iterdir())
    for file in first.iterdir():
        assert file.read_bytes() == (second / file.name).read_bytes()
        assert str(tmp_path).encode() not in file.read_bytes()  # an export is passed on: no path of this machine


def test_an_earlier_export_is_replaced_as_a_whole(tmp_path: Path) -> None:
    export(tmp_path, "axolotl", training={"held_out": 1})
    assert (tmp_path / "out/test.jsonl").exists()
    export(tmp_path, "trl")
    names = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert names == ["README.md", "export.json", "train.jsonl"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out", "run"]


def test_what_came_into_the_folder_later_is_kept(tmp_path: Path) -> None:
    out = export(tmp_path)
    (out / "trained").mkdir()
    with pytest.raises(RunError, match="it holds trained, which is no export of ours"):
        export(tmp_path, "axolotl")
    assert (out / "trained").exists() and not (out / "axolotl.yaml").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/out").mkdir()
    (tmp_path / "other/out/export.json").write_text('{"of": "another tool"}', encoding="utf-8")
    with pytest.raises(RunError, match=r"it holds export\.json"):
        export(tmp_path / "other")


def test_a_failure_leaves_the_earlier_export(tmp_path: Path) -> None:
    out = export(tmp_path)
    before = (out / "train.jsonl").read_bytes()
    config, run = RunDir.load(tmp_path / "run")[1], RunDir(tmp_path / "run")
    with run.pairs(1, "fr").open("a", encoding="utf-8") as file:
        file.write('{"id": "torn')
    with pytest.raises(RunError, match=r"fr\.jsonl: damaged: it has"):
        write_export(config, run, "trl", select(config, run, "1", []), out, None, True)
    assert (out / "train.jsonl").read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out", "run"]


@pytest.mark.parametrize("plain", [True, False])
def test_parquet_grows_by_row_groups(plain: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import parquet

    monkeypatch.setattr(writing, "_BATCH", 3)
    config, run = make_run(tmp_path)
    add_pairs(run, 1, {"en": [], "es": [pair(n, "es") for n in range(4)], "fr": []}, system=None)
    write_export(config, run, "parquet", select(config, run, "all", []), tmp_path / "out", plain, True)
    file = parquet.ParquetFile(tmp_path / "out/train.parquet")
    assert file.num_row_groups == 2 and file.metadata.num_rows == 5
    rows = rows_of(tmp_path / "out")
    assert [row["id"] for row in rows] == [*(pair(n, "es").id for n in range(4)), pair(7, "es").id]
    found = [row["system_prompt"] for row in rows] if plain else [row["prompt"][0]["role"] for row in rows]
    assert found == ([None] * 4 + [SYSTEM] if plain else ["user"] * 4 + ["system"])


# --- what the tools are given beside the data -------------------------------------------------------------------------


@pytest.mark.parametrize("plain", [True, False])
def test_llamafactory_is_told_of_every_column_that_it_reads(plain: bool, tmp_path: Path) -> None:
    out = export(tmp_path, "llamafactory", plain=plain, training={"held_out": 1})
    info = json.loads((out / "dataset_info.json").read_text(encoding="utf-8"))
    settings = yaml.safe_load((out / "llamafactory.yaml").read_text(encoding="utf-8"))
    assert (settings["dataset"], settings["eval_dataset"]) == tuple(info) == ("pairs", "pairs_test")
    for entry, split in zip(info.values(), ("train", "test"), strict=True):
        assert entry["ranking"] is True and entry["file_name"] == f"{split}.jsonl"
        own = set(rows_of(out, split)[0]) - set(Provenance.model_fields)
        assert set(entry["columns"].values()) == own


@pytest.mark.parametrize("plain", [True, False])
def test_axolotl_is_told_where_everything_is(plain: bool, tmp_path: Path) -> None:
    out = export(tmp_path, "axolotl", plain=plain, training={"held_out": 1, "alpha": 0.5, "beta": 0.3})
    settings = yaml.safe_load((out / "axolotl.yaml").read_text(encoding="utf-8"))
    assert (settings["rl_beta"], settings["dpo_loss_weights"]) == (0.3, [1.0, 0.5])
    for key, split in (("datasets", "train"), ("test_datasets", "test")):
        (data,) = settings[key]
        assert data["path"] == f"{split}.jsonl"
        fields = {value for name, value in data.items() if name.startswith("field_")}
        assert fields <= set(rows_of(out, split)[0])


@pytest.mark.parametrize(("name", "plain"), FORMS)
def test_readme_has_the_command_and_no_model_text(name: str, plain: bool, tmp_path: Path) -> None:
    out = export(tmp_path, name, plain=plain, model={"path": "my-org/my-model"})
    text = (out / "README.md").read_text(encoding="utf-8")
    assert "not a heading" not in text and "| Spanish | 4 |" in text
    settings = "".join(file.read_text(encoding="utf-8") for file in out.glob("*.yaml"))
    assert "my-org/my-model" in text + settings or name == "parquet"
    for code in re.findall(r"```python\n(.*?)```", text, re.S):
        compile(code, "README.md", "exec")
    if name == "openrlhf":
        assert ("--data.apply_chat_template \\\n" in text) == (not plain)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("openrlhf", "--eval.dataset test.jsonl --eval.split train"),
        ("trl", 'eval_dataset=pairs["test"]'),
        ("nemo_rl", "path/to/this/folder/test.jsonl"),
    ],
)
def test_the_held_out_file_is_measured_on(name: str, words: str, tmp_path: Path) -> None:
    for count in (0, 1):
        out = export(tmp_path, name, training={"held_out": count})
        texts = [file.read_text(encoding="utf-8") for file in out.iterdir() if file.suffix in (".md", ".yaml")]
        assert (words in "".join(texts)) == bool(count)


def test_the_command_prints_counts_by_language(tmp_path: Path) -> None:
    make_run(tmp_path)
    arguments = ["export", str(tmp_path / "run"), "--format", "trl", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*arguments, "--iteration", "all", "--languages", "es, fr", "--plain"])
    assert done.exit_code == 0
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["es", "5", "train"],
        ["fr", "3", "train"],
        ["all", "8", "train"],
    ]
    assert rows_of(tmp_path / "out")[0]["prompt"] == "es: question 0"


# --- TRL itself; the other tools are in tools/test_exports.sh ---------------------------------------------------------


@pytest.mark.parametrize("plain", [True, False])
def test_trl_reads_it_and_trains_a_step(plain: bool, tmp_path: Path) -> None:
    from datasets import load_dataset
    from transformers import AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    from lidr.lab import MODEL_PATH

    out = export(tmp_path, plain=plain, training={"held_out": 1})
    data = load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    assert set(data) == {"train", "test"}
    arguments = DPOConfig(
        str(tmp_path / "trained"), max_steps=1, per_device_train_batch_size=2, bf16=False, use_cpu=True,
        report_to="none", save_strategy="no", loss_type=["sigmoid", "sft"], loss_weights=[1.0, 1.0],
    )  # fmt: skip
    trainer = DPOTrainer(str(MODEL_PATH), args=arguments, train_dataset=data["train"], eval_dataset=data["test"])
    tokenizer = AutoTokenizer.from_pretrained(MODEL_PATH)
    row, source = trainer.train_dataset[0], data["train"][0]
    prompt, chosen = tokenizer.decode(row["prompt_ids"]), tokenizer.decode(row["chosen_ids"])
    assert (SYSTEM in prompt) == ("<|im_start|>" in prompt) == (not plain)
    text = source["chosen"] if plain else source["chosen"][0]["content"]
    assert chosen.strip() == tokenizer.decode(tokenizer(text)["input_ids"]) + tokenizer.eos_token
    trainer.train()
    assert trainer.state.global_step == 1
