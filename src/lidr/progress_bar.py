"""One live line per step on a terminal, one plain line every few seconds elsewhere (a log file, CI)."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

PLAIN_INTERVAL_S = 15.0


class Progress:
    """Counts what a step has done and shows it: rows/s, tokens/s, time left, rows that failed or were dropped."""

    def __init__(self, title: str, total: int, kept: int = 0) -> None:
        self.title, self.total, self.rows, self.kept = title, total, kept, kept
        self.tokens = self.dropped = 0
        self.started = self._last_plain = time.monotonic()
        self._bar: Bar | None = None
        self._task: TaskID

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def advance(self, rows: int = 1, tokens: int = 0, dropped: int = 0) -> None:
        if self._bar is None and time.monotonic() - self._last_plain >= PLAIN_INTERVAL_S:
            self._last_plain = time.monotonic()
            # Rows come in batches: the line is written before a batch's first row is counted, when the rates are whole.
            if self.rows > self.kept:
                print(f"{self.title}  {self.rows}/{self.total}  {self._detail()}", file=sys.stderr, flush=True)
        self.rows += rows
        self.tokens += tokens
        self.dropped += dropped
        if self._bar is not None:
            self._bar.update(self._task, completed=self.rows, detail=self._detail())

    def say(self, line: str) -> None:
        """Print a line of its own, above the bar if there is one."""
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)

    def _detail(self) -> str:
        seconds = max(self.seconds, 1e-6)
        rate = (self.rows - self.kept) / seconds
        parts = [f"{rate:.1f} rows/s"]
        if self.tokens:
            parts.append(f"{self.tokens / seconds:.0f} tokens/s")
        if rate > 0 and self.rows < self.total:
            parts.append(f"{duration((self.total - self.rows) / rate)} left")
        if self.dropped:
            parts.append(f"{self.dropped} dropped")
        return ", ".join(parts)

    def summary(self) -> str:
        again = f", {self.kept} kept from before" if self.kept else ""
        return f"{self.title}  {self.rows} in {duration(self.seconds)} ({self._detail()}{again})"


@contextmanager
def track(title: str, total: int, kept: int = 0) -> Iterator[Progress]:
    """Show the progress of a step that has `total` rows, `kept` of them done by an earlier attempt."""
    progress = Progress(title, total, kept)
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        columns = [
            TextColumn("{task.description}"),
            BarColumn(24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
        ]
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            progress._bar = bar
            progress._task = bar.add_task(title, total=total, completed=kept, detail="")
            yield progress
        progress._bar = None
    else:
        yield progress
    if total:
        print(progress.summary(), file=sys.stderr, flush=True)


def duration(seconds: float | None) -> str:
    """Seconds as people say them; a dash if they are unknown."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
