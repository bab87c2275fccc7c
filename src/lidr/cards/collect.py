"""What the cards say of a run, read from its files."""

from __future__ import annotations

from dataclasses import dataclass

from lidr.cards.base import hub_id
from lidr.config import Config
from lidr.errors import RunError
from lidr.models import check_trained, read_model_cache
from lidr.records import PreferencePair
from lidr.replacing import check_current
from lidr.report.document import Sample
from lidr.report.measures import Measure, read_measures
from lidr.report.pairs import reservoir, sample
from lidr.report.rows import with_rows
from lidr.results import IterationResults, Results, read_results
from lidr.run_dir import RunDir, say_once
from lidr.seals import digest, read_seal
from lidr.stages.pairs import read_pairs, read_summary, with_pairs
from lidr.stages.training import read_training_summary

_SAMPLES = 2  # pairs per language on a card; the report shows more


@dataclass(frozen=True, slots=True)
class RunFacts:
    """A run up to one of its iterations.

    `entries` has a row per iteration in the form of results.json's, but counts the pairs in the files; `too_long` are
    those among them that the training left out, by iteration. `measures` are of M_0 and M_iteration. `base_id` and
    `prompts_id` are the names on the Hub that the base model and the prompts came from, if they did.
    """

    config: Config
    iteration: int
    entries: list[IterationResults]
    too_long: dict[int, int]
    measures: list[Measure]
    samples: dict[str, list[Sample]]
    base_id: str | None
    prompts_id: str | None

    @property
    def total(self) -> int:
        """Pairs of all iterations."""
        return sum(sum(entry.pairs.values()) for entry in self.entries)


def last_iteration(config: Config, run: RunDir) -> int:
    """The last iteration with a model, else the last with pairs. Raises RunError if there is neither."""
    numbers = with_pairs(config, run)[::-1]
    if numbers:
        return next((number for number in numbers if read_seal(run.model_folder(number))), numbers[0])
    raise RunError(f"{run.path} has neither a trained model nor pairs yet; `lidr run {run.recipe}` makes them")


def checked_iteration(config: Config, run: RunDir, iteration: int | None) -> int:
    """The iteration that was asked for, or the last.

    Raises RunError if it has made nothing, or if what it made is of another recipe; DamagedError if its model's weights
    are not those that were trained.
    """
    number = last_iteration(config, run) if iteration is None else _existing(config, run, iteration)
    check_current(config, run, number)
    if read_seal(run.model_folder(number)):
        check_trained(run.model_folder(number), run.model_cache)
    return number


def _existing(config: Config, run: RunDir, iteration: int) -> int:
    if not 1 <= iteration <= config.iterations:
        raise RunError(f"--iteration {iteration}: this run has iterations 1 to {config.iterations}")
    if not read_seal(run.pair_summary(iteration)):
        raise RunError(f"--iteration {iteration}: it has no pairs yet; run `lidr run` first")
    return iteration


def read_facts(config: Config, run: RunDir, iteration: int, measured: bool = True) -> RunFacts:
    """Read what the cards say. `measured` is off for a new model, since results.json is about an earlier one."""
    numbers = [number for number in with_pairs(config, run) if number <= iteration]
    return RunFacts(
        config,
        iteration,
        [_entry(run, number) for number in numbers],
        {number: count for number in numbers if (count := _too_long(run, number))},
        _measures(config, run, iteration) if measured else [],
        _samples(config, run, numbers[-1]) if numbers else {},
        _base_id(config, run),
        _prompts_id(config, run),
    )


def _base_id(config: Config, run: RunDir) -> str | None:
    """The base model's hub id, if the folder that the run has used is the Hub client's."""
    name = hub_id(config.model.path)
    if name is None or config.model.path.startswith("hf://"):
        return name
    entry = read_model_cache(run.model_cache).get(f"{config.model.path}@{config.model.revision}")
    used = entry["folder"] if entry else ""
    return name if f"models--{name.replace('/', '--')}" in used else None


def _prompts_id(config: Config, run: RunDir) -> str | None:
    """The prompts' hub id, if they were not made from files of this machine."""
    seal = read_seal(run.prompts(1))
    from_files = seal is None or bool(seal.inputs.get("files"))
    is_url = config.prompt_source.path.startswith("hf://")
    return hub_id(config.prompt_source.path) if is_url or not from_files else None


def _entry(run: RunDir, iteration: int) -> IterationResults:
    summary = read_summary(run, iteration)
    return IterationResults(iteration, summary.pairs, dict(sorted(summary.by_reason().items())), summary.dropped)


def _too_long(run: RunDir, iteration: int) -> int:
    """How many pairs the iteration's training left out; 0 before the training."""
    seal = read_seal(run.model_folder(iteration))
    current = seal is not None and seal.inputs.get("pairs") == digest(run.pair_summary(iteration))
    return sum(read_training_summary(run, iteration).too_long.values()) if current else 0


def _measures(config: Config, run: RunDir, iteration: int) -> list[Measure]:
    """The report's own figures of the base model and of this iteration's, if that was measured."""
    if not run.results.exists():
        say_once(f"{run.results} is missing, so the cards have no figures; `lidr report {run.path}` writes it")
    name = f"M{iteration}"
    models = tuple(model for model in read_results(run).models if model.name in ("M0", name))
    measures = [
        measure
        for measure in read_measures(Results(models), config)
        if name in measure.models and measure.kind.section != "other"
    ]
    return with_rows(measures, config, run)


def _samples(config: Config, run: RunDir, iteration: int) -> dict[str, list[Sample]]:
    size = min(config.report.samples, _SAMPLES)
    samples = {}
    for code in [*config.non_dominant, config.dominant]:
        if not size or code not in read_summary(run, iteration).pairs:
            continue
        if rows := reservoir(read_pairs(run, iteration, code), size, f"{config.seed} {code}"):
            samples[code] = [sample(PreferencePair.from_dict(row)) for row in rows]
    return samples
