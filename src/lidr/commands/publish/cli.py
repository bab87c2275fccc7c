"""`lidr card` and `lidr push`: cards in the Hub's format, and the upload."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lidr.commands.arguments import new_path, path

if TYPE_CHECKING:
    from lidr.commands.publish.hub import Upload

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", parser=path, help="A run directory.")]
IterationOption = Annotated[int | None, typer.Option("--iteration", "-i", help="Default: the last with a model.")]
ModelRepoOption = Annotated[str | None, typer.Option(metavar="ORG/NAME", help="The model's repository on the Hub.")]
DataRepoOption = Annotated[str | None, typer.Option(metavar="ORG/NAME", help="The pairs' repository on the Hub.")]
LicenseOption = Annotated[str | None, typer.Option(help="Such as apache-2.0. Default: the recipe's about.license.")]
BaseModelOption = Annotated[
    str | None, typer.Option(metavar="ORG/NAME", help="The base model on the Hub, if the recipe has it in a folder.")
]


def card(
    run: RunArgument,
    iteration: IterationOption = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="PATH", parser=new_path, help="Write OUT/data/README.md and OUT/model/README.md instead."),
    ] = None,
    model_repo: ModelRepoOption = None,
    data_repo: DataRepoOption = None,
    license: LicenseOption = None,
    base_model: BaseModelOption = None,
) -> None:
    """Write the cards of a run's pairs and model.

    They are RUN/cards/data/README.md and README.md in the model's folder. `lidr push` writes its own.
    """
    from lidr.cards import Published, write_cards
    from lidr.run_dir import RunDir

    published = Published(model_repo, data_repo, license, base_model)
    run_dir, config = RunDir.load(run)
    for written in write_cards(config, run_dir, iteration, published, out):
        print(f"card: {written}", file=sys.stderr)


def push(
    run: RunArgument,
    model_repo: ModelRepoOption = None,
    data_repo: DataRepoOption = None,
    iteration: IterationOption = None,
    public: Annotated[bool, typer.Option("--public/--private", help="Who may see new repositories.")] = False,
    license: LicenseOption = None,
    base_model: BaseModelOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Send it. Without, only say what would go where.")] = False,
) -> None:
    """Upload a run's model, pairs and report to the Hub.

    Without --yes nothing is sent: it prints every file that would go, with its size. The token is HF_TOKEN or that of
    `hf auth login`, the server HF_ENDPOINT.
    """
    from lidr.cards import Published, checked_iteration
    from lidr.commands.publish import hub
    from lidr.report.page import is_outdated
    from lidr.run_dir import RunDir

    published = Published(model_repo, data_repo, license, base_model)
    run_dir, config = RunDir.load(run)
    hub.check_license(config, published, public)
    number = checked_iteration(config, run_dir, iteration)
    uploads = hub.plan_uploads(config, run_dir, number, published)
    for upload in uploads:
        _print_upload(upload, public)
    if paths := hub.own_paths(config):
        print(f"Note: the recipe in these files shows paths of this machine: {', '.join(paths)}")
    if is_outdated(run_dir):
        print(f"Note: the report is missing or older than the run; `lidr report {run}` writes it again")
    if not yes:
        print("Nothing was sent. The same command with --yes sends it.")
        return
    message = f"{config.name}, iteration {number} (lidr)"
    for sent in hub.send(uploads, public, message, lambda line: print(line, file=sys.stderr, flush=True)):
        for removed in sent.removed:
            print(f"removed from {sent.upload.repo}: {removed}")
        print(f"on the Hub: {sent.commit}")


def _print_upload(upload: Upload, public: bool) -> None:
    who = "public" if public else "private"
    print(f"{upload.kind} {upload.repo} ({who} if new): {len(upload.files)} files, {_size(upload.size)}")
    for file in upload.files:
        source = file.source if isinstance(file.source, Path) else "written for the push"
        print(f"  {_size(file.size):>10}  {file.path}  <- {source}")
    if upload.kept_back:
        print(f"  stays here: {', '.join(upload.kept_back)}")


def _size(size: int) -> str:
    """Bytes as people read them, in units of 1000 as the Hub shows them."""
    value, unit = float(size), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
