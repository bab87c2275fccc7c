"""A check before training: are there enough pairs, and has a fault of the settings dropped too many?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from lidr.config import Config
from lidr.errors import RunError
from lidr.records import Response, Translation
from lidr.run_dir import RunDir
from lidr.seals import read_rows
from lidr.stages.pairs import read_summary
from lidr.strategies.base import strategy_of, translating_of
from lidr.training.held_out import draw_held_out

# Answers grow in their upper half about as a log-normal with this standard deviation: of 805 answers of each of two
# models in three languages the 95 % quantile is 1.5 to 3.1 times the median, which is 0.25 to 0.7.
_SPREAD = 0.6
_FINISHED = 0.95  # share of the answers that a proposed limit lets finish
_AT_MOST = 16  # times the limit that was too short; more would be a guess
# Not candidates: the prompt is missing in this language, or the recipe leaves it out.
_NO_CANDIDATES = ("prompt_missing", "translation_task")


class TooFewPairsError(RunError):
    """There is too little to learn from; `lidr run` ends with the model before it."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class _Fault:
    """A fault that a setting can fix, and the reasons of the drops that it causes.

    Answers that are alike or differ in length are not faults: that is how a run saturates, and what gates are for.
    """

    name: str
    reasons: tuple[str, ...]


_FAULTS = (
    _Fault("answers cut off", ("truncated",)),
    _Fault("failed answers", ("response_error", "response_empty")),
    _Fault(
        "failed translations",
        (
            "translation_cut_off", "translation_unparsed", "translation_shortened", "translation_empty",
            "translation_error",
        ),
    ),
    _Fault("thinking", ("thinking",)),
    _Fault("the wrong language", ("chosen_wrong_language", "rejected_wrong_language")),
    _Fault("languages that are mixed", ("chosen_mixed_languages", "chosen_switches_language")),
    _Fault("results that were lost in translation", ("result_changed",)),
    _Fault("loops", ("loop", "repeated_lines")),
    _Fault("pairs that are too long", ("too_long",)),
)  # fmt: skip


def check_pairs(
    config: Config,
    run: RunDir,
    iteration: int,
    too_long: Mapping[str, int] | None = None,
    prompt_ids: Sequence[str] | None = None,
) -> None:
    """Raise TooFewPairsError if an iteration's pairs are too few to train on.

    Held-out pairs do not count, and neither do those `too_long` by language. `prompt_ids` are those of the other pairs;
    None reads them if they are needed.
    """
    if reason := shortage(config, run, iteration, too_long or {}, prompt_ids):
        raise TooFewPairsError(f"iteration {iteration} was not trained: {reason}")


def shortage(
    config: Config,
    run: RunDir,
    iteration: int,
    too_long: Mapping[str, int],
    prompt_ids: Sequence[str] | None = None,
) -> str | None:
    """Why the pairs are not enough, with the setting that fixes it and the one that trains anyway; or None."""
    summary = read_summary(run, iteration)
    dropped = summary.by_reason() + Counter(too_long=sum(too_long.values()))
    pairs = summary.total - dropped["too_long"]
    candidates = pairs + sum(count for reason, count in dropped.items() if reason not in _NO_CANDIDATES)
    for fault in _FAULTS:
        counts = Counter({reason: dropped[reason] for reason in fault.reasons if dropped[reason]})
        if counts.total() > config.pairs.max_fault_share * candidates:
            go_on = f"--set pairs.max_fault_share=1{_also(config, pairs)}"
            return (
                f"{counts.total():,} of {candidates:,} candidates were dropped for {fault.name}: "
                f"{_remedy(config, run, iteration, counts)}"
                + (f". To train on the {pairs:,} pairs that are left, give {go_on}" if pairs else "; no pair is left")
            )
    minimum = fewest(config)
    held_out = _held_out(config, run, iteration, prompt_ids)
    pairs -= held_out
    if pairs >= minimum:
        return None
    reasons = strategy_of(config).meanings()
    reason, count = next(iter(dropped.most_common(1)), ("", 0))
    if reason in reasons:
        why = _lowered(reasons[reason])
        return f"{pairs:,} pairs of {candidates:,} candidates are left: {count:,} were dropped because {why}"
    main = ", ".join(f"{reason} {count:,}" for reason, count in dropped.most_common(3) if count) or "none was dropped"
    return (
        f"{pairs:,} pairs of {candidates:,} candidates are left, fewer than pairs.minimum ({minimum:,}; dropped most: "
        f"{main}{f'; held out {held_out:,}' if held_out else ''}). Give more prompts, or lower training.batch_size"
        + (" or training.held_out" if held_out else "")
        + (f"; --set pairs.minimum={pairs} trains on these" if pairs else "")
    )


def _held_out(config: Config, run: RunDir, iteration: int, prompt_ids: Sequence[str] | None) -> int:
    """How many pairs are measured and not trained on."""
    if not config.training.held_out:
        return 0
    if prompt_ids is None:
        files = [run.pairs(iteration, code) for code in config.languages]
        prompt_ids = [str(row["prompt_id"]) for file in files for row in read_rows(file)]
    held_out = draw_held_out(prompt_ids, config)
    return sum(prompt_id in held_out for prompt_id in prompt_ids)


def fewest(config: Config) -> int:
    """The fewest pairs that are trained on: two steps' worth, unless the recipe has a number."""
    return config.pairs.minimum or 2 * config.training.batch_size


def _lowered(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:].rstrip(".")


def _also(config: Config, pairs: int) -> str:
    return f" --set pairs.minimum={max(1, pairs)}" if pairs < fewest(config) else ""


def _remedy(config: Config, run: RunDir, iteration: int, counts: Counter[str]) -> str:
    """The most frequent fault, and the setting that fixes it."""
    reason = counts.most_common(1)[0][0]
    if reason == "truncated":
        rows = _responses(config, run, iteration)
        cut_off = [row.text is not None and row.finish_reason != "stop" for row in rows]
        return _longer("answers", "responses.max_new_tokens", config.responses.max_new_tokens, cut_off)
    if reason == "translation_cut_off":
        cut_off = [row.failure == reason for row in _translations(config, run, iteration)]
        return _longer("translations", "translations.max_new_tokens", config.translations.max_new_tokens, cut_off)
    if reason == "response_error":
        errors = (row.error for row in _responses(config, run, iteration))
        said = next((error for error in errors if error and error != "empty"), "unknown")
        return f"the engine gave errors, such as {said[:120]!r}; mend it, delete 2_responses and run again"
    if reason in ("loop", "repeated_lines"):
        penalty = config.responses.repetition_penalty
        return f"raise responses.repetition_penalty from {penalty:g} to about {penalty + 0.1:.2g}"
    if reason == "too_long":
        return f"raise training.max_length from {config.training.max_length:,}, or shorten the answers"
    if reason == "thinking":
        return "answers hold a thinking block; switch thinking off to train, for example by a system_prompt"
    if reason == "rejected_wrong_language":
        return "the rejected side is not in the prompt's language; pairs.gates.wrong_language=chosen keeps such pairs"
    if reason == "chosen_wrong_language":
        by_language = read_summary(run, iteration).dropped
        worst = max(by_language, key=lambda code: by_language[code].get(reason, 0))
        return (
            f"the chosen side is not in the prompt's language, most often in {worst}; leave that language out of "
            "languages, or take a model that can write it (lidr probe measures this)"
        )
    if reason in ("chosen_mixed_languages", "chosen_switches_language"):
        strategy = strategy_of(config)
        can_guide = strategy.directions(config) and not (
            translating_of(config).guided or config.translations.text_first
        )
        hint = f"set pairs.strategy={{type: guided, of: {strategy.type}}}, " if can_guide else ""
        most = config.pairs.gates.max_foreign_words or 0.0
        is_mixed = reason == "chosen_mixed_languages"
        gate = f"raise pairs.gates.max_foreign_words from {most:g}" if is_mixed else "set pairs.gates.wrong_lines=false"
        return f"{hint}take a model that translates better, or {gate}"
    if reason == "result_changed":
        return "take a model that translates better; pairs.gates.result_kept=false keeps such pairs"
    if reason == "response_empty":
        return "the model gives empty answers; look at system_prompt, and whether it is an instruct model"
    asked_otherwise = config.translations.text_first or translating_of(config).guided
    hint = "" if asked_otherwise else "set translations.text_first=true, or "
    return f"most often {reason}; {hint}take a model that translates better"


def _longer(what: str, field: str, limit: int, cut_off: list[bool]) -> str:
    count, total = sum(cut_off), len(cut_off)
    proposed = enough_tokens(limit, count, total)
    return f"{count:,} of {total:,} {what} were cut off at {limit:,} tokens; raise {field} to about {proposed}"


def enough_tokens(limit: int, cut_off: int, total: int) -> int:
    """A limit that about 95 % of the answers keep to, if `cut_off` of `total` were longer than `limit`."""
    finished = max(total - cut_off, 0.5) / max(total, 1)
    normal = NormalDist()
    factor = math.exp(_SPREAD * (normal.inv_cdf(_FINISHED) - normal.inv_cdf(min(finished, _FINISHED))))
    proposed = limit * min(factor, _AT_MOST)
    return max(64, 64 * round(proposed / 64))


def _responses(config: Config, run: RunDir, iteration: int) -> Iterator[Response]:
    for code in config.languages:
        yield from map(Response.from_dict, read_rows(run.responses(iteration, code)))


def _translations(config: Config, run: RunDir, iteration: int) -> Iterator[Translation]:
    for source, target in strategy_of(config).directions(config):
        yield from map(Translation.from_dict, read_rows(run.translations(iteration, source, target)))
