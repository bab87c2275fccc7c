"""From a pair's texts to the tokens that the model is trained on, by the tokenizer's own chat template."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from lidr.errors import ConfigError
from lidr.models import end_of_turn_ids, load_tokenizer
from lidr.models.chat import Chat, chat_of, plain

_NO_END = "the chat template does not end the assistant's turn with one of the model's end tokens"
_ANSWER = "lidr-answer"  # takes the place of an answer where the template itself is looked at


def tokenize_prompt(
    tokenizer: Any, messages: list[dict[str, str]], end_ids: Collection[int] = ()
) -> tuple[str, list[int]]:
    """The rendered prompt, up to where the assistant's answer begins, as marked text and as token ids."""
    chat = chat_of(tokenizer, frozenset(end_ids))
    text = chat.render(messages, add_generation_prompt=True)
    return text, chat.ids(text)


def tokenize_answer(
    tokenizer: Any, messages: list[dict[str, str]], prompt: str, answer: str, end_ids: Collection[int]
) -> list[int]:
    """The token ids of an answer to a rendered `prompt`, up to and including the first token that ends the turn.

    They are those of the whole conversation after the prompt's tokens. Where the template writes more than the answer
    (an empty thought) or another prompt than the model answered, they are the answer's own after the prompt that it did
    answer. Raises ConfigError if the template does not end the turn, or puts control tokens before the answer that the
    model did not see.
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
            f"the model's tokenizer joins the prompt with the beginning of an answer ({plain(own)[:40]!r}), so its "
            "tokens cannot be told apart; take this pair out"
        )
    end = next((place for place, token in enumerate(answer_ids) if token in end_ids), None)
    if end is None:
        raise ConfigError(_NO_END)
    return answer_ids[: end + 1]


def check_template(folder: Path, system_prompt: str | None, trust_remote_code: bool = False) -> None:
    """Raise ConfigError if a model cannot be trained on what it answers, because of its chat template."""
    tokenizer = load_tokenizer(folder, trust_remote_code)
    end_ids = end_of_turn_ids(folder, tokenizer)
    system = [{"role": "system", "content": system_prompt}] if system_prompt else []
    messages = [*system, {"role": "user", "content": "Hello"}]
    prompt, _ = tokenize_prompt(tokenizer, messages, end_ids)
    tokenize_answer(tokenizer, messages, prompt, _ANSWER, end_ids)


def _through_end(text: str, answer: str, ends: list[str]) -> str | None:
    """A text that is an answer and the end of its turn, up to that end, with blanks around the answer; else None."""
    begin = len(text) - len(text.lstrip())
    if not text.startswith(answer, begin):
        return None
    rest = text[begin + len(answer) :]
    end = next((end for end in ends if rest.lstrip().startswith(end)), None)
    return None if end is None else text[: text.index(end, begin + len(answer)) + len(end)]


def _end_of_turn(chat: Chat, messages: list[dict[str, str]], prompt: str, ends: list[str]) -> str:
    """What the template writes after any answer, up to the token that ends the turn."""
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
