"""What a run has to do: requests and tokens of every step, as the loop would make them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from lidr.commands.plan.lengths import SAMPLE, Lengths
from lidr.config import LABORATORIES, Config
from lidr.plugins import calling
from lidr.records import Prompt, Response, Translation
from lidr.stages.prompts import grouped, load_held_out, load_prompts
from lidr.storage import at_hand
from lidr.strategies.base import Answers, all_draws, all_translating, draws_of, strategy_of, translating_of

ASSUMED_PROMPTS = 1000


@dataclass
class Load:
    """Work of one step: `read` and `written` are tokens, `longest` is the most that one request can have."""

    requests: int = 0
    read: float = 0.0
    written: float = 0.0
    longest: float = 0.0

    def add(self, requests: int, read: float, written: float, limit: float = 0.0) -> None:
        """Add requests that read and write so many tokens each; an answer has at most `limit`."""
        self.requests += requests
        self.read += requests * read
        self.written += requests * written
        self.longest = max(self.longest, read + (limit or written))

    @property
    def mean(self) -> float:
        """Tokens of a request and its answer."""
        return (self.read + self.written) / self.requests if self.requests else 0.0


@dataclass
class Prompts:
    """The prompts of a run, counted: requests by language and direction, pairs by how they are made, some texts."""

    groups: int = 0
    responses: Counter[str] = field(default_factory=Counter)
    translations: Counter[tuple[str, str]] = field(default_factory=Counter)
    scores: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # (model, language of the prompt, origin)
    pairs: Counter[tuple[str, ...]] = field(default_factory=Counter)  # see `Strategy.planned`
    texts: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    assumed: bool = False


def count_prompts(config: Config) -> Prompts:
    """Count what the recipe's strategy asks for, for the prompts if they are at hand, else for an assumed number.

    Assumes that every answer is complete and that every pair passes the gates.
    """
    assumed = config.prompt_source.path not in LABORATORIES and not at_hand(config.prompt_source.path)
    groups = _assumed(config) if assumed else grouped(_read(config))
    strategy, found = strategy_of(config), Prompts(assumed=assumed)
    all_draw, all_translate = all_draws(config), all_translating(config)
    for position, prompts in enumerate(groups):
        prompt_id = next(iter(prompts.values())).prompt_id
        answers, part = Answers(position, prompt_id, prompts), strategy.part_of(prompt_id, config)
        draws, translating = all_draw[part], all_translate[part]
        for code in config.languages:
            if code in prompts and config.dominant in prompts:
                answers.responses[code] = [Response("", prompt_id, code, "x", "stop", 1)] * draws.of(code)
                found.responses[code] += draws.of(code)
            if code in prompts and len(found.texts[code]) < SAMPLE:
                found.texts[code].append(prompts[code].text)
        for source, target in strategy.translations(answers, config):
            found.translations[source, target] += translating.samples
            answers.translations[source, target] = Translation("", prompt_id, source, target, "x")
        with calling(strategy, "scores"):
            found.scores.update((key.model, key.given, key.origin) for key in strategy.scores(answers, config))
        with calling(strategy, "planned"):
            found.pairs.update(strategy.planned(answers, config))
        found.groups += 1
    return found


def _read(config: Config) -> Iterator[Prompt]:
    held_out: frozenset[str] = frozenset()
    if config.probe:
        wanted = config.model_copy(update={"languages": config.probe.languages or config.languages})
        held_out = frozenset(prompt.prompt_id for prompt in load_held_out(wanted))
    return load_prompts(config, held_out)


def _assumed(config: Config) -> Iterator[dict[str, Prompt]]:
    for number in range(config.prompt_source.limit or ASSUMED_PROMPTS):
        yield {code: Prompt(str(number), code, "") for code in config.languages}


class Work:
    """The loads of the steps of one iteration."""

    def __init__(self, config: Config, lengths: Lengths, prompts: Prompts) -> None:
        self.config, self.lengths, self.prompts = config, lengths, prompts
        source = config.prompts
        self.kind = "general" if source is None else "lab" if source.path in LABORATORIES else source.task
        self.around = lengths.around()

    def prompt(self, language: str) -> float:
        """Tokens of a prompt in a language, with the chat template; those of a sentence or two if no text is known."""
        texts = self.prompts.texts.get(language)
        if not texts or not any(texts):
            return self.around + 40 * self.lengths.expansion_of(language)
        return self.around + self.lengths.text(texts, language)

    def answer(self, language: str) -> float:
        """Tokens of the model's own answer."""
        limit = self.config.responses.max_new_tokens
        return self.lengths.answer(self.kind, language, limit, "responses", language)

    def translation(self, source: str, target: str) -> float:
        """Tokens of the translation of the model's own answer."""
        limit = self.config.translations.max_new_tokens
        found = self.lengths.measured.get(("translations", f"{source}->{target}"))
        return min(found or self.lengths.turned(self.answer(source), source, target, self.kind), limit)

    def respond(self, prompts: int | None = None, languages: Iterable[str] = ()) -> Load:
        """The answers to all prompts or, for the probe, to `prompts` in each language."""
        load = Load()
        wanted = dict.fromkeys(languages, prompts) if prompts is not None else self.prompts.responses
        for code, count in wanted.items():
            load.add(count or 0, self.prompt(code), self.answer(code), self.config.responses.max_new_tokens)
        return load

    def translate(self, wanted: dict[tuple[str, str], int] | None = None) -> Load:
        """The translations that the strategy asks for, or those given by (source, target)."""
        load = Load()
        way = translating_of(self.config)
        for (source, target), count in (self.prompts.translations if wanted is None else wanted).items():
            read = self._request(source) + (self.prompt(source) + self.prompt(target) if way.guided else 0.0)
            load.add(count, read, self.translation(source, target), self.config.translations.max_new_tokens)
        return load

    def _request(self, source: str) -> float:
        """Tokens of the request to translate the model's own answer."""
        template = self.lengths.text([translating_of(self.config).template], "en")
        return self.around + template + self.answer(source)

    def score(self, iteration: int) -> Load:
        """The log-probabilities that the strategy asks for; samples of one prompt share its tokens."""
        initial = iteration == 1 or self.config.training.reference == "initial"
        same = {"policy": "initial" if iteration == 1 else "policy", "reference": "initial" if initial else "policy"}
        counts: Counter[tuple[str, str, str]] = Counter()
        for (model, given, origin), count in self.prompts.scores.items():
            counts |= Counter({(same.get(model, model), given, origin): count})
        load, draws = Load(), draws_of(self.config)
        for (_, given, origin), count in counts.items():
            load.add(count, self.prompt(given) / draws.of(origin) + self._origin(origin), 0.0)
        return load

    def pairs(self, with_rejected: bool) -> Load:
        """The pairs: `read` are the tokens of a pass over them, both answers after one prompt."""
        load = Load()
        training, config = self.config.training, self.config
        most = config.responses.max_new_tokens + config.translations.max_new_tokens
        for (language, chosen, rejected, *translated), count in self.prompts.pairs.items():
            answers = [self._origin(chosen)] + ([self._origin(rejected)] if with_rejected else [])
            prompt = self._request(translated[0]) if translated else self.prompt(language)
            load.add(count, prompt + sum(answers), 0.0)
            load.longest = max(load.longest, prompt + most)
        load.longest = min(load.longest, (1 + with_rejected) * training.max_length)
        return load

    def _origin(self, origin: str) -> float:
        source, arrow, target = origin.partition("->")
        return self.translation(source, target) if arrow else self.answer(source)
