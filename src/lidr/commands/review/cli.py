"""`lidr review`: pairs for native speakers to judge, and what they said."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lidr.commands.arguments import names, new_path, path


def review(
    run: Annotated[Path, typer.Argument(metavar="RUN", parser=path, help="A run directory.")],
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE", parser=path, help="With --read: saved verdicts.")
    ] = None,
    read: Annotated[bool, typer.Option("--read", help="Read verdicts instead of making sheets.")] = False,
    iteration: Annotated[
        int | None, typer.Option("--iteration", "-i", min=1, help="Default: 1, which the probe is about, too.")
    ] = None,
    languages: Annotated[str | None, typer.Option(metavar="es,fr,...", help="Default: all of the recipe.")] = None,
    pairs: Annotated[int | None, typer.Option(min=1, help="Pairs per language. Default: 30.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the draw and of the sides. Default: 42.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", parser=new_path, help="A folder, or FILE.html for one language. Default: RUN/review."
        ),
    ] = None,
) -> None:
    """Pairs for native speakers to judge: a page per language, blind to which side was chosen.

    Send the page to a native speaker; it works offline and saves a file of verdicts. `lidr review RUN --read FILE ...`
    compares these with the run: human reward accuracy by language, beside the probe's.
    """
    from lidr.commands.review.collect import read_verdicts, review_folder, write_sheets
    from lidr.run_dir import RunDir

    run_dir, config = RunDir.load(run)
    if read:
        for name, value in (("iteration", iteration), ("languages", languages), ("pairs", pairs), ("seed", seed),
                            ("out", out)):  # fmt: skip
            if value is not None:
                raise typer.BadParameter("is for making sheets; --read takes files alone", param_hint=f"--{name}")
        from lidr.commands.review.show import missing_judge, print_summary

        summary = read_verdicts(config, run_dir, files or [], _say)
        print_summary(summary)
        if hint := missing_judge(summary, str(run)):
            _say(hint)
        _say(f"summary: {review_folder(run_dir) / 'summary.json'}")
        return
    if files:
        raise typer.BadParameter("verdicts are read with --read", param_hint="FILE")
    chosen = names(languages, "--languages") or config.languages
    number = 1 if iteration is None else iteration
    for page in write_sheets(
        config, run_dir, number, chosen, 30 if pairs is None else pairs, 42 if seed is None else seed, out, _say
    ):
        _say(f"sheet: {page}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
