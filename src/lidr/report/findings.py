"""The run in sentences: what became of the model, and what it took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lidr.config import Config
from lidr.progress_bar import duration
from lidr.report.document import Tile
from lidr.report.formatting import interval, join_names, language_name, number, percent, signed
from lidr.report.judged import Outcomes
from lidr.report.log import Alarm, TimeTable, TrainingCost
from lidr.report.measures import Change, Measure, MeasureRow, kinds_of, with_interval
from lidr.report.pairs import PairTable
from lidr.report.telemetry import Step
from lidr.report.unreliable import cut_off
from lidr.results import Metrics, ModelResults, ProgressProbe, Results, Saved, finite
from lidr.stages.shortage import fewest
from lidr.strategies.base import strategy_of


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of a metric in a language or a group of languages: in figures for a tile, and as a sentence."""

    topic: str
    who: str
    figures: str
    verdict: str
    tone: str  # good, bad or flat
    sentence: str
    is_key: bool

    @property
    def tile(self) -> Tile:
        return Tile(self.topic, self.who, self.figures, self.verdict, self.tone)


def findings(measures: Iterable[Measure], config: Config) -> list[Finding]:
    """The mean of the trained languages, the dominant one, and those left out of training, for `is_told` metrics."""
    found = []
    for measure in measures:
        # Judged answers have an off-target share, too, but it is already part of the verdicts.
        if not measure.kind.is_told or (measure.kind.section == "language" and _is(config, measure, "judged")):
            continue
        mean, transfer = measure.plain_mean, measure.mean("transfer")
        if mean:
            found.append(_finding(measure, mean, *_names(mean, config), is_key=measure.kind.is_key))
        dominant = next((row for row in measure.rows if row.role == "dominant" and all(row.cells)), None)
        if dominant:
            of_accuracy = measure.kind.is_key and measure.kind.section == "accuracy"
            is_key = of_accuracy and not _is(config, measure, "loads_weights")
            found.append(_finding(measure, dominant, dominant.title, dominant.title, is_key=is_key))
        if transfer:
            name = f"{join_names(transfer.name.split(' · '))} (not trained)"
            found.append(_finding(measure, transfer, name, name))
    return found


def _is(config: Config, measure: Measure, what: str) -> bool:
    """Whether a measure's benchmark is `judged`, or `loads_weights`."""
    return bool(getattr(config.evaluation.benchmarks.get(measure.benchmark), what, False))


def _names(mean: MeasureRow, config: Config) -> tuple[str, str]:
    """What a mean over languages is called, in a tile and in a sentence."""
    names = mean.name.split(" · ")
    if len(names) == 1:
        return names[0], names[0]
    trained = "trained " if config.iterations else ""
    return f"mean of {len(names)} {trained}languages", f"mean of {join_names(names)}"


def _finding(measure: Measure, row: MeasureRow, short: str, full: str, is_key: bool = False) -> Finding:
    topic = f"{measure.benchmark}, {measure.kind.short}"
    change, first = row.change, row.cells[0]
    who = full[:1].upper() + full[1:]
    if change is None:
        is_run = measure.rows[0].role != "measured"
        compared = f" for {measure.models[0]}; there is nothing to compare it with yet" if is_run else ""
        sentence = f"{who}: {with_interval(first)}{compared}."
        figures = number(first.value if first else None)
        verdict = f"95 % interval {interval(first.interval)}" if first and first.interval else measure.models[0]
        return Finding(topic, short, figures, verdict, "flat", sentence, is_key)
    figures = f"{number(change.before.value)} → {number(change.after.value)}"
    result = f"{signed(change.delta)}, {change.words}"
    sentence = f"{who}: {with_interval(change.before)} to {with_interval(change.after)}, {result}."
    improved = (change.delta < 0) == measure.kind.lower_is_better
    tone = ("good" if improved else "bad") if change.is_clear else "flat"
    return Finding(topic, short, figures, result, tone, sentence, is_key)


def outcome_finding(outcomes: Outcomes, config: Config) -> Finding:
    """Wins against losses of one comparison: the mean of the trained languages, or of all if nothing was trained."""
    mean = outcomes.mean
    win, tie, lose = mean.cells
    assert win and tie and lose  # a row of outcomes has them
    topic = f"{outcomes.benchmark}, {outcomes.title}"
    short, full = _names(mean, config)
    change = Change(lose, win)
    tone = ("good" if change.delta > 0 else "bad") if change.is_clear else "flat"
    verdict = {True: "are apart", False: "overlap", None: "are unknown"}[change.is_clear]
    sentence = (
        f"{full[:1].upper()}{full[1:]}: wins {with_interval(win)}, ties {number(tie.value)}, "
        f"loses {with_interval(lose)}; the intervals of wins and losses {verdict}."
    )
    figures = f"{percent(win.value)} : {percent(lose.value)}"
    return Finding(topic, short, figures, f"wins : losses, {change.verdict}", tone, sentence, is_key=True)


def paragraphs(found: Iterable[Finding]) -> list[tuple[str, str]]:
    """(topic, all that is to be said about it), in the order of the findings."""
    topics: dict[str, list[str]] = defaultdict(list)
    for finding in found:
        topics[finding.topic].append(finding.sentence)
    return [(topic, " ".join(sentences)) for topic, sentences in topics.items()]


def introduction(config: Config, results: Results) -> list[str]:
    """What the run was, and what it still lacks, in sentences."""
    models = results.models
    sentences = _training(config, results) if config.iterations else _evaluation(config, models)
    unmeasured = [model.name for model in models if not model.benchmarks]
    if unmeasured and config.evaluation.benchmarks:
        sentences.append(f"Not measured yet: {join_names(unmeasured)}.")
    measured = [(name, model.name, found) for model in models for name, found in model.benchmarks.items()]
    silent: dict[str, list[str]] = defaultdict(list)
    for benchmark, model_name, languages in measured:
        if _is_silent(languages, [kind.key for kind in kinds_of(config, benchmark)]):
            silent[benchmark].append(model_name)
    sentences += [f"{benchmark} gave no figures for {join_names(names)}." for benchmark, names in silent.items()]
    if len(measured) == sum(map(len, silent.values())):
        doubt = ", so this report cannot say whether the model got better" if config.iterations else ""
        sentences.append(f"Nothing was measured{doubt}.")
    return sentences


def _training(config: Config, results: Results) -> list[str]:
    """What was to be trained, and how far it came."""
    weak = join_names([language_name(code) for code in config.non_dominant])
    strategy = strategy_of(config)
    method = {
        "dpo": f"to prefer {strategy.chosen_in_words()} to {strategy.rejected_in_words()} (DPO + NLL)",
        "sft": f"on {strategy.chosen_in_words()} (plain supervised fine-tuning)",
    }[config.training.objective]
    iterations = f"{config.iterations} iteration{'s' if config.iterations > 1 else ''}"
    # A run that stops by itself has as many iterations as it needs.
    limit = "up to " if config.probe and config.probe.stop and config.iterations > 1 else ""
    sentences = [
        f"The model {config.model.path} was to be improved in {weak}, in {limit}{iterations}, with "
        f"{language_name(config.dominant)} as the dominant language: it was trained {method}, without human labels."
    ]
    trained = [model for model in results.models if model.name != "M0"]
    if len(trained) < config.iterations:
        unfinished = f"This run is not finished: {len(trained)} of {iterations} trained so far."
        sentences.append(_end(config, results, len(trained)) or unfinished)
    return sentences


def _end(config: Config, results: Results, trained: int) -> str:
    """Why a run ended before its last iteration; empty if it did not."""
    last = f"M{trained}"
    if any(isinstance(found, ProgressProbe) and found.model == last and found.stop for found in results.probe):
        return f"The stop rule ended the run after {last}."
    entries = [entry for entry in results.iterations if entry.iteration == trained + 1]
    pairs = sum(entries[0].pairs.values()) if entries else None
    if pairs is not None and pairs < fewest(config):
        counted = f"only {pairs} pair{'s' * (pairs > 1)}" if pairs else "no pair"
        return f"Iteration {trained + 1} made {counted}, so the run ended with {last}."
    return ""


def _evaluation(config: Config, models: Sequence[ModelResults]) -> list[str]:
    """What was measured outside a run."""
    found = models[0].benchmarks if models else {}
    codes = list(dict.fromkeys(code for languages in found.values() for code in languages)) or config.languages
    benchmarks = join_names(list(found)) or "no benchmark so far"
    languages = join_names([language_name(code) for code in codes])
    return [f"The model {config.model.path} was measured in {languages}, on {benchmarks}; nothing was trained."]


def _is_silent(languages: Mapping[str, Metrics], keys: Sequence[str]) -> bool:
    """Whether every described metric of a benchmark is a gap, as it is if all answers failed."""
    given = [(metrics, key) for metrics in languages.values() for key in keys if key in metrics.values]
    return bool(given) and not any(metrics.metric(key) for metrics, key in given)


def cut_off_warnings(results: Results) -> list[tuple[str, str]]:
    """(topic, sentence) if more than a few answers of a benchmark were cut off."""
    places = [f"{model.name}: {place}" for model in results.models for place in cut_off(model)]
    sentence = (
        f"The length limit (evaluation.max_new_tokens) cut off more than 5 % of the answers of {join_names(places)}."
    )
    return [("Answers cut off", sentence)] if places else []


def alarm_warnings(alarms: Iterable[Alarm]) -> list[tuple[str, str]]:
    """(topic, sentences) of what the trainings warned of."""
    return [
        (f"Training alarm, iteration {alarm.iteration}", f"{alarm.title}, at step {alarm.step}. {alarm.message}")
        for alarm in alarms
    ]


def single_step(values: Step) -> str:
    """What a training of one optimiser step logged, in words, since a single point is not a curve."""
    names = {"loss": "loss", "nll": "NLL", "dpo": "DPO", "reward_accuracy": "reward accuracy", "margin": "margin"}
    known = [(title, value) for name, title in names.items() if (value := finite(values.get(name))) is not None]
    logged = join_names([f"{title} {number(value)}" for title, value in known]) or "nothing was logged"
    return (
        f"The training took a single optimiser step, before which its pairs had: {logged}. There is no curve to plot."
    )


def costs(tables: list[PairTable], times: TimeTable, training: Mapping[int, TrainingCost]) -> list[tuple[str, str]]:
    """(topic, sentence) of what the run took."""
    sentences = []
    if tables:
        pairs = join_names([f"{table.total:,} in iteration {table.iteration}" for table in tables])
        dropped = sum(table.dropped for table in tables)
        lost = f"{dropped:,} candidates were dropped, each under a reason given below" if dropped else "none dropped"
        sentences.append(("Pairs", f"{pairs}; {lost}."))
    if times.total:
        parts = [f"{name.lower()} {duration(sum(s or 0 for s in seconds))}" for name, seconds, _ in times.rows]
        sentences.append(("Time", f"{duration(times.total)} in the stages: {', '.join(parts)}."))
    sentences += [(f"Training, iteration {iteration}", training_cost(cost)) for iteration, cost in training.items()]
    return sentences


def training_cost(cost: TrainingCost) -> str:
    """What `lidr.training.cost` measured, in a sentence."""
    share = "" if cost.mfu is None else f" ({cost.mfu:.0%} of the hardware's peak)"
    return (
        f"{cost.tokens:,} tokens in {duration(cost.seconds)}, {cost.tokens_per_second:,.0f} tokens/s, "
        f"{cost.tflops_per_second:.3g} TFLOP/s{share}, at most {cost.peak_gib:.1f} GiB."
    )


def saved_sentences(results: Results) -> list[tuple[str, str]]:
    """(topic, sentence) of how much of each training's gain the saved model has (`lidr.training.saved`)."""
    found = [(entry.iteration, entry.saved) for entry in results.iterations if entry.saved]
    return [(f"Saved model, iteration {iteration}", saved_sentence(saved)) for iteration, saved in found]


def saved_sentence(saved: Saved) -> str:
    """What `lidr.training.saved` measured, in a sentence."""
    gain = {"margin": "reward margin", "chosen_logp": "log-probability of the chosen answer"}[saved.measure]
    formats = f"stored as {saved.stored} and loaded as {saved.loaded}"
    trained, kept = f"{saved.trained:+.3g}".replace("-", "−"), f"{saved.saved:+.3g}".replace("-", "−")
    if saved.kept is None:
        return f"Training gained nothing that can be measured on {saved.pairs} of its pairs ({gain} {trained})."
    return (
        f"On {saved.pairs} of its pairs training gained {trained} ({gain}). The saved model, {formats}, has {kept} "
        f"({percent(saved.kept)})."
    )
