"""The data set card: what the pairs are, how many, how they were made, and how they are loaded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from lidr.cards.base import (
    Published,
    base_model,
    code_block,
    given_license,
    hub_link,
    license_fields,
    render_card,
)
from lidr.cards.collect import RunFacts
from lidr.config import LABORATORIES
from lidr.records import Json
from lidr.report.document import Entry, Row, Table
from lidr.report.formatting import join_names, language_name
from lidr.report.markdown import SafeMarkdown
from lidr.report.pairs import pair_table
from lidr.results import IterationResults
from lidr.run_dir import RunDir

if TYPE_CHECKING:
    from huggingface_hub import DatasetCardData

# What the pairs depend on; the rest of the recipe is about training and measuring.
_RECIPE = (
    "model", "languages", "dominant", "iterations", "seed", "system_prompt", "prompts", "responses", "translations",
    "pairs",
)  # fmt: skip
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
          (10_000_000, "1M<n<10M"))  # fmt: skip
ALL = "all"  # the configuration with every language


def data_path(code: str, iteration: int) -> str:
    """Where the pairs of a language and an iteration are in the data set's repository."""
    return f"data/{code}/iteration_{iteration}.jsonl"


def data_files(facts: RunFacts, run: RunDir) -> dict[str, Path]:
    """Path in the repository -> file of the run, for every file with a pair in it."""
    return {
        data_path(code, entry.iteration): run.pairs(entry.iteration, code)
        for entry in facts.entries
        for code, count in entry.pairs.items()
        if count
    }


def data_card(facts: RunFacts, published: Published) -> str:
    """The text of README.md in the data set's repository."""
    config = facts.config
    settings = config.model_dump(mode="json", include=set(_RECIPE))
    _, base = base_model(config, facts.base_id, published)
    context = {
        "config": config,
        "base": base,
        "model_repo": hub_link(published.model_repo) if published.model_repo else None,
        "license": given_license(config, published),
        "weak": join_names([language_name(code) for code in config.non_dominant]),
        "languages": join_names([language_name(code) for code in _with_pairs(facts, facts.entries)]),
        "total": facts.total,
        "counts": _count_table(facts),
        "tables": [pair_table(entry, {}, config) for entry in facts.entries],
        "too_long": sum(facts.too_long.values()),
        "usage": _usage(facts, published),
        "samples": facts.samples,
        "prompt_source": _prompt_source(facts),
        "recipe": yaml.safe_dump(settings, sort_keys=False, allow_unicode=True),
    }
    return render_card("card_data.md", _metadata(facts, published), context)


def _metadata(facts: RunFacts, published: Published) -> DatasetCardData:
    from huggingface_hub import DatasetCardData

    config = facts.config
    return DatasetCardData(
        pretty_name=f"{config.name}: preference pairs",
        language=list(config.languages),
        **license_fields(given_license(config, published)),
        annotations_creators=["machine-generated"],
        language_creators=["machine-generated"],
        multilinguality=["multilingual"],
        size_categories=[next((name for limit, name in _SIZES if facts.total < limit), "10M<n<100M")],
        source_datasets=[facts.prompts_id] if facts.prompts_id else None,
        task_categories=["text-generation"],
        tags=["lidr", "preference", "dpo", "synthetic"],
        configs=_configs(facts) or None,
    )


def _configs(facts: RunFacts) -> list[Json]:
    """One configuration per language, one split per iteration; without a name, all languages are loaded."""
    by_split: dict[str, list[str]] = {}
    by_language: dict[str, list[dict[str, str]]] = {}
    for entry in facts.entries:
        split = f"iteration_{entry.iteration}"
        for code in _with_pairs(facts, [entry]):
            path = data_path(code, entry.iteration)
            by_split.setdefault(split, []).append(path)
            by_language.setdefault(code, []).append({"split": split, "path": path})
    everything = [{"split": split, "path": paths} for split, paths in by_split.items()]
    configs: list[Json] = [{"config_name": ALL, "default": True, "data_files": everything}] if everything else []
    return configs + [
        {"config_name": code, "data_files": by_language[code]} for code in _with_pairs(facts, facts.entries)
    ]


def _with_pairs(facts: RunFacts, entries: Iterable[IterationResults]) -> list[str]:
    """The languages that have a pair, the dominant one last."""
    order = [*facts.config.non_dominant, facts.config.dominant]
    return [code for code in order if any(entry.pairs.get(code) for entry in entries)]


def _count_table(facts: RunFacts) -> Table:
    header = ["Language", *(f"Iteration {entry.iteration}" for entry in facts.entries)]
    rows = [
        Row(Entry(language_name(code)), [Entry(f"{entry.pairs.get(code, 0):,}") for entry in facts.entries])
        for code in [*facts.config.non_dominant, facts.config.dominant]
    ]
    rows.append(Row(Entry("All"), [Entry(f"{sum(entry.pairs.values()):,}") for entry in facts.entries]))
    return Table("Pairs", header, rows)


def _usage(facts: RunFacts, published: Published) -> SafeMarkdown:
    name = published.data_repo or "path/to/this/folder"
    last = [entry for entry in facts.entries if sum(entry.pairs.values())][-1:]
    language = next(iter(_with_pairs(facts, last)), facts.config.non_dominant[0])
    number = last[0].iteration if last else facts.iteration
    return code_block(
        [
            "from datasets import load_dataset",
            "",
            f"pairs = load_dataset({name!r}, {language!r}, split='iteration_{number}')",
            f"everything = load_dataset({name!r})  # all languages, one split per iteration",
        ]
    )


def _prompt_source(facts: RunFacts) -> str:
    """Where the prompts are from, as a sentence names it; of a folder only the last part is named."""
    path = facts.config.prompt_source.path
    if path in LABORATORIES:
        return "the laboratory of lidr, a small made-up world"
    if facts.prompts_id:
        return hub_link(facts.prompts_id, "datasets/")
    return f"a prompt set called {Path(path).name}"
