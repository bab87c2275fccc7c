"""Which of a model's attempts at a user's turn can be a prompt: each that cannot is dropped for one reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from lidr.commands.prompts.near_duplicates import NearDuplicates
from lidr.languages import get_language
from lidr.languages.confusion import check_answer
from lidr.languages.identification import LanguageIdentifier, prose
from lidr.languages.names import asks_for_other_language
from lidr.stages.pairs import ends_in_loop, most_repeated_line

_LINE_REPEATS = 3  # a line that occurs so often is no prompt's
_CODE_SHARE = 0.85  # a turn that has more code than this teaches no language
_FOREIGN_LETTERS = 0.05  # the share of letters in another script that a quoted word may have
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.M)
# Control tokens of the templates in use, and the role that begins another turn.
_TEMPLATE = re.compile(
    r"<\|[^|<>\n]{1,40}\|>|<｜[^｜<>\n]{1,40}｜>|</?(?:s|bos|eos|pad|unk|start_of_turn|end_of_turn)>|\[/?INST\]|<</?SYS>>"
    r"|^[ \t#*]*(?:system|user|assistant|human|ai|bot|chatbot)[ \t*]*(?:$|:)",
    re.I | re.M,
)
# How assistants begin, refuse and take leave in English, and how models in some languages say what they are.
_ASSISTANT = re.compile(
    r"^\W*(?:(?:sure|certainly|absolutely|of course)(?: thing)?\s*[,!.:]|(?:i'm|i am) sorry\b"
    r"|i apologi[sz]e\b|yes, (?:i|here)\b|thank you for (?:your|reaching|contacting)\b)"
    r"|\bas an? (?:ai|artificial intelligence)\b"
    r"|\b(?:i'm|i am) (?:just )?an? (?:ai|large language|language model|virtual assistant)\b"
    r"|\bhow (?:can|may) i (?:help|assist|be of)\b|\bwhat would you like (?:me )?to\b"
    r"|\bi(?:'m| am)? (?:cannot|can't|can not|unable to|not able to) (?:assist|help|fulfil|comply|provide|generate)"
    r"|\b(?:i'd|i would|i'll|i will|i am|i'm) (?:be )?(?:happy|glad|here) to (?:help|assist|explain|provide|answer)"
    r"|\b(?:i hope this helps|feel free to (?:ask|reach)|let me know (?:if (?:you|there)|how i can))"
    r"|\bcomo (?:um )?modelo de (?:lenguaje|linguagem)|\ben tant que modèle de langage|\bals (?:ki|sprachmodell)\b"
    r"|\bкак языковая модель|作为(?:一个|一款)?(?:人工智能|AI|语言模型)",
    re.I | re.M,
)
# A turn that holds its own answer leaves nothing to be asked.
_ANSWERED = re.compile(
    r"^[ \t#*]*(?:(?:correct |final )?answer|solution|response)[ \t*]*:[ \t*]*\S"
    r"|\bthe (?:correct |final )?answer is[: ]+[$\d]"
    r"|^[ \t]*to (?:answer|calculate|compute|determine|find|solve) [^\n?]{1,100}\b(?:we|i'll|let's)\b[^\n?]*$"
    r"|\blet's (?:break|solve|denote|go through)\b",
    re.I | re.M,
)
# What asks for something in English: a question mark, a request in a sentence, or a verb that begins one.
_REQUEST = re.compile(
    r"[?？]|\b(?:please|help me|(?:can|could|would|will) you|i (?:need|want|wish)|(?:i'd|i would) (?:like|love)"
    r"|(?:i'm|i am) (?:trying|looking|planning)|how to|how do|tell me|let's|let us)\b"
    r"|(?:\A|[.!:\n])[\s\"'“(*#>-]*(?:\d+[.)]\s*)?(?:what|why|how|when|where|who|which|act|add|analy[sz]e|answer|arrange|ask"
    r"|assume|brainstorm|build|calculate|categori[sz]e|change|check|choose|classify|come up|compare|complete|compose"
    r"|compute|consider|construct|contrast|convert|correct|count|craft|create|decide|define|demonstrate|describe|design"
    r"|determine|develop|devise|discuss|draft|draw|edit|elaborate|estimate|evaluate|examine|explain|explore|express"
    r"|extract|fill|find|fix|form|formulate|generate|give|given|group|identify|illustrate|imagine|implement|improve"
    r"|insert|interpret|invent|investigate|justify|list|make|match|modify|name|order|organi[sz]e|outline|paraphrase"
    r"|plan|predict|prepare|present|pretend|propose|prove|provide|rank|rate|read|recommend|reduce|refactor|remove|rephrase"
    r"|replace|report|research|return|review|rewrite|select|share|show|simplify|sketch|solve|sort|state|suggest|summari[sz]e"
    r"|suppose|take|teach|tell|think|transform|turn|use|verify|write)\b",
    re.I,
)

REASONS = {
    "cut_off": "It was cut off by the length limit.",
    "empty": "Nothing was written.",
    "unreadable": "It holds broken characters.",
    "template": "It holds control tokens, the role of another turn, or the system prompt.",
    "too_short": "It is shorter than the lower limit.",
    "too_long": "It is longer than the upper limit.",
    "loop": "It repeats a line or a phrase over and over.",
    "assistant": "It speaks as an assistant: a greeting, a refusal, an answer.",
    "answered": "It holds its own answer.",
    "code": "It is code, or a code block lacks its beginning or end.",
    "language": "It is not in the language of the prompts, or has too few words to tell.",
    "mixed_languages": "A line or many letters of it are another language's.",
    "no_request": "It asks for nothing (seen in English only).",
    "asks_for_other_language": "It asks for a translation, or for an answer in another language.",
    "near_duplicate": "It is nearly the same as an earlier one.",
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """Lengths in characters, and the Jaccard index from which a turn is a near duplicate; None keeps these."""

    min_characters: int = 15
    max_characters: int = 2000
    near: float | None = 0.7


class Sieve:
    """Judges turns one after the other, each against those kept before it. `system` is the system turn before them."""

    def __init__(self, language: str, system: str | None, bounds: Bounds) -> None:
        self._bounds = bounds
        self._near = NearDuplicates(bounds.near) if bounds.near is not None else None
        identifier = LanguageIdentifier.among([language])
        self._checks: dict[str, Callable[[str], bool]] = {
            "empty": lambda text: not text,
            "unreadable": lambda text: "\ufffd" in text,
            "template": lambda text: _TEMPLATE.search(text) is not None or bool(system and system in text),
            "too_short": lambda text: len(text) < bounds.min_characters,
            "too_long": lambda text: len(text) > bounds.max_characters,
            "loop": lambda text: most_repeated_line(text) >= _LINE_REPEATS or ends_in_loop(text),
            "assistant": lambda text: _ASSISTANT.search(text) is not None,
            "answered": lambda text: _ANSWERED.search(text) is not None,
            "code": _is_code,
            "language": lambda text: identifier.identify(text) != language,
            "mixed_languages": lambda text: _is_mixed(text, language, identifier),
            "asks_for_other_language": lambda text: asks_for_other_language(text, language),
            "no_request": lambda text: language == "en" and not _REQUEST.search(prose(text)),
            "near_duplicate": lambda text: self._near is not None and self._near.seen(text),  # the last: it remembers
        }

    def fault(self, text: str) -> str:
        """Why a turn is no prompt, as one of `REASONS`; empty if it is one."""
        return next((reason for reason, fails in self._checks.items() if fails(text)), "")


def _is_mixed(text: str, language: str, identifier: LanguageIdentifier) -> bool:
    found = check_answer(text, language, identifier)
    letters = [letter for letter in text if letter.isalpha()]
    others = sum(map(_is_not_latin, letters)) if get_language(language).script == "Latin" else 0
    return bool(found.wrong_lines or found.wrong_words) or others > _FOREIGN_LETTERS * len(letters)


def _is_not_latin(letter: str) -> bool:
    return letter > "\u024f" and not "\u1e00" <= letter <= "\u1eff"


def _is_code(text: str) -> bool:
    return len(_FENCE.findall(text)) % 2 == 1 or len(prose(text).strip()) < (1 - _CODE_SHARE) * len(text)
