"""Passwords, keys and signatures in settings, URLs, commands and messages: recognised, so that none is written down.

Recipes that hold one are refused (`find_credential`), and every message is masked (`mask`). Both look for the same:
the shapes of known keys, the part before the `@` of a URL, parameters of URLs, headers, and values under a name such
as `api_key`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Literal
from urllib.parse import quote, unquote

HIDDEN = "***"
WAY_OUT = "no password, key or signature may be in it, since it is kept with the results; give it in the environment"

_FOLDERS = ("PWD", "OLDPWD")  # shells keep the working directory there
_SHORTEST = 8  # of a value in the environment; shorter ones would hide ordinary words, too
_known: set[str] = set()

# --- names ------------------------------------------------------------------------------------------------------------

# Names are matched by their ends, in lower case and without separators.
_STRONG = re.compile(
    "(?:password|passwd|passphrase|pwd|secrets?|credentials?|authorization|bearer|cookie|jwt|(?<=.)token|accesskeyid|"
    "(?:api|access|secret|private|auth|encryption|account|subscription|shared|service|signing|master|client|admin|ssh|"
    "openai|anthropic|azure|google|gemini|mistral|cohere|groq|hf|huggingface|wandb|aws|gcp|github)keys?)$"
)
_FAIR = re.compile("(?:token|pass)$")
_WEAK = re.compile("(?:keys?|auth)$|(?:^|_)(?:pat|sig|signature|hmac)$")
# A tokenizer's or a page's, such as eos_token and next_page_token; words that end in pass; keys that are not secret.
_ORDINARY = re.compile(
    "(?:^|_)(?:eos|bos|pad|unk|mask|sep|cls|stop|start|end|begins?|ends|image|video|audio|speech|vision|think|thinking|"
    "reasoning|special|first|last|next|prev|page|draft|target|per|max|min|num|n|total|each|input|output|prompt|"
    "completion|new|tool|system|user|assistant|placeholder|separator|newline|word|continuation|answer|turn|sub|de)"
    "_?token$|(?:by|com|sur|tres|over|under|low|high|band|ask)_?pass$|(?:cache|public)_?key$"
)
_URL_WORDS = frozenset(("sig", "signature", "key", "auth", "session", "hmac"))
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

Strength = Literal["", "weak", "fair", "strong"]
_STRENGTHS: tuple[Strength, ...] = ("", "weak", "fair", "strong")


def strength(name: str) -> Strength:
    """How surely a value under this name is a credential.

    `strong`: it is, as under api_key. `fair`: it is in a setting or a command, as under token, but prose may mean
    something else. `weak`: only if it looks random, as under server_key. "": it is not one, as under eos_token.
    """
    words = _words(name)
    if _ORDINARY.search(words):
        return ""
    joined = words.replace("_", "")
    if _STRONG.search(joined) or re.match("(?i)x-.*key$", name):
        return "strong"
    if _FAIR.search(joined):
        return "fair"
    return "weak" if _WEAK.search(words) else ""


def _words(name: str) -> str:
    """A name as lower-case words between underscores, without digits."""
    return "_".join(_WORD.findall(name[-80:])).lower()


# --- values -----------------------------------------------------------------------------------------------------------

_REFERENCE = re.compile(r"\$(?:[A-Za-z_]\w*|\{[A-Za-z_]\w*\})")
_PLACEHOLDERS = frozenset(("", "none", "null", "empty", "dummy", "no-key", "true", "false", "auto", HIDDEN))
_SPECIAL = re.compile(r"<[^<>]*>|\[[A-Z]+\]")  # </s>, <your key>, [PAD]
_PLAIN = re.compile(r"[A-Z]?[a-z'’-]*[.,;:!?)]*|[<\[|].*|\d{1,6}")  # a word, a special token, a small number


def _is_placeholder(value: str) -> bool:
    return value.strip().lower() in _PLACEHOLDERS or bool(_SPECIAL.fullmatch(value))


def _looks_random(value: str) -> bool:
    """Whether a value has a run of letters mixed with digits that is longer than in names such as qwen2.5-7b."""
    return any(re.search(r"\d", run) and re.search(r"\D", run) for run in re.findall("[A-Za-z0-9]{8,}", value))


def _is_secret(name: str, value: str) -> bool:
    """Whether the value under this name is a credential, if names can be taken literally, unlike in prose."""
    level = strength(name)
    return bool(level) and not _is_placeholder(value) and (level != "weak" or _looks_random(value))


def looks_like_key(text: str) -> bool:
    """Whether a text that should be a name has the shape of a key: a known one, or letters and digits at random."""
    mixed = (re.search(r"[a-z]", part) and re.search(r"\d", part) for part in text.split("_") if len(part) >= 12)
    runs = (re.search(r"\d", part) and re.search(r"[A-Za-z]", part) for part in text.split("_") if len(part) >= 20)
    return bool(_FORMATS.search(text)) or any(mixed) or any(runs)


_FORMATS = re.compile(
    r"""(?<![\w-])(?:
    sk[-_](?=[\w-]*[A-Z0-9])[\w-]{8,}           # OpenAI, Anthropic, Stripe and those that follow them
  | (?:hf|gsk|gh[pousr]|npm|key|wandb_v1|dop_v1|lsv2_pt|tgp_v1|pplx|xai|r8|fw|api_org)_[A-Za-z0-9]{16,}
  | github_pat_\w{16,}
  | (?:glpat|nvapi|pypi|pplx|xai|xapp|xox[abeoprs])-(?=[\w-]*\d)[\w-]{16,}
  | (?:AKIA|ASIA)[0-9A-Z]{16}(?!\w)
  | AIza[\w-]{30,}
  | ya29\.[\w-]{16,}
  | SG\.[\w-]{16,}\.[\w-]{16,}
  | eyJ[\w-]{10,}\.[\w-]{10,}(?:\.[\w-]*)?      # a JSON web token
  | -----BEGIN[A-Z ]{0,30}\ PRIVATE\ KEY-----
    )""",
    re.VERBOSE,
)

# --- places -----------------------------------------------------------------------------------------------------------

# A path that was a URL has one slash; a URL may come without its scheme.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30}):/{1,3}|(?<![^\s\"'=(,\[])//")
_ADDRESS = re.compile(r"[^\s\"'<>]+")
_AUTHORITY = re.compile(r"[^\s/?#\"'<>]{0,500}@")
# A password may hold what ends an authority. A colon before a port, or a second one of fsspec's, is not part of it.
_LOOSE = re.compile(r"[^\s/?#@:\"'<>]{0,200}:(?!\d{1,5}(?:[/?#,;)\"'\s]|$)|:)[^\s\"'<>]{0,300}@")
_NO_SCHEME = re.compile(
    r"(?<![\w/:@.+-])(?!mailto:)[\w.+-]{1,80}:([^\s/@:\"'<>]{1,200})@(?=[\w-]+(?:\.[\w-]+)*(?::\d+)?(?:[/\s]|$))"
)
_PARAMETER = re.compile(r"[?&;#]([\w.%\[\]-]{1,80})=([^&;#\s\"'<>]+)")
_VALUE = (
    r"(?:(?:Bearer|Basic|Token|Digest|ApiKey)\s{1,3})?"
    r"(\"[^\"\n]{0,500}\"|'[^'\n]{0,500}'|\$\{\w+\}|[^\s\"',;&)}\]]{1,2000})"
)
# As lookaheads, so that a value that holds a name and a value itself is looked at, too.
_ASSIGNED = re.compile(
    rf"(?<![\w.-])(?=-{{0,2}}([A-Za-z][\w.-]{{0,80}})([\"']?)\s{{0,3}}([=:]\s{{0,3}}[\"']?){_VALUE})",
    re.IGNORECASE,
)
_FLAG = re.compile(rf"(?<![\w-])(?=--?([A-Za-z][\w-]{{0,80}})\s{{1,3}}(?!-){_VALUE})", re.IGNORECASE)
_USER = re.compile(r"(?!\d+:\d+$)[^\s/:]+:.+")  # curl's NAME:PASSWORD, not docker's numbers
_BEARER = re.compile(r"\b((?i:Bearer)|Basic|Token|ApiKey)\s{1,3}([^\s\"',;]{6,})")
_HEADER = re.compile(r"(?:bearer|basic|token|digest|apikey)\s+\S+", re.IGNORECASE)

Span = tuple[int, int]


def _in_urls(text: str) -> Iterator[Span]:
    if ":/" not in text and "//" not in text:
        return
    for address in _ADDRESS.finditer(text):
        start, end = address.span()
        first = -1
        for scheme in _SCHEME.finditer(text, start, end):
            begin = scheme.end()
            first = begin if first < 0 else first
            found = _AUTHORITY.match(text, begin, end) or _LOOSE.match(text, begin, end)
            is_web = (scheme[1] or "").lower().rpartition("+")[2] in ("http", "https", "ws", "wss")
            # `abfs://container@account` and `hdfs://user@host` are addresses; a name before http's @ is a token.
            if found and found.end() - begin > 1 and (is_web or ":" in found[0][:-2]):
                yield begin, found.end() - 1
        for parameter in _PARAMETER.finditer(text, first, end) if first >= 0 else ():
            if _is_secret_parameter(unquote(parameter[1]), parameter[2]):
                yield parameter.span(2)


def _is_secret_parameter(name: str, value: str) -> bool:
    is_key = _is_secret(name, value) or _words(name) in _URL_WORDS or _is_signature(name)
    is_code = name.lower() == "code" and len(value) >= 16 and _looks_random(value)
    return (is_key or is_code) and not _is_placeholder(value)


def _is_signature(name: str) -> bool:
    return bool(re.fullmatch(r"(?i)x-(?:amz|goog)-(?:signature|credential|security-token)|googleaccessid", name))


def _assigned(text: str, is_command: bool) -> Iterator[Span]:
    for found in _ASSIGNED.finditer(text):
        level, value = strength(found[1]), found[4].strip("\"'")
        quoted, equals = bool(found[2]) or found[3][-1:] in ("'", '"'), found[3].startswith("=")
        if _is_placeholder(value) or (found[3] == ":" and not quoted and not is_command):
            continue
        is_option = text.startswith("--", found.start())
        is_meant = is_command or is_option or (equals and found[1].isupper())
        is_alone = is_option and bool(level) and _words(found[1]) in _URL_WORDS  # `--key=x`
        surely = level == "strong" or (level == "fair" and is_meant) or is_alone
        sure = surely and (is_command or equals or quoted or not _PLAIN.fullmatch(value))
        if sure or (level and _looks_random(value)):
            yield found.span(4)


def _flags(text: str) -> Iterator[Span]:
    for found in _FLAG.finditer(text):
        name, value = found[1], found[2].strip("\"'")
        is_user = name in ("u", "U", "user", "proxy-user") and bool(_USER.fullmatch(value))
        is_long = text.startswith("--", found.start()) or name in ("token", "pass")
        if (is_user and not _is_placeholder(value)) or (is_long and _is_secret(name, value)):
            yield found.span(2)


def _after_schemes(text: str) -> Iterator[Span]:
    for found in _BEARER.finditer(text):
        if not _PLAIN.fullmatch(found[2]) and (found[1].lower() == "bearer" or _looks_random(found[2])):
            yield found.span(2)


def _spans(text: str, is_command: bool = False) -> Iterator[Span]:
    """Where credentials are in a text; spans may overlap. What is doubtful in prose counts in a command."""
    yield from (found.span() for found in _FORMATS.finditer(text))
    yield from _in_urls(text)
    yield from (found.span(1) for found in _NO_SCHEME.finditer(text) if "sha256" not in found[0])
    yield from _assigned(text, is_command)
    yield from _flags(text)
    yield from _after_schemes(text)


# --- what is used outside ---------------------------------------------------------------------------------------------


def remember(secret: str) -> None:
    """Mask this text from now on, wherever it appears; not a placeholder or a short one, which may be a word."""
    if len(secret) >= _SHORTEST and not _is_placeholder(secret):
        _known.add(secret)


def known_secrets() -> dict[str, str]:
    """Name -> value of what this process knows to be secret: keys in use, and variables named as credentials are."""
    named = {
        name: value
        for name, value in os.environ.items()
        if len(value) >= _SHORTEST and name not in _FOLDERS and _is_secret(name, value)
    }
    return named | {f"a key in use ({number})": value for number, value in enumerate(sorted(_known), 1)}


def mask(text: str) -> str:
    """The text with every credential in it as ***; references to the environment, such as $KEY, stay."""
    for secret in sorted(set(known_secrets().values()), key=len, reverse=True):
        for written in {secret, quote(secret, safe=""), repr(secret)[1:-1]}:
            text = text.replace(written, HIDDEN)
    spans = sorted(span for span in _spans(text) if not _is_reference(text[slice(*span)]))
    masked, end = [], 0
    for start, stop in spans:
        if stop > end:
            masked.append(text[end:start] + HIDDEN if start >= end else "")
            end = stop
    return "".join(masked) + text[end:]


def mask_setting(name: str, value: object) -> str:
    """A setting's value as text, or *** if it is a credential."""
    text = mask(str(value))
    return HIDDEN if text == str(value) and find_credential({name.rpartition(".")[2]: value}) else text


def expand(word: str) -> str:
    """A command's word with `$NAME` and `${NAME}` filled in. Raises KeyError with the name of one that is not set.

    What is filled in under a credential's name is masked from now on.
    """

    def value(reference: re.Match[str]) -> str:
        name = reference[0].strip("${}")
        if _is_secret(name, os.environ[name]):
            remember(os.environ[name])
        return os.environ[name]

    return _REFERENCE.sub(value, word)


def holds_credential(text: str, *, is_command: bool = False) -> bool:
    """Whether a text holds a credential. References to the environment (`$NAME`, `${NAME}`) in a command are fine."""
    return any(not (is_command and _is_reference(text[slice(*span)])) for span in _spans(text, is_command))


def _is_reference(value: str) -> bool:
    return bool(_REFERENCE.fullmatch(value.strip("\"'")))


def find_credential(settings: object, where: str = "", level: Strength = "") -> str | None:
    """The dotted name of the first setting that holds a credential; None if none does."""
    if isinstance(settings, Mapping):
        for name, value in settings.items():
            inner = f"{where}.{name}" if where else str(name)
            if isinstance(name, str) and holds_credential(name):
                return where or "a field's name"
            own = strength(name) if isinstance(name, str) else ""
            found = find_credential(value, inner, max(level, own, key=_STRENGTHS.index))
            if found:
                return found
        return None
    if isinstance(settings, list | tuple):
        return next((found for item in settings if (found := find_credential(item, where, level))), None)
    if isinstance(settings, str):
        return where or "it" if _is_credential(settings, where, level) else None
    is_number = isinstance(settings, int | float) and not isinstance(settings, bool)
    is_long = level == "fair" and not _PLAIN.fullmatch(str(settings))  # the token 128009 is a tokenizer's
    return where if is_number and (level == "strong" or is_long) else None


def _is_credential(value: str, where: str, level: Strength) -> bool:
    is_command = where.rpartition(".")[2] == "launch"
    if holds_credential(value, is_command=is_command):
        return True
    if is_command:
        return _in_words(value)
    if _is_placeholder(value) or re.match(r"[<\[|]", value):
        return False
    if "headers." in where.lower() and _HEADER.fullmatch(value):
        return True
    return level in ("fair", "strong") or (level == "weak" and _looks_random(value))


def _in_words(command: str) -> bool:
    """Whether a command holds a credential once a shell's quotes are removed: `--api-"key" X`, `sh -c "K=X run"`."""
    import shlex

    try:
        words = shlex.split(command)
    except ValueError:
        return False  # refused for that
    plain = " ".join(words)
    return plain != command and holds_credential(plain, is_command=True)
