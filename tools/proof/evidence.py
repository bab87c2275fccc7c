"""From OUT of `run.py` to docs/evidence: what can be published, and a page.

python tools/proof/evidence.py OUT docs/evidence/NAME

The page has the tables, the tests, the settings, the costs, and 20 pairs and answers per language; questions appear by
their ids only, because they are not ours. Beside it are the recipes, results and reports of the runs.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lidr.config import Config
from lidr.report.findings import training_cost
from lidr.report.formatting import language_name, p_value
from lidr.report.log import digest_log
from lidr.results import Metric, Metrics, read_metrics
from lidr.run_dir import RunDir
from lidr.seals import read_rows
from lidr.statistics import MeanGain, Paired, compare_mean, compare_paired
from lidr.strategies.base import strategy_of

BENCHMARKS = {"msvamp": "MSVAMP", "mgsm": "MGSM"}
SAMPLES, REPEATED_WORDS = 20, 8
RUNS = {"lidr": "", "sft": "Multilingual Alignment (SFT)", "random": "sides drawn at random"}
_FILES = ("recipe.yaml", "results.json", "environment.json", "report.html", "report.md")


@dataclass(frozen=True, slots=True)
class Measured:
    """One model on one benchmark: metrics and scored rows by language."""

    name: str
    metrics: dict[str, Metrics]
    rows: dict[str, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Proof:
    """The runs that are there, by their folder's name, and what was measured, by benchmark, M0 first."""

    runs: dict[str, tuple[RunDir, Config]]
    measured: dict[str, list[Measured]]

    @property
    def config(self) -> Config:
        return self.runs["lidr"][1]


def read_proof(root: Path) -> Proof:
    runs = {name: RunDir.load(root / name) for name in RUNS if (root / name / "recipe.yaml").exists()}
    measured: dict[str, list[Measured]] = {}
    for name, (run, config) in runs.items():
        for iteration in range(config.iterations + 1):
            for benchmark in BENCHMARKS:
                folder = run.evaluation(iteration, benchmark)
                if (folder / "metrics.json").exists() and (iteration or name == "lidr"):
                    rows = {path.stem: list(read_rows(path)) for path in sorted(folder.glob("??.jsonl"))}
                    title = RUNS[name] or f"M{iteration}"
                    found = Measured(title, read_metrics(run, iteration, benchmark), rows)
                    measured.setdefault(benchmark, []).append(found)
    return Proof(runs, measured)


def last_model(models: list[Measured]) -> Measured:
    """M_T of our own run."""
    return [model for model in models if model.name.startswith("M") and model.name[1:].isdigit()][-1]


# --- tables -----------------------------------------------------------------------------------------------------------


def share_table(models: list[Measured], name: str) -> str:
    """One row per model, one column per language, percent with the 95 % interval (Wilson)."""
    languages = list(models[0].metrics)
    lines = [f"| model | {' | '.join(languages)} |", "| --- |" + " ---: |" * len(languages)]
    for model in models:
        cells = [_percent(model.metrics[code].metric(name)) for code in languages]
        lines.append(f"| {model.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _percent(metric: Metric | None) -> str:
    if metric is None or metric.value is None or metric.interval is None:
        return "–"
    low, high = (100 * bound for bound in metric.interval)
    return f"{100 * metric.value:.1f} ({low:.1f} to {high:.1f})"


def _share(model: Measured, code: str) -> float:
    return model.metrics[code].value("accuracy") or 0.0


def _p(value: float | None) -> str:
    return "–" if value is None else p_value(value)


def gains(proof: Proof, models: list[Measured]) -> list[tuple[str, MeanGain, dict[str, Paired]]]:
    """For every model but M0: its name, the mean gain over the trained languages, and McNemar's test by language."""
    trained, found = proof.config.non_dominant, []
    before = models[0].rows
    for model in models[1:]:
        mean = compare_mean({code: before[code] for code in trained}, {code: model.rows[code] for code in trained})
        assert mean is not None  # all models are asked the same questions
        found.append(
            (model.name, mean, {code: compare_paired(before[code], model.rows[code]) for code in model.metrics})
        )
    return found


def gain_table(found: list[tuple[str, MeanGain, dict[str, Paired]]]) -> str:
    languages = list(found[0][2])
    lines = [
        f"| M0 → | mean of the trained languages | {' | '.join(languages)} |",
        "| --- |" + " --- |" * (len(languages) + 1),
    ]
    for name, mean, tests in found:
        cells = [f"+{test.only_after} −{test.only_before}, {_p(test.p)}" for test in tests.values()]
        lines.append(f"| {name} | {points(mean)}, {p_value(mean.p)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def points(mean: MeanGain) -> str:
    """A gain in percentage points with its interval."""
    low, high = (100 * bound for bound in mean.interval)
    return f"{100 * mean.gain:+.1f} ({low:+.1f} to {high:+.1f})"


def pair_table(proof: Proof) -> str:
    """Pairs and drops of every iteration."""
    lines = ["| run | iteration | pairs | dropped |", "| --- | --- | --- | --- |"]
    for name, (run, _) in proof.runs.items():
        for row in _iterations(run):
            cells = (", ".join(f"{key} {value}" for key, value in row[field].items()) for field in ("pairs", "dropped"))
            lines.append(f"| {name} | {row['iteration']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cost_table(proof: Proof) -> str:
    """What every stage of every iteration took, by the log; what a baseline took over is not listed again."""
    lines = ["| run | iteration | stage | rows | tokens | minutes | tokens/s |", "| --- |" + " ---: |" * 6]
    trainings = []
    for name, (run, _) in proof.runs.items():
        log = digest_log(run.read_log())
        for (iteration, stage), work in sorted(log.work.items()):
            tokens, speed = (f"{work.tokens:,}", f"{work.tokens / work.seconds:,.0f}") if work.tokens else ("", "")
            cells = [name, iteration, stage, f"{work.rows:,}", tokens, f"{work.seconds / 60:,.1f}", speed]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
        trainings += [f"- Training, {name} M{number}: {training_cost(cost)}" for number, cost in log.costs.items()]
        trainings += [f"- {_kept(name, row)}" for row in _iterations(run) if row.get("saved")]
    return "\n".join([*lines, "", *trainings])


def _iterations(run: RunDir) -> list[dict[str, Any]]:
    path = run.path / "results.json"
    return json.loads(path.read_text(encoding="utf-8"))["iterations"] if path.exists() else []


def _kept(name: str, row: dict[str, Any]) -> str:
    """What training gained on some of its pairs, and what the saved model has of it."""
    saved = row["saved"]
    what = "Mean margin" if saved["measure"] == "margin" else "Mean log-probability of the chosen answer, gained"
    return (
        f"{what}, {saved['pairs']} pairs, {name} M{row['iteration']}: {saved['trained']:.2f} as trained, "
        f"{saved['saved']:.2f} as saved and loaded ({saved['loaded']})"
    )


# --- texts to read ----------------------------------------------------------------------------------------------------


def sample_pairs(proof: Proof) -> dict[str, list[dict[str, Any]]]:
    """Pairs by language, drawn by a seed from those whose sides do not repeat their prompt."""
    run, config = proof.runs["lidr"]
    return {
        code: _draw(
            {key: row[key] for key in ("prompt_id", "chosen", "rejected")}
            for row in read_rows(run.pairs(1, code))
            if not any(repeats(row["prompt"], row[side]) for side in ("chosen", "rejected"))
        )
        for code in config.languages
        if run.pairs(1, code).exists()
    }


def sample_answers(proof: Proof, benchmark: str, prompts: dict[str, dict[str, str]]) -> dict[str, list[dict[str, Any]]]:
    """Questions that only one of M0 and the last model has right, with both answers, drawn by a seed.

    `prompts` has the questions, by language and id.
    """
    models = proof.measured[benchmark]
    first, last = models[0], last_model(models)
    found = {}
    for code, rows in first.rows.items():
        after = {row["question_id"]: row for row in last.rows[code]}
        asked = prompts[code]
        found[code] = _draw(
            {
                "question_id": row["question_id"], "gold": row["gold"], "M0": row["text"],
                "M0_right": row["correct"], last.name: after[row["question_id"]]["text"],
            }
            for row in rows
            if row["correct"] != after[row["question_id"]]["correct"]
            and not repeats(asked[row["question_id"]], row["text"])
            and not repeats(asked[row["question_id"]], after[row["question_id"]]["text"])
        )  # fmt: skip
    return found


def _draw(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """`SAMPLES` rows drawn by a seed, in their order."""
    given = list(rows)
    drawn = random.Random(42).sample(range(len(given)), min(SAMPLES, len(given)))
    return [given[number] for number in sorted(drawn)]


def repeats(prompt: str, answer: str) -> bool:
    """Whether an answer has a run of words in common with its prompt, which is not ours to publish."""
    asked, said = prompt.split(), f" {' '.join(answer.split())} "
    runs = (" ".join(asked[start : start + REPEATED_WORDS]) for start in range(len(asked) - REPEATED_WORDS + 1))
    return any(f" {run} " in said for run in runs)


# --- the page ---------------------------------------------------------------------------------------------------------


def headline(proof: Proof) -> str:
    """What was gained, on what, at what cost, in a sentence or two that need no other."""
    models = proof.measured["msvamp"]
    trained, dominant = proof.config.non_dominant, proof.config.dominant
    last = last_model(models)
    _, mean, tests = next(found for found in gains(proof, models) if found[0] == last.name)
    before, after = (100 * sum(_share(model, code) for code in trained) / len(trained) for model in (models[0], last))
    english = [100 * _share(model, dominant) for model in (models[0], last)]
    run = proof.runs["lidr"][0]
    hours = sum(work.seconds for work in digest_log(run.read_log()).work.values()) / 3600
    low, high = mean.interval
    verdict = "beyond noise" if low > 0 else "worse, beyond noise" if high < 0 else "within noise"
    languages, english_name = ", ".join(map(language_name, trained)), language_name(dominant)
    return (
        f"A model of half a billion parameters taught itself arithmetic in {languages} with its own answers to "
        f"{proof.config.prompt_source.limit} questions, of which it preferred "
        f"{strategy_of(proof.config).chosen_in_words()}: of MSVAMP's questions it solves {after:.1f} % after "
        f"{before:.1f} % (points: {points(mean)}, {verdict}), and in {english_name} {english[1]:.1f} % after "
        f"{english[0]:.1f} % ({_p(tests[dominant].p)}). Nobody told it a right answer. It took {hours:.1f} "
        f"hours on {_machine(run)}, with the measuring."
    )


def _machine(run: RunDir) -> str:
    environment = json.loads((run.path / "environment.json").read_text(encoding="utf-8"))
    return "; ".join(environment["gpus"]) or f"{environment['cpus']} CPU cores ({environment['processor']})"


def benchmark_section(proof: Proof, benchmark: str) -> str:
    models = proof.measured[benchmark]
    count = next(iter(models[0].metrics.values())).count("n")
    parts = [
        f"## {BENCHMARKS[benchmark]}, the first {count} questions in every language",
        "Accuracy in percent, with Wilson's 95 % interval.",
        share_table(models, "accuracy"),
        "Accuracy that counts only answers in the question's language.",
        share_table(models, "accuracy_on_target"),
        "Answers in another language than the question's.",
        share_table(models, "off_target"),
        "Answers without a line in another language (line-level pass rate).",
        share_table(models, "lpr"),
    ]
    if len(models) > 1:
        parts += [
            "Gains over M0. Mean: percentage points, bootstrap interval and sign-flip test over the questions. "
            "Languages: questions that only the later model (+) or only M0 (−) has right, and McNemar's exact test; "
            "not corrected for their number.",
            gain_table(gains(proof, models)),
        ]
    return "\n\n".join(parts)


def page(proof: Proof, title: str) -> str:
    run, config = proof.runs["lidr"]
    environment = json.loads((run.path / "environment.json").read_text(encoding="utf-8"))
    versions = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    parts = [
        f"# {title}",
        headline(proof),
        f"Trained: {', '.join(config.languages)}. Greedy decoding, seed {config.seed}. Python {environment['python']}, "
        f"{versions}. `lidr/recipe.yaml` has every setting; `tools/proof/README.md` has the commands.",
        *(benchmark_section(proof, name) for name in proof.measured),
        "## Pairs",
        pair_table(proof),
        "## Cost",
        cost_table(proof),
        "## To be read",
        f"`pairs/` has up to {SAMPLES} pairs per language, `answers/` as many questions that M0 and the last model do "
        "not both have right or wrong; they were drawn by a seed from those whose texts do not repeat the question. "
        "`right.json` has one digit per question and model, 1 for a right answer, in their order, so that "
        "every test can be done again. A folder per run has its recipe, results and report.",
    ]
    return "\n\n".join(parts) + "\n"


def write(root: Path, out: Path) -> None:
    """All of it."""
    proof = read_proof(root)
    for name, (run, _) in proof.runs.items():
        (out / name).mkdir(parents=True, exist_ok=True)
        for file in _FILES:
            if (run.path / file).exists():
                shutil.copy(run.path / file, out / name / file)
    for code, rows in sample_pairs(proof).items():
        write_rows(out / "pairs" / f"{code}.jsonl", rows)
    for benchmark in proof.measured:
        for code, rows in sample_answers(proof, benchmark, _questions(proof, benchmark)).items():
            write_rows(out / "answers" / benchmark / f"{code}.jsonl", rows)
    right = {
        benchmark: {
            model.name: {code: "".join(str(int(row["correct"])) for row in rows) for code, rows in model.rows.items()}
            for model in models
        }
        for benchmark, models in proof.measured.items()
    }
    (out / "right.json").write_text(json.dumps(right, indent=1) + "\n", encoding="utf-8")
    (out / "README.md").write_text(page(proof, out.name), encoding="utf-8")


def _questions(proof: Proof, benchmark: str) -> dict[str, dict[str, str]]:
    from lidr.benchmarks.mgsm import MgsmBenchmark

    settings = proof.config.evaluation.benchmarks[benchmark]
    asked = MgsmBenchmark(**settings.model_dump(), name=benchmark).read_questions()
    return {code: {question.question_id: question.prompt for question in rows} for code, rows in asked.items()}


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
    print(Path(sys.argv[2]) / "README.md")
