"""`lidr prompts`: samples of prompt sets, prompt sets in other languages, and a model's own prompts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lidr.commands.arguments import new_path, text

if TYPE_CHECKING:
    from lidr.config import PromptFields

app = typer.Typer(help="Prompt sets: draw a sample, translate it, or let the model write one.", no_args_is_help=True)

SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="FILE|DATASET", parser=text, help="A table, a folder of <language> tables, or a data set's hub id."
    ),
]
FieldOption = Annotated[
    list[str] | None,
    typer.Option("--field", metavar="a=b", help="A column's name, such as text=question or id=null; repeatable."),
]
SplitOption = Annotated[str, typer.Option(help="Split of a Hugging Face data set.")]
ConfigurationOption = Annotated[str | None, typer.Option(help="Configuration of a Hugging Face data set.")]


@app.command()
def sample(
    source: SourceArgument,
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="How many prompts.")],
    out: Annotated[
        Path,
        typer.Option(
            metavar="PATH",
            parser=new_path,
            help="A .jsonl file; a folder if the source is one of <language> tables.",
        ),
    ],
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 42,
    language: Annotated[str, typer.Option(help="Language of the prompts.")] = "en",
    min_characters: Annotated[int, typer.Option(min=1, help="Leave out shorter prompts.")] = 1,
    max_characters: Annotated[int | None, typer.Option(min=1, help="Leave out longer prompts.")] = None,
    near: Annotated[float, typer.Option(help="Jaccard index of near duplicates, 0.3 to 1; 0 keeps them.")] = 0.8,
    stratify: Annotated[str | None, typer.Option(metavar="FIELD", help="Keep this field's proportions.")] = None,
    task: Annotated[
        Literal["general", "arithmetic"], typer.Option(help="arithmetic: ask for reasoning in the language.")
    ] = "general",
    field: FieldOption = None,
    split: SplitOption = "train",
    configuration: ConfigurationOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is in the way.")] = False,
) -> None:
    """Draw prompts: by a seed, without duplicates, within bounds.

    Of a folder of <language> tables the same ids are drawn in every language; those that a language lacks are left out.
    The same command gives the same sample.
    """
    from lidr.commands.prompts.sampling import Wanted, write_sample
    from lidr.commands.prompts.show import print_sample

    wanted = Wanted(n, seed, min_characters, max_characters, near or None, stratify)
    made = write_sample(source, out, wanted, parse_fields(field), split, configuration, language, task, force)
    print_sample(made, wanted)
    _say(f"prompts: {out}")


def parse_fields(given: list[str] | None) -> PromptFields:
    """`--field a=b ...` as the recipe's map of fields. Raises ConfigError for an unknown field."""
    from pydantic import ValidationError

    from lidr.config import PromptFields
    from lidr.errors import ConfigError

    values: dict[str, str | None] = {}
    for item in given or []:
        name, equals, text = item.partition("=")
        if not equals:
            raise ConfigError(f"--field {item}: write it as field=column, for example text=question")
        values[name.strip()] = None if text == "null" else text.replace("\\n", "\n")
    try:
        return PromptFields.model_validate(values)
    except ValidationError as error:
        known = ", ".join(PromptFields.model_fields)
        raise ConfigError(
            f"--field {error.errors()[0]['loc'][0]}: the fields are {known}, each a column's name"
        ) from None


@app.command()
def localize(
    source: SourceArgument,
    to: Annotated[str, typer.Option(metavar="es,fr,...", help="Languages to translate into.")],
    from_: Annotated[str, typer.Option("--from", help="Language of the prompts.")] = "en",
    out: Annotated[
        Path,
        typer.Option(metavar="PATH", parser=new_path, help="The folder of <language>.jsonl files, for prompts.path."),
    ] = Path("prompts"),
    with_: Annotated[
        str,
        typer.Option("--with", help="google, model (an LLM), seq2seq (NLLB ...), ctranslate2, or file.py:Name."),
    ] = "google",
    model: Annotated[str | None, typer.Option(help="Folder, hub id, GGUF file, or the name on a server.")] = None,
    base_url: Annotated[str | None, typer.Option(help="An OpenAI-compatible server that has the model.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first n prompts.")] = None,
    max_usd: Annotated[float, typer.Option(help="Refuse to spend more; for google.")] = 10.0,
    usd_per_million_characters: Annotated[float | None, typer.Option(help="Your price; for google.")] = None,
    project: Annotated[str | None, typer.Option(help="Google Cloud project. Default: GOOGLE_CLOUD_PROJECT.")] = None,
    location: Annotated[str | None, typer.Option(help="Google Cloud location. Default: global.")] = None,
    api_endpoint: Annotated[str | None, typer.Option(help="Another address of Google's service.")] = None,
    field: FieldOption = None,
    split: SplitOption = "train",
    configuration: ConfigurationOption = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="a=b", help="Override a field of its engine, or its own.")
    ] = None,
) -> None:
    """Translate prompts, aligned by id; what loses something is set aside.

    Placeholders, code, addresses, numbers and line breaks are checked. The same command continues an interrupted one
    and pays for nothing twice.
    """
    from contextlib import closing
    from itertools import islice

    from lidr.commands.prompts.show import print_translation
    from lidr.commands.prompts.translation import translate_prompts
    from lidr.commands.prompts.translators import open_translator
    from lidr.stages.prompt_files import read_prompts

    targets = parse_languages(to, "--to")
    sources = parse_languages(from_, "--from")
    if len(sources) > 1:
        raise typer.BadParameter("one language", param_hint="--from")
    from_ = sources[0]
    if from_ in targets:
        raise typer.BadParameter(f"{from_} is the language of the prompts", param_hint="--to")
    fields = parse_fields(field)
    read = {"split": split, "configuration": configuration, "language": from_}
    given = {"model": model, "project": project, "location": location, "api_endpoint": api_endpoint,
             "usd_per_million_characters": usd_per_million_characters}  # fmt: skip
    with closing(open_translator(with_, given, base_url, set_)) as translator:
        outcomes = translate_prompts(
            lambda: (prompt for prompt, _ in islice(read_prompts(source, fields, **read), limit)),  # type: ignore[arg-type]
            translator, from_, targets, out, made_from=source, max_usd=max_usd, say=_say,
        )  # fmt: skip
    print_translation(outcomes)
    _say(f"prompts: {out}")


@app.command()
def invent(
    source: Annotated[
        str,
        typer.Argument(metavar="RECIPE|MODEL", parser=text, help="A recipe, for its model, engine and languages; or a "
                       "model's folder, hub id or GGUF file."),
    ],
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", parser=new_path, help="The folder of <language>.jsonl files, for prompts.path."),
    ],
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many prompts.")] = 1000,
    language: Annotated[
        str | None, typer.Option(help="Language that they are written in. Default: the recipe's dominant one; en.")
    ] = None,
    to: Annotated[
        str | None, typer.Option(metavar="es,fr,...", help="Languages to translate into. Default: the recipe's; none.")
    ] = None,
    system: Annotated[
        str | None, typer.Option(help="System turn before the user's: it sets the topic. Default: the template's.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the draw. Default: the recipe's.")] = None,
    temperature: Annotated[float, typer.Option(min=0.001, help="Of the sampled turns.")] = 1.0,
    top_p: Annotated[float, typer.Option(min=0.001, max=1.0, help="Nucleus of the sampled turns.")] = 0.95,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Drop longer turns, in tokens.")] = 512,
    min_characters: Annotated[int, typer.Option(min=1, help="Drop shorter turns.")] = 15,
    max_characters: Annotated[int, typer.Option(min=1, help="Drop longer turns.")] = 2000,
    near: Annotated[float, typer.Option(help="Jaccard index of near duplicates, 0.3 to 1; 0 keeps them.")] = 0.7,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="a.b=c", help="Override a field.")] = None,
) -> None:  # fmt: skip
    """Let the model write its prompts itself, and translate them: a run needs no data then.

    The user's turn is sampled from the bare chat template (Magpie, arXiv 2406.08464). Turns that are no prompts are
    dropped, each for one counted reason. The same command continues an interrupted one, and a higher --count keeps
    what is there.
    """
    from lidr.commands.prompts.invention import Wanted, recipe_of, write_invented
    from lidr.commands.prompts.show import print_invented, print_translation
    from lidr.commands.prompts.user_turns import Bounds
    from lidr.engines import Sampling

    config, codes = recipe_of(source, set_ or [])
    given = parse_languages(language, "--language") if language else [config.dominant]
    if len(given) > 1:
        raise typer.BadParameter(f"{language}: the prompts are written in one language", param_hint="--language")
    written_in = given[0]
    targets = parse_languages(to, "--to") if to else [code for code in codes if code != written_in]
    if written_in in targets:
        raise typer.BadParameter(f"{written_in} is the language of the prompts", param_hint="--to")
    sampling = Sampling(max_new_tokens, temperature, top_p, seed=config.seed if seed is None else seed)
    bounds = Bounds(min_characters, max_characters, near or None)
    wanted = Wanted(count, written_in, system, sampling, bounds)
    made, outcomes = write_invented(config, wanted, targets, out, _say)
    print_invented(made, count)
    if outcomes:
        print_translation(outcomes)
    _say(f"prompts: {out}")


def parse_languages(text: str, option: str) -> list[str]:
    """Codes with commas. Raises ConfigError for one that the table does not know."""
    from lidr.errors import ConfigError
    from lidr.languages import get_language

    try:
        codes = [get_language(code.strip()).code for code in text.split(",") if code.strip()]
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from None
    if not codes:
        raise ConfigError(f"{option}: no language is named")
    return codes


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
