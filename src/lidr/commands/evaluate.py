"""`lidr evaluate` for a model outside a run: it gets a run directory that holds only an evaluation."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from lidr.config import Config, load_config
from lidr.errors import ConfigError
from lidr.models import recorded_answers
from lidr.plugins import built_in, is_outside
from lidr.seals import read_document
from lidr.yaml_input import read_mapping


def evaluation_config(
    model: str,
    folder: Path,
    recipe: str = "evaluation",
    benchmarks: Sequence[str] = (),
    languages: Sequence[str] = (),
    base_url: str | None = None,
    settings: Sequence[str] = (),
) -> Config:
    """The recipe that only measures `model`: a folder, a hub id, a folder of answers, or a name on the server.

    Everything else comes from `recipe`, or from an earlier evaluation of this model in `folder`, to which benchmarks
    and languages are added. `settings` are `a.b=c` overrides, applied last. Raises ConfigError.
    """
    overrides = [f"model.path={json.dumps(model)}", "iterations=0", "prompts=null", "probe=null"]
    overrides += [f"name={json.dumps(model_name(model))}", "description=''"]
    if recipe != "evaluation" and Path(recipe).is_file():
        overrides = [*_defaults(Path(recipe)), *overrides]
    if not languages and (files := recorded_answers(Path(model))):
        overrides.append(f"languages={json.dumps([file.stem for file in files])}")
    if base_url:
        # Most servers do not know a repetition penalty, and the strictest refuse it.
        engine = json.dumps({"type": "openai", "base_url": base_url})
        overrides += [f"engine={engine}", "evaluation.repetition_penalty=1"]
    done: dict[str, list[str]] = {}
    if measured_before(folder, model) and recipe == "evaluation":
        recipe, done = str(folder / "recipe.yaml"), measured(folder)
        # Benchmarks that an earlier command could not measure are left out.
        given = load_config(recipe).evaluation.benchmarks
        overrides += [f"evaluation.benchmarks.{name}=null" for name in given if name not in done]
    base = load_config(recipe, overrides)
    config = load_config(recipe, overrides + benchmark_overrides(base, benchmarks, languages, settings, done))
    chosen = config.evaluation.benchmarks
    if not chosen:
        some = ", ".join(built_in("benchmarks"))
        raise ConfigError(f"no benchmark is named; give --benchmarks with some of {some}")
    for name, benchmark in chosen.items():
        if getattr(benchmark, "against", None) == "M0":
            raise ConfigError(
                f"evaluation.benchmarks.{name}.against: M0 is the model itself here; name a folder of the other side's "
                "answers, or take the benchmark out"
            )
    return config


def _defaults(recipe: Path) -> list[str]:
    """Overrides for what a recipe file leaves to the shipped recipe: its languages."""
    shipped = load_config("evaluation")
    if "languages" in read_mapping(recipe):
        return []
    return [f"languages={json.dumps(shipped.languages)}"]


def benchmark_overrides(
    base: Config,
    benchmarks: Sequence[str],
    languages: Sequence[str],
    settings: Sequence[str],
    done: dict[str, list[str]],
) -> list[str]:
    """`--benchmarks` and `--languages` as overrides of a recipe, and the user's own after them.

    Benchmarks are added to the recipe's, and languages to those in `done` (benchmark -> languages), so that earlier
    measurements stay in the results.
    """
    given = base.evaluation.benchmarks
    there = [*built_in("benchmarks"), *given]
    named = [name for name in benchmarks if ":" not in name and is_outside("benchmarks", name)]  # by an entry point
    if unknown := [name for name in benchmarks if name not in [*there, *named]]:
        raise ConfigError(f"--benchmarks: no benchmark {', '.join(unknown)}; there are {', '.join(there)}")
    chosen = list(benchmarks) or list(given)
    # An empty mapping, so that a benchmark's own settings can be given field by field after it.
    overrides = [f"evaluation.benchmarks.{name}={{}}" for name in benchmarks if name not in given]
    if languages:
        if not base.iterations:
            overrides.append(f"languages={json.dumps(_union(base.languages if done else [], languages))}")
        for name in chosen:
            asked = json.dumps(_union(done.get(name, []), languages))
            overrides.append(f"evaluation.benchmarks.{name}.languages={asked}")
    return overrides + list(settings)


def measured(folder: Path) -> dict[str, list[str]]:
    """Benchmark -> languages for which any model of a run directory has figures."""
    found: dict[str, list[str]] = {}
    for file in sorted(folder.glob("iteration_*/6_evaluation/*/metrics.json")):
        metrics = read_document(file)
        found[file.parent.name] = _union(found.get(file.parent.name, []), metrics)
    return found


def _union(first: Iterable[str], second: Iterable[str]) -> list[str]:
    return list(dict.fromkeys([*first, *second]))


def model_name(model: str) -> str:
    """A model's path or id as the name of a folder: `org/name` becomes `org--name`."""
    path = Path(model)
    text = path.resolve().name if path.exists() else model.replace("/", "--")
    return re.sub(r"[^\w.-]+", "-", text).strip("-.") or "model"


def measured_before(folder: Path, model: str) -> bool:
    """Whether `folder` holds an evaluation of this model, to which more benchmarks can be added.

    Raises ConfigError if it holds something else, which would be overwritten.
    """
    recipe = folder / "recipe.yaml"
    if not recipe.exists():
        return False
    before = load_config(recipe)
    if before.iterations or Path(before.model.path).resolve() != Path(model).resolve():
        what = "a training run" if before.iterations else "an evaluation"
        raise ConfigError(f"{folder} holds {what} of {before.model.path}; give another --out for {model}")
    return True
