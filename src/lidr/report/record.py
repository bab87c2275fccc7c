"""A run's record of reproducibility: the nine variables, each from what the run has on disk, with its place there.

What the run does not know is "not given", with the way to give it; nothing is guessed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from lidr.benchmarks.base import benchmarks_of
from lidr.config import LABORATORIES, Config, DecodingConfig, may_be_hub_id
from lidr.records import Json
from lidr.report.formatting import PAPER
from lidr.report.pseudocode import pseudocode
from lidr.report.variables import VARIABLES
from lidr.results import read_results
from lidr.run_dir import RunDir
from lidr.seals import read_seal
from lidr.storage import hash_file, write_text
from lidr.yaml_input import read_mapping

SCHEMA = 1
NAMES = ("reproducibility.json", "reproducibility.md")


@dataclass(frozen=True, slots=True)
class Evidence:
    """`value` as it is in a file of the run; `source` is `file: field`."""

    source: str
    value: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One variable. `value` is None exactly when it is not given; `missing` says what is lacking and how to give it."""

    value: str | None
    evidence: tuple[Evidence, ...] = ()
    missing: str | None = None

    @property
    def status(self) -> Literal["given", "given in part", "not given"]:
        if self.value is None:
            return "not given"
        return "given in part" if self.missing else "given"


class Facts:
    """What the run has on disk, and its current recipe."""

    def __init__(self, config: Config, run_dir: RunDir) -> None:
        self.config, self.run_dir = config, run_dir
        recipe = run_dir.recipe
        self.recipe = read_mapping(recipe) if recipe.exists() else config.model_dump(mode="json")
        self.environment = run_dir.read_environment()
        self.results = read_results(run_dir)

    def of_recipe(self, *fields: str) -> tuple[Evidence, ...]:
        """Evidence from the recipe; fields that it lacks are left out, sections are given field by field."""
        return tuple(self._leaves("recipe.yaml", self.recipe, fields))

    def of_environment(self, *fields: str) -> tuple[Evidence, ...]:
        return tuple(self._leaves("environment.json", self.environment, fields))

    def of_seal(self, path: Path, field: str) -> tuple[Evidence, ...]:
        """Evidence from the seal of a complete file, a field with dots; empty if the file is not complete."""
        seal = read_seal(path)
        where = (path.parent / f".{path.name}.seal.json").relative_to(self.run_dir.path)
        return tuple(self._leaves(str(where), asdict(seal) if seal else {}, (field,)))

    @staticmethod
    def _leaves(source: str, content: Json, fields: tuple[str, ...]) -> Iterator[Evidence]:
        for field in fields:
            value: object = content
            for part in field.split("."):
                value = value.get(part, ...) if isinstance(value, dict) else ...
            if isinstance(value, dict):
                yield from Facts._leaves(source, content, tuple(f"{field}.{name}" for name in value))
            elif value is not ...:
                yield Evidence(f"{source}: {field}", value if isinstance(value, str) else json.dumps(value))

    def measured(self) -> Iterator[tuple[int, str, str, Json]]:
        """(place in results.json's models, benchmark, language, figures) of all that was measured."""
        for number, model in enumerate(self.results.models):
            for benchmark, languages in model.benchmarks.items():
                for code, metrics in languages.items():
                    yield number, benchmark, code, metrics.to_json()


def make_record(config: Config, run_dir: RunDir) -> dict[str, Entry]:
    """Variable -> Entry, all nine."""
    facts = Facts(config, run_dir)
    return {variable.name: _ENTRIES[variable.name](facts) for variable in VARIABLES}


def write_record(config: Config, run_dir: RunDir) -> None:
    """Write reproducibility.json and reproducibility.md into the run."""
    from lidr.report.templates import render

    record = make_record(config, run_dir)
    rows = [
        {"name": variable.name, "title": variable.title, "status": entry.status, **asdict(entry)}
        for variable in VARIABLES
        for entry in [record[variable.name]]
    ]
    content = {"schema": SCHEMA, "run": config.name, "variables": rows}
    write_text(run_dir.path / NAMES[0], json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    write_text(run_dir.path / NAMES[1], render("reproducibility.md", content | {"paper": PAPER}))


# --- one function per variable ----------------------------------------------------------------------------------------


def _research_type(facts: Facts) -> Entry:
    measured = list(facts.measured())
    if not measured:
        return Entry(None, missing="nothing has been measured yet; name evaluation.benchmarks in the recipe and run it")
    first = {number: (benchmark, code, figures) for number, benchmark, code, figures in reversed(measured)}
    evidence = tuple(
        Evidence(f"results.json: models[{number}].benchmarks.{benchmark}.{code}", json.dumps(figures))
        for number, (benchmark, code, figures) in sorted(first.items())
    )
    count = f"{len(first)} model{'s' if len(first) > 1 else ''}"
    return Entry(f"experimental: {count} measured on {', '.join(dict.fromkeys(row[1] for row in measured))}", evidence)


def _affiliation(facts: Facts) -> Entry:
    given = facts.config.about.affiliation
    if given is None or not given.strip():
        return Entry(None, missing="set about.affiliation in the recipe")
    return Entry(given, facts.of_recipe("about.affiliation"))


def _pseudocode(facts: Facts) -> Entry:
    fields = ("languages", "dominant", "iterations", "training.reference", "pairs.strategy", "pairs.dominant_rejected")
    training = ("training.objective", "training.beta", "training.alpha", "training.nll_normalization")
    chosen = (*fields, *training) if facts.config.iterations else ("iterations",)
    return Entry("\n".join(pseudocode(facts.config)), facts.of_recipe(*chosen))


def _open_source_code(facts: Facts) -> Entry:
    version = facts.environment.get("packages", {}).get("lidr", "not installed")
    git = facts.environment.get("git")
    evidence = facts.of_environment("packages.lidr", "git.commit", "git.modified")
    if not git:
        if version == "not installed":
            return Entry(None, missing=_START_AGAIN)
        return Entry(f"lidr {version}, an installed package under the Apache License 2.0", evidence)
    value = f"lidr {version} under the Apache License 2.0, commit {git['commit']}"
    if git["modified"]:
        missing = "the code was changed after that commit, so nobody can get what ran; commit the changes and run again"
        return Entry(f"{value}, with changes that are in no commit", evidence, missing)
    return Entry(
        f"{value}, without changes", evidence, "whether that commit is public, the run cannot know; give its address"
    )


def _open_data_sets(facts: Facts) -> Entry:
    config, values, local = facts.config, [], []
    sources = {"prompts.path": config.prompts.path} if config.prompts and config.iterations else {}
    for name, settings in benchmarks_of(config).items():
        paths = {key: getattr(settings, key, None) for key in settings.path_fields}
        sources |= {
            f"evaluation.benchmarks.{name}.{key}": path for key, path in paths.items() if path not in (None, "M0")
        }
        if told := settings.data_in_words():
            values.append(f"benchmark {name}: {told}")
    for field, path in sources.items():
        where, is_local = _where_from(path)
        values.append(f"{field.removeprefix('evaluation.').removesuffix('.path')}: {where}")
        local += [field] if is_local else []
    if not values:
        return Entry(None, missing="the recipe names neither prompts nor benchmarks")
    hub = ("prompts.split", "prompts.configuration", "prompts.limit") if "prompts.path" in sources else ()
    evidence = facts.of_recipe(*sources, *hub) + facts.of_seal(facts.run_dir.prompts(1), "sha256")
    missing = f"{', '.join(local)}: publish the data, and name the place in the recipe" if local else None
    return Entry("; ".join(values), evidence, missing)


def _where_from(path: str) -> tuple[str, bool]:
    """(where data are from, whether that is a place that others cannot reach)."""
    if path in LABORATORIES:
        return "the laboratory's, made from the recipe's seed by lidr", False
    if path.startswith(("hf://", "http://", "https://")) or (
        may_be_hub_id(path) and not Path(path).expanduser().exists()
    ):
        return f"{path} on the Hub or the web (whether everybody may read it, the run does not know)", False
    if "://" in path:
        return f"{path}, which needs access to that storage", True
    return f"{path}, on a disk of the machine that ran it", True


def _data_set_splits(facts: Facts) -> Entry:
    parts = [*_training_data(facts), *_evaluation_data(facts)]
    if not any(evidence for _, evidence in parts):
        return Entry(None, missing="nothing has been trained or measured yet; finish the run")
    is_measured = any(facts.measured())
    return Entry(
        "; ".join(words for words, _ in parts),
        tuple(item for _, evidence in parts for item in evidence),
        None if is_measured else "nothing was measured; name evaluation.benchmarks in the recipe",
    )


_COUNTS = ("n", "n_held_out")  # in results.json; the laboratory also asks for facts that no training prompt has


def _training_data(facts: Facts) -> Iterator[tuple[str, tuple[Evidence, ...]]]:
    """(words, evidence) of what was trained on, and of what was kept out of that."""
    config, prompts = facts.config, facts.run_dir.prompts(1)
    if not config.iterations or not (rows := facts.of_seal(prompts, "rows")):
        return
    yield f"training: {rows[0].value} prompts, counted over {len(config.languages)} languages", rows
    for place, entry in enumerate(facts.results.iterations):
        evidence = Evidence(f"results.json: iterations[{place}].pairs", json.dumps(entry.pairs))
        yield f"iteration {entry.iteration}: {sum(entry.pairs.values()):,} pairs", (evidence,)
    held = config.training.held_out
    words = f"held out: the pairs of {held} prompts" if held else "held out: no pairs"
    yield words, facts.of_recipe("training.held_out")
    if config.probe:
        words = f"probe: {config.probe.prompts} prompts, kept out of training"
        yield words, facts.of_recipe("probe.prompts")


def _evaluation_data(facts: Facts) -> Iterator[tuple[str, tuple[Evidence, ...]]]:
    """(words, evidence) of every benchmark: how many questions in each language, as the first model was asked them."""
    asked: dict[str, dict[str, tuple[Evidence, ...]]] = {}
    for place, name, code, figures in facts.measured():
        source = f"results.json: models[{place}].benchmarks.{name}.{code}"
        counts = tuple(Evidence(f"{source}.{key}", str(figures[key])) for key in _COUNTS if key in figures)
        asked.setdefault(name, {}).setdefault(code, counts)
    for name, languages in asked.items():
        listed = ", ".join(f"{code} {' + '.join(item.value for item in counts)}" for code, counts in languages.items())
        yield f"questions of {name}: {listed}", tuple(item for counts in languages.values() for item in counts)


def _hardware(facts: Facts) -> Entry:
    environment, config = facts.environment, facts.config
    if not environment.get("processor") and not environment.get("gpus"):
        return Entry(None, missing=_START_AGAIN)
    gpus = environment.get("gpus") or ["no GPU that nvidia-smi knows"]
    processor = f"{environment.get('cpus', '?')} CPUs ({environment.get('processor') or 'of unknown make'})"
    served = [f"the model on {config.engine.server['base_url']}"] if config.engine.server else []
    if (judge := config.evaluation.judge) and judge.engine.server:
        served.append(f"the judge {judge.model} on {judge.engine.server['base_url']}")
    missing = "main memory is not recorded; add it if it matters"
    if served:
        missing = f"{' and '.join(served)} ran on hardware that the run does not know; name it. Also, {missing}"
    value = f"{processor}; {'; '.join(gpus)}; as at the last start of the run"
    return Entry(value, facts.of_environment("processor", "cpus", "gpus"), missing)


def _software(facts: Facts) -> Entry:
    packages = {
        name: found for name, found in facts.environment.get("packages", {}).items() if found != "not installed"
    }
    if not packages:
        return Entry(None, missing=_START_AGAIN)
    python, platform = (facts.environment.get(name, "of unknown version") for name in ("python", "platform"))
    listed = ", ".join(f"{name} {found}" for name, found in packages.items())
    return Entry(
        f"Python {python} on {platform}; {listed}",
        facts.of_environment("python", "platform", "packages"),
        "only the packages that shape the results are recorded; pip freeze lists the others",
    )


_SETTINGS = (
    "model.path", "model.revision", "seed", "system_prompt", "engine.type", "engine.dtype", "engine.quantize",
)  # fmt: skip
_STEPS = ("responses", "translations", "training")


def _experiment_setup(facts: Facts) -> Entry:
    config, run = facts.config, facts.run_dir
    fields = (*_SETTINGS, *(_STEPS if config.iterations else ()))
    decoding = tuple(f"evaluation.{name}" for name in DecodingConfig.model_fields)
    evidence = facts.of_recipe(*fields, *decoding)
    for path in (run.responses(1, config.dominant), *sorted(run.iteration(0).glob("6_evaluation/*/metrics.json"))):
        if fingerprint := facts.of_seal(path, "inputs.model"):
            evidence += fingerprint
            break
    if run.recipe.exists():
        evidence += (Evidence("recipe.yaml: SHA-256 of the file", hash_file(run.recipe)),)
    on_hub = may_be_hub_id(config.model.path) and not Path(config.model.path).expanduser().exists()
    missing = "model.revision: name the commit of the hub model" if on_hub and not config.model.revision else None
    value = f"all settings are in recipe.yaml, and lidr run recipe.yaml runs it again; seed {config.seed}"
    return Entry(value, evidence, missing)


_START_AGAIN = "environment.json is missing or empty; lidr run with this run's directory writes it again"
_ENTRIES: dict[str, Callable[[Facts], Entry]] = {
    "research_type": _research_type,
    "affiliation": _affiliation,
    "pseudocode": _pseudocode,
    "open_source_code": _open_source_code,
    "open_data_sets": _open_data_sets,
    "data_set_splits": _data_set_splits,
    "hardware": _hardware,
    "software_dependencies": _software,
    "experiment_setup": _experiment_setup,
}
