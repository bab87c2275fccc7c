"""Conversations in a model's chat template, as text and as token ids; the contents of turns stay plain text.

A text may contain what the tokenizer takes for a control token: "What does <|im_end|> mean?". Such places are marked
before the template is filled in. If there are any, a copy of the tokenizer that knows the control tokens under secret
names reads the text, and only the control tokens that the template wrote get these names.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from functools import cached_property, lru_cache
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lidr.errors import ConfigError
from lidr.records import Json

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

Messages = Sequence[dict[str, str]]

DATE = "LIDR_DATE"  # environment variable that a run sets: the date that chat templates get as today
# A variable in templates of models that can think. It is off, because answers become pairs without further changes.
_THINKING = "enable_thinking"
_CLOCK = "strftime_now"
_SECRET = secrets.token_hex(8)  # no text can contain it, so no text can forge a mark or a name
_MARK = f"\ufdd0{_SECRET}\ufdd1"
_GUARDS = ("\n", "x")  # texts that a tokenizer does not join with the next text, see `Chat.in_place`
_BEGINNINGS = ("What is", "How do", "Tell me", "Give an")  # of users' turns, to examine a template with


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """How a turn ends: with one of these tokens, or before one of these texts."""

    ids: frozenset[int] = frozenset()
    stop: tuple[str, ...] = ()


class Chat:
    """A tokenizer with its chat template. `end_ids` are tokens that end a turn, special or not.

    The methods return marked texts (see the module's docstring); `plain` removes the marks.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, end_ids: Collection[int] = ()) -> None:
        self.tokenizer = tokenizer
        self.template: str = tokenizer.get_chat_template() if tokenizer.chat_template else ""
        added = tokenizer.added_tokens_decoder
        known = {token.content: number for number, token in added.items()}
        special = {token.content for number, token in added.items() if token.special or number in end_ids}
        special |= set(tokenizer.all_special_tokens) & known.keys()
        # Tokens such as `<think>` are control tokens in the template and in users' texts; a model may write them.
        markup = {
            token for token in known if re.fullmatch(r"[^\w\s].*[^\w\s]", token, re.DOTALL) and token in self.template
        }
        self.control = {token: known[token] for token in special | markup if len(token) > 1}
        self._ids = set(self.control.values()) - {tokenizer.unk_token_id}
        self._any, self._own = _pattern(self.control), _pattern(special & self.control.keys())

    def render(self, messages: Messages, add_generation_prompt: bool, **options: object) -> str:
        """A conversation in the chat template. Raises ConfigError if the template refuses it."""
        from jinja2 import TemplateError

        marked = [{"role": turn["role"], "content": self.mark(turn["content"], turn["role"])} for turn in messages]
        self._set_clock()
        try:
            options |= {"tokenize": False, "add_generation_prompt": add_generation_prompt, _THINKING: False}
            text = self.tokenizer.apply_chat_template(marked, **options)
        except TemplateError as error:
            first = messages[0]["role"] == "system"
            hint = "; set system_prompt to null for models that have no system turn" if first else ""
            raise ConfigError(f"the model's chat template refuses this conversation: {error}{hint}") from None
        return str(text)

    def mark(self, text: str, role: str) -> str:
        """A turn's text with a mark in every control token, so that the tokenizer reads it as text."""
        pattern = self._own if role == "assistant" else self._any
        if not pattern.search(text):
            return text
        return re.sub(f"(?={pattern.pattern})(.)", lambda found: found[1] + _MARK, text, flags=re.DOTALL)

    def ids(self, text: str) -> list[int]:
        """The token ids of a rendered text; those of the tokenizer itself if there are no marks."""
        if _MARK not in text:
            # The template writes the special tokens, so the tokenizer must not add a second beginning of text.
            ids = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
            if [token for token in ids if token in self._ids] == self._written(text):
                return ids
        return list(self._copy.encode(self._named(text), add_special_tokens=False).ids)

    def user_turn(self, messages: Messages) -> tuple[list[int], TurnEnd]:
        """The token ids before the user's turn that follows `messages`, and what the template writes at its end.

        The ids are those that turns with different texts have in common. A blank that a tokenizer joins with the first
        word is therefore left to the model. The control tokens that begin the next turn are ends, too: models that were
        trained on the assistant's turns alone often write these first. Of words, the first line is an end. Raises
        ConfigError if the template writes nothing after a user's turn.
        """
        texts = [
            self.render([*messages, {"role": "user", "content": begun}], add_generation_prompt=True)
            for begun in _BEGINNINGS
        ]
        columns = zip(*(self.ids(text) for text in texts), strict=False)
        ids = [column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)]
        after = texts[0].rpartition(_BEGINNINGS[0])[2]
        first = self._any.search(after)
        words = after[: first.start() if first else None].strip().splitlines()
        end = TurnEnd(frozenset(self.control[token] for token in self._any.findall(after)), tuple(words[:1]))
        if end == TurnEnd():
            raise ConfigError(
                "the model's chat template does not mark the end of a user's turn, so none can be written"
            )
        return ids, end

    def in_place(self, text: str) -> list[int] | None:
        """The token ids of a text that follows another one; None if they depend on the other text.

        Some tokenizers (SentencePiece) begin a text that stands alone with another token.
        """
        for guard in _GUARDS:
            before, both = self.ids(guard), self.ids(guard + text)
            if both[: len(before)] == before:
                return both[len(before) :]
        return None

    def text_tokenizer(self) -> PreTrainedTokenizerBase:
        """A tokenizer for other programs that reads every text as plain text.

        The control tokens that it writes have secret names; `shown` restores the real ones.
        """
        from transformers import PreTrainedTokenizerFast

        own = self.tokenizer
        if getattr(own, "backend_tokenizer", None) is None:
            return own
        special = {name: getattr(own, name) for name in ("bos_token", "eos_token", "unk_token", "pad_token")}
        made = PreTrainedTokenizerFast(
            tokenizer_object=self._copy,
            model_max_length=own.model_max_length,
            **{name: self._names.get(token, token) for name, token in special.items() if token is not None},
        )
        made.apply_chat_template = lambda messages, **options: self._named(self.render(messages, **options))
        return made

    def shown(self, text: str) -> str:
        """A text of `text_tokenizer` with the real names of control tokens."""
        for token, name in self._names.items():
            text = text.replace(name, token)
        return text

    def has_control(self, text: str) -> bool:
        """Whether a rendered text has control tokens."""
        return self._any.search(text) is not None

    def _named(self, text: str) -> str:
        """A rendered text without marks, with its control tokens under secret names."""
        return plain(self._any.sub(lambda found: self._names[found[0]], text))

    def _written(self, text: str) -> list[int]:
        found = [self.control[token] for token in self._any.findall(text)]
        return [token for token in found if token in self._ids]

    def _set_clock(self) -> None:
        """Give the template the run's date, if it uses one."""
        if _CLOCK in self.template:
            from transformers.utils.chat_template_utils import _compile_jinja_template

            # Templates of transformers 5.23 do not accept a function as a variable.
            now = datetime.combine(today(), time())
            _compile_jinja_template(self.template).environment.globals[_CLOCK] = now.strftime

    @cached_property
    def _names(self) -> dict[str, str]:
        return {token: f"\ufdd2{_SECRET}{number}\ufdd3" for token, number in self.control.items()}

    @cached_property
    def _copy(self) -> Tokenizer:
        """A copy of the tokenizer that knows its control tokens only by their secret names."""
        from tokenizers import Tokenizer

        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ConfigError(
                f"a text holds a control token such as {next(iter(self.control))}, and {type(self.tokenizer).__name__} "
                "cannot tell texts from control tokens; give the model a fast tokenizer (tokenizer.json)"
            )
        copy = Tokenizer.from_str(json.dumps(_renamed(json.loads(backend.to_str()), self._names)))
        if any(copy.token_to_id(self._names[token]) != number for token, number in self.control.items()):
            raise ConfigError(
                "a text holds a control token, and the model's tokenizer cannot be told to read it as text; take such "
                "texts out of the prompts"
            )
        return copy


@lru_cache(maxsize=4)
def chat_of(tokenizer: PreTrainedTokenizerBase, end_ids: frozenset[int] = frozenset()) -> Chat:
    """The `Chat` of a tokenizer, made once. Raises ValueError if it has no chat template."""
    return Chat(tokenizer, end_ids)


def plain(text: str) -> str:
    """A rendered text without marks."""
    return text.replace(_MARK, "")


def today() -> date:
    """The date that chat templates get: that of the run's start; outside of a run, today."""
    return date.fromisoformat(os.environ[DATE]) if DATE in os.environ else date.today()


def template_identity(folder: Path) -> Json:
    """The variables that a model's chat template uses besides the conversation; empty if there are none."""
    text = _template_text(folder)
    found: Json = {_THINKING: False} if _THINKING in text else {}
    return found | ({"date": today().isoformat()} if _CLOCK in text else {})


def server_fields(folder: Path) -> Json:
    """The fields of every request to a server that fills in the chat template of a model's folder."""
    return {"chat_template_kwargs": {_THINKING: False}} if _THINKING in _template_text(folder) else {}


def _template_text(folder: Path) -> str:
    files = [folder / name for name in ("chat_template.jinja", "tokenizer_config.json")]
    return "".join(file.read_text(encoding="utf-8", errors="replace") for file in files if file.is_file())


def _pattern(tokens: Collection[str]) -> re.Pattern[str]:
    """A pattern for all tokens, the longest first, as in tokenizers."""
    longest_first = sorted(tokens, key=lambda token: (-len(token), token))
    return re.compile(f"(?:{'|'.join(map(re.escape, longest_first)) or '(?!)'})")


def _renamed(tokenizer: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """The contents of a tokenizer.json with some tokens under other names."""
    for token in tokenizer["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    model = tokenizer["model"]
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(token, token): number for token, number in vocabulary.items()}
    else:  # Unigram: pairs of token and score
        model["vocab"] = [[names.get(token, token), score] for token, score in vocabulary]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    return tokenizer | {"truncation": None, "padding": None}
