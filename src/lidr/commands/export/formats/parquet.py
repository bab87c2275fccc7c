"""Parquet: one file with every column, as texts; `--conversational` makes the three of them lists of messages."""

from __future__ import annotations

from typing import ClassVar

from lidr.commands.export.formats.base import Export, ExportedPair, ExportFormat, conversation, fenced, texts
from lidr.records import Json


class Parquet(ExportFormat):
    """Parquet: one file with every column, as texts; `--conversational` makes the three of them lists of messages."""

    title: ClassVar[str] = "Parquet"
    plain_by_default: ClassVar[bool] = True
    suffix: ClassVar[str] = ".parquet"

    def columns(self, item: ExportedPair, plain: bool) -> Json:
        return {"system_prompt": item.system_prompt, **texts(item)} if plain else conversation(item)

    def usage(self, export: Export) -> str:
        code = """
import pandas
from datasets import load_dataset

table = pandas.read_parquet("train.parquet")
pairs = load_dataset("parquet", data_files="train.parquet", split="train")
"""
        return fenced("python", code)
