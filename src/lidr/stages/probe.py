"""Before and between trainings: is there an imbalance to learn from, in which languages, and did the last step help?

The probe of M_0 answers a held-out sample in every language, finds the language of the best answers, translates those
into the others, and asks how often the translated answer beats the direct one: the reward accuracy, per language. That
costs a few answers instead of a training (METHOD, section 6). Between M_t and M_{t+1} the same comparison of their
direct answers is the stop rule.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from pydantic import ValidationError

from lidr.benchmarks.base import Question
from lidr.benchmarks.shared.comparing import language_kept
from lidr.benchmarks.shared.duels import Duel, count_duels, count_together, is_right
from lidr.config import LABORATORIES, Config, ModelConfig
from lidr.engines import Completion
from lidr.errors import ConfigError, RunError
from lidr.judges import AnsweredQuestion, Comparison, Judge, Reply, compare, judge_identity, open_judge, score_answers
from lidr.languages.identification import LanguageIdentifier
from lidr.languages.names import asks_for_other_language
from lidr.records import Prompt, canonical_json, content_id
from lidr.results import (
    DuelCounts,
    FailedByLength,
    ImbalanceProbe,
    LanguageProbe,
    LanguageProgress,
    Metric,
    Metrics,
    Probe,
    ProbeVerdict,
    ProgressProbe,
    probe_json,
    read_imbalance,
    read_progress,
)
from lidr.run_dir import RunDir
from lidr.seals import Inputs, Outputs, digest, is_sealed, write_sealed
from lidr.stages import prompts, responses, translations
from lidr.stages.answers import read_answers
from lidr.statistics import bootstrap_interval, rounded, share
from lidr.storage import write_text
from lidr.strategies.base import Answers, Side, direct, translated, translating_of
from lidr.strategies.guided import Guided
from lidr.strategies.imbalance import Imbalance
from lidr.thinking import split_thinking

_VERSION = 2


def inputs(config: Config, run: RunDir, iteration: int) -> Inputs:
    """Everything that a probe depends on."""
    assert config.probe is not None
    judge = config.evaluation.judge if "judge" in judged_by(config) else None
    gates = config.pairs.gates
    of_translations = {
        "translations": config.translations.model_dump() | {"guided": translating_of(config).guided},
        "template": content_id(translating_of(config).template),
        "translation_tasks": gates.translation_tasks,
        "dominant": config.probe.dominant or config.dominant,
    }
    return {
        "format": _VERSION,
        "models": [run.model(config, number).fingerprint for number in range(max(0, iteration - 1), iteration + 1)],
        "prompts": prompts.held_out_inputs(config),
        "responses": config.responses.model_dump(),
        "system_prompt": config.system_prompt,
        "truncated": gates.truncated,
        "by": config.probe.by,
        "judge": judge_identity(judge, run.model_cache) if judge else None,
        "seed": config.seed,
        **(of_translations if iteration == 0 else {"languages": config.languages, "dominant": config.dominant}),
    }


def outputs(config: Config, run: RunDir, iteration: int) -> Outputs:
    """One file of findings; none where the recipe asks for no probe."""
    if config.probe is None or (iteration and not config.probe.stop):
        return []
    return [(run.probe(iteration), inputs(config, run, iteration))]


def inputs_note(run: RunDir, iteration: int) -> Path:
    """The file that says which inputs a begun probe is of."""
    return run.probe(iteration).with_suffix("") / "inputs.json"


def run(config: Config, run_dir: RunDir, iteration: int) -> None:
    """Probe M_0, or measure M_t against M_{t-1}, and seal what was found."""
    sample = prompts.hold_out(config, run_dir)
    by = checked_judges(config, sample)
    if iteration and not is_sealed(run_dir.prompts(iteration), prompts.inputs(config, run_dir, iteration)):
        raise RunError(
            f"M{iteration} was not trained with this probe's sample kept apart, so nothing can be said about it; "
            "`lidr run` with the probe in the recipe trains it again"
        )
    note = inputs_note(run_dir, iteration)
    note.parent.mkdir(parents=True, exist_ok=True)
    write_text(note, canonical_json(inputs(config, run_dir, iteration)))
    with ExitStack() as stack:
        settings = config.evaluation.judge if "judge" in by else None
        judge = None
        if settings:
            judge = stack.enter_context(open_judge(settings, run_dir.judge_replies, run_dir.model_cache))
        probe = _Probe(config, run_dir, sample, by, judge)
        started = time.monotonic()
        found: Probe = probe.imbalance() if iteration == 0 else probe.progress(iteration)
        if judge:
            found = replace(found, judge=judge.usage(probe.replies))
    seconds = round(time.monotonic() - started, 3)
    run_dir.log("stage", iteration=iteration, stage="probe", seconds=seconds, rows=len(sample))
    write_sealed(run_dir.probe(iteration), inputs(config, run_dir, iteration), [probe_json(found)])


def says_stop(run: RunDir, iteration: int) -> bool:
    """Whether the stop rule ends the run with M_t; False if it was not asked."""
    found = read_progress(run, iteration)
    return found is not None and found.stop


def judged_by(config: Config) -> list[str]:
    """Who may say which answer is better, by the recipe; whether the prompts have known answers is seen later."""
    assert config.probe is not None
    wanted = {"auto": ["verified", "judge"], "both": ["verified", "judge"]}.get(config.probe.by, [config.probe.by])
    known = config.prompt_source.path in LABORATORIES or config.prompt_source.fields.answer is not None
    has = {"verified": known, "judge": config.evaluation.judge is not None}
    if config.probe.by != "auto" and not all(has[name] for name in wanted):
        missing = " and ".join(name for name in wanted if not has[name])
        raise ConfigError(
            f"probe.by {config.probe.by}: no {missing} to be had; verified needs prompts.fields.answer, judge "
            "needs evaluation.judge"
        )
    available = [name for name in wanted if has[name]]
    return available[:1] if config.probe.by == "auto" else available


def conclude(config: Config, run: RunDir) -> Config:
    """The recipe to go on with after the probe of M_0: another one if the probe is to be obeyed."""
    assert config.probe is not None
    found = read_imbalance(run)
    assert found is not None
    if config.probe.obey:
        config = obeyed(config, found)
        run.write_recipe(config)
    return config


def obeyed(config: Config, found: ImbalanceProbe) -> Config:
    """The recipe without the languages that the probe advises to drop, and with the dominant language that it found.

    Raises RunError if no language is left to be trained, ConfigError if the recipe does not fit the findings.
    """
    assert config.probe is not None
    dominant, languages = found.dominant, found.languages
    dropped = {code for code, entry in languages.items() if entry.verdict == "drop"}
    kept = [code for code in config.languages if code == dominant or code not in dropped]
    if dominant not in kept:
        raise RunError(f"the probe finds {dominant} dominant, which is not among languages {config.languages}; add it")
    if len(kept) < 2:
        why = "; ".join(_dropped_because(code, entry) for code, entry in languages.items() if code != dominant)
        raise RunError(f"the probe advises to drop every language, so there is nothing to train: {why}")
    first = config.probe
    noted = {"languages": first.languages or config.languages, "dominant": first.dominant or config.dominant}
    changed = {"languages": kept, "dominant": dominant, "probe": first.model_copy(update=noted)}
    try:
        return Config.model_validate(config.model_copy(update=changed).model_dump())
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"the recipe does not fit what the probe found ({dominant} dominant): {reason}") from None


def _dropped_because(code: str, entry: LanguageProbe) -> str:
    if entry.mostly_failed:
        tried = entry.translations
        return f"{code}: {round((entry.translation_failed or 0.0) * tried)} of {tried} translations failed"
    return f"{code}: its direct answers are better than the translated ones"


# A prompt in one language, and the answer to it: text None if there is none.
Answer = tuple[Prompt, Side]
_LENGTHS = (500, 3000)  # characters; between them METHOD's measurements of failed translations


class _Probe:
    """One probe of a run: the sample, and who judges. The first of `by` decides."""

    def __init__(
        self, config: Config, run_dir: RunDir, sample: list[dict[str, Prompt]], by: Sequence[str], judge: Judge | None
    ) -> None:
        assert config.probe is not None
        self.config, self.run_dir, self.sample, self.by, self.judge = config, run_dir, sample, by, judge
        self.replies: list[Reply] = []  # the judge's, for their cost
        self.languages = config.probe.languages or config.languages
        self.named = config.probe.dominant or config.dominant
        self.identifier = LanguageIdentifier.among(self.languages)

    def imbalance(self) -> ImbalanceProbe:
        """The probe of M_0: quality by language, the dominant one, and the reward accuracy of the others."""
        own = self._own_answers(0)
        quality = {code: self._quality(own[code], code) for code in self.languages}
        dominant = best_language(quality, self.by[0], self.named)
        turned, failures = self._translated(dominant)
        found: dict[str, LanguageProbe] = {}
        for code in self.languages:
            entry = self._own(own[code], code, quality[code])
            if code != dominant:
                accuracy, failed = self._duels(turned[code], own[code], code), failures[code]
                entry = replace(
                    entry, translated=self._quality(turned[code], code), reward_accuracy=accuracy,
                    translations=failed.tried, translation_failed=failed.share, failed_by_length=failed.by_length,
                )  # fmt: skip
                entry = replace(entry, verdict=_verdict(accuracy[self.by[0]], entry))
            found[code] = entry
        return ImbalanceProbe("M0", dominant, tuple(self.by), len(self.sample), found)

    def _own(self, answers: Sequence[Answer], code: str, quality: Metrics) -> LanguageProbe:
        """What is found in the direct answers alone."""
        given = [(prompt, side, side.text) for prompt, side in answers if side.text is not None]
        asked = [Question(prompt.prompt_id, code, prompt.text) for prompt, _, _ in given]
        texts = [
            Completion(prompt.prompt_id, text, "stop", thinking=side.problem == "thinking")
            for prompt, side, text in given
        ]
        kept = language_kept(asked, texts, code, self.identifier)
        off_target, lines = kept.values["off_target"], kept.values["lpr"]
        return LanguageProbe(
            quality, off_target.value, "dominant", off_target.interval, kept.count("undecided"),
            kept.count("truncated"), kept.count("thinking"), lpr=lines.value, ci95_lpr=lines.interval,
        )  # fmt: skip

    def progress(self, iteration: int) -> ProgressProbe:
        """M_t against M_{t-1}, by their direct answers."""
        before, after = self._own_answers(iteration - 1), self._own_answers(iteration)
        found: dict[str, LanguageProgress] = {}
        duels: list[Duel] = []
        for code in self.languages:
            counted = {by: self._fight(by, after[code], before[code], code) for by in self.by}
            duels += counted[self.by[0]]
            better = {by: count_duels(fought) for by, fought in counted.items()}
            found[code] = LanguageProgress(self._quality(before[code], code), self._quality(after[code], code), better)
        trained = [duel for duel in duels if duel.language in self.config.languages]
        if all(duel.result is None for duel in trained):
            raise RunError(f"the stop rule got no verdict on M{iteration}, in any language; nothing can be said")
        together = count_together(duel for duel in trained if duel.language != self.config.dominant)
        directions = {code: found[code].better[self.by[0]].direction for code in self.config.languages}
        gains, losses, reason = stop_or_go(directions, together.direction, self.config.dominant)
        return ProgressProbe(
            f"M{iteration}", tuple(self.by), len(self.sample), found, together, gains, losses, stop=bool(reason),
            keep=iteration - bool(reason), reason=reason,
        )  # fmt: skip

    def _small_run(self, iteration: int, dominant: str) -> tuple[Config, RunDir]:
        """A run of its own below the run's: the sample as its prompts, M_t as its model."""
        path = self.run_dir.path / "probe" / f"M{iteration}"
        path.mkdir(parents=True, exist_ok=True)
        small = RunDir(path, title=f"probe of M{iteration}")
        made_from = {"sample": digest(self.run_dir.held_out())}
        if not is_sealed(small.prompts(1), made_from):
            rows = (prompt.to_json() for group in self.sample for prompt in group.values())
            write_sealed(small.prompts(1), made_from, rows)
        model = self.config.model
        if iteration:
            folder = str(self.run_dir.checked_model(self.config, iteration).folder)
            model = ModelConfig(path=folder, trust_remote_code=model.trust_remote_code)
        strategy = Guided() if translating_of(self.config).guided else Imbalance()
        pairs = self.config.pairs.model_copy(update={"dominant_rejected": "none", "strategy": strategy})
        changed = {"model": model, "languages": self.languages, "dominant": dominant, "pairs": pairs, "probe": None}
        return self.config.model_copy(update=changed), small

    def _own_answers(self, iteration: int) -> dict[str, list[Answer]]:
        """Language -> the direct answers of M_t to the sample."""
        named = self.config.dominant
        config, small = self._small_run(iteration, named if named in self.languages else self.languages[0])
        responses.run(config, small, 1)
        rows = list(read_answers(config, small, 1, self.languages))
        return {code: _of_language(rows, code, lambda row, c: direct(row, c, config)) for code in self.languages}

    def _translated(self, dominant: str) -> tuple[dict[str, list[Answer]], dict[str, _Failures]]:
        """Language -> the translated dominant answers, and how many translations failed, by length of the answer."""
        config, small = self._small_run(0, dominant)
        translations.run(config, small, 1)
        others = config.non_dominant
        rows = list(read_answers(config, small, 1, self.languages, [(dominant, code) for code in others]))
        turned = {
            code: _of_language(rows, code, lambda row, c: translated(row, dominant, c, config)) for code in others
        }
        return turned, {code: _failures(rows, dominant, code) for code in others}

    def _quality(self, answers: Sequence[Answer], language: str) -> Metrics:
        """How good the answers are by themselves; those that are missing count in neither measure."""
        given = [(prompt, side.text) for prompt, side in answers if side.text is not None]
        values, counts = {}, {"n": len(given)}
        if "verified" in self.by:
            values["accuracy"] = share(sum(self._is_right(prompt, text) for prompt, text in given), len(given))
        if self.judge:
            items = [AnsweredQuestion(prompt.prompt_id, language, prompt.text, text) for prompt, text in given]
            ratings, replies = score_answers(self.judge, items, self.identifier, f"probe  points {language}")
            self.replies += replies
            points = [rating.rating for rating in ratings if rating.rating is not None]
            values["score"] = Metric(
                round(sum(points) / len(points), 3) if points else None,
                rounded(bootstrap_interval(points), 3) if points else None,
            )
            counts["unscored"] = len(ratings) - len(points)
        return Metrics(values, counts)

    def _is_right(self, prompt: Prompt, text: str) -> bool:
        return is_known_answer(text, prompt, self.identifier)

    def _duels(self, first: Sequence[Answer], second: Sequence[Answer], language: str) -> dict[str, DuelCounts]:
        return {by: count_duels(self._fight(by, first, second, language)) for by in self.by}

    def _fight(self, by: str, first: Sequence[Answer], second: Sequence[Answer], language: str) -> list[Duel]:
        """One duel per prompt that both sides have an answer to."""
        others = {prompt.prompt_id: side.text for prompt, side in second}
        both = [
            (prompt, side.text, other)
            for prompt, side in first
            if side.text is not None and (other := others.get(prompt.prompt_id)) is not None
        ]
        if by == "verified":
            results: list[int | None] = [self._is_right(p, a) - self._is_right(p, b) for p, a, b in both]
        else:
            assert self.judge is not None
            asked = [Comparison(p.prompt_id, language, p.text, a, b) for p, a, b in both]
            verdicts, replies = compare(self.judge, asked, self.identifier, f"probe  judge {language}")
            self.replies += replies
            votes = {"win": 1, "tie": 0, "lose": -1, None: None}
            results = [votes[verdict.outcome] for verdict in verdicts]
        return [Duel(p.prompt_id, language, result) for (p, _, _), result in zip(both, results, strict=True)]


def is_known_answer(text: str, prompt: Prompt, identifier: LanguageIdentifier) -> bool:
    """Whether an answer is the known one and in the prompt's language; too short to tell counts as in it."""
    if not is_right(text, prompt.answer or "", prompt.language):
        return False
    return not identifier.is_other(text, prompt.language) or asks_for_other_language(prompt.text, prompt.language)


def checked_judges(config: Config, sample: Sequence[Mapping[str, Prompt]]) -> list[str]:
    """Who says which answer is better, see `judged_by`. Raises ConfigError if nobody can, for one of the sample."""
    by = judged_by(config)
    if not by:
        raise ConfigError(
            "the probe cannot tell good answers from bad ones: the prompts have no known answers "
            "(prompts.fields.answer) and there is no judge (evaluation.judge)"
        )
    for prompt in (prompt for group in sample for prompt in group.values()):
        if "verified" in by and not prompt.answer:
            raise ConfigError(
                f"prompt {prompt.prompt_id!r} has no known answer in {prompt.language} (prompts.fields.answer), which "
                "the probe needs; add it, or set probe.by=judge"
            )
    return by


def best_language(quality: Mapping[str, Metrics], by: str, named: str) -> str:
    """The language with the best answers: the one that the recipe names, unless another is better beyond noise."""
    name = "accuracy" if by == "verified" else "score"
    known = {code: (metric.value, metric.interval) for code, entry in quality.items() if (metric := entry.metric(name))}
    if not known:
        raise RunError("the probe got no answer that could be judged, in any language; nothing can be said")
    best = max(known, key=lambda code: known[code][0] or 0.0)
    (_, of_best), (_, of_named) = known[best], known.get(named, (None, None))
    return named if of_best and of_named and of_best[0] <= of_named[1] else best


def stop_or_go(directions: Mapping[str, int], together: int, dominant: str) -> tuple[list[str], list[str], str]:
    """The languages with a gain and with a loss, and why to stop: empty to go on.

    `directions` are 1, 0, -1 for gain, noise and loss.
    """
    gains = [code for code, way in directions.items() if way > 0 and code != dominant]
    losses = [code for code, way in directions.items() if way < 0]
    if dominant in losses:
        reason = f"the dominant language ({dominant}) got worse beyond noise, and it is the teacher"
    elif not gains and together <= 0:
        reason = "no language gains beyond noise, nor do all of them together"
    else:
        reason = ""
    return gains, losses, reason


def _verdict(accuracy: DuelCounts, entry: LanguageProbe) -> ProbeVerdict:
    """train, weak or drop, by the interval of the reward accuracy; drop too where most translations fail.

    unknown if there was no answer and translation to compare.
    """
    if entry.mostly_failed:
        return "drop"
    if not accuracy.wins + accuracy.losses + accuracy.ties:
        return "unknown"
    verdicts: dict[int, ProbeVerdict] = {1: "train", 0: "weak", -1: "drop"}
    return verdicts[accuracy.direction]


def _of_language(rows: Sequence[Answers], code: str, side: Callable[[Answers, str], Side]) -> list[Answer]:
    """The answers in one language, without their thinking: of one that only thought, the empty text is left."""
    found = [(row.prompts[code], side(row, code)) for row in rows if code in row.prompts]
    return [
        (prompt, answer if answer.text is None else replace(answer, text=split_thinking(answer.text).answer))
        for prompt, answer in found
    ]


@dataclass(frozen=True, slots=True)
class _Failures:
    """Translations that were tried, and the share that failed, in all and by length of the answer."""

    tried: int
    share: float | None
    by_length: tuple[FailedByLength, ...]


def _failures(rows: Sequence[Answers], dominant: str, code: str) -> _Failures:
    """Translations that were tried and failed, in all and by length of the dominant answer in characters."""
    tried = [
        (len(row.responses[dominant][0].text or ""), row.translations[dominant, code].failure is not None)
        for row in rows
        if (dominant, code) in row.translations
    ]
    bounds = (0, *_LENGTHS, None)
    by_length = []
    for low, high in pairwise(bounds):
        part = [failed for length, failed in tried if length >= (low or 0) and (high is None or length < high)]
        if part:
            by_length.append(FailedByLength(low or 0, high, len(part), sum(part)))
    failed = sum(fail for _, fail in tried)
    return _Failures(len(tried), round(failed / len(tried), 4) if tried else None, tuple(by_length))
