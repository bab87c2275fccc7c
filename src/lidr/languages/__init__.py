# ruff: noqa: E501
"""The language table: one record per language, and nothing about models.

Adding a language is one line here; `tests/languages/test_languages.py` checks that every line is complete and that the
instruction is written in the language's own script.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Language:
    """One language: ISO 639-1 and 639-3 codes, English name, own name, script.

    `answer_instruction` asks for step-by-step reasoning in the language (the paper's arithmetic setting wraps every
    question in such a request); `{question}` is a placeholder. `translation_words` are lower-case stems by which a
    prompt is recognised as a translation task.
    """

    code: str
    iso3: str
    name: str
    own_name: str
    script: str
    answer_instruction: str
    translation_words: tuple[str, ...]


_TABLE = (
    Language("en", "eng", "English", "English", "Latin",
             "{question}\nSolve this step by step, write in English, and give the result in the last sentence.",
             ("translat",)),
    Language("es", "spa", "Spanish", "español", "Latin",
             "{question}\nResuélvelo paso a paso, escribe en español y da el resultado en la última frase.",
             ("traduc", "traduz")),
    Language("fr", "fra", "French", "français", "Latin",
             "{question}\nRésous ce problème étape par étape, écris en français et donne le résultat dans la dernière phrase.",
             ("tradui", "traduc")),
    Language("de", "deu", "German", "Deutsch", "Latin",
             "{question}\nLöse die Aufgabe Schritt für Schritt, schreibe auf Deutsch und nenne das Ergebnis im letzten Satz.",
             ("übersetz",)),
    Language("ru", "rus", "Russian", "русский", "Cyrillic",
             "{question}\nРеши задачу шаг за шагом, пиши по-русски и назови результат в последнем предложении.",
             ("перевед", "перевод", "перевест")),
    Language("it", "ita", "Italian", "italiano", "Latin",
             "{question}\nRisolvi passo dopo passo, scrivi in italiano e indica il risultato nell'ultima frase.",
             ("traduc", "tradur", "traduz")),
    Language("zh", "zho", "Chinese", "中文", "Han",
             "{question}\n请用中文一步一步地解答，并在最后一句话中给出结果。",
             ("翻译", "翻譯")),
    Language("ja", "jpn", "Japanese", "日本語", "Japanese",
             "{question}\n日本語で一歩ずつ解き、最後の文で答えを述べてください。",
             ("翻訳", "訳して", "訳し")),
    Language("ko", "kor", "Korean", "한국어", "Hangul",
             "{question}\n한국어로 단계별로 풀고 마지막 문장에서 결과를 말해 주세요.",
             ("번역",)),
    Language("th", "tha", "Thai", "ไทย", "Thai",
             "{question}\nโปรดแก้โจทย์ทีละขั้นตอนเป็นภาษาไทย และบอกคำตอบในประโยคสุดท้าย",
             ("แปล",)),
    Language("sw", "swa", "Swahili", "Kiswahili", "Latin",
             "{question}\nTatua hatua kwa hatua, andika kwa Kiswahili, na utoe jibu katika sentensi ya mwisho.",
             ("tafsiri",)),
    Language("bn", "ben", "Bengali", "বাংলা", "Bengali",
             "{question}\nধাপে ধাপে বাংলায় সমাধান করুন এবং শেষ বাক্যে ফলাফল লিখুন।",
             ("অনুবাদ",)),
    Language("te", "tel", "Telugu", "తెలుగు", "Telugu",
             "{question}\nదీన్ని తెలుగులో దశలవారీగా పరిష్కరించి, చివరి వాక్యంలో ఫలితాన్ని చెప్పండి.",
             ("అనువ", "అనువద")),
    Language("ar", "ara", "Arabic", "العربية", "Arabic",
             "{question}\nحل المسألة خطوة بخطوة باللغة العربية، واذكر النتيجة في الجملة الأخيرة.",
             ("ترجم",)),
    Language("pt", "por", "Portuguese", "português", "Latin",
             "{question}\nResolva passo a passo, escreva em português e dê o resultado na última frase.",
             ("traduz", "traduç", "tradut")),
    Language("ca", "cat", "Catalan", "català", "Latin",
             "{question}\nResol-ho pas a pas, escriu en català i dona el resultat a l'última frase.",
             ("tradu",)),
    Language("ro", "ron", "Romanian", "română", "Latin",
             "{question}\nRezolvă pas cu pas, scrie în limba română și spune rezultatul în ultima propoziție.",
             ("tradu",)),
    Language("nl", "nld", "Dutch", "Nederlands", "Latin",
             "{question}\nLos dit stap voor stap op, schrijf in het Nederlands en geef het resultaat in de laatste zin.",
             ("vertaal", "vertal")),
    Language("sv", "swe", "Swedish", "svenska", "Latin",
             "{question}\nLös uppgiften steg för steg, skriv på svenska och ange resultatet i den sista meningen.",
             ("översätt",)),
    Language("da", "dan", "Danish", "dansk", "Latin",
             "{question}\nLøs opgaven trin for trin, skriv på dansk, og angiv resultatet i den sidste sætning.",
             ("oversæt",)),
    Language("fi", "fin", "Finnish", "suomi", "Latin",
             "{question}\nRatkaise tehtävä vaihe vaiheelta, kirjoita suomeksi ja kerro tulos viimeisessä virkkeessä.",
             ("käännä", "käännö", "suomenna")),
    Language("et", "est", "Estonian", "eesti", "Latin",
             "{question}\nLahenda ülesanne samm-sammult, kirjuta eesti keeles ja ütle tulemus viimases lauses.",
             ("tõlgi", "tõlki", "tõlge")),
    Language("lt", "lit", "Lithuanian", "lietuvių", "Latin",
             "{question}\nIšspręsk uždavinį žingsnis po žingsnio, rašyk lietuviškai ir paskutiniame sakinyje pateik rezultatą.",
             ("versk", "išversti", "vertim")),
    Language("pl", "pol", "Polish", "polski", "Latin",
             "{question}\nRozwiąż zadanie krok po kroku, pisz po polsku i podaj wynik w ostatnim zdaniu.",
             ("przetłumacz", "tłumacz")),
    Language("cs", "ces", "Czech", "čeština", "Latin",
             "{question}\nVyřeš úlohu krok za krokem, piš česky a výsledek uveď v poslední větě.",
             ("přelož", "překlad", "přeložit")),
    Language("sk", "slk", "Slovak", "slovenčina", "Latin",
             "{question}\nVyrieš úlohu krok za krokom, píš po slovensky a výsledok uveď v poslednej vete.",
             ("prelož", "preklad")),
    Language("hr", "hrv", "Croatian", "hrvatski", "Latin",
             "{question}\nRiješi zadatak korak po korak, piši na hrvatskom jeziku i navedi rezultat u posljednjoj rečenici.",
             ("prevedi", "prijevod", "prevesti")),
    Language("hu", "hun", "Hungarian", "magyar", "Latin",
             "{question}\nOldd meg a feladatot lépésről lépésre, írj magyarul, és az utolsó mondatban add meg az eredményt.",
             ("fordít", "fordits")),
    Language("tr", "tur", "Turkish", "Türkçe", "Latin",
             "{question}\nSoruyu adım adım çöz, Türkçe yaz ve sonucu son cümlede ver.",
             ("çevir", "tercüme")),
    Language("id", "ind", "Indonesian", "Bahasa Indonesia", "Latin",
             "{question}\nSelesaikan soal ini langkah demi langkah, tulis dalam bahasa Indonesia, dan sebutkan hasilnya dalam kalimat terakhir.",
             ("terjemah",)),
    Language("vi", "vie", "Vietnamese", "Tiếng Việt", "Latin",
             "{question}\nHãy giải từng bước, viết bằng tiếng Việt và nêu kết quả trong câu cuối cùng.",
             ("dịch sang", "dịch câu", "bản dịch", "phiên dịch")),
    Language("uk", "ukr", "Ukrainian", "українська", "Cyrillic",
             "{question}\nРозв'яжи задачу крок за кроком, пиши українською і назви результат в останньому реченні.",
             ("переклад", "перекласти")),
    Language("bg", "bul", "Bulgarian", "български", "Cyrillic",
             "{question}\nРеши задачата стъпка по стъпка, пиши на български и посочи резултата в последното изречение.",
             ("превед", "превод")),
    Language("el", "ell", "Greek", "ελληνικά", "Greek",
             "{question}\nΛύσε το πρόβλημα βήμα προς βήμα, γράψε στα ελληνικά και δώσε το αποτέλεσμα στην τελευταία πρόταση.",
             ("μετάφρασ", "μεταφρασ", "μεταφράσ")),
    Language("he", "heb", "Hebrew", "עברית", "Hebrew",
             "{question}\nפתור את השאלה צעד אחר צעד, כתוב בעברית וציין את התוצאה במשפט האחרון.",
             ("תרגם", "תרגמ", "תרגום", "לתרגם")),
    Language("fa", "fas", "Persian", "فارسی", "Arabic",
             "{question}\nمسئله را گام به گام حل کن، به زبان فارسی بنویس و نتیجه را در جملهٔ آخر بگو.",
             ("ترجمه",)),
    Language("ur", "urd", "Urdu", "اردو", "Arabic",
             "{question}\nاس سوال کو قدم بہ قدم حل کریں، اردو میں لکھیں اور نتیجہ آخری جملے میں بتائیں۔",
             ("ترجمہ",)),
    Language("hi", "hin", "Hindi", "हिन्दी", "Devanagari",
             "{question}\nइस सवाल को चरण दर चरण हल करें, हिन्दी में लिखें और परिणाम अंतिम वाक्य में बताएँ।",
             ("अनुवाद",)),
    Language("mr", "mar", "Marathi", "मराठी", "Devanagari",
             "{question}\nहा प्रश्न टप्प्याटप्प्याने सोडवा, मराठीत लिहा आणि शेवटच्या वाक्यात उत्तर सांगा.",
             ("भाषांतर", "अनुवाद")),
    Language("gu", "guj", "Gujarati", "ગુજરાતી", "Gujarati",
             "{question}\nઆ પ્રશ્ન પગલું દર પગલું ઉકેલો, ગુજરાતીમાં લખો અને છેલ્લા વાક્યમાં પરિણામ જણાવો.",
             ("અનુવાદ", "ભાષાંતર")),
    Language("pa", "pan", "Punjabi", "ਪੰਜਾਬੀ", "Gurmukhi",
             "{question}\nਇਸ ਸਵਾਲ ਨੂੰ ਕਦਮ ਦਰ ਕਦਮ ਹੱਲ ਕਰੋ, ਪੰਜਾਬੀ ਵਿੱਚ ਲਿਖੋ ਅਤੇ ਆਖਰੀ ਵਾਕ ਵਿੱਚ ਨਤੀਜਾ ਦੱਸੋ।",
             ("ਅਨੁਵਾਦ", "ਤਰਜਮਾ")),
    Language("ta", "tam", "Tamil", "தமிழ்", "Tamil",
             "{question}\nஇந்தக் கணக்கைப் படிப்படியாகத் தீர்த்து, தமிழில் எழுதி, கடைசி வாக்கியத்தில் விடையைக் கூறவும்.",
             ("மொழிபெயர்",)),
    Language("kn", "kan", "Kannada", "ಕನ್ನಡ", "Kannada",
             "{question}\nಈ ಪ್ರಶ್ನೆಯನ್ನು ಹಂತ ಹಂತವಾಗಿ ಬಿಡಿಸಿ, ಕನ್ನಡದಲ್ಲಿ ಬರೆಯಿರಿ ಮತ್ತು ಕೊನೆಯ ವಾಕ್ಯದಲ್ಲಿ ಉತ್ತರವನ್ನು ತಿಳಿಸಿ.",
             ("ಅನುವಾದ", "ಭಾಷಾಂತರ")),
    Language("ml", "mal", "Malayalam", "മലയാളം", "Malayalam",
             "{question}\nഈ ചോദ്യം പടിപടിയായി പരിഹരിച്ച് മലയാളത്തിൽ എഴുതുക, അവസാന വാക്യത്തിൽ ഉത്തരം പറയുക.",
             ("വിവർത്തനം", "പരിഭാഷ")),
)  # fmt: skip

LANGUAGES: dict[str, Language] = {language.code: language for language in _TABLE}


def get_language(code: str) -> Language:
    """The record of a language code such as `es`. Raises ValueError with the known codes."""
    try:
        return LANGUAGES[code]
    except KeyError:
        known = " ".join(LANGUAGES)
        named = [
            entry.code for entry in _TABLE if code.casefold() in (entry.name.casefold(), entry.own_name.casefold())
        ]
        hint = f"did you mean {named[0]}? Known" if named else "known"
        raise ValueError(
            f"unknown language {code!r}; {hint} are: {known}. Add others in lidr/languages/__init__.py."
        ) from None
