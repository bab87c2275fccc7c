"""The command line: `run`, one command per stage in their order, and a few helpers.

Commands are parsed before anything heavy is imported, so `lidr --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lidr.commands.arena import cli as arena
from lidr.commands.arguments import names, new_path, path, text
from lidr.commands.audit import cli as audit
from lidr.commands.export import cli as export
from lidr.commands.prompts import cli as prompts
from lidr.commands.publish import cli as publish
from lidr.commands.review import cli as review
from lidr.errors import LidrError
from lidr.machine.torch_environment import TORCH_ENVIRONMENT

if TYPE_CHECKING:
    from lidr.commands.arena.entries import Entry
    from lidr.config import Config
    from lidr.machine.hardware import Hardware
    from lidr.run_dir import RunDir

app = typer.Typer(
    help="Make a language model better in its weak languages; its best language is the teacher (arXiv 2410.08964).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
lab = typer.Typer(help="The laboratory: a small world and a small model.")
app.add_typer(prompts.app, name="prompts")


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"lidr {version('lidr')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


RunArgument = Annotated[Path, typer.Argument(metavar="RUN", parser=path, help="A run directory.")]
RunDirOption = Annotated[
    Path | None, typer.Option(metavar="PATH", parser=new_path, help="Where the run lives. Default: runs/RECIPE.")
]
ReplaceOption = Annotated[
    bool, typer.Option("--replace", help="Allow finished work to be made again; says first what that is.")
]
StrategiesOption = Annotated[
    str | None, typer.Option(metavar="a,b,c|FILE", help="Compare these strategies, named as for `lidr arena`.")
]
IterationOption = Annotated[int | None, typer.Option("--iteration", "-i", help="Default: the first that is owed.")]


@app.command()
def run(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", parser=text, help="A shipped recipe (see `lidr recipes`) or a YAML file.")
    ],
    run_dir: RunDirOption = None,
    probe: Annotated[bool, typer.Option("--probe", help="Probe first; leave out what it advises to drop.")] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="a.b=c", help="Override a field.")] = None,
    replace: ReplaceOption = False,
) -> None:
    """All steps and iterations, then the report.

    The same command continues an interrupted run; everything that was finished is kept. A recipe that would replace
    finished work is refused without --replace.
    """
    from lidr import loop
    from lidr.config import load_config
    from lidr.replacing import open_run

    config = load_config(recipe, [*(set_ or []), *(["probe.obey=true"] if probe else [])])
    folder = run_dir or Path("runs") / config.name
    with _interruptible():
        loop.run(config, open_run(config, folder, _say, replace))
    _say(f"report: {folder / 'report.html'}")


@app.command()
def plan(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE|RUN", parser=text, help="A recipe, or a run directory.")],
    hardware: Annotated[
        str | None, typer.Option(metavar="8xA100-80GB", help="What it is to run on. Default: this machine.")
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(metavar="PATH", parser=new_path, help="Where the run is or would be. Default: runs/RECIPE."),
    ] = None,
    strategies: StrategiesOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="a.b=c", help="Override a field.")] = None,
) -> None:
    """Before anything is spent: requests, tokens, memory, hours, disk and money of a run.

    Loads no weights. Says what does not fit and with which settings it does; the exit code is then 1, else 0. What
    earlier iterations of the run have measured takes the place of estimates, and is compared with them. With
    --strategies, their prices are compared instead.
    """
    import json
    from dataclasses import asdict

    from lidr.commands.plan.afterwards import compare_with_log
    from lidr.commands.plan.plan import make_plan
    from lidr.commands.plan.show import print_measured, print_plan
    from lidr.config import load_config
    from lidr.machine.hardware import parse_hardware

    is_run = (Path(recipe) / "recipe.yaml").exists()
    source = str(Path(recipe) / "recipe.yaml") if is_run else recipe
    config = load_config(source, set_)
    folder = run_dir or (Path(recipe) if is_run else Path("runs") / config.name)
    machine = parse_hardware(hardware) if hardware else None
    if strategies:
        _prices(_entries(source, strategies, set_ or []), machine, folder, as_json)
        return
    found = make_plan(config, machine, folder)
    measured = [] if machine else compare_with_log(config, folder)
    if as_json:
        print(json.dumps(found.as_dict() | {"measured": [asdict(row) for row in measured]}, indent=1))
    else:
        print_plan(found)
        print_measured(measured)
    raise typer.Exit(0 if found.fits else 1)


@app.command()
def probe(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE|RUN", parser=text, help="A recipe, or a run directory.")],
    run_dir: RunDirOption = None,
    iteration: Annotated[int, typer.Option("--iteration", "-i", help="Later ones: M_t against M_{t-1}.")] = 0,
    strategies: StrategiesOption = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="a.b=c", help="Override a field.")] = None,
    replace: ReplaceOption = False,
) -> None:
    """Before training: which language is dominant, and which ones can learn from it.

    Answers a held-out sample, translates the dominant language's answers, and asks how often they beat the direct ones.
    `lidr run RECIPE --probe` goes on from here. The sample is kept out of training, so a run that has answered other
    prompts already needs a probe in a directory of its own. With --strategies, their pairs on the sample are compared
    instead: how often is the chosen side the better one, and for how many tokens?
    """
    from lidr.config import load_config
    from lidr.replacing import open_run
    from lidr.report import terminal as tables
    from lidr.results import read_progress
    from lidr.run_dir import LOCK_OWNER, RunDir

    is_run = (Path(recipe) / "recipe.yaml").exists()
    if is_run and run_dir:
        raise typer.BadParameter(f"{recipe} is a run already", param_hint="--run-dir")
    source = str(Path(recipe) / "recipe.yaml") if is_run else recipe
    config = load_config(source, set_)
    if config.probe is None:
        config = load_config(source, ["probe={}", *(set_ or [])])
    folder = Path(recipe) if is_run else run_dir or Path("runs") / config.name
    entries = _entries(source, strategies, [*(set_ or []), "probe=null"]) if strategies else []
    if LOCK_OWNER not in os.environ:
        open_run(config, folder, _say, replace)
    run = RunDir(folder)
    if strategies:
        _forecast(config, entries, run)
        return
    if _checked(config, iteration, "probe") and not (config.probe and config.probe.stop):
        raise typer.BadParameter("later iterations are for --set probe.stop=true", param_hint="--iteration")
    _run_stages(config, run, iteration, ("probe",))
    if LOCK_OWNER in os.environ:  # `lidr run` prints itself what its steps found
        return
    if iteration:
        tables.print_progress(read_progress(run, iteration))
    else:
        tables.print_probe(config, run)


@app.command()
def respond(run: RunArgument, iteration: IterationOption = None, replace: ReplaceOption = False) -> None:
    """Step 2: answer every prompt in every language.

    Reads and aligns the prompts first, step 1, where that is owed.
    """
    _stages(run, iteration, replace, "prompts", "responses")


@app.command()
def translate(run: RunArgument, iteration: IterationOption = None, replace: ReplaceOption = False) -> None:
    """Step 3: translate the model's own answers."""
    _stages(run, iteration, replace, "translations")


@app.command()
def score(run: RunArgument, iteration: IterationOption = None, replace: ReplaceOption = False) -> None:
    """Between 3 and 4: log-probabilities of the answers, if the strategy needs them."""
    _stages(run, iteration, replace, "scores")


@app.command()
def pair(run: RunArgument, iteration: IterationOption = None, replace: ReplaceOption = False) -> None:
    """Step 4: make pairs and print the drop reasons."""
    config, run_dir, done = _stages(run, iteration, replace, "pairs")
    from lidr.report.terminal import print_drops
    from lidr.stages.pairs import read_summary

    print_drops(config, read_summary(run_dir, done), done)


@app.command()
def train(run: RunArgument, iteration: IterationOption = None, replace: ReplaceOption = False) -> None:
    """Step 5: train the next model on the pairs."""
    _stages(run, iteration, replace, "training")


@app.command()
def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="RUN|MODEL", parser=text,
                            help="A run; or a model's folder, hub id or name on a server; or a folder of answers.")
    ],
    benchmarks: Annotated[str | None, typer.Option(help="Such as mgsm,head_to_head; the recipe's come too.")] = None,
    languages: Annotated[str | None, typer.Option(help="Codes with commas, such as es,fr.")] = None,
    base_url: Annotated[str | None, typer.Option(help="An OpenAI-compatible server that has the model.")] = None,
    recipe: Annotated[
        str, typer.Option(metavar="TEXT", parser=text, help="Where all other settings come from, for a model.")
    ] = "evaluation",
    out: Annotated[
        Path | None, typer.Option(metavar="PATH", parser=new_path, help="Where results go. Default: evaluations/MODEL.")
    ] = None,
    iteration: Annotated[int | None, typer.Option("--iteration", "-i", help="Default: all models of the run.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="a.b=c", help="Override a field.")] = None,
    replace: ReplaceOption = False,
) -> None:  # fmt: skip
    """Step 6: measure the models of a run, or any model.

    Benchmarks are added to those of a run's recipe; iteration 0 is the base model. The same command continues an
    interrupted evaluation.
    """
    chosen, codes = names(benchmarks, "--benchmarks"), names(languages, "--languages")
    if (Path(model) / "recipe.yaml").exists():
        if base_url or out or recipe != "evaluation":
            raise typer.BadParameter(f"{model} is a run: --base-url, --out and --recipe are for models outside of runs")
        _evaluate_run(Path(model), iteration, chosen, codes, set_ or [], replace)
    elif iteration is not None:
        raise typer.BadParameter(f"{model} is not a run", param_hint="--iteration")
    else:
        _evaluate_model(model, recipe, chosen, codes, base_url, out, set_ or [], replace)


@app.command()
def report(run: RunArgument) -> None:
    """Write results.json and the report again."""
    from lidr.report import page
    from lidr.run_dir import RunDir
    from lidr.stages.results import write_results

    run_dir, config = RunDir.load(run)
    write_results(config, run_dir)
    page.run(config, run_dir)
    _say(f"report: {run / 'report.html'}")


@app.command()
def status(
    run: RunArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """What a run has done and what it still owes."""
    import json

    from lidr.report.terminal import print_status
    from lidr.run_dir import RunDir
    from lidr.status import run_status

    run_dir, config = RunDir.load(run)
    rows = run_status(config, run_dir)
    if as_json:
        names_ = ("iteration", "stage", "state", "detail")
        found = [dict(zip(names_, (int(row[0]), *row[1:]), strict=True)) for row in rows]
        print(json.dumps(found, indent=1))
    else:
        print_status(rows)


@app.command()
def recipes() -> None:
    """The recipes that come with the package."""
    from lidr.config import load_config, shipped_recipes
    from lidr.report.terminal import print_recipes

    print_recipes([(name, load_config(name).description) for name in shipped_recipes()])


@app.command("import-gguf")
def import_gguf(
    file: Annotated[Path, typer.Argument(metavar="FILE", parser=path, help="A GGUF file of an instruct model.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", parser=new_path, help="The new Hugging Face folder.")],
) -> None:
    """Turn a GGUF file into a Hugging Face folder.

    The weights become bfloat16 safetensors, so that the model can be trained and saved.
    """
    from lidr import models

    models.import_gguf(file, out)
    _say(f"model: {out}")


for command in (arena.arena, export.export, publish.card, publish.push, review.review, audit.audit):
    app.command()(command)
app.add_typer(lab, name="lab")


@lab.command()
def pretrain(
    out: Annotated[Path, typer.Argument(metavar="OUT", parser=new_path, help="The new model folder.")],
    world: Annotated[str, typer.Option(help="Which laboratory's model: lab, or lab-hard.")] = "lab",
    teacher: Annotated[
        float | None, typer.Option(metavar="SHARE", help="lab-hard: facts that English knows. Default: 0.75.")
    ] = None,
    translation: Annotated[
        float | None, typer.Option(metavar="SHARE", help="lab-hard: things that are translated well. Default: 0.92.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the weights and the order of the corpus.")] = 0,
) -> None:
    """Pre-train a laboratory's model.

    This is how those in the package were made.
    """
    from lidr.lab.pretrain import corpus_of
    from lidr.lab.pretrain import pretrain as pretrain_model

    given = {"teacher": teacher, "translation": translation}
    source = corpus_of(world, **{name: share for name, share in given.items() if share is not None})
    pretrain_model(out, source, seed=seed, log=_say)


def main() -> None:
    """The entry point: an error that the user can fix is printed as a message.

    The exit code is 2 if the command or what it finds is wrong, 1 if the operating system refuses something.
    """
    for name, value in TORCH_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        app()
    except Exception as error:
        from lidr.credentials import mask
        from lidr.system_errors import explain

        message = explain(error)
        if message is None:
            from traceback import format_exc

            print(mask(format_exc()), file=sys.stderr)
            sys.exit(1)
        print(f"error: {mask(message)}", file=sys.stderr)
        sys.exit(error.exit_code if isinstance(error, LidrError) else 1)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Print a hint instead of a traceback at an interrupt (Ctrl-C)."""
    try:
        yield
    except KeyboardInterrupt:
        _say("interrupted; everything finished is kept, the same command continues")
        raise typer.Exit(130) from None


def _evaluate_run(
    path: Path, iteration: int | None, benchmarks: list[str], codes: list[str], settings: list[str], replace: bool
) -> None:
    from lidr.commands import evaluate as standalone
    from lidr.config import load_config
    from lidr.errors import LidrError
    from lidr.replacing import open_run
    from lidr.report import page
    from lidr.report import terminal as tables
    from lidr.run_dir import LOCK_OWNER, RunDir
    from lidr.seals import read_seal
    from lidr.stages.results import write_results

    run_dir, config = RunDir.load(path)
    trained = [number for number in range(1, config.iterations + 1) if read_seal(run_dir.model_folder(number))]
    numbers = [0, *trained] if iteration is None else [_checked(config, iteration, "evaluation")]
    before = config
    overrides = standalone.benchmark_overrides(config, benchmarks, codes, settings, standalone.measured(path))
    if overrides:
        config = load_config(run_dir.recipe, overrides)
        open_run(config, path, _say, replace, option="")
    else:
        _check_replaced(config, run_dir, replace)
    try:
        for number in numbers:
            _run_stages(config, run_dir, number, ("evaluation",))
    except LidrError:
        run_dir.write_recipe(before)  # a benchmark that cannot be run does not stay in the recipe
        raise
    if LOCK_OWNER in os.environ:  # `lidr run` goes on from here
        return
    results = write_results(config, run_dir)
    for model in results.models:
        tables.print_evaluation(config, f"{config.name}: {model.name}", model)
    if page.is_outdated(run_dir):
        page.run(config, run_dir)
    _say(f"report: {path / 'report.html'}")


def _entries(recipe: str, strategies: str, settings: list[str]) -> list[tuple[Entry, Config]]:
    """The strategies that are compared, each with its recipe."""
    from lidr.commands.arena.entries import read_entries
    from lidr.config import load_config

    return [(entry, load_config(recipe, [*settings, *entry.overrides])) for entry in read_entries(strategies)]


def _prices(entries: list[tuple[Entry, Config]], machine: Hardware | None, folder: Path, as_json: bool) -> None:
    import json
    from dataclasses import asdict

    from lidr.commands.arena.prices import find_prices, print_prices

    found = find_prices(entries, machine, folder)
    if as_json:
        print(json.dumps([asdict(price) for price in found], indent=1))
    else:
        print_prices(found)


def _forecast(config: Config, entries: list[tuple[Entry, Config]], run: RunDir) -> None:
    from lidr.commands.arena.forecast import forecast, print_forecasts

    with _interruptible(), run.lock():
        print_forecasts(forecast(config, entries, run))


def _evaluate_model(
    model: str, recipe: str, benchmarks: list[str], codes: list[str], base_url: str | None, out: Path | None,
    settings: list[str], replace: bool,
) -> None:  # fmt: skip
    from lidr import loop
    from lidr.commands import evaluate as standalone
    from lidr.replacing import open_run
    from lidr.settings import trimmed

    model = trimmed(model)
    folder = out or Path("evaluations") / standalone.model_name(model)
    config = standalone.evaluation_config(model, folder, recipe, benchmarks, codes, base_url, settings)
    with _interruptible():
        loop.run(config, open_run(config, folder, _say, replace, option="--out"))
    _say(f"report: {folder / 'report.html'}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _check_replaced(config: Config, run_dir: RunDir, replace: bool) -> None:
    """Refuse to replace finished work, unless `lidr run` has already checked its step."""
    from lidr.replacing import check
    from lidr.run_dir import LOCK_OWNER

    if LOCK_OWNER not in os.environ:
        with run_dir.lock():
            check(config, run_dir, _say, replace)


def _stages(run: Path, iteration: int | None, replace: bool, *stages: str) -> tuple[Config, RunDir, int]:
    """Run stages of one iteration in this process; also returns the iteration."""
    from lidr.run_dir import RunDir
    from lidr.status import first_owed

    run_dir, config = RunDir.load(run)
    _check_replaced(config, run_dir, replace)
    if iteration is None:
        iteration = first_owed(config, run_dir, stages[-1])
    return config, run_dir, _run_stages(config, run_dir, _checked(config, iteration, stages[-1]), stages)


def _checked(config: Config, iteration: int, stage: str) -> int:
    """Check that the recipe has the iteration; evaluation and probe also have iteration 0, the base model."""
    first = 0 if stage in ("evaluation", "probe") else 1
    if not first <= iteration <= config.iterations:
        raise typer.BadParameter(f"this run has iterations {first} to {config.iterations}", param_hint="--iteration")
    return iteration


def _run_stages(config: Config, run_dir: RunDir, iteration: int, stages: tuple[str, ...]) -> int:
    from lidr import loop

    with _interruptible(), run_dir.lock() as lock:
        for stage in stages:
            if loop.step(stage, config.model_copy(update={"isolation": "inline"}), run_dir, iteration, lock):
                continue
            _say(f"iteration {iteration}  {stage}: complete, nothing owed")
    return iteration
