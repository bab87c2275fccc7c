"""Documents as text: plain, Markdown or PDF; and whether one has a quotation, word for word."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lidr.errors import ConfigError, DataError

AGREEMENT = "agreement.json"  # a file among the audits
SUFFIXES = (".txt", ".md", ".markdown", ".pdf")
# A shorter quotation, such as "the model", is in nearly every document and is evidence of nothing.
SHORTEST_QUOTATION = 12
# Typographic variants that a PDF's text layer and a model write differently; the last is the soft hyphen.
_SAME = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "‐": "-", "‑": "-", "–": "-", "—": "-", "−": "-", "\u00ad": "-"}
)
_PIECE = re.compile(r"(?<=[^\W\d_])-\s*(?=[^\W\d_])|[\u200b\ufeff]|(?P<space>\s+)|(?P<character>.)")


@dataclass(frozen=True)
class Passage:
    """A piece of a document, word for word. `place` tells a reader where: `page 3` or `line 120`."""

    text: str
    place: str


@dataclass(frozen=True)
class Document:
    """`pages` are those of a PDF; a text has one. Positions count characters of `text`."""

    name: str
    pages: tuple[str, ...]
    paged: bool = False

    @cached_property
    def text(self) -> str:
        return "\n".join(self.pages)

    def find(self, quotation: str) -> Passage | None:
        """Where a quotation is, regardless of white space, hyphenation, ligatures and the form of quotes and dashes.

        None if it is not found, or is shorter than `SHORTEST_QUOTATION` characters.
        """
        wanted = "".join(character for character, _ in _normalized(unicodedata.normalize("NFC", quotation.strip())))
        if len(wanted) < SHORTEST_QUOTATION:
            return None
        found = self._searchable[0].find(wanted)
        if found < 0:
            return None
        positions = self._searchable[1]
        return self.passage(positions[found], positions[found + len(wanted) - 1] + 1)

    def passage(self, start: int, end: int) -> Passage:
        """The text from `start` to `end`, without white space around it and on one line."""
        start += len(self.text[start:end]) - len(self.text[start:end].lstrip())
        if self.paged:
            place = f"page {bisect_right(self.page_starts, start)}"
        else:
            place = f"line {self.text.count(chr(10), 0, start) + 1}"
        return Passage(" ".join(self.text[start:end].split()), place)

    @cached_property
    def _searchable(self) -> tuple[str, list[int]]:
        """The normalised text, and the position in `text` that each of its characters comes from."""
        pairs = list(_normalized(self.text))
        return "".join(character for character, _ in pairs), [position for _, position in pairs]

    @cached_property
    def page_starts(self) -> list[int]:
        starts = [0]
        for page in self.pages[:-1]:
            starts.append(starts[-1] + len(page) + 1)
        return starts


def _normalized(text: str) -> Iterator[tuple[str, int]]:
    """(character, its position in `text`): NFKC, any white space as one space, nothing invisible.

    A hyphen between letters is left out together with white space after it, so that a word broken at a line's end, the
    same word in one piece, and `state-of-the-art` in any layout are equal. A hyphen between digits is a range, and
    stays.
    """
    for match in _PIECE.finditer(text.translate(_SAME)):
        if match["space"]:
            yield " ", match.start()
        elif match["character"]:
            for character in unicodedata.normalize("NFKC", match["character"]):
                yield character, match.start()


def find_documents(sources: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """(documents, kept audits) that `sources` name: files, or folders of either.

    In a folder, an audit's own page, which is beside its JSON file, is not a document. Raises DataError if there is no
    file, or two of one name.
    """
    documents: list[Path] = []
    kept: list[Path] = []
    for source in sources:
        if not source.is_dir():
            (kept if source.suffix == ".json" else documents).append(source)
            continue
        files = sorted(path for path in source.iterdir() if path.is_file() and not path.name.startswith("."))
        found = [path for path in files if path.suffix.lower() in SUFFIXES and not _is_own_page(path, files)]
        audits = [path for path in files if path.suffix == ".json" and Path(path.stem).suffix.lower() in SUFFIXES]
        if not found and not audits:
            raise DataError(f"{source}: no document in it; documents are {', '.join(SUFFIXES)}")
        (documents if found else kept).extend(found or audits)
    names = [path.name for path in [*documents, *kept]]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise DataError(f"there are two files {twice}; a document is known by its file's name, so rename one")
    return documents, kept


def _is_own_page(path: Path, files: Sequence[Path]) -> bool:
    """`paper.pdf.md` beside `paper.pdf.json`, or agreement.md beside agreement.json."""
    named = Path(path.stem).suffix.lower() in SUFFIXES or f"{path.stem}.json" == AGREEMENT
    return path.suffix == ".md" and named and path.with_suffix(".json") in files


def read_document(path: Path) -> Document:
    """A `.txt`, `.md` or `.pdf` file. Raises DataError if it has no text, ConfigError without `lidr[pdf]`."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path}: a document is one of {', '.join(SUFFIXES)}; convert it to text or PDF")
    try:
        is_pdf = path.suffix.lower() == ".pdf"
        pages = _read_pdf(path) if is_pdf else [path.read_text(encoding="utf-8-sig")]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not any(page.strip() for page in pages):
        remedy = "it may be scanned: run an OCR program on it first" if is_pdf else "it is empty"
        raise DataError(f"{path}: no text in it; {remedy}")
    return Document(path.name, tuple(unicodedata.normalize("NFC", page) for page in pages), paged=is_pdf)


def _read_pdf(path: Path) -> list[str]:
    try:
        from pypdf import PdfReader
        from pypdf.errors import DependencyError, PyPdfError
    except ImportError:
        raise ConfigError(f"{path}: PDF files need `pip install 'lidr[pdf]'`") from None
    try:
        # A PDF may hold halves of surrogate pairs, which no file takes.
        return [
            page.extract_text().encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            for page in PdfReader(path).pages
        ]
    except DependencyError as error:
        raise ConfigError(f"{path}: an encrypted PDF ({error}); pip install 'pypdf[crypto]'") from None
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: not a PDF that can be read ({error}); convert it to text") from None


def windows(document: Document, size: int) -> list[tuple[int, int]]:
    """The document in pieces of at most `size` characters, (start, end) each, that overlap by a tenth.

    A piece ends at a page or, failing that, a paragraph, a line or a word in its last third, so that a sentence is cut
    only if the text has none of these; the overlap keeps what is at a cut whole in one of the two pieces.
    """
    pieces: list[tuple[int, int]] = []
    text, start = document.text, 0
    page_ends = [begin - 1 for begin in document.page_starts[1:]]
    while True:
        if len(text) - start <= size:
            return [*pieces, (start, len(text))]
        earliest, latest = start + 2 * size // 3, start + size
        end = max((cut for cut in page_ends if earliest <= cut <= latest), default=-1)
        for mark in ("\n\n", "\n", " "):
            end = end if end >= 0 else text.rfind(mark, earliest, latest)
        end = end if end >= 0 else latest
        pieces.append((start, end))
        start = end - size // 10
