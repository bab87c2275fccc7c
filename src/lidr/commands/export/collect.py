"""Which pairs of a run are exported, and which of them are held out; read one at a time from the run's files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lidr.commands.export.formats.base import ExportedPair
from lidr.config import Config
from lidr.errors import RunError
from lidr.records import PreferencePair
from lidr.replacing import check_current
from lidr.run_dir import RunDir
from lidr.seals import digest, read_seal
from lidr.stages.pairs import read_pairs as read_iteration
from lidr.stages.pairs import read_summary, with_pairs
from lidr.stages.training import read_training_summary
from lidr.training.held_out import held_out_of


@dataclass(frozen=True, slots=True)
class Selection:
    """What is exported: `iterations` in order, `languages` in the order of the recipe, and the prompts held out."""

    iterations: list[int]
    languages: list[str]
    held_out: frozenset[str]


@dataclass(frozen=True, slots=True)
class AnsweredBy:
    """What gave an iteration's answers: the model's fingerprint, and the system prompt if there was one."""

    fingerprint: str
    system_prompt: str | None


def select(config: Config, run: RunDir, iteration: str | None, languages: list[str]) -> Selection:
    """Check what was asked for against what the run has.

    Raises RunError that names what the run has, and for pairs of another recipe.
    """
    iterations = _iterations(config, run, iteration)
    for number in iterations:
        check_current(config, run, number)
    known = list(dict.fromkeys(code for number in iterations for code in read_summary(run, number).pairs))
    if unknown := [code for code in languages if code not in known]:
        raise RunError(f"--languages {','.join(unknown)}: the pairs of this run are in {', '.join(known)}")
    held_out: set[str] = set()
    if config.training.held_out:
        # With several iterations in one file, a prompt that any of them holds out is not trained on.
        for number in iterations:
            held_out |= held_out_prompts(config, run, number)
    return Selection(iterations, [code for code in known if not languages or code in languages], frozenset(held_out))


def _iterations(config: Config, run: RunDir, wanted: str | None) -> list[int]:
    filled = [number for number in with_pairs(config, run) if any(read_summary(run, number).pairs.values())]
    if not filled:
        raise RunError(f"{run.path} has no pairs yet; `lidr run {run.recipe} --run-dir {run.path}` makes them")
    if wanted is None:
        return filled[-1:]
    if wanted == "all":
        return filled
    if not wanted.isdecimal() or int(wanted) not in filled:
        have = ", ".join(map(str, filled))
        raise RunError(f"--iteration {wanted}: this run has pairs of iteration {have}; give one of them, or all")
    return [int(wanted)]


def read_pairs(run: RunDir, selection: Selection, system: bool) -> Iterator[ExportedPair]:
    """The pairs, by iteration, then language, then in the order of the prompts."""
    for iteration in selection.iterations:
        model = answered_by(run, iteration)
        prompt = model.system_prompt if system else None
        for code in selection.languages:
            counted = code in read_summary(run, iteration).pairs  # an earlier iteration may lack a language
            for row in read_iteration(run, iteration, code) if counted else ():
                pair = PreferencePair.from_dict(row)
                yield ExportedPair(pair, iteration, f"M{iteration - 1}", model.fingerprint, prompt)


def answered_by(run: RunDir, iteration: int) -> AnsweredBy:
    """What gave an iteration's answers, by their own seal, since the recipe may have changed after them."""
    for code in read_summary(run, iteration).pairs:
        if seal := read_seal(run.responses(iteration, code)):
            system = seal.inputs.get("system_prompt")
            return AnsweredBy(str(seal.inputs["model"]), str(system) if system else None)
    raise RunError(f"{run.responses(iteration, '')}: the answers that the pairs were made from are gone; run again")


def held_out_prompts(config: Config, run: RunDir, iteration: int) -> set[str]:
    """The prompts whose pairs the training only measures: the same draw from the same prompts."""
    return held_out_of(_trainable_prompts(config, run, iteration), config)


def _trainable_prompts(config: Config, run: RunDir, iteration: int) -> set[str]:
    """The prompts with a pair that is not longer than training.max_length: the draw is from these."""
    rows = (row for code in read_summary(run, iteration).pairs for row in read_iteration(run, iteration, code))
    if _known_to_fit(config, run, iteration):
        return {str(row["prompt_id"]) for row in rows}
    fits = _length_check(config, _model_folder(config, run, iteration - 1))
    return {str(row["prompt_id"]) for row in rows if fits(row)}


def _known_to_fit(config: Config, run: RunDir, iteration: int) -> bool:
    """Whether a training on exactly these pairs found none too long, so that they need not be tokenised again."""
    seal = read_seal(run.model_folder(iteration))
    if seal is None or seal.inputs["pairs"] != digest(run.pair_summary(iteration)):
        return False
    return (
        seal.inputs["training"]["max_length"] == config.training.max_length
        and not read_training_summary(run, iteration).too_long
    )


def _model_folder(config: Config, run: RunDir, number: int) -> Path:
    """Where M_number's tokenizer is. Its weights are not needed, so they are not fetched."""
    from lidr.models import find_model

    return run.model_folder(number) if number else find_model(config.model, weights=False)


def _length_check(config: Config, folder: Path) -> Callable[[Mapping[str, object]], bool]:
    from lidr.likelihood.tokens import tokenize_answer, tokenize_prompt
    from lidr.models import end_of_turn_ids, load_tokenizer

    tokenizer = load_tokenizer(folder, config.model.trust_remote_code)
    end_ids = end_of_turn_ids(folder, tokenizer)
    system = [{"role": "system", "content": config.system_prompt}] if config.system_prompt else []

    def fits(row: Mapping[str, object]) -> bool:
        messages = [*system, {"role": "user", "content": str(row["prompt"])}]
        sides = str(row["chosen"]), str(row["rejected"])
        prompt, ids = tokenize_prompt(tokenizer, messages, end_ids)
        answers = (tokenize_answer(tokenizer, messages, prompt, side, end_ids) for side in sides)
        return len(ids) + max(map(len, answers)) <= config.training.max_length

    return fits
