"""Prompts that a model writes itself: the user's turn is sampled from its bare chat template.

Magpie (Xu et al., arXiv 2406.08464): an instruct model that gets its template up to the place where the user's text
begins goes on with a user's text. What is no prompt is dropped for one counted reason (`user_turns`); the rest the same
model translates, with the checks of `translation`.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from lidr.commands.prompts.translation import Memory, Outcome, translate_prompts, write_rows
from lidr.commands.prompts.translators.base import Offer
from lidr.commands.prompts.translators.model import EngineTranslator, OpenedModel
from lidr.commands.prompts.user_turns import Bounds, Sieve
from lidr.config import Config, changes, load_config, shipped_recipes
from lidr.engines import Request, Sampling, plugin_of
from lidr.errors import ConfigError, DataError, EngineError
from lidr.progress_bar import track
from lidr.records import Json, Prompt, content_id
from lidr.run_dir import RunDir
from lidr.seals import read_json
from lidr.storage import hash_file, write_text

_FORMAT = 1
_ENOUGH = 100  # turns after which a model that writes hardly any prompt is given up
_FEWEST = 0.05  # the share of turns that have to be prompts
_SPARE = 1.2  # turns sampled at a time, relative to those expected to be needed: a short round runs half empty


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a model is to write: `count` prompts in `language`, after a system turn, within bounds."""

    count: int
    language: str
    system: str | None
    sampling: Sampling
    bounds: Bounds


@dataclass(slots=True)
class Invented:
    """The prompts in the order in which they were written, and the turns that are none, with their reasons."""

    prompts: list[Prompt] = field(default_factory=list)
    dropped: list[tuple[str, str]] = field(default_factory=list)  # (text, reason)

    @property
    def turns(self) -> int:
        return len(self.prompts) + len(self.dropped)

    @property
    def hopeless(self) -> bool:
        return self.turns >= _ENOUGH and len(self.prompts) < _FEWEST * self.turns

    def by_reason(self) -> Counter[str]:
        return Counter(reason for _, reason in self.dropped)

    def take(self, text: str, fault: str, language: str) -> None:
        if fault:
            self.dropped.append((text, fault))
        else:
            self.prompts.append(Prompt(f"own-{self.turns + 1}", language, text))


def recipe_of(source: str, settings: list[str]) -> tuple[Config, list[str]]:
    """The recipe of that name or file and its languages; of a model the settings of `evaluation`, and no languages."""
    if source in shipped_recipes() or source.endswith((".yaml", ".yml")) or (Path(source) / "recipe.yaml").is_file():
        config = load_config(source, settings)
        return config, config.languages
    return load_config("evaluation", [f"model.path={json.dumps(source)}", *settings]), []


def invent(model: OpenedModel, wanted: Wanted, memory: Memory) -> Invented:
    """Sample turns until `wanted.count` of them are prompts, or hardly any is one.

    A turn depends on its number and the seed alone, so more prompts begin with the fewer, and those in `memory` are not
    sampled again. Raises EngineError if the engine cannot answer.
    """
    made, sieve = Invented(), Sieve(wanted.language, wanted.system, wanted.bounds)
    while len(made.prompts) < wanted.count and not made.hopeless:
        keys = [_key(model, wanted, number) for number in range(made.turns, made.turns + _round(made, wanted.count))]
        _sample(model, wanted, memory, keys, "more of " if made.turns else "")
        for key in keys:
            if len(made.prompts) < wanted.count:
                text, failure = _kept(memory, key)
                made.take(text, failure or sieve.fault(text), wanted.language)
    return made


def _round(made: Invented, count: int) -> int:
    """How many turns to sample next: as many as it takes if prompts are among them as often as before, and a fifth."""
    if not made.turns:
        return min(count, _ENOUGH)
    rate = max(len(made.prompts) / made.turns, _FEWEST)
    return math.ceil(_SPARE * (count - len(made.prompts)) / rate)


def _key(model: OpenedModel, wanted: Wanted, number: int) -> str:
    return content_id(_FORMAT, model.identity, wanted.system, wanted.sampling.as_dict(), number)


def _sample(model: OpenedModel, wanted: Wanted, memory: Memory, keys: list[str], more: str) -> None:
    """Write the turns that the memory lacks, and keep each as it comes."""
    kept = sum(key in memory for key in keys)
    if kept == len(keys):
        return
    before = (("system", wanted.system),) if wanted.system else ()
    requests = (Request(key, before, turn="user") for key in keys)
    with track(f"invent {more}{wanted.language}", len(keys), kept) as progress:
        for completion in model.engine.generate(requests, wanted.sampling, memory):
            if completion.request_id in memory:
                continue
            if completion.error:  # all requests are alike
                raise EngineError(f"no user's turn can be written: {completion.error}")
            cut_off = completion.finish_reason == "length"
            memory.keep(
                Offer(completion.request_id, completion.text.strip("\ufeff \t\r\n"), "cut_off" if cut_off else "")
            )
            progress.advance(tokens=completion.completion_tokens, dropped=cut_off)


def _kept(memory: Memory, key: str) -> tuple[str, str]:
    found = memory.get(key)
    if found is None or found[0] is None:
        raise EngineError("the engine ended before all turns were written; run the same command again")
    return found[0], found[1]


def write_invented(
    config: Config, wanted: Wanted, targets: list[str], out: Path, say: Callable[[str], None]
) -> tuple[Invented, dict[str, Outcome]]:
    """Write `<language>.jsonl` for the language of the prompts and every target, and `invented.json` about them.

    Raises ConfigError for an engine that cannot do it, and if `out` holds something else, DataError if no turn is a
    prompt.
    """
    engine = plugin_of(config.engine)
    if not engine.writes_user_turns:
        raise ConfigError(
            f"engine.type {engine.type}: it cannot write a user's turn, which needs the bare chat template; use "
            "engine.type transformers or vllm with the model's folder or hub id"
        )
    engine.check("engine")
    with closing(OpenedModel(config.engine, config.model)) as model:
        about = _claim(out, config, model, wanted)
        with RunDir(out).lock(), closing(Memory(out / "memory.sqlite")) as memory:
            made = invent(model, wanted, memory)
        write_rows(out / f"{wanted.language}.failed.jsonl", _dropped(made))
        if not made.prompts:
            raise DataError(_none(config.model.path, made))
        translator = EngineTranslator(model, system=config.system_prompt)
        outcomes = translate_prompts(
            lambda: iter(made.prompts), translator, wanted.language, targets, out,
            made_from=f"prompts of {config.model.path}'s own", max_usd=None, say=say,
        )  # fmt: skip
    write_text(out / "invented.json", json.dumps(about | _counts(made, outcomes, out, wanted), indent=1) + "\n")
    return made, outcomes


def _claim(out: Path, config: Config, model: OpenedModel, wanted: Wanted) -> Json:
    """Note in `out` what is to be written there, before anything is sampled.

    Raises ConfigError if it holds other prompts.
    """
    path, bounds = out / "invented.json", wanted.bounds
    about: Json = {
        "model": config.model.path,
        "made_by": model.identity,
        "language": wanted.language,
        "system_prompt": wanted.system,
        "sampling": {name: value for name, value in wanted.sampling.as_dict().items() if value not in ((), 0)},
        "bounds": {"characters": [bounds.min_characters, bounds.max_characters], "near": bounds.near},
    }
    before = read_json(path, "give another OUT")
    known = {name: before.get(name) for name in about}
    if before and (other := changes(known, about)):
        raise ConfigError(f"{out} holds prompts that were made otherwise ({'; '.join(other)}); give another OUT")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be made: {error.strerror}; give another OUT") from None
    if not before and (out / f"{wanted.language}.jsonl").exists():
        raise ConfigError(f"{out / f'{wanted.language}.jsonl'} was not made by this command; give another OUT")
    if not before:  # the day that a template may print, also when the command is continued on another day
        write_text(RunDir(out).first_day, date.today().isoformat() + "\n")
        write_text(path, json.dumps(about, indent=1) + "\n")
    return about


def _counts(made: Invented, outcomes: Mapping[str, Outcome], out: Path, wanted: Wanted) -> Json:
    files = [out / f"{code}.jsonl" for code in (wanted.language, *outcomes)]
    return {
        "turns": made.turns,
        "prompts": len(made.prompts),
        "dropped": dict(sorted(made.by_reason().items())),
        "translated": {code: outcome.translated for code, outcome in outcomes.items()},
        "set_aside": {code: dict(sorted(outcome.aside.items())) for code, outcome in outcomes.items()},
        "sha256": {file.name: hash_file(file) for file in files},
    }


def _dropped(made: Invented) -> Iterator[Json]:
    return ({"reason": reason, "offered": text} for text, reason in made.dropped)


def _none(model: str, made: Invented) -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in made.by_reason().most_common())
    return (
        f"{model}: none of {made.turns} turns that it wrote for the user is a prompt ({reasons}). It takes an instruct "
        "model that was trained on whole conversations; take another one, or prompts of your own"
    )
