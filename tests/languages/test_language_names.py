"""Requests for another language, in all pairs of the table's languages, and what only looks like one."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from lidr.languages import LANGUAGES
from lidr.languages.names import _phrase, asks_for_other_language

_ROWS = [
    line.split("\t")
    for line in Path(__file__).with_name("language_names.tsv").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]
# NAMES["de"]["es"] is what Spanish is called in German.
NAMES = {row[0]: dict(zip(_ROWS[0][1:], row[1:], strict=True)) for row in _ROWS[1:]}
REQUESTS = {
    "en": "Write a poem in {}.", "es": "Escribe un poema en {}.", "fr": "Écris un poème en {}.",
    "de": "Schreib ein Gedicht auf {}.", "ru": "Запиши это на {} язык.", "it": "Scrivi una poesia in {}.",
    "zh": "请用{}写一首诗。", "ja": "{}で詩を書いてください。", "ko": "{}로 시를 써 주세요.",
    "th": "เขียนบทกวีเป็นภาษา{}", "sw": "Andika shairi kwa {}.", "bn": "{} ভাষায় একটি কবিতা লেখো।",
    "te": "{} భాషలో ఒక కవిత రాయండి.", "ar": "اكتب قصيدة باللغة {}.",
    "pt": "Escreva um poema em {}.", "ca": "Escriu un poema en {}.", "ro": "Scrie o poezie în limba {}.",
    "nl": "Schrijf een gedicht in het {}.", "sv": "Skriv en dikt på {}.", "da": "Skriv et digt på {}.",
    "fi": "Kirjoita runo {} kielellä.", "et": "Kirjuta luuletus {} keeles.", "lt": "Parašyk eilėraštį {} kalba.",
    "pl": "Napisz wiersz w języku {}.", "cs": "Napiš báseň v {}.", "sk": "Napíš báseň v {}.",
    "hr": "Napiši pjesmu na {} jeziku.", "hu": "Írj egy verset {} nyelven.", "tr": "Bir şiiri {} olarak yaz.",
    "id": "Tulis puisi dalam bahasa {}.", "vi": "Hãy viết một bài thơ bằng {}.", "uk": "Напиши вірш {} мовою.",
    "bg": "Напиши стихотворение на {}.", "el": "Γράψε ένα ποίημα στα {}.", "he": "כתוב שיר ב{}.",
    "fa": "یک شعر به زبان {} بنویس.", "ur": "ایک نظم {} زبان میں لکھیں۔", "hi": "एक कविता {} भाषा में लिखो।",
    "mr": "एक कविता {} भाषेत लिहा.", "gu": "એક કવિતા {} ભાષામાં લખો.", "pa": "ਇੱਕ ਕਵਿਤਾ {} ਭਾਸ਼ਾ ਵਿੱਚ ਲਿਖੋ।",
    "ta": "ஒரு கவிதையை {} மொழியில் எழுதவும்.", "kn": "ಒಂದು ಕವಿತೆಯನ್ನು {} ಭಾಷೆಯಲ್ಲಿ ಬರೆಯಿರಿ.",
    "ml": "ഒരു കവിത {} ഭാഷയിൽ എഴുതുക.",
}  # fmt: skip
# How the name of the dictionary ends in the request; names that these leave as they are have no endings.
ENDINGS = {
    "pl": ("(?<=k)i$", "im"), "cs": ("a$", "ě"), "sk": ("a$", "e"), "hr": ("(?<=k)i$", "om"),
    "uk": ("ька$", "ькою"), "tr": (" dili$", ""), "fi": ("$", "n"),
}  # fmt: skip
# Genitives whose stem differs from the name, and names that the request words otherwise.
OTHERWISE = {
    "ar": {"kn": "الكنادية"},
    "fa": {"tr": "ترکی"},
    "fi": {"en": "englannin", "nl": "hollannin", "cs": "tšekin", "sk": "slovakin", "tr": "turkin", "el": "kreikan",
           "fi": "suomen", "vi": "vietnamin", "ml": "malajalamin"},
    "ta": {"th": "தாய்லாந்து"},
}  # fmt: skip


def named(code: str, language: str) -> str:
    """The name of a language as it is in a request in another."""
    ending, instead = ENDINGS.get(language, ("$", ""))
    name = re.sub(ending, instead, NAMES[language][code], count=1)
    return OTHERWISE.get(language, {}).get(code, name)


@pytest.mark.parametrize("language", sorted(NAMES))
def test_every_other_language_is_recognised_and_the_own_one_is_not(language: str) -> None:
    assert set(NAMES) == set(NAMES[language]) <= set(LANGUAGES)
    for code in NAMES:
        request = REQUESTS[language].format(named(code, language))
        assert asks_for_other_language(request, language) == (code != language), request


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
        ("zh", "用葡萄牙语回答。"),
        ("ko", "터키어로 답해 주세요."),
        ("ru", "Как это будет на иврите?"),
        ("pt", "Responda em língua inglesa."),
        ("ca", "Respon en llengua francesa."),
        ("ro", "Răspunde in engleza, te rog."),
        ("nl", "Antwoord in eenvoudig Engels."),
        ("sv", "Svara på enkel engelska med några ord."),
        ("da", "Hvordan siger man godmorgen på fransk?"),
        ("fi", "Vastaa englanniksi."),
        ("et", "Kuidas öelda seda vene keeles?"),
        ("lt", "Parašyk tai angliškai."),
        ("pl", "Jak powiedzieć to po francusku?"),
        ("pl", "Odpowiedz w prostym języku angielskim."),
        ("cs", "Napiš to anglicky."),
        ("cs", "Odpověz v jednoduché němčině."),
        ("sk", "Povedz to po anglicky."),
        ("hr", "Odgovori na engleskom."),
        ("hu", "Válaszolj franciául!"),
        ("tr", "Bunu İngilizce yaz."),
        ("tr", "Metni Almancaya aktar."),
        ("id", "Tulis surat berbahasa Inggris."),
        ("vi", "Hãy viết thư bằng tiếng Tây Ban Nha."),
        ("uk", "Відповідай англійською."),
        ("uk", "Як це буде по-французьки?"),
        ("bg", "Отговори на английски език, моля."),
        ("el", "Γράψε το σε απλά αγγλικά."),
        ("el", "Απάντησε στην αγγλική γλώσσα."),
        ("he", "ענה בשפה האנגלית."),
        ("fa", "به انگلیسی جواب بده."),
        ("ur", "انگریزی میں جواب دیں۔"),
        ("hi", "अंग्रेजी में जवाब दो।"),
        ("mr", "हे इंग्रजीत लिहा."),
        ("mr", "हे फ्रेंचमध्ये लिहा."),
        ("gu", "અંગ્રેજીમાં જવાબ આપો."),
        ("pa", "ਅੰਗਰੇਜ਼ੀ ਵਿਚ ਜਵਾਬ ਦਿਓ।"),
        ("ta", "ஆங்கிலத்தில் எழுதவும்."),
        ("ta", "இதை இந்தியில் சொல்லவும்."),
        ("ta", "பிரெஞ்சில் பதில் கூறவும்."),
        ("kn", "ಇಂಗ್ಲಿಷ್\u200cನಲ್ಲಿ ಬರೆಯಿರಿ."),
        ("kn", "ಇದನ್ನು ಹಿಂದಿಯಲ್ಲಿ ಹೇಳಿ."),
        ("kn", "ಇದನ್ನು ತಮಿಳಿನಲ್ಲಿ ಹೇಳಿ."),
        ("ml", "ഇംഗ്ലീഷിൽ എഴുതുക."),
        ("ml", "ഇത് ഉറുദുവിൽ പറയുക."),
        ("ml", "ഇത് ജർമ്മനിൽ പറയുക."),
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
        ("en", "Which temples are in Tamil Nadu?"),
        ("es", "¿Qué se come en Tamil Nadu y en Turquía?"),
        ("zh", "请写一篇以希腊文化为主题的文章。"),
        ("te", "చెక్\u200cలో ఏమి రాయాలి?"),
        ("pt", "Como se faz uma salada italiana na Alemanha?"),
        ("ca", "On es menja menjar xinès a Alemanya?"),
        ("ro", "Ce se mănâncă în restaurantele chinezești?"),
        ("nl", "Wat eet men in de Franse keuken?"),
        ("nl", "Wie won de slag in de Frans-Duitse oorlog?"),
        ("nl", "Wat kost het in een Frans restaurant?"),
        ("sv", "Vad säljs på kinesiska marknader?"),
        ("da", "Hvad koster jord på dansk og på tysk grund?"),
        ("fi", "Mitä syödään Englannissa ja Ranskassa?"),
        ("fi", "Miten opin ranskan kielen?"),
        ("et", "Kuidas õppida inglise keelt?"),
        ("lt", "Kodėl anglų kalba tokia sunki?"),
        ("pl", "Jak wejść na niemiecki rynek?"),
        ("pl", "Jak nauczyć się języka angielskiego?"),
        ("cs", "Jak se naučit anglicky?"),
        ("cs", "Kde koupím učebnici angličtiny?"),
        ("sk", "Kde je v Nemecku anglický park?"),
        ("hr", "Što se prodaje na kineskom tržištu?"),
        ("hu", "Hogyan lehet gyorsan tanulni angolul?"),
        ("tr", "İngilizce öğrenmenin en iyi yolu nedir?"),
        ("id", "Bagaimana cara belajar bahasa Inggris?"),
        ("vi", "Làm thế nào để học tiếng Anh?"),
        ("uk", "Як вийти на німецький ринок?"),
        ("uk", "Що лікують китайською медициною?"),
        ("bg", "Какво се продава на китайски пазар?"),
        ("el", "Τι τρώνε στα κινεζικά εστιατόρια;"),
        ("he", "מה אוכלים במסעדה צרפתית?"),
        ("fa", "غذای چینی را چگونه می‌پزند؟"),
        ("ur", "چینی میں کتنے حرارے ہوتے ہیں؟"),
        ("hi", "चीनी में कितनी कैलोरी होती है?"),
        ("hi", "तुर्की में क्या खाया जाता है?"),
        ("mr", "जर्मनीत काय खातात?"),
        ("gu", "જર્મનીમાં શું ખવાય છે?"),
        ("pa", "ਤੁਰਕੀ ਵਿੱਚ ਕੀ ਖਾਧਾ ਜਾਂਦਾ ਹੈ?"),
        ("ta", "இத்தாலியில் என்ன சாப்பிடுகிறார்கள்?"),
        ("ta", "தாய்மொழியில் கற்பது ஏன் நல்லது?"),
        ("kn", "ಗುಜರಾತಿನಲ್ಲಿ ಏನು ತಿನ್ನುತ್ತಾರೆ?"),
        ("ml", "ജർമ്മനിയിൽ എന്താണ് കഴിക്കുന്നത്?"),
    ],
)
def test_nations_and_learners_are_no_request(language: str, prompt: str) -> None:
    assert not asks_for_other_language(prompt, language)


def test_translation_tasks_ask_for_another_language() -> None:
    assert asks_for_other_language("Translate: good evening", "en")
    assert asks_for_other_language("Переведите это предложение.", "ru")


def test_a_language_of_the_table_without_names_is_told_by_its_words_for_translating(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(LANGUAGES, "xy", replace(LANGUAGES["pt"], code="xy", name="Fictional"))
    assert asks_for_other_language("Traduza esta frase.", "xy")
    assert not asks_for_other_language("Escreva um poema em inglês.", "xy")
    _phrase.cache_clear()  # made before the table had one more
    assert asks_for_other_language("Write a poem in Fictional.", "en")
    _phrase.cache_clear()


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown language 'xx'"):
        asks_for_other_language("Hello", "xx")
