"""A run's preference pairs in the formats of other tools: one file per tool, one line here."""

from __future__ import annotations

from lidr.commands.export import axolotl, llamafactory, nemo_rl, openrlhf, parquet, trl
from lidr.commands.export.base import ExportFormat

EXPORTS: dict[str, ExportFormat] = {
    "trl": trl.FORMAT,
    "llamafactory": llamafactory.FORMAT,
    "nemo-rl": nemo_rl.FORMAT,
    "axolotl": axolotl.FORMAT,
    "openrlhf": openrlhf.FORMAT,
    "parquet": parquet.FORMAT,
}
