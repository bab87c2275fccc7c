r"""The number that an answer gives, in any of the table's languages: one grammar for golds and answers.

Nothing here knows the gold answer: one text in one language always reads as the same number.

Which number (`extract_answer`):

1. A marker wins: the first `#### 18`, ignoring what follows it; else the last `\boxed{...}` that holds a number;
   else the last line "Answer: 18" (in its language) that says nothing more.
2. Else the last line that has a number counts: in it the last bold number (`**$18**`), else the last number outside
   parentheses, else the last number. Clock times, dates, ordinals, the numbers of a list or of a step ("**3.** ...",
   "Step 3") and those that belong to a name ("A4", "CO2", "m2") do not count.

What a number is: digits of any script with their separators, perhaps with a sign, a leading point (.5), a mixed or
simple fraction (2 1/2, 2½, \frac{1}{2}), an exponent (1e6, 10^6, 10⁶, 10**6), a word of scale (1,25 Mio., 7万) and
products and quotients of such (1.5 × 10^6). What follows, a unit with its exponent (cm^2) or a percent sign, changes
nothing. Roots, multiples of π, functions (\log_2 8), repeating decimals (0.\overline{3}), powers whose exponent is not
an integer and ranges (18 ± 2) are not numbers: they read as None, not as the digits in them. So do 5! and 3 + 4i after
a marker.

Which value, if a single separator precedes exactly three digits:

- a comma separates thousands in every language: "2,125" is 2125 in German too. Models carry this English habit into
  other languages (of the Spanish X-AlpacaEval answers of GPT-3.5, 41 have such a comma and none has such a point), the
  released MGSM golds are written so in all languages, and no gold there has a fraction that could be lost.
- a point follows the language: "1.000" is a thousand in es fr de ru it, and one elsewhere.

Anything else has one sensible reading: "12,5" and "12.5" are fractions; "1.234,5" and "1,234.5" have both.
Numbers in words ("eighteen", "十八") are not read.

Why no library: math-verify reads the last LaTeX or ASCII number by English rules (of 484 sentences with numbers in 44
languages it reads 265 right), and babel's `parse_decimal` reads a bare number by its own locale alone, with "12,5" in
English as 125.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction

from lidr.number_words import ANSWER_LABELS, STEP_LABELS, scale_after, scale_before
from lidr.thinking import split_thinking

# Those whose decimal separator is a comma (CLDR); a point between three digits groups thousands there.
_POINT_GROUPS_THOUSANDS = frozenset(
    ("es", "fr", "de", "ru", "it", "pt", "ca", "ro", "nl", "sv", "da", "fi", "et", "lt", "pl", "cs", "sk", "hr", "hu",
     "tr", "id", "vi", "uk", "bg", "el")
)  # fmt: skip

# Arithmetic needs no larger numbers; a plain number may have any length.
_MAX_DIGITS = 1_000
_MAX_FACTORS = 20

# ---- Plain characters. A small model loops: every pattern here is linear on thousands of repeats.

_INVISIBLE = "\u00ad\u034f\u061c\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064\u2066\u2067\u2068\u2069\u20e3\ufe0e\ufe0f\ufeff"  # noqa: E501
_PLAIN = str.maketrans(
    dict.fromkeys(_INVISIBLE, "")
    | dict.fromkeys("\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000", " ")
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\u207b\u208b\uff0d\ufe63", "-")
    | dict.fromkeys("\u2028\u2029\u0085\u000b\u000c", "\n")
    | dict.fromkeys("·⋅∙∗✕✖⨯⨉＊", "×")
    | dict.fromkeys("’‘ʼ＇٬", "'")
    | {
        "，": ",",
        "،": ",",
        "．": ".",
        "：": ":",
        "／": "/",
        "⁄": "/",
        "∕": "/",
        "（": "(",
        "）": ")",
        "＝": "=",
        "％": "%",
    }
    | {"＋": "+", "＃": "#", "＊": "*", "＄": "$", "℃": "°C", "℉": "°F", "∶": "÷"}
    | {"⁺": "+"}
)
_SUPERSCRIPTS, _SUBSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹", "₀₁₂₃₄₅₆₇₈₉"
_RAISED = re.compile(rf"([+-]?)([{_SUPERSCRIPTS}]+)")
_LOWERED = re.compile(rf"[{_SUBSCRIPTS}]+")
_VULGAR = re.compile(r"(\d?)([¼-¾⅐-⅞↉])")
# 2**10 and 2 ** 10 are powers; in "**5**+3" and "(1)**18**" the stars are bold.
_STARS = re.compile(
    r"(?<=\d)\*\*(?=\d)|(?<=[\d)])(?:\*\*|[ ]\*\*[ ])(?=[({]{0,3}[-+ ]{0,2}[\d\\.])(?![-+]?[\d.,]{1,20}\*\*)"
    r"|(?P<bold>\*\*(?:[^*\n]|(?<!\*)\*(?!\*))+\*\*(?!\d))"
)
# 18 [1], 18 dollars [1][2]
_FOOTNOTES = re.compile(
    r"(\d(?:[ ]?[%€$£])?\*{0,2}[.,!?]?)(?:[ ]?\[\d{1,2}\]){1,9}|(\d[ ][^\W\d_]{1,20}[.,!?]?)(?:[ ]?\[\d\]){1,9}"
)

_PART = r"[ ]{0,3}(\{[^{}]{1,80}\}|\d)"
_FRACTION = re.compile(rf"(\d?)[ ]{{0,3}}\\(?:[tdcs]|nice)?frac{_PART}{_PART}")
_LATEX = (
    (re.compile(r"<<[^<>\n]{0,200}>>"), ""),  # the calculator's notes in GSM8K
    (re.compile(r"<sup>([^<>]{1,20})</sup>", re.I), r"^{\1}"),
    (re.compile(r"<sub>([^<>]{1,20})</sub>", re.I), r"_\1"),
    (re.compile(r"\\\\(?=[A-Za-z])"), r"\\"),
    (re.compile(r"\\\\"), "\n"),
    (re.compile(r"\{([.,])\}"), r"\1"),
    (re.compile(r"\\!"), ""),
    (re.compile(r"\\[,;: ()\[\]]|~|\\(?:left|right|displaystyle)(?![A-Za-z])"), " "),
    (re.compile(r"\\([%$#&_])"), r"\1"),
    (re.compile(r"\^\s?\{?\s?\\(?:circ|degree)(?![A-Za-z])\s?\}?|\\degree(?![A-Za-z])"), "°"),
    (re.compile(r"\^\s?\{?\s?(?:\\(?:text|mathrm)\{)?(st|nd|rd|th)\}{0,2}(?![A-Za-z])"), r"\1"),
    (re.compile(r"\\(?:times|cdot|ast)(?![A-Za-z])"), "×"),
    (re.compile(r"\\div(?![A-Za-z])"), "÷"),
    (re.compile(r"\\(?:approx|sim|simeq)(?![A-Za-z])"), "="),
    (re.compile(r"\\sqrt(?:\[[^\[\]]{1,20}\])?"), "√"),
    (re.compile(r"\\pi(?![A-Za-z])"), "π"),
    (re.compile(r"(?<=[\d.,])\\(?:overline|bar|dot)(?![A-Za-z])"), "∘"),
    (re.compile(r"\\(?:pm|mp|[dt]?binom|log|ln|exp|sin|cos|tan|lfloor|lceil)(?![A-Za-z])"), "∘"),
    (re.compile(r"\{[ ]?(\d{1,9})[ ]?\\over[ ]?(\d{1,9})[ ]?\}"), r" \1/\2"),
)
# These do not change the number behind them.
_FORMATTING = re.compile(
    r"\\(?:text[a-z]*|math[a-z]+|emph|bm|boldsymbol|bf|it|rm|pmb|[bB]igg?[lrm]?|[lL]arge|LARGE|[hH]uge|small|normalsize"
    r"|q?quad|[hv]space|hfill|hline|newline|par|noindent|item|begin|end|tag|n|t|underline|underbrace|f?boxed|fbox|[mh]box"
    r"|ensuremath|color(?:box)?|(?:script)+style|[lc]?dots[a-z]?|colon|(?:[lL]ong)?(?:[lL]eft|[rR]ight)+arrow|to|implies"
    r"|iff|therefore|because|in|leq?|leqslant|geq?|geqslant|neq?|equiv|cong|lt|gt|euro|EUR|pounds|yen|rupee|INR|num|SI"
    r"|qty|percent|star|bullet|checkmark|square)(?![A-Za-z])"
)
_COMMAND = re.compile(r"\\[A-Za-z]+\*?")
_EXPONENT_IN_BRACES = re.compile(r"\^[ ]?\{([^{}]{1,80})\}")
_BASE_IN_BRACES = re.compile(r"\{(\d{1,9})\}(?=\^)")

# ---- Numbers.

_BY_SPACE = r"[1-9]\d{0,2}(?:[ ]\d{3})+(?!\d)(?:[.,٫]\d+)?"
_BY_APOSTROPHE = r"[1-9]\d{0,2}(?:'\d{3})+(?!\d)(?:[.,٫]\d+)?"
_LEADING_POINT = r"(?<![\w.,٫)\]}])[.,٫]\d+"
_NUMBER = re.compile(
    rf"({_BY_SPACE}|{_BY_APOSTROPHE}|\d+(?:_\d{{3}})+(?!\d)|\d+(?:[.,٫]\d+)*|{_LEADING_POINT})(?:[eE]([+-]?\d{{1,4}})(?!\w))?"
)
_GROUPED = re.compile(r"[1-9]\d{0,2}(?:_\d{3})+|[1-9]\d?(?:_\d{2})+_\d{3}")  # 1_000_000 or, in India, 10_00_000
_POWER = re.compile(r"[ ]?\^[ ]?(\((?:[^()]|\([^()]{0,80}\)){1,80}\)|[+-]?\d+(?:[.,]\d+|\^[+-]?\d+)*)")
_MIXED = re.compile(r"(?:[ ]|-|[ ](?:and|y|et|und|e|и)[ ])(\d{1,6})/(\d{1,6})(?![\d/]|[.,]\d)")
_OPERATOR = re.compile(r"(?:[ ]?(?:[×÷]|(?<!\*)\*(?!\*))[ ]?|[ ]?/[ ]?|[ ]?[xX][ ]?(?=10\^))[$€£¥₹]?(?=\d)")
_MINUS = re.compile(r"(\S?)([ ]*)-(?:US|R)?[$€£¥₹₽₩฿৳]?$")
_EXPLICIT_MINUS = re.compile(r"[=(\[{][ ]*-[ ]+$")
_MINUS_WORD = re.compile(
    r"(?:^|[:=,(]|(?<!\w)(?:is|was|es|era|est|était|ist|war|beträgt|é|è|это|равно|составляет))[ ]*"
    r"(?:minus|negative|menos|moins|meno|минус)[ ]$|(?:负|負|マイナス)[ ]?$",
    re.I,
)
_IRRATIONAL_AFTER = re.compile(r"[ ]?[π√]")
# ∘ replaces a LaTeX command that makes another value of the number behind it.
_FUNCTION_BEFORE = re.compile(r"(?:[√∘±⌊⌈]|\+/-)[({_ ]*$")
_EXPONENT_BEFORE = re.compile(r"\^[({ +-]*$")
_NO_NUMBER = re.compile(
    r"[∘±⌊⌈][({_ ]{0,9}[+-]?\.?\d|[\d)]!"  # \log_2 8, 18 ± 2, 5!
    r"|(?:[+-][ ]?[\d.]{0,20}[ ]?\{?|\d)i(?!\w)|(?<!\w)i[ ]?[+-][ ]?\d"  # 3 + 4i
)
_MONEY = re.compile(r"[$€£¥₹₽₩฿৳][ ]?(?:\*\*)?$")
_CURRENCY_CODE = re.compile(
    r"(?<![^\W\d_])(?:USD|EUR|GBP|JPY|CNY|RMB|INR|RUB|UAH|CHF|CAD|AUD|BRL|MXN|THB|BDT|PKR|IDR|VND|TRY|PLN|CZK|HUF|RON"
    r"|SEK|NOK|DKK|ILS|KRW|KES|TZS|UGX|Rp|Rs|RM|Tk|TL|[KTU]?[Ss]h|SFr|Fr|kr|Kč|Ft|zł|lei|руб|грн)$"
)

# ---- What does not count as an answer.

_NO_ANSWERS = re.compile(
    r"(?<![\d:])\d{1,2}:\d{2}(?::\d{2})?(?![\d:])"  # 7:30
    r"|(?<![\d.,])\d{1,2}[ ]?h[ ]?\d{2}(?!\w)"  # 7h30
    r"|(?<![\d/.-])(?:\d{1,2}/\d{1,2}/\d{2,4}|\d{4}-\d{2}-\d{2}|\d{1,2}\.\d{1,2}\.\d{4})(?![\d/-])"  # 3/15/2024
    r"|(?<!\w)24/7(?!\w)"
    r"|[第제][ ]?\d+|№[ ]?\d+|(?<!\w)n\.?[º°][ ]?\d+"  # 第3, nº 3
    r"|(?<![\d,.])\d[\d,]{0,9}(?:st|nd|rd|th|er|re|ère|e|ème|eme)(?!\w|[+-]\d)"  # 4th, 1er
    r"|(?<![\d,.])(?:[12]?\d|3[01])[ ]?[ºª](?=[ ]?[^\W\d_])"  # 2º día, but not 18 ºC
    r"(?![ ]?(?:[CFK]\b|celsius|fahrenheit|cent|gra[du]))"
    r"|(?<!\d)\d{1,9}-(?:й|я|е|го|му|м|ой|ый|ая)(?!\w)"  # 5-й
    rf"|(?<!\w)(?:{STEP_LABELS})[ ]?\d{{1,2}}[ ]?[:.)：](?!\d)"  # Step 3:
    r"|(?<=[\w.,!?])\[\d{1,2}\]"  # a footnote
    r"|(?<!\d)(?<!\d[ )])(?<!\d[ ]\))(?<!\)[ )])[ ]?\^[ ]?[{(]?[+-]?\d+[)}]?"  # cm^2, but not (-2)^2
    r"|(?<=[^\W\d_])_\{?\d+\}?|(?<=\})_\{?\d+\}?",  # x_1
    re.I,
)
_LIST_NUMBER = re.compile(
    r"^[ \t]*(?:[#>*+•-]+[ \t]+)*(?:\*\*|__)?\(?\d{1,2}"
    r"(?:\\?[.)](?:(?:\*\*|__)[ \t]*|[ \t]+)(?=\S)|\.(?=[^\W\d])|、[ ]*(?=\S))",
    re.M,
)
_BRACES = re.compile(r"(?P<box>(?:\\|\x08)f?(?:b?oxed|box)\s*\{)|\\[{}]|(?P<open>\{)|(?P<close>\})")
_HASHES = re.compile(r"(?<!#)####(?!#)([^\n]*)")
_LABELLED = re.compile(rf"^[^\w\n]*(?:\w+[ ])?(?:{ANSWER_LABELS})(?:[ ]\w+)?[^\w\n:]{{0,9}}:([^\n]*)", re.M | re.I)
_LABEL = re.compile(r"[^\d:\n]{0,40}:[\s*_]*")
_BOLD = re.compile(r"\*\*([^*]+)\*\*")
_PARENTHESIS = re.compile(r"[()]")
_OPERAND_BEFORE = re.compile(r"(?:[-+×÷/=:^√∘±]|(?<!\*)\*)[ ]*$|^\W*$")


@dataclass(frozen=True, slots=True)
class _Found:
    """A number in a text, from `start` to `end`. `value` is None if it is unknown (a root, a division by zero)."""

    start: int
    end: int
    value: Decimal | None


def extract_answer(text: str, language: str) -> Decimal | None:
    """The number that the answer gives as its result, by the rule at the top of this file; None if there is none.

    Thinking is set aside first.

    `language` is the code of the language in which the answer was asked for.
    """
    raw = _plain_characters(split_thinking(text).answer)
    text = _plain_latex(raw)
    marked = _plain_latex(raw, unknown="∘")
    found = _hashed(marked, language, with_words=False) or _boxed(raw, language)
    found = found or _hashed(marked, language, with_words=True) or _labelled(text, language)
    if found is None:
        text = _NO_ANSWERS.sub(" | ", text)
        # "18. That is all she earns": with nothing else to read, what looks like the number of a list is the answer.
        found = _from_last_line(_LIST_NUMBER.sub("", text), language) or _from_last_line(text, language)
    return found.value if found else None


def parse_number(text: str, language: str) -> Decimal | None:
    """The value of a text that is one number in digits, perhaps with a currency or percent sign; None for others."""
    text = re.sub(r"^-[ ]+", "-", _plain_latex(_plain_characters(text)).strip())
    found = list(_numbers(text, language))
    if len(found) != 1 or _has_letters(_without(text, found)):
        return None
    return found[0].value


def same_number(first: Decimal | None, second: Decimal | None) -> bool:
    """Whether both are numbers and equal; 18 and 18.00 are."""
    return first is not None and first.is_finite() and first == second


def number_text(number: Decimal) -> str:
    """A number in plain digits, the same for equal numbers: 18 for 18.00."""
    text = format(number, "f")  # unlike `normalize`, this rounds nothing
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


# ---- Plain text.


def _plain_characters(text: str) -> str:
    """The text with digits, spaces, signs and fractions in their plain ASCII form, without what cannot be seen."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "&" in text:
        text = html.unescape(text)
    text = _FOOTNOTES.sub(r"\1\2 ", _STARS.sub(lambda stars: stars["bold"] or "^", text))
    if text.isascii():
        return text
    text = _VULGAR.sub(_plain_fraction, text.translate(_PLAIN))
    text = _RAISED.sub(lambda found: "^" + found[1] + _digits(found[2], _SUPERSCRIPTS), text)
    text = _LOWERED.sub(lambda found: "_" + _digits(found[0], _SUBSCRIPTS), text)
    return "".join(char if char.isascii() else str(unicodedata.decimal(char, char)) for char in text)


def _plain_fraction(found: re.Match[str]) -> str:
    fraction = unicodedata.normalize("NFKC", found[2]).replace("\u2044", "/")
    return f"{found[1]} {fraction}" if found[1] else fraction


def _digits(text: str, alphabet: str) -> str:
    return "".join(str(alphabet.index(char)) for char in text)


def _plain_latex(text: str, unknown: str = " ") -> str:
    r"""The text with LaTeX and HTML in plain form: \frac{1}{2} as 1/2, \times as ×, \text{ cm}^2 as { cm}^2.

    `unknown` takes the place of commands that neither this file nor `_FORMATTING` knows.
    """
    if "\\" not in text and "<" not in text and "{" not in text and "~" not in text:
        return text
    for pattern, plain in _LATEX:
        text = pattern.sub(plain, text)
    for _ in range(3):  # fractions of fractions
        text, count = _FRACTION.subn(_plain_frac, text)
        if not count:
            break
    text = _COMMAND.sub(unknown, _FORMATTING.sub(" ", text))
    for _ in range(3):  # powers of powers
        text = _EXPONENT_IN_BRACES.sub(r"^(\1)", text)
    return _BASE_IN_BRACES.sub(r"\1", text)


def _plain_frac(found: re.Match[str]) -> str:
    parts = [part.strip("{}").strip() for part in (found[2], found[3])]
    sign = "-" if parts[0].startswith("-") else ""
    bare = [part.removeprefix("-").strip() for part in parts[:1]] + parts[1:]
    if all(_NUMBER.fullmatch(part) for part in bare):
        return f"{found[1]} {sign}{bare[0]}/{bare[1]}"
    return f"{found[1]} (({parts[0]})/({parts[1]}))"


def _has_letters(text: str) -> bool:
    return any(char.isalpha() for char in text)


def _without(text: str, found: list[_Found]) -> str:
    """The text around the numbers."""
    ends = [0, *(number.end for number in found)]
    starts = [*(number.start for number in found), len(text)]
    return " ".join(text[end:start] for end, start in zip(ends, starts, strict=True))


# ---- Which number.


def _hashed(text: str, language: str, with_words: bool) -> _Found | None:
    """The number of the first `#### 18`; one with words ("#### 3 apples") may be a heading and counts on request."""
    for line in _HASHES.finditer(text):
        rest = _NO_ANSWERS.sub(" | ", line[1])
        label = _LABEL.match(rest)
        rest = rest[label.end() :] if label and _has_letters(label[0]) else rest
        rest = _without_remarks(_right_side(rest)).rstrip(" !")  # an exclamation mark, not a factorial
        found = list(_numbers(rest, language))
        if not found or _has_letters(_CURRENCY_CODE.sub("", rest[: found[0].start].rstrip())):
            continue
        if not _has_letters(_without(rest, found)):
            return _evaluated(rest, found, language)
        if with_words and not _LIST_NUMBER.match(rest.strip()):
            return found[0]
    return None


def _boxed(text: str, language: str) -> _Found | None:
    r"""The number in the last \boxed{...} that has one."""
    for content in reversed(_boxes(text)):
        content = _right_side(_NO_ANSWERS.sub(" | ", _plain_latex(content, unknown="∘")))
        found = list(_numbers(content, language))
        if found and (_NO_NUMBER.search(content) or not _has_letters(_without(content, found))):
            return _evaluated(content, found, language)
        if found:
            return _from_last_line(content, language)
    return None


def _boxes(text: str) -> list[str]:
    r"""What is in each \boxed{...}, with the braces inside matched; of nested ones the outermost."""
    opened: list[int | None] = []
    closed: list[tuple[int, int]] = []
    for brace in _BRACES.finditer(text):
        if brace["box"]:
            opened.append(brace.end())
        elif brace["open"]:
            opened.append(None)
        elif brace["close"] and opened and (start := opened.pop()) is not None:
            closed.append((start, brace.start()))
    outermost: list[str] = []
    outer = len(text)
    for start, end in reversed(closed):
        if start < outer:
            if end < outer:
                outermost.append(text[start:end])
            outer = min(outer, start)
    return outermost[::-1]


def _labelled(text: str, language: str) -> _Found | None:
    """The number of the last line "Answer: 18" with nothing but the number and a word or two behind it."""
    for line in reversed(list(_LABELLED.finditer(text))):
        rest = _without_remarks(_NO_ANSWERS.sub(" | ", line[1]))
        found = list(_numbers(rest, language))
        if len(found) == 1 and not _has_letters(rest[: found[0].start]) and len(rest) - found[0].end <= 25:
            return found[0]
    return None


def _from_last_line(text: str, language: str) -> _Found | None:
    for line in reversed(text.split("\n")):
        found = list(_numbers(line, language))
        if not found:
            continue
        for bold in reversed(list(_BOLD.finditer(line))):
            # "**9** eggs at $2 = $18": an equation that goes on is not yet the result.
            if re.match(r"[\W_]*\d", bold[1]) and "=" not in line[bold.end() :]:
                inside = _in_bold(line, bold, language)
                if inside:
                    return inside[-1]
        return (list(_numbers(_without_remarks(line), language)) or found)[-1]
    return None


def _in_bold(line: str, bold: re.Match[str], language: str) -> list[_Found]:
    """The numbers that begin in a bold part of the line; their words of scale may be beside it ("**5** million")."""
    before, inside = line[max(0, bold.start() - 20) : bold.start(1)], _without_remarks(bold[1])
    numbers = _numbers(before + inside + line[bold.end(1) : bold.end() + 40], language)
    return [number for number in numbers if len(before) <= number.start < len(before) + len(inside)]


def _without_remarks(line: str) -> str:
    """The line without what is in parentheses, "18 eggs (6 × 3)", except those that are part of a calculation."""
    kept: list[str] = []
    depth, end, begun = 0, 0, 0
    for parenthesis in _PARENTHESIS.finditer(line):
        if parenthesis[0] == "(":
            depth += 1
            if depth == 1:
                begun = parenthesis.start()
        elif depth:
            depth -= 1
            if depth == 0 and not _OPERAND_BEFORE.search(line[max(0, begun - 20) : begun]):
                kept.append(line[end:begun])
                end = parenthesis.end()
    if depth and not _OPERAND_BEFORE.search(line[max(0, begun - 20) : begun]):  # cut off inside of a remark
        return " | ".join([*kept, line[end:begun]])
    return " | ".join([*kept, line[end:]])


def _right_side(text: str) -> str:
    """What is behind the last equals sign that a number follows."""
    sides = text.split("=")
    return next((side for side in reversed(sides) if re.search(r"\d", side)), text)


def _evaluated(text: str, found: list[_Found], language: str) -> _Found:
    """The value of a text that is a calculation ("14 + 7", "3 × (2 + 4)"), else its last number outside remarks.

    The value is None if a part outside remarks is not a number.
    """
    without_remarks = _without_remarks(text)
    if _NO_NUMBER.search(without_remarks):
        return _Found(0, len(text), None)
    value = _calculation(text, list(_numbers(text, language, signed=False)))
    if value is not None:
        return _Found(0, len(text), _decimal(value))
    found = list(_numbers(without_remarks, language)) or found
    return next((number for number in found if number.value is None), found[-1])


# ---- Calculations.

_IGNORED = frozenset(" $%€£¥₹{}|")


def _calculation(text: str, found: list[_Found]) -> Fraction | None:
    """The value of numbers joined by + - × / ^ and parentheses; None for anything else, such as a range (3-5)."""
    single = len(found) == 1 and text.lstrip().startswith("- ")
    if not (single or 1 < len(found) <= _MAX_FACTORS) or len(text) > 300:
        return None
    values = [number.value for number in found]
    if len(values) == 2 and text[found[0].end : found[1].start] == "-" and (values[0] or 0) < (values[1] or 0):
        return None
    tokens: list[str | Fraction] = []
    end = 0
    for number, value in zip(found, values, strict=True):
        if value is None or len(value.as_tuple().digits) > _MAX_DIGITS:
            return None
        tokens += [*text[end : number.start], Fraction(value)]
        tokens += ["×"] if text[number.end : number.end + 1] == "(" else []
        end = number.end
    rest = [token for token in [*tokens, *text[end:].rstrip(" .")] if token not in _IGNORED]
    try:
        result = _sum(rest)
    except (IndexError, ZeroDivisionError):
        return None
    return None if rest else result


def _sum(tokens: list[str | Fraction]) -> Fraction:
    """Read and remove a sum from the front of the tokens. Raises IndexError if there is none."""
    value = _product(tokens)
    while tokens and tokens[0] in ("+", "-"):
        value = value + _product(tokens) if tokens.pop(0) == "+" else value - _product(tokens)
    return value


def _product(tokens: list[str | Fraction]) -> Fraction:
    value = _factor(tokens)
    while tokens and tokens[0] in ("×", "*", "/", "÷"):
        value = value * _factor(tokens) if tokens.pop(0) in ("×", "*") else value / _factor(tokens)
    return value


def _factor(tokens: list[str | Fraction]) -> Fraction:
    token = tokens.pop(0)
    if token == "-":
        return -_factor(tokens)
    if token == "(":
        value = _sum(tokens)
        if tokens.pop(0) != ")":
            raise IndexError
    elif isinstance(token, str):
        raise IndexError
    else:
        value = token
    if tokens[:1] != ["^"]:
        return value
    tokens.pop(0)
    exponent = _factor(tokens)
    power = _power(value, int(exponent)) if exponent.denominator == 1 else None
    if power is None:
        raise IndexError
    return power


# ---- Numbers in a text.


def _numbers(text: str, language: str, signed: bool = True) -> Iterator[_Found]:
    """Every number in a plain text, from left to right."""
    begun: _Found | None = None  # of 12万5000, the 12万 until the 5000 is read
    at = 0
    while match := _NUMBER.search(text, at):
        if _is_name(text, match.start()):
            at = match.end()
            continue
        others, value, scaled, at = _term(text, match, language)
        number = _Found(match.start(), at, value)
        if (
            begun
            and begun.value
            and value is not None
            and value < begun.value
            and text[begun.end : number.start] in ("", " ")
        ):
            number = _Found(begun.start, at, begun.value + value)
        elif begun:
            yield begun
        for other in others:
            yield _Found(match.start(), at, other)
        before = text[max(0, number.start - 20) : number.start]
        if signed and _EXPONENT_BEFORE.search(before):
            number = _Found(number.start, at, None)
        elif signed and not others and number.value and _is_negative(before):
            number = _Found(number.start, at, number.value.copy_negate())
        begun = number if scaled else None
        if begun is None:
            yield number
    if begun:
        yield begun


def _term(text: str, match: re.Match[str], language: str) -> tuple[list[Decimal], Decimal | None, bool, int]:
    """A product of quantities: the other numbers of its list (89,71,92), its value, whether it is scaled, its end."""
    others, value, scaled, end = _quantity(text, match, language)
    for _ in range(_MAX_FACTORS):
        operator = None if others else _OPERATOR.match(text, end)
        following = _NUMBER.match(text, operator.end()) if operator else None
        if operator is None or following is None:
            break
        _, factor, _, end = _quantity(text, following, language)
        left, right = _fraction(value), _fraction(factor)
        if left is None or right is None:
            value = None
        elif operator[0].strip()[0] in "÷/":
            value = left / right if right else None
        else:
            value = left * right
    if _IRRATIONAL_AFTER.match(text, end) or _FUNCTION_BEFORE.search(text[max(0, match.start() - 4) : match.start()]):
        value = None
    return others, _decimal(value), scaled, end


def _quantity(
    text: str, match: re.Match[str], language: str
) -> tuple[list[Decimal], Decimal | Fraction | None, bool, int]:
    """A number with its fraction, exponent and word of scale; see `_term`. `match` is one of _NUMBER."""
    *others, number = _values(match[1], language)
    value: Decimal | Fraction | None = Decimal(f"{number}E{match[2]}") if match[2] else number
    end = match.end()
    if match[1].isdigit() and (mixed := _MIXED.match(text, end)) and int(mixed[1]) < int(mixed[2]):
        end, whole = mixed.end(), _fraction(value)
        value = None if whole is None else whole + Fraction(int(mixed[1]), int(mixed[2]))
    if power := _POWER.match(text, end):
        end, value = power.end(), _raised(value, power[1])
    if text[end : end + 1] == "/" and (below := _NUMBER.match(text, end + 1)) and not others:
        end, over, under = below.end(), _fraction(value), _fraction(_values(below[1], language)[-1])
        value = None if over is None or not under else over / under
    money = _MONEY.search(text[max(0, match.start() - 4) : match.start()]) is not None
    exponent, end = scale_after(text, end, language, money)
    exponent += scale_before(text[max(0, match.start() - 12) : match.start()]) if language == "sw" else 0
    if exponent:
        scale = _fraction(value)
        value = None if scale is None else scale * 10**exponent
    return others, value, exponent > 0, end


def _raised(base: Decimal | Fraction | None, exponent: str) -> Decimal | Fraction | None:
    """The power with an exponent as written, "6" or "(-3)"; None if that is not an integer; 45^(o) is 45."""
    exponent = exponent.strip("() ")
    if not re.search(r"\d", exponent):
        return base
    return _power(base, int(exponent)) if re.fullmatch(r"[+-]?\d{1,6}", exponent) else None


def _power(base: Decimal | Fraction | None, exponent: int) -> Fraction | None:
    number = _fraction(base)
    size = max(len(str(number.numerator)), len(str(number.denominator))) if number is not None else 0
    if number is None or size * abs(exponent) > _MAX_DIGITS or (not number and exponent < 0):
        return None
    return Fraction(number**exponent)


def _fraction(value: Decimal | Fraction | None) -> Fraction | None:
    """The value for arithmetic; None if it is too long for that."""
    if not isinstance(value, Decimal):
        return value
    sign_digits_exponent = value.as_tuple()
    size = len(sign_digits_exponent.digits) + abs(int(sign_digits_exponent.exponent))
    return Fraction(value) if size <= _MAX_DIGITS else None


def _decimal(value: Decimal | Fraction | None) -> Decimal | None:
    """The value as a decimal number, to 50 digits if it does not end."""
    if not isinstance(value, Fraction):
        return value
    if value.denominator == 1:
        return Decimal(value.numerator)
    with localcontext(prec=50):
        return Decimal(value.numerator) / Decimal(value.denominator)


def _is_name(text: str, start: int) -> bool:
    """Whether the digits here belong to a name: A4, CO2, m2, x_1, COVID-19; but not USD18 or, in Hebrew, ב-18."""
    before = text[max(0, start - 8) : start]
    last = before[-1:]
    if last == "-":
        return before[-2:-1].isupper()
    european = last.isalpha() and (last < "\u0530" or "\u1e00" <= last < "\u2000") and last not in "ºª"
    return european and _CURRENCY_CODE.search(before) is None


def _is_negative(before: str) -> bool:
    """Whether a text ends in a minus sign that is not a hyphen (pre-18), range (3-5) or operator (5 -3)."""
    if _EXPLICIT_MINUS.search(before) or _MINUS_WORD.search(before):
        return True
    minus = _MINUS.search(before)
    if minus is None or minus[1] == "":
        return minus is not None
    character, gap = minus[1], minus[2]
    # Scripts from Thai (U+0E00) on use no hyphens, and most of them no spaces before a sign.
    hyphen = character.isalpha() and character < "\u0e00" and not gap
    return not (hyphen or character.isdigit() or character == ")")


def _values(token: str, language: str) -> list[Decimal]:
    """The value of digits with separators; several values for a list without spaces such as 89,71,92."""
    token = token.replace(" ", "").replace("'", "").replace("_", "")
    separators = [char for char in token if not char.isdigit()]
    if not separators:
        return [Decimal(token)]
    if not token[0].isdigit():  # .5, or ,5 if that is a fraction in the language
        is_fraction = token[0] != "," or language in _POINT_GROUPS_THOUSANDS
        return [Decimal(f"0.{token[1:]}" if is_fraction else token[1:])]
    last = separators[-1]
    whole, fraction = token.rsplit(last, 1)
    whole_grouped = _GROUPED.fullmatch(re.sub(r"[.,]", "_", whole)) is not None and len(set(separators[:-1])) == 1
    if len(separators) > 1 and last not in separators[:-1] and whole_grouped:
        return [Decimal(re.sub(r"\D", "", whole) + "." + fraction)]
    thousands = len(set(separators)) == 1 and _GROUPED.fullmatch(token.replace(last, "_")) is not None
    if thousands and (len(separators) > 1 or last == "," or (last == "." and language in _POINT_GROUPS_THOUSANDS)):
        return [Decimal(re.sub(r"\D", "", token))]
    if len(separators) == 1:
        return [Decimal(f"{whole}.{fraction}")]
    return [Decimal(part) for part in re.split(r"[.,٫]", token)]
