"""From OUT/evidence.tar.gz of `run.py`, or a run of `lidr run`, to docs/evidence: what can be published, and a page.

python tools/proof/evidence.py OUT/evidence.tar.gz|RUN docs/evidence/NAME

Recipes, results, measurements, pair summaries, the reports with their figures, MGSM's verdicts question by question,
and 50 sampled pairs per language and iteration, whose prompts stand there by id only: the questions are not ours.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from lidr.benchmarks.statistics import compare_paired
from lidr.reporting.findings import training_cost
from lidr.reporting.log import digest_log
from lidr.run_dir import RunDir, read_rows
from lidr.stages.evaluation import read_metrics

RECIPE, BASELINE = "qwen2.5-0.5b-math", "qwen2.5-0.5b-math-sft"
SAMPLES = 50
_SIDES = ("chosen", "rejected")
_FILES = ("recipe.yaml", "results.json", "metrics.jsonl", "environment.json", "report.html", "report.md",
          "reproducibility.md")  # fmt: skip
_LABELS = {"sft": "Multilingual Alignment (SFT)"}


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def copy_run(run: Path, out: Path) -> None:
    """The files of a run that hold no prompt, and its samples."""
    out.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        if (run / name).exists():
            shutil.copy(run / name, out / name)
    for pairs in sorted(run.glob("iteration_*/4_pairs")):
        iteration = pairs.parent.name
        if (pairs / "summary.json").exists():
            shutil.copy(pairs / "summary.json", out / f"{iteration}_pairs.json")
        for file in sorted(pairs.glob("??.jsonl")):
            if samples := sample_pairs(file):
                write_rows(out / f"{iteration}_samples" / file.name, samples)


def sample_pairs(file: Path) -> list[dict[str, Any]]:
    """Pairs drawn by a seed, without the text of their prompts; those whose answers repeat the prompt are left out."""
    rows = [row for row in read_rows(file) if not any(repeats(row["prompt"], row[side]) for side in _SIDES)]
    drawn = random.Random(42).sample(range(len(rows)), min(SAMPLES, len(rows)))
    return [{name: value for name, value in rows[number].items() if name != "prompt"} for number in sorted(drawn)]


def repeats(prompt: str, answer: str, words: int = 8) -> bool:
    """Whether an answer has a run of so many words in common with its prompt, which is not ours to publish."""
    asked, said = prompt.split(), f" {' '.join(answer.split())} "
    runs = (" ".join(asked[start : start + words]) for start in range(len(asked) - words + 1))
    return any(f" {run} " in said for run in runs)


def open_runs(root: Path) -> dict[str, Path]:
    """Run directories by their name in the evidence: of `run.py` the recipe's and the baseline's, else just one."""
    if (root / "recipe.yaml").exists():
        return {"run": root}
    return {name: root / recipe for name, recipe in (("math", RECIPE), ("baseline", BASELINE))}


def models(runs: dict[str, Path]) -> dict[str, tuple[Path, int]]:
    """The measured models, in the order M0, M1, M2, baseline: the run and the iteration."""
    found: dict[str, tuple[Path, int]] = {}
    for name, run in runs.items():
        for file in sorted(run.glob("iteration_*/6_evaluation/mgsm/metrics.json")):
            number = int(file.parts[-4].removeprefix("iteration_"))
            found.setdefault("sft" if name == "baseline" and number else f"M{number}", (run, number))
    return found


def verdicts(run: Path, iteration: int) -> dict[str, list[dict[str, Any]]]:
    """MGSM's scored rows by language."""
    return {
        file.stem: list(read_rows(file)) for file in sorted(RunDir(run).evaluation(iteration, "mgsm").glob("??.jsonl"))
    }


def table(metrics: dict[str, dict[str, Any]], field: str, interval: str) -> str:
    """Markdown: one row per model, one column per language, percent with the 95 % interval."""
    languages = list(next(iter(metrics.values())))
    lines = ["| model | " + " | ".join(languages) + " | mean |", "| --- |" + " --- |" * (len(languages) + 1)]
    for name, by_language in metrics.items():
        cells = [_cell(by_language[code], field, interval) for code in languages]
        mean = sum(by_language[code][field] for code in languages) / len(languages)
        lines.append(f"| {_LABELS.get(name, name)} | " + " | ".join(cells) + f" | {100 * mean:.1f} |")
    return "\n".join(lines)


def _cell(found: dict[str, Any], field: str, interval: str) -> str:
    low, high = (100 * value for value in found[interval])
    return f"{100 * found[field]:.1f} ({low:.1f} to {high:.1f})"


def tests(rows: dict[str, dict[str, list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """McNemar's exact test of every other model against M0, by language, and against one another."""
    against = [("M0", "M1"), ("M0", "M2"), ("M0", "sft"), ("M1", "M2"), ("sft", "M1"), ("sft", "M2")]
    return [
        {"before": before, "after": after, "language": code, **compare_paired(rows[before][code], rows[after][code])}
        for before, after in against
        if before in rows and after in rows
        for code in rows[before]
    ]


def test_table(found: list[dict[str, Any]]) -> str:
    languages = list(dict.fromkeys(row["language"] for row in found))
    lines = ["| from → to | " + " | ".join(languages) + " |", "| --- |" + " --- |" * len(languages)]
    for pair in dict.fromkeys((row["before"], row["after"]) for row in found):
        by_language = {row["language"]: row for row in found if (row["before"], row["after"]) == pair}
        cells = [f"+{row['only_after']} −{row['only_before']}, p {row['p']:.2g}" for row in by_language.values()]
        lines.append(f"| {pair[0]} → {pair[1]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def iterations(runs: dict[str, Path]) -> str:
    """Markdown: pairs and drops of every iteration."""
    lines = ["| run | iteration | pairs | dropped | seconds |", "| --- | --- | --- | --- | --- |"]
    for name, run in runs.items():
        path = run / "results.json"
        for row in json.loads(path.read_text(encoding="utf-8"))["iterations"] if path.exists() else []:
            cells = (_listed(row[field]) for field in ("pairs", "dropped", "seconds"))
            lines.append(f"| {name} | {row['iteration']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def costs(runs: dict[str, Path]) -> str:
    """Markdown: what every stage of every iteration took, from the log."""
    lines = ["| run | iteration | stage | rows | tokens | seconds | tokens/s |", "|" + " --- |" * 7]
    trainings = []
    for name, run in runs.items():
        log = digest_log(RunDir(run).read_log())
        for (iteration, stage), work in sorted(log.work.items()):
            tokens, speed = (f"{work.tokens:,}", f"{work.tokens / work.seconds:,.0f}") if work.tokens else ("", "")
            cells = [name, iteration, stage, f"{work.rows:,}", tokens, f"{work.seconds:,.1f}", speed]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
        trainings += [f"- Training, {name} {number}: {training_cost(cost)}" for number, cost in log.costs.items()]
    return "\n".join([*lines, "", *trainings])


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def tried(root: Path) -> str:
    """Markdown: what `--try` tried on held-out questions, or nothing."""
    if not (root / "tuning.json").exists():
        return ""
    rows = json.loads((root / "tuning.json").read_text(encoding="utf-8"))
    named = {", ".join(row["setting"]): row["languages"] for row in rows}
    return f"""
## Settings tried, on training questions that no pair was made of, accuracy in percent

{table(named, "accuracy", "ci95")}
"""


def asked_english(root: Path) -> str:
    """A line on the English questions where `run.py` made them, or nothing."""
    times = list(read_rows(root / "timetable.jsonl")) if (root / "timetable.jsonl").exists() else []
    made = next((row for row in times if row["what"] == "English prompts"), None)
    if made is None:
        return ""
    return f"""- English questions are the model's own translations from Spanish: {made["translated"]} made, set aside
  {_listed(made["aside"]) or "none"}.
- Seconds from the start to the end: {times[-1]["seconds"]:.0f}, to `{times[-1]["what"]}`.
"""


def page(root: Path, runs: dict[str, Path], metrics: dict[str, dict[str, Any]], found: list[dict[str, Any]]) -> str:
    """README.md of the evidence."""
    first = next(iter(runs.values()))
    environment = json.loads((first / "environment.json").read_text(encoding="utf-8"))
    recipe = yaml.safe_load((first / "recipe.yaml").read_text(encoding="utf-8"))
    unseen = [code for code in next(iter(metrics.values())) if code not in recipe["languages"]]
    versions = ", ".join(f"{name} {value}" for name, value in environment["packages"].items())
    return f"""# {recipe["name"]}

{recipe["description"]}

Dominant language {recipe["dominant"]}; trained: {", ".join(recipe["languages"])}; measured but
not trained: {", ".join(unseen) or "none"}. Greedy decoding, seed {environment["seed"]}.

- Hardware: {"; ".join(environment["gpus"]) or environment["processor"]}, {environment["cpus"]} CPU cores.
- Software: Python {environment["python"]}, {versions}.
{asked_english(root)}
## MGSM, accuracy in percent (95 % interval, Wilson)

{table(metrics, "accuracy", "ci95")}

## Answers in another language than the question's, in percent (95 % interval)

{table(metrics, "off_target", "ci95_off_target")}

## McNemar's exact test, per language, not corrected for their number

Questions that only the later model has right (+), that only the earlier one has (−), and p.

{test_table(found)}
{tried(root)}
## Pairs

{iterations(runs)}

## Cost

Seconds of processes that worked side by side are summed up.

{costs(runs)}

## Files

In {" and ".join(f"`{name}/`" for name in runs)}: recipe, results, metrics, environment, report with figures, pair
summaries and up to {SAMPLES} pairs per language drawn by a seed, of those whose answers do not repeat the prompt, with
the prompts' ids (row numbers of the GSM8K training questions). `verdicts/`: every answer's number, gold and verdict.
`tests.json`: the table above.
"""


@contextmanager
def opened(source: Path) -> Iterator[Path]:
    """The folder behind an archive of `run.py`, or a run directory as it is."""
    if source.is_dir():
        yield source
        return
    with tempfile.TemporaryDirectory() as folder, tarfile.open(source) as tar:
        tar.extractall(folder, filter="data")
        yield Path(folder)


def write(root: Path, out: Path) -> None:
    """All of it."""
    runs = open_runs(root)
    for name, run in runs.items():
        copy_run(run, out / name)
    found = models(runs)
    rows = {name: verdicts(*place) for name, place in found.items()}
    for name, by_language in rows.items():
        kept = [
            {key: row.get(key) for key in ("language", "question_id", "answer", "gold", "correct", "off_target")}
            for scored in by_language.values()
            for row in scored
        ]
        write_rows(out / "verdicts" / f"{name}.jsonl", kept)
    tested = tests(rows)
    (out / "tests.json").write_text(json.dumps(tested, indent=1) + "\n", encoding="utf-8")
    for name in ("timetable.jsonl", "tuning.json"):
        if (root / name).exists():
            shutil.copy(root / name, out / name)
    metrics = {name: read_metrics(RunDir(run), number, "mgsm") for name, (run, number) in found.items()}
    (out / "README.md").write_text(page(root, runs, metrics, tested), encoding="utf-8")


if __name__ == "__main__":
    target = Path(sys.argv[2])
    with opened(Path(sys.argv[1])) as opened_root:
        write(opened_root, target)
    print(target / "README.md")
