"""The same number of tokens for everybody: what a run has spent, and how many prompts a budget pays for.

Tokens are those that were generated as answers and translations or scored, failed ones included, per iteration. What
training and evaluation take is not counted: it is the same for all, or follows from the number of pairs.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from lidr.commands.arena.entries import Arena, Entry
from lidr.commands.arena.sharing import generate, open_entry
from lidr.config import Config
from lidr.errors import ConfigError, DamagedError
from lidr.records import Json, Prompt, Response, Score, Translation, content_id
from lidr.replacing import Say
from lidr.run_dir import RunDir
from lidr.seals import read_rows
from lidr.stages import scores
from lidr.stages.shortage import fewest
from lidr.storage import write_text
from lidr.strategies.base import strategy_of

PILOT = 48  # prompts from which an entry's tokens per prompt are estimated
_PILOT_SETTINGS = ("iterations=1", "evaluation.benchmarks={}")  # it only answers


def spent(config: Config, run: RunDir, iteration: int, prompts: Collection[str] | None = None) -> int:
    """The tokens that an iteration's answers, translations and scores took, of some prompts or of all.

    Raises RunError if one of their files is incomplete.
    """

    def rows(paths: Iterable[Path]) -> Iterator[Json]:
        found = (row for path in paths for row in read_rows(path))
        return (row for row in found if prompts is None or row["prompt_id"] in prompts)

    strategy = strategy_of(config)
    answers = [run.responses(iteration, code) for code in config.languages]
    translated = [run.translations(iteration, *pair) for pair in strategy.directions(config)]
    scored = set(scores.files(config, run, iteration).values())
    return (
        sum(Response.from_dict(row).completion_tokens for row in rows(answers))
        + sum(Translation.from_dict(row).all_tokens for row in rows(translated))
        + sum(Score.from_dict(row).tokens for row in rows(scored))
    )


@dataclass(frozen=True, slots=True)
class Share:
    """What an entry gets: a number of prompts, by the tokens that one takes. None for the recipe's own number.

    `made_from` identifies what the price depends on.
    """

    prompts: int | None
    tokens_per_prompt: float
    settings: dict[str, object]
    made_from: str


@dataclass(frozen=True, slots=True)
class Budget:
    """Tokens per iteration, and the share of every entry that has been priced."""

    tokens: int
    shares: dict[str, Share]


_BUDGET = TypeAdapter(Budget)


def find_budget(arena: Arena, say: Say) -> Budget:
    """Price every entry that has no share yet. What is found is kept, so that all seeds have the same shares.

    Raises ConfigError if the arena was begun with another budget, or one does not pay for enough prompts.
    """
    path = arena.folder / "budget.json"
    found = _read(path)
    if found and arena.budget not in (None, found.tokens):
        raise ConfigError(f"--budget {arena.budget}: this arena has {found.tokens} tokens; give another --out")
    kept = found.shares if found else {}
    for entry in arena.entries:
        if entry.name in kept and kept[entry.name].made_from != _made_from(arena, entry):
            raise ConfigError(
                f"{path}: {entry.name} was another strategy when this arena was begun; give this one a name of its "
                "own in a YAML file, or give another --out"
            )
    for entry in arena.entries:
        if found is None or entry.name not in found.shares:
            tokens, share = _price(arena, entry, found, say)
            found = Budget(tokens, {**(found.shares if found else {}), entry.name: share})
            write_text(path, json.dumps(asdict(found), indent=1) + "\n")
    assert found is not None  # the method itself always takes part
    return found


def _made_from(arena: Arena, entry: Entry) -> str:
    config = arena.config(entry, arena.all_seeds[0], None)
    own = [config.responses.model_dump(), config.translations.model_dump(), config.pairs.model_dump(mode="json")]
    return content_id(dict(entry.settings), own, strategy_of(config).defining())


def _price(arena: Arena, entry: Entry, found: Budget | None, say: Say) -> tuple[int, Share]:
    """The budget and the share of one entry. Without a budget, the method's first iteration is what it takes."""
    tokens = found.tokens if found else arena.budget
    settings, made_from = dict(entry.settings), _made_from(arena, entry)
    if tokens is None:
        config, run = _method(arena, say)
        used = spent(config, run, 1)
        if not used:
            raise ConfigError(f"engine.type {config.engine.type}: it reports no tokens; give the arena a --budget")
        return used, Share(None, round(used / len(prompt_ids(run)), 1), settings, made_from)
    each, most = _tokens_per_prompt(arena, entry, found, say)
    if not each:
        raise ConfigError(
            f"{entry.name}: its sample took no tokens, or engine.type {arena.base.engine.type} reports none"
        )
    prompts = int(min(tokens / each + 0.5, most))
    if prompts * len(arena.base.languages) < fewest(arena.base):
        raise ConfigError(
            f"{entry.name} takes {each:.0f} tokens per prompt, so {tokens} tokens pay for {prompts} prompts, too few "
            f"to train on; begin another arena (--out) with --budget {int(20 * each + fewest(arena.base) * each)}"
        )
    say(f"{entry.name}: {each:,.0f} tokens per prompt, {prompts} prompts for {tokens:,} tokens")
    return tokens, Share(prompts, round(each, 1), settings, made_from)


def _method(arena: Arena, say: Say) -> tuple[Config, RunDir]:
    """The method's answers to all prompts of the recipe, with the first seed."""
    config = arena.config(arena.entries[0], arena.all_seeds[0], None)
    run = open_entry(config, arena.run_path(arena.entries[0], config.seed), say)
    generate(config, run, [])
    return config, run


def _tokens_per_prompt(arena: Arena, entry: Entry, found: Budget | None, say: Say) -> tuple[float, float]:
    """The tokens that a prompt takes, by a sample of prompts, and the most prompts that there are.

    If the method has answered all prompts, what the sample takes is compared with what it took for the same ones.
    """
    seed, limit = arena.all_seeds[0], arena.base.prompt_source.limit
    config = arena.config(entry, seed, min(PILOT, limit or PILOT), *_PILOT_SETTINGS)
    run = open_entry(config, arena.pilot_path(entry), say)
    others = [each for each in arena.entries if each != entry]
    paths = [*(arena.run_path(other, seed) for other in others), *(arena.pilot_path(other) for other in others)]
    generate(config, run, [RunDir(path) for path in paths])
    sample = prompt_ids(run)
    each = spent(config, run, 1) / len(sample)
    method = found.shares.get(arena.entries[0].name) if found else None
    if found is None or method is None or method.prompts is not None:
        return each, limit or float("inf")
    whole, first = _method(arena, say)
    count = len(prompt_ids(first))
    of_sample = spent(whole, first, 1, sample) / len(sample)
    return each * (found.tokens / count) / of_sample, count


def prompt_ids(run: RunDir) -> set[str]:
    """The ids of the prompts of the first iteration."""
    return {Prompt.from_dict(row).prompt_id for row in read_rows(run.prompts(1))}


def _read(path: Path) -> Budget | None:
    if not path.exists():
        return None
    try:
        return _BUDGET.validate_json(path.read_bytes())
    except ValidationError as error:
        raise DamagedError(
            f"{path}: damaged ({error.errors()[0]['msg']}); delete it, and start the arena again"
        ) from None
