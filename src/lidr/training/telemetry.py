"""Telemetry of a training: means per language and kind of pair, and alarms with advice."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from statistics import mean, median
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lidr.records import Json
from lidr.training.loss import PairLosses

if TYPE_CHECKING:
    from lidr.likelihood.packing import Batch

# Sums over all pairs, then sums over the pairs whose sides differ: the others have no margin.
_ALL = ("nll", "dpo", "chosen_logp", "rejected_logp", "chosen_length", "rejected_length")
_DIFFERING = ("margin", "reward_accuracy", "chosen_reward", "rejected_reward")


class GroupMeans:
    """Means over the pairs since the last `take`: of all pairs, of each language and of each kind."""

    def __init__(self, languages: Sequence[str], kinds: Sequence[str], device: torch.device) -> None:
        self.languages, self.kinds = list(languages), list(kinds)
        self.names = ["", *(f"language/{code}" for code in languages), *(f"kind/{kind}" for kind in kinds)]
        self.sums = torch.zeros(len(self.names), 2 + len(_ALL) + len(_DIFFERING), device=device)

    def add(self, losses: PairLosses, logps: Tensor, row: Batch) -> None:
        """Add the pairs of a row; `logps` has shape (answers,), chosen first."""
        pairs = len(losses.nll)
        chosen, rejected = logps[:pairs], logps[pairs:] if len(logps) > pairs else torch.zeros_like(losses.nll)
        differ = row["differ"].to(losses.nll.dtype)
        margin = losses.chosen_reward - losses.rejected_reward
        of_all = [losses.nll, losses.dpo, chosen, rejected, row["chosen_lengths"], row["rejected_lengths"]]
        of_differing = [margin, (margin > 0).float(), losses.chosen_reward, losses.rejected_reward]
        values = torch.stack(
            [torch.ones_like(differ), *of_all, differ, *(value * differ for value in of_differing)], 1
        ).to(self.sums.dtype)
        languages = torch.tensor([1 + self.languages.index(code) for code in row["language"]])
        kinds = torch.tensor([1 + len(self.languages) + self.kinds.index(kind) for kind in row["kind"]])
        for groups in (torch.zeros_like(kinds), languages, kinds):
            self.sums.index_add_(0, groups.to(self.sums.device), values)

    def take(self, sums: Tensor, objective: str) -> dict[str, float]:
        """The means of `sums`, named `nll`, `language/es/nll`, `kind/dominant/nll`, ...; resets `self.sums`."""
        self.sums.zero_()
        means: dict[str, float] = {}
        for name, (pairs, *values) in zip(self.names, sums.tolist(), strict=True):
            if pairs:
                prefix = f"{name}/" if name else ""
                means[f"{prefix}pairs"] = pairs
                means |= {f"{prefix}{field}": value for field, value in _means(pairs, values, objective).items()}
        return means


def _means(pairs: float, values: list[float], objective: str) -> dict[str, float]:
    differing = values[len(_ALL)]
    means = {field: total / pairs for field, total in zip(_ALL, values, strict=False)}
    if objective == "sft":
        return {field: means[field] for field in ("nll", "chosen_logp", "chosen_length")}
    if differing:
        means |= {field: total / differing for field, total in zip(_DIFFERING, values[len(_ALL) + 1 :], strict=True)}
    return means


def nested(means: Mapping[str, float]) -> Json:
    """`{"language/es/nll": 1.0}` as `{"groups": {"language": {"es": {"nll": 1.0}}}}`; names without `/` stay."""
    out: dict[str, Any] = {}
    for name, value in means.items():
        *path, field = name.split("/")
        place = out
        for part in ["groups", *path] if path else []:
            place = place.setdefault(part, {})
        place[field] = value
    return out


class Alarms:
    """Watches the steps of one training; each alarm says once what looks wrong and what to do."""

    def __init__(self, total_steps: int) -> None:
        self.window = max(5, math.ceil(total_steps / 10))
        self.first_tenth = math.ceil(total_steps / 10)
        self.accuracies: list[float] = []
        self.chosen_rewards: deque[float] = deque(maxlen=self.window)
        self.norms: deque[float] = deque(maxlen=50)
        self.raised: set[str] = set()

    def observe(self, step: int, values: dict[str, float]) -> list[tuple[str, str]]:
        """(name, advice) of each alarm that this step raises; `values` are the step's logged means."""
        checks = {
            "trivial_pairs": self._trivial_pairs(step, values.get("reward_accuracy")),
            "chosen_logp_falling": self._chosen_falling(values.get("chosen_reward")),
            "gradient_norm": self._gradient(values.get("grad_norm")),
        }
        new = [(name, advice) for name, advice in checks.items() if advice and name not in self.raised]
        self.raised |= {name for name, _ in new}
        return new

    def _trivial_pairs(self, step: int, accuracy: float | None) -> str | None:
        """Skips step 1: the policy is the reference there, so no margin exists."""
        if accuracy is None or step == 1 or step > self.first_tenth:
            return None
        self.accuracies.append(accuracy)
        if len(self.accuracies) < 3 or mean(self.accuracies[-3:]) < 0.98:
            return None
        return (
            f"After {step} steps, within the first tenth of the training, the model already separates chosen from "
            f"rejected in {mean(self.accuracies[-3:]):.0%} of the pairs: they differ in something trivial, such as "
            "language, length or a loop. Read the samples in the report and tighten pairs.gates."
        )

    def _chosen_falling(self, reward: float | None) -> str | None:
        if reward is None:
            return None
        self.chosen_rewards.append(reward)
        if len(self.chosen_rewards) < self.window:
            return None
        level = mean(self.chosen_rewards)
        noise = (mean((value - level) ** 2 for value in self.chosen_rewards) / self.window) ** 0.5
        if level + 2 * noise >= -0.01:
            return None
        return (
            f"The chosen answers have become less likely than under the reference (mean reward {level:.3f} over "
            f"{self.window} steps): the model unlearns what it should prefer. Raise training.alpha, or lower "
            "training.learning_rate."
        )

    def _gradient(self, norm: float | None) -> str | None:
        if norm is None:
            return None
        usual = median(self.norms) if len(self.norms) >= 10 else math.inf
        self.norms.append(norm)
        if norm <= 10 * usual:
            return None
        return (
            f"The gradient's norm jumped to {norm:.3g}, ten times and more its usual {usual:.3g}. It is clipped to "
            "training.max_grad_norm; if it happens again, lower training.learning_rate or raise the batch size."
        )
