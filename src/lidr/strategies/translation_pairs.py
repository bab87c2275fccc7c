"""Translation pairs: of several translations of an answer, one that keeps its result is preferred to one that does not.

Whether a translation keeps its meaning is seen from whether it is solved alike (after arXiv 2602.05940, which draws
four translations of every question, has the model solve each of them six times, and asks a third of the solutions to
be right). Here the dominant *answer* is translated, and ends in a number itself: 4 generations take the place of 28.
So we depart from the source in this:

1. What is kept is the number that the answer ends in, be it right or wrong. It says nothing of the steps before it.
2. A good translation is in its language throughout, line by line (`lidr.languages.confusion`): half-translated texts
   keep their numbers, too.
3. A translation that broke the format is not rejected: of such no text is kept.

The pair's prompt is the request to translate, with the tags that the translation step asks for. So the model learns to
translate, on which `imbalance` depends, and nothing else: `mixture` shares the prompts out to both.

prompt    translate y^d into l
chosen    a translation that ends in the number of y^d and is in l throughout
rejected  one that ends elsewhere or leaves l, nearest to it in length
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Annotated, ClassVar

from pydantic import Field

from lidr.config import Config
from lidr.numbers import extract_answer
from lidr.records import Json, Prompt
from lidr.strategies.base import Answers, Candidate, Side, Strategy, direct, is_translation_task, translated
from lidr.strategies.confusion import stays_in
from lidr.strategies.translating import PREFILL, STOP, Translating


class TranslationPairs(Strategy):
    """A translation that keeps the answer's result and its language is preferred to one that does not."""

    samples: Annotated[int, Field(ge=2, le=1024)] = 4
    """Translations of each answer from the dominant language into each other one."""
    temperature: Annotated[float, Field(ge=0.01, le=100)] = 0.9
    """They are drawn at this temperature."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus sampling; 1 is off."""

    reasons: ClassVar[dict[str, str]] = {
        "no_result": "The answer in the dominant language ends in no number that a translation could keep.",
        "no_translation_keeps": "No translation keeps the answer's result and is in its language throughout.",
        "no_translation_loses": "No translation loses the answer's result or leaves its language.",
    }

    def translating(self, config: Config) -> Translating:
        drawn = {"temperature": self.temperature, "top_p": self.top_p}
        return Translating(self.samples, config.translations.model_copy(update=drawn))

    def directions(self, config: Config) -> list[tuple[str, str]]:
        return [(config.dominant, code) for code in config.non_dominant]

    def translations(self, answers: Answers, config: Config) -> list[tuple[str, str]]:
        """d->l for every other language, unless the prompt itself asks for a translation."""
        if config.dominant not in answers.prompts or _is_left_out(answers, config):
            return []
        return [(config.dominant, code) for code in config.non_dominant if code in answers.prompts]

    def candidates(self, answers: Answers, config: Config) -> Iterator[Candidate]:
        """One candidate per non-dominant language."""
        way = self.translating(config)
        for code in config.non_dominant:
            prompt, original = None, Side(None, config.dominant, "prompt_missing")
            if code in answers.prompts and config.dominant in answers.prompts:
                original = direct(answers, config.dominant, config)
                prompt = Prompt(answers.prompt_id, code, way.request(original.text or "", code))
            chosen, worse = self._sides(answers, original, code, config)
            frame = PREFILL, f"\n{STOP}"
            yield Candidate(answers.prompt_id, code, "translation", prompt, chosen, worse, frame=frame)

    def _sides(self, answers: Answers, original: Side, code: str, config: Config) -> tuple[Side, Side]:
        """Chosen and rejected; if there are none, the first side says why."""
        origin = f"{config.dominant}->{code}"
        none = Side(None, origin)
        if original.problem or original.text is None:
            return Side(None, config.dominant, original.problem), none
        if _is_left_out(answers, config):
            return Side(None, config.dominant, "translation_task"), none
        result = extract_answer(original.text, config.dominant)
        if result is None:
            return Side(None, config.dominant, "no_result"), none
        drawn = [translated(answers, config.dominant, code, config, k) for k in range(self.samples)]
        usable = [side for side in drawn if side.text is not None and not side.problem]
        if not usable:
            return drawn[0], none
        kept = [(side, extract_answer(side.text or "", code) == result) for side in usable]
        pure = [stays_in(side.text or "", code, config) for side in usable]
        good = [side for (side, is_kept), is_pure in zip(kept, pure, strict=True) if is_kept and is_pure]
        bad = [side for (side, is_kept), is_pure in zip(kept, pure, strict=True) if not is_kept or is_pure is False]
        if not good:
            return Side(None, origin, "no_translation_keeps"), none
        if not bad:
            return Side(None, origin, "no_translation_loses"), none
        return min(product(good, bad), key=lambda pair: abs(len(pair[0].text or "") - len(pair[1].text or "")))

    def planned(self, answers: Answers, config: Config) -> Iterator[tuple[str, ...]]:
        for source, code in self.translations(answers, config):
            yield code, f"{source}->{code}", f"{source}->{code}", source

    def answers_in_words(self, config: Config) -> list[str]:
        return [
            *super().answers_in_words(config),
            f"y[i, d->l, k] <- M[t](translate y[i, d] into l)   for every i, l, and k = 1 ... {self.samples}",
            f"    # {self.translating(config).decoding.in_words()}",
        ]

    def chosen_in_words(self) -> str:
        return "those of its own translations that keep the result and the language"

    def rejected_in_words(self) -> str:
        return "those that do not"

    def caveats(self, dominant: str) -> list[str]:
        return [
            f"It learned to translate its own {dominant} answers, from its own translations, which nobody has checked: "
            "they end in the right place, and may have lost something before it.",
        ]

    def pairs_in_words(self, config: Config) -> list[str]:
        return [
            "P <- {(prompt translate y[i, d] into l, chosen y[i, d->l, k] that ends in the number of y[i, d] and is in "
            "l throughout, rejected y[i, d->l, m] that does not)}",
            "     for every i, l; of all k, m the two nearest in length",
        ]

    def translation_identity(self) -> Json | None:
        return self.defining()


def _is_left_out(answers: Answers, config: Config) -> bool:
    """Whether the prompt asks for a translation, and the recipe treats such prompts apart."""
    apart = config.pairs.gates.translation_tasks is not None
    return apart and is_translation_task(answers.prompts[config.dominant])
