from __future__ import annotations

from decimal import Decimal

import pytest

from lidr.languages import LANGUAGES
from lidr.numbers import extract_answer, number_text, parse_number, same_number

# Per language: a last sentence, the separator of thousands and of decimals.
SENTENCES = {
    "en": ("She has 3 jobs.\nSo she makes ${} a day.", ",", "."),
    "es": ("Tiene 3 empleos.\nPor lo tanto, ella gana {} dólares al día.", ".", ","),
    "fr": ("Elle a 3 emplois.\nElle gagne donc {} € par jour.", "\u202f", ","),
    "de": ("Sie hat 3 Berufe.\nAlso verdient sie {} Dollar am Tag.", ".", ","),
    "ru": ("У неё 3 работы.\nЗначит, она зарабатывает {} долларов в день.", "\u00a0", ","),
    "it": ("Ha 3 lavori.\nQuindi guadagna {} dollari al giorno.", ".", ","),
    "zh": ("她有3份工作。\n所以她每天赚{}美元。", ",", "."),
    "ja": ("仕事は3つあります。\nしたがって、毎日{}ドルを稼ぎます。", ",", "."),
    "ko": ("일이 3개 있습니다.\n따라서 매일 {}달러를 법니다.", ",", "."),
    "th": ("เธอมีงาน 3 งาน\nดังนั้นเธอได้เงินวันละ {} ดอลลาร์", ",", "."),
    "sw": ("Ana kazi 3.\nKwa hiyo anapata dola {} kwa siku.", ",", "."),
    "bn": ("তার ৩টি কাজ আছে।\nতাই তিনি প্রতিদিন {} ডলার আয় করেন।", ",", "."),
    "te": ("ఆమెకు 3 పనులు ఉన్నాయి.\nకాబట్టి ఆమె రోజుకు {} డాలర్లు సంపాదిస్తుంది.", ",", "."),
    "ar": ("لديها 3 وظائف.\nلذلك تكسب {} دولارًا في اليوم.", "٬", "٫"),
    "pt": ("Ela tem 3 empregos.\nPortanto, ela ganha {} dólares por dia.", ".", ","),
    "ca": ("Té 3 feines.\nPer tant, guanya {} dòlars al dia.", ".", ","),
    "ro": ("Are 3 slujbe.\nDeci câștigă {} dolari pe zi.", ".", ","),
    "nl": ("Ze heeft 3 banen.\nZe verdient dus {} dollar per dag.", ".", ","),
    "sv": ("Hon har 3 jobb.\nAlltså tjänar hon {} dollar om dagen.", "\u00a0", ","),
    "da": ("Hun har 3 job.\nAltså tjener hun {} dollar om dagen.", ".", ","),
    "fi": ("Hänellä on 3 työtä.\nHän ansaitsee siis {} dollaria päivässä.", "\u00a0", ","),
    "et": ("Tal on 3 tööd.\nSeega teenib ta {} dollarit päevas.", "\u00a0", ","),
    "lt": ("Ji turi 3 darbus.\nTaigi ji uždirba {} dolerių per dieną.", "\u00a0", ","),
    "pl": ("Ona ma 3 prace.\nZarabia więc {} dolarów dziennie.", "\u00a0", ","),
    "cs": ("Má 3 práce.\nVydělá tedy {} dolarů denně.", "\u00a0", ","),
    "sk": ("Má 3 práce.\nZarobí teda {} dolárov denne.", "\u00a0", ","),
    "hr": ("Ona ima 3 posla.\nDakle, zarađuje {} dolara na dan.", ".", ","),
    "hu": ("3 munkája van.\nTehát naponta {} dollárt keres.", "\u00a0", ","),
    "tr": ("Onun 3 işi var.\nYani günde {} dolar kazanıyor.", ".", ","),
    "id": ("Dia punya 3 pekerjaan.\nJadi dia mendapat {} dolar per hari.", ".", ","),
    "vi": ("Cô ấy có 3 công việc.\nVậy mỗi ngày cô ấy kiếm được {} đô la.", ".", ","),
    "uk": ("У неї 3 роботи.\nОтже, вона заробляє {} доларів на день.", "\u00a0", ","),
    "bg": ("Тя има 3 работи.\nЗначи тя печели {} долара на ден.", "\u00a0", ","),
    "el": ("Έχει 3 δουλειές.\nΆρα κερδίζει {} δολάρια την ημέρα.", ".", ","),
    "he": ("יש לה 3 עבודות.\nלכן היא מרוויחה {} דולר ביום.", ",", "."),
    "fa": ("او 3 شغل دارد.\nپس او روزی {} دلار درآمد دارد.", "٬", "٫"),
    "ur": ("اس کے پاس 3 نوکریاں ہیں۔\nتو وہ روزانہ {} ڈالر کماتی ہے۔", ",", "."),
    "hi": ("उसके पास 3 नौकरियाँ हैं।\nइसलिए वह रोज़ {} डॉलर कमाती है।", ",", "."),
    "mr": ("तिच्याकडे 3 नोकऱ्या आहेत.\nम्हणून ती दररोज {} डॉलर कमावते.", ",", "."),
    "gu": ("તેની પાસે 3 નોકરીઓ છે.\nતેથી તે રોજ {} ડોલર કમાય છે.", ",", "."),
    "pa": ("ਉਸ ਕੋਲ 3 ਨੌਕਰੀਆਂ ਹਨ।\nਇਸ ਲਈ ਉਹ ਰੋਜ਼ {} ਡਾਲਰ ਕਮਾਉਂਦੀ ਹੈ।", ",", "."),
    "ta": ("அவளுக்கு 3 வேலைகள் உள்ளன.\nஎனவே அவள் தினமும் {} டாலர் சம்பாதிக்கிறாள்.", ",", "."),
    "kn": ("ಅವಳಿಗೆ 3 ಕೆಲಸಗಳಿವೆ.\nಆದ್ದರಿಂದ ಅವಳು ದಿನಕ್ಕೆ {} ಡಾಲರ್ ಗಳಿಸುತ್ತಾಳೆ.", ",", "."),
    "ml": ("അവൾക്ക് 3 ജോലികളുണ്ട്.\nഅതിനാൽ അവൾ ദിവസവും {} ഡോളർ സമ്പാദിക്കുന്നു.", ",", "."),
}
MAGNITUDES = ("5", "18", "999", "5600", "70000", "276000", "1250000", "12.5", "1430.75", "0", "-40")
# The first digit of each script: zero.
ZEROS = {"bn": "০", "te": "౦", "th": "๐", "ar": "٠", "zh": "０", "ja": "０", "hi": "०", "gu": "૦", "fa": "۰"}


def written(number: str, language: str) -> str:
    """The number by the language's convention; in India the groups beyond the first thousand have two digits."""
    _, thousands, decimal = SENTENCES[language]
    whole, _, fraction = number.removeprefix("-").partition(".")
    size = 2 if language in ("bn", "te", "hi", "mr", "gu", "pa", "ta", "kn", "ml") else 3
    head, groups = whole[:-3], [whole[-3:]]
    while head:
        groups.insert(0, head[-size:])
        head = head[:-size]
    sign = "\u2212" if number.startswith("-") else ""
    return sign + thousands.join(groups) + (decimal + fraction if fraction else "")


def in_script(text: str, language: str) -> str:
    zero = ord(ZEROS[language])
    return "".join(chr(zero + int(char)) if char in "0123456789" else char for char in text)


def test_every_language_of_the_table_has_a_sentence() -> None:
    assert set(SENTENCES) == set(LANGUAGES)


@pytest.mark.parametrize("number", MAGNITUDES)
@pytest.mark.parametrize("language", SENTENCES)
def test_the_number_of_a_sentence_in_every_language(language: str, number: str) -> None:
    text = SENTENCES[language][0].format(written(number, language))
    assert extract_answer(text, language) == Decimal(number)


@pytest.mark.parametrize("number", MAGNITUDES)
@pytest.mark.parametrize("language", ZEROS)
def test_digits_of_other_scripts(language: str, number: str) -> None:
    text = in_script(SENTENCES[language][0].format(written(number, language)), language)
    assert extract_answer(text, language) == Decimal(number)


@pytest.mark.parametrize(
    "spelling", ["70000", "70,000", "70 000", "70\u00a0000", "70\u2009000", "70'000", "70’000", "70{,}000"]
)
@pytest.mark.parametrize("language", SENTENCES)
def test_thousands_that_read_alike_in_every_language(language: str, spelling: str) -> None:
    assert extract_answer(SENTENCES[language][0].format(spelling), language) == 70000


@pytest.mark.parametrize(
    ("text", "language", "value"),
    [
        ("1.000", "de", "1000"),
        ("1.000", "es", "1000"),
        ("1.000", "en", "1"),
        ("3,500", "en", "3500"),
        ("3,500", "de", "3500"),
        ("3.500", "zh", "3.5"),
        ("0,125", "de", "0.125"),
        ("0.125", "fr", "0.125"),
        ("12,5", "en", "12.5"),
        ("12.5", "fr", "12.5"),
        ("12.50", "de", "12.5"),
        ("1.234,5", "en", "1234.5"),
        ("1,234.5", "de", "1234.5"),
        ("1 234,5", "fr", "1234.5"),
        ("1,00,000", "en", "100000"),
        ("1234.567", "de", "1234.567"),
        ("$ 18", "en", "18"),
        ("20 %", "de", "20"),
        ("-$1,000", "en", "-1000"),
        ("১২,৫০,০০০", "bn", "1250000"),
    ],
)
def test_parse_number(text: str, language: str, value: str) -> None:
    assert parse_number(text, language) == Decimal(value)


@pytest.mark.parametrize("text", ["", "none", "18 or 19", "eighteen", "1,2,3", "18 apples"])
def test_parse_number_refuses_what_is_not_one_number(text: str) -> None:
    assert parse_number(text, "en") is None


@pytest.mark.parametrize(
    ("text", "language", "value"),
    [
        ("So 16 - 3 - 4 = 9 and 9 * 2 = 18.", "en", 18),
        ("The answer is \\boxed{18}, not 20.", "en", 18),
        ("\\[ \\boxed{\\$1{,}250 \\text{ dollars}} \\] for 7 days", "en", 1250),
        ("\\(9 \\times 2 = 18\\)", "en", 18),
        ("9 * 2 = 18\n#### 18\n\nQuestion: Tom has 5 apples.", "en", 18),
        ("#### 3. Multiply\nThe result is 18.", "en", 18),
        ("So she earns $18 per day (7 days a week).", "en", 18),
        ("所以她每天赚18美元（每周7天）。", "zh", 18),
        ("So she earns eighteen dollars (18).", "en", 18),
        ("She earns **$18** in each of the 7 days.", "en", 18),
        ("**9** eggs at $2 make 9 * 2 = $18.", "en", 18),
        ("**Answer: 18 dollars**", "en", 18),
        ("1. Add 5 and 4.\n2. The sum is 9.\n3. Done.", "en", 9),
        ("18. That is all she earns.", "en", 18),
        ("He will have 20 marbles on the 4th day, at 7:30.", "en", 20),
        ("На 5-й день у него будет 20 монет, а не 21, с 3-го дня было 20.", "ru", 20),
        ("结果是18，这是第3天。", "zh", 18),
        ("Die Fläche beträgt 20 m2.", "de", 20),
        ("The area is 20 m².", "en", 20),
        ("The area is $20\\text{ cm}^2$.", "en", 20),
        ("The temperature is -5 degrees.", "en", -5),
        ("Ответ: −5 °C.", "ru", -5),
        ("a range of 3-5", "en", 5),
        ("利益は7万ドルです。", "ja", 70000),
        ("合計は12万5千円です。", "ja", 125000),
        ("이익은 12만 5000원입니다.", "ko", 125000),
        ("他一共买了5千克。", "zh", 5),
        ("Gana 70 mil dólares.", "es", 70000),
        ("Das sind 1,25 Millionen Dollar.", "de", 1250000),
        ("กำไรคือ 7 หมื่นบาท", "th", 70000),
        ("তার লাভ ৭০ হাজার টাকা।", "bn", 70000),
        ("The pizza is cut; he gets 1/2 of it.", "en", Decimal("0.5")),
        ("The scores were 89, 71, 92.", "en", 92),
    ],
)
def test_which_number_is_the_answer(text: str, language: str, value: Decimal | int) -> None:
    assert extract_answer(text, language) == value


@pytest.mark.parametrize("text", ["", "I do not know.", "He comes at 7:30.", "\\boxed{}", "x²"])
def test_no_number_is_none(text: str) -> None:
    assert extract_answer(text, "en") is None


def test_a_zero_is_an_answer() -> None:
    assert extract_answer("1. She had 5.\n2. She gave all away.\n3. She has 0 left.", "en") == 0


def test_same_number() -> None:
    assert same_number(Decimal("18.00"), Decimal(18))
    assert not same_number(Decimal("18.5"), Decimal(18))
    assert not same_number(None, Decimal(0))
    assert not same_number(None, None)


def test_number_text() -> None:
    assert number_text(Decimal("18.00")) == "18"
    assert number_text(Decimal("1E+3")) == "1000"


@pytest.mark.parametrize("loop", ["1", "\n", "1,", "(a", "**a ", "\\boxed{", "1 000 "])
def test_a_text_that_loops_takes_no_time(loop: str) -> None:
    # Linear patterns need well under a second for this; quadratic ones need minutes.
    assert extract_answer(loop * 50_000 + "\n18", "en") == 18


@pytest.mark.parametrize(
    ("text", "language", "value"),
    [
        # a leading point, signs
        ("Each one gets .5 of a cake.", "en", "0.5"),
        ("It costs $.75.", "en", "0.75"),
        ("Der Anteil ist ,25.", "de", "0.25"),
        ("He is left with...12", "en", "12"),
        ("The change is –7.", "en", "-7"),
        ("x = - 7", "en", "-7"),
        ("In the morning it was minus 7 degrees.", "en", "-7"),
        ("9 minus 7", "en", "7"),
        ("- 7 eggs", "en", "7"),
        # units with exponents, names with digits
        ("The floor has 24 ft²", "en", "24"),
        ("The floor has 24 cm<sup>2</sup>.", "en", "24"),
        ("Its acceleration is 24 m/s^2.", "en", "24"),
        ("Площадь равна 24 м2.", "ru", "24"),
        ("Es entstehen 24 kg CO₂.", "de", "24"),
        ("She needs 24 sheets of A3.", "en", "24"),
        ("He took 24 tablets of vitamin B12.", "en", "24"),
        ("There were 24 cases of COVID-19.", "en", "24"),
        ("התשובה היא ב-24", "he", "24"),
        ("Harganya Rp24.000", "id", "24000"),
        ("x_1 = 24", "en", "24"),
        # degrees, percent, ordinals
        ("Hace 24 º C en la calle.", "es", "24"),
        ("La temperatura fue de 24ºC", "es", "24"),
        ("El ángulo mide 45º.", "es", "45"),
        ("Tiene 24 plantas en el 2º piso.", "es", "24"),
        ("気温は24℃です。", "ja", "24"),
        ("That is 24 %", "en", "24"),
        # fractions
        ("It takes 3 1/4 hours.", "en", "3.25"),
        ("It takes 3¼ hours.", "en", "3.25"),
        ("It takes 3 and 1/4 hours.", "en", "3.25"),
        ("½", "en", "0.5"),
        ("It is -½.", "en", "-0.5"),
        ("It is \\(\\dfrac{-3}{4}\\).", "en", "-0.75"),
        ("It is \\frac12.", "en", "0.5"),
        # powers and products
        ("That is 2.5 × 10⁶.", "en", "2500000"),
        ("Das sind 2,5 · 10^6 Liter.", "de", "2500000"),
        ("That is 2.5e6.", "en", "2500000"),
        ("That is 5 × 10⁻³.", "en", "0.005"),
        ("It is 2^{10}.", "en", "1024"),
        ("She has 4 × 6 eggs.", "en", "24"),
        # separators and digits
        ("CHF 1’234.50", "de", "1234.5"),
        ("That is 12,50,000 rupees.", "en", "1250000"),
        ("१२,५०,०००", "hi", "1250000"),
        ("The answer is 𝟐𝟒.", "en", "24"),
        ("2️⃣4️⃣", "en", "24"),
        ("1&nbsp;250", "en", "1250"),
        ("1\u2060250", "en", "1250"),
        ("\u202b24\u202c", "ar", "24"),
        # scales
        ("2,5 Mrd. Euro", "de", "2500000000"),
        ("3 Billionen Euro", "de", "3000000000000"),
        ("3 billion dollars", "en", "3000000000"),
        ("2 mil millones de euros", "es", "2000000000"),
        ("5 тыс. рублей", "ru", "5000"),
        ("3億5千万円", "ja", "350000000"),
        ("70 हज़ार रुपये", "hi", "70000"),
        ("shilingi milioni 3", "sw", "3000000"),
        ("$70k", "en", "70000"),
        ("a ring of 18k gold", "en", "18"),
        ("5 mil", "tr", "5"),
        ("5 miles", "en", "5"),
        # remarks, lists, labels
        ("In total 24 eggs (that is 4 * (3 + 3)).", "en", "24"),
        ("In total 24 eggs (4 × 6", "en", "24"),
        ("The answer is (24).", "en", "24"),
        ("- **7.** The sum is 24.", "en", "24"),
        ("7.总共24个", "zh", "24"),
        ("Step 7: that makes 24", "en", "24"),
        ("**24.**", "en", "24"),
        ("**Réponse finale :** 24 œufs\n\nCela fait 3 par jour pendant 8 jours.", "fr", "24"),
        ("答案：24\n因为4×6。", "zh", "24"),
        ("Answer: 5 + 3 = 8\nThen 8 - 2 = 6", "en", "6"),
        # times and dates
        ("He has 24 on 2024-03-15.", "en", "24"),
        ("À 7h30 il en a 24.", "fr", "24"),
    ],
)
def test_number_expressions(text: str, language: str, value: str) -> None:
    assert extract_answer(text, language) == Decimal(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("#### 24\n\nQuestion: Ann has 5.\n#### 5", "24"),
        ("#### 24\n#### 3", "24"),
        ("4 * 6 = 24. #### 24", "24"),
        ("#### 4 * 6", "24"),
        ("#### 24 (4 × 6)", "24"),
        ("#### 24 cm^2", "24"),
        ("#### 24 kg of CO2", "24"),
        ("#### Answer: 24", "24"),
        ("#### - 24", "-24"),
        ("#### .5", "0.5"),
        ("#### 2. Add them\n\\boxed{24}", "24"),
        ("#### 2 Methods\n\\boxed{24}", "24"),
        ("#### Step 2: add 3\nIt is 24.", "24"),
        ("\\boxed{}\nThe result is 24.", "24"),
        ("\\boxed{\\boxed{24}}", "24"),
        ("\\boxed{24\\,\\mathrm{m}^{3}}", "24"),
        ("\\boxed{24\\ \\mathrm{kg\\,CO_2}}", "24"),
        ("\\boxed{\\text{She has 24 eggs}}", "24"),
        ("\\boxed{24^\\circ}", "24"),
        ("\\boxed{\\frac{48}{2}}", "24"),
        ("\\boxed{\\frac{6 \\times 8}{2}}", "24"),
        ("\\boxed{3\\tfrac{3}{4}\\text{ h}}", "3.75"),
        ("\\boxed{1.5 \\text{ million}}", "1500000"),
        ("\\boxed{x = 24}", "24"),
        ("\\boxed{20 + 4}", "24"),
        ("\\boxed{4 \\times (2 + 4)}", "24"),
        ("\\boxed{24 (4 \\times 6)}", "24"),
        ("\\boxed{3-5}", "5"),
        ("\\boxed{5} is wrong, it is \\boxed{24}", "24"),
        ("$\\boxed{24$", "24"),
    ],
)
def test_markers(text: str, value: str) -> None:
    assert extract_answer(text, "en") == Decimal(value)


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{\\sqrt{16}}",
        "\\boxed{2\\sqrt{3}}",
        "The area is 18π.",
        "1/0",
        "nan",
        "inf",
        "sheets of A4",
        "Step 4: done",
    ],
)
def test_what_is_no_number_is_none_and_not_the_digits_in_it(text: str) -> None:
    assert extract_answer(text, "en") is None


@pytest.mark.parametrize(
    ("gold", "value"),
    [
        (".5", "0.5"), ("-.5", "-0.5"), ("- 5", "-5"), ("½", "0.5"), ("2 1/2", "2.5"), ("\\frac{3}{4}", "0.75"),
        ("$2\\frac{1}{2}$", "2.5"), ("1e-05", "0.00001"), ("1.5 \\times 10^6", "1500000"), ("5万", "50000"),
        ("18 cm", None), ("A4", None), ("7:30", None), ("3-5", None), ("nan", None), ("√16", None),
    ],
)  # fmt: skip
def test_golds_are_read_by_the_same_grammar(gold: str, value: str | None) -> None:
    assert parse_number(gold, "en") == (None if value is None else Decimal(value))


def test_numbers_of_any_length_are_exact() -> None:
    long = "7" * 5_000
    assert extract_answer(f"It is {long}.", "en") == parse_number(long, "en") == Decimal(long)
    assert number_text(Decimal(long)) == long and number_text(Decimal("-0.0")) == "0"
    assert not same_number(Decimal(long), Decimal(long[:-1] + "8"))
    assert not same_number(Decimal("Infinity"), Decimal("Infinity"))
    assert extract_answer(f"{long} million", "en") is None and extract_answer("9^999999", "en") is None


@pytest.mark.parametrize(
    "loop", ["\\frac{", "\\frac{1}{", "(", "(1 ", "=", "#", "####\n", "~", "\\", "6*", "1/", "2^", "<<", "½"]
)
def test_a_text_of_one_sign_takes_no_time(loop: str) -> None:
    assert extract_answer(loop * 20_000 + "\n\nIt is 18.", "en") == 18


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("It is 2**10.", "1024"),
        ("It is 2 ** 10.", "1024"),
        ("It is 2 ^ 10.", "1024"),
        ("It is **2**10**.", "1024"),
        ("It is 2**(3).", "8"),
        ("It is 2**-1.", "0.5"),
        ("It is 2<sup>10</sup>.", "1024"),
        ("It is 1.5×10**6.", "1500000"),
        ("#### 2**5", "32"),
        ("#### (-2)^2", "4"),
        ("\\boxed{2**3}", "8"),
        ("\\boxed{(-2)^2}", "4"),
        ("\\boxed{-2^2}", "-4"),
        ("\\boxed{(1+1)**3}", "8"),
        ("\\boxed{(2+1)^{1+1}}", "9"),
        ("\\boxed{\\left(\\frac{1}{2}\\right)^{2}}", "0.25"),
        ("\\boxed{45^{o}}", "45"),
        # bold
        ("**5** + 3", "5"),
        ("**5**+3", "5"),
        ("(1)**18**", "18"),
        ("** 18 ** (3 × 6)", "18"),
        ("**18**(3 per day)", "18"),
        ("**3 * 6 = 18**(2 left)", "18"),
        # units
        ("It is 18 (cm)^2.", "18"),
        ("It is 18 m$^2$.", "18"),
    ],
)
def test_powers_and_what_only_looks_like_one(text: str, value: str) -> None:
    assert extract_answer(text, "en") == Decimal(value)


@pytest.mark.parametrize(
    ("text", "language", "value"),
    [
        ("So the company earns **5** million dollars.", "en", "5000000"),
        ("She pays **$1.5** million", "en", "1500000"),
        ("She pays **$1.5**M.", "en", "1500000"),
        ("She pays $**1.5**M.", "en", "1500000"),
        ("**12** thousand dollars", "en", "12000"),
        ("Answer: **5** million", "en", "5000000"),
        ("She has __5__ million dollars.", "en", "5000000"),
        ("\\textbf{5} million", "en", "5000000"),
        ("Das sind **1,5** Mio. Euro.", "de", "1500000"),
        ("一共**12**万元。", "zh", "120000"),
        ("Ni milioni **5**.", "sw", "5000000"),
        ("피자 **5** 조각", "ko", "5"),
        ("**5** miles", "en", "5"),
        ("**5** eggs at $2 million", "en", "5"),
        ("**5 million** dollars", "en", "5000000"),
        ("**18** × 2", "en", "18"),
        ("**18**/20", "en", "18"),
        ("**12** 500 eggs", "en", "12"),
    ],
)
def test_a_word_of_scale_beside_bold(text: str, language: str, value: str) -> None:
    assert extract_answer(text, language) == Decimal(value)


@pytest.mark.parametrize(
    "text",
    [
        # powers
        "It is 2^{1.5}.", "It is 4**0.5.", "It is 2**(1/2).", "The result is (2+4)^2.", "\\boxed{4^{0.5}}",
        "\\boxed{2^{1/2}}", "\\boxed{4^{\\frac{1}{2}}}", "\\boxed{2^{2^3}}", "\\boxed{2^{2^{3}}}",
        "\\boxed{2^{0.5} + 3}",
        # repeating decimals
        "\\boxed{0.\\overline{3}}", "x = 0.\\overline{6}", "\\boxed{3.1\\overline{6}}", "\\boxed{0.\\dot{3}}",
        # functions
        "\\boxed{\\log_2 8}", "\\boxed{\\log_{2}(8)}", "#### \\log_2 8", "\\boxed{\\sin 30}",
        "\\boxed{2\\sin(30^\\circ)}",
        "\\boxed{\\binom{4}{2}}", "\\boxed{\\binom{4}{2} \\text{ ways}}", "\\boxed{\\Gamma(5)}",
        "\\boxed{5!}", "\\boxed{5! + 3}", "\\boxed{5! \\text{ ways}}",
        "\\boxed{\\lfloor 3.7 \\rfloor}", "\\boxed{⌊3.7⌋}",
        "\\boxed{\\sqrt{2} + 3}",
        # ranges and complex numbers
        "\\boxed{18 \\pm 2}", "\\boxed{18 ± 2}", "\\boxed{18 +/- 2}", "\\boxed{3+4i}", "\\boxed{3 + i}", "\\boxed{4i}",
        "\\boxed{3 - 4\\mathrm{i}}",
    ],
)  # fmt: skip
def test_other_values_are_none_and_not_the_digits_in_them(text: str) -> None:
    assert extract_answer(text, "en") is None


@pytest.mark.parametrize(
    "text",
    [
        *(f"\\boxed{{{content}}}" for content in (
            "\\text{18}", "\\textbf{18}", "\\mathbf{18}", "\\mathrm{18\\,cm}", "\\left(18\\right)", "\\$18", "18\\%",
            "\\displaystyle 18", "\\dfrac{36}{2}", "\\tfrac{36}{2}", "3 \\cdot 6", "3 \\times 6", "36 \\div 2",
            "\\approx 18", "18 \\ldots", "\\quad 18", "\\; 18", "\\color{red}{18}", "\\textcolor{red}{18}", "18\\!",
            "\\underline{18}", "\\Rightarrow 18", "\\Large 18", "18 \\degreeCelsius", "x \\in \\{18\\}",
        )),
        "So she has 18!", "So she has **18**!", "#### 18 eggs!", "#### 18!", "#### 18! She has them all.",
        "$\\leadsto 18$", "$\\therefore 18$", "\\nThe answer:\\n18",
        "The total is 18 [1].", "The total is 18 [1][2]", "The total is 18 [1] [2].", "The total is 18[1].",
        "The total is 18 dollars [1].", "The total is 18. [1]", "The total is **18** [1].", "It is 18 € [2].",
        "#### 18 [1]", "\\boxed{18} [1]", "The total is [18].", "For 3 days it is [18].", "They are [3, 5, 18].",
    ],
)  # fmt: skip
def test_formatting_exclamations_and_footnotes_change_nothing(text: str) -> None:
    assert extract_answer(text, "en") == 18


@pytest.mark.parametrize("loop", ["1**2 ", "2^{", "^(1", "5 [1", "**5** ", "**(1)** ", "5**}__", "\\pm", "18!"])
def test_powers_footnotes_and_bold_that_loop_take_no_time(loop: str) -> None:
    assert extract_answer(loop * 20_000 + "\n\nIt is 18.", "en") == 18
