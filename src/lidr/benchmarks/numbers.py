"""The number that an answer ends in, in any of the table's languages.

Nothing here knows the gold answer: one text in one language always reads as the same number.

Which number (`extract_answer`):

1. A marker wins: the last `\\boxed{...}`, else the last line that is `####` and a number.
2. Else the last line that has a number counts: in it the last bold number (`**$18**`), else the last number outside a
   remark such as "(7 days a week)", else the last number. Clock times, ordinals, exponents and the numbers of a
   list ("3. ...") are no answers.

Which value (`parse_number`), where a single separator stands before exactly three digits:

- a comma separates thousands in every language: "2,125" is 2125 in German too. Models carry this English habit into
  other languages (of the Spanish X-AlpacaEval answers of GPT-3.5, 41 have such a comma and none has such a point), the
  released MGSM golds are written so in all languages, and no gold there has a fraction that could be lost.
- a point follows the language: "1.000" is a thousand in es fr de ru it, and one elsewhere.

Anything else has one sensible reading: "12,5" and "12.5" are fractions; "1.234,5" and "1,234.5" have both.
Numbers in words ("eighteen", "十八") are not read.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from decimal import Decimal

# Those whose decimal separator is a comma (CLDR); a point between three digits groups thousands there.
_POINT_GROUPS_THOUSANDS = frozenset(
    ("es", "fr", "de", "ru", "it", "pt", "ca", "ro", "nl", "sv", "da", "fi", "et", "lt", "pl", "cs", "sk", "hr", "hu",
     "tr", "id", "vi", "uk", "bg", "el")
)  # fmt: skip

# Spaces that separate thousands; the minus signs; what the other scripts write for comma, point and apostrophe.
_PLAIN = str.maketrans(
    dict.fromkeys("\u00a0\u202f\u2009\u2007\u2008", " ")
    | dict.fromkeys("\u2212\uff0d\ufe63", "-")
    | {"，": ",", "،": ",", "．": ".", "：": ":", "／": "/", "’": "'", "٬": "'", "（": "(", "）": ")"}
)
_LATEX = (
    (re.compile(r"\\d?frac\{(\d+)\}\{(\d+)\}"), r"\1/\2"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\!"), ""),
    (re.compile(r"\\[,;: ()\[\]]"), " "),
)

_BY_SPACE = r"[1-9]\d{0,2}(?:[ ]\d{3})+(?!\d)(?:[.,]\d+)?"
_BY_APOSTROPHE = r"[1-9]\d{0,2}(?:'\d{3})+(?!\d)(?:[.,٫]\d+)?"
_NUMBER = re.compile(rf"({_BY_SPACE}|{_BY_APOSTROPHE}|\d+(?:[.,٫]\d+)*)(?:/([1-9]\d*))?")
_GROUPED = re.compile(r"[1-9]\d{0,2}(?:_\d{3})+|[1-9]\d?(?:_\d{2})+_\d{3}")  # 1_000_000 or, in India, 10_00_000
_MINUS = re.compile(r"(\S?)([ ]*)-(?:US|R)?[$€£¥₹₽₩฿৳]?$")

# "7万", "1,25 Millionen", "70 mil": a word of scale directly after the number.
_SCALES = tuple(
    (Decimal(factor), re.compile(f"[ ]?(?:{words})", re.I))
    for factor, words in (
        (10**3, r"千(?![克米瓦])|천|พัน|(?:thousand|mil|mille|mila|tausend|тыс|тысячи?|হাজার|వేలు?|ألف[اً]*|آلاف)(?!\w)"),
        (10**4, r"万|萬|만|หมื่น"),
        (10**5, r"แสน|লাখ|লক্ষ(?!্)|లక్ష(?:లు?)?|lakhs?(?!\w)"),
        (10**6, r"ล้าน|(?:millions?|millionen|mill[oó]n(?:es)?|milion[ei]|миллион(?:а|ов)?|млн|مليون[اً]*|ملايين)(?!\w)"),
        (10**7, r"কোটি|కోట్లు?|కోటి|crores?(?!\w)"),
        (10**8, r"亿|億|억"),
    )
)

# A small model loops: every pattern below has to stay linear on thousands of digits or line breaks in a row.
_NO_ANSWERS = re.compile(
    r"(?<!\d)\d{1,2}:\d{2}(?!\d)"  # 7:30
    r"|[第제][ ]?\d+"  # 第3
    r"|(?<![\d,])\d[\d,]{0,9}(?:(?:st|nd|rd|th|er|re|ère|e|ème|eme)(?!\w)|[ ]?[ºª])"  # 4th, 1er, 2º
    r"|(?<!\d)\d{1,9}-(?:й|я|е|го|му|м|ой|ый|ая)(?!\w)"  # 5-й
    r"|\^\{?\d+\}?|(?<=\bm)[23]\b|(?<=\b[kcdm]m)[23]\b"  # m^2, m2, km2
)
_LIST_NUMBER = re.compile(r"^[ ]*(?:[#>*-]+[ ]+)?(?:\*\*)?\d{1,2}(?:[.)][ ]+|、[ ]*)(?=\S)", re.M)
_BOXED = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\}){0,200})\}")
_HASHES = re.compile(r"^[ ]*####(?!#)(.*)$", re.M)
_BOLD = re.compile(r"\*\*([^*]+)\*\*")
_PARENTHESES = re.compile(r"\([^()]*\)")


def extract_answer(text: str, language: str) -> Decimal | None:
    """The number that the answer gives as its result, by the rule at the top of this file; None where there is none.

    `language` is the code of the language in which the answer was asked for.
    """
    text = _normalise(text)
    for marked in (_BOXED.findall(text), [line for line in _HASHES.findall(text) if not _has_letters(line)]):
        if marked and (numbers := list(_numbers(marked[-1], language))):
            return numbers[-1]
    text = _NO_ANSWERS.sub(" | ", text)
    number = _from_last_line(_LIST_NUMBER.sub("", text), language)
    # "18. That is all she earns": with nothing else to read, what looks like the number of a list is the answer.
    return _from_last_line(text, language) if number is None else number


def parse_number(text: str, language: str) -> Decimal | None:
    """The value of a text that is one number in digits, perhaps with a currency or percent sign; None for others."""
    text = _normalise(text)
    numbers = [] if _has_letters(text) else list(_numbers(text, language))
    return numbers[0] if len(numbers) == 1 else None


def same_number(first: Decimal | None, second: Decimal | None) -> bool:
    """Whether both are numbers and equal; 18 and 18.00 are."""
    return first is not None and first == second


def number_text(number: Decimal) -> str:
    """A number in plain digits, the same for equal numbers: 18 for 18.00."""
    return format(number.normalize(), "f")


def _normalise(text: str) -> str:
    """The text with digits, spaces, signs and LaTeX spacing in their plain ASCII form."""
    if not text.isascii():
        # `decimal`, not `digit`: superscripts (m²) and circled numbers have a digit value and are no numerals.
        text = "".join(str(unicodedata.decimal(char, char)) for char in text.translate(_PLAIN))
    for pattern, plain in _LATEX:
        text = pattern.sub(plain, text)
    return text


def _has_letters(text: str) -> bool:
    return any(char.isalpha() for char in text)


def _from_last_line(text: str, language: str) -> Decimal | None:
    for line in reversed(text.split("\n")):
        numbers = list(_numbers(line, language))
        if not numbers:
            continue
        for bold in reversed(list(_BOLD.finditer(line))):
            # "**9** eggs at $2 = $18": an equation that goes on is not yet the result.
            if re.match(r"\W*\d", bold[1]) and "=" not in line[bold.end() :]:
                return list(_numbers(bold[1], language))[-1]
        outside = _PARENTHESES.sub(lambda inside: " | " if _has_letters(inside[0]) else inside[0], line)
        return (list(_numbers(outside, language)) or numbers)[-1]
    return None


def _numbers(text: str, language: str) -> Iterator[Decimal]:
    """Every number in a normalised text, from left to right."""
    begun: Decimal | None = None  # of 12万5000, the 12万 until the 5000 is read
    end = 0
    for match in _NUMBER.finditer(text):
        *others, number = _values(match[1], language)
        scale, scale_end = next(
            ((factor, found.end()) for factor, words in _SCALES if (found := words.match(text, match.end()))),
            (Decimal(1), match.end()),
        )
        number = number / Decimal(match[2] or 1) * scale
        if begun is not None and number < begun and text[end : match.start()] in ("", " "):
            number += begun
        elif begun is not None:
            yield begun
        yield from others
        number = -number if not others and _is_negative(text[max(0, match.start() - 20) : match.start()]) else number
        begun, end = (number, scale_end) if scale != 1 else (None, scale_end)
        if begun is None:
            yield number
    if begun is not None:
        yield begun


def _is_negative(before: str) -> bool:
    """Whether a text ends in a minus sign that is no hyphen (COVID-19), range (3-5) or operator (5 -3)."""
    minus = _MINUS.search(before)
    if minus is None or minus[1] == "":
        return minus is not None
    character, gap = minus[1], minus[2]
    # Scripts from Thai (U+0E00) on use no hyphens, and most of them no spaces before a sign.
    hyphen = character.isalpha() and character < "\u0e00" and not gap
    return not (hyphen or character.isdigit() or character == ")")


def _values(token: str, language: str) -> list[Decimal]:
    """The value of digits with separators; several values for a list without spaces such as 89,71,92."""
    token = token.replace(" ", "").replace("'", "")
    separators = [char for char in token if not char.isdigit()]
    if not separators:
        return [Decimal(token)]
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
