"""The probe: the imbalance of M0 before training, and what each training brought (the stop rule)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lidr.config import Config
from lidr.report.formatting import VERDICTS, finite, join_names, language_name, number, p_value, percent
from lidr.report.measures import Cell, language_order, read_cell, with_interval
from lidr.report.plots import interval_plot
from lidr.report.tables import Entry, Grid, figure

_WHO = {"verified": "known answers", "judge": "judge"}
_QUALITY = {
    "verified": ("accuracy", "ci95", "Share of right answers", (0.0, 1.0)),
    "judge": ("score", "ci95_score", "Judge's score, 1 to 10", (1.0, 10.0)),
}


@dataclass(frozen=True, slots=True)
class ProbeView:
    """One section: plots with their captions, the table, and what follows from it in sentences."""

    title: str
    note: str
    plots: list[tuple[str, str]]
    grid: Grid


def imbalance(found: dict[str, Any], config: Config) -> ProbeView:
    """The probe of M0."""
    languages = found["languages"]
    codes = language_order(languages, config)
    names = [language_name(code) for code in codes]
    plots = []
    for by in found["by"]:
        key, interval_key, caption, limits = _QUALITY[by]
        series: list[tuple[str, list[Cell | None]]] = [
            (title, [read_cell(languages[code].get(side, {}), key, interval_key) for code in codes])
            for side, title in (("own", "direct answers"), ("translated", "translated dominant answers"))
        ]
        label = f"Probe of M0: {caption}, direct and translated answers by language"
        plots.append((caption, interval_plot(names, series, label, limits)))
    taught = [code for code in codes if "reward_accuracy" in languages[code]]
    rewards = [
        (_WHO[by], [_share(languages[code]["reward_accuracy"].get(by)) for code in taught]) for by in found["by"]
    ]
    label = "Probe of M0: reward accuracy by language"
    plot = interval_plot([language_name(code) for code in taught], rewards, label, middle=0.5)
    plots.append(("Reward accuracy: how often the translated answer is the better one, without ties", plot))
    note = (
        f"{found['prompts']:,} prompts that are kept out of training; {join_names([_WHO[by] for by in found['by']])} "
        f"say{'s' if found['by'] == ['judge'] else ''} which answer is better"
        f"{', and the known answers decide' if len(found['by']) > 1 else ''}. Train: the interval of the reward "
        "accuracy is above 0.5. Weak signal: it includes 0.5. Drop: it is below, or most translations fail."
    )
    return ProbeView("Imbalance probe of M0", note, plots, _imbalance_grid(found, codes))


def _imbalance_grid(found: dict[str, Any], codes: Sequence[str]) -> Grid:
    header = ["Language", "Verdict"]
    for by in found["by"]:
        header += [f"Own {_QUALITY[by][0]}", f"Translated {_QUALITY[by][0]}"]
    header += [f"Reward accuracy ({_WHO[by]})" for by in found["by"]]
    header += ["Off-target", "Failed translations"]
    rows = []
    for code in codes:
        entry = found["languages"][code]
        cells: list[Entry] = [(VERDICTS[entry["verdict"]], "")]
        for by in found["by"]:
            key, interval_key, *_ = _QUALITY[by]
            cells += [figure(read_cell(entry.get(side, {}), key, interval_key)) for side in ("own", "translated")]
        cells += [_duels(entry.get("reward_accuracy", {}).get(by)) for by in found["by"]]
        cells += [figure(read_cell(entry, "off_target")), _failed(entry)]
        rows.append((language_name(code), cells))
    note = "Small figures are 95 % intervals, and counts of better : worse answers (ties apart)."
    return Grid("Imbalance probe of M0", header, rows, note)


def progress(entries: Sequence[dict[str, Any]], config: Config) -> ProbeView:
    """Every later model against the one before it."""
    codes = language_order((code for found in entries for code in found["languages"]), config)
    names = [*map(language_name, codes), "Together"]
    titles = [f"{found['model']} against {_previous(found)}" for found in entries]
    plots = []
    for by in dict.fromkeys(by for found in entries for by in found["by"]):
        series = [
            (title, [*(_share(_better(found, code, by)) for code in codes), _share(_together(found, by))])
            for title, found in zip(titles, entries, strict=True)
        ]
        label = f"Stop rule: share of better answers by language, {_WHO[by]}"
        plot = interval_plot(names, series, label, middle=0.5)
        plots.append((f"Better answers among those that differ ({_WHO[by]})", plot))
    rows = [
        (language_name(code), [_duels(_better(found, code, found["by"][0])) for found in entries]) for code in codes
    ]
    rows.append(("Together", [_duels(found["together"]) for found in entries]))
    rows.append(("Advice", [(_advice(found), "") for found in entries]))
    note = (
        "The direct answers of each model and of the one before it, to the same held-out prompts. Together: each "
        "prompt counts once, by the sum over its languages but the dominant one. A gain or loss is one whose interval "
        "leaves out 0.5."
    )
    grid = Grid("Stop rule", ["Language", *titles], rows)
    return ProbeView("What each iteration brought (stop rule)", note, plots, grid)


def probe_views(results: dict[str, Any], config: Config) -> list[ProbeView]:
    entries = results.get("probe", [])
    first, later = [e for e in entries if "dominant" in e], [e for e in entries if "together" in e]
    views = [imbalance(found, config) for found in first]
    return [*views, progress(later, config)] if later else views


def probe_advice(results: dict[str, Any], config: Config) -> list[tuple[str, str]]:
    """(title, sentence) of what the probe and the stop rule advise against, for a box at the top."""
    advice = []
    for found in results.get("probe", []):
        if found.get("stop"):
            advice.append((f"Keep M{found['keep']}", f"{found['model']} is no step forward: {found['reason']}."))
        dominant = found.get("dominant")
        if dominant and dominant != config.dominant:
            advice.append(
                (f"{language_name(dominant)} answers are the best", f"The probe finds the best answers in "
                 f"{language_name(dominant)}, but the recipe teaches from {language_name(config.dominant)}.")
            )  # fmt: skip
        dropped = [code for code, entry in found["languages"].items() if entry.get("verdict") == "drop"]
        still = [language_name(code) for code in dropped if code in config.non_dominant]
        if still:
            advice.append(
                (f"Leave out {join_names(still)}", "By the probe of M0 translated answers are no better there than "
                 "direct ones, or most translations fail.")
            )  # fmt: skip
    return advice


def probe_sentences(results: dict[str, Any], config: Config) -> list[tuple[str, str]]:
    """(topic, sentences) for the summary."""
    entries = results.get("probe", [])
    told = [("Probe of M0", _imbalance_sentence(found, config)) for found in entries if "dominant" in found]
    later = [found for found in entries if "together" in found]
    if later:
        told.append(("Stop rule", f"{' '.join(map(_progress_sentence, later))} In brackets: 95 % intervals."))
    return told


def _progress_sentence(found: dict[str, Any]) -> str:
    ways = [
        f"{words} in {join_names([*map(language_name, found[way])])}"
        for way, words in (("gains", "gains"), ("losses", "losses"))
        if found[way]
    ]
    return (
        f"{found['model']} against {_previous(found)}: better at {with_interval(_share(found['together']))} of the "
        f"prompts where they differ, {' and '.join(ways) or 'no language gains'} beyond noise."
    )


def _imbalance_sentence(found: dict[str, Any], config: Config) -> str:
    by = found["by"][0]
    codes = language_order(found["languages"], config)
    parts = [f"the best answers are in {language_name(found['dominant'])}"]
    for verdict, words in (
        ("train", "worth training"),
        ("weak", "weak signal"),
        ("drop", "not worth training"),
        ("unknown", "no data"),
    ):
        names = [
            f"{language_name(code)} ({number(finite(found['languages'][code]['reward_accuracy'][by]['value']))})"
            for code in codes
            if found["languages"][code]["verdict"] == verdict
        ]
        if names:
            parts.append(f"{words}: {join_names(names)}")
    return f"{'; '.join(parts)[:1].upper()}{'; '.join(parts)[1:]}. In brackets: reward accuracy, by {_WHO[by]}."


def _previous(found: dict[str, Any]) -> str:
    return f"M{int(found['model'][1:]) - 1}"


def _advice(found: dict[str, Any]) -> str:
    return f"stop, keep M{found['keep']}" if found["stop"] else "go on"


def _better(found: dict[str, Any], code: str, by: str) -> dict[str, Any] | None:
    counted: dict[str, Any] | None = found["languages"].get(code, {}).get("better", {}).get(by)
    return counted


def _together(found: dict[str, Any], by: str) -> dict[str, Any] | None:
    """All languages together are counted for the first judge alone."""
    return found["together"] if by == found["by"][0] else None


def _share(counted: dict[str, Any] | None) -> Cell | None:
    return read_cell(counted, "value", "ci95") if counted else None


def _duels(counted: dict[str, Any] | None) -> Entry:
    """The share of better answers, and under it interval, counts and sign test."""
    cell = _share(counted)
    if counted is None:
        return "–", ""
    counts = f"{counted['wins']:,} : {counted['losses']:,}"
    if cell is None:
        return "–", counts
    share, bounds = figure(cell)
    return share, f"{bounds}, {counts}, {p_value(counted['p'])}"


def _failed(entry: dict[str, Any]) -> Entry:
    """The share of translations that failed, and under it by the length of the answer in characters."""
    share = finite(entry.get("translation_failed"))
    if share is None:
        return "–", ""
    parts = []
    for part in entry.get("failed_by_length", []):
        end = f"–{part['to_characters']:,}" if part["to_characters"] else "+"
        parts.append(f"{part['from_characters']:,}{end}: {part['failed']:,} of {part['n']:,}")
    return percent(share), "; ".join(parts)
