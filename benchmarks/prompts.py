"""Whether the steps around the model take time in proportion to the prompts, and memory that does not grow with them.

    python benchmarks/prompts.py --prompts 5000 --out prompts.json
    python benchmarks/prompts.py --prompts 1000000 --languages en,es --steps prompts --once --out prompts_1m.json

A run's first steps on aligned files of made-up prompts: `prompts` reads, aligns and seals them; `responses`,
`translations` and `pairs` do all but generate, since a stand-in answers at once; `tokens` makes the data set of the
training. All of it is done twice, each time in a process of its own, with n prompts and with 2 n. The ratio of CPU
seconds does not depend on the machine: 2 is linear, 4 would be quadratic. Peak memory is the process's own, after each
step; `start` is what the libraries take, after a run of 20 prompts.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from lidr.config import Config, load_config
from lidr.engines.base import Completion, Request, Sampling
from lidr.run_dir import RunDir
from lidr.stages import pairs, prompts, responses, training, translations

STEPS = ("prompts", "responses", "translations", "pairs", "tokens")
WORDS = ["river", "stone", "letter", "garden", "music", "window", "horse", "bread", "winter", "paper", "market"]
ANSWERS = [" ".join(random.Random(n).choices(WORDS, k=40)) for n in range(1000)]


class StandIn:
    """An engine that answers at once."""

    def generate(
        self, requests: Iterable[Request], sampling: Sampling, done: Collection[str] = frozenset()
    ) -> Iterator[Completion]:
        for request in requests:
            answer = ANSWERS[int(request.request_id, 16) % len(ANSWERS)]
            yield Completion(request.request_id, answer, "stop", completion_tokens=40, stopped_by=translations.STOP)

    def close(self) -> None:
        pass


def write_prompts(folder: Path, languages: list[str], count: int) -> None:
    draw = random.Random(0)
    for code in languages:
        with (folder / f"{code}.jsonl").open("w", encoding="utf-8") as file:
            for number in range(count):
                text = " ".join(draw.choices(WORDS, k=20))
                file.write(json.dumps({"id": f"p{number}", "instruction": f"{code} {number}: {text}"}) + "\n")


def steps_of(config: Config, run: RunDir) -> dict[str, Callable[[], Any]]:
    """The steps by name, with the stand-in for the engine."""
    stand_in = StandIn()
    model = run.model(config, 0)

    def respond() -> None:
        for path, made_from in responses.outputs(config, run, 1):
            file = responses.RowFile(path, made_from)
            responses._answer_language(config, run, 1, file, model, lambda: stand_in)

    def translate() -> None:
        for source, target in translations.directions(config):
            made_from = translations.inputs(config, run, 1, source, target)
            file = translations.RowFile(run.translations(1, source, target), made_from)
            translations._Direction(config, run, 1, source, target, model).translate(file, lambda: stand_in)

    def tokenize() -> None:
        run.training(1).mkdir(parents=True)
        with training.track("tokenise", 0) as progress:
            training._tokenize(config, run, 1, model, progress)

    return {
        "prompts": lambda: prompts.run(config, run, 1),
        "responses": respond,
        "translations": translate,
        "pairs": lambda: pairs.run(config, run, 1),
        "tokens": tokenize,
    }


def measure(count: int, languages: list[str], wanted: list[str]) -> dict[str, Any]:
    """CPU seconds of each step and the peak memory after it. A small run before it loads what is loaded once."""
    found: dict[str, Any] = {"n": count}
    for number in (20, count):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "prompts"
            source.mkdir()
            write_prompts(source, languages, number)
            config = load_config(
                "quickstart",
                [f"prompts.path={source}", f"languages=[{','.join(languages)}]", "pairs.gates.wrong_language=null"],
            )
            run = RunDir.start(config, Path(folder) / "run", say=print)
            steps = steps_of(config, run)
            for name in [step for step in STEPS if step in wanted]:
                started = time.process_time()
                steps[name]()
                seconds = time.process_time() - started
                found[name] = {"cpu_s": round(seconds, 3), "peak_mib": peak_mib()}
            found.setdefault("start_mib", peak_mib())
    return found


def peak_mib() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def in_process(count: int, settings: argparse.Namespace) -> dict[str, Any]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--measure", "--prompts", str(count), "--languages", settings.languages]
    done = subprocess.run([*command, "--steps", settings.steps], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=5000, help="n; 2 n are measured as well")
    parser.add_argument("--languages", default="en,es,fr,de,ru", help="the first one is dominant and must be en")
    parser.add_argument("--steps", default=",".join(STEPS), help="the first ones of these, separated by commas")
    parser.add_argument("--once", action="store_true", help="n only, without a ratio")
    parser.add_argument("--out", type=Path, default=Path("prompts.json"), help="everything measured, as JSON")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.measure:
        print(json.dumps(measure(settings.prompts, settings.languages.split(","), settings.steps.split(","))))
        return
    sizes = [settings.prompts] if settings.once else [settings.prompts, 2 * settings.prompts]
    rows = [in_process(count, settings) for count in sizes]
    print(f"start: peak {' and '.join(str(round(row['start_mib'])) for row in rows)} MiB")
    for name in STEPS:
        if name in rows[0]:
            seconds = " and ".join(f"{row[name]['cpu_s']:.1f}" for row in rows)
            peaks = " and ".join(f"{row[name]['peak_mib']:.0f}" for row in rows)
            ratio = f", {rows[-1][name]['cpu_s'] / rows[0][name]['cpu_s']:.2f} x" if len(rows) > 1 else ""
            print(f"{name:13} {seconds} CPU s{ratio}; peak {peaks} MiB")
    settings.out.write_text(json.dumps({"languages": settings.languages, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
