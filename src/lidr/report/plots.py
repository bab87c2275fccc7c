"""Plots as SVG that loads nothing; equal values give equal plots."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from lidr.report.formatting import language_name
from lidr.report.measures import Cell, Measure
from lidr.report.telemetry import Curve, Step, group_names, groups, mean_over_pairs
from lidr.results import Interval, finite

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which all common kinds of colour vision distinguish; the shapes differ, too.
_MODEL_COLOURS = ("#7a7a7a", "#e69f00", "#0072b2", "#009e73", "#cc79a7", "#d55e00")
_MODEL_MARKERS = ("o", "s", "D", "^", "v", "P")
# (bar, figures in it) of wins, ties and losses.
_OUTCOMES = (("#0072b2", "#ffffff"), ("#d3d8dd", "#20252a"), ("#e69f00", "#20252a"))
_LINES = (("#0072b2", "-"), ("#d55e00", "--"), ("#009e73", ":"))
_LANGUAGE_DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))
_LANGUAGE_PANELS: dict[str, tuple[str, Interval | None]] = {
    "reward_accuracy": ("Reward accuracy", (-0.03, 1.03)),
    "margin": ("Margin of the implicit rewards", None),
    "nll": ("NLL of the chosen answers", None),
    "chosen_logp": ("Log-probability of the chosen answers", None),
}
_STYLE: dict[str, object] = {
    "svg.fonttype": "none",  # text stays text: small, selectable, and in the page's font
    "text.parse_math": False,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that the layout is the same everywhere
    "font.size": 9.5,
    "axes.edgecolor": "#8b929a",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": "#3c434a",
    "ytick.color": "#3c434a",
    "text.color": "#20252a",
    "axes.labelcolor": "#3c434a",
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


def series_style(number: int) -> tuple[str, str, str]:
    """Colour, marker and line of the series of that number, from 0; after six the colours come again, dashed."""
    rounds, place = divmod(number, len(_MODEL_COLOURS))
    return (
        _MODEL_COLOURS[place - 5],
        _MODEL_MARKERS[(place + rounds) % len(_MODEL_MARKERS)],
        ("-", "--", ":")[rounds % 3],
    )


def draw(paint: Callable[[Figure], None], size: tuple[float, float], label: str) -> str:
    """`paint(figure)` as an `<svg>` element without date, size, script or outside reference: equal in, equal out."""
    from io import StringIO

    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's matplotlibrc must not change the report
        matplotlib.rcParams.update(_STYLE | {"svg.hashsalt": label})
        figure = Figure(figsize=size, layout="constrained")
        paint(figure)
        buffer = StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    root = re.search(r"<svg[^>]*viewBox=\"([^\"]*)\"[^>]*>", svg)
    assert root is not None
    body = re.sub(r"<g id=\"[^\"]*\"", "<g", svg[root.end() :]).replace("xlink:href=", "href=")
    return f'<svg viewBox="{root[1]}" role="img" aria-label="{escape(label)}">{body.strip()}'


def dot_plot(measure: Measure) -> str:
    """A row per language, a dot per model, a line per 95 % interval."""
    low, high = measure.kind.limits
    if measure.kind.is_zoomed:
        cells = [cell for row in measure.rows for cell in row.cells if cell]
        bounds = [bound for cell in cells for bound in cell.interval or (cell.value,)]
        if measure.kind.lower_is_better:
            high = min(high, max(0.2, 1.08 * max(bounds)))
        else:
            low = max(low, min(0.8, 1.08 * min(bounds) - 0.08))
    series = [(model, [row.cells[i] for row in measure.rows]) for i, model in enumerate(measure.models)]
    label = f"{measure.benchmark}: {measure.kind.title} by language and model"
    return interval_plot([row.title for row in measure.rows], series, label, (low, high), measure.kind.middle)


def interval_plot(
    names: Sequence[str],
    series: Sequence[tuple[str, Sequence[Cell | None]]],
    label: str,
    limits: Interval = (0.0, 1.0),
    middle: float | None = None,
) -> str:
    """A row per name, a dot per series, a line per 95 % interval, and an upright line at `middle`."""
    gap = 0.62 / max(1, len(series))
    margin = 0.02 * (limits[1] - limits[0])

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for y in range(0, len(names), 2):
            axes.axhspan(y - 0.5, y + 0.5, color="#eef1f4", linewidth=0, zorder=0)
        if middle is not None:
            axes.axvline(middle, color="#20252a", linewidth=1, linestyle=(0, (4, 3)), zorder=2)
        for i, (title, cells) in enumerate(series):
            known = [(y + (i - (len(series) - 1) / 2) * gap, cell) for y, cell in enumerate(cells) if cell]
            axes.errorbar(
                [cell.value for _, cell in known], [y for y, _ in known], xerr=_error([cell for _, cell in known]),
                label=title, color=_MODEL_COLOURS[i % 6], fmt=_MODEL_MARKERS[i % 6], markersize=5, elinewidth=1.6,
                zorder=3,
            )  # fmt: skip
        axes.set_xlim(limits[0] - margin, limits[1] + margin)
        if limits[1] > 1:  # a judge's points
            axes.set_xticks(range(int(limits[0]), int(limits[1]) + 1))
        _name_axis(axes, names)
        axes.grid(axis="x", color="#c9ced4", linewidth=0.6)
        axes.set_axisbelow(True)
        _legend(axes, len(series))

    height = 0.75 + len(names) * max(0.36, 0.1 + 0.14 * len(series))
    return draw(paint, (5.0, height), label)


def outcome_plot(rows: Sequence[tuple[str, Sequence[Cell | None]]], titles: Sequence[str], label: str) -> str:
    """A bar per language, split into wins, ties and losses, with the interval of the share of wins."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        left = [0.0] * len(rows)
        for part, ((colour, ink), title) in enumerate(zip(_OUTCOMES, titles, strict=True)):
            widths = [cell.value if (cell := cells[part]) else 0.0 for _, cells in rows]
            axes.barh(range(len(rows)), widths, 0.74, left, color=colour, label=title, edgecolor="white", linewidth=0.8)
            for y, (start, width) in enumerate(zip(left, widths, strict=True)):
                if width >= 0.055:  # a narrower part has no room for its figure
                    axes.text(
                        start + width / 2, y - 0.06, f"{100 * width:.0f} %", color=ink, ha="center", va="center",
                        fontsize=9,
                    )  # fmt: skip
            left = [start + width for start, width in zip(left, widths, strict=True)]
        wins = [(y, cell) for y, (_, cells) in enumerate(rows) if (cell := cells[0])]
        # White under black is visible on every part of the bar; it is below the figures.
        for colour, width, cap in (("white", 3.4, 3.6), ("#20252a", 1.4, 3)):
            axes.errorbar(
                [cell.value for _, cell in wins], [y + 0.24 for y, _ in wins], xerr=_error([cell for _, cell in wins]),
                fmt="none", ecolor=colour, elinewidth=width, capsize=cap, capthick=width,
            )  # fmt: skip
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
        _name_axis(axes, [name for name, _ in rows])
        _legend(axes, 3)

    return draw(paint, (5.0, 0.75 + 0.42 * len(rows)), label)


def _error(cells: Sequence[Cell]) -> list[list[float]]:
    """How far the intervals reach below and above the values."""
    bounds = [cell.interval or (cell.value, cell.value) for cell in cells]
    below = [max(0.0, cell.value - low) for cell, (low, _) in zip(cells, bounds, strict=True)]
    above = [max(0.0, high - cell.value) for cell, (_, high) in zip(cells, bounds, strict=True)]
    return [below, above]


def _name_axis(axes: Axes, names: Sequence[str]) -> None:
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _legend(axes: Axes, columns: int) -> None:
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=min(columns, 6), handletextpad=0.3, borderaxespad=0.2,
        columnspacing=1.2, handlelength=1.2,
    )  # fmt: skip


def line_plot(
    curve: Curve,
    names: Sequence[str],
    label: str,
    limits: Interval | None = None,
    held_out: Sequence[tuple[int, float]] = (),
) -> str:
    """Training values over the optimiser steps, and the held-out loss; of long trainings, means of blocks of steps."""
    steps = list(curve)
    block = max(1, math.ceil(len(steps) / 250))

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for (colour, dashes), name in zip(_LINES, names, strict=False):
            known = [(step, value) for step in steps if (value := finite(curve[step].get(name))) is not None]
            blocks = [known[i : i + block] for i in range(0, len(known), block)]
            axes.plot(
                [sum(step for step, _ in part) / len(part) for part in blocks],
                [sum(value for _, value in part) / len(part) for part in blocks],
                color=colour, linestyle=dashes, linewidth=1.6, label=name.removesuffix("_reward").replace("_", " "),
                marker="o" if len(blocks) == 1 else "",
            )  # fmt: skip
        if held_out:
            axes.plot(
                [step for step, _ in held_out], [loss for _, loss in held_out],
                color="#cc79a7", linestyle=":", linewidth=1.6, marker="o", markersize=4, label="held-out loss",
            )  # fmt: skip
        if limits:
            axes.set_ylim(*limits)
        _step_axis(axes)
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=3, handlelength=1.6, columnspacing=1.2, borderaxespad=0.2
        )

    return draw(paint, (4.2, 2.9), label)


def _step_axis(axes: Axes) -> None:
    axes.set_xlabel("optimiser step")
    axes.locator_params(axis="x", integer=True)
    axes.grid(color="#dde1e5", linewidth=0.6)


def curve_plots(iteration: int, curve: Curve, held_out: Mapping[int, Step]) -> list[tuple[str, str]]:
    """(caption, SVG) of what one training logged; SFT has a loss and nothing to compare."""
    losses = [(step, loss) for step in sorted(held_out) if (loss := finite(held_out[step].get("loss"))) is not None]
    panels: list[tuple[str, tuple[str, ...], Interval | None]] = [
        ("Loss, and its parts DPO and NLL", ("loss", "nll", "dpo"), None),
        ("Pairs whose chosen answer has the higher reward", ("reward_accuracy",), (-0.03, 1.03)),
        ("Implicit rewards, against the reference model", ("margin", "chosen_reward", "rejected_reward"), None),
    ]
    present = {name for values in curve.values() for name in values}
    if "dpo" not in present:
        panels = [("Loss: NLL of the chosen answers", ("loss",), None)]
    plots = []
    for caption, names, limits in panels:
        shown = [name for name in names if name in present]
        if shown:
            known = losses if "loss" in shown else []
            plots.append((caption, line_plot(curve, shown, f"Iteration {iteration}: {caption}", limits, known)))
    return plots


def language_plot(iteration: int, curve: Curve, languages: Sequence[str]) -> str | None:
    """A panel per value and a line per language; of long trainings, means over the pairs of blocks of steps."""
    codes = group_names(curve, "language", languages)
    present = {name for values in curve.values() for group in groups(values, "language").values() for name in group}
    panels = {name: panel for name, panel in _LANGUAGE_PANELS.items() if name in present}
    if not panels:
        return None
    steps = sorted(curve)
    size = max(1, math.ceil(len(steps) / 30))
    blocks = [steps[i : i + size] for i in range(0, len(steps), size)]

    def paint(figure: Figure) -> None:
        row = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (name, (title, limits)) in zip(row, panels.items(), strict=True):
            for i, code in enumerate(codes):
                points = _language_points(curve, blocks, code, name)
                axes.plot(
                    [x for x, _ in points], [y for _, y in points], label=language_name(code),
                    color=_MODEL_COLOURS[i % 6], linestyle=_LANGUAGE_DASHES[i % 5], linewidth=1.5,
                    marker="o" if len(points) == 1 else "", markersize=4,
                )  # fmt: skip
            if limits:
                axes.set_ylim(*limits)
            axes.set_title(title, loc="left", fontsize=9.5)
            _step_axis(axes)
        figure.legend(*row[0].get_legend_handles_labels(), loc="outside upper left", ncols=8, handlelength=2.4)

    return draw(paint, (12.4, 2.8 + 0.2 * (len(codes) // 8)), f"Iteration {iteration}: training by language")


def _language_points(curve: Curve, blocks: Iterable[list[int]], code: str, name: str) -> list[tuple[float, float]]:
    """(step, mean over the pairs) of every block of steps that has pairs of the language."""
    points = []
    for block in blocks:
        parts = [groups(curve[step], "language").get(code, {}) for step in block]
        if (value := mean_over_pairs(parts, name)) is not None:
            points.append((sum(block) / len(block), value))
    return points
