"""`lidr export`: a run's pairs in the formats of other trainers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lidr.commands.arguments import names, new_path, path

_FORMATS = sorted(file.stem for file in (Path(__file__).parent / "formats").glob("[a-z]*.py") if file.stem != "base")


def _run(value: str | Path) -> Path:
    if str(value) == "pairs" and not Path("pairs").is_dir():
        raise typer.BadParameter("the command is `lidr export RUN` now")
    return path(value)


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", parser=_run, help="A run directory.")],
    format: Annotated[
        str,
        typer.Option("--format", "-f", metavar="NAME",
                     help=f"The tool that takes the pairs: {', '.join(_FORMATS)}, or path/file.py:Name."),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="PATH", parser=new_path, help="The new folder; an earlier export there is replaced."),
    ],
    iteration: Annotated[
        str | None, typer.Option("--iteration", "-i", metavar="N|all", help="Default: the last with pairs.")
    ] = None,
    languages: Annotated[str | None, typer.Option(metavar="es,fr,...", help="Default: all of the run.")] = None,
    plain: Annotated[
        bool | None,
        typer.Option("--plain/--conversational", help="Texts or chat messages. Default: messages; parquet: texts."),
    ] = None,
    system: Annotated[
        bool, typer.Option("--system/--no-system", help="Write the system prompt, if the format has a place for it.")
    ] = True,
) -> None:  # fmt: skip
    """Write the preference pairs for another trainer.

    The folder has the data, what the tool needs beside it, and a README.md with the command that takes it.
    """
    from lidr.commands.export.collect import select
    from lidr.commands.export.write import write_export
    from lidr.run_dir import RunDir

    run_dir, config = RunDir.load(run)
    codes = names(languages, "--languages")
    made = write_export(config, run_dir, format, select(config, run_dir, iteration, codes), out, plain, system)
    for code, by_split in [*made.counts.items(), ("all", {split: made.total(split) for split in made.splits})]:
        print(f"{code:<4}", *(f"{by_split[split]:>8,} {split}" for split in made.splits))
    print(f"export: {out}", file=sys.stderr)
