"""`lidr arena`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lidr.commands.arguments import new_path, text


def arena(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", parser=text, help="A shipped recipe (see `lidr recipes`) or a YAML file.")
    ],
    strategies: Annotated[
        str,
        typer.Option(
            metavar="a,b,c|FILE",
            help="Names of strategies, `file.py:Name` or `sft`; or a YAML file `name: {field: value}`.",
        ),
    ],
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Runs of each; the first has the recipe's seed.")] = 3,
    budget: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens per iteration. Default: what `imbalance` takes for the recipe's prompts."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="PATH", parser=new_path, help="Where it lives. Default: arenas/RECIPE.")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="a.b=c", help="Override a field, for all.")] = None,
) -> None:
    """Strategies against each other: the same model, the same prompts, the same number of tokens.

    The method, `imbalance`, always takes part. Whoever needs more tokens per prompt gets fewer prompts. The same
    command goes on where it was stopped; more strategies and seeds may be added to it.
    """
    from lidr.commands.arena.arena import run_arena
    from lidr.commands.arena.entries import Arena, read_entries
    from lidr.commands.arena.show import print_standings
    from lidr.config import load_config

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    base = load_config(recipe, set_)
    folder = out or Path("arenas") / base.name
    found = Arena(folder, base, tuple(read_entries(strategies)), seeds, budget)
    try:
        standings = run_arena(found, say)
    except KeyboardInterrupt:
        say("interrupted; everything finished is kept, the same command continues")
        raise typer.Exit(130) from None
    print_standings(standings)
    say(f"arena: {folder / 'arena.html'}")
