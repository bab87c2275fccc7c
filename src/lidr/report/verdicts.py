"""Some judged comparisons to read, so that people can check the judge."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lidr.config import Config
from lidr.errors import DamagedError
from lidr.report.contents import Text, reservoir
from lidr.report.formatting import clipped, finite, printable
from lidr.report.measures import language_order
from lidr.report.rows import read_scored, rows_file
from lidr.results import Results
from lidr.run_dir import RunDir

_BENCHMARK = "x_alpacaeval"  # keeps the texts beside the verdicts
_AT_MOST = 5  # per language
_SHOWN_CHARACTERS = 3000
_RULES = {
    "identical": "both answers are the same",
    "empty": "an answer is empty",
    "wrong_language": "an answer is not in the prompt's language",
}


@dataclass(frozen=True, slots=True)
class VerdictSample:
    """One comparison. `outcome` is win, tie or lose for the model's answer, and unscored if there was no verdict."""

    question_id: str
    prompt: Text
    answer: Text
    opponent: Text
    outcome: str
    explanation: str


def read_verdicts(results: Results, config: Config, run_dir: RunDir) -> tuple[str, dict[str, list[VerdictSample]]]:
    """The last model that was compared with reference answers, and some of its comparisons by language."""
    measured = [model for model in results.models if model.benchmarks.get(_BENCHMARK)]
    if not measured:
        return "", {}
    model = measured[-1].name
    samples = {}
    for code in language_order(measured[-1].benchmarks[_BENCHMARK], config):
        folder = rows_file(config, run_dir, model, _BENCHMARK, code).parent
        notes = _annotations(folder / "alpaca_eval" / code / "annotations.json")
        verdicts = list(read_scored(config, run_dir, model, _BENCHMARK, code))
        if len(notes) != len(verdicts):  # an older evaluation's texts
            continue
        joined = ({"verdict": verdict, "note": note} for verdict, note in zip(verdicts, notes, strict=True))
        drawn = reservoir(joined, min(_AT_MOST, config.report.samples), f"{config.seed} verdicts {code}")
        if drawn:
            samples[code] = [_sample(row["verdict"], row["note"], code) for row in drawn]
    return model, samples


def _annotations(path: Path) -> Sequence[dict[str, Any]]:
    try:
        notes = json.loads(path.read_bytes())
    except FileNotFoundError:
        return []
    except (ValueError, RecursionError):
        notes = None
    if not isinstance(notes, list) or not all(isinstance(note, dict) for note in notes):
        metrics = path.parents[2] / "metrics.json"
        raise DamagedError(f"{path}: damaged; delete it and {metrics}, and start the run again")
    return notes


def _sample(verdict: dict[str, Any], note: dict[str, Any], code: str) -> VerdictSample:
    return VerdictSample(
        printable(str(verdict["question_id"])),
        _clipped(note["instruction"], code),
        _clipped(note["output_2"], code, note["generator_2"]),
        _clipped(note["output_1"], code, note["generator_1"]),
        verdict.get("outcome") or "unscored",
        _explanation(verdict),
    )


def _clipped(text: str, code: str, origin: str = "") -> Text:
    return Text(clipped(printable(text), _SHOWN_CHARACTERS), code, printable(origin))


def _explanation(verdict: dict[str, Any]) -> str:
    """What was said in both orders, or which rule decided."""
    if rule := verdict.get("rule"):
        return f"decided by a rule: {_RULES.get(rule, rule)}"
    if reason := verdict.get("unscored"):
        return f"no verdict: {printable(str(reason))}"
    shown = [finite(verdict.get(name)) for name in ("shown_first", "shown_second")]
    first, second = ("–" if value is None else f"{value:.2f}" for value in shown)
    return f"preference for the model's answer {first} when shown first, {second} when shown second"
