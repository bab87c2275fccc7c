"""What the generating steps share: ask an engine for the rows that are still owed and keep each as it finishes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from lidr.config import Config, DecodingConfig
from lidr.engines.base import Completion, Engine, Request, Sampling
from lidr.errors import RunError
from lidr.progress import track
from lidr.run_dir import RowFile

# Bump where a change to the code changes the text that comes out of the same inputs.
FORMAT = 2


def sampling_of(config: Config, decoding: DecodingConfig, stop: tuple[str, ...] = ()) -> Sampling:
    """The recipe's decoding as an engine takes it."""
    return Sampling(
        max_new_tokens=decoding.max_new_tokens,
        temperature=decoding.temperature,
        top_p=decoding.top_p,
        repetition_penalty=decoding.repetition_penalty,
        stop=stop,
        seed=config.seed,
    )


def chat(config: Config, text: str) -> tuple[tuple[str, str], ...]:
    """One user turn, after the recipe's system prompt."""
    system = (("system", config.system_prompt),) if config.system_prompt else ()
    return (*system, ("user", text))


def fill(
    file: RowFile,
    requests: Callable[[], Iterable[Request]],
    engine: Callable[[], Engine],
    sampling: Sampling,
    to_row: Callable[[Completion], dict[str, Any]],
    title: str,
) -> dict[str, Any]:
    """Bring `file` to one row per request; returns the seconds, rows, tokens and failures of this attempt.

    `requests` yields the full list anew on every call. `to_row` makes the fields that are kept of a completion; an
    `error` or a `failure` among them counts as one. The engine is opened only if a row is owed.
    """
    total = 0

    def ids() -> Iterator[str]:
        nonlocal total
        for request in requests():
            total += 1
            yield request.request_id

    file.open(ids())
    with track(title, total, kept=len(file)) as progress:
        if len(file) < total:
            for completion in engine().generate(requests(), sampling, done=file):
                if completion.request_id not in file:
                    row = to_row(completion)
                    file.append(completion.request_id, row)
                    failed = bool(row.get("error") or row.get("failure"))
                    progress.advance(tokens=completion.completion_tokens, dropped=failed)
    if len(file) < total:
        raise RunError(f"{file.path}: the engine ended with {total - len(file)} of {total} answers missing; run again")
    rows = progress.rows - progress.kept
    return {"seconds": round(progress.seconds, 3), "rows": rows, "tokens": progress.tokens, "failed": progress.dropped}
