"""The last step: what a run was, what came of it and what it cost, as one self-contained page and as Markdown.

The record of reproducibility is written with it, see `lidr.report.record`.

`lidr.report` turns what the run left on disk into plain values and SVG strings; two templates lay these out. Model
text is data of unknown intent: both templates escape every value unless it is marked as safe.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from lidr.config import Config, dump_config, flatten
from lidr.report import record
from lidr.report.contents import PairTable, Sample, drop_details, pair_table, reservoir, sample
from lidr.report.findings import (
    alarm_warnings,
    costs,
    cut_off_warnings,
    findings,
    introduction,
    outcome_finding,
    paragraphs,
    saved_sentences,
    single_step,
)
from lidr.report.judged import judge_grid, judge_total, judge_warnings, position_plot, read_judge
from lidr.report.log import Log, digest_log, time_table
from lidr.report.measures import read_measures
from lidr.report.plots import curve_plots, language_plot
from lidr.report.probe import probe_advice, probe_sentences, probe_views
from lidr.report.rows import read_scored, with_rows
from lidr.report.sections import read_sections
from lidr.report.telemetry import group_table
from lidr.report.templates import PAPER, render
from lidr.report.verdicts import read_verdicts
from lidr.results import Results, read_results
from lidr.run_dir import RunDir
from lidr.seals import read_seal
from lidr.stages.pairs import read_dropped, read_pairs, read_summary
from lidr.stages.shortage import shortage
from lidr.storage import write_text

_VERSION = 5  # a report of an older layout is written again
_FINGERPRINT = '<meta name="lidr-inputs" content="{}">'


def run(config: Config, run_dir: RunDir) -> None:
    """Write report.html, report.md and the record of reproducibility from what the run has on disk so far."""
    context = make_context(config, run_dir)
    record.write_record(config, run_dir)
    write_text(run_dir.path / "report.md", render("report.md", context))
    write_text(run_dir.path / "report.html", render("report.html", context))


def is_outdated(run_dir: RunDir) -> bool:
    """Whether the report is missing, or was made from something else than what the run has now."""
    page = run_dir.path / "report.html"
    if not all((run_dir.path / name).exists() for name in ("report.html", "report.md", *record.NAMES)):
        return True
    with page.open(encoding="utf-8", errors="replace") as handle:
        return _FINGERPRINT.format(_fingerprint(run_dir)) not in handle.read(2000)


def make_context(config: Config, run_dir: RunDir) -> dict[str, Any]:
    """All that the templates show."""
    fingerprint = _fingerprint(run_dir)  # first: what is written meanwhile makes the report outdated
    results = _read_results(config, run_dir)
    log = digest_log(run_dir.read_log())
    tables = _read_tables(config, run_dir, results)
    times = time_table(results, log)
    alarms = sorted(log.alarms.values(), key=lambda alarm: (alarm.iteration, alarm.step))
    sampled, samples = _read_samples(config, run_dir, results)
    environment = flatten(run_dir.read_environment())
    return {
        "fingerprint": fingerprint,
        "config": config,
        "introduction": introduction(config, results),
        "advice": probe_advice(results, config),
        **_measured(config, run_dir, results),
        "alarm_warnings": alarm_warnings(alarms),
        "cut_off_warnings": [*_untrained(config, run_dir, results), *cut_off_warnings(results)],
        "costs": costs(tables, times, log.costs) + saved_sentences(results),
        "probes": probe_views(results, config),
        "probe_sentences": probe_sentences(results, config),
        "tables": tables,
        **_trained(config, log),
        "alarms": alarms,
        "times": times,
        "recipe": run_dir.recipe.read_text(encoding="utf-8") if run_dir.recipe.exists() else dump_config(config),
        "environment": {key: "" if value is None else value for key, value in environment.items()},
        "samples": samples,
        "sampled_iteration": sampled,
        "paper": PAPER,
    }


def _untrained(config: Config, run_dir: RunDir, results: Results) -> list[tuple[str, str]]:
    """(topic, sentence) of the iterations whose pairs were not enough to train on."""
    trained = {model.name for model in results.models}
    iterations = [entry.iteration for entry in results.iterations]
    owed = [i for i in iterations if f"M{i}" not in trained and run_dir.pair_summary(i).exists()]
    reasons = {i: shortage(config, run_dir, i, {}) for i in owed}
    return [(f"Iteration {i} was not trained", f"{reason}.") for i, reason in reasons.items() if reason]


def _measured(config: Config, run_dir: RunDir, results: Results) -> dict[str, Any]:
    """What the benchmarks and the judge found."""
    scored = partial(read_scored, config, run_dir)
    measures = with_rows(read_measures(results, config), config, run_dir)
    sections = read_sections(results, measures, config, scored)
    outcomes = [outcome for section in sections for block in section.blocks for outcome in block.outcomes]
    found = findings([measure for measure in measures if measure.kind.section == "accuracy"], config)
    found += [outcome_finding(outcomes[-1], config)] if outcomes else []
    found += findings([measure for measure in measures if measure.kind.section in ("judged", "language")], config)
    judge = read_judge(results, config, scored)
    judged_model, verdicts = read_verdicts(results, config, run_dir)
    return {
        "tiles": [finding for finding in found if finding.is_key],
        "paragraphs": paragraphs(found),
        "compared": any(measure.kind.is_told and len(measure.models) > 1 for measure in measures),
        "sections": sections,
        "other": [measure for measure in measures if measure.kind.section == "other"],
        "judge": judge_grid(judge) if judge else None,
        "judge_total": judge_total(judge, config, run_dir),
        "judge_plot": position_plot(judge, config),
        "judge_warnings": judge_warnings(judge),
        "judged_model": judged_model,
        "verdicts": verdicts,
    }


def _trained(config: Config, log: Log) -> dict[str, Any]:
    """What the trainings logged."""
    curves = {iteration: curve for iteration, curve in sorted(log.curves.items()) if curve}
    drawn = {iteration: curve for iteration, curve in curves.items() if len(curve) > 1}  # one point is no curve
    return {
        "curves": {i: curve_plots(i, curve, log.held_out.get(i, {})) for i, curve in drawn.items()},
        "language_plots": {i: language_plot(i, curve, config.languages) for i, curve in drawn.items()},
        "single_steps": {i: single_step(curve[max(curve)]) for i, curve in curves.items() if i not in drawn},
        "group_tables": {i: group_table(i, curve, config.languages) for i, curve in curves.items()},
        "final_steps": [(iteration, len(curve), curve[max(curve)]) for iteration, curve in curves.items()],
    }


def _read_results(config: Config, run_dir: RunDir) -> Results:
    """results.json; the one model of an evaluation outside a run goes by its own name, not as M0."""
    results = read_results(run_dir)
    if config.iterations:
        return results
    return replace(results, models=tuple(replace(model, name=config.name) for model in results.models))


def _fingerprint(run_dir: RunDir) -> str:
    """Hash of what the report is made from; pairs and scored rows by their seals, which is quick."""
    known = hashlib.sha256(str(_VERSION).encode())
    for name in ("results.json", "recipe.yaml", "environment.json", "metrics.jsonl"):
        path = run_dir.path / name
        known.update(hashlib.sha256(path.read_bytes() if path.exists() else b"").digest())
    results = read_results(run_dir)  # has the probe's findings as they are
    sealed = [run_dir.pair_summary(entry.iteration) for entry in results.iterations]
    sealed += [
        run_dir.evaluation(int(model.name[1:]), benchmark) / f"{code}.jsonl"
        for model in results.models
        for benchmark, languages in model.benchmarks.items()
        for code in languages
    ]
    for path in sealed:
        seal = read_seal(path)
        known.update(str(seal and seal.sha256).encode())
    return known.hexdigest()[:16]


def _read_dropped(run_dir: RunDir, iteration: int) -> Iterator[dict[str, Any]]:
    return read_dropped(run_dir, iteration) if run_dir.pair_summary(iteration).exists() else iter(())


def _read_tables(config: Config, run_dir: RunDir, results: Results) -> list[PairTable]:
    return [
        pair_table(entry, drop_details(_read_dropped(run_dir, entry.iteration)), config) for entry in results.iterations
    ]


def _read_samples(config: Config, run_dir: RunDir, results: Results) -> tuple[int | None, dict[str, list[Sample]]]:
    """The last iteration that has pairs, and some of them by language."""
    iterations = [entry.iteration for entry in results.iterations if run_dir.pair_summary(entry.iteration).exists()]
    if not iterations:
        return None, {}
    samples = {}
    for code in [*config.non_dominant, config.dominant]:
        if code not in read_summary(run_dir, max(iterations)).pairs:
            continue
        rows = read_pairs(run_dir, max(iterations), code)
        if drawn := reservoir(rows, config.report.samples, f"{config.seed} {code}"):
            samples[code] = [sample(row) for row in drawn]
    return max(iterations), samples
