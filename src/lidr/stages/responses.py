"""Step 2: the model answers every prompt in every language, y_i^l = M_t(x_i^l)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache

from lidr.config import Config
from lidr.engines import Completion, Request, Sampling, open_engine
from lidr.records import Json, Prompt, Response, content_id
from lidr.run_dir import Model, RunDir
from lidr.seals import Inputs, Outputs, RowFile, digest
from lidr.stages.generation import FORMAT, Part, chat, fill, sampling_of
from lidr.stages.prompts import read_groups
from lidr.strategies.base import all_draws, strategy_of


def inputs(config: Config, run: RunDir, iteration: int) -> Inputs:
    """Everything that the answers depend on."""
    draws, *others = all_draws(config)
    return {
        "format": FORMAT,
        "model": run.model(config, iteration - 1).fingerprint,
        "prompts": digest(run.prompts(iteration)),
        "system_prompt": config.system_prompt,
        "responses": draws.decoding.model_dump(),
        "samples": draws.samples if draws.samples > 1 else None,
        **({"samples_only": dict(draws.only)} if draws.only else {}),
        **({"strategy": strategy_of(config).defining()} if others else {}),
        "seed": config.seed,
    }


def outputs(config: Config, run: RunDir, iteration: int) -> Outputs:
    made_from = inputs(config, run, iteration)
    return [(run.responses(iteration, code), made_from) for code in config.languages]


def run(config: Config, run_dir: RunDir, iteration: int) -> None:
    """Answer what is owed, all languages in one queue, and seal each language's file."""
    model = run_dir.checked_model(config, iteration - 1)
    files = [RowFile(*output) for output in outputs(config, run_dir, iteration)]
    owed = [_Language(config, run_dir, iteration, file, model) for file in files if not file.sealed]
    with ExitStack() as stack:
        engine = cache(lambda: stack.enter_context(open_engine(config, model.folder)))
        parts = [
            Part(each.file, each.requests, response_fields, each.log, each.rows, each.requests_of) for each in owed
        ]
        ways = list(dict.fromkeys(sampling_of(config, draws.decoding) for draws in all_draws(config)))
        fill(parts, engine, ways, f"{run_dir.title(iteration)}  respond")


@dataclass(frozen=True)
class _Language:
    """The answers of one language, which are made for one file."""

    config: Config
    run_dir: RunDir
    iteration: int
    file: RowFile
    model: Model

    @property
    def code(self) -> str:
        return self.file.path.stem

    def _asked(self) -> Iterator[tuple[Request, Prompt, int]]:
        prompts = askable_prompts(self.config, self.run_dir, self.iteration, self.code)
        return make_requests(self.config, self.model, prompts)

    def requests(self) -> Iterator[Request]:
        return (request for request, _, _ in self._asked())

    def requests_of(self, sampling: Sampling) -> Iterator[Request]:
        """Those to prompts whose part of the strategy decodes in this way."""
        strategy, draws = strategy_of(self.config), all_draws(self.config)
        is_meant = [sampling_of(self.config, each.decoding) == sampling for each in draws]
        for request, prompt, _ in self._asked():
            if is_meant[strategy.part_of(prompt.prompt_id, self.config)]:
                yield request

    def log(self, done: Json) -> None:
        self.run_dir.log("stage", iteration=self.iteration, stage="responses", language=self.code, **done)

    def rows(self) -> Iterator[Response]:
        for request, prompt, sample in self._asked():
            answer = self.file.row(request.request_id)
            yield Response(request.request_id, prompt.prompt_id, self.code, **answer, sample=sample)


def askable_prompts(config: Config, run_dir: RunDir, iteration: int, language: str) -> Iterator[Prompt]:
    """The prompts of one language that can lead to a pair: those that the dominant language has, too."""
    for group in read_groups(run_dir, iteration):
        if language in group and config.dominant in group:
            yield group[language]


def asked_ids(config: Config, run: RunDir, iteration: int, language: str) -> Iterator[str]:
    """The ids of the answers that an iteration needs in one language, in their order."""
    model = run.model(config, iteration - 1)
    for request, _, _ in make_requests(config, model, askable_prompts(config, run, iteration, language)):
        yield request.request_id


def make_requests(config: Config, model: Model, prompts: Iterable[Prompt]) -> Iterator[tuple[Request, Prompt, int]]:
    """(request, prompt, sample) for every sample of every prompt; the id is made of all that defines the answer.

    The number of samples is not part of it, so that a higher number keeps the first ones.
    """
    strategy, parts = strategy_of(config), all_draws(config)
    same = {"system": config.system_prompt, "seed": config.seed}
    settings_of = [{"responses": draws.decoding.model_dump(), **same} for draws in parts]
    for prompt in prompts:
        part = strategy.part_of(prompt.prompt_id, config)
        draws, settings = parts[part], settings_of[part]
        defining = (FORMAT, model.fingerprint, prompt.prompt_id, prompt.language, prompt.text, settings)
        for sample in range(draws.of(prompt.language)):
            row_id = content_id(*defining, *([sample] if sample else []))
            yield Request(row_id, chat(config, prompt.text)), prompt, sample


def response_fields(completion: Completion) -> Json:
    """The kept fields of an answer; an empty one is an error with a reason, not a text."""
    text = completion.text.strip() or None
    error = completion.error or (None if text else "empty")
    return {
        "text": None if error else text,
        "finish_reason": completion.finish_reason,
        "completion_tokens": completion.completion_tokens,
        "error": error,
    }
