"""What a model of the hard world does: `python tools/laboratory_hard.py [MODEL] [--samples 8] [--temperature 0.9]`.

Prints what docs/laboratory.md says of M0: greedy answers by language, how often the majority of samples is right, and
how translations go. MODEL is a folder, by default the shipped one.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lidr.benchmarks.lab_hard import LabHardBenchmark
from lidr.engines import Request, Sampling, open_model
from lidr.engines.base import Engine
from lidr.engines.transformers import Transformers
from lidr.lab import MODEL_PATHS, hard
from lidr.lab.corpus import SYSTEM_PROMPT, request
from lidr.lab.hard import ITEMS, LANGUAGES, Item
from lidr.lab.hard_corpus import arbitrary
from lidr.numbers import extract_answer

TRAINED = ("en", "es", "fr", "de", "ru")


def answers(engine: Engine, texts: Sequence[str], sampling: Sampling, prefill: str = "") -> list[str]:
    """One answer to each text, in their order."""
    asked = [
        Request(str(number), (("system", SYSTEM_PROMPT), ("user", text)), prefill) for number, text in enumerate(texts)
    ]
    found = {completion.request_id: completion.text for completion in engine.generate(asked, sampling)}
    return [found[one.request_id].strip() for one in asked]


def greedy(engine: Engine) -> None:
    """One row per language: right facts and sums, both in whatever language, and the answers in another language."""
    benchmark = LabHardBenchmark(LANGUAGES, ())
    print("| | facts | sums | all | in any language | off target |\n|---|---|---|---|---|---|")
    for language, questions, _ in benchmark.ahead():
        made = answers(engine, [asked.prompt for asked in questions], Sampling(64))
        right = [
            hard.is_in(text, language) and _ends_in(text, language, item)
            for text, item in zip(made, ITEMS, strict=True)
        ]
        parts = [[ok for ok, item in zip(right, ITEMS, strict=True) if len(item.things) == count] for count in (1, 2)]
        found = [_ends_in(text, language, item) for text, item in zip(made, ITEMS, strict=True)]
        off = [not hard.is_in(text, language) for text in made]
        print(f"| {language} | {' | '.join(_share(values) for values in (*parts, right, found, off))} |", flush=True)


def majorities(engine: Engine, samples: int, temperature: float) -> None:
    """How often the most frequent number of several samples is right, of English alone and of the trained languages."""
    votes = {language: [Counter[str]() for _ in ITEMS] for language in TRAINED}
    for language in TRAINED:
        texts = [hard.question(item, language, 0) for item in ITEMS for _ in range(samples)]
        for index, text in enumerate(answers(engine, texts, Sampling(64, temperature=temperature))):
            votes[language][index // samples][str(extract_answer(text, language))] += 1
    for name, codes in (("en", ("en",)), ("all", TRAINED)):
        counted = [sum((votes[code][index] for code in codes), Counter[str]()) for index in range(len(ITEMS))]
        right = [count.most_common(1)[0][0] == str(item.result) for count, item in zip(counted, ITEMS, strict=True)]
        parts = [[ok for ok, item in zip(right, ITEMS, strict=True) if len(item.things) == count] for count in (1, 2)]
        print(f"majority of {samples} samples, {name}: facts {_share(parts[0])}, sums {_share(parts[1])}, "
              f"all {_share(right)}")  # fmt: skip
    mine = [count[str(item.result)] for count, item in zip(votes["en"], ITEMS, strict=True)]
    print(f"en: right samples {sum(mine) / samples / len(ITEMS):.2f}, a right one among {samples} {_share(mine)}")


def translations(engine: Engine, count: int = 200) -> None:
    """One row per direction: how translations of arbitrary texts go, greedily."""
    generator = random.Random(1)
    print("| | right | switched | shortened | another number | other |\n|---|---|---|---|---|---|")
    for source, target in [(a, b) for code in TRAINED[1:] for a, b in (("en", code), (code, "en"))]:
        items = [arbitrary(generator) for _ in range(count)]
        texts = [request(hard.answer(item, source), "", source, target).user for item in items]
        made = answers(engine, texts, Sampling(80, stop=("</translated>",)), "<translated>\n")
        kinds = Counter(_kind(text, item, target) for text, item in zip(made, items, strict=True))
        shares = [kinds[kind] / count for kind in ("right", "switched", "shortened", "number", "other")]
        print(f"| {source} -> {target} | {' | '.join(f'{share:.2f}' for share in shares)} |", flush=True)


def _kind(text: str, item: Item, target: str) -> str:
    if text == hard.answer(item, target):
        return "right"
    if not hard.is_in(text, target):
        return "switched"
    if text == hard.summary(item, target):
        return "shortened"
    return "other" if _ends_in(text, target, item) else "number"


def _ends_in(text: str, language: str, item: Item) -> bool:
    return extract_answer(text, language) == item.result


def _share(values: Sequence[object]) -> str:
    return f"{sum(map(bool, values)) / len(values):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", type=Path, default=MODEL_PATHS["lab-hard"])
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--temperature", type=float, default=0.9)
    options = parser.parse_args()
    settings = Transformers.model_validate({"device": "cpu", "batch_size": 128, "dtype": "float32"})
    with open_model(settings, str(options.model)) as engine:
        greedy(engine)
        majorities(engine, options.samples, options.temperature)
        translations(engine)


if __name__ == "__main__":
    main()
