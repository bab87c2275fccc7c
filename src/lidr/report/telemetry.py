"""What a training logged of each language and each kind of pair."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from lidr.report.document import Entry, Row, Table
from lidr.report.formatting import language_name, number, signed
from lidr.results import finite

Step = Mapping[str, object]  # what was logged of an optimiser step: numbers by name, and `groups`
Curve = Mapping[int, Step]  # by step
Means = Mapping[str, float]  # of a group, by name


def groups(values: Step, kind: str) -> Mapping[str, Means]:
    """The means of one step by `language` or by `kind`; empty in logs of older runs."""
    by_kind = values.get("groups")
    found = by_kind.get(kind) if isinstance(by_kind, dict) else None
    return found if isinstance(found, dict) else {}


def group_names(curve: Curve, kind: str, order: Sequence[str]) -> list[str]:
    """The groups that a training had, those of `order` first."""
    found = {name for values in curve.values() for name in groups(values, kind)}
    return [name for name in order if name in found] + sorted(found.difference(order))


def mean_over_pairs(parts: Iterable[Means], name: str) -> float | None:
    """The mean of a value over the pairs of several steps, from the mean and the number of pairs of each step."""
    known = [(value, part["pairs"]) for part in parts if (value := finite(part.get(name))) is not None]
    pairs = sum(count for _, count in known)
    return sum(value * count for value, count in known) / pairs if pairs else None


def group_table(iteration: int, curve: Curve, languages: Sequence[str]) -> Table | None:
    """Means over the last tenth of a training, by language and by kind of pair; None if it did not log groups."""
    last = [curve[step] for step in sorted(curve)[-max(1, len(curve) // 10) :]]
    codes = group_names(curve, "language", languages)
    named = [(language_name(code), "language", code) for code in codes]
    named += [(f"All {name.replace('_', '-')} pairs", "kind", name) for name in group_names(curve, "kind", [])]
    if not named:
        return None
    parts = [(title, [groups(values, kind).get(name, {}) for values in last]) for title, kind, name in named]
    found = {name for _, steps in parts for step in steps for name in step}
    columns = {name: column for name, column in _COLUMNS.items() if name in found}
    rows = [
        Row(
            Entry(title),
            [
                Entry(_pairs(steps)),
                *(Entry(write(mean_over_pairs(steps, name))) for name, (_, write) in columns.items()),
            ],
        )
        for title, steps in parts
    ]
    span = f"the last {len(last)} steps" if len(last) > 1 else "the last step"
    how = f"Means over the pairs of {span}. Log-probabilities are sums over an answer's tokens, lengths are tokens."
    header = ["", "Pairs", *(title for title, _ in columns.values())]
    return Table(f"Iteration {iteration}: the end of training", header, rows, how)


def _pairs(parts: Iterable[Means]) -> str:
    return f"{sum(part.get('pairs', 0) for part in parts):,.0f}"


def _logp(value: float | None) -> str:
    return "–" if value is None else f"{value:z,.2f}".replace("-", "−")


def _margin(value: float | None) -> str:
    return "–" if value is None else signed(value)


def _length(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}"


_COLUMNS: dict[str, tuple[str, Callable[[float | None], str]]] = {
    "chosen_logp": ("Chosen log-prob", _logp),
    "rejected_logp": ("Rejected log-prob", _logp),
    "margin": ("Margin", _margin),
    "reward_accuracy": ("Accuracy", number),
    "nll": ("NLL", number),
    "chosen_length": ("Chosen length", _length),
    "rejected_length": ("Rejected length", _length),
}
