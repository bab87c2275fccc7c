"""Questions of the proof in lidr's form: one `<language>.jsonl` per language, the same id for the same question.

python tools/proof/prepare.py GSM8K_FOLDER OUT

GSM8K_FOLDER has `train_<language>.jsonl` (`instruction`, `final_answer`), aligned by position; their own ids differ by
language, so rows are numbered. English is not among them: it is made from one of them, with
`lidr prompts translate OUT/es.jsonl --from es --to en --with model`. The last questions are no prompts but lie in
OUT/held_out, in MGSM's form, for `tune.py`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from evidence import write_rows

HELD_OUT = 100  # questions per language


def prepare(source: Path, out: Path) -> dict[str, int]:
    """Number of prompts by language. Raises ValueError where languages are not aligned: a row's number differs."""
    files = {path.stem.removeprefix("train_"): path for path in sorted(source.glob("train_*.jsonl"))}
    tables = {code: [json.loads(line) for line in path.open(encoding="utf-8")] for code, path in files.items()}
    for number, rows in enumerate(zip(*tables.values(), strict=True)):
        if len({row["final_answer"] for row in rows}) != 1:
            raise ValueError(f"{source}: row {number + 1} has different answers in {', '.join(tables)}")
    for code, table in tables.items():
        prompts = (
            {"id": f"gsm8k-{number:05d}", "instruction": row["instruction"], "answer": row["final_answer"]}
            for number, row in enumerate(table[:-HELD_OUT])
        )
        write_rows(out / f"{code}.jsonl", prompts)
        asked = ({"query": row["instruction"], "response": row["final_answer"]} for row in table[-HELD_OUT:])
        write_rows(out / "held_out" / f"{code}.jsonl", asked)
    return {code: len(table) - HELD_OUT for code, table in tables.items()}


if __name__ == "__main__":
    print(prepare(Path(sys.argv[1]), Path(sys.argv[2])))
