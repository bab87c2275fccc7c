"""The last step: what a run was, what came of it and what it cost, as one self-contained page and as Markdown.

The record of reproducibility is written with it, see `lidr.report.record`.

The modules of `lidr.report` turn what the run has on disk into sections of one document, which is written twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from lidr.config import Config, dump_config, flatten
from lidr.records import Json, PreferencePair
from lidr.report import html, markdown, record
from lidr.report.benchmarks import benchmark_sections, other_section
from lidr.report.document import (
    Block,
    Bold,
    Bullets,
    Code,
    Document,
    Entry,
    Folded,
    Heading,
    Inline,
    Italic,
    Link,
    Listing,
    Plot,
    Plots,
    Row,
    Sample,
    Section,
    Table,
    Text,
    Tiles,
    note,
)
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
from lidr.report.formatting import PAPER, language_name, number
from lidr.report.judged import judge_section, judge_warnings, read_judge, read_outcomes
from lidr.report.log import Alarm, Log, digest_log, time_table
from lidr.report.measures import read_measures
from lidr.report.pairs import PairTable, drop_details, pair_table, pairs_section, reservoir, sample, samples_section
from lidr.report.plots import curve_plots, language_plot
from lidr.report.probe import probe_advice, probe_section, probe_sentences
from lidr.report.rows import read_scored, with_rows
from lidr.report.telemetry import group_table
from lidr.report.verdicts import verdicts_section
from lidr.results import Results, finite, read_results
from lidr.run_dir import RunDir
from lidr.seals import read_seal
from lidr.stages.pairs import read_dropped, read_pairs, read_summary
from lidr.stages.shortage import shortage
from lidr.storage import write_text

_VERSION = 6  # a report of an older layout is written again
_FINGERPRINT = '<meta name="lidr-inputs" content="{}">'


def run(config: Config, run_dir: RunDir) -> None:
    """Write report.html, report.md and the record of reproducibility from what the run has on disk so far."""
    document = make_document(config, run_dir)
    record.write_record(config, run_dir)
    write_text(run_dir.path / "report.md", markdown.text_of(document))
    write_text(run_dir.path / "report.html", html.page(document))


def is_outdated(run_dir: RunDir) -> bool:
    """Whether the report is missing, or was made from something other than what the run has now."""
    page = run_dir.path / "report.html"
    if not all((run_dir.path / name).exists() for name in ("report.html", "report.md", *record.NAMES)):
        return True
    with page.open(encoding="utf-8", errors="replace") as handle:
        return _FINGERPRINT.format(_fingerprint(run_dir)) not in handle.read(2000)


def make_document(config: Config, run_dir: RunDir) -> Document:
    """The whole report."""
    fingerprint = _fingerprint(run_dir)  # first: a later change of the files makes the report outdated
    results = _read_results(config, run_dir)
    log = digest_log(run_dir.read_log())
    tables = _read_tables(config, run_dir, results)
    scored = partial(read_scored, config, run_dir)
    measures = with_rows(read_measures(results, config), config, run_dir)
    judge = read_judge(results, config, scored)
    alarms = sorted(log.alarms.values(), key=lambda alarm: (alarm.iteration, alarm.step))
    times = time_table(results, log)
    is_compared = any(measure.kind.is_told and len(measure.models) > 1 for measure in measures)
    found = findings([measure for measure in measures if measure.kind.section == "accuracy"], config)
    found += [outcome_finding(outcome, config) for outcome in read_outcomes(results, config)[-1:]]
    found += findings([measure for measure in measures if measure.kind.section in ("judged", "language")], config)
    told = [
        *paragraphs(found),
        *_untrained(config, run_dir, results),
        *cut_off_warnings(results),
        *judge_warnings(judge),
        *alarm_warnings(alarms),
        *probe_sentences(results, config),
        *costs(tables, times, log.costs),
        *saved_sentences(results),
    ]
    summary: list[Block] = [Text((" ".join(introduction(config, results)),), "lead")]
    summary += [Text((Bold(f"{title}."), f" {said}"), "alarm") for title, said in probe_advice(results, config)]
    tiles = [finding.tile for finding in found if finding.is_key]
    summary += [Tiles(tiles)] if tiles else []
    summary += [note(_COMPARED)] if is_compared else []
    summary.append(Bullets([(Bold(f"{topic}."), f" {said}") for topic, said in told]))
    sections = [
        Section("summary", "", summary),
        *benchmark_sections(results, measures, config, scored),
        judge_section(judge, config, run_dir),
        other_section(measures),
        probe_section(results, config),
        pairs_section(tables),
        _training_section(config, log, alarms),
        times.section(),
        _recipe_section(config, run_dir),
        _environment_section(run_dir),
        samples_section(*_read_samples(config, run_dir, results)),
        verdicts_section(results, config, run_dir),
        _reading_section(config, is_compared, is_judged=bool(judge), is_trained=bool(log.curves)),
    ]
    return Document(
        config.name, config.description, _facts(config), [section for section in sections if section], fingerprint
    )


_COMPARED = (
    "In brackets: 95 % intervals. Within or beyond noise: by the paired test (p below 0.05) if there is one, else by "
    "whether the intervals of the first and the last model overlap."
)


def _facts(config: Config) -> list[tuple[str, Inline]]:
    facts: list[tuple[str, Inline]] = [("Model", Code(config.model.path))]
    if config.iterations:
        facts += [
            ("Dominant language", language_name(config.dominant)),
            ("Trained languages", ", ".join(map(language_name, config.non_dominant))),
            ("Iterations", str(config.iterations)),
            ("Objective", "DPO + NLL" if config.training.objective == "dpo" else "SFT"),
        ]
    if config.evaluation.judge:
        facts.append(("Judge", Code(config.evaluation.judge.model)))
    return [*facts, ("Seed", str(config.seed))]


def _untrained(config: Config, run_dir: RunDir, results: Results) -> list[tuple[str, str]]:
    """(topic, sentence) of the iterations whose pairs were not enough to train on."""
    trained = {model.name for model in results.models}
    iterations = [entry.iteration for entry in results.iterations]
    owed = [i for i in iterations if f"M{i}" not in trained and run_dir.pair_summary(i).exists()]
    reasons = {i: shortage(config, run_dir, i, {}) for i in owed}
    return [(f"Iteration {i} was not trained", f"{reason}.") for i, reason in reasons.items() if reason]


def _training_section(config: Config, log: Log, alarms: Sequence[Alarm]) -> Section | None:
    """What the trainings logged: curves, and means at the end."""
    blocks: list[Block] = []
    curves = {iteration: curve for iteration, curve in sorted(log.curves.items()) if curve}
    for iteration, curve in curves.items():
        blocks.append(Heading(f"Iteration {iteration}: {len(curve)} step{'s' if len(curve) > 1 else ''}"))
        for alarm in alarms:
            if alarm.iteration == iteration:
                blocks.append(Text((Bold(alarm.title), f", at step {alarm.step}. {alarm.message}"), "alarm"))
        if len(curve) == 1:  # a single point is not a curve
            blocks.append(Text((single_step(curve[max(curve)]),)))
        else:
            drawn = curve_plots(iteration, curve, log.held_out.get(iteration, {}))
            blocks.append(Plots([Plot(svg, caption) for caption, svg in drawn], are_small=True))
            if by_language := language_plot(iteration, curve, config.languages):
                blocks.append(Plot(by_language, "By language of the prompts; means over the pairs", is_wide=True))
        if at_end := group_table(iteration, curve, config.languages):
            blocks += [Heading("At the end of training", 4), at_end]
    last = [(iteration, curve[max(curve)]) for iteration, curve in curves.items()]
    blocks += [Heading("The last step of each iteration"), _last_steps(last)]
    return Section("training", "Training", blocks) if curves else None


def _last_steps(steps: Sequence[tuple[int, Mapping[str, object]]]) -> Table:
    known = ("loss", "nll", "dpo", "reward_accuracy", "margin")
    names = [name for name in known if any(name in last for _, last in steps)]
    rows = [
        Row(Entry(str(iteration)), [Entry(number(finite(last.get(name)))) for name in names])
        for iteration, last in steps
    ]
    header = ["Iteration", *(name.replace("_", " ") for name in names)]
    return Table("The last step of each iteration", header, rows)


def _recipe_section(config: Config, run_dir: RunDir) -> Section:
    recipe = run_dir.recipe.read_text(encoding="utf-8") if run_dir.recipe.exists() else dump_config(config)
    said = "What a paper has to say for others to repeat this run, filled in from its files: "
    return Section(
        "recipe",
        "Recipe",
        [
            Folded("recipe.yaml", "resolved; it can be run again as it is", [Listing(recipe, "yaml")]),
            Text((said, Link("reproducibility.md", "reproducibility.md")), "note"),
        ],
    )


def _environment_section(run_dir: RunDir) -> Section:
    values = flatten(run_dir.read_environment())
    rows = [Row(Entry(name), [Entry(_listed(value), style="words")]) for name, value in values.items()]
    table = Table("Versions and hardware", ["What", "Value"], rows)
    blocks: list[Block] = [Folded("Versions and hardware", "", [table])] if rows else [note("Not recorded.")]
    return Section("environment", "Environment", blocks)


def _listed(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)


def _reading_section(config: Config, is_compared: bool, is_judged: bool, is_trained: bool) -> Section:
    """What somebody who reads such a report for the first time has to know."""
    points: list[tuple[Inline, ...]] = []
    if config.iterations:
        models = "M0 is the base model; M1, M2 … are what each iteration made of it. "
        roles = " marks languages that were measured but not trained."
        points.append((models, Italic("Dominant"), " is the language that teaches, ", Italic("transfer"), roles))
    overlap = (
        " That they overlap is a careful rule for “within noise”: the models answer the same questions, so a real but "
        "small change may be called noise. The test (p), if there is one, uses that they are the same; with many "
        "languages some p below 0.05 come by chance."
    )
    points.append((f"Intervals are 95 % intervals for the questions asked.{overlap if is_compared else ''}",))
    if is_judged:
        points.append(
            ("A judge is a model with tastes of its own. It likes long answers, which the length-controlled win rate "
             "allows for, and may like answers of its own family; compare only numbers of the same judge.",)
        )  # fmt: skip
    points.append(
        ("The mean over languages carries the mean of their interval bounds. It does not assume that the languages err "
         "independently of each other, so it is rather too wide than too narrow.",)
    )  # fmt: skip
    if is_trained:
        points.append(
            ("In training, a pair's reward is β times the log-probability ratio to the reference model, summed over "
             "the answer's tokens; the margin is chosen less rejected. A reward accuracy of 1.0 within a few steps "
             "means that the pairs are trivial.",)
        )  # fmt: skip
    if config.iterations:
        points.append(("One run is one seed. Differences between recipes need several.",))
    method = (
        "Method: Wen Yang, Junhong Wu, Chen Wang, Chengqing Zong, Jiajun Zhang. ",
        Italic("Language Imbalance Driven Rewarding for Multilingual Self-improving."),
        " ICLR 2025. ",
        Link("arXiv:2410.08964", PAPER),
    )
    return Section("reading", "How to read this", [Bullets(points), Text(method, "note")], short="How to read")


def _read_results(config: Config, run_dir: RunDir) -> Results:
    """results.json; the one model of an evaluation outside a run has its own name instead of M0."""
    results = read_results(run_dir)
    if config.iterations:
        return results
    return replace(results, models=tuple(replace(model, name=config.name) for model in results.models))


def _fingerprint(run_dir: RunDir) -> str:
    """Hash of what the report is made from; pairs and scored rows count by their seals, which is quick."""
    known = hashlib.sha256(str(_VERSION).encode())
    for name in ("results.json", "recipe.yaml", "environment.json", "metrics.jsonl"):
        path = run_dir.path / name
        known.update(hashlib.sha256(path.read_bytes() if path.exists() else b"").digest())
    results = read_results(run_dir)  # includes the probe's findings
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


def _read_dropped(run_dir: RunDir, iteration: int) -> Iterator[Json]:
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
            samples[code] = [sample(PreferencePair.from_dict(row)) for row in drawn]
    return max(iterations), samples
