"""`lidr probe --strategies`: before training, how often is the chosen side of each strategy's pairs the better one?

Every strategy answers the probe's held-out sample and makes its pairs, gates included. Known answers or the judge say
which side is better. More pairs that point the right way, less those that point the wrong way, for the same tokens:
that is the one that the probe would choose.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass

from rich.table import Table

from lidr import preflight
from lidr.benchmarks.shared.duels import Duel, count_duels, count_together
from lidr.commands.arena.budget import spent
from lidr.commands.arena.entries import Entry
from lidr.commands.arena.sharing import TAKE
from lidr.config import Config
from lidr.judges import Comparison, compare, open_judge
from lidr.languages.identification import LanguageIdentifier
from lidr.records import PreferencePair, Prompt
from lidr.report.formatting import percent
from lidr.report.terminal import print_table
from lidr.results import DuelCounts
from lidr.run_dir import RunDir
from lidr.seals import digest, is_sealed, write_sealed
from lidr.stages import pairs, prompts, responses, scores, translations
from lidr.stages.pairs import read_pairs
from lidr.stages.probe import checked_judges, is_known_answer
from lidr.storage import write_text

_STAGES = {"responses": responses.run, "translations": translations.run, "scores": scores.run}


@dataclass(frozen=True, slots=True)
class Forecast:
    """What an entry's pairs on the sample are worth. `by` says who judged.

    The chosen side is the better one in `better` pairs, the rejected one in `worse`. `reward_accuracy` counts a prompt
    once, by the sum over its pairs, which are not independent. `chosen_right` and `rejected_right` are shares of right
    sides if answers are known.
    """

    entry: str
    by: str
    prompts: int
    tokens_per_prompt: float
    pairs: int
    better: int
    worse: int
    reward_accuracy: DuelCounts
    by_language: dict[str, DuelCounts]
    chosen_right: float | None
    rejected_right: float | None

    @property
    def net_per_million(self) -> float:
        """Pairs that point the right way less those that point the wrong way, for a million tokens."""
        tokens = self.tokens_per_prompt * self.prompts
        return (self.better - self.worse) / tokens * 1e6 if tokens else 0.0


def choose(found: Sequence[Forecast]) -> Forecast | None:
    """The entry with the most pairs that point the right way, for the same tokens; None if none is beyond noise."""
    sure = [each for each in found if each.reward_accuracy.direction > 0]
    return max(sure, key=lambda each: each.net_per_million, default=None)


def forecast(config: Config, entries: Sequence[tuple[Entry, Config]], run: RunDir) -> list[Forecast]:
    """Make the pairs of every entry on the probe's sample and judge them; also writes probe/strategies.json.

    `config` has the probe. Raises ConfigError if nobody can say which answer is better.
    """
    sample = prompts.hold_out(config, run)
    by = checked_judges(config, sample)
    for _, own in entries:
        preflight.check(own, run)
    small = {entry.name: RunDir(run.path / "probe" / "strategies" / entry.name) for entry, _ in entries}
    found = []
    for entry, own in entries:
        own = own.model_copy(update={"probe": None})
        others = [other for name, other in small.items() if name != entry.name]
        _make_pairs(own, small[entry.name], sample, digest(run.held_out()), others)
        found.append(_judge(entry.name, own, small[entry.name], run, sample, by[0]))
    chosen = choose(found)
    content = {"chosen": chosen.entry if chosen else None, "strategies": [asdict(each) for each in found]}
    write_text(run.path / "probe" / "strategies.json", json.dumps(content, indent=1) + "\n")
    return found


def _make_pairs(
    config: Config, run: RunDir, sample: list[dict[str, Prompt]], of_sample: str, others: Sequence[RunDir]
) -> None:
    """The steps of an iteration up to its pairs, with the sample as the prompts."""
    made_from = {"sample": of_sample}
    if not is_sealed(run.prompts(1), made_from):
        run.path.mkdir(parents=True, exist_ok=True)
        write_sealed(run.prompts(1), made_from, (prompt.to_json() for group in sample for prompt in group.values()))
    for name, stage in _STAGES.items():
        TAKE[name](config, run, others)
        stage(config, run, 1)
    pairs.run(config, run, 1)


def _judge(
    entry: str, config: Config, run: RunDir, whole: RunDir, sample: list[dict[str, Prompt]], by: str
) -> Forecast:
    made = [PreferencePair.from_dict(row) for code in config.languages for row in read_pairs(run, 1, code)]
    right: list[tuple[bool, bool]] = []
    if by == "verified":
        known = {(prompt.prompt_id, code): prompt for group in sample for code, prompt in group.items()}
        identifier = LanguageIdentifier.among(config.languages)
        for pair in made:
            prompt = known[pair.prompt_id, pair.language]
            chosen, rejected = (is_known_answer(text, prompt, identifier) for text in (pair.chosen, pair.rejected))
            right.append((chosen, rejected))
        results: list[int | None] = [chosen - rejected for chosen, rejected in right]
    else:
        results = _verdicts(config, whole, made)
    duels = [Duel(pair.prompt_id, pair.language, result) for pair, result in zip(made, results, strict=True)]
    return Forecast(
        entry,
        by,
        len(sample),
        round(spent(config, run, 1) / len(sample), 1),
        len(made),
        results.count(1),
        results.count(-1),
        count_together(duels),
        {code: count_duels([duel for duel in duels if duel.language == code]) for code in config.languages},
        round(sum(chosen for chosen, _ in right) / len(right), 4) if right else None,
        round(sum(rejected for _, rejected in right) / len(right), 4) if right else None,
    )


def _verdicts(config: Config, whole: RunDir, made: Sequence[PreferencePair]) -> list[int | None]:
    settings = config.evaluation.judge
    assert settings is not None  # `judged_by` names it
    votes = {"win": 1, "tie": 0, "lose": -1, None: None}
    identifier = LanguageIdentifier.among(config.languages)
    asked = [Comparison(pair.id, pair.language, pair.prompt, pair.chosen, pair.rejected) for pair in made]
    with ExitStack() as stack:
        judge = stack.enter_context(open_judge(settings, whole.judge_replies, whole.model_cache))
        verdicts, _ = compare(judge, asked, identifier, "probe  judge pairs")
    return [votes[verdict.outcome] for verdict in verdicts]


def print_forecasts(found: Sequence[Forecast]) -> None:
    """A row per strategy, and the one that the probe would choose."""
    table = Table(title=f"pairs of {found[0].prompts} held-out prompts, by {found[0].by}")
    for header in (
        "", "reward accuracy\nby prompt", "pairs", "chosen better : worse", "chosen right", "rejected right",
        "tokens\nper prompt", "net pairs per\nmillion tokens",
    ):  # fmt: skip
        table.add_column(header, justify="right" if header else "left")
    for each in found:
        duels = each.reward_accuracy
        accuracy = "–" if duels.value is None else f"{duels.value:.2f} ({duels.ci95[0]:.2f}–{duels.ci95[1]:.2f})"
        right = percent(each.chosen_right), percent(each.rejected_right)
        figures = [accuracy, str(each.pairs), f"{each.better} : {each.worse}", *right]
        table.add_row(each.entry, *figures, f"{each.tokens_per_prompt:,.0f}", f"{each.net_per_million:,.0f}")
    print_table(table)
    chosen = choose(found)
    if chosen is None:
        print("no strategy's pairs point the right way beyond noise; a larger probe.prompts may tell more")
    else:
        print(f"the probe would choose {chosen.entry}: for the same tokens, most of its pairs point the right way")
