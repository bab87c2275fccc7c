"""The probe: the imbalance of M0 before training, and what each training brought (the stop rule)."""

from __future__ import annotations

from collections.abc import Sequence

from lidr.config import Config
from lidr.report.document import Block, Entry, Heading, Plot, Plots, Row, Section, Table, figure, note
from lidr.report.formatting import VERDICTS, join_names, language_name, number, p_value, percent
from lidr.report.measures import Cell, cell_of, language_order, with_interval
from lidr.report.plots import interval_plot
from lidr.results import DuelCounts, ImbalanceProbe, LanguageProbe, Metric, Metrics, ProgressProbe, Results

_WHO = {"verified": "known answers", "judge": "judge"}
_QUALITY = {
    "verified": ("accuracy", "Share of right answers", (0.0, 1.0)),
    "judge": ("score", "Judge's score, 1 to 10", (1.0, 10.0)),
}


def _imbalance(found: ImbalanceProbe, config: Config) -> list[Block]:
    """The probe of M0."""
    languages = found.languages
    codes = language_order(languages, config)
    names = [language_name(code) for code in codes]
    plots = []
    for by in found.by:
        name, caption, limits = _QUALITY[by]
        series: list[tuple[str, list[Cell | None]]] = [
            ("direct answers", [_quality(languages[code].own, name) for code in codes]),
            ("translated dominant answers", [_quality(languages[code].translated, name) for code in codes]),
        ]
        label = f"Probe of M0: {caption}, direct and translated answers by language"
        plots.append(Plot(interval_plot(names, series, label, limits), caption))
    taught = {code: found_there for code in codes if (found_there := languages[code].reward_accuracy) is not None}
    rewards = [(_WHO[by], [_share(counted.get(by)) for counted in taught.values()]) for by in found.by]
    label = "Probe of M0: reward accuracy by language"
    plot = interval_plot([language_name(code) for code in taught], rewards, label, middle=0.5)
    plots.append(Plot(plot, "Reward accuracy: how often the translated answer is the better one, without ties"))
    how = (
        f"{found.prompts:,} prompts that are kept out of training; {join_names([_WHO[by] for by in found.by])} "
        f"say{'s' if found.by == ('judge',) else ''} which answer is better"
        f"{', and the known answers decide' if len(found.by) > 1 else ''}. Train: the interval of the reward "
        "accuracy is above 0.5. Weak signal: it includes 0.5. Drop: it is below, or most translations fail."
    )
    return [Heading("Imbalance probe of M0"), note(how), Plots(plots), _imbalance_table(found, codes)]


def _imbalance_table(found: ImbalanceProbe, codes: Sequence[str]) -> Table:
    header = ["Language", "Verdict"]
    for by in found.by:
        header += [f"Own {_QUALITY[by][0]}", f"Translated {_QUALITY[by][0]}"]
    header += [f"Reward accuracy ({_WHO[by]})" for by in found.by]
    header += ["Off-target", "Line pass rate", "Failed translations"]
    rows = []
    for code in codes:
        entry = found.languages[code]
        cells = [Entry(VERDICTS[entry.verdict])]
        for by in found.by:
            cells += [figure(_quality(side, _QUALITY[by][0])) for side in (entry.own, entry.translated)]
        cells += [_duels((entry.reward_accuracy or {}).get(by)) for by in found.by]
        language = (Metric(entry.off_target, entry.ci95_off_target), Metric(entry.lpr, entry.ci95_lpr))
        cells += [*(figure(cell_of(metric)) for metric in language), _failed(entry)]
        rows.append(Row(Entry(language_name(code)), cells))
    how = (
        "Small figures are 95 % intervals, and counts of better : worse answers (ties apart). Line pass rate: own "
        "answers without a line in another language."
    )
    return Table("Imbalance probe of M0", header, rows, how)


def _progress(entries: Sequence[ProgressProbe], config: Config) -> list[Block]:
    """Every later model against the one before it."""
    codes = language_order((code for found in entries for code in found.languages), config)
    names = [*map(language_name, codes), "Together"]
    titles = [f"{found.model} against {found.opponent}" for found in entries]
    plots = []
    for by in dict.fromkeys(by for found in entries for by in found.by):
        series = [
            (title, [*(_share(_better(found, code, by)) for code in codes), _share(_together(found, by))])
            for title, found in zip(titles, entries, strict=True)
        ]
        label = f"Stop rule: share of better answers by language, {_WHO[by]}"
        plot = interval_plot(names, series, label, middle=0.5)
        plots.append(Plot(plot, f"Better answers among those that differ ({_WHO[by]})"))
    rows = [
        Row(Entry(language_name(code)), [_duels(_better(found, code, found.by[0])) for found in entries])
        for code in codes
    ]
    rows.append(Row(Entry("Together"), [_duels(found.together) for found in entries]))
    rows.append(Row(Entry("Advice"), [Entry(_advice(found)) for found in entries]))
    how = (
        "The direct answers of each model and of the one before it, to the same held-out prompts. Together: each "
        "prompt counts once, by the sum over its languages but the dominant one. A gain or loss is one whose interval "
        "leaves out 0.5."
    )
    table = Table("Stop rule", ["Language", *titles], rows)
    return [Heading("What each iteration brought (stop rule)"), note(how), Plots(plots), table]


def _kinds(results: Results) -> tuple[list[ImbalanceProbe], list[ProgressProbe]]:
    """The probe of M_0, if there was one, and what the stop rule says of each later model."""
    return (
        [found for found in results.probe if isinstance(found, ImbalanceProbe)],
        [found for found in results.probe if isinstance(found, ProgressProbe)],
    )


def probe_section(results: Results, config: Config) -> Section | None:
    first, later = _kinds(results)
    blocks = [block for found in first for block in _imbalance(found, config)]
    blocks += _progress(later, config) if later else []
    return Section("probe", "Probe", blocks) if blocks else None


def probe_advice(results: Results, config: Config) -> list[tuple[str, str]]:
    """(title, sentence) of what the probe and the stop rule advise against, for a box at the top."""
    first, later = _kinds(results)
    advice: list[tuple[str, str]] = []
    for probe in first:
        if probe.dominant != config.dominant:
            advice.append(
                (f"{language_name(probe.dominant)} answers are the best", f"The probe finds the best answers in "
                 f"{language_name(probe.dominant)}, but the recipe teaches from {language_name(config.dominant)}.")
            )  # fmt: skip
        dropped = [code for code, entry in probe.languages.items() if entry.verdict == "drop"]
        still = [language_name(code) for code in dropped if code in config.non_dominant]
        if still:
            advice.append(
                (f"Leave out {join_names(still)}", "By the probe of M0 translated answers are no better there than "
                 "direct ones, or most translations fail.")
            )  # fmt: skip
    stopped = [found for found in later if found.stop]
    advice += [(f"Keep M{found.keep}", f"{found.model} is no step forward: {found.reason}.") for found in stopped]
    return advice


def probe_sentences(results: Results, config: Config) -> list[tuple[str, str]]:
    """(topic, sentences) for the summary."""
    first, later = _kinds(results)
    told = [("Probe of M0", _imbalance_sentence(found, config)) for found in first]
    if later:
        told.append(("Stop rule", f"{' '.join(map(_progress_sentence, later))} In brackets: 95 % intervals."))
    return told


def _progress_sentence(found: ProgressProbe) -> str:
    ways = [
        f"{words} in {join_names([*map(language_name, codes)])}"
        for words, codes in (("gains", found.gains), ("losses", found.losses))
        if codes
    ]
    return (
        f"{found.model} against {found.opponent}: better at {with_interval(_share(found.together))} of the "
        f"prompts where they differ, {' and '.join(ways) or 'no language gains'} beyond noise."
    )


def _imbalance_sentence(found: ImbalanceProbe, config: Config) -> str:
    by = found.by[0]
    codes = language_order(found.languages, config)
    parts = [f"the best answers are in {language_name(found.dominant)}"]
    for verdict, words in (
        ("train", "worth training"),
        ("weak", "weak signal"),
        ("drop", "not worth training"),
        ("unknown", "no data"),
    ):
        names = [
            f"{language_name(code)} ({number(counted[by].value)})"
            for code in codes
            if found.languages[code].verdict == verdict and (counted := found.languages[code].reward_accuracy)
        ]
        if names:
            parts.append(f"{words}: {join_names(names)}")
    return f"{'; '.join(parts)[:1].upper()}{'; '.join(parts)[1:]}. In brackets: reward accuracy, by {_WHO[by]}."


def _advice(found: ProgressProbe) -> str:
    return f"stop, keep M{found.keep}" if found.stop else "go on"


def _better(found: ProgressProbe, code: str, by: str) -> DuelCounts | None:
    return found.languages[code].better.get(by) if code in found.languages else None


def _together(found: ProgressProbe, by: str) -> DuelCounts | None:
    """All languages together are counted for the first judge alone."""
    return found.together if by == found.by[0] else None


def _quality(answers: Metrics | None, name: str) -> Cell | None:
    return cell_of(answers.metric(name)) if answers else None


def _share(counted: DuelCounts | None) -> Cell | None:
    return cell_of(counted.metric) if counted else None


def _duels(counted: DuelCounts | None) -> Entry:
    """The share of better answers, and under it interval, counts and sign test."""
    cell = _share(counted)
    if counted is None:
        return Entry("–")
    counts = f"{counted.wins:,} : {counted.losses:,}"
    if cell is None:
        return Entry("–", (counts,))
    return Entry(number(cell.value), (*figure(cell).small, counts, p_value(counted.p)))


def _failed(entry: LanguageProbe) -> Entry:
    """The share of translations that failed, and under it by the length of the answer in characters."""
    if entry.translation_failed is None:
        return Entry("–")
    parts = []
    for part in entry.failed_by_length:
        end = f"–{part.to_characters:,}" if part.to_characters else "+"
        parts.append(f"{part.from_characters:,}{end}: {part.failed:,} of {part.n:,}")
    return Entry(percent(entry.translation_failed), tuple(parts))
