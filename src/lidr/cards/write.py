"""Cards on disk: the data card of a run, and the model card in the folder of a model."""

from __future__ import annotations

from pathlib import Path

from lidr.cards.base import Published
from lidr.cards.collect import checked_iteration, read_facts
from lidr.cards.data_card import data_card
from lidr.cards.model_card import model_card
from lidr.config import Config
from lidr.run_dir import RunDir
from lidr.seals import read_seal
from lidr.storage import make_folder, write_text


def write_cards(
    config: Config, run: RunDir, iteration: int | None, published: Published, out: Path | None = None
) -> list[Path]:
    """Write the data card, and the model card if the iteration has a model; returns their paths.

    They are cards/data/README.md in the run and README.md in the model's folder, or below `out` data/README.md and
    model/README.md. The same run gives the same cards. Raises RunError if there are no pairs yet.
    """
    number = checked_iteration(config, run, iteration)
    facts = read_facts(config, run, number)
    cards = {(out or run.path / "cards") / "data": data_card(facts, published)}
    if read_seal(run.model_folder(number)):
        cards[out / "model" if out else run.model_folder(number)] = model_card(facts, published)
    for folder, text in cards.items():
        make_folder(folder)
        write_text(folder / "README.md", text)
    return [folder / "README.md" for folder in cards]


def write_trained_card(config: Config, run: RunDir, iteration: int) -> None:
    """Write the card of a trained model that has none yet; `lidr card` replaces it once the model is measured."""
    if (run.model_folder(iteration) / "README.md").exists():
        return
    facts = read_facts(config, run, iteration, measured=False)
    write_text(run.model_folder(iteration) / "README.md", model_card(facts, Published()))
