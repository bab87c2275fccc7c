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
from lidr.commands.arena.sharing import generate
from lidr.config import Config
from lidr.errors import ConfigError, DamagedError
from lidr.records import Json, Prompt, Response, Score, Translation
from lidr.replacing import Say, open_run
from lidr.run_dir import RunDir
from lidr.seals import read_rows
from lidr.stages import scores
from lidr.storage import write_text
from lidr.strategies.base import strategy_of

PILOT = 48  # prompts from which an entry's tokens per prompt are estimated
# A pilot only answers.
_PILOT_SETTINGS = ("iterations=1", "training.held_out=0", "evaluation.benchmarks={}", "probe=null")


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
        + sum(Translation.from_dict(row).tokens for row in rows(translated))
        + sum(Score.from_dict(row).tokens for row in rows(scored))
    )


@dataclass(frozen=True, slots=True)
class Share:
    """What an entry gets: a number of prompts, by the tokens that one takes. None for the recipe's own number."""

    prompts: int | None
    tokens_per_prompt: float
    settings: dict[str, object]


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
        raise ConfigError(f"--budget {arena.budget:,}: this arena has {found.tokens:,} tokens; give another --out")
    for entry in arena.entries:
        if found and entry.name in found.shares:
            _check_same(entry, found.shares[entry.name], path)
            continue
        tokens, share = _price(arena, entry, found.tokens if found else arena.budget, say)
        found = Budget(tokens, {**(found.shares if found else {}), entry.name: share})
        write_text(path, json.dumps(asdict(found), indent=1) + "\n")
    assert found is not None  # the method itself always takes part
    return found


def _check_same(entry: Entry, share: Share, path: Path) -> None:
    if dict(entry.settings) != share.settings:
        raise ConfigError(
            f"{path}: {entry.name} had other settings ({share.settings}); give the new ones a name of their own"
        )


def _price(arena: Arena, entry: Entry, budget: int | None, say: Say) -> tuple[int, Share]:
    """The budget and the share of one entry. Without a budget, the method's first iteration is what it takes."""
    seed, settings, method = arena.all_seeds[0], dict(entry.settings), arena.entries[0]
    if budget is None:
        config = arena.config(entry, seed, None)
        run = open_run(config, arena.run_path(entry, seed), say, option="--out")
        generate(config, run, [])
        used = spent(config, run, 1)
        return used, Share(None, round(used / len(_prompts(run)), 1), settings)
    limit = arena.base.prompt_source.limit
    config = arena.config(entry, seed, min(PILOT, limit or PILOT), *_PILOT_SETTINGS)
    run = open_run(config, arena.folder / "pilots" / entry.name, say, option="--out")
    generate(config, run, [RunDir(arena.run_path(other, seed)) for other in arena.entries if other != entry])
    sample = _prompts(run)
    each = spent(config, run, 1) / len(sample)
    if arena.budget is None:  # the method has answered all prompts: how does the sample differ from them?
        first, config = RunDir(arena.run_path(method, seed)), arena.config(method, seed, None)
        each *= (budget / len(_prompts(first))) / (spent(config, first, 1, sample) / len(sample))
    prompts, least = int(budget / each + 1e-6), arena.base.training.held_out + 1
    if prompts < least:
        raise ConfigError(
            f"--budget {budget:,}: {entry.name} takes {each:,.0f} tokens per prompt, so it pays for {prompts} prompts; "
            f"allow at least {each * (least + 10):,.0f}"
        )
    say(f"{entry.name}: {each:,.0f} tokens per prompt, {prompts} prompts for {budget:,} tokens")
    return budget, Share(prompts, round(each, 1), settings)


def _prompts(run: RunDir) -> set[str]:
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
