"""Turn a pair's texts into the tokens that the model is trained on, by the tokenizer's chat template."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from lidr.errors import ConfigError
from lidr.models import end_of_turn_ids, load_tokenizer
from lidr.models.chat import Chat, chat_of, plain

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_NO_END = "the chat template does not end the assistant's turn with one of the model's end tokens"
_ANSWER = "lidr-answer"  # a placeholder to examine the template with


def tokenize_prompt(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], end_ids: Collection[int] = ()
) -> tuple[str, list[int]]:
    """The rendered prompt up to the beginning of the assistant's answer, as marked text and as token ids."""
    chat = chat_of(tokenizer, frozenset(end_ids))
    text = chat.render(messages, add_generation_prompt=True)
    return text, chat.ids(text)


def tokenize_answer(
    tokenizer: PreTrainedTokenizerBase,
    messages: list[dict[str, str]],
    prompt: str,
    answer: str,
    end_ids: Collection[int],
) -> list[int]:
    """The token ids of an answer to a rendered `prompt`, up to and including the first token that ends the turn.

    They are the tokens of the whole conversation after the prompt. If the template renders another prompt here or adds
    text to the answer (an empty thought), they are the tokens of the answer alone after the given prompt. Raises
    ConfigError if the template does not end the turn, or puts control tokens before the answer that the model did not
    see.
    """
    chat = chat_of(tokenizer, frozenset(end_ids))
    ends = [tokenizer.convert_ids_to_tokens(token) for token in sorted(end_ids)]
    whole = chat.render([*messages, {"role": "assistant", "content": answer}], add_generation_prompt=False)
    marked = chat.mark(answer, "assistant")
    own = _through_end(whole[len(prompt) :], marked.strip(), ends) if whole.startswith(prompt) else None
    if own is None:
        own = marked + _end_of_turn(chat, messages, prompt, ends)
    prompt_ids, ids = chat.ids(prompt), chat.ids(prompt + own)
    answer_ids = ids[len(prompt_ids) :] if ids[: len(prompt_ids)] == prompt_ids else chat.in_place(own)
    if answer_ids is None:
        raise ConfigError(
            f"the model's tokenizer joins the prompt with the beginning of an answer ({plain(own)[:40]!r}), so their "
            "tokens cannot be separated; take this pair out"
        )
    end = next((place for place, token in enumerate(answer_ids) if token in end_ids), None)
    if end is None:
        raise ConfigError(_NO_END)
    return answer_ids[: end + 1]


def check_template(folder: Path, system_prompt: str | None, trust_remote_code: bool = False) -> None:
    """Raise ConfigError if a model's chat template makes it impossible to train on the model's answers."""
    tokenizer = load_tokenizer(folder, trust_remote_code)
    end_ids = end_of_turn_ids(folder, tokenizer)
    system = [{"role": "system", "content": system_prompt}] if system_prompt else []
    messages = [*system, {"role": "user", "content": "Hello"}]
    prompt, _ = tokenize_prompt(tokenizer, messages, end_ids)
    tokenize_answer(tokenizer, messages, prompt, _ANSWER, end_ids)


def _through_end(text: str, answer: str, ends: list[str]) -> str | None:
    """The text up to the end of the turn, if it is an answer (with blanks around it) and that end; else None."""
    begin = len(text) - len(text.lstrip())
    if not text.startswith(answer, begin):
        return None
    rest = text[begin + len(answer) :]
    end = next((end for end in ends if rest.lstrip().startswith(end)), None)
    return None if end is None else text[: text.index(end, begin + len(answer)) + len(end)]


def _end_of_turn(chat: Chat, messages: list[dict[str, str]], prompt: str, ends: list[str]) -> str:
    """The text that the template writes after any answer, up to the token that ends the turn."""
    whole = chat.render([*messages, {"role": "assistant", "content": _ANSWER}], add_generation_prompt=False)
    before, found, after = whole.rpartition(_ANSWER)
    end = _through_end(after, "", ends) if found else None
    if end is None:
        raise ConfigError(_NO_END)
    if before.startswith(prompt) and chat.has_control(before[len(prompt) :]):
        raise ConfigError(
            f"the chat template writes {before[len(prompt) :]!r} before an answer, which the model did not see when it "
            "answered, so it would be trained on another format; use another model or template"
        )
    return end
