"""What the paper reports, to be shown beside a run's own numbers.

Source: Yang, Wu, Wang, Zong, Zhang, "Language Imbalance Driven Rewarding for Multilingual Self-improving", ICLR 2025
(arXiv 2410.08964). Shares are between 0 and 1; MT-Bench is on its scale from 1 to 10, the judge's scores from 0 to 10.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

SOURCE = "Yang et al., ICLR 2025, arXiv 2410.08964"
MODEL = "Meta-Llama-3-8B-Instruct"
MEAN = "mean"  # in place of a language: the paper reports only the mean over languages


@dataclass(frozen=True, slots=True)
class PaperTable:
    """Rows of (name, one value per language); None if the paper has no number."""

    title: str
    model: str
    languages: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]


def _table(title: str, languages: str, *rows: tuple[str, tuple[float | None, ...]]) -> PaperTable:
    return PaperTable(title, MODEL, tuple(languages.split()), rows)


PAPER_TABLES: dict[str, PaperTable] = {
    "mgsm": _table(
        "MGSM accuracy, and share of off-target answers", "en es ru de fr ja sw th zh bn",
        ("M0", (0.700, 0.456, 0.488, 0.468, 0.464, 0.284, 0.192, 0.324, 0.464, 0.328)),
        ("Multilingual Alignment", (0.680, 0.604, 0.592, 0.552, 0.540, 0.356, 0.216, 0.436, 0.520, 0.308)),
        ("M1", (0.712, 0.616, 0.604, 0.564, 0.596, 0.428, 0.320, 0.524, 0.552, 0.464)),
        ("M2", (0.720, 0.640, 0.620, 0.570, 0.608, 0.476, 0.328, 0.536, 0.592, 0.472)),
        ("M0, off-target", (0.0, 0.012, 0.076, 0.016, 0.016, 0.280, 0.204, 0.124, 0.336, 0.024)),
    ),
    "x_alpacaeval": _table(
        "X-AlpacaEval win rate against GPT-4-Turbo, judge GPT-4-Turbo, 805 prompts", "en es ru de fr",
        ("M0", (0.2490, 0.1808, 0.0781, 0.0865, 0.1418)),
        ("Multilingual Alignment", (0.2188, 0.1898, 0.1590, 0.1668, 0.1815)),
        ("M1", (0.3011, 0.2182, 0.1801, 0.1687, 0.1751)),
        ("M2", (0.3409, 0.2121, 0.1925, 0.1602, 0.2034)),
    ),
    "head_to_head": _table(
        "M2 against M0, head to head", "en es ru de fr zh",
        ("M2 wins", (0.358, 0.448, 0.740, 0.704, 0.559, 0.547)),
        ("tie", (0.514, 0.361, 0.129, 0.178, 0.276, 0.400)),
        ("M2 loses", (0.128, 0.190, 0.130, 0.118, 0.165, 0.053)),
    ),
    "mt_bench": _table(
        "Multilingual MT-Bench score", "en es ru de fr zh",
        ("M0", (8.20, 7.51, 5.86, 6.36, 7.21, 5.64)),
        ("M2", (8.30, 7.59, 7.37, 7.62, 7.93, 6.22)),
    ),
    "mmlu": _table("Multilingual MMLU accuracy", MEAN, ("M0", (0.5666,)), ("M2", (0.5687,))),
    "hellaswag": _table("Multilingual HellaSwag accuracy", MEAN, ("M0", (0.4724,)), ("M2", (0.4763,))),
    "arc": _table("Multilingual ARC-challenge accuracy", MEAN, ("M0", (0.4228,)), ("M2", (0.4321,))),
    "truthfulqa_mc1": _table("Multilingual TruthfulQA MC1", MEAN, ("M0", (0.3417,)), ("M2", (0.3472,))),
    "truthfulqa_mc2": _table("Multilingual TruthfulQA MC2", MEAN, ("M0", (0.5076,)), ("M2", (0.5165,))),
}  # fmt: skip


def paper_table(benchmark: str, languages: Sequence[str]) -> PaperTable | None:
    """The paper's numbers of a benchmark in the languages measured, in their order.

    None if it has none of them. A table of means over languages (`MEAN`) does not depend on what was measured.
    """
    table = PAPER_TABLES.get(benchmark)
    if table is None or table.languages == (MEAN,):
        return table
    if not set(table.languages) & set(languages):
        return None
    by_language = [(name, dict(zip(table.languages, values, strict=True))) for name, values in table.rows]
    rows = tuple((name, tuple(map(values.get, languages))) for name, values in by_language)
    return replace(table, languages=tuple(languages), rows=rows)
