"""Step 2: the model answers every prompt in every language, y_i^l = M_t(x_i^l)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import cache
from typing import Any

from lidr.config import Config
from lidr.engines import Completion, Engine, Request, open_engine
from lidr.records import Prompt, Response, content_id
from lidr.run_dir import Inputs, Model, Outputs, RowFile, RunDir, digest
from lidr.stages.generation import FORMAT, chat, fill, sampling_of
from lidr.stages.prompts import read_groups


def inputs(config: Config, run: RunDir, iteration: int) -> Inputs:
    """Everything that the answers depend on."""
    return {
        "format": FORMAT,
        "model": run.model(config, iteration - 1).fingerprint,
        "prompts": digest(run.prompts(iteration)),
        "system_prompt": config.system_prompt,
        "responses": config.responses.model_dump(),
        "seed": config.seed,
    }


def outputs(config: Config, run: RunDir, iteration: int) -> Outputs:
    made_from = inputs(config, run, iteration)
    return [(run.responses(iteration, code), made_from) for code in config.languages]


def run(config: Config, run_dir: RunDir, iteration: int) -> None:
    """Answer what is owed, language by language, and seal each language's file."""
    model = run_dir.checked_model(config, iteration - 1)
    with ExitStack() as stack:
        engine = cache(lambda: stack.enter_context(open_engine(config, model.folder)))
        for path, made_from in outputs(config, run_dir, iteration):
            file = RowFile(path, made_from)
            if not file.sealed:
                _answer_language(config, run_dir, iteration, file, model, engine)


def _answer_language(
    config: Config, run_dir: RunDir, iteration: int, file: RowFile, model: Model, engine: Callable[[], Engine]
) -> None:
    language = file.path.stem

    def asked() -> Iterator[tuple[Request, Prompt]]:
        return make_requests(config, model, askable_prompts(config, run_dir, iteration, language))

    done = fill(
        file,
        requests=lambda: (request for request, _ in asked()),
        engine=engine,
        sampling=sampling_of(config, config.responses),
        to_row=response_fields,
        title=f"{run_dir.title(iteration)}  respond {language}",
    )
    run_dir.log("stage", iteration=iteration, stage="responses", language=language, **done)
    file.seal(
        Response(request.request_id, prompt.prompt_id, language, **file.row(request.request_id))
        for request, prompt in asked()
    )


def askable_prompts(config: Config, run_dir: RunDir, iteration: int, language: str) -> Iterator[Prompt]:
    """The prompts of one language that can lead to a pair: those that the dominant language has, too."""
    for group in read_groups(run_dir, iteration):
        if language in group and config.dominant in group:
            yield group[language]


def asked_ids(config: Config, run: RunDir, iteration: int, language: str) -> Iterator[str]:
    """The ids of the answers that an iteration needs in one language, in their order."""
    model = run.model(config, iteration - 1)
    for request, _ in make_requests(config, model, askable_prompts(config, run, iteration, language)):
        yield request.request_id


def make_requests(config: Config, model: Model, prompts: Iterable[Prompt]) -> Iterator[tuple[Request, Prompt]]:
    """One request per prompt, with an id made of all that defines its answer."""
    settings = {"responses": config.responses.model_dump(), "system": config.system_prompt, "seed": config.seed}
    for prompt in prompts:
        row_id = content_id(FORMAT, model.fingerprint, prompt.prompt_id, prompt.language, prompt.text, settings)
        yield Request(row_id, chat(config, prompt.text)), prompt


def response_fields(completion: Completion) -> dict[str, Any]:
    """What is kept of an answer; an empty one is an error with a reason, not a text."""
    text = completion.text.strip() or None
    error = completion.error or (None if text else "empty")
    return {
        "text": None if error else text,
        "finish_reason": completion.finish_reason,
        "completion_tokens": completion.completion_tokens,
        "error": error,
    }
