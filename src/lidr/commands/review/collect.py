"""Writes sheets from a run and reads verdicts into it, with `sheet`, `read` and `summary`.

RUN/review/review-<run>-<language>.html   the sheets
RUN/review/verdicts/*.json                every file of verdicts that was read, one per reviewer and sheet
RUN/review/verdicts.jsonl                 all verdicts with the ids of the run's pairs
RUN/review/summary.json                   accuracy and agreement
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lidr.commands.review.read import Judged, VerdictFile, check_once, check_sheet, join, parse_verdicts
from lidr.commands.review.sheet import Sheet, render_page, sample_pairs
from lidr.commands.review.summary import ReviewSummary, summarise
from lidr.config import Config
from lidr.errors import DataError, RunError
from lidr.records import content_id
from lidr.replacing import check_current
from lidr.results import read_imbalance
from lidr.run_dir import RunDir
from lidr.seals import digest
from lidr.stages.pairs import read_pairs
from lidr.storage import make_folder, write_text

Say = Callable[[str], None]


def review_folder(run: RunDir) -> Path:
    return run.path / "review"


def open_sheet(config: Config, run: RunDir, iteration: int, language: str, seed: int) -> Sheet:
    """The sheet of a language. Raises RunError if the iteration has no complete file of pairs for it."""
    if not 1 <= iteration <= config.iterations:
        raise RunError(f"{run.path} has no iteration {iteration} (its recipe has {config.iterations})")
    if language not in config.languages:
        raise RunError(f"{run.path} has no language {language!r}; its recipe has {', '.join(config.languages)}")
    return Sheet(config.name, iteration, language, seed, digest(run.pairs(iteration, language)))


def write_sheets(
    config: Config,
    run: RunDir,
    iteration: int,
    languages: Sequence[str],
    size: int,
    seed: int,
    out: Path | None,
    say: Say,
) -> list[Path]:
    """Write a page per language to the folder `out` or, if it ends with .html, to that file. Returns their paths."""
    is_page = out is not None and out.suffix.lower() in (".html", ".htm")
    if is_page and len(languages) > 1:
        raise RunError(f"{out} would be one page of one language; add --languages CODE, or give --out a folder's name")
    check_current(config, run, iteration)
    pages: dict[Path, str] = {}
    for language in languages:
        sheet = open_sheet(config, run, iteration, language, seed)
        drawn = sample_pairs(read_pairs(run, iteration, language), size, seed)
        if not drawn:
            say(f"{language}: iteration {iteration} has no pair")
            continue
        if len(drawn) < size:
            say(f"{language}: iteration {iteration} has pairs for {len(drawn)} prompts, fewer than {size}")
        path = out if out and is_page else (out or review_folder(run)) / f"review-{config.name}-{language}.html"
        pages[path] = render_page(sheet, drawn)
    if not pages:
        raise RunError(
            f"{run.path} has no pair in iteration {iteration} to be reviewed; `lidr status` says what it has"
        )
    for path, text in pages.items():
        make_folder(path.parent)
        write_text(path, text)
    return list(pages)


@dataclass(frozen=True, slots=True)
class _Read:
    """A file of verdicts: its path, its text, its parsed content, and its verdicts joined with the pairs."""

    name: str
    text: str
    found: VerdictFile
    judged: list[Judged]

    @property
    def kept_as(self) -> str:
        """The file's name in the run: one for each reviewer and sheet, so a later file replaces an earlier one."""
        owner = content_id(self.found.sheet, self.found.reviewer.identity)[:8]
        parts = f"{self.found.language}-iteration_{self.found.iteration}", _plain(self.found.reviewer.identity), owner
        return "-".join(part for part in parts if part) + ".json"


def read_verdicts(config: Config, run: RunDir, paths: Sequence[Path], say: Say) -> ReviewSummary:
    """Read files of verdicts, keep them with those read before, and write and return the summary of all.

    A given file replaces a kept one of the same reviewer and sheet. Kept ones about pairs that the run no longer has
    are left out with a message. If a file is wrong, DataError is raised and nothing is written.
    """
    given = [_read(config, run, path) for path in dict.fromkeys(paths)]
    _check_owners(given)
    folder = review_folder(run) / "verdicts"
    owners = {file.kept_as for file in given}
    kept = []
    for path in sorted(folder.glob("*.json")):
        if path.name in owners:
            continue
        try:
            kept.append(_read(config, run, path))
        except _OtherPairsError as error:
            say(f"left out: {error}")
    files = kept + given
    if not files:
        raise DataError(f"{run.path} has no verdicts yet; give --read the files that reviewers have sent back")
    check_once([(file.name, file.found, file.judged) for file in files])
    judged = [verdict for file in files for verdict in file.judged]
    judged.sort(key=lambda v: (v.iteration, v.language, v.prompt_id, v.pair_id, v.reviewer))
    make_folder(folder)
    for file in given:
        write_text(folder / file.kept_as, file.text)
    summary = summarise(config.name, judged, read_imbalance(run), [file.kept_as for file in files])
    write_text(review_folder(run) / "verdicts.jsonl", "".join(verdict.to_json() + "\n" for verdict in judged))
    write_text(review_folder(run) / "summary.json", json.dumps(asdict(summary), indent=1, ensure_ascii=False) + "\n")
    return summary


class _OtherPairsError(DataError):
    """Verdicts about pairs that the run does not have."""


def _read(config: Config, run: RunDir, path: Path) -> _Read:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); give the file as the review page saved it") from None
    found = parse_verdicts(text, str(path))
    try:
        sheet = open_sheet(config, run, found.iteration, found.language, found.seed)
        check_sheet(found, sheet, str(path))
    except RunError as error:
        raise _OtherPairsError(f"{path}: these verdicts are about run {found.run!r}, not this one: {error}") from None
    except DataError as error:
        raise _OtherPairsError(str(error)) from None
    judged = join(found, sheet, read_pairs(run, found.iteration, found.language), str(path))
    return _Read(str(path), text, found, judged)


def _check_owners(files: Sequence[_Read]) -> None:
    seen: dict[str, str] = {}
    for file in files:
        if other := seen.get(file.kept_as):
            raise DataError(
                f"{file.name}: {file.found.reviewer.name!r} has judged the same sheet in {other}; give one of the "
                f"two files alone, the later one as a rule (this one was saved at {file.found.saved})"
            )
        seen[file.kept_as] = file.name


def _plain(name: str) -> str:
    """A name fit for a file: letters and digits of any script, and hyphens."""
    return re.sub(r"\W+", "-", name).strip("-")[:60]
