"""Plots as SVG that loads nothing and is the same for the same values."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

from lidr.reporting.measures import Measure
from lidr.reporting.telemetry import group_names, groups, mean_over_pairs
from lidr.reporting.words import Interval, finite, language_name

# Okabe and Ito's palette, told apart with every common kind of colour vision; shapes differ, too.
_MODEL_COLOURS = ("#7a7a7a", "#e69f00", "#0072b2", "#009e73", "#cc79a7", "#d55e00")
_MODEL_MARKERS = ("o", "s", "D", "^", "v", "P")
_LINES = (("#0072b2", "-"), ("#d55e00", "--"), ("#009e73", ":"))
_LANGUAGE_DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))
_LANGUAGE_PANELS: dict[str, tuple[str, Interval | None]] = {
    "reward_accuracy": ("Reward accuracy", (-0.03, 1.03)),
    "margin": ("Margin of the implicit rewards", None),
    "nll": ("NLL of the chosen answers", None),
    "chosen_logp": ("Log-probability of the chosen answers", None),
}
_STYLE: dict[str, Any] = {
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


def draw(paint: Callable[[Any], None], size: tuple[float, float], label: str) -> str:
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
    rows, models = measure.rows, measure.models
    gap = 0.62 / max(1, len(models))

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        for y in range(0, len(rows), 2):
            axes.axhspan(y - 0.5, y + 0.5, color="#eef1f4", linewidth=0, zorder=0)
        for i, model in enumerate(models):
            known = [
                (y + (i - (len(models) - 1) / 2) * gap, cell) for y, row in enumerate(rows) if (cell := row.cells[i])
            ]
            bounds = [cell.interval or (cell.value, cell.value) for _, cell in known]
            below = [max(0.0, cell.value - low) for (_, cell), (low, _) in zip(known, bounds, strict=True)]
            above = [max(0.0, high - cell.value) for (_, cell), (_, high) in zip(known, bounds, strict=True)]
            axes.errorbar(
                [cell.value for _, cell in known], [y for y, _ in known], xerr=[below, above], label=model,
                color=_MODEL_COLOURS[i % 6], fmt=_MODEL_MARKERS[i % 6], markersize=5, elinewidth=1.6, zorder=3,
            )  # fmt: skip
        highest = max(
            bound for row in rows for cell in row.cells if cell for bound in (cell.value, *(cell.interval or ()))
        )
        axes.set_xlim(-0.02, min(1.02, max(0.2, highest * 1.08)) if measure.kind.lower_is_better else 1.02)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        names = [row.name if row.role == "trained" else f"{row.name} ({row.role})" for row in rows]
        axes.set_yticks(range(len(rows)), names)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color="#c9ced4", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(models), handletextpad=0.3, borderaxespad=0.2)

    height = 0.75 + len(rows) * max(0.36, 0.1 + 0.14 * len(models))
    return draw(paint, (5.0, height), f"{measure.benchmark}: {measure.kind.title} by language and model")


def line_plot(
    curve: dict[int, dict[str, Any]],
    names: Sequence[str],
    label: str,
    limits: Interval | None = None,
    held_out: Sequence[tuple[int, float]] = (),
) -> str:
    """Training values over the optimiser steps, and the held-out loss; long trainings as means of blocks of steps."""
    steps = list(curve)
    block = max(1, math.ceil(len(steps) / 250))

    def paint(figure: Any) -> None:
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


def _step_axis(axes: Any) -> None:
    axes.set_xlabel("optimiser step")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(color="#dde1e5", linewidth=0.6)


def curve_plots(
    iteration: int, curve: dict[int, dict[str, Any]], held_out: dict[int, dict[str, Any]]
) -> list[tuple[str, str]]:
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


def language_plot(iteration: int, curve: dict[int, dict[str, Any]], languages: Sequence[str]) -> str | None:
    """A panel per value and a line per language; long trainings as means over the pairs of blocks of steps."""
    codes = group_names(curve, "language", languages)
    present = {name for values in curve.values() for group in groups(values, "language").values() for name in group}
    panels = {name: panel for name, panel in _LANGUAGE_PANELS.items() if name in present}
    if not panels:
        return None
    steps = sorted(curve)
    size = max(1, math.ceil(len(steps) / 30))
    blocks = [steps[i : i + size] for i in range(0, len(steps), size)]

    def paint(figure: Any) -> None:
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


def _language_points(
    curve: dict[int, dict[str, Any]], blocks: Iterable[list[int]], code: str, name: str
) -> list[tuple[float, float]]:
    """(step, mean over the pairs) of every block of steps that has pairs of the language."""
    points = []
    for block in blocks:
        parts = [groups(curve[step], "language").get(code, {}) for step in block]
        if (value := mean_over_pairs(parts, name)) is not None:
            points.append((sum(block) / len(block), value))
    return points
