"""What can be added from outside the package, as docs/extending.md has it: one file, no other edit."""

from __future__ import annotations

import json
import re
import sys
from contextlib import nullcontext
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from lidr import loop, plugins
from lidr.commands.plan.plan import make_plan
from lidr.commands.prompts.translators import open_translator
from lidr.commands.prompts.translators.base import Piece
from lidr.config import Config, JudgeConfig, dump_config, load_config
from lidr.engines.base import Completion
from lidr.errors import ConfigError
from lidr.judges import Comparison, Reply, compare, judge_identity, open_judge
from lidr.lab import MODEL_PATH
from lidr.languages.identification import LanguageIdentifier
from lidr.replacing import open_run
from lidr.run_dir import RunDir
from lidr.seals import read_rows
from lidr.status import run_status
from lidr.strategies.base import strategy_of
from tests.conftest import ToyRun, make_config

PAGE = (Path(__file__).parents[1] / "docs/extending.md").read_text(encoding="utf-8")
CODE: dict[str, str] = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", PAGE, re.S))
SMALL = ["languages=[en, es, ru]", "prompts.limit=12", "pairs.minimum=1", "iterations=1", "isolation=process",
         "pairs.max_fault_share=1", "evaluation.benchmarks.lab.languages=[en, es, ru]"]  # fmt: skip


@pytest.fixture
def longest(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(CODE["longest"], encoding="utf-8")
    return file


def test_a_strategy_in_a_file_of_its_own_runs_in_child_processes(longest: Path, tmp_path: Path) -> None:
    strategy = f"pairs.strategy={{type: '{longest}:Longest', samples: 2}}"
    config = load_config("quickstart", [*SMALL, strategy])
    run = open_run(config, tmp_path / "run", print)
    loop.run(config, run)
    pairs = run.path / "iteration_1/4_pairs"
    assert "all_alike" in (pairs / "summary.json").read_text(encoding="utf-8")
    assert (run.path / "iteration_1/5_model").is_dir() and not (run.path / "iteration_1/3_translations").exists()
    longest.unlink()  # the run has kept it
    loaded, again = RunDir.load(run.path)
    assert {state for _, _, state, _ in run_status(again, loaded)} == {"done"}
    report = (run.path / "report.md").read_text(encoding="utf-8")
    assert "All answers have the same length." in report
    record = (run.path / "reproducibility.md").read_text(encoding="utf-8")
    assert "The longest answer is preferred to the shortest." in record and "k = 1 ... 2" in record


def test_a_strategy_that_scores_its_samples_under_two_models(tmp_path: Path) -> None:
    """The reward of arXiv 2503.04647: how much likelier training has made an answer, given the dominant prompt."""
    file = tmp_path / "implicit.py"
    file.write_text(CODE["implicit"], encoding="utf-8")
    strategy = f"pairs.strategy={{type: '{file}:ImplicitReward'}}"
    config = load_config("quickstart", [*SMALL[:-1], "iterations=2", "evaluation.benchmarks.lab=null", strategy])
    run = open_run(config, tmp_path / "run", print)
    loop.run(config, run)
    found = [sorted(path.stem for path in run.path.glob(f"iteration_{n}/3_scores/*.jsonl")) for n in (1, 2)]
    assert found == [["M0"], ["M0", "M1"]]
    rows = [json.loads(line) for line in run.scores(2, "M1").read_text(encoding="utf-8").splitlines()]
    assert (
        len(rows) == 12 * 3 * 4
        and {row["given"] for row in rows} == {"en"}
        and {row["sample"] for row in rows} == {0, 1, 2, 3}
    )
    before = {(row["prompt_id"], row["origin"], row["sample"]): row for row in read_rows(run.scores(2, "M0"))}
    rewards = {key: row["logp"] - before[key]["logp"] - 0.01 * row["tokens"] for row in rows
               if (key := (row["prompt_id"], row["origin"], row["sample"])) in before}  # fmt: skip
    for code in ("en", "es", "ru"):
        for pair in read_rows(run.pairs(2, code)):
            own = [rewards[pair["prompt_id"], code, sample] for sample in range(4)]
            assert (pair["chosen_score"], pair["rejected_score"]) == (max(own), min(own)) and pair["kind"] == "implicit"
    assert {state for _, _, state, _ in run_status(config, run)} == {"done"}
    assert [stage for number, stage, _, _ in run_status(config, run) if number == "2"][2:4] == ["scores", "pairs"]
    assert "All implicit" in (run.path / "report.md").read_text(encoding="utf-8")


def test_its_settings_are_in_the_recipe_and_its_source_among_the_inputs(
    longest: Path, toy_run: ToyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_with({"type": f"{longest}:Longest", "least": 5}, toy_run.prompts)
    assert strategy_of(config).least == 5  # type: ignore[attr-defined]
    recipe = toy_run.prompts.parent / "again.yaml"
    recipe.write_text(dump_config(config), encoding="utf-8")
    assert load_config(recipe) == config
    toy_run.run("prompts", "responses", "pairs", config=config)
    assert loop.STAGES["pairs"].outputs(config, toy_run.run_dir, 1)[0][1]["pairs"]["strategy"]["source"]

    longest.write_text(CODE["longest"] + "# changed\n", encoding="utf-8")
    changed = config_with({"type": f"{longest}:Longest", "least": 5}, toy_run.prompts)
    assert loop.step("pairs", changed, toy_run.run_dir, 1, 0)
    assert "pairs: regenerated because pairs.strategy.source changed" in capsys.readouterr().err


def config_with(strategy: Any, prompts: Path) -> Config:
    return make_config(prompts, pairs={"strategy": strategy})


def test_a_strategy_of_another_package_has_a_name(longest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(longest.parent)
    point = EntryPoint("longest", "mine:Longest", "lidr.strategies")
    monkeypatch.setattr(plugins.metadata, "entry_points", lambda **wanted: [point][: wanted.get("name") != "other"])
    config = config_with("longest", Path("prompts"))
    assert config.model_dump()["pairs"]["strategy"]["type"] == "longest" and strategy_of(config).source
    with pytest.raises(ConfigError, match=r"there is no other; use anchored or .* or longest or path/file.py:Name"):
        plugins.load("strategies", "other")
    sys.modules.pop("mine")


@pytest.mark.parametrize(
    ("content", "name", "says"),
    [
        (None, "Mine", "no such file"),
        ("import nothing_like_this", "Mine", r"cannot be run \(ModuleNotFoundError"),
        ("Mine = 3", "Mine", "it is not a class made of"),
        ("x = 3", "Mine", "it has no Mine"),
        ("from lidr.strategies.base import Strategy as Mine", "Mine", "it has no candidates"),
        ("from lidr.judges.standard import Standard as Mine", "Mine", "it is not a class made of"),
        ("import sys; sys.exit(3)", "Mine", r"cannot be run \(SystemExit"),
        ("x = 3", "", "write it as path/file.py:Name"),
    ],
)
def test_what_is_no_strategy_is_said(content: str | None, name: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=says):
        plugins.load("strategies", f"{file}:{name}" if name else str(file))


def test_a_benchmark_in_a_file_of_its_own_is_measured_planned_and_shown(tmp_path: Path) -> None:
    file = tmp_path / "counting.py"
    file.write_text(CODE["counting"], encoding="utf-8")
    own = f"evaluation.benchmarks.counting={{type: '{file}:Counting', step: 2, limit: 3}}"
    config = load_config("quickstart", [*SMALL, own, "evaluation.benchmarks.lab=null", "prompts.limit=36"])
    plan = make_plan(config, None, tmp_path / "run")
    assert "counting: 3 questions in each language, by its own estimate" in str(plan.assumptions)
    run = open_run(config, tmp_path / "run", print)
    loop.run(config, run)
    results = json.loads(run.results.read_text(encoding="utf-8"))
    assert [model["benchmarks"]["counting"]["es"]["n"] for model in results["models"]] == [3, 3]
    assert "counting" in (run.path / "report.md").read_text(encoding="utf-8")
    rows = (run.path / "iteration_0/6_evaluation/counting/ru.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(rows[0])["gold"] == "2"

    made_from = loop.STAGES["evaluation"].outputs(config, run, 0)
    assert loop.is_sealed(*made_from[0])
    file.write_text(CODE["counting"] + "# changed\n", encoding="utf-8")
    assert not loop.is_sealed(*loop.STAGES["evaluation"].outputs(load_config(run.recipe), run, 0)[0])


@pytest.mark.parametrize(("name", "says"), [("mgsm", "not like a built-in one"), ("two words", "letters, digits"),
                                            ("own", "not own")])  # fmt: skip
def test_a_benchmark_of_ones_own_has_a_name_of_its_own(name: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "counting.py"
    file.write_text(CODE["counting"], encoding="utf-8")
    with pytest.raises(ConfigError, match=says):
        load_config("quickstart", [f"evaluation.benchmarks.own={{{name}: '{file}:Counting'}}"])


@pytest.fixture
def echo(tmp_path: Path) -> Path:
    file = tmp_path / "echo.py"
    file.write_text(CODE["echo"], encoding="utf-8")
    return file


def test_an_engine_in_a_file_of_its_own_answers_in_child_processes(echo: Path, tmp_path: Path) -> None:
    engine = f"engine={{type: '{echo}:Echo', greeting: Hello}}"
    config = load_config("quickstart", ["iterations=0", "isolation=process", "prompts.limit=4", engine])
    plan = make_plan(config, None, tmp_path / "run")
    assert plan.steps[0].requests and not plan.problems
    run = open_run(config, tmp_path / "run", print)
    loop.run(config, run)
    rows = [json.loads(line) for line in (run.path / "iteration_0/6_evaluation/lab/es.jsonl").open(encoding="utf-8")]
    assert rows and all(row["text"].startswith("Hello ") for row in rows)
    assert load_config(run.recipe) == config
    fingerprint = run.model(config, 0).fingerprint
    other = load_config("quickstart", ["iterations=0", f"engine={{type: '{echo}:Echo', greeting: Bye}}"])
    assert run.model(other, 0).fingerprint != fingerprint


def test_what_an_engine_of_ones_own_needs_is_looked_for_first(echo: Path, tmp_path: Path) -> None:
    settings = ["iterations=0", f"engine={{type: '{echo}:Echo', needs: '{tmp_path}/nothing'}}"]
    config = load_config("quickstart", settings)
    with pytest.raises(ConfigError, match=r"engine.needs: there is no"):
        loop.run(config, open_run(config, tmp_path / "run", print))


def test_a_name_that_no_engine_has_is_refused_with_those_that_there_are(echo: Path) -> None:
    with pytest.raises(ConfigError, match="engine: there is no nonsense; use openai or ray or transformers or vllm"):
        load_config("quickstart", ["engine={type: nonsense}"])
    with pytest.raises(ConfigError, match=r"engine.greting: no such field; did you mean greeting"):
        load_config("quickstart", [f"engine={{type: '{echo}:Echo', greting: Hello}}"])


def test_a_judges_protocol_in_a_file_of_its_own_asks_and_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "strict.py"
    file.write_text(CODE["one_word"], encoding="utf-8")
    asked: list[str] = []

    class Server:
        def generate(self, requests: Any, sampling: Any, done: Any) -> Any:
            for request in requests:
                asked.append(request.messages[-1][1])
                longer_first = asked[-1].index("a long") < asked[-1].index("short")
                text = "7" if "points" in asked[-1] else "first" if longer_first else "second"
                yield Completion(request.request_id, text, "stop", 1, 1)

        def close(self) -> None:
            pass

    monkeypatch.setattr("lidr.judges.base.open_model", lambda *_: nullcontext(Server()))
    config = JudgeConfig.model_validate({"model": str(MODEL_PATH), "protocol": f"{file}:OneWord"})
    items = [Comparison("q", "en", "Say something.", "a long answer to it", "short")]
    with open_judge(config, tmp_path / "replies.sqlite", tmp_path / "models.json") as judge:
        [verdict], _ = compare(judge, items, LanguageIdentifier(["en", "es"]), "test")
        assert (verdict.outcome, verdict.shown_first, verdict.shown_second) == ("win", 1.0, 1.0)
        monkeypatch.setattr(type(judge.protocol), "read_points", lambda self, reply: 55.0)
        with pytest.raises(ConfigError, match=r"OneWord: read_points fails \(ValueError: it gave 55.0"):
            judge.points(Reply("55", (), 1, 1))
    assert [text.startswith("Which is better, first or second?") for text in asked] == [True, True]
    # Its replies cost money, so they are kept if only the reading changes.
    cache = tmp_path / "models.json"
    assert judge_identity(JudgeConfig(model=str(MODEL_PATH)), cache) == judge_identity(config, cache)


RAISES = """
from lidr.strategies.base import Draws
from lidr.strategies.imbalance import Imbalance


class Raises(Imbalance):
    fault: str = ""

    def draws(self, config):
        return Draws(0 if self.fault == "draws" else 1, config.responses)

    def candidates(self, answers, config):
        for found in super().candidates(answers, config):
            yield found.nothing if self.fault == "candidates" else found
"""


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("draws", r"draws fails \(ValueError: 0 samples"),
        ("candidates", r"candidates fails \(AttributeError: .* line 14\)"),
    ],
)
def test_what_a_strategy_of_ones_own_raises_names_it(fault: str, says: str, toy_run: ToyRun) -> None:
    file = toy_run.prompts.parent / "raises.py"
    file.write_text(RAISES, encoding="utf-8")
    config = config_with({"type": f"{file}:Raises", "fault": fault}, toy_run.prompts)
    with pytest.raises(ConfigError, match=rf"raises.py:Raises: {says}"):
        toy_run.run("prompts", "responses", "translations", "pairs", config=config)


def test_a_changed_strategy_asks_for_its_translations_again(toy_run: ToyRun) -> None:
    file = toy_run.prompts.parent / "raises.py"
    file.write_text(RAISES, encoding="utf-8")
    config = config_with(f"{file}:Raises", toy_run.prompts)
    toy_run.run("prompts", "responses", config=config)
    before = loop.STAGES["translations"].outputs(config, toy_run.run_dir, 1)
    file.write_text(RAISES + "# changed\n", encoding="utf-8")
    changed = config_with(f"{file}:Raises", toy_run.prompts)
    assert loop.STAGES["translations"].outputs(changed, toy_run.run_dir, 1) != before
    plain = make_config(toy_run.prompts)
    assert loop.STAGES["translations"].outputs(plain, toy_run.run_dir, 1)[0][1]["strategy"] is None


def test_a_benchmark_that_needs_a_judge_says_so(tmp_path: Path) -> None:
    file = tmp_path / "judged.py"
    file.write_text(CODE["counting"].replace("step: Pos", "judged = True\n    step: Pos"), encoding="utf-8")
    with pytest.raises(ConfigError, match="counting needs a judge"):
        load_config("quickstart", [f"evaluation.benchmarks.own={{counting: '{file}:Counting'}}"])


def test_a_format_and_a_translator_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        """
from lidr.commands.export.formats.base import ExportFormat
from lidr.commands.prompts.translators.base import Offer, TranslatorPlugin
class Lines(ExportFormat):
    title = "Lines"
    def columns(self, item, plain): return {"line": item.pair.chosen}
    def usage(self, export): return "cat train.jsonl"
class Shout(TranslatorPlugin):
    mark: str = "!"
    def open(self): return Shouting(self.mark)
class Shouting:
    cuts, usd_per_million_characters = ("whole", "paragraphs"), None
    def __init__(self, mark): self.mark, self.identity = mark, {"mark": mark}
    def translate(self, pieces, source, target, retry, done=frozenset()):
        yield from (Offer(piece.key, piece.text.upper() + self.mark) for piece in pieces if piece.key not in done)
    def close(self): pass
""",
        encoding="utf-8",
    )
    assert plugins.load("exports", f"{tmp_path / 'mine.py'}:Lines")[0]().file_name("train") == "train.jsonl"  # type: ignore[attr-defined]
    translator = open_translator(f"{tmp_path / 'mine.py'}:Shout", {"model": None}, set_=["mark='?'"])
    assert [offer.text for offer in translator.translate([Piece("1", "Who")], "en", "es", False)] == ["WHO?"]
    with pytest.raises(ConfigError, match="it has no setting model; it has mark"):
        open_translator(f"{tmp_path / 'mine.py'}:Shout", {"model": "m"})
