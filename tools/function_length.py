"""Fails when a function has more than 60 lines: `python tools/function_length.py DIR...`."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

LIMIT = 60


def too_long(folder: Path) -> list[str]:
    """`file:line: name has n lines` of every function over the limit."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > LIMIT:
                    found.append(f"{path}:{node.lineno}: {node.name} has {lines} lines, the limit is {LIMIT}")
    return found


if __name__ == "__main__":
    problems = [line for folder in sys.argv[1:] for line in too_long(Path(folder))]
    print("\n".join(problems) or "no function is too long")
    sys.exit(bool(problems))
