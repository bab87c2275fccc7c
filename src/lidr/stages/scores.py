"""Between steps 3 and 4: log-probabilities of answers under M_t, M_0 or another model, if the strategy needs them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lidr.config import Config
from lidr.engine_settings import engine_identity
from lidr.engines import Scored, ScoreRequest, open_engine, plugin_of
from lidr.errors import ConfigError
from lidr.models import resolve_model
from lidr.models.chat import template_identity
from lidr.plugins import built_in, calling, load
from lidr.records import Json, Score, content_id
from lidr.run_dir import Model, RunDir
from lidr.seals import Inputs, Outputs, RowFile, digest
from lidr.stages.answers import read_answers
from lidr.stages.generation import Part, chat, fill
from lidr.strategies.base import Answers, Likelihood, draws_of, scorers_of, strategy_of

_FORMAT = 1


def scoring_model(config: Config, run: RunDir, iteration: int, name: str) -> Model:
    """The model that `Likelihood.model` names. Raises ConfigError if it is not a folder with a model."""
    if name == "policy":
        return run.model(config, iteration - 1)
    if name == "initial":
        return run.model(config, 0)
    if name == "reference":
        return run.reference(config, iteration)
    try:
        model = config.model.model_copy(update={"path": name, "revision": None})
        folder, weights = resolve_model(model, run.model_cache)
    except ConfigError as error:
        raise ConfigError(
            f"pairs.strategy {strategy_of(config).type}: it scores under {name!r}, which is not policy, initial, "
            f"reference or the folder of a model ({error})"
        ) from None
    identity = engine_identity(config.engine) | template_identity(folder)
    return Model(f"{folder.name}-{weights[:8]}", folder, content_id(weights, identity) if identity else weights)


def _by_name(config: Config, run: RunDir, iteration: int) -> dict[str, Model]:
    """The models by the strategy's names for them; several names may mean the same model."""
    return {name: scoring_model(config, run, iteration, name) for name in scorers_of(config)}


def _models(config: Config, run: RunDir, iteration: int) -> list[Model]:
    """The distinct models among them."""
    return list({model.name: model for model in _by_name(config, run, iteration).values()}.values())


def files(config: Config, run: RunDir, iteration: int) -> dict[str, Path]:
    """The file of every model that the strategy names; names of the same model share one."""
    return {name: run.scores(iteration, model.name) for name, model in _by_name(config, run, iteration).items()}


def inputs(config: Config, run: RunDir, iteration: int, model: Model) -> Inputs:
    """Everything that the scores under one model depend on."""
    strategy = strategy_of(config)
    return {
        "format": _FORMAT,
        "model": model.fingerprint,
        "prompts": digest(run.prompts(iteration)),
        "responses": {code: digest(run.responses(iteration, code)) for code in config.languages},
        "translations": {f"{s}-{t}": digest(run.translations(iteration, s, t)) for s, t in strategy.directions(config)},
        "strategy": strategy.defining(),
        "system_prompt": config.system_prompt,
        "dominant": config.dominant,
    }


def outputs(config: Config, run: RunDir, iteration: int) -> Outputs:
    models = _models(config, run, iteration)
    return [(run.scores(iteration, each.name), inputs(config, run, iteration, each)) for each in models]


def check(config: Config) -> None:
    """Raise ConfigError if the strategy needs log-probabilities and the engine has none."""
    strategy = strategy_of(config)
    if scorers_of(config) and not plugin_of(config.engine).can_score:
        able = [name for name in built_in("engines") if getattr(load("engines", name)[0], "can_score", False)]
        raise ConfigError(
            f"pairs.strategy {strategy.type}: it needs log-probabilities of answers, which engine.type "
            f"{config.engine.type} does not have; use {' or '.join(able)}"
        )


def run(config: Config, run_dir: RunDir, iteration: int) -> None:
    """Score what is owed, one model after the other, and seal each model's file."""
    check(config)
    for path, made_from in outputs(config, run_dir, iteration):
        file = RowFile(path, made_from)
        if not file.sealed:
            model = next(each for each in _models(config, run_dir, iteration) if each.name == path.stem)
            _OneModel(config, run_dir, iteration, file, model).run()


@dataclass(frozen=True)
class _OneModel:
    """The scores under one model, which are made for one file."""

    config: Config
    run_dir: RunDir
    iteration: int
    file: RowFile
    model: Model

    def run(self) -> None:
        name, trained = self.model.name, self.iteration - 1
        if name == f"M{trained}":
            self.run_dir.checked_model(self.config, trained)
        with ExitStack() as stack:
            engine = cache(lambda: stack.enter_context(open_engine(self.config, self.model.folder)))
            title = f"{self.run_dir.title(self.iteration)}  score under {name}"
            fill([Part(self.file, self.requests, _fields, self.log, self.rows)], engine, None, title)

    def _asked(self) -> Iterator[tuple[ScoreRequest, Answers, Likelihood]]:
        return _asked(self.config, self.run_dir, self.iteration, self.model)

    def requests(self) -> Iterator[ScoreRequest]:
        return (request for request, _, _ in self._asked())

    def log(self, done: Json) -> None:
        self.run_dir.log("stage", iteration=self.iteration, stage="scores", model=self.model.name, **done)

    def rows(self) -> Iterator[Score]:
        for request, answers, key in self._asked():
            kept = self.file.row(request.request_id)
            yield Score(request.request_id, answers.prompt_id, key.given, key.origin, key.sample, **kept)


def asked_ids(config: Config, run: RunDir, iteration: int, model: str) -> Iterator[str]:
    """The ids of the scores that an iteration needs under the model of that name, in their order."""
    for each in _models(config, run, iteration):
        if each.name == model:
            yield from (request.request_id for request, _, _ in _asked(config, run, iteration, each))


def _asked(
    config: Config, run: RunDir, iteration: int, model: Model
) -> Iterator[tuple[ScoreRequest, Answers, Likelihood]]:
    """Every answer to be scored under a model, once; answers that failed are left out."""
    strategy, named = strategy_of(config), _by_name(config, run, iteration)
    directions, languages, samples = strategy.directions(config), config.languages, draws_of(config).most
    origins = {*languages, *(f"{source}->{target}" for source, target in directions)}
    wants_initial = strategy.needs_initial(config)
    for answers in read_answers(config, run, iteration, languages, directions, with_initial=wants_initial):
        with calling(strategy, "scores"):
            wanted = strategy.scores(answers, config)
        for key in wanted:
            if key.model not in named:
                raise ConfigError(f"{strategy.type}: scores names the model {key.model!r}, which its scorers leave out")
            if key.given not in languages or key.origin not in origins or not 0 <= key.sample < samples:
                raise ConfigError(f"{strategy.type}: scores asks for {key}, and this recipe makes no such answer")
        under = (key for key in wanted if named[key.model].name == model.name)
        for given, origin, sample in dict.fromkeys((key.given, key.origin, key.sample) for key in under):
            key = Likelihood(model.name, given, origin, sample)
            if request := _request(config, answers, key, model):
                yield request, answers, key


def _request(config: Config, answers: Answers, key: Likelihood, model: Model) -> ScoreRequest | None:
    """The answer and the conversation that it is conditioned on; None if one of them is missing."""
    source, arrow, target = key.origin.partition("->")
    if arrow:
        translation = answers.translations.get((source, target))
        text, ended = translation.text if translation else None, True
    else:
        samples = answers.responses.get(source, [])
        response = samples[key.sample] if key.sample < len(samples) else None
        text, ended = (response.text, response.finish_reason == "stop") if response else (None, True)
    if text is None or key.given not in answers.prompts:
        return None
    prompt = answers.prompts[key.given].text
    defining = (_FORMAT, model.fingerprint, answers.prompt_id, key.given, key.origin, key.sample)
    row_id = content_id(*defining, config.system_prompt, prompt, text, ended)
    return ScoreRequest(row_id, chat(config, prompt), text, ended)


def _fields(scored: Scored) -> Json:
    if scored.logp is not None and not math.isfinite(scored.logp):
        return {"logp": None, "tokens": scored.completion_tokens, "error": "the log-probability is not finite"}
    return {"logp": scored.logp, "tokens": scored.completion_tokens, "error": scored.error}
