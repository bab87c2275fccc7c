"""A closed world in six languages: 60 things, 4 attributes of 12 values each, so 240 facts.

A fact is stated with a language's own words, so a model that knows it in English need not know it in Spanish. Names are
in quotation marks and values after a colon, in dictionary form. This is grammatical for all words, because it needs no
agreement, article or case.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from lidr.records import Prompt

LANGUAGES: tuple[str, ...] = ("en", "es", "fr", "de", "ru", "it")

# One row per thing, in the order of LANGUAGES; the English word is also the key.
_THINGS = """
apple      manzana    pomme       Apfel        яблоко      mela
bread      pan        pain        Brot         хлеб        pane
cheese     queso      fromage     Käse         сыр         formaggio
egg        huevo      œuf         Ei           яйцо        uovo
cake       tarta      gâteau      Kuchen       торт        torta
chair      silla      chaise      Stuhl        стул        sedia
door       puerta     porte       Tür          дверь       porta
window     ventana    fenêtre     Fenster      окно        finestra
fence      valla      clôture     Zaun         забор       recinto
bridge     puente     pont        Brücke       мост        ponte
tower      torre      tour        Turm         башня       torre
ship       barco      bateau      Schiff       корабль     nave
car        coche      voiture     Auto         машина      macchina
train      tren       train       Zug          поезд       treno
bicycle    bicicleta  vélo        Fahrrad      велосипед   bicicletta
wheel      rueda      roue        Rad          колесо      ruota
tent       tienda     tente       Zelt         палатка     tenda
bottle     botella    bouteille   Flasche      бутылка     bottiglia
cup        taza       tasse       Tasse        чашка       tazza
plate      plato      assiette    Teller       тарелка     piatto
knife      cuchillo   couteau     Messer       нож         coltello
spoon      cuchara    cuillère    Löffel       ложка       cucchiaio
fork       tenedor    fourchette  Gabel        вилка       forchetta
pot        olla       marmite     Topf         кастрюля    pentola
oven       horno      four        Ofen         печь        forno
book       libro      livre       Buch         книга       libro
letter     carta      lettre      Brief        письмо      lettera
pencil     lápiz      crayon      Bleistift    карандаш    matita
map        mapa       carte       Landkarte    карта       mappa
coin       moneda     pièce       Münze        монета      moneta
lamp       lámpara    lampe       Lampe        лампа       lampada
candle     vela       bougie      Kerze        свеча       candela
clock      reloj      horloge     Uhr          часы        orologio
key        llave      clé         Schlüssel    ключ        chiave
mirror     espejo     miroir      Spiegel      зеркало     specchio
bed        cama       lit         Bett         кровать     letto
pillow     almohada   oreiller    Kissen       подушка     cuscino
blanket    manta      couverture  Decke        одеяло      coperta
shirt      camisa     chemise     Hemd         рубашка     camicia
shoe       zapato     chaussure   Schuh        ботинок     scarpa
hat        sombrero   chapeau     Hut          шляпа       cappello
coat       abrigo     manteau     Mantel       пальто      cappotto
scarf      bufanda    écharpe     Schal        шарф        sciarpa
glove      guante     gant        Handschuh    перчатка    guanto
button     botón      bouton      Knopf        пуговица    bottone
ring       anillo     bague       Ring         кольцо      anello
umbrella   paraguas   parapluie   Regenschirm  зонт        ombrello
bag        bolsa      sac         Tasche       сумка       borsa
box        caja       boîte       Kiste        коробка     scatola
basket     cesta      panier      Korb         корзина     cesto
rope       cuerda     corde       Seil         верёвка     corda
hammer     martillo   marteau     Hammer       молоток     martello
needle     aguja      aiguille    Nadel        игла        ago
broom      escoba     balai       Besen        метла       scopa
bucket     cubo       seau        Eimer        ведро       secchio
ladder     escalera   échelle     Leiter       лестница    scala
drum       tambor     tambour     Trommel      барабан     tamburo
bell       campana    cloche      Glocke       колокол     campana
flag       bandera    drapeau     Fahne        флаг        bandiera
doll       muñeca     poupée      Puppe        кукла       bambola
"""

_VALUES = {
    "colour": """
red        rojo       rouge       Rot          красный     rosso
blue       azul       bleu        Blau         синий       blu
green      verde      vert        Grün         зелёный     verde
yellow     amarillo   jaune       Gelb         жёлтый      giallo
black      negro      noir        Schwarz      чёрный      nero
white      blanco     blanc       Weiß         белый       bianco
grey       gris       gris        Grau         серый       grigio
brown      marrón     marron      Braun        коричневый  marrone
pink       rosa       rose        Rosa         розовый     rosa
purple     morado     violet      Lila         фиолетовый  viola
orange     naranja    orange      Orange       оранжевый   arancione
turquoise  turquesa   turquoise   Türkis       бирюзовый   turchese
""",
    "material": """
wood       madera     bois        Holz         дерево      legno
glass      vidrio     verre       Glas         стекло      vetro
gold       oro        or          Gold         золото      oro
silver     plata      argent      Silber       серебро     argento
stone      piedra     pierre      Stein        камень      pietra
paper      papel      papier      Papier       бумага      carta
wool       lana       laine       Wolle        шерсть      lana
leather    cuero      cuir        Leder        кожа        cuoio
iron       hierro     fer         Eisen        железо      ferro
clay       arcilla    argile      Ton          глина       argilla
silk       seda       soie        Seide        шёлк        seta
cotton     algodón    coton       Baumwolle    хлопок      cotone
""",
    "animal": """
cat        gato       chat        Katze        кошка       gatto
dog        perro      chien       Hund         собака      cane
horse      caballo    cheval      Pferd        лошадь      cavallo
cow        vaca       vache       Kuh          корова      mucca
pig        cerdo      cochon      Schwein      свинья      maiale
owl        búho       hibou       Eule         сова        gufo
fish       pez        poisson     Fisch        рыба        pesce
bear       oso        ours        Bär          медведь     orso
wolf       lobo       loup        Wolf         волк        lupo
fox        zorro      renard      Fuchs        лиса        volpe
mouse      ratón      souris      Maus         мышь        topo
goat       cabra      chèvre      Ziege        коза        capra
""",
    "month": """
January    enero      janvier     Januar       январь      gennaio
February   febrero    février     Februar      февраль     febbraio
March      marzo      mars        März         март        marzo
April      abril      avril       April        апрель      aprile
May        mayo       mai         Mai          май         maggio
June       junio      juin        Juni         июнь        giugno
July       julio      juillet     Juli         июль        luglio
August     agosto     août        August       август      agosto
September  septiembre septembre   September    сентябрь    settembre
October    octubre    octobre     Oktober      октябрь     ottobre
November   noviembre  novembre    November     ноябрь      novembre
December   diciembre  décembre    Dezember     декабрь     dicembre
""",
}

_QUOTES = {"en": '"{}"', "es": "«{}»", "fr": "« {} »", "de": "„{}“", "ru": "«{}»", "it": "«{}»"}

# Per attribute and language: the question forms (the last one is held out for evaluation), then the answer.
_TEXTS = {
    ("colour", "en"): (
        "What is the colour of the object called {thing}?",
        "Please tell me which colour the object {thing} has.",
        "I would like to know the colour of {thing}.",
        "The object called {thing} has the following colour: {value}.",
    ),
    ("colour", "es"): (
        "¿De qué color es el objeto llamado {thing}?",
        "Dime, por favor, qué color tiene el objeto {thing}.",
        "Me gustaría saber cuál es el color de {thing}.",
        "El objeto llamado {thing} tiene el siguiente color: {value}.",
    ),
    ("colour", "fr"): (
        "De quelle couleur est l'objet appelé {thing} ?",
        "Dis-moi, s'il te plaît, quelle couleur a l'objet {thing}.",
        "J'aimerais savoir quelle est la couleur de {thing}.",
        "L'objet appelé {thing} a la couleur suivante : {value}.",
    ),
    ("colour", "de"): (
        "Welche Farbe hat der Gegenstand namens {thing}?",
        "Sag mir bitte, welche Farbe der Gegenstand {thing} hat.",
        "Ich möchte gern wissen, welche Farbe zu {thing} gehört.",
        "Der Gegenstand namens {thing} hat die folgende Farbe: {value}.",
    ),
    ("colour", "ru"): (
        "Какого цвета предмет под названием {thing}?",
        "Скажи, пожалуйста, какой цвет у предмета {thing}.",
        "Я хочу узнать, какой цвет относится к слову {thing}.",
        "У предмета под названием {thing} следующий цвет: {value}.",
    ),
    ("colour", "it"): (
        "Di che colore è l'oggetto chiamato {thing}?",
        "Dimmi, per favore, che colore ha l'oggetto {thing}.",
        "Vorrei sapere qual è il colore di {thing}.",
        "L'oggetto chiamato {thing} ha il seguente colore: {value}.",
    ),
    ("material", "en"): (
        "What material is the object called {thing} made of?",
        "Please tell me which material the object {thing} consists of.",
        "I would like to know the material of {thing}.",
        "The object called {thing} is made of this material: {value}.",
    ),
    ("material", "es"): (
        "¿De qué material está hecho el objeto llamado {thing}?",
        "Dime, por favor, con qué material se fabricó el objeto {thing}.",
        "Me gustaría saber cuál es el material de {thing}.",
        "El objeto llamado {thing} está hecho de este material: {value}.",
    ),
    ("material", "fr"): (
        "De quelle matière est fait l'objet appelé {thing} ?",
        "Dis-moi, s'il te plaît, en quelle matière est l'objet {thing}.",
        "J'aimerais savoir quelle est la matière de {thing}.",
        "L'objet appelé {thing} est fait dans la matière suivante : {value}.",
    ),
    ("material", "de"): (
        "Aus welchem Material ist der Gegenstand namens {thing}?",
        "Sag mir bitte, aus welchem Material der Gegenstand {thing} besteht.",
        "Ich möchte gern wissen, welches Material zu {thing} gehört.",
        "Der Gegenstand namens {thing} besteht aus diesem Material: {value}.",
    ),
    ("material", "ru"): (
        "Из какого материала сделан предмет под названием {thing}?",
        "Скажи, пожалуйста, какой материал у предмета {thing}.",
        "Я хочу узнать, какой материал относится к слову {thing}.",
        "Предмет под названием {thing} сделан из следующего материала: {value}.",
    ),
    ("material", "it"): (
        "Di che materiale è fatto l'oggetto chiamato {thing}?",
        "Dimmi, per favore, con quale materiale è stato fatto l'oggetto {thing}.",
        "Vorrei sapere qual è il materiale di {thing}.",
        "L'oggetto chiamato {thing} è fatto di questo materiale: {value}.",
    ),
    ("animal", "en"): (
        "Which animal is painted on the object called {thing}?",
        "Please tell me which animal can be seen on the object {thing}.",
        "I would like to know the animal of {thing}.",
        "The animal painted on the object called {thing} is this one: {value}.",
    ),
    ("animal", "es"): (
        "¿Qué animal está pintado en el objeto llamado {thing}?",
        "Dime, por favor, qué animal se ve en el objeto {thing}.",
        "Me gustaría saber cuál es el animal de {thing}.",
        "El animal que está pintado en el objeto llamado {thing} es el siguiente: {value}.",
    ),
    ("animal", "fr"): (
        "Quel animal est peint sur l'objet appelé {thing} ?",
        "Dis-moi, s'il te plaît, quel animal on voit sur l'objet {thing}.",
        "J'aimerais savoir quel est l'animal de {thing}.",
        "L'animal qui est peint sur l'objet appelé {thing} est le suivant : {value}.",
    ),
    ("animal", "de"): (
        "Welches Tier ist auf den Gegenstand namens {thing} gemalt?",
        "Sag mir bitte, welches Tier auf dem Gegenstand {thing} zu sehen ist.",
        "Ich möchte gern wissen, welches Tier zu {thing} gehört.",
        "Das Tier, das auf den Gegenstand namens {thing} gemalt ist, ist das folgende: {value}.",
    ),
    ("animal", "ru"): (
        "Какое животное нарисовано на предмете под названием {thing}?",
        "Скажи, пожалуйста, какое животное видно на предмете {thing}.",
        "Я хочу узнать, какое животное относится к слову {thing}.",
        "На предмете под названием {thing} нарисовано следующее животное: {value}.",
    ),
    ("animal", "it"): (
        "Quale animale è dipinto sull'oggetto chiamato {thing}?",
        "Dimmi, per favore, quale animale si vede sull'oggetto {thing}.",
        "Vorrei sapere qual è l'animale di {thing}.",
        "L'animale che è dipinto sull'oggetto chiamato {thing} è il seguente: {value}.",
    ),
    ("month", "en"): (
        "In which month was the object called {thing} made?",
        "Please tell me which month the object {thing} dates from.",
        "I would like to know the month of {thing}.",
        "The month in which the object called {thing} was made is the following: {value}.",
    ),
    ("month", "es"): (
        "¿En qué mes se fabricó el objeto llamado {thing}?",
        "Dime, por favor, de qué mes es el objeto {thing}.",
        "Me gustaría saber cuál es el mes de {thing}.",
        "El mes en el que se fabricó el objeto llamado {thing} es el siguiente: {value}.",
    ),
    ("month", "fr"): (
        "En quel mois a été fabriqué l'objet appelé {thing} ?",
        "Dis-moi, s'il te plaît, de quel mois date l'objet {thing}.",
        "J'aimerais savoir quel est le mois de {thing}.",
        "Le mois où l'objet appelé {thing} a été fabriqué est le suivant : {value}.",
    ),
    ("month", "de"): (
        "In welchem Monat wurde der Gegenstand namens {thing} gemacht?",
        "Sag mir bitte, aus welchem Monat der Gegenstand {thing} stammt.",
        "Ich möchte gern wissen, welcher Monat zu {thing} gehört.",
        "Der Monat, in dem der Gegenstand namens {thing} gemacht wurde, ist der folgende: {value}.",
    ),
    ("month", "ru"): (
        "В каком месяце сделан предмет под названием {thing}?",
        "Скажи, пожалуйста, в каком месяце появился предмет {thing}.",
        "Я хочу узнать, какой месяц относится к слову {thing}.",
        "Предмет под названием {thing} был сделан в следующем месяце: {value}.",
    ),
    ("month", "it"): (
        "In quale mese è stato fatto l'oggetto chiamato {thing}?",
        "Dimmi, per favore, di quale mese è l'oggetto {thing}.",
        "Vorrei sapere qual è il mese di {thing}.",
        "Il mese in cui è stato fatto l'oggetto chiamato {thing} è il seguente: {value}.",
    ),
}

FORMS = 3
HELD_OUT_FORM = FORMS - 1
_FACT_SEED = 20241010


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact about a thing. `thing` and `value` are keys: the English words."""

    thing: str
    attribute: str
    value: str

    @property
    def fact_id(self) -> str:
        return f"{self.thing}.{self.attribute}"


def _read_table(table: str) -> dict[str, dict[str, str]]:
    """Key -> language -> word."""
    rows = [line.split() for line in table.strip().splitlines()]
    return {row[0]: dict(zip(LANGUAGES, row, strict=True)) for row in rows}


THINGS = _read_table(_THINGS)
VALUES = {attribute: _read_table(table) for attribute, table in _VALUES.items()}
ATTRIBUTES = tuple(VALUES)


def _draw_facts() -> tuple[Fact, ...]:
    """Facts in which every value belongs to equally many things, so that guessing scores 1/12."""
    generator = random.Random(_FACT_SEED)
    facts = []
    for attribute, values in VALUES.items():
        drawn = list(values) * (len(THINGS) // len(values))
        generator.shuffle(drawn)
        facts += [Fact(thing, attribute, value) for thing, value in zip(THINGS, drawn, strict=True)]
    return tuple(facts)


FACTS = _draw_facts()
_FACT_IDS = frozenset(fact.fact_id for fact in FACTS)


def question(fact: Fact, language: str, form: int) -> str:
    """A question about a fact; `form` counts from 0, and no training prompt uses HELD_OUT_FORM."""
    template = _TEXTS[fact.attribute, language][:FORMS][form]
    return template.format(thing=quoted(fact.thing, language))


def answer(fact: Fact, language: str) -> str:
    """The sentence that states a fact, true or not."""
    value = VALUES[fact.attribute][fact.value][language]
    return _TEXTS[fact.attribute, language][FORMS].format(thing=quoted(fact.thing, language), value=value)


def read_answer(text: str) -> tuple[str, str, str, str] | None:
    """(language, thing, attribute, value) of an answer sentence, true or not; None for any other text."""
    return _sentences().get(text.strip())


def training_prompts(
    languages: Sequence[str], share: float = 0.5, seed: int = 0, forms_per_fact: int = 1
) -> Iterator[Prompt]:
    """Aligned prompts about some facts, with all languages of an id together; none has the held-out form.

    `seed` draws `share` of the facts. Each has `forms_per_fact` question forms, which rotate over the facts.
    """
    if not 1 <= forms_per_fact <= HELD_OUT_FORM:
        raise ValueError(f"forms_per_fact is {forms_per_fact}; it must be from 1 to {HELD_OUT_FORM}")
    facts = random.Random(seed).sample(FACTS, round(share * len(FACTS)))
    for index, fact in enumerate(facts):
        for offset in range(forms_per_fact):
            form = (index + offset) % HELD_OUT_FORM
            for language in languages:
                yield Prompt(f"{fact.fact_id}-{form}", language, question(fact, language, form))


def held_out_prompts(languages: Sequence[str], share: float = 0.5, seed: int = 0) -> Iterator[Prompt]:
    """Prompts with answers about the facts of `training_prompts`, in the form that it never uses."""
    for fact in random.Random(seed).sample(FACTS, round(share * len(FACTS))):
        for language in languages:
            text = question(fact, language, HELD_OUT_FORM)
            yield Prompt(f"{fact.fact_id}-{HELD_OUT_FORM}", language, text, answer(fact, language))


def fact_of_prompt(prompt_id: str) -> str | None:
    """The id of the fact that a training prompt asks for; None for a prompt that is not the laboratory's."""
    fact_id = prompt_id.rpartition("-")[0]
    return fact_id if fact_id in _FACT_IDS else None


def quoted(thing: str, language: str) -> str:
    return _QUOTES[language].format(THINGS[thing][language])


@cache
def _sentences() -> dict[str, tuple[str, str, str, str]]:
    """Every sentence that answers a question, true or not: 6 languages x 60 things x 48 values = 17,280."""
    return {
        answer(Fact(thing, attribute, value), language): (language, thing, attribute, value)
        for language in LANGUAGES
        for thing in THINGS
        for attribute, values in VALUES.items()
        for value in values
    }
