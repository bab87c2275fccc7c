"""Cards in the Hub's format: `data_card` and `model_card` are pure, `collect` reads a run, `write_cards` writes."""

from __future__ import annotations

from lidr.cards.base import Published
from lidr.cards.collect import RunFacts, checked_iteration, read_facts
from lidr.cards.data_card import data_card, data_files
from lidr.cards.model_card import model_card
from lidr.cards.write import write_cards, write_trained_card

__all__ = [
    "Published",
    "RunFacts",
    "checked_iteration",
    "data_card",
    "data_files",
    "model_card",
    "read_facts",
    "write_cards",
    "write_trained_card",
]
