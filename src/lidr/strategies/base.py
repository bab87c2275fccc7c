"""A strategy says which of a prompt's answers is preferred to which. The gates come after it, the same for all."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from lidr.config import Config, DecodingConfig
from lidr.errors import ConfigError
from lidr.plugins import Plugin, calling
from lidr.records import Json, Prompt, Response, Score, Translation
from lidr.strategies.translating import Translating
from lidr.thinking import split_thinking


@dataclass(frozen=True, slots=True)
class Likelihood:
    """What is scored: log p of one of a prompt's answers under a model, given the prompt in a language.

    `model` is `policy` (M_t, which answered), `initial` (M_0), `reference` (the training's pi_ref), or the folder of
    another one with the same chat template. `given` is the language of the prompt that the answer is conditioned on,
    which need not be the answer's own. `origin` is `es` for a direct answer, of which `sample` says which one, or
    `en->es` for a translation.
    """

    model: str
    given: str
    origin: str
    sample: int = 0


@dataclass(frozen=True, slots=True)
class Answers:
    """One prompt in all languages, with what the model answered and translated. `position` counts prompts from 0.

    `responses` has the samples of every language, in their order: at least one. `translations` has the first one of
    each direction, and `further_translations` the others if `Strategy.translating` draws several. `scores` are those
    that `Strategy.scores` asked for, and `initial` are M_0's answers by language if `Strategy.needs_initial` wants
    them.
    """

    position: int
    prompt_id: str
    prompts: dict[str, Prompt]
    responses: dict[str, list[Response]] = field(default_factory=dict)
    translations: dict[tuple[str, str], Translation] = field(default_factory=dict)
    scores: dict[Likelihood, Score] = field(default_factory=dict)
    initial: dict[str, list[Response]] = field(default_factory=dict)
    further_translations: dict[tuple[str, str], list[Translation]] = field(default_factory=dict)

    def translation(self, source: str, target: str, sample: int = 0) -> Translation | None:
        """The first translation in a direction, or another sample; None if there is none."""
        if not sample:
            return self.translations.get((source, target))
        further = self.further_translations.get((source, target), [])
        return further[sample - 1] if sample <= len(further) else None


@dataclass(frozen=True, slots=True)
class Original:
    """The answer that a translation was made from."""

    text: str
    language: str


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a pair: its text, where it comes from (`es`, or `en->es`), and why it cannot be used, if so.

    `made_from` is what a translation or a guided answer was made from; `cut_off` says that the length limit ended it.
    `score` is what the strategy prefers by, if that is a number: it is kept with the pair.
    """

    text: str | None
    origin: str
    problem: str | None = None
    made_from: Original | None = None
    cut_off: bool = False
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pair before the gates.

    `language` is the prompt's, `kind` groups pairs in the report; `any_language` lifts the gates on language;
    `swapped` exchanges the two sides after the gates. `frame` is put around both after the gates: the tags that the
    model has to write, for example.
    """

    prompt_id: str
    language: str
    kind: str
    prompt: Prompt | None
    chosen: Side
    rejected: Side
    any_language: bool = False
    swapped: bool = False
    frame: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class Draws:
    """The answers that a strategy needs: so many to each prompt in each language, decoded in this way.

    `only` has the languages that need another number.
    """

    samples: int
    decoding: DecodingConfig
    only: Mapping[str, int] = field(default_factory=dict)

    def of(self, language: str) -> int:
        """The number of answers to each prompt in a language."""
        return self.only.get(language, self.samples)

    @property
    def most(self) -> int:
        return max([self.samples, *self.only.values()])


class Strategy(Plugin):
    """One class per file. Its fields are its settings; it knows nothing of files, engines and gates."""

    kind: ClassVar[str] = "strategies"
    reasons: ClassVar[dict[str, str]] = {}
    """Meanings of the problems that only its own sides have."""

    def meanings(self) -> dict[str, str]:
        """Its `reasons`, with their meanings."""
        return self.reasons

    def draws(self, config: Config) -> Draws:
        """The answers that it needs: by default one, as the recipe decodes."""
        return Draws(1, config.responses)

    def translating(self, config: Config) -> Translating:
        """How answers are brought into another language: by default translated once, as the recipe decodes."""
        return Translating(1, config.translations)

    def parts(self) -> list[Strategy]:
        """The strategies that the prompts are shared out to: by default one, itself.

        `draws` and `translating` are asked of each part; everything else is asked of the whole.
        """
        return [self]

    def part_of(self, prompt_id: str, config: Config) -> int:
        """The number of the part that has this prompt."""
        return 0

    def directions(self, config: Config) -> list[tuple[str, str]]:
        """All (source, target) directions that `translations` may give; by default none."""
        return []

    def translations(self, answers: Answers, config: Config) -> list[tuple[str, str]]:
        """The (source, target) directions in which this prompt's answers have to be translated."""
        return []

    def translated_sample(self, answers: Answers, source: str, config: Config) -> int:
        """Which sample of the answers in `source` is translated. Of `answers.responses` only these may be looked at."""
        return 0

    def scorers(self, config: Config) -> list[str]:
        """All models that `scores` may name, see `Likelihood`; by default none."""
        return []

    def scores(self, answers: Answers, config: Config) -> list[Likelihood]:
        """The log-probabilities that this prompt needs. An answer that failed has none."""
        return []

    def needs_initial(self, config: Config) -> bool:
        """Whether it wants `Answers.initial`: what M_0 answered, also in later iterations."""
        return False

    @abstractmethod
    def candidates(self, answers: Answers, config: Config) -> Iterator[Candidate]:
        """One candidate for every pair that this prompt owes, including those that cannot be made."""

    def planned(self, answers: Answers, config: Config) -> Iterator[tuple[str, ...]]:
        """For `lidr plan`: (language, origin of chosen, origin of rejected) of the most pairs of a prompt.

        A fourth is the origin of the text that the pair's prompt asks to translate, if it is such a request. By default
        one pair per language, of direct answers.
        """
        yield from ((code, code, code) for code in answers.prompts)

    def answers_in_words(self, config: Config) -> list[str]:
        """How the answers are made, as lines of pseudocode with the recipe's parameters."""
        with calling(self, "draws"):
            draws = self.draws(config)
        answers = "y[i, l] <- M[t](x[i, l])   for every i, every l and d"
        if draws.most > 1:
            apart = "".join(f", {count} in {code}" for code, count in draws.only.items())
            answers = f"y[i, l, k] <- M[t](x[i, l])   for every i, every l and d, and k = 1 ... {draws.samples}{apart}"
        return [answers, f"    # {draws.decoding.in_words()}"]

    def chosen_in_words(self) -> str:
        """What is preferred, after "the model learned to prefer"."""
        return f"those of its own answers that the strategy {self.type} prefers"

    def rejected_in_words(self) -> str:
        """What it is preferred to."""
        return "the others"

    def caveats(self, dominant: str) -> list[str]:
        """What a user of the trained model must not expect because of it, as sentences; `dominant` is a name."""
        return ["It learned from its own answers, which nobody has checked."]

    def pairs_in_words(self, config: Config) -> list[str]:
        """How P, the set of pairs, is made of the answers, as lines of pseudocode."""
        return [f"P <- pairs of the y[i, ...] by {self.type}: {' '.join((self.__doc__ or '').split())}"]

    def pair_identity(self) -> str | Json:
        """What its pairs depend on besides the files that they are made from."""
        return self.defining() if self.source else self.as_recipe()

    def steps_in_words(self, config: Config) -> list[str]:
        """For the data card: how the answers became pairs, as sentences."""
        return [f"Preferred are {self.chosen_in_words()} to {self.rejected_in_words()}."]

    def translation_identity(self) -> Json | None:
        """What `translations` depends on besides the recipe's other fields; None if nothing."""
        return self.defining()


def strategy_of(config: Config) -> Strategy:
    """The recipe's strategy."""
    found = config.pairs.strategy
    assert isinstance(found, Strategy)  # made by `lidr.plugins`
    return found


def all_draws(config: Config) -> list[Draws]:
    """The answers that each part of the recipe's strategy needs. Raises ConfigError for what cannot be drawn."""
    found = []
    for part in strategy_of(config).parts():
        with calling(part, "draws"):
            draws = part.draws(config)
            _check_samples(min([draws.samples, *draws.only.values()]), draws.most, draws.decoding)
        found.append(draws)
    return found


def draws_of(config: Config) -> Draws:
    """The most answers that a prompt gets, decoded as its part of the strategy decodes. Raises as `all_draws` does."""
    found = all_draws(config)
    if len(found) == 1:
        return found[0]
    largest = max(found, key=lambda draws: draws.most)
    return replace(largest, only={code: max(draws.of(code) for draws in found) for code in config.languages})


def all_translating(config: Config) -> list[Translating]:
    """How each part of the recipe's strategy brings answers into another language.

    Raises ConfigError for what cannot be done, or not in one run.
    """
    parts, found = strategy_of(config).parts(), []
    for part in parts:
        with calling(part, "translating"):
            made = part.translating(config)
            _check_samples(made.samples, made.samples, made.decoding)
        found.append(made)
    if any(made.guided for made in found) and not strategy_of(config).directions(config):
        raise ConfigError("pairs.strategy: nothing is translated that could be guided; leave guided out")
    guided = {made.guided for part, made in zip(parts, found, strict=True) if part.directions(config)}
    if len(guided) > 1:
        raise ConfigError(
            "pairs.strategy: some of its parts translate and others are guided, which one run cannot do; leave one out"
        )
    if True in guided and config.translations.text_first:
        raise ConfigError(
            "translations.text_first is about translations, and guided answers are none; leave one of the two out"
        )
    return found


def translating_of(config: Config) -> Translating:
    """As `all_translating`, of the first part that brings answers into another language."""
    ways = zip(strategy_of(config).parts(), all_translating(config), strict=True)
    return next((made for part, made in ways if part.directions(config)), Translating(1, config.translations))


def _check_samples(fewest: int, most: int, decoding: DecodingConfig) -> None:
    """Raises ValueError for a number of samples that cannot be drawn."""
    type(decoding).model_validate(decoding.model_dump())
    if fewest < 1 or (most > 1 and not decoding.temperature):
        raise ValueError(f"{most} samples at temperature {decoding.temperature:g}: greedy ones are all alike")


def scorers_of(config: Config) -> list[str]:
    """The models that the recipe's strategy scores under."""
    strategy = strategy_of(config)
    with calling(strategy, "scorers"):
        return list(strategy.scorers(config))


def direct(answers: Answers, language: str, config: Config, sample: int = 0) -> Side:
    """The model's own answer in a language: the first one, or another sample."""
    if language not in answers.responses:
        return Side(None, language, "prompt_missing")
    response = answers.responses[language][sample]
    if response.text is None:
        return Side(None, language, "response_empty" if response.error == "empty" else "response_error")
    cut_off = response.finish_reason != "stop"
    thinking = split_thinking(response.text).thinking  # an answer with thinking is never taught
    problem = "truncated" if cut_off and config.pairs.gates.truncated else "thinking" if thinking else None
    return Side(response.text, language, problem, cut_off=cut_off)


def rejected(answers: Answers, language: str, config: Config, sample: int = 0) -> Side:
    """The model's own answer in a language as the worse side, which may be cut off if the gates allow it."""
    side = direct(answers, language, config, sample)
    may_be_cut_off = config.pairs.gates.truncated == "chosen"
    return replace(side, problem=None) if side.problem == "truncated" and may_be_cut_off else side


def translated_sample(answers: Answers, source: str, config: Config) -> int:
    """The sample that the recipe's strategy has translated; 0 if there is no answer."""
    strategy = strategy_of(config)
    with calling(strategy, "translated_sample"):
        return strategy.translated_sample(answers, source, config) if answers.responses.get(source) else 0


def translated(answers: Answers, source: str, target: str, config: Config, sample: int = 0) -> Side:
    """The model's own translation of its answer in `source`: the first one, or another sample."""
    origin = f"{source}->{target}"
    original = direct(answers, source, config, translated_sample(answers, source, config))
    if original.problem:
        return Side(None, origin, original.problem)
    translation = answers.translation(source, target, sample)
    if translation is None:
        return Side(None, origin, "translation_missing")
    made_from = Original(original.text, source) if original.text is not None else None
    return Side(translation.text, origin, translation.failure, made_from)


def is_translation_task(prompt: Prompt) -> bool:
    """Whether a prompt asks for a translation, by the stems in the language table."""
    from lidr.languages import get_language

    text = prompt.text.lower()
    return any(word in text for word in get_language(prompt.language).translation_words)
