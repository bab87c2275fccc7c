"""Step 4: preference pairs. The strategy proposes candidates, and the gates drop some, each for one reason."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from lidr.config import Config, GatesConfig
from lidr.errors import DamagedError, RunError
from lidr.languages.confusion import check_answer
from lidr.languages.identification import LanguageIdentifier
from lidr.languages.names import asks_for_other_language
from lidr.numbers import extract_answer
from lidr.plugins import calling
from lidr.progress_bar import track
from lidr.records import Dropped, Json, PreferencePair, content_id
from lidr.run_dir import RunDir
from lidr.seals import Inputs, Outputs, digest, read_document, read_rows, read_seal, seal, sealed, write_sealed
from lidr.stages import scores
from lidr.stages.answers import read_answers
from lidr.storage import hash_file, naming, partial_path
from lidr.strategies.base import Candidate, strategy_of
from lidr.thinking import split_thinking
from lidr.word_use import WordUse, split_words

# Meanings of the reasons for which there is no pair; a strategy adds those of its own (`Strategy.reasons`).
REASONS = {
    "prompt_missing": "The prompt does not exist in this language (or in the dominant one).",
    "translation_task": "The prompt itself asks for a translation; translating its answer would destroy it.",
    "response_empty": "The model gave an empty answer.",
    "response_error": "The engine returned an error instead of an answer.",
    "truncated": "An answer was cut off by the length limit.",
    "thinking": "A side holds a thinking block (<think>), which a pair would teach; switch thinking off to train.",
    "translation_missing": "The answer that this pair needs was not translated.",
    "translation_error": "The engine returned an error instead of a translation.",
    "translation_empty": "The translation was empty.",
    "translation_cut_off": "The translation was cut off by the length limit, and so were its paragraphs, if tried.",
    "translation_shortened": "Under a fifth of the answer came back, paragraph by paragraph as well.",
    "translation_unparsed": "The translation did not keep to the requested format, paragraph by paragraph as well.",
    "identical": "Both sides are the same text, so there is nothing to prefer.",
    "near_identical": "Both sides share nearly all of their words.",
    "length_ratio": "One side is many times longer than the other.",
    "repeated_lines": "A side repeats the same line over and over.",
    "loop": "A side ends in a loop, the same phrase over and over.",
    "chosen_wrong_language": "The chosen side is not in the prompt's language.",
    "chosen_switches_language": "A line or a sentence of the chosen side is not in the prompt's language.",
    "chosen_mixed_languages": "Too many words of the chosen side are the dominant language's.",
    "result_changed": "The translation ends in another number than the answer that it was made from.",
    "same_result": "Both sides end in the same number.",
    "rejected_wrong_language": "The rejected side is not in the prompt's language.",
    "too_long": "Prompt and answer together exceed the training length.",
}
_VERSION = 3
_PROMPTS_COUNTED = 10_000  # enough to know which words a language uses, and bounded in time


def inputs(config: Config, run: RunDir, iteration: int) -> Inputs:
    """Everything that the pairs depend on."""
    strategy, pairs = strategy_of(config), config.pairs.model_dump(exclude={"minimum", "max_fault_share"})
    pairs["strategy"] = strategy.pair_identity()
    initial = strategy.needs_initial(config)
    return {
        "format": _VERSION,
        "prompts": digest(run.prompts(iteration)),
        "responses": {code: digest(run.responses(iteration, code)) for code in config.languages},
        "translations": {f"{s}-{t}": digest(run.translations(iteration, s, t)) for s, t in strategy.directions(config)},
        "scores": {path.stem: digest(path) for path in scores.files(config, run, iteration).values()} or None,
        "initial": {code: digest(run.responses(1, code)) for code in config.languages} if initial else None,
        "pairs": pairs,
        "dominant": config.dominant,
    }


def outputs(config: Config, run: RunDir, iteration: int) -> Outputs:
    """The summary, which is written last, and the files that it is about."""
    made_from = inputs(config, run, iteration)
    files = [*(run.pairs(iteration, code) for code in config.languages), run.dropped(iteration)]
    return [(path, made_from) for path in (run.pair_summary(iteration), *files)]


def run(config: Config, run_dir: RunDir, iteration: int) -> None:
    """Write one file of pairs per language, one of drops, and the summary, which seals them all."""
    made_from = inputs(config, run_dir, iteration)
    run_dir.pair_summary(iteration).unlink(missing_ok=True)
    kept, dropped = dict.fromkeys(config.languages, 0), {code: Counter[str]() for code in config.languages}
    paths = {code: run_dir.pairs(iteration, code) for code in config.languages}
    paths["dropped"] = run_dir.dropped(iteration)
    paths["dropped"].parent.mkdir(parents=True, exist_ok=True)
    prompts = sealed(run_dir.prompts(iteration)).rows
    with naming(run_dir.pair_summary(iteration).parent), ExitStack() as stack:
        files = {
            key: stack.enter_context(partial_path(path).open("w", encoding="utf-8")) for key, path in paths.items()
        }
        progress = stack.enter_context(track(f"{run_dir.title(iteration)}  pair", prompts))
        for outcome in make_pairs(config, run_dir, iteration):
            if isinstance(outcome, PreferencePair):
                kept[outcome.language] += 1
                files[outcome.language].write(outcome.to_json() + "\n")
            else:
                dropped[outcome.language][outcome.reason] += 1
                files["dropped"].write(outcome.to_json() + "\n")
            progress.advance(dropped=isinstance(outcome, Dropped))
    rows = kept | {"dropped": sum(sum(reasons.values()) for reasons in dropped.values())}
    for key, path in paths.items():
        seal(partial_path(path), path, made_from, rows[key], hash_file(partial_path(path)))
    by_language = {code: dict(sorted(reasons.items())) for code, reasons in dropped.items()}
    summary = PairSummary(kept, by_language, {key: digest(path) for key, path in paths.items()})
    run_dir.log("stage", iteration=iteration, stage="pairs", seconds=round(progress.seconds, 3), rows=progress.rows)
    write_sealed(run_dir.pair_summary(iteration), made_from, [json.dumps(asdict(summary), indent=1)])


def make_pairs(config: Config, run_dir: RunDir, iteration: int) -> Iterator[PreferencePair | Dropped]:
    """All pairs and drops of an iteration, in the order of the prompts."""
    strategy = strategy_of(config)
    identifier = LanguageIdentifier.among(config.languages)
    word_use = read_word_use(config, run_dir, iteration) if config.pairs.gates.max_foreign_words is not None else {}
    for answers in read_answers(
        config, run_dir, iteration, config.languages, strategy.directions(config),
        scores.files(config, run_dir, iteration), strategy.needs_initial(config),
    ):  # fmt: skip
        with calling(strategy, "candidates"):
            candidates = list(strategy.candidates(answers, config))
        for candidate in candidates:
            if candidate.language not in config.languages:
                raise RunError(
                    f"{strategy.type}: a candidate in {candidate.language!r}, which the recipe does not have"
                )
            if not candidate.kind.isidentifier():
                raise RunError(
                    f"{strategy.type}: the kind of a candidate is one word, such as dominant; it has {candidate.kind!r}"
                )
            yield make_pair(candidate, config.pairs.gates, identifier, word_use)


def read_word_use(config: Config, run_dir: RunDir, iteration: int) -> dict[str, WordUse]:
    """For every other language, which words are the dominant language's, by the prompts and the direct answers."""
    counts = {code: Counter[str]() for code in config.languages}
    for answers in islice(read_answers(config, run_dir, iteration, config.languages), _PROMPTS_COUNTED):
        for code, prompt in answers.prompts.items():
            counts[code].update(split_words(prompt.text))  # `+=` would go through all words that it has for each row
            for response in answers.responses.get(code, ()):
                counts[code].update(split_words(response.text or ""))
    return {code: WordUse(counts[code], counts[config.dominant]) for code in config.non_dominant}


def make_pair(
    candidate: Candidate,
    gates: GatesConfig,
    identifier: LanguageIdentifier,
    word_use: Mapping[str, WordUse] | None = None,
) -> PreferencePair | Dropped:
    """A pair, or the one reason why there is none: a side's own problem first, then the gates in their order.

    `word_use` by language is for the gate on foreign words, which is off without it.
    """
    prompt_id, language, kind = candidate.prompt_id, candidate.language, candidate.kind
    chosen, rejected, prompt = candidate.chosen, candidate.rejected, candidate.prompt
    problem = chosen.problem or rejected.problem
    if problem or chosen.text is None or rejected.text is None or prompt is None:
        side = chosen if chosen.problem or chosen.text is None else rejected
        return Dropped(prompt_id, language, kind, problem or "prompt_missing", side.origin)
    texts = chosen.text, rejected.text
    reason, detail = (
        failed_gate(*texts, candidate, gates, identifier)
        or switched_language(chosen.text, candidate, gates, identifier)
        or mixed_languages(chosen.text, candidate, gates, word_use or {})
        or failed_result_gate(*texts, candidate, gates)
        or ("", "")
    )
    if reason:
        return Dropped(prompt_id, language, kind, reason, detail)
    begin, end = candidate.frame
    texts = f"{begin}{chosen.text}{end}", f"{begin}{rejected.text}{end}"
    if candidate.swapped:
        chosen, rejected, texts = rejected, chosen, texts[::-1]
    row_id = content_id(prompt_id, language, prompt.text, *texts, rejected.origin)
    origins, cut_off = (chosen.origin, rejected.origin), (chosen.cut_off, rejected.cut_off)
    given = chosen.score, rejected.score
    return PreferencePair(row_id, prompt_id, language, kind, prompt.text, *texts, *origins, *cut_off, *given)


def failed_gate(
    chosen: str, rejected: str, candidate: Candidate, gates: GatesConfig, identifier: LanguageIdentifier
) -> tuple[str, str] | None:
    """(reason, detail) of the first gate that two texts fail; None if they pass. Cheap gates come first.

    A thinking block has no switch: a pair would teach the model to write it, or not to.
    """
    for side, text in (("chosen", chosen), ("rejected", rejected)):
        if split_thinking(text).thinking:
            return "thinking", side
    if gates.identical and chosen == rejected:
        return "identical", ""
    ratio = max(len(chosen), len(rejected)) / max(1, min(len(chosen), len(rejected)))
    if gates.max_length_ratio is not None and ratio > gates.max_length_ratio:
        return "length_ratio", f"{ratio:.1f}"
    for side, text in (("chosen", chosen), ("rejected", rejected)):
        if gates.max_line_repeats is not None and most_repeated_line(text) >= gates.max_line_repeats:
            return "repeated_lines", side
        if gates.loops and ends_in_loop(text):
            return "loop", side
    if gates.max_similarity is not None and (score := similarity(chosen, rejected)) > gates.max_similarity:
        return "near_identical", f"{score:.2f}"
    if gates.wrong_language is not None and not candidate.any_language:
        found = identifier.identify(chosen)
        if found not in (None, candidate.language):
            return "chosen_wrong_language", str(found)
        if gates.wrong_language == "either":
            found = identifier.identify(rejected)
            if found not in (None, candidate.language):
                return "rejected_wrong_language", str(found)
    return None


def switched_language(
    chosen: str, candidate: Candidate, gates: GatesConfig, identifier: LanguageIdentifier
) -> tuple[str, str] | None:
    """("chosen_switches_language", the first line or sentence in another language) if there is one.

    Who asks for a French poem in English gets lines in both.
    """
    if not gates.wrong_lines or gates.wrong_language is None or candidate.any_language:
        return None
    wrong = check_answer(chosen, candidate.language, identifier, by_sentence=True).wrong_lines
    if not wrong:
        return None
    asked = candidate.prompt.text if candidate.prompt and not any(candidate.frame) else ""  # and not by the strategy
    if asks_for_other_language(asked, candidate.language):
        return None
    line, code = wrong[0]
    return "chosen_switches_language", f"{code}: {line[:80]}"


def mixed_languages(
    chosen: str, candidate: Candidate, gates: GatesConfig, word_use: Mapping[str, WordUse]
) -> tuple[str, str] | None:
    """("chosen_mixed_languages", the foreign words) if there are too many of them."""
    use = word_use.get(candidate.language)
    if use is None or gates.max_foreign_words is None or candidate.any_language:
        return None
    if use.foreign_share(chosen) <= gates.max_foreign_words:
        return None
    return "chosen_mixed_languages", " ".join(dict.fromkeys(use.foreign_words(chosen)))[:80]


def failed_result_gate(chosen: str, rejected: str, candidate: Candidate, gates: GatesConfig) -> tuple[str, str] | None:
    """(reason, detail) of the first gate on final numbers that two texts fail; None if they pass."""
    if not (gates.result_kept or gates.results_differ):
        return None
    result = extract_answer(chosen, candidate.language)
    if gates.result_kept and candidate.chosen.made_from is not None:
        wanted = extract_answer(candidate.chosen.made_from.text, candidate.chosen.made_from.language)
        if result is None or result != wanted:
            return "result_changed", f"{wanted} -> {result}"
    if gates.results_differ and result == extract_answer(rejected, candidate.language):
        return "same_result", str(result)
    return None


def most_repeated_line(text: str) -> int:
    """How often the most frequent line with a letter or digit in it occurs."""
    if text.count("\n") < 2:
        return 1
    lines = Counter(line.strip() for line in text.split("\n"))
    return max((count for line, count in lines.items() if any(map(str.isalnum, line))), default=0)


def ends_in_loop(text: str, repeats: int = 5, characters: int = 60, longest: int = 200) -> bool:
    """Whether a text ends with the same phrase over and over: `repeats` times or more, `characters` long in all.

    The phrase may have up to `longest` characters and must hold a letter; rules of dashes in a table are not loops.
    """
    text = text.rstrip()
    last = text[-1:]
    for period in range(1, min(longest, len(text) // repeats) + 1):
        if text[-1 - period] != last or text[-period:] != text[-2 * period : -period]:
            continue
        span = max(repeats * period, characters)
        tail = text[-span:]
        if len(tail) == span and tail[period:] == tail[:-period] and re.search(r"[^\W\d_]", tail[-period:]):
            return True
    return False


def similarity(a: str, b: str) -> float:
    """Jaccard index of the two sets of words, or of character pairs if a text has no spaces; 1 is the same set."""
    left, right = _units(a), _units(b)
    union = len(left | right)
    return len(left & right) / union if union else 1.0


def _units(text: str) -> set[str]:
    words = text.lower().split()
    if len(text) > 12 * len(words):  # few spaces: Chinese, Japanese, Thai
        return {text[i : i + 2] for i in range(len(text) - 1)}
    return set(words)


@dataclass(frozen=True, slots=True)
class PairSummary:
    """Counts of an iteration: pairs by language, and drops by language and reason. `files` has the files' hashes."""

    pairs: dict[str, int]
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Pairs in all languages."""
        return sum(self.pairs.values())

    def by_reason(self) -> Counter[str]:
        """Drops by reason, in all languages."""
        return sum((Counter(reasons) for reasons in self.dropped.values()), Counter[str]())


_SUMMARY = TypeAdapter(PairSummary)


def read_summary(run_dir: RunDir, iteration: int) -> PairSummary:
    """The summary of an iteration's pairs. Raises RunError if it is not complete, DamagedError if it is damaged."""
    path = run_dir.pair_summary(iteration)
    try:
        return _SUMMARY.validate_python(read_document(path))
    except ValidationError:
        remedy = f"delete it, and `lidr pair {run_dir.path} --iteration {iteration}` makes it again"
        raise DamagedError(f"{path}: damaged; {remedy}") from None


def with_pairs(config: Config, run_dir: RunDir) -> list[int]:
    """The iterations whose pairs are complete. Raises RunError if those that a model was trained on are not."""
    found = []
    for iteration in range(1, config.iterations + 1):
        summary, model = run_dir.pair_summary(iteration), run_dir.model_folder(iteration)
        if model.exists():
            sealed(model)
            sealed(summary)
        if read_seal(summary):
            found.append(iteration)
    return found


def read_pairs(run_dir: RunDir, iteration: int, language: str) -> Iterator[dict[str, Any]]:
    """The pairs of one language, one at a time. Raises RunError if there are none, DamagedError as `read_rows` does."""
    yield from _read_counted(run_dir, iteration, language, run_dir.pairs(iteration, language))


def read_dropped(run_dir: RunDir, iteration: int) -> Iterator[Json]:
    """The pairs that were not made, one at a time. Raises as `read_pairs` does."""
    yield from _read_counted(run_dir, iteration, "dropped", run_dir.dropped(iteration))


def _read_counted(run_dir: RunDir, iteration: int, key: str, path: Path) -> Iterator[Json]:
    """The rows of a file, which must be the one that the summary counts."""
    counted = read_summary(run_dir, iteration).files.get(key)
    if counted not in (None, digest(path)):
        raise DamagedError(
            f"{path}: not the file that {run_dir.pair_summary(iteration)} has counted; delete the summary, and "
            f"`lidr pair {run_dir.path} --iteration {iteration}` makes the two again"
        )
    return read_rows(path)
