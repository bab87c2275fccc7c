"""What an earlier run of a recipe measured: lengths of answers and, on the same machine, speeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lidr.config import Config
from lidr.machine.environment import environment
from lidr.records import Json
from lidr.results import finite
from lidr.run_dir import RunDir
from lidr.yaml_input import read_mapping


@dataclass
class Earlier:
    """Means over what a run's log has. `lengths` by (stage, part ...), tokens/s by stage, training in pairs/s."""

    lengths: dict[tuple[str, ...], float] = field(default_factory=dict)
    tokens_per_s: dict[str, float] = field(default_factory=dict)
    pairs_per_s: float | None = None
    pairs: float | None = None  # of an iteration
    same_machine: bool = False  # whether the run was on such hardware as the plan is for


def read_earlier(config: Config, run: RunDir, here: bool) -> Earlier | None:
    """What a run of this model on these prompts measured; speeds only if `here`, and on the same hardware.

    None if there is no such run, or it has measured nothing yet.
    """
    if not run.metrics.exists() or not run.recipe.exists():
        return None
    before = read_mapping(run.recipe)
    now = config.model_dump(mode="json")
    if any(before.get(name) != now[name] for name in ("model", "prompts", "system_prompt")):
        return None
    events = [event for event in run.read_log() if event.get("event") == "stage" and event.get("rows")]
    found = Earlier()
    for key, (rows, tokens, _) in _sums(events, _part).items():
        if tokens:
            found.lengths[key] = tokens / rows
    found.same_machine = here and _same_hardware(config, run)
    if found.same_machine:
        same = [event for event in events if before.get("engine") == now["engine"] or event["stage"] == "training"]
        for (stage,), (rows, tokens, seconds) in _sums(same, lambda event: (str(event["stage"]),)).items():
            if seconds and tokens:
                found.tokens_per_s[stage] = tokens / seconds
            elif seconds and stage == "training" and before.get("training") == now["training"]:
                found.pairs_per_s = rows / seconds
    trained = [finite(event["rows"]) or 0.0 for event in events if event["stage"] == "training"]
    found.pairs = sum(trained) / len(trained) if trained else None
    return found if found.lengths or found.pairs else None


def _part(event: Json) -> tuple[str, ...]:
    names = ("stage", "benchmark", "direction", "language")
    return tuple(str(event[name]) for name in names if event.get(name))


def _sums(events: Sequence[Json], key: Callable[[Json], tuple[str, ...]]) -> dict[tuple[str, ...], list[float]]:
    """(rows, tokens, seconds) by key."""
    sums: dict[tuple[str, ...], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for event in events:
        entry = sums[key(event)]
        for place, name in enumerate(("rows", "tokens", "seconds")):
            entry[place] += finite(event.get(name)) or 0.0
    return sums


def _same_hardware(config: Config, run: RunDir) -> bool:
    before = run.read_environment()
    if not before:
        return False
    now = environment(config)
    return all(before.get(name) == now[name] for name in ("processor", "cpus", "gpus"))
