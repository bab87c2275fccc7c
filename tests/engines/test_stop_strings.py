"""Where an answer ends at a stop string: seen at the token that completes it, whatever tokens it is cut into."""

from __future__ import annotations

import pytest

from lidr.engines.transformers.engine import _StopStrings


class _Pieces:
    """A tokenizer whose tokens are these texts."""

    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces
        self.decoded = 0

    def decode(self, tokens: list[int]) -> str:
        self.decoded += 1
        return "".join(self.pieces[token] for token in tokens)


def ends_at(stops: _StopStrings, tokens: list[int]) -> int | None:
    """The number of tokens after which the stop string is found, asked after every token as a decoder does."""
    return next((n for n in range(1, len(tokens) + 1) if stops.found(tokens[:n])), None)


@pytest.mark.parametrize(
    "pieces", [("a", "</end>"), ("a", "</", "end", ">"), ("a", "x</e", "nd> b"), ("a", "<", "/end>.")]
)
def test_is_found_at_the_token_that_completes_it(pieces: tuple[str, ...]) -> None:
    stops = _StopStrings(_Pieces(*pieces), ("</end>",))
    tokens = list(range(len(pieces)))
    assert ends_at(stops, tokens) == len(pieces)


def test_characters_beyond_ascii_are_found_too() -> None:
    assert ends_at(_StopStrings(_Pieces("a", "終", "わ", "り"), ("終わり",)), [0, 1, 2, 3]) == 4


def test_tokens_that_cannot_end_it_are_decoded_once() -> None:
    tokenizer = _Pieces("a", "b")
    stops = _StopStrings(tokenizer, ("</end>",))
    assert not any(stops.found([0, 1] * n) for n in range(1, 50))
    assert tokenizer.decoded == 1


def test_nothing_is_found_without_stop_strings() -> None:
    assert not _StopStrings(_Pieces("a"), ()).found([0])
