"""Language imbalance driven rewarding (arXiv 2410.08964, section 3): the dominant language teaches the others.

l != d:  chosen y^{d->l}, the translated dominant answer;  rejected y^l, the direct answer
d:       chosen y^d, the direct answer;                     rejected y^{l->d}, a translated non-dominant answer
"""

from __future__ import annotations

from collections.abc import Iterator

from lidr.config import Config
from lidr.languages import get_language
from lidr.records import Json
from lidr.strategies.base import (
    Answers,
    Candidate,
    Side,
    Strategy,
    direct,
    is_translation_task,
    rejected,
    translated,
    translated_sample,
    translating_of,
)


class Imbalance(Strategy):
    """The translated dominant answer is preferred to the direct one."""

    def directions(self, config: Config) -> list[tuple[str, str]]:
        """From the dominant language into every other, and back by `pairs.dominant_rejected`."""
        policy = config.pairs.dominant_rejected
        back = [] if policy == "none" else config.non_dominant if policy in ("one", "all") else [policy]
        return [(config.dominant, code) for code in config.non_dominant] + [(code, config.dominant) for code in back]

    def translations(self, answers: Answers, config: Config) -> list[tuple[str, str]]:
        """d->l for every other language, and l->d only if the dominant language's rejected side needs it."""
        dominant = config.dominant
        if dominant not in answers.prompts or _handled_apart(answers, config):
            return []
        others = [code for code in config.non_dominant if code in answers.prompts]
        return [(dominant, code) for code in others] + [
            (code, dominant) for code in rejected_sources(answers.position, others, config.pairs.dominant_rejected)
        ]

    def candidates(self, answers: Answers, config: Config) -> Iterator[Candidate]:
        """One candidate per non-dominant language, and the dominant ones by `pairs.dominant_rejected`."""
        dominant, prompts = config.dominant, answers.prompts
        apart = _handled_apart(answers, config)
        for code in config.non_dominant:
            if code not in prompts or dominant not in prompts:
                chosen = worse = Side(None, "", "prompt_missing")
            else:
                chosen = apart or translated(answers, dominant, code, config)
                worse = rejected(answers, code, config)
            yield Candidate(answers.prompt_id, code, "non_dominant", prompts.get(code), chosen, worse, bool(apart))
        others = [code for code in config.non_dominant if code in prompts]
        if dominant not in prompts:
            missing = Side(None, "", "prompt_missing")
            yield Candidate(answers.prompt_id, dominant, "dominant", None, missing, missing)
            return
        for code in rejected_sources(answers.position, others, config.pairs.dominant_rejected):
            best = translated_sample(answers, dominant, config)
            chosen = apart or direct(answers, dominant, config, best)
            worse = rejected(answers, code, config) if apart else translated(answers, code, dominant, config)
            yield Candidate(answers.prompt_id, dominant, "dominant", prompts[dominant], chosen, worse, bool(apart))

    def planned(self, answers: Answers, config: Config) -> Iterator[tuple[str, ...]]:
        for made in Imbalance.candidates(self, answers, config):
            if not made.chosen.problem and not made.rejected.problem:
                yield made.language, made.chosen.origin, made.rejected.origin

    def translation_identity(self) -> Json | None:
        return super().translation_identity() if self.source else None

    def answers_in_words(self, config: Config) -> list[str]:
        policy, guided = config.pairs.dominant_rejected, translating_of(config).guided
        how = "answer x[i, {1}] after x[i, {0}], y[i, {0}]" if guided else "translate y[i, {0}] into {1}"
        which = {"one": "every i, and one l per i in rotation", "all": "every i, l"}
        lines = [*super().answers_in_words(config), f"y[i, d->l] <- M[t]({how.format('d', 'l')})   for every i, l"]
        if policy != "none":
            back = which.get(policy, f"every i, and l = {policy}")
            lines.append(f"y[i, l->d] <- M[t]({how.format('l', 'd')})   for {back}")
        recover = config.translations.recover and not guided
        note = "; one that is cut off is translated again paragraph by paragraph" if recover else ""
        return [*lines, f"    # {config.translations.in_words()}{note}"]

    def chosen_in_words(self) -> str:
        return "translations of its own answers in the dominant language"

    def rejected_in_words(self) -> str:
        return "its direct answers"

    def steps_in_words(self, config: Config) -> list[str]:
        dominant = get_language(config.dominant).name
        *others, last = (get_language(code).name for code in config.non_dominant)
        weak = f"{', '.join(others)} and {last}" if others else last
        lines = [
            f"It translated its own answers: from {dominant} into the others, and back.",
            f"In {weak}, the translation of the {dominant} answer is preferred to the direct answer.",
        ]
        if config.pairs.dominant_rejected != "none":
            lines.append(f"In {dominant}, the direct answer is preferred to an answer translated from a weak language.")
        return lines

    def caveats(self, dominant: str) -> list[str]:
        return [
            f"It learned from its own answers and its own translations, which nobody has checked. What is wrong in the "
            f"{dominant} answers or was lost in translation was learned, too.",
            f"The preferred answers are translations from {dominant}: the other languages may read like translated "
            f"text, and take names, customs and examples from where {dominant} is spoken.",
        ]

    def pairs_in_words(self, config: Config) -> list[str]:
        lines = ["P <- {(prompt x[i, l], chosen y[i, d->l], rejected y[i, l])}   for every i, l"]
        if config.pairs.dominant_rejected != "none":
            lines.append("P <- P + {(prompt x[i, d], chosen y[i, d], rejected y[i, l->d])}   for the i, l above")
        return lines


def rejected_sources(position: int, languages: list[str], policy: str) -> list[str]:
    """The languages whose back-translated answers the prompt at `position` rejects in the dominant language."""
    if policy == "one":
        return languages[position % len(languages) :][:1] if languages else []
    if policy == "all":
        return languages
    return [code for code in languages if code == policy]


def _handled_apart(answers: Answers, config: Config) -> Side | None:
    """The chosen side of a prompt that asks for a translation: the unchanged dominant answer, or a drop.

    Translating the answer to "translate X into French" would destroy it.
    """
    policy = config.pairs.gates.translation_tasks
    prompt = answers.prompts.get(config.dominant)
    if policy is None or prompt is None or not is_translation_task(prompt):
        return None
    if policy == "drop":
        return Side(None, config.dominant, "translation_task")
    return direct(answers, config.dominant, config)
