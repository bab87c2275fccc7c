"""Identify which of a few languages a text is in; None if the text is too short or has too little language."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from copy import copy
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py3langid import langid

# Parts without language: code blocks, inline code, formulas, links, addresses, tags, paths.
_NOT_LANGUAGE = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]*`|\$\$.{,2000}?\$\$|\\\[.{,2000}?\\\]|\\\(.{,2000}?\\\)"
    r"|(?:https?://|www\.)\S+|[\w.+-]{1,64}@[\w-]{1,64}\.[\w.-]+|<[^<>\n]{1,80}>|(?<!\S)[#@][A-Za-z]\w+"
    r"|(?<!\S)(?:~|\.{1,2}|[A-Za-z]:)?(?:[/\\][A-Za-z0-9_.@+~-]+){2,}[/\\]?(?!\S)"
    r"|(?<!\S)[A-Za-z0-9_.@-]+(?:/[A-Za-z0-9_.@-]+)*/[\w-]+\.[a-z]\w{,4}(?!\S)",
    re.S,
)
# Code without a fence. Lines that can only be code:
_CODE_LINE = re.compile(
    r"""\s*(?:
    (?:def|class|fn|func|function|struct|interface|enum|namespace)\s+\w+\s*[({:<]
    |(?:from\s+[\w.]+\s+)?import\s+(?:[\w.*]+|\{[^{}]*\})(?:\s+(?:as|from)\s+\S+)?;?\s*$
    |(?:\}\s*)?(?:try|else|finally)\s*[:{]\s*$
    |(?:if|elif|while|for|with|except|switch|catch|match)\b[^.?!]*[()=<>\[\]_][^.?!]*[:{]\s*$
    |(?:const|let|var|val|auto|int|float|double|bool|char|long|unsigned|string|String)\s+[\w*&]+\s*(?:=|;|\()
    |(?:public|private|protected|static|final|async|export|using|package|typedef|template)\b.*[({;=]
    |\#\s?(?:include|define|ifn?def|endif|pragma)\b|\#!|@\w+(?:\(.*\))?\s*$|>>>\s|<\?php
    |(?:SELECT|INSERT\s+INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM|(?:CREATE|ALTER|DROP)\s+(?:TABLE|VIEW|INDEX|DATABASE))\b
    |(?:FROM|WHERE|(?:LEFT|RIGHT|INNER|OUTER|FULL|CROSS)\s+JOIN|JOIN|GROUP\s+BY|ORDER\s+BY|HAVING|VALUES|LIMIT|UNION)\b
     (?=.*[a-z\d=<>*;(])
    |(?:WORKDIR\s+\S+\s*$|(?:CMD|ENTRYPOINT)\s+\[|EXPOSE\s+\d|HEALTHCHECK\s+--)
    |(?i:select)\s+(?:\*\s+from\s|[^!?]*\sfrom\s+\w+(?:\s+\w+)?\s+(?:where\s+[\w.]+\s*(?:[<>=!]|like\s|in\s*\(|is\s|between\s)
     |(?:order|group)\s+by\s|limit\s+\d|(?:left|right|inner|outer|full|cross)\s+join\s|join\s))
    |\[{1,2}[a-z][\w.:"\ -]*\]{1,2}\s*$|[A-Z_][A-Z0-9_]+\s*[:?+]?=\s*(?:[-$"'/]|\S+\s*$)
    |\.PHONY:|\.[a-z_]+(?:\s+\S+){,2}\s*$
    |[a-z]{2,7}\s+[\[%]?(?:[re][abcd]x|[re][sd]i|[re][sb]p)\]?\s*(?:,|$)|int\s+0x
    |(?:mov|add|sub|mul|cmp|xor|and|lea|push|pop|ldr|str)[a-z]?\s+(?:(?:[abcd][xlh]|[sd]i|[sb]p|[rwx]\d+)\s*(?:,|$)
     |[%\#\[][^\s,]+,\s|\$\w+,\s*%)
    |(?:global|extern)\s+[._a-z]\w*\s*$|section\s+\.\w+\s*$|\w+:?\s+(?:d[bwdq]\s+["'\d]|equ\s+\$)
    |(?:cd|ls|mkdir|rm|cp|mv|cat|tar|ssh|touch|source|make|python3?|node)\s+(?:-\w|[~.]{,2}/|[\w/-]+\.[a-z]\w{,4}\s*$)
    |\$\s+[a-z]|(?:sudo|pip3?|npm|npx|yarn|git|docker|kubectl|apt|apt-get|brew|conda|cargo|curl|wget|chmod)\s+[-\w./~]
    |"[\w\ -]+"\s*:\s|[\[{]\s*["'\[{]
    |[A-Za-z_][\w.]*\([^\n]*\)\s*;?\s*(?:(?:\#|//).*)?$|(?:puts|echo|printf?)\s+["'$]|[\w.]+\s+do\s+\|\w+\|
    |(?:while|until|for|if)\b.*;\s*(?:do|then)\b
    |\\(?:begin|end|documentclass|usepackage|section|item)\b
    |[\])}]+[;,)]*\s*$
    )""",
    re.X,
)
# ... and lines that are code if they have many signs of code per letter.
_CODE_SIGN = re.compile(r"[{};=\\]|\w_\w|\w\([^()\n]*\)|::|->|=>|&&|\|\||\s\|\s\w+\s-")
_SIGNS = re.compile(r"[{}()\[\]=<>;\\_$&^%@~+/|]|\s--?[A-Za-z]")
_SIGNS_PER_LETTER = 0.15
# A setting: a key and one value, which no sentence has. Two in a row are code.
_VALUE = r"""(?:[^\s"']+|"[^"]*"|'[^']*'|\[[^\[\]]*\]|\{[^{}]*\})[,;]?\s*(?:[#;].*)?$"""
_SETTING = re.compile(
    rf"\s*(?:[\w.$-]+\s*[:?+]?=\s*{_VALUE}|(?:-\s+)?[a-z_][\w./-]*:(?:\s+{_VALUE}|\s*$)"
    r"|(?:RUN|CMD|ENV|ARG|LABEL|USER|COPY|ADD)\s+\S)"
)
_TARGET = re.compile(r"[a-z.$%][\w.$()/%-]*\s*:")  # of a makefile, if the next line begins with a tab
# Code if it is beside a line of code: a comment, a short statement, the body of a block, a word.
_BESIDE_CODE = re.compile(
    r"\s*(?:#|//|--|/\*|\*|<!--)|\s*(?:return|break|continue|pass|end|fi|done|raise|yield)\b|[ ]{2}|\t"
    r"|(?:-\s+|(?:cd|make|call|jmp|j[a-z]{1,2}|bl?)\s+)?[a-z_.][\w./@-]*[:;]?\s*$"
)
# A SQL statement over several lines, unless it has a word that only a sentence has.
_STATEMENT = re.compile(r"^[ \t]*(?:select|insert|update|delete|create|alter|drop)\s[^;]{1,1000}+;[ \t]*$", re.I | re.M)
_SQL = re.compile(
    r"\s*(?:select\s+(?:distinct\s+)?[\w.*()]+(?:\s+as\s+\w+)?\s*(?:,.*)?\sfrom\s|insert\s+into\s|delete\s+from\s"
    r"|update\s+[\w.]+\s+set\s|\w+\s+(?:table|view|index|database)\s+(?:if\s+(?:not\s+)?exists\s+)?\S+?\s*"
    r"(?:[(;]|\s(?:as|on|add|drop|alter|rename|cascade)\s))"
    r"(?!.*\b(?:the|your|each|this)\b)",
    re.I | re.S,
)
_DOCSTRING = re.compile(r'"""[^"]{,2000}"""|\'\'\'[^\']{,2000}\'\'\'')
# Scripts in which one character is about a syllable or a word.
_DENSE = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
MIN_LETTERS = 12  # DESIGN's measurement: 98.8 % right at 20 characters; shorter answers are mostly names and numbers
MIN_DENSE_LETTERS = 4
MIN_PROBABILITY = 0.8
MAX_CHARACTERS = 800  # more than enough: 99.9 % are right at 60 characters
# Candidates in every run, besides its own languages. All 44 languages of the table would leave far more short texts
# undecided. Of the first 20 characters of X-AlpacaEval and MGSM texts: 53 % in Spanish and 55 % in Russian, against
# 23 % and none with these (39 % and none with Portuguese and Dutch added). 99.9 % of decisions are right either way.
CANDIDATES = ("en", "es", "fr", "de", "ru", "it", "zh", "ja", "ko", "th", "sw", "bn", "te", "ar")
_HAN = re.compile(r"[\u3400-\u9fff]")
_KANA = re.compile(r"[\u3040-\u30ff]")
# Characters that only Chinese uses, and pairs with a small word. Japanese has 的, 在, 是, 我, 他, 就, 了, 也 in words
# and names (目的, 存在, 是非, 自我, 他社, 就職, 終了, 拓也), so none of them is a sign by itself.
_CHINESE_ONLY = re.compile(
    r"[這你妳她它們嗎呢啊吧麼怎您很哪找个]|(?:[就只但還不可我他]|(?<!京)都)是(?![非正認])|[没沒只又]有"
    r"|(?<![拓和達哲卓克真雅智直裕純淳竜龍貴信])也[是不有要可會能没沒很]"
    r"|(?<![自無没忘彼怪曽曾蘇久])我(?:[的也不要想去喜買看說如]|就(?![任業労職学寝航])|和[他妳你])"
    r"|(?<![排利自])他(?:也|的(?![中確]))|(?:[吃去到來来看買做走說花給賣死有]|知道|開始|結束)了(?![解承])"
    r"|(?:因|認)為|因此|如何[用做能才]|如果|而且|請[給問]|剩下|總共|一共需"
    r"|喜歡|覺得|應該|已經|[今明昨]天(?!皇)|星期|多少錢|美元"
)
# The word "is", unless it is part of a noun or a name.
_IS = re.compile(r"(?<![社校党如即彼是])(?<!\b国)是(?![非正認是々空清枝川永政澤沢松])")
_BESIDE_IS = re.compile("[的在我他了就]")
# Forms that Japanese uses but Shift-JIS lacks.
_JAPANESE_FORMS = str.maketrans("", "", "剝塡頰髙濵彅瀨德寬")
# Python does not count the vowel signs of Indic scripts as letters; here they are part of a word.
_WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|[\u0900-\u0dff])*")
_LATIN_WORD = re.compile(r"[A-Za-z\u00c0-\u024f\u1e00-\u1eff]+(?:['’][a-z]+)?")
MIN_WORDS_WITHOUT_NAMES = 3
# A text with more capitalised words consists of names and titles. German capitalises its nouns.
_MAX_CAPITALISED, _MAX_CAPITALISED_GERMAN = 0.5, 0.85


@cache
def _load_model() -> langid.LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@cache
def _load_identifier(codes: tuple[str, ...]) -> langid.LanguageIdentifier:
    identifier = copy(_load_model())  # shares the large arrays, which `set_languages` replaces and does not write to
    unknown = sorted(set(codes) - set(identifier.labels))
    if unknown:
        raise ValueError(f"language identification does not know {', '.join(unknown)}")
    identifier.set_languages(list(codes))
    return identifier


def prose(text: str) -> str:
    """The text without parts that have no language: code with or without a fence, formulas, links and tags."""
    text = _NOT_LANGUAGE.sub(" ", text)
    return _without_code(_STATEMENT.sub(lambda found: " " if _SQL.match(found[0]) else found[0], text))


def _without_code(text: str) -> str:
    """The text without lines of code and the comments, docstrings and short statements beside them."""
    lines = text.split("\n")
    setting = [line.isascii() and len(line) <= 2000 and _SETTING.match(line) is not None for line in lines]
    code = [_is_code(line, after) for line, after in zip(lines, [*lines[1:], ""], strict=True)]
    for number in range(1, len(lines)):
        if setting[number - 1] and setting[number]:
            code[number - 1] = code[number] = True
    if not any(code):
        return text
    if '"""' in text or "'''" in text:
        return _without_code(_DOCSTRING.sub(" ", text).replace('"""', " ").replace("'''", " "))
    for order in (range(len(lines)), range(len(lines) - 1, -1, -1)):
        beside = False
        for number in order:
            if lines[number].strip():
                belongs = setting[number] or _BESIDE_CODE.match(lines[number]) is not None
                code[number] = beside = code[number] or (beside and belongs)
    return "\n".join(line for line, is_code in zip(lines, code, strict=True) if not is_code)


def _is_code(line: str, after: str) -> bool:
    """Whether a line can only be code. `after` is the next one."""
    if not line.isascii() or len(line) > 2000:
        return False
    if _CODE_LINE.match(line) or (after.startswith("\t") and _TARGET.match(line)):
        return True
    letters = sum(map(str.isalpha, line))
    return _CODE_SIGN.search(line) is not None and len(_SIGNS.findall(line)) > _SIGNS_PER_LETTER * letters


def _is_chinese(text: str) -> bool:
    """Whether Han characters without kana are surely Chinese: by a small word, or a form that Japanese lacks."""
    if _CHINESE_ONLY.search(text) or (_IS.search(text) and _BESIDE_IS.search(text)):
        return True
    try:
        "".join(_HAN.findall(text)).translate(_JAPANESE_FORMS).encode("shift_jis")
    except UnicodeEncodeError:
        return True
    return False


class LanguageIdentifier:
    """py3langid restricted to a few candidates, which makes it nearly as good on a short answer as on a long one.

    `languages` are the candidate codes. With fewer, a text in another language is taken for one of them: of 805 French
    texts, 446 for Spanish if Spanish and English are the candidates. With more, close relatives are mixed up. Raises
    ValueError for fewer than two languages.
    """

    def __init__(self, languages: Sequence[str] = CANDIDATES) -> None:
        if len(set(languages)) < 2:
            raise ValueError("language identification needs at least two candidate languages")
        self._languages = frozenset(languages)
        self._identifier = _load_identifier(tuple(sorted(self._languages)))

    @classmethod
    def among(cls, languages: Iterable[str]) -> LanguageIdentifier:
        """An identifier for texts that should be in one of these languages; its candidates also include CANDIDATES."""
        return cls((*CANDIDATES, *languages))

    def identify(self, text: str) -> str | None:
        """The code of the text's language, or None if undecided.

        The undecided texts are those with too few letters, texts between two languages, code, lists of names or titles,
        and Han characters that may be Chinese or Japanese.
        """
        text = prose(text)[:MAX_CHARACTERS]
        letters = sum(character.isalpha() for character in text)
        is_dense = _DENSE.search(text) is not None
        if letters < MIN_LETTERS and len(_DENSE.findall(text)) < MIN_DENSE_LETTERS:
            return None
        # Digits and punctuation have no language.
        code = self._classify(text if is_dense else " ".join(_WORD.findall(text)))
        if code in ("zh", "ja") and {"zh", "ja"} <= self._languages and not _KANA.search(text):
            return code if code == "zh" and _is_chinese(text) else None
        return None if code and not is_dense and self._is_names(text, code) else code

    def _classify(self, text: str) -> str | None:
        code, probability = self._identifier.classify(text)
        return str(code) if probability >= MIN_PROBABILITY else None

    def _is_names(self, text: str, code: str) -> bool:
        """Whether a text in Latin letters is mostly names and titles, and the rest does not confirm its language."""
        words = _LATIN_WORD.findall(text)
        if 2 * sum(map(len, words)) < len(text.replace(" ", "")):
            return False  # names within a text of another script
        capitalised = sum(word[0].isupper() and not word.isupper() for word in words)
        if capitalised <= len(words) * (_MAX_CAPITALISED_GERMAN if code == "de" else _MAX_CAPITALISED):
            return False
        rest = list(dict.fromkeys(word for word in words if word[0].islower()))
        too_short = len(rest) < MIN_WORDS_WITHOUT_NAMES or sum(map(len, rest)) < MIN_LETTERS
        return too_short or self._classify(" ".join(rest)) != code

    def is_other(self, text: str, language: str) -> bool:
        """Whether a text is in another language than this one; False if undecided."""
        return self.identify(text) not in (None, language)
