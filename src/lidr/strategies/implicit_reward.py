"""Implicit cross-lingual reward: a model trained with DPO is its own reward model, asked in the dominant language.

    r(y) = log pi(y | x^d) - log ref(y | x^d) - a |y|

is high for the answers in any language that the last training made likelier, given the prompt in the dominant language,
in which the preference was learned best (Yang et al., arXiv 2503.04647, section 3; after arXiv 2305.18290). The source
picks an a for each language so that chosen and rejected answers are equally long. Here it is fitted for each prompt and
language, by least squares of r on the length, which needs no look at other prompts.

It needs a model that was trained with DPO: in the first iteration M_0 is its own reference, and all answers are
rewarded alike. Begin with another strategy, or name two folders.

chosen    the sample in the language with the highest r
rejected  the one with the lowest
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar

from pydantic import Field

from lidr.config import Config
from lidr.strategies.base import Answers, Candidate, Likelihood, Side, direct, rejected
from lidr.strategies.sampled import Sampled, per_language


class ImplicitReward(Sampled):
    """The sample that the trained model rewards most is preferred to the one that it rewards least."""

    samples: Annotated[int, Field(ge=2, le=1024)] = 10
    """Answers to each prompt in each language."""
    temperature: Annotated[float, Field(ge=0.01, le=100)] = 0.9
    """They are drawn at this temperature."""
    policy: str = "policy"
    """The model that was trained with DPO: `policy` is the one that answered; else a folder."""
    reference: str = "initial"
    """What it was trained against: `initial` is the base model; else a folder."""

    reasons: ClassVar[dict[str, str]] = {
        "no_reward": "Fewer than two answers in this language have a log-probability under both models.",
        "same_reward": "The model rewards all answers in this language alike.",
    }

    def scorers(self, config: Config) -> list[str]:
        return [self.policy, self.reference]

    def scores(self, answers: Answers, config: Config) -> list[Likelihood]:
        if config.dominant not in answers.prompts:
            return []
        return [
            Likelihood(model, config.dominant, code, sample)
            for code in config.languages
            for sample, response in enumerate(answers.responses.get(code, ()))
            if response.text is not None
            for model in (self.policy, self.reference)
        ]

    def candidates(self, answers: Answers, config: Config) -> Iterator[Candidate]:
        """One candidate per language."""
        yield from per_language(answers, config, lambda code: self._sides(answers, code, config))

    def _sides(self, answers: Answers, language: str, config: Config) -> tuple[Side, Side]:
        none = Side(None, language)
        if language not in answers.prompts:
            return replace(none, problem="prompt_missing"), none
        known = [
            (sample, reward, tokens)
            for sample in range(len(answers.responses.get(language, ())))
            if (reward := self._reward(answers, language, sample, config)) is not None
            for tokens in [answers.scores[Likelihood(self.policy, config.dominant, language, sample)].tokens]
        ]
        if len(known) < 2:
            return replace(none, problem="no_reward"), none
        rewards = without_length([reward for _, reward, _ in known], [tokens for _, _, tokens in known])
        best, worst = (pick(range(len(known)), key=rewards.__getitem__) for pick in (max, min))
        if rewards[best] - rewards[worst] < _ALIKE:
            return replace(none, problem="same_reward"), none
        chosen = direct(answers, language, config, known[best][0])
        worse = rejected(answers, language, config, known[worst][0])
        return replace(chosen, score=rewards[best]), replace(worse, score=rewards[worst])

    def _reward(self, answers: Answers, code: str, sample: int, config: Config) -> float | None:
        """log pi - log ref of a sample; None if it failed or has no log-probability."""
        found = [answers.scores.get(Likelihood(model, config.dominant, code, sample)) for model in self.scorers(config)]
        logps = [score.logp for score in found if score is not None and score.logp is not None]
        usable = direct(answers, code, config, sample).problem is None
        return logps[0] - logps[1] if len(logps) == 2 and usable else None

    def chosen_in_words(self) -> str:
        return "those of its own answers that its last training made likelier"

    def rejected_in_words(self) -> str:
        return "those that it made less likely"

    def pairs_in_words(self, config: Config) -> list[str]:
        reward = "log pi(y[i, l, k]|x[i, d]) - log ref(y[i, l, k]|x[i, d]) - a[i, l] |y[i, l, k]|"
        return [
            f"r[i, l, k] <- {reward}   # pi = {self.policy}, ref = {self.reference}",
            "P <- {(prompt x[i, l], chosen the y[i, l, k] of the highest r, rejected the y[i, l, m] of the lowest)}",
        ]


_ALIKE = 1e-6  # nats; log-probabilities of the same model differ by less


def without_length(rewards: Sequence[float], lengths: Sequence[int]) -> list[float]:
    """The rewards less what their length explains, by least squares; unchanged if all lengths are equal."""
    mean = sum(lengths) / len(lengths)
    level = sum(rewards) / len(rewards)
    spread = sum((length - mean) ** 2 for length in lengths)
    shared = sum((length - mean) * (reward - level) for length, reward in zip(lengths, rewards, strict=True))
    slope = shared / spread if spread else 0.0
    return [reward - slope * (length - mean) for reward, length in zip(rewards, lengths, strict=True)]
