"""From OUT/evidence.tar.gz of `run.py` to docs/evidence/qwen2.5-0.5b: what can be published, and a page of numbers.

python tools/proof/evidence.py OUT/evidence.tar.gz [docs/evidence/qwen2.5-0.5b]

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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lidr.benchmarks.statistics import compare_paired

RECIPE, BASELINE = "qwen2.5-0.5b-math", "qwen2.5-0.5b-math-sft"
SAMPLES = 50
_SIDES = ("chosen", "rejected")
_FILES = ("recipe.yaml", "results.json", "metrics.jsonl", "environment.json", "report.html", "report.md",
          "reproducibility.md")  # fmt: skip
_LABELS = {"sft": "Multilingual Alignment (SFT)"}


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as handle:
        yield from map(json.loads, handle)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
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
            write_rows(out / f"{iteration}_samples" / file.name, sample_pairs(file))


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


def verdicts(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """MGSM's scored rows by language."""
    return {file.stem: list(read_rows(file)) for file in sorted((folder / "6_evaluation" / "mgsm").glob("??.jsonl"))}


def models(root: Path) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """The measured models' verdicts: M0, M1, M2 and the baseline, as far as they are there."""
    folders = {f"M{number}": root / RECIPE / f"iteration_{number}" for number in range(3)}
    folders["sft"] = root / BASELINE / "iteration_1"
    found = {name: verdicts(folder) for name, folder in folders.items()}
    return {name: by_language for name, by_language in found.items() if by_language}


def measured(root: Path) -> dict[str, dict[str, Any]]:
    """Metrics of MGSM by model and language, from results.json."""
    found: dict[str, dict[str, Any]] = {}
    for recipe, label in ((RECIPE, {}), (BASELINE, {"M1": "sft"})):
        path = root / recipe / "results.json"
        for model in json.loads(path.read_text(encoding="utf-8"))["models"] if path.exists() else []:
            name = label.get(model["name"], model["name"])
            if "mgsm" in model["benchmarks"]:
                found.setdefault(name, model["benchmarks"]["mgsm"])
    return found


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


def iterations(root: Path) -> str:
    """Markdown: pairs and drops of every iteration."""
    lines = ["| run | iteration | pairs | dropped | seconds |", "| --- | --- | --- | --- | --- |"]
    for recipe in (RECIPE, BASELINE):
        path = root / recipe / "results.json"
        for row in json.loads(path.read_text(encoding="utf-8"))["iterations"] if path.exists() else []:
            cells = (_listed(row[name]) for name in ("pairs", "dropped", "seconds"))
            lines.append(f"| {recipe} | {row['iteration']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def page(root: Path, metrics: dict[str, dict[str, Any]], found: list[dict[str, Any]]) -> str:
    """README.md of the evidence."""
    environment = json.loads((root / RECIPE / "environment.json").read_text(encoding="utf-8"))
    times = list(read_rows(root / "timetable.jsonl"))
    english = next((row for row in times if row["what"] == "English prompts"), {})
    versions = ", ".join(f"{name} {value}" for name, value in environment["packages"].items())
    return f"""# Qwen2.5-Coder-0.5B-Instruct on arithmetic, one GPU

Recipes `{RECIPE}` and `{BASELINE}`, run by `tools/proof/run.py` (how: `tools/proof/README.md`). Dominant language
English; es, fr, de and ru are trained, zh and ja are not. Greedy decoding, seed {environment["seed"]}.

- Hardware: {"; ".join(environment["gpus"]) or environment["processor"]}, {environment["cpus"]} CPU cores.
- Software: Python {environment["python"]}, {versions}.
- English questions are the model's own translations from Spanish: {english.get("translated", "?")} made, set aside
  {_listed(english.get("aside", {})) or "none"}.
- Seconds from the start to the end: {times[-1]["seconds"]:.0f}, to `{times[-1]["what"]}`.

## MGSM, accuracy in percent (95 % interval, Wilson)

{table(metrics, "accuracy", "ci95")}

## Answers in another language than the question's, in percent (95 % interval)

{table(metrics, "off_target", "ci95_off_target")}

## McNemar's exact test, per language, not corrected for their number

Questions that only the later model has right (+), that only the earlier one has (−), and p.

{test_table(found)}

## Pairs

{iterations(root)}

## Files

`math/` and `baseline/`: recipe, results, metrics, environment, report with figures, pair summaries and up to {SAMPLES}
pairs per language drawn by a seed, of those whose answers do not repeat the prompt, with the prompts' ids (row numbers
of the GSM8K training questions). `verdicts/`: every answer's number, gold and verdict. `tests.json`: the table above.
`timetable.jsonl`: when what was done.
"""


def main() -> None:
    archive = Path(sys.argv[1])
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else Path("docs/evidence/qwen2.5-0.5b")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with tarfile.open(archive) as tar:
            tar.extractall(root, filter="data")
        copy_run(root / RECIPE, out / "math")
        copy_run(root / BASELINE, out / "baseline")
        rows, metrics = models(root), measured(root)
        for name, by_language in rows.items():
            kept = [
                {key: row.get(key) for key in ("language", "question_id", "answer", "gold", "correct", "off_target")}
                for scored in by_language.values()
                for row in scored
            ]
            write_rows(out / "verdicts" / f"{name}.jsonl", kept)
        found = tests(rows)
        (out / "tests.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        shutil.copy(root / "timetable.jsonl", out / "timetable.jsonl")
        (out / "README.md").write_text(page(root, metrics, found), encoding="utf-8")
    print(out / "README.md")


if __name__ == "__main__":
    main()
