"""Some judged comparisons to read, so that people can check the judge."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict

from lidr.config import Config
from lidr.errors import DamagedError
from lidr.records import Verdict
from lidr.report.document import Answer, Bold, Folded, Sample, Section, note
from lidr.report.formatting import clipped, language_name, printable
from lidr.report.measures import language_order
from lidr.report.pairs import reservoir
from lidr.report.rows import read_scored, rows_file
from lidr.results import Results
from lidr.run_dir import RunDir

_BENCHMARK = "x_alpacaeval"  # keeps the texts beside the verdicts
_AT_MOST = 5  # per language
_SHOWN_CHARACTERS = 3000
_Tone = Literal["chosen", "rejected", "even"]
_TONES: dict[str, tuple[_Tone, _Tone]] = {"win": ("chosen", "rejected"), "lose": ("rejected", "chosen")}
_RULES = {
    "identical": "both answers are the same",
    "empty": "an answer is empty",
    "wrong_language": "an answer is not in the prompt's language",
}


class _Annotation(TypedDict):
    """The texts of a comparison in AlpacaEval's form: `output_1` is the reference answer, `output_2` the model's."""

    instruction: str
    output_1: str
    generator_1: str
    output_2: str
    generator_2: str


def verdicts_section(results: Results, config: Config, run_dir: RunDir) -> Section | None:
    """Some comparisons of the last model that was compared with reference answers, by language."""
    measured = [model for model in results.models if model.benchmarks.get(_BENCHMARK)]
    if not measured:
        return None
    model = measured[-1].name
    folded = []
    for code in language_order(measured[-1].benchmarks[_BENCHMARK], config):
        folder = rows_file(config, run_dir, model, _BENCHMARK, code).parent
        notes = _annotations(folder / "alpaca_eval" / code / "annotations.json")
        verdicts = list(read_scored(config, run_dir, model, _BENCHMARK, code))
        if len(notes) != len(verdicts):  # an older evaluation's texts
            continue
        size = min(_AT_MOST, config.report.samples)
        drawn = reservoir(zip(verdicts, notes, strict=True), size, f"{config.seed} verdicts {code}")
        if drawn:
            aside = f"{len(drawn)} comparison{'' if len(drawn) == 1 else 's'}"
            samples = [_sample(Verdict.from_dict(verdict), text, code) for verdict, text in drawn]
            folded.append(Folded(language_name(code), aside, samples))
    said = (
        f"Comparisons of {model} with the reference answers of {_BENCHMARK}, drawn at random: see for yourself whether "
        "you agree with the judge."
    )
    return Section("verdicts", "Verdicts to read", [note(said), *folded]) if folded else None


def _annotations(path: Path) -> Sequence[_Annotation]:
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


def _sample(verdict: Verdict, text: _Annotation, code: str) -> Sample:
    outcome = verdict.outcome or "unscored"
    model, reference = _TONES.get(outcome, ("even", "even"))
    question = f"Question {printable(verdict.question_id)}: "
    return Sample(
        (question, Bold(outcome), f"; {_explanation(verdict)}"),
        _clipped(text["instruction"], code),
        [
            ("Model", model, _clipped(text["output_2"], code, text["generator_2"])),
            ("Reference", reference, _clipped(text["output_1"], code, text["generator_1"])),
        ],
    )


def _clipped(text: str, code: str, origin: str = "") -> Answer:
    return Answer(clipped(printable(text), _SHOWN_CHARACTERS), code, printable(origin))


def _explanation(verdict: Verdict) -> str:
    """What was said in both orders, or which rule decided."""
    if verdict.rule:
        return f"decided by a rule: {_RULES.get(verdict.rule, verdict.rule)}"
    if verdict.unscored:
        return f"no verdict: {printable(verdict.unscored)}"
    shown = (verdict.shown_first, verdict.shown_second)
    first, second = ("–" if value is None else f"{value:.2f}" for value in shown)
    return f"preference for the model's answer {first} when shown first, {second} when shown second"
