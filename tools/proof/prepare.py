"""GSM8K's training questions as prompts, and the last of them for tuning.

python tools/proof/prepare.py GSM8K_FOLDER OUT [N]

GSM8K_FOLDER has `train_<language>.jsonl` (`instruction`, `final_answer`), aligned by position. OUT/prompts gets all
rows but the last 500 as they are, or of these the N that are shortest in English, in an order of their own;
OUT/held_out gets the last 500 in MSVAMP's form, for settings to be tried on them.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

HELD_OUT = 500  # questions per language
SEED = 7  # of the order of the shortest


def prepare(source: Path, out: Path, shortest: int | None = None) -> dict[str, int]:
    """The number of prompts by language. Raises ValueError if the languages are not aligned: a row's number differs."""
    files = {path.stem.removeprefix("train_"): path for path in sorted(source.glob("train_*.jsonl"))}
    tables = {code: [json.loads(line) for line in path.open(encoding="utf-8")] for code, path in files.items()}
    for number, rows in enumerate(zip(*tables.values(), strict=True), 1):
        if len({row["final_answer"].replace(",", "") for row in rows}) != 1:
            raise ValueError(f"{source}: row {number} has different answers in {', '.join(tables)}")
    kept = list(range(len(tables["en"]) - HELD_OUT))
    if shortest:
        kept = sorted(kept, key=lambda place: len(tables["en"][place]["instruction"]))[:shortest]
        random.Random(SEED).shuffle(kept)
    for code, table in tables.items():
        write_rows(out / "prompts" / f"{code}.jsonl", [table[place] for place in kept])
        asked = [{"query": row["instruction"], "response": row["final_answer"]} for row in table[-HELD_OUT:]]
        write_rows(out / "held_out" / f"{code}.jsonl", asked)
    return dict.fromkeys(tables, len(kept))


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    print(prepare(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None))
