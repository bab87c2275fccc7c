"""Conversations in a model's own chat template, as text and as token ids; what people and models wrote stays text.

A text may hold what the tokenizer takes for a control token: "What does <|im_end|> mean?". Such places are marked
before the template is filled in. If there are any, the text is tokenised by a copy of the tokenizer that knows the
control tokens under secret names, and only those that the template wrote are given these names.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Collection, Sequence
from datetime import date, datetime, time
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from lidr.errors import ConfigError

Messages = Sequence[dict[str, str]]

DATE = "LIDR_DATE"  # environment variable: the day that chat templates see as today, set by the run at work
# Templates of models that can think look at this. Answers become pairs as they are, so they come without thoughts.
_THINKING = "enable_thinking"
_CLOCK = "strftime_now"
_SECRET = secrets.token_hex(8)  # no text can hold it, so no text can forge a mark or a name
_MARK = f"\ufdd0{_SECRET}\ufdd1"
_GUARDS = ("\n", "x")  # texts that a tokenizer does not join with what follows, see `Chat.in_place`


class Chat:
    """A tokenizer with its chat template. `end_ids` are tokens that end a turn, which it need not call special.

    Texts that the methods return are marked (see the module's docstring); `plain` takes the marks off.
    """

    def __init__(self, tokenizer: Any, end_ids: Collection[int] = ()) -> None:
        self.tokenizer = tokenizer
        self.template: str = tokenizer.get_chat_template() if tokenizer.chat_template else ""
        added = tokenizer.added_tokens_decoder
        known = {token.content: number for number, token in added.items()}
        special = {token.content for number, token in added.items() if token.special or number in end_ids}
        special |= set(tokenizer.all_special_tokens) & known.keys()
        # `<think>` and its like are control tokens in the template and in users' texts; a model writes them itself.
        markup = {
            token for token in known if re.fullmatch(r"[^\w\s].*[^\w\s]", token, re.DOTALL) and token in self.template
        }
        self.control = {token: known[token] for token in special | markup if len(token) > 1}
        self._ids = set(self.control.values()) - {tokenizer.unk_token_id}
        self._any, self._own = _pattern(self.control), _pattern(special & self.control.keys())

    def render(self, messages: Messages, add_generation_prompt: bool, **options: Any) -> str:
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
        """A turn's text with a mark in every control token that it holds, so that the tokenizer reads it as text."""
        pattern = self._own if role == "assistant" else self._any
        if not pattern.search(text):
            return text
        return re.sub(f"(?={pattern.pattern})(.)", lambda found: found[1] + _MARK, text, flags=re.DOTALL)

    def ids(self, text: str) -> list[int]:
        """The token ids of a rendered text. Without marks they are those of the tokenizer itself."""
        if _MARK not in text:
            # The template writes the special tokens, so the tokenizer must not add a second beginning of text.
            ids = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
            if [token for token in ids if token in self._ids] == self._written(text):
                return ids
        return list(self._copy.encode(self._named(text), add_special_tokens=False).ids)

    def in_place(self, text: str) -> list[int] | None:
        """The token ids of a text that goes on after another one; None if they depend on that one.

        Some tokenizers (SentencePiece) begin a text that is tokenised alone with another token.
        """
        for guard in _GUARDS:
            before, both = self.ids(guard), self.ids(guard + text)
            if both[: len(before)] == before:
                return both[len(before) :]
        return None

    def text_tokenizer(self) -> Any:
        """A tokenizer for other programs, which takes texts as texts however they are put together.

        The control tokens that it writes itself have secret names; `shown` gives them back their own.
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
        """A text of `text_tokenizer` as people read it."""
        for token, name in self._names.items():
            text = text.replace(name, token)
        return text

    def has_control(self, text: str) -> bool:
        """Whether a rendered text holds control tokens."""
        return self._any.search(text) is not None

    def _named(self, text: str) -> str:
        """A rendered text without marks, its control tokens under their secret names."""
        return plain(self._any.sub(lambda found: self._names[found[0]], text))

    def _written(self, text: str) -> list[int]:
        found = [self.control[token] for token in self._any.findall(text)]
        return [token for token in found if token in self._ids]

    def _set_clock(self) -> None:
        """Let the template see the run's date, if it asks for one."""
        if _CLOCK in self.template:
            from transformers.utils.chat_template_utils import _compile_jinja_template

            # A function cannot be handed to a template of transformers 5.23 as a variable.
            now = datetime.combine(today(), time())
            _compile_jinja_template(self.template).environment.globals[_CLOCK] = now.strftime

    @cached_property
    def _names(self) -> dict[str, str]:
        return {token: f"\ufdd2{_SECRET}{number}\ufdd3" for token, number in self.control.items()}

    @cached_property
    def _copy(self) -> Any:
        """The tokenizer, knowing its control tokens by their secret names only."""
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
def chat_of(tokenizer: Any, end_ids: frozenset[int] = frozenset()) -> Chat:
    """The `Chat` of a tokenizer, made once. Raises ValueError if it has no chat template."""
    return Chat(tokenizer, end_ids)


def plain(text: str) -> str:
    """A rendered text as it is."""
    return text.replace(_MARK, "")


def today() -> date:
    """The day that chat templates see: the one on which the run at work began, else this one."""
    return date.fromisoformat(os.environ[DATE]) if DATE in os.environ else date.today()


def template_identity(folder: Path) -> dict[str, Any]:
    """What the chat template of a model's folder takes from outside the conversation; empty if it takes nothing."""
    text = _template_text(folder)
    found: dict[str, Any] = {_THINKING: False} if _THINKING in text else {}
    return found | ({"date": today().isoformat()} if _CLOCK in text else {})


def server_fields(folder: Path) -> dict[str, Any]:
    """What a server that fills in the chat template of a model's folder has to be told with every request."""
    return {"chat_template_kwargs": {_THINKING: False}} if _THINKING in _template_text(folder) else {}


def _template_text(folder: Path) -> str:
    files = [folder / name for name in ("chat_template.jinja", "tokenizer_config.json")]
    return "".join(file.read_text(encoding="utf-8", errors="replace") for file in files if file.is_file())


def _pattern(tokens: Collection[str]) -> re.Pattern[str]:
    """Any of the tokens, the longest first, as tokenizers find them."""
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
