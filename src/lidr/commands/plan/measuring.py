"""What the benchmarks and the probe ask: of the model, of lm-evaluation-harness, and of the judge."""

from __future__ import annotations

from dataclasses import dataclass, field

from lidr.benchmarks.base import BenchmarkSettings, benchmarks_of
from lidr.commands.plan.work import Load, Work
from lidr.config import Config
from lidr.templates import read_template

_RATING_TOKENS, _LABEL_TOKENS = 45, 3  # of a judge's reply: a sentence and a number, or a letter


@dataclass
class Measuring:
    """Loads of one evaluation or probe, the kinds of its answers (of `lengths.ANSWERS`), and what was assumed."""

    answers: Load = field(default_factory=Load)
    harness: Load = field(default_factory=Load)
    judge: Load = field(default_factory=Load)
    kinds: set[str] = field(default_factory=set)
    assumed: list[str] = field(default_factory=list)


def evaluation(config: Config, work: Work, iteration: int) -> Measuring:
    """The benchmarks of one model."""
    found = Measuring()
    for name, settings in benchmarks_of(config).items():
        languages = getattr(settings, "languages", None) or config.languages
        if settings.loads_weights:
            _add_passes(found, config, work, name, settings)
            continue
        for code in languages:
            count, read = _questions(work, name, settings, code, found.assumed)
            found.kinds.add(settings.answers)
            limit = config.evaluation.max_new_tokens
            written = work.lengths.answer(settings.answers, code, limit, "evaluation", name, code)
            found.answers.add(count, read, written, limit)
            if settings.turns == 2:  # the second turn reads the first with its answer
                found.answers.add(count, 2 * read + written, written, limit)
            asked = settings.judge_asked(iteration)
            if asked == "comparisons":
                _add_comparisons(found, config, work, count, read + 2 * written)
            elif asked == "ratings":
                _add_ratings(found, config, work, settings.turns * count, settings.turns * (read + written))
    return found


def probe(config: Config, work: Work, iteration: int, by: list[str]) -> tuple[Load, Load, Measuring]:
    """Answers, translations and the judge's work of a probe: of M_0 (iteration 0), or of M_t against M_{t-1}."""
    assert config.probe is not None
    count, languages = config.probe.prompts, config.probe.languages or config.languages
    dominant = config.probe.dominant or config.dominant
    others = [code for code in languages if code != dominant]
    answers, found = work.respond(count, languages), Measuring()
    turned = {} if iteration else {(dominant, code): count for code in others}
    if "judge" in by:
        for code in languages:
            size = work.prompt(code) + work.answer(code)
            if iteration or code in others:
                _add_comparisons(found, config, work, count, size + work.answer(code))
            _add_ratings(found, config, work, count * (2 if not iteration and code in others else 1), size)
    return answers, work.translate(turned), found


def _add_comparisons(found: Measuring, config: Config, work: Work, count: int, tokens: float) -> None:
    """Comparisons are asked for in both orders."""
    template = work.lengths.text([read_template("judge_pairwise")], "en")
    found.judge.add(2 * count, tokens + template, _LABEL_TOKENS, _most(config))


def _add_ratings(found: Measuring, config: Config, work: Work, count: int, tokens: float) -> None:
    template = work.lengths.text([read_template("judge_score")], "en")
    found.judge.add(count, tokens + template, _RATING_TOKENS, _most(config))


def _most(config: Config) -> float:
    return config.evaluation.judge.max_new_tokens if config.evaluation.judge else 0


def _add_passes(found: Measuring, config: Config, work: Work, name: str, settings: BenchmarkSettings) -> None:
    passes = settings.passes(config.languages)
    assert passes is not None  # a benchmark that loads the weights has them
    for code in passes.languages:
        found.harness.add(passes.count, passes.tokens * work.lengths.expansion_of(code), 0)
    each = f"{passes.count:,} passes of {passes.tokens} English tokens and its examples"
    found.assumed.append(f"{name}: {each} in each language")


def _questions(
    work: Work, name: str, settings: BenchmarkSettings, language: str, assumed: list[str]
) -> tuple[int, float]:
    """(number, mean tokens of a request) of the questions in one language, by their texts if they are at hand."""
    texts = settings.texts(language)
    if texts is not None:
        return len(texts), work.around + work.lengths.text(texts, language)
    known, tokens = settings.size()
    count = min(known, getattr(settings, "limit", None) or known)
    why = "by its own estimate" if settings.source else "as its files are not on this machine"
    note = f"{name}: {count} questions in each language, {why}"
    if note not in assumed:
        assumed.append(note)
    return count, work.around + tokens * work.lengths.expansion_of(language)
