"""`lidr prompts`: samples of prompt sets, and prompt sets in other languages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lidr.commands.arguments import new_path, text

if TYPE_CHECKING:
    from lidr.config import PromptFields

app = typer.Typer(help="Prompt sets: draw a sample, translate it.", no_args_is_help=True)

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
