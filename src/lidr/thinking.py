r"""A reasoning model's thinking, set aside from its answer: `<think>...</think>` and what other families write.

- A block begins at the beginning of a line. One that never ends was cut off: no answer follows it.
- Only the closing tag is there if the chat template opened the block: everything before it is thinking. Such a tag
  begins or ends a line, or follows the end of a sentence.
- A line that thinking begins may have more of it further on.
- Tags that are only mentioned are left alone: those in code or in quotes, and all others within a line ("the <think>
  and </think> tags").
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace

from lidr.engines.base import Completion

_NAMES = r"think(?:ing)?|thoughts?|reasoning|seed:think"
_TAG = re.compile(
    rf"<\s?(?P<close>/)?\s?(?:{_NAMES})\s?>|\[(?P<close_mistral>/)?THINK\]|◁(?P<close_kimi>/)?think▷"
    r"|<\|(?:begin|(?P<close_sky>end))_of_thought\|>",
    re.I,
)
_CLOSES = ("close", "close_mistral", "close_kimi", "close_sky")
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.M)
_INLINE = re.compile(r"`[^`\n]+`")
_QUOTES = frozenset("'\"“”„«»‘’「」")
# gpt-oss: <|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final<|message|>..., which without its
# special tokens is "analysis...assistantfinal...".
_CHANNEL = re.compile(
    r"\s*(?:<\|start\|>assistant)?<\|channel\|>\s*(?:analysis|commentary|(final))|analysis(?=[A-Z\s])"
)
_FINAL = re.compile(
    r"(?:<\|start\|>)?assistant\s*(?:<\|channel\|>)?\s*final\s*(?:<\|message\|>)?|<\|channel\|>\s*final\s*<\|message\|>"
)


@dataclass(frozen=True, slots=True)
class Spoken:
    """What is left of a text without its thinking. `is_cut_off` says that the thinking never ended."""

    answer: str
    thinking: bool = False
    is_cut_off: bool = False


def split_thinking(text: str) -> Spoken:
    """The answer in a text, and whether there was thinking beside it. A text without any comes back unchanged."""
    if found := _by_channel(text):
        return found
    kept: list[str] = []
    end, opened, mentioned, seen = 0, None, None, False
    for at, after, closes in _tags(text):
        begins = _begins_line(text, at) or (seen and text.find("\n", end, at) < 0)
        if not closes:
            if opened is None:
                opened, mentioned = (at, None) if begins else (None, at)
            continue
        if opened is not None:
            kept.append(text[end:opened])
        elif begins or (_ends_thinking(text, at, after) and (mentioned is None or "\n" in text[mentioned:at])):
            kept.clear()
        else:
            mentioned = None
            continue
        end, opened, mentioned, seen = after, None, None, True
    cut_off = opened is not None and _begins_line(text, opened)
    if not seen and not cut_off:
        return Spoken(text)
    return Spoken("".join([*kept, text[end : opened if cut_off else None]]).strip(), True, cut_off)


def set_aside_thinking(completion: Completion) -> Completion:
    """The completion with only the answer as its text. If the thinking never ended, the completion was cut off."""
    spoken = split_thinking(completion.text)
    if not spoken.thinking:
        return completion
    reason = "length" if spoken.is_cut_off and completion.finish_reason == "stop" else completion.finish_reason
    return replace(completion, text=spoken.answer, finish_reason=reason, thinking=True)


def _by_channel(text: str) -> Spoken | None:
    """The answer of a text in gpt-oss's channels; None for other texts."""
    channel = _CHANNEL.match(text)
    if channel is None:
        return None
    if channel[1]:
        return Spoken(re.sub(r"^\s*<\|message\|>", "", text[channel.end() :]))
    finals = list(_FINAL.finditer(text, channel.end()))
    if finals:
        return Spoken(re.sub(r"<\|(?:return|end)\|>\s*$", "", text[finals[-1].end() :]).strip(), True)
    return Spoken("", True, True) if "<|channel|>" in channel[0] else None


def _tags(text: str) -> Iterator[tuple[int, int, bool]]:
    """(start, end, whether it closes) of every tag that is not just mentioned."""
    found = list(_TAG.finditer(text))
    if not found:
        return
    inline = [span.span() for span in _INLINE.finditer(text)]
    fences = [fence.start() for fence in _FENCE.finditer(text)]
    blocks = list(zip(fences[0::2], fences[1::2], strict=False))
    opened = False
    for tag in found:
        # Code of the thinking may have a fence that nobody closed, so fences inside it do not count.
        quoted = text[tag.start() - 1 : tag.start()] in _QUOTES and text[tag.end() : tag.end() + 1] in _QUOTES
        if quoted or _inside(tag.start(), inline) or (not opened and _inside(tag.start(), blocks)):
            continue
        closes = any(tag[group] for group in _CLOSES)
        opened = not closes and (opened or _begins_line(text, tag.start()))
        yield tag.start(), tag.end(), closes


def _inside(at: int, spans: list[tuple[int, int]]) -> bool:
    number = bisect_right(spans, at, key=lambda span: span[0]) - 1
    return number >= 0 and spans[number][0] <= at < spans[number][1]


def _ends_thinking(text: str, at: int, after: int) -> bool:
    """Whether a closing tag ends its line or follows the end of a sentence; else a sentence goes on around it."""
    if not text[after : after + 100].partition("\n")[0].strip():
        return True
    return text[max(0, at - 3) : at].rstrip()[-1:] in tuple(".!?…。！？")


def _begins_line(text: str, at: int) -> bool:
    before = text[max(0, at - 100) : at]
    return not before.rpartition("\n")[2].strip() and ("\n" in before or at <= 100)
