"""Parquet: one file with every column, as texts; `--conversational` makes the three of them lists of messages."""

from __future__ import annotations

from typing import Any

from lidr.commands.export.base import Export, ExportedPair, ExportFormat, conversation, fenced, texts


def columns(item: ExportedPair, plain: bool) -> dict[str, Any]:
    return {"system_prompt": item.system_prompt, **texts(item)} if plain else conversation(item)


def usage(export: Export) -> str:
    code = """
import pandas
from datasets import load_dataset

table = pandas.read_parquet("train.parquet")
pairs = load_dataset("parquet", data_files="train.parquet", split="train")
"""
    return fenced("python", code)


FORMAT = ExportFormat("Parquet", columns, usage, plain_by_default=True, suffix=".parquet")
