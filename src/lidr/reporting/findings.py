"""The run in sentences: what became of the model, and what it took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lidr.config import Config
from lidr.progress import duration
from lidr.reporting.contents import PairTable
from lidr.reporting.log import Alarm, TimeTable
from lidr.reporting.measures import ACCURACY, KINDS, Measure, MeasureRow, with_interval
from lidr.reporting.words import finite, join_names, language_name, number, signed


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one metric in one language or a group of them: in figures for a tile, and as a sentence."""

    topic: str
    who: str
    figures: str
    verdict: str
    tone: str  # good, bad or flat
    sentence: str
    is_key: bool


def findings(measures: Iterable[Measure], config: Config) -> list[Finding]:
    """The mean of the trained languages, the dominant one, and those left out of training, for each known metric."""
    found = []
    for measure in measures:
        mean, transfer = measure.mean("trained"), measure.mean("transfer")
        if mean:
            names = mean.name.split(" · ")
            short = names[0] if len(names) == 1 else f"mean of {len(names)} trained languages"
            full = names[0] if len(names) == 1 else f"mean of {join_names(names)}"
            found.append(_finding(measure, mean, short, full, is_key=True))
        dominant = next((row for row in measure.rows if row.role == "dominant" and all(row.cells)), None)
        if dominant:
            name = f"{dominant.name} (dominant)"
            found.append(_finding(measure, dominant, name, name, is_key=measure.kind is ACCURACY))
        if transfer:
            name = f"{join_names(transfer.name.split(' · '))} (not trained)"
            found.append(_finding(measure, transfer, name, name))
    return found


def _finding(measure: Measure, row: MeasureRow, short: str, full: str, is_key: bool = False) -> Finding:
    topic = f"{measure.benchmark}, {measure.kind.short}"
    change, first = row.change, row.cells[0]
    who = full[:1].upper() + full[1:]
    if change is None:
        sentence = f"{who}: {with_interval(first)} for {measure.models[0]}; there is nothing to compare it with yet."
        figures = number(first.value if first else None)
        return Finding(topic, short, figures, measure.models[0], "flat", sentence, is_key)
    figures = f"{number(change.before.value)} → {number(change.after.value)}"
    result = f"{signed(change.delta)}, {change.verdict}"
    sentence = f"{who}: {with_interval(change.before)} to {with_interval(change.after)}, {result}."
    improved = (change.delta < 0) == measure.kind.lower_is_better
    tone = ("good" if improved else "bad") if change.is_clear else "flat"
    return Finding(topic, short, figures, result, tone, sentence, is_key)


def paragraphs(found: Iterable[Finding]) -> list[tuple[str, str]]:
    """(topic, all that is to be said about it), in the order of the findings."""
    topics: dict[str, list[str]] = defaultdict(list)
    for finding in found:
        topics[finding.topic].append(finding.sentence)
    return [(topic, " ".join(sentences)) for topic, sentences in topics.items()]


def introduction(config: Config, results: dict[str, Any]) -> list[str]:
    """What the run was, and what it still lacks, in sentences."""
    weak = join_names([language_name(code) for code in config.non_dominant])
    method = {
        "dpo": "to prefer translations of its own answers in the dominant language to its direct answers (DPO + NLL)",
        "sft": "on translations of its own answers in the dominant language (plain supervised fine-tuning)",
    }[config.training.objective]
    iterations = f"{config.iterations} iteration{'s' if config.iterations > 1 else ''}"
    sentences = [
        f"The model {config.model.path} was to be improved in {weak}, in {iterations}, with "
        f"{language_name(config.dominant)} as the dominant language: it was trained {method}, without human labels."
    ]
    models = results.get("models", [])
    trained = [model for model in models if model["name"] != "M0"]
    if len(trained) < config.iterations:
        sentences.append(f"This run is not finished: {len(trained)} of {iterations} trained so far.")
    unmeasured = [model["name"] for model in models if not model.get("benchmarks")]
    if unmeasured and any(config.evaluation.benchmarks.model_dump().values()):
        sentences.append(f"Not measured yet: {join_names(unmeasured)}.")
    measured = [(name, model["name"], found) for model in models for name, found in model.get("benchmarks", {}).items()]
    silent: dict[str, list[str]] = defaultdict(list)
    for benchmark, model_name, languages in measured:
        if _is_silent(languages):
            silent[benchmark].append(model_name)
    sentences += [f"{benchmark} gave no figures for {join_names(names)}." for benchmark, names in silent.items()]
    if len(measured) == sum(map(len, silent.values())):
        sentences.append("Nothing was measured, so this report cannot say whether the model got better.")
    return sentences


def _is_silent(languages: dict[str, dict[str, Any]]) -> bool:
    """Whether every known metric of a benchmark is a gap, as where all answers failed."""
    found = [metrics[kind.key] for metrics in languages.values() for kind in KINDS if kind.key in metrics]
    return bool(found) and all(finite(value) is None for value in found)


def warnings(alarms: Iterable[Alarm]) -> list[tuple[str, str]]:
    """(topic, sentences) of what the trainings warned of."""
    return [
        (f"Training alarm, iteration {alarm.iteration}", f"{alarm.title}, at step {alarm.step}. {alarm.message}")
        for alarm in alarms
    ]


def costs(tables: list[PairTable], times: TimeTable) -> list[tuple[str, str]]:
    """(topic, sentence) of what it took."""
    sentences = []
    if tables:
        pairs = join_names([f"{table.total:,} in iteration {table.iteration}" for table in tables])
        dropped = sum(table.dropped for table in tables)
        lost = f"{dropped:,} candidates were dropped, each under a reason given below" if dropped else "none dropped"
        sentences.append(("Pairs", f"{pairs}; {lost}."))
    if times.total:
        parts = [f"{name.lower()} {duration(sum(s or 0 for s in seconds))}" for name, seconds, _ in times.rows]
        sentences.append(("Time", f"{duration(times.total)} in the stages: {', '.join(parts)}."))
    return sentences
