"""The page that a native speaker judges: sampled pairs of one language, whose order of sides gives nothing away.

The page's source gives nothing away either. A hash keyed with the SHA-256 of the run's file of pairs, which is not in
the page, decides which side is A and makes the names of the pairs. A pair's own id cannot be its name: it is a hash of
chosen and rejected in this order, which anybody could compute.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files

from lidr.languages import LANGUAGES
from lidr.records import Json, PreferencePair, content_id
from lidr.report.formatting import language_name, printable

SCHEMA = 1
VERDICTS_KIND = "lidr-review-verdicts"
LEVELS = ("native", "fluent", "learner")
_RTL_SCRIPTS = ("Arabic", "Hebrew")


@dataclass(frozen=True, slots=True)
class Sheet:
    """Which pairs a sheet is about, and in which order their sides are shown.

    `key` is the SHA-256 of the language's file of pairs; it never goes into a page or a file of verdicts.
    """

    run: str
    iteration: int
    language: str
    seed: int
    key: str

    @property
    def fingerprint(self) -> str:
        """Identifies the sheet in its verdicts; the same for every size of the sample."""
        return content_id("review sheet", SCHEMA, self.key, self.iteration, self.language, self.seed)

    def pair_name(self, pair_id: str) -> str:
        """What a pair is called outside of the run."""
        return content_id("review pair", self.key, pair_id)

    def is_chosen_first(self, pair_id: str) -> bool:
        """Whether the chosen answer is A; a fair coin for each pair."""
        return int(content_id("review order", self.key, self.seed, pair_id), 16) % 2 == 0


def sample_pairs(rows: Iterable[Json], size: int, seed: int) -> list[Json]:
    """Up to `size` pairs, which depend only on the seed and the ids; no more than these are in memory.

    The prompts with the smallest hashes are drawn, in the order of their hashes. So all languages get the same prompts
    as far as they have pairs for them, and a larger sample begins with the smaller one. A prompt with several pairs
    gives one of them: an answer that is shown again would be known as the chosen one.
    """
    kept: dict[str, tuple[str, Json]] = {}  # prompt id -> the pair's own rank, the pair
    ranks: list[tuple[int, str]] = []  # a heap, the largest hash first
    for row in rows:
        prompt_id, rank = str(row["prompt_id"]), content_id("review draw", seed, row["id"])
        if prompt_id in kept:
            kept[prompt_id] = min(kept[prompt_id], (rank, row), key=lambda item: item[0])
            continue
        entry = (-_prompt_rank(seed, prompt_id), prompt_id)
        if len(ranks) < size:
            heapq.heappush(ranks, entry)
        elif entry > ranks[0]:
            del kept[heapq.heapreplace(ranks, entry)[1]]
        else:
            continue
        kept[prompt_id] = (rank, row)
    return [kept[prompt_id][1] for _, prompt_id in sorted(ranks, reverse=True)]


def _prompt_rank(seed: int, prompt_id: str) -> int:
    return int(content_id("review draw", seed, prompt_id), 16)


def text_direction(text: str, language: str) -> str:
    """`rtl` or `ltr`, by what most of the letters are; the language's own direction if there are none.

    The letters decide, because an answer may be in another language than its prompt.
    """
    classes = [unicodedata.bidirectional(character) for character in text]
    right, left = classes.count("R") + classes.count("AL"), classes.count("L")
    if right == left:
        return "rtl" if language in LANGUAGES and LANGUAGES[language].script in _RTL_SCRIPTS else "ltr"
    return "rtl" if right > left else "ltr"


def page_data(sheet: Sheet, pairs: Iterable[Json]) -> Json:
    """The page's data: what its verdicts are about, and for each pair the prompt and the texts A and B."""
    shown = []
    for pair in map(PreferencePair.from_dict, pairs):
        sides = [pair.chosen, pair.rejected]
        first, second = sides if sheet.is_chosen_first(pair.id) else reversed(sides)
        texts = {"prompt": pair.prompt, "A": first, "B": second}
        shown.append(
            {"pair": sheet.pair_name(pair.id)}
            | {name: {"text": printable(text), "dir": text_direction(text, sheet.language)}
               for name, text in texts.items()}
        )  # fmt: skip
    about = {"run": sheet.run, "iteration": sheet.iteration, "language": sheet.language, "sheet": sheet.fingerprint}
    return {"schema": SCHEMA, "kind": VERDICTS_KIND, **about, "seed": sheet.seed, "levels": LEVELS, "pairs": shown}


def script_safe(value: object) -> str:
    """JSON that cannot end the script element around it, and that every parser reads as JSON."""
    text = json.dumps(value, ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def render_page(sheet: Sheet, pairs: Iterable[Json]) -> str:
    """The sheet as one HTML page that loads nothing; only its own script may run, by its hash."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    templates = files("lidr") / "templates"
    script = (templates / "review.js").read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(str(templates)), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    return environment.get_template("review.html").render(
        run=printable(sheet.run),
        code=sheet.language,
        language=language_name(sheet.language),
        own_name=LANGUAGES[sheet.language].own_name if sheet.language in LANGUAGES else sheet.language,
        own_direction=text_direction("", sheet.language),
        data=Markup(script_safe(page_data(sheet, pairs))),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
