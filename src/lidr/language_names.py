# ruff: noqa: E501
"""Does a prompt ask for an answer in another language than its own? Told by the languages' names, without a model.

The names are those of CLDR (Unicode Common Locale Data Repository, as Babel 2.18 prints them), shortened to stems where
the language inflects them, with the spellings and second names in common use ("Mandarin", "英文") added. Most European
languages use one word for the language and for the nation ("French fries"), so a name counts only in a phrase that
says in which language something is put: "in French", "auf Französisch", "на французском", "フランス語で".

Fourteen languages have such names and phrases, of one another; English also has the names of all others of the table.
A prompt in one of the others is told by its words for "translate" alone.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from lidr.languages import LANGUAGES, get_language

# Row: the language of the prompt. Columns: the language named, in the order of the first line; `|` between spellings.
_COLUMNS = "en es fr de ru it zh ja ko th sw bn te ar"
_NAMES = {
    "en": "English Spanish French German Russian Italian Chinese|Mandarin Japanese Korean Thai Swahili|Kiswahili Bengali|Bangla Telugu Arabic",
    "es": "ingl[eé]s|inglesa español|española|castellan[oa] franc[eé]s|francesa alem[aá]n|alemana rus[oa] italian[oa] chino|mandar[ií]n japon[eé]s|japonesa corean[oa] tailand[eé]s|tailandesa suajili|swahili bengal[ií] telugu [aá]rabe",
    "fr": "anglaise? espagnole? française?|francais allemande? russe italien(?:ne)? chinoise?|mandarin japonaise? coréen(?:ne)? thaï(?:landais)? swahili|kiswahili bengali télougou|telugu arabe",
    "de": "Englisch Spanisch Französisch Deutsch Russisch Italienisch Chinesisch|Mandarin Japanisch Koreanisch Thailändisch|Thai Suaheli|Swahili|Kisuaheli Bengalisch|Bengali Telugu Arabisch",
    "ru": "английск испанск французск немецк русск итальянск китайск японск корейск тайск суахили бенгальск телугу арабск",
    "it": "inglese spagnol[oa] francese tedesc[oa] russ[oa] italian[oa] cinese|mandarino giapponese corean[oa] thai(?:landese)?|tailandese swahili bengalese|bengali telugu arab[oa]",
    "zh": "英[语語文] 西班牙[语語文]|西[语語] 法[语語文] 德[语語文] 俄[语語文]|[俄罗]斯[语語] [意義]大利[语語文] 中文|[汉漢][语語]|[华華][语語]|普通[话話] 日[语語文] [韩韓][语語文] 泰[语語文] 斯瓦希里[语語] 孟加拉[语語文] 泰[卢盧]固[语語] 阿拉伯[语語文]",
    "ja": "英語 スペイン語 フランス語|仏語 ドイツ語|独語 ロシア語 イタリア語 中国語 日本語 韓国語|朝鮮語 タイ語 スワヒリ語 ベンガル語 テルグ語 アラビア語",
    "ko": "영어|영문 스페인어 프랑스어|불어 독일어 러시아어 이탈리아어 중국어 일본어|일어 한국어|한글 태국어 스와힐리어 벵골어|벵갈어 텔루구어 아랍어",
    "th": "อังกฤษ สเปน ฝรั่งเศส เยอรมัน รัสเซีย อิตาลี|อิตาเลียน จีน ญี่ปุ่น เกาหลี ไทย สวาฮีลี บังกลา|เบงกาลี เตลูกู อาหรับ|อารบิก",
    "sw": "Kiingereza Kihispania Kifaransa Kijerumani Kirusi Kiitaliano Kichina Kijapani Kikorea Kithai Kiswahili Kibengali|Kibangla Kitelugu Kiarabu",
    "bn": "ইংরেজি|ইংরাজি স্প্যানিশ ফরাসি|ফ্রেঞ্চ জার্মান রুশ|রাশিয়ান ইতালিয়|ইতালীয়|ইতালিয়ান চীনা|চাইনিজ জাপানি|জাপানী কোরিয়ান|কোরীয় থাই সোয়াহিলি বাংলা তেলুগু|তেলেগু আরবি",
    "te": "ఇంగ్లీష్|ఇంగ్లీషు|ఇంగ్లిష్|ఆంగ్లం|ఆంగ్ల స్పానిష్ ఫ్రెంచ్|ఫ్రెంచి జర్మన్ రష్యన్ ఇటాలియన్ చైనీస్ జపనీస్|జపనీ కొరియన్ థాయ్ స్వాహిలి బంగ్లా|బెంగాలీ తెలుగు అరబిక్|అరబ్బీ",
    "ar": "[إا]نجليزي|[إا]نكليزي [إا]سباني فرنسي [أا]لماني روسي [إا]يطالي صيني ياباني كوري تايلاندي سواحيلي|سواحلي بنغالي تيلوغوي|تيلوجوي عربي",
}  # fmt: skip

# How each language says "in <language>"; NAME stands for the names of the other languages. English and Russian put the
# nation's adjective before its noun ("in Chinese medicine", "на китайском рынке"): what follows the name decides there.
_PHRASES = {
    "en": r"\b(?:in|into)\s+(?:(?!the\b|an?\b)\w+\s+)?NAME\b(?!\s*-\s*\w)(?=\s+(?:\w{1,3}|language|about|that|with|from|using|please|which|what|where|when|without|instead|only)\b|\s*(?:[^\w\s]|\n|\Z))",
    "es": r"\ben\s+(?:idioma\s+|lengua\s+)?NAME\b",
    "fr": r"\ben\s+(?:langue\s+)?NAME\b",
    "de": r"\b(?:auf|in)\s+(?:\w+em\s+)?NAME\b|\bins\s+(?-i:NAME)e\b|\bin\s+NAMEer\s+Sprache\b",
    "ru": r"\bна\s+(?:\w+[ое]м\s+)?NAME(?:ом|ий)?\b(?:\s+язык|(?!\s+\w{3,}(?:е|у|и|ах|ях|ок)\b))|\bпо-NAMEи\b",
    "it": r"\bin\s+(?:lingua\s+)?NAME\b",
    "zh": r"[用以成]\s*NAME(?![件档檔本字])",
    "ja": r"NAME(?:で|にして|に直し)",
    "ko": r"NAME로",
    "th": r"(?:เป็น|ใน|ด้วย|ใช้)\s*ภาษา\s*NAME",
    "sw": r"\b(?:kwa|katika)\s+(?:lugha\s+ya\s+)?NAME\b",
    "bn": r"NAME(?:\s*ভাষা(?:য়|তে)|তে|য়)",
    "te": r"NAME[\s\u200c]*(?:భాష)?లో",
    "ar": r"(?:\bو?ب|\b[إا]لى\s+)ال(?:لغة\s+ال)?NAMEة",
}


@cache
def _phrase(language: str) -> re.Pattern[str] | None:
    """The pattern of a request for another language than the prompt's own; None where its phrases are not known."""
    if language not in _NAMES:
        return None
    names = dict(zip(_COLUMNS.split(), _NAMES[language].split(), strict=True))
    if language == "en":
        names = {code: entry.name for code, entry in LANGUAGES.items()} | names
    others = "|".join(name for code, name in names.items() if code != language)
    pattern = _PHRASES[language].replace("NAME", f"(?:{others})")
    # Bengali has two encodings of one letter; one form on both sides.
    return re.compile(unicodedata.normalize("NFC", pattern), re.IGNORECASE)


def asks_for_other_language(prompt: str, language: str) -> bool:
    """Whether a prompt written in `language` asks for text in another language of the table, or for a translation.

    Told by words alone: a prompt that only speaks of texts in another language ("films in French") is taken for a
    request, and so is a translation into the prompt's own language. Raises ValueError for a language not in the table.
    """
    text = unicodedata.normalize("NFC", prompt)
    lower = text.lower()
    if any(word in lower for word in get_language(language).translation_words):
        return True
    phrase = _phrase(language)
    return phrase is not None and phrase.search(text) is not None
