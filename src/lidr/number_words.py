# ruff: noqa: E501
"""The words beside the digits: "million" and its kin, "Answer:", "Step 3", in the languages of the table.

Scales are CLDR's compact formats (Unicode Common Locale Data Repository, as Babel prints them) with the inflections in
common use; "million" is one word for two numbers ("billion" is 10^9 in English and 10^12 in German), so a word in
Latin, Greek or Cyrillic letters counts only in its own language and, if it is English, in every one.
"""

from __future__ import annotations

import re
from functools import cache

# Exponent of ten: what is written after the number, as a regular expression.
_SCALES: dict[str, dict[int, str]] = {
    "en": {2: "hundred", 3: "thousand", 5: "lakhs?", 6: "millions?|mln|mn", 7: "crores?", 9: "billions?|bn", 12: "trillions?"},
    "es": {3: "mil", 6: r"mill[oó]n(?:es)?|mill?\.", 9: "mil millones", 12: "bill[oó]n(?:es)?"},
    "fr": {3: "mille|milliers?", 6: "millions?", 9: "milliards?|mds?", 12: "billions?"},
    "de": {3: r"tausend|tsd\.?", 6: r"million(?:en)?|mio\.?", 9: r"milliarden?|mrd\.?", 12: r"billion(?:en)?|bio\.?"},
    "ru": {3: r"тыс(?:\.|яч[аи]?)?", 6: r"миллион(?:а|ов)?|млн\.?", 9: r"миллиард(?:а|ов)?|млрд\.?", 12: r"триллион(?:а|ов)?|трлн\.?"},
    "it": {3: "mila|mille", 6: r"milion[ei]|mln\.?", 9: r"miliard[oi]|mld\.?", 12: "bilion[ei]"},
    "sw": {3: "elfu", 5: "laki", 6: "milioni", 9: "bilioni"},
    "pt": {3: "mil", 6: "milh(?:ão|ões)", 9: "bilh(?:ão|ões)|mil milhões", 12: "trilh(?:ão|ões)"},
    "ca": {3: "mil|milers?", 6: "mili(?:ó|ons)", 9: "mil milions|milers? de milions", 12: "bili(?:ó|ons)"},
    "ro": {3: "(?:de )?mii|mie", 6: r"(?:de )?milioane|milion|mil\.", 9: r"(?:de )?miliarde|miliard|mld\.", 12: "(?:de )?trilioane|trilion"},
    "nl": {3: "duizend", 6: r"miljoen|mln\.?", 9: r"miljard|mld\.?|mrd\.?", 12: "biljoen"},
    "sv": {3: "tusen", 6: "miljon(?:er)?|mn", 9: "miljard(?:er)?|mdr?", 12: "biljon(?:er)?"},
    "da": {3: "tusind(?:e)?", 6: r"million(?:er)?|mio\.?", 9: r"milliard(?:er)?|mia\.|mia", 12: "billion(?:er)?"},
    "fi": {3: "tuhat(?:ta)?", 6: r"miljoonaa?|milj\.?", 9: r"miljardia?|mrd\.?", 12: "biljoonaa?"},
    "et": {3: r"tuhat|tuh\.?", 6: "miljonit?|mln", 9: "miljardit?|mld", 12: "triljonit?"},
    "lt": {3: r"tūkst(?:\.|ančiai|antis|ančio|ančių)", 6: r"milijon(?:ai|as|o|ų)|mln\.?", 9: r"milijard(?:ai|as|o|ų)|mlrd\.?", 12: "trilijon(?:ai|as|o|ų)"},
    "pl": {3: r"tysi(?:ąca?|ące|ęcy)|tys\.?", 6: r"milion(?:a|y|ów)?|mln\.?", 9: r"miliard(?:a|y|ów)?|mld\.?", 12: "bilion(?:a|y|ów)?"},
    "cs": {3: r"tisíce?|tis\.", 6: r"mili[oó]n(?:u|y|ů)?|mil\.", 9: r"miliard[ay]?|mld\.", 12: "bili[oó]n(?:u|y|ů)?"},
    "sk": {3: r"tisíc[ae]?|tis\.", 6: r"mili[oó]n(?:a|y|ov)?|mil\.", 9: r"miliárd|miliard[ay]|mld\.", 12: "bili[oó]n(?:a|y|ov)?"},
    "hr": {3: r"tisuć[ae]|tis\.", 6: r"milijuna?|mil\.", 9: r"milijard[aei]|mlrd?\.", 12: "bilijuna?"},
    "hu": {3: "ezer", 6: "milli[óo]", 9: "milli[áa]rd|mrd", 12: "billi[óo]"},
    "tr": {3: "bin", 6: "milyon", 9: "milyar", 12: "trilyon"},
    "id": {3: "ribu|rb", 6: "juta|jt", 9: "mili?ar", 12: "triliun"},
    "vi": {3: "nghìn|ngàn", 6: "triệu", 9: "tỷ|tỉ"},
    "uk": {3: r"тис(?:\.|яч[аі]?)?", 6: r"мільйон(?:а|и|ів)?|млн\.?", 9: r"мільярд(?:а|и|ів)?|млрд\.?", 12: r"трильйон(?:а|и|ів)?|трлн\.?"},
    "bg": {3: r"хиляд[аи]|хил\.", 6: r"милиона?|млн\.?", 9: r"милиарда?|млрд\.?", 12: r"трилиона?|трлн\.?"},
    "el": {3: r"χιλιάδ(?:α|ες)|χιλ\.", 6: r"εκατομμύρι[αο]|εκατ?\.", 9: r"δισεκατομμύρι[αο]|δισ\."},
}  # fmt: skip
# Scripts that one language or one family writes: these count everywhere.
_ANYWHERE: dict[int, str] = {
    2: r"百|백|ร้อย",
    3: (
        r"千(?![克米瓦])|천|พัน|হাজার|వేలు?|వేయి|(?:ألف[اً]*|آلاف|هزار|ہزار|אלף|हज़ार|हज़ार|हजार|હજાર|ਹਜ਼ਾਰ|ਹਜ਼ਾਰ|ஆயிரம்|ಸಾವಿರ|ആയിരം)(?!\w)"
    ),
    4: r"万|萬|만|หมื่น",
    5: r"แสน|লাখ|লক্ষ(?!্)|లక్ష(?:లు?)?|(?:लाख|લાખ|ਲੱਖ|لاکھ|லட்சம்|ಲಕ್ಷ|ലക്ഷം)(?!\w)",
    6: r"ล้าน(?!ล้าน)|మిలియన్(?:లు)?|(?:مليون[اً]*|ملايين|میلیون|מיליון|மில்லியன்|ಮಿಲಿಯನ್|ദശലക്ഷം)(?!\w)",
    7: r"কোটি|కోట్లు?|కోటి|(?:करोड़|करोड़|कोटी|કરોડ|ਕਰੋੜ|کروڑ|கோடி|ಕೋಟಿ|കോടി)(?!\w)",
    8: r"亿|億|억",
    9: r"พันล้าน|బిలియన్(?:లు)?|(?:مليار|میلیارد|מיליארד|अरब|अब्ज|અબજ|ਅਰਬ|ارب|பில்லியன்|ಬಿಲಿಯನ್|ബില്യൺ)(?!\w)",
    10: "หมื่นล้าน",
    11: "แสนล้าน",
    12: "万亿|萬億|兆|조(?!각)|ล้านล้าน",
}
# "$70k", "€1.5M": letters that are scales only after money.
_AFTER_MONEY = {3: "k", 6: "m|mm", 9: "b|bn|md", 12: "t"}
_BEFORE = re.compile(r"(?<!\w)(?:(elfu)|(laki)|(milioni)|(bilioni))[ ](?:ya[ ])?(?:\*\*)?$")  # Swahili: "milioni 5"

ANSWER_LABELS = (
    r"answer|respuesta|réponse|antwort|endantwort|ответ|risposta|答案|答え|回答|解答|答|정답|답|คำตอบ|jibu|উত্তর|సమాధానం"
    r"|الجواب|الإجابة|الاجابة|جواب|پاسخ|جواب|resposta|răspuns(?:ul)?|antwoord|svaret?|vastaus|vastus|atsakymas|odpowiedź"
    r"|odpov[eěé]ď|odgovor|válasz|cevap|yanıt|jawaban(?:nya)?|trả lời|đáp án|đáp số|відповідь|отговор|απάντηση|תשובה"
    r"|उत्तर|જવાબ|ਜਵਾਬ|ਉੱਤਰ|பதில்|விடை|ಉತ್ತರ|ഉത്തരം"
)
STEP_LABELS = (
    r"step|schritt|paso|étape|etape|шаг|passo|pas|pasul|stap|steg|trin|vaihe|samm|žingsnis|krok|korak|lépés|adım"
    r"|langkah|bước|крок|стъпка|βήμα|שלב|مرحله|مرحلہ|قدم|चरण|पायरी|પગલું|ਕਦਮ|படி|ಹಂತ|ഘട്ടം|hatua(?: ya)?|ধাপ|దశ|الخطوة"
    r"|ขั้นตอนที่|ขั้นที่|步骤|步驟|ステップ|手順|단계"
)


@cache
def _scales(language: str, money: bool) -> re.Pattern[str]:
    """Any word of scale, in a group named by its exponent of ten.

    The largest come first: "mil millones" before "mil", the German "Billion" before the English one.
    """
    words: dict[int, list[str]] = {}
    for spaced in (_SCALES.get(language, {}), _SCALES["en"]):
        for exponent, pattern in spaced.items():
            words.setdefault(exponent, []).append(f"(?:{pattern})(?!\\w)")
    for exponent, pattern in _ANYWHERE.items():
        words.setdefault(exponent, []).append(pattern)
    any_word = "|".join(f"(?P<e{exponent}>{'|'.join(words[exponent])})" for exponent in sorted(words, reverse=True))
    letters = "|".join(f"(?P<m{exponent}>(?:{pattern})(?!\\w))" for exponent, pattern in _AFTER_MONEY.items())
    return re.compile(rf"(?:[ {{}}]|\*\*|__){{0,5}}(?:{any_word}{'|' + letters if money else ''})", re.I)


def scale_after(text: str, at: int, language: str, money: bool) -> tuple[int, int]:
    """(exponent of ten, end) of the words of scale at this place of the text ("千万"); (0, `at`) if there is none."""
    total = 0
    for _ in range(3):
        found = _scales(language, money).match(text, at)
        if found is None:
            break
        total, at = total + int(str(found.lastgroup)[1:]), found.end()
    return total, at


def scale_before(before: str) -> int:
    """The exponent of ten of the Swahili word of scale that a text ends in; 0 if there is none."""
    found = _BEFORE.search(before)
    return (3, 5, 6, 9)[int(found.lastindex or 1) - 1] if found else 0
