# ruff: noqa: E501
"""The language table: one record per language, and nothing about models.

Adding a language is one line here; `tests/test_languages.py` checks that every line is complete and that the
instruction is written in the language's own script.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Language:
    """One language as the rest of the project needs it.

    `answer_instruction` asks for step-by-step reasoning in the language (the paper's arithmetic setting wraps every
    question in such a request); `{question}` is where the question goes. `translation_words` are lower-case stems that
    mark a prompt as being a translation task itself.
    """

    code: str
    name: str
    own_name: str
    script: str
    answer_instruction: str
    translation_words: tuple[str, ...]


_TABLE = (
    Language("en", "English", "English", "Latin",
             "{question}\nSolve this step by step, write in English, and give the result in the last sentence.",
             ("translat",)),
    Language("es", "Spanish", "español", "Latin",
             "{question}\nResuélvelo paso a paso, escribe en español y da el resultado en la última frase.",
             ("traduc", "traduz")),
    Language("fr", "French", "français", "Latin",
             "{question}\nRésous ce problème étape par étape, écris en français et donne le résultat dans la dernière phrase.",
             ("tradui", "traduc")),
    Language("de", "German", "Deutsch", "Latin",
             "{question}\nLöse die Aufgabe Schritt für Schritt, schreibe auf Deutsch und nenne das Ergebnis im letzten Satz.",
             ("übersetz",)),
    Language("ru", "Russian", "русский", "Cyrillic",
             "{question}\nРеши задачу шаг за шагом, пиши по-русски и назови результат в последнем предложении.",
             ("перевед", "перевод", "перевест")),
    Language("it", "Italian", "italiano", "Latin",
             "{question}\nRisolvi passo dopo passo, scrivi in italiano e indica il risultato nell'ultima frase.",
             ("traduc", "tradur", "traduz")),
    Language("zh", "Chinese", "中文", "Han",
             "{question}\n请用中文一步一步地解答，并在最后一句话中给出结果。",
             ("翻译", "翻譯")),
    Language("ja", "Japanese", "日本語", "Japanese",
             "{question}\n日本語で一歩ずつ解き、最後の文で答えを述べてください。",
             ("翻訳", "訳して", "訳し")),
    Language("ko", "Korean", "한국어", "Hangul",
             "{question}\n한국어로 단계별로 풀고 마지막 문장에서 결과를 말해 주세요.",
             ("번역",)),
    Language("th", "Thai", "ไทย", "Thai",
             "{question}\nโปรดแก้โจทย์ทีละขั้นตอนเป็นภาษาไทย และบอกคำตอบในประโยคสุดท้าย",
             ("แปล",)),
    Language("sw", "Swahili", "Kiswahili", "Latin",
             "{question}\nTatua hatua kwa hatua, andika kwa Kiswahili, na utoe jibu katika sentensi ya mwisho.",
             ("tafsiri",)),
    Language("bn", "Bengali", "বাংলা", "Bengali",
             "{question}\nধাপে ধাপে বাংলায় সমাধান করুন এবং শেষ বাক্যে ফলাফল লিখুন।",
             ("অনুবাদ",)),
    Language("te", "Telugu", "తెలుగు", "Telugu",
             "{question}\nదీన్ని తెలుగులో దశలవారీగా పరిష్కరించి, చివరి వాక్యంలో ఫలితాన్ని చెప్పండి.",
             ("అనువ", "అనువద")),
    Language("ar", "Arabic", "العربية", "Arabic",
             "{question}\nحل المسألة خطوة بخطوة باللغة العربية، واذكر النتيجة في الجملة الأخيرة.",
             ("ترجم",)),
)  # fmt: skip

LANGUAGES: dict[str, Language] = {language.code: language for language in _TABLE}


def get_language(code: str) -> Language:
    """The record of a language code such as `es`; raises ValueError that lists the known codes."""
    try:
        return LANGUAGES[code]
    except KeyError:
        known = " ".join(LANGUAGES)
        named = [
            entry.code for entry in _TABLE if code.casefold() in (entry.name.casefold(), entry.own_name.casefold())
        ]
        hint = f"did you mean {named[0]}? Known" if named else "known"
        raise ValueError(f"unknown language {code!r}; {hint} are: {known}. Add others in lidr/languages.py.") from None
