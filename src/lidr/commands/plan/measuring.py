"""What the benchmarks and the probe ask: of the model, of lm-evaluation-harness, and of the judge."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lidr.benchmarks.base import BenchmarkPlugin
from lidr.benchmarks.lab import LabBenchmark
from lidr.benchmarks.mgsm import MgsmBenchmark
from lidr.benchmarks.mt_bench import read_questions
from lidr.benchmarks.reading import read_instructions
from lidr.commands.plan.work import Load, Work, at_hand
from lidr.config import HARNESS, Config
from lidr.stages.evaluation import benchmarks_of
from lidr.templates import read_template

# Questions of each language and their tokens in English, where their files are not at hand: MGSM, MSVAMP, AlpacaEval,
# MT-Bench (80 questions of two turns) and the Language Confusion Benchmark.
_QUESTIONS = {
    "mgsm": (250, 75), "msvamp": (1000, 50), "x_alpacaeval": (805, 45), "head_to_head": (805, 45), "mt_bench": (80, 90),
    "language_confusion": (100, 40),
}  # fmt: skip
# Items of each language, passes of an item and tokens of a pass in English without examples, of lm-evaluation-harness
# 0.4.13: choices that are letters share a pass, those that are texts take one each.
_HARNESS = {
    "mmlu": (13500, 1, 110), "hellaswag": (9500, 4, 110), "arc": (1170, 4, 50), "truthfulqa_mc1": (800, 5, 190),
    "truthfulqa_mc2": (800, 7, 190), "global_mmlu": (400, 1, 110), "global_mmlu_full": (14042, 1, 110),
    "include": (550, 1, 80), "belebele": (900, 1, 200),
}  # fmt: skip
_OWN_TASK = (1000, 4, 150)
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
        if name in HARNESS:
            _add_harness(found, config, work, name, settings)
            continue
        languages = settings.languages if getattr(settings, "languages", None) else config.languages
        for code in languages:
            count, read = _questions(config, work, name, settings, code, found.assumed)
            kind = {"mgsm": "arithmetic", "msvamp": "arithmetic", "lab": "lab"}.get(name, "general")
            found.kinds.add(kind)
            limit = config.evaluation.max_new_tokens
            written = work.lengths.answer(kind, code, limit, "evaluation", name, code)
            turns = 2 if name == "mt_bench" else 1
            found.answers.add(count, read, written, limit)
            if turns == 2:  # the second reads the first with its answer
                found.answers.add(count, 2 * read + written, written, limit)
            if name in ("x_alpacaeval", "head_to_head"):
                if name == "x_alpacaeval" or settings.against != "M0" or iteration:
                    _add_comparisons(found, config, work, count, read + 2 * written)
            elif name == "mt_bench":
                _add_ratings(found, config, work, turns * count, turns * (read + written))
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
    """Both orders are asked."""
    template = work.lengths.text([read_template("judge_pairwise")], "en")
    found.judge.add(2 * count, tokens + template, _LABEL_TOKENS, _most(config))


def _add_ratings(found: Measuring, config: Config, work: Work, count: int, tokens: float) -> None:
    template = work.lengths.text([read_template("judge_score")], "en")
    found.judge.add(count, tokens + template, _RATING_TOKENS, _most(config))


def _most(config: Config) -> float:
    return config.evaluation.judge.max_new_tokens if config.evaluation.judge else 0


def _add_harness(found: Measuring, config: Config, work: Work, name: str, settings: Any) -> None:
    items, passes, tokens = _OWN_TASK if settings.task else _HARNESS[name]
    items = min(items, settings.limit or items)
    languages = settings.languages
    if languages is None:
        from lidr.benchmarks.harness import missing

        languages = [code for code in config.languages if settings.task or code not in missing(name, [code])]
    examples = 1 + (settings.num_fewshot or 0)
    for code in languages:
        found.harness.add(items * passes, tokens * examples * work.lengths.expansion_of(code), 0)
    found.assumed.append(
        f"{name}: {items * passes:,} passes of {tokens} English tokens and its examples in each language"
    )


def _questions(
    config: Config, work: Work, name: str, settings: Any, language: str, assumed: list[str]
) -> tuple[int, float]:
    """(number, mean tokens of the request) of the questions of one language, read where they are at hand."""
    texts = _read_questions(config, name, settings, language)
    if texts is not None:
        return len(texts), work.around + work.lengths.text(texts, language)
    known, tokens = settings.size() if isinstance(settings, BenchmarkPlugin) else _QUESTIONS[name]
    count = min(known, settings.limit or known)
    examples = 2.5 * getattr(settings, "num_fewshot", 0)  # a worked answer is longer than its question
    why = "by its own estimate" if isinstance(settings, BenchmarkPlugin) else "as its files are not on this machine"
    note = f"{name}: {count} questions in each language, {why}"
    if note not in assumed:
        assumed.append(note)
    return count, work.around + tokens * (1 + examples) * work.lengths.expansion_of(language)


def _read_questions(config: Config, name: str, settings: Any, language: str) -> list[str] | None:
    """The texts of the questions of one language; None if they are not on this machine. Raises DataError."""
    if isinstance(settings, BenchmarkPlugin):
        return None
    if name == "lab":
        return [question.prompt for question in LabBenchmark([language], ()).questions(language)]
    against = getattr(settings, "against", "M0")
    path = settings.path or getattr(settings, "reference", None) or (None if against == "M0" else against)
    if path is None or not at_hand(path):
        return None
    if name in ("mgsm", "msvamp"):
        questions = MgsmBenchmark(**settings.model_dump(), name=name).questions(language)
        return ["\n".join([*(text for _, text in asked.history), asked.prompt]) for asked in questions]
    if name == "mt_bench":
        return [question.turns[0] for question in read_questions(path, language, settings.limit)]
    read = read_instructions(path, language, settings.limit, f"evaluation.benchmarks.{name}")
    return [question.prompt for question in read]
