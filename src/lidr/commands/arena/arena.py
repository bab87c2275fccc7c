"""The arena on one page: price the entries, run each with every seed, and say who gained how much.

All start from the same model and the same prompts. Whoever needs more tokens per prompt gets fewer prompts. Each run
is one as `lidr run` makes it, so an arena goes on wherever it was stopped.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from lidr import loop, preflight
from lidr.commands.arena.budget import find_budget
from lidr.commands.arena.document import make_document
from lidr.commands.arena.entries import Arena, Entry
from lidr.commands.arena.runs import Right, Run, check_metrics, read_run
from lidr.commands.arena.sharing import generate, open_entry, take_evaluation
from lidr.commands.arena.standings import Standings, compare
from lidr.errors import ConfigError
from lidr.replacing import Say
from lidr.report import html, markdown
from lidr.run_dir import RunDir
from lidr.seals import read_json
from lidr.stages.shortage import TooFewPairsError
from lidr.status import run_status
from lidr.storage import write_text


def run_arena(arena: Arena, say: Say) -> Standings:
    """Run what is owed and return the standings, which are written after every run.

    Raises ConfigError for what cannot be compared, or if the folder holds an arena with another recipe or budget.
    """
    check(arena)
    with arena.opened():
        budget = find_budget(arena, say)
        runs: list[Run] = []
        rights: dict[tuple[str, int], Right] = {}
        total, before = len(arena.entries) * arena.seeds, _runs_before(arena)
        for seed in arena.all_seeds:
            for entry in arena.entries:
                prompts = budget.shares[entry.name].prompts
                say(f"arena {len(runs) + 1}/{total}: {entry.name}, seed {seed}, {prompts or 'all'} prompts")
                run, rights[entry.name, seed] = run_entry(arena, entry, seed, prompts, say)
                runs.append(run)
                if len(runs) > before or len(runs) == total:
                    standings = compare(arena, budget, runs, rights)
                    write(arena, standings)
    return standings


def check(arena: Arena) -> None:
    """Raise ConfigError unless everything is right that can be known before anything is spent or written."""
    base = arena.base
    if not base.iterations or not base.evaluation.benchmarks:
        raise ConfigError(f"{base.name}: an arena trains and measures; it needs iterations and evaluation.benchmarks")
    if base.probe:
        raise ConfigError("probe: an arena runs all entries on the same languages; set probe=null")
    check_metrics(base)
    with TemporaryDirectory() as scratch:
        trial = Arena(Path(scratch) / "arena", base, arena.entries, arena.seeds)
        with trial.opened():
            for entry in arena.entries:
                preflight.check(trial.config(entry, arena.all_seeds[-1], None), RunDir(trial.folder))


def _runs_before(arena: Arena) -> int:
    """How many runs had ended when it was stopped: its page is not replaced by one with fewer of them."""
    found = read_json(arena.folder / "arena.json", "delete it; it is written again").get("runs", 0)
    return found if isinstance(found, int) else 0


def run_entry(arena: Arena, entry: Entry, seed: int, prompts: int | None, say: Say) -> tuple[Run, Right]:
    """One run, with what others of the same seed have made already, and what its last model has right."""
    config = arena.config(entry, seed, prompts)
    run = open_entry(config, arena.run_path(entry, seed), say)
    pilots = [RunDir(arena.pilot_path(each)) for each in arena.entries]
    others = [RunDir(arena.run_path(each, seed)) for each in arena.entries if each != entry]
    if any(state != "done" for _, _, state, _ in run_status(config, run)):
        take_evaluation(run, others)
        generate(config, run, [*others, *pilots])
        try:
            loop.run(config, run)
        except TooFewPairsError as error:
            say(f"{entry.name}, seed {seed}: {error}; M0 counts as its result")
    return read_run(entry.name, seed, config, run)


def write(arena: Arena, standings: Standings) -> None:
    """arena.json, arena.html and arena.md."""
    document = make_document(arena, standings)
    write_text(arena.folder / "arena.json", standings.to_json())
    write_text(arena.folder / "arena.md", markdown.text_of(document))
    write_text(arena.folder / "arena.html", html.page(document))
