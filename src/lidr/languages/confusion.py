"""Language confusion: answers that leave the language they should be in, for whole lines or for single words.

The measures are those of the Language Confusion Benchmark (Marchisio et al. 2024, arXiv 2406.20052), over R answers:

    LPR  = answers without a line in another language / R                                  (line-level pass rate)
    WPR  = answers without a foreign word / answers without a line in another language     (word-level pass rate)
    LCPR = 2 * LPR * WPR / (LPR + WPR)                                           (language confusion pass rate)

As there, lines count from five words on, an answer without such a line is left out of R, and WPR is defined only for
languages that are not written in Latin letters. We depart from it in this:

1. py3langid identifies the language of a line among a few candidates, and a line that stays undecided is never wrong
   (there: fastText with 176 languages, and an unsure line is wrong). An answer with only undecided lines is left out.
2. Code, formulas and links are set aside. A line that seems wrong is read again without its capitalised words, so that
   titles and names ("8. The Boy from Oz, by Peter Allen") are undecided. So is a line of Han characters that may be
   Chinese or Japanese ("材料費、人件費、交通費").
3. Where a script has no spaces, words are counted by letters (two Han or kana, four Thai), without a tokenizer.
4. For WPR, the benchmark looks lower-case words of four letters or more up in an English dictionary. Here each such
   word of the letters a-z is foreign, whatever its language, also when glued to the text ("买了apples"). What a
   dictionary would let pass is set aside by its form: quoted words, an original term in brackets, names ("Journey to
   the center of the Earth"), code and formulas ("ctrl + shift", "int size()"), file names, addresses, compounds
   ("online-курс"), abbreviations without vowels ("html") and units. A term of computing in plain text ("python")
   still counts: in 0.8 % of X-AlpacaEval's Russian prompts and 1.6 % of its Chinese ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lidr.languages import get_language
from lidr.languages.identification import MIN_WORDS_WITHOUT_NAMES, LanguageIdentifier, prose

MIN_WORDS = 5  # as in the benchmark's released code
MIN_WORDS_OF_SENTENCE = 8  # "Chelsea a 24 kilos de sucre." is French, and passes for Spanish

_SENTENCE_END = re.compile(r"(?<=[.!?؟۔])[ \t]+|(?<=[。！？।])")
_INLINE_FORMULA = re.compile(r"\$(?=\S)[^$\n]+(?<=\S)\$(?!\d)")  # but not "$2 each, or $18 a day"
_HAN_OR_KANA = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
_THAI = re.compile(r"[\u0e00-\u0e7f]")
# A letter and what follows it up to the next space: Indic vowel signs are not letters to Python, and must not split.
_WORD = re.compile(r"[^\W\d_\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f][^\s\d_\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f]*")

_QUOTED = re.compile(r'"[^"\n]{1,100}"|“[^”\n]{1,100}”|„[^“”\n]{1,100}[“”]|«[^»\n]{1,100}»|‘[^’\n]{1,100}’')
_QUOTED_CJK = re.compile(r"「[^」\n]{1,100}」|『[^』\n]{1,100}』|《[^》\n]{1,100}》")
_ORIGINAL_TERM = re.compile(r"(?<![A-Za-z0-9_])[(（\[][A-Za-z\u00c0-\u024f0-9\s,.;:'’/&+-]{1,60}[)）\]]")
# What belongs to one Latin word, number, address, path, identifier or call; dots and the like only inside it.
_TOKEN = r"(?:[A-Za-z0-9\u00c0-\u024f\u1e00-\u1eff_@#%&+=^~/\\{}<>-]|[.:'’](?=[\w/\\:])|(?<=[A-Za-z0-9_])[(\[])+"
_LATIN_RUN = re.compile(rf"{_TOKEN}(?:[ \t]+{_TOKEN})*")
_FOREIGN_WORD = re.compile(r"(?=.*[aeiouy])[a-z]{4,}(?:['’][a-z]+)?")
_CODE_OR_FORMULA = re.compile(r"[=+(\[{}\\_<>^~]")
_UNITS = frozenset({"kcal", "mmol"})


@dataclass(frozen=True, slots=True)
class Confusion:
    """What was found in one answer.

    Of the lines with at least `MIN_WORDS` words, the language of `lines` was identified, that of `undecided` was not.
    `wrong_lines` are (line, language found). `wrong_words`, each once, are looked for only if no line is wrong and the
    language has a script other than Latin.
    """

    lines: int
    undecided: int
    wrong_lines: tuple[tuple[str, str], ...]
    wrong_words: tuple[str, ...]


def check_answer(text: str, language: str, identifier: LanguageIdentifier, *, by_sentence: bool = False) -> Confusion:
    """Look for lines and words of `text` that are not in `language`, which must be a candidate of the `identifier`.

    `by_sentence` makes a line of each longer sentence, because a paragraph may switch half-way, too.
    """
    text = _INLINE_FORMULA.sub(" ", prose(text))
    lines = [line.strip() for line in text.splitlines() if _count_words(line) >= MIN_WORDS]
    if by_sentence:
        lines = [sentence for line in lines for sentence in _sentences(line)]
    found = [(line, _line_language(line, language, identifier)) for line in lines]
    wrong_lines = tuple((line, code) for line, code in found if code not in (None, language))
    words: Iterator[str] = iter(())
    if not wrong_lines and get_language(language).script != "Latin":
        words = (word for line in lines for word in _foreign_words(line))
    undecided = sum(code is None for _, code in found)
    return Confusion(len(lines) - undecided, undecided, wrong_lines, tuple(dict.fromkeys(words)))


def _sentences(line: str) -> list[str]:
    """The longer sentences of a line; the line itself if it does not have two."""
    found = [part for part in _SENTENCE_END.split(line) if _count_words(part) >= MIN_WORDS_OF_SENTENCE]
    return found if len(found) > 1 else [line]


def _count_words(text: str) -> int:
    dense = len(_HAN_OR_KANA.findall(text)) // 2 + len(_THAI.findall(text)) // 4
    return dense + len(_WORD.findall(text))


def _line_language(line: str, language: str, identifier: LanguageIdentifier) -> str | None:
    """The line's language or None; another one than `language` only if it is found without capitalised words, too."""
    code = identifier.identify(line)
    if code in (None, language):
        return code
    rest = _WORD.sub(lambda word: " " if word[0][0].isupper() else word[0], line)
    if _count_words(rest) < MIN_WORDS_WITHOUT_NAMES:
        return None
    return code if identifier.identify(rest) == code else None


def _foreign_words(line: str) -> Iterator[str]:
    """The lower-case Latin words of a line in another script, except those listed in point 4 above."""
    for not_foreign in (_QUOTED, _QUOTED_CJK, _ORIGINAL_TERM):
        line = not_foreign.sub(" | ", line)
    for run in _LATIN_RUN.findall(line):
        if _CODE_OR_FORMULA.search(run):
            continue
        tokens = [token.rstrip(".:'’") for token in run.split()]
        words = [token for token in tokens if _FOREIGN_WORD.fullmatch(token) and token not in _UNITS]
        # A title or a species has as many capitals: "Journey to the center of the Earth", "Homo sapiens".
        if len(words) > sum(token[:1].isupper() for token in tokens):
            yield from words
