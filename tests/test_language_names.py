# ruff: noqa: E501
"""Requests for another language, in all pairs of the table's languages, and what only looks like one."""

from __future__ import annotations

import pytest

from lidr.language_names import asks_for_other_language
from lidr.languages import LANGUAGES

COLUMNS = ["en", "es", "fr", "de", "ru", "it", "zh", "ja", "ko", "th", "sw", "bn", "te", "ar"]
# The languages' names in each language as CLDR has them (Babel 2.18), in the order of the columns, and a request.
NAMES = {
    "en": "English Spanish French German Russian Italian Chinese Japanese Korean Thai Swahili Bangla Telugu Arabic",
    "es": "inglés español francés alemán ruso italiano chino japonés coreano tailandés suajili bengalí telugu árabe",
    "fr": "anglais espagnol français allemand russe italien chinois japonais coréen thaï swahili bengali télougou arabe",
    "de": "Englisch Spanisch Französisch Deutsch Russisch Italienisch Chinesisch Japanisch Koreanisch Thailändisch Suaheli Bengalisch Telugu Arabisch",
    "ru": "английский испанский французский немецкий русский итальянский китайский японский корейский тайский суахили бенгальский телугу арабский",
    "it": "inglese spagnolo francese tedesco russo italiano cinese giapponese coreano thailandese swahili bengalese telugu arabo",
    "zh": "英语 西班牙语 法语 德语 俄语 意大利语 中文 日语 韩语 泰语 斯瓦希里语 孟加拉语 泰卢固语 阿拉伯语",
    "ja": "英語 スペイン語 フランス語 ドイツ語 ロシア語 イタリア語 中国語 日本語 韓国語 タイ語 スワヒリ語 ベンガル語 テルグ語 アラビア語",
    "ko": "영어 스페인어 프랑스어 독일어 러시아어 이탈리아어 중국어 일본어 한국어 태국어 스와힐리어 벵골어 텔루구어 아랍어",
    "th": "อังกฤษ สเปน ฝรั่งเศส เยอรมัน รัสเซีย อิตาลี จีน ญี่ปุ่น เกาหลี ไทย สวาฮีลี บังกลา เตลูกู อาหรับ",
    "sw": "Kiingereza Kihispania Kifaransa Kijerumani Kirusi Kiitaliano Kichina Kijapani Kikorea Kithai Kiswahili Kibengali Kitelugu Kiarabu",
    "bn": "ইংরেজি স্প্যানিশ ফরাসি জার্মান রুশ ইতালিয় চীনা জাপানি কোরিয়ান থাই সোয়াহিলি বাংলা তেলুগু আরবি",
    "te": "ఇంగ్లీష్ స్పానిష్ ఫ్రెంచ్ జర్మన్ రష్యన్ ఇటాలియన్ చైనీస్ జపనీస్ కొరియన్ థాయ్ స్వాహిలి బంగ్లా తెలుగు అరబిక్",
    "ar": "الإنجليزية الإسبانية الفرنسية الألمانية الروسية الإيطالية الصينية اليابانية الكورية التايلاندية السواحلية البنغالية التيلوغوية العربية",
}
REQUESTS = {
    "en": "Write a poem in {}.", "es": "Escribe un poema en {}.", "fr": "Écris un poème en {}.",
    "de": "Schreib ein Gedicht auf {}.", "ru": "Запиши это на {} язык.", "it": "Scrivi una poesia in {}.",
    "zh": "请用{}写一首诗。", "ja": "{}で詩を書いてください。", "ko": "{}로 시를 써 주세요.",
    "th": "เขียนบทกวีเป็นภาษา{}", "sw": "Andika shairi kwa {}.", "bn": "{} ভাষায় একটি কবিতা লেখো।",
    "te": "{}లో ఒక కవిత రాయండి.", "ar": "اكتب قصيدة باللغة {}.",
}  # fmt: skip


@pytest.mark.parametrize("language", COLUMNS)
def test_every_other_language_is_recognised_and_the_own_one_is_not(language: str) -> None:
    assert set(COLUMNS) <= set(LANGUAGES)
    for code, name in zip(COLUMNS, NAMES[language].split(), strict=True):
        assert asks_for_other_language(REQUESTS[language].format(name), language) == (code != language), name


@pytest.mark.parametrize("code", sorted(LANGUAGES))
def test_english_knows_every_language_and_every_language_its_word_for_translating(code: str) -> None:
    if code != "en":
        assert asks_for_other_language(f"Write a poem in {LANGUAGES[code].name}.", "en")
    assert asks_for_other_language(f"- {LANGUAGES[code].translation_words[0]} -", code)


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_the_request_for_the_own_language_is_none(language: str) -> None:
    assert not asks_for_other_language(LANGUAGES[language].answer_instruction, language)


@pytest.mark.parametrize(
    ("language", "prompt"),
    [
        ("en", "How do you say good evening in french"),
        ("en", "Write in the style of Cervantes, in old Spanish please."),
        ("es", "Responde en idioma inglés antiguo."),
        ("fr", "Rédige la lettre en langue espagnole."),
        ("de", "Bitte schreiben Sie in englischer Sprache."),
        ("de", "Bring den Text ins Spanische."),
        ("de", "Antworte in einfachem Englisch."),
        ("de", "Antworte auf englisch."),
        ("ru", "Ответь на английском."),
        ("ru", "Напиши письмо на хорошем немецком языке."),
        ("ru", "Как сказать «добрый вечер» по-французски?"),
        ("it", "Rispondi in lingua tedesca."),
        ("zh", "请用英文回答。"),
        ("zh", "請用法語回答。"),
        ("ja", "英語にしてください。"),
        ("th", "ตอบในภาษาฝรั่งเศส"),
        ("bn", "ইংরেজিতে লেখো।"),
        ("te", "ఆంగ్ల భాషలో రాయండి."),
        ("ar", "اكتب رسالة بالانجليزية"),
    ],
)
def test_other_ways_to_ask(language: str, prompt: str) -> None:
    assert asks_for_other_language(prompt, language)


@pytest.mark.parametrize(
    ("language", "prompt"),
    [
        ("en", "What is the role of herbs in Chinese medicine?"),
        ("en", "Who lived in the French quarter, and how do I cook French fries?"),
        ("en", "Why should one learn Spanish?"),
        ("en", "Who was a painter in Italian Renaissance?"),
        ("es", "Genera una receta de aderezo italiano."),
        ("es", "¿Qué se come en China y en Alemania?"),
        ("fr", "Je suis allé au buffet chinois."),
        ("de", "Was isst man in französischen Restaurants?"),
        ("de", "Wie komme ich ins italienische Restaurant?"),
        ("de", "Warum sollte man Spanisch lernen?"),
        ("ru", "Что продают на китайском рынке?"),
        ("ru", "Как выйти на немецкий рынок?"),
        ("it", "Quanto costa un ristorante giapponese in Francia?"),
        ("zh", "请写一份使用法文档。"),
        ("zh", "怎么教我的猫学法语？"),
        ("ja", "中国の歴史を教えてください。"),
        ("ko", "영어를 배우는 방법은?"),
        ("bn", "জার্মানিতে কী খাওয়া হয়?"),
        ("sw", "Chakula cha Kifaransa ni nini?"),
    ],
)
def test_nations_and_learners_are_no_request(language: str, prompt: str) -> None:
    assert not asks_for_other_language(prompt, language)


def test_translation_tasks_ask_for_another_language() -> None:
    assert asks_for_other_language("Translate: good evening", "en")
    assert asks_for_other_language("Переведите это предложение.", "ru")


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown language 'xx'"):
        asks_for_other_language("Hello", "xx")
