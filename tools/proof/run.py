"""The proof on one GPU: `qwen2.5-0.5b-math` and its SFT baseline, measured on MGSM, in a few minutes.

python tools/proof/run.py --model FOLDER --prompts FOLDER --mgsm FOLDER --out OUT [--limit 700] [--workers 5]

`--prompts` is what `prepare.py` wrote. The steps are those of `lidr run`, with the same files, ids and texts; what is
different is the timetable, and that settings can be tried on held-out questions first (`--try`, see tune.py). A small
model leaves a GPU idle most of the time, because launching a pass from Python takes longer than computing it, so a few
processes work on different languages at the same time, and models are measured while the next step goes on. What is
measured is complete at any time that the work is cut off: M0, M1, the baseline, M2.

The same command continues where an earlier one stopped. `--stop-after-s` ends it in time for what is there to be
packed into OUT/evidence.tar.gz (no weights), which `evidence.py` reads.

README.md beside this file has the command of a rehearsal without a GPU.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tarfile
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from tune import tune

RECIPE, BASELINE = "qwen2.5-0.5b-math", "qwen2.5-0.5b-math-sft"
SOURCE, DOMINANT = "es", "en"  # English is not among the questions: the model translates it from Spanish
OTHERS = ("fr", "de", "ru")
TRANSLATION_TOKENS = 512  # of a question into English; the longest takes about 250
_NOT_EVIDENCE = (".safetensors", ".arrow", ".bin", ".pt", ".pth", ".sqlite", ".lock")

# --- in the worker processes ------------------------------------------------------------------------------------------

_engine: dict[str, Any] = {}  # the engine that this process has open, by the model's folder


def _start_worker(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    import lidr.engines.transformers  # noqa: F401  so that the first task does not pay for it


def _open_engine(config: Any, folder: Path) -> Any:
    """The engine with that model; the one before it gives its memory back."""
    from lidr.engines import open_engine

    name = str(folder.resolve())
    if name not in _engine:
        _close_engine()
        stack = ExitStack()
        _engine[name] = (stack.enter_context(open_engine(config, folder)), stack)
    return _engine[name][0]


def _close_engine() -> None:
    for _, stack in _engine.values():
        stack.close()
    _engine.clear()


def _free() -> None:
    """Give the GPU what this process holds in reserve, so that the others find it."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def respond(path: Path, iteration: int, language: str) -> None:
    """Answer the prompts of one language."""
    from lidr.run_dir import RowFile, RunDir
    from lidr.stages import responses

    run, config = RunDir.load(path)
    model = run.model(config, iteration - 1)
    for file_path, made_from in responses.outputs(config, run, iteration):
        file = RowFile(file_path, made_from)
        if file_path.stem == language and not file.sealed:
            responses._answer_language(config, run, iteration, file, model, lambda: _open_engine(config, model.folder))
    _free()


def translate(path: Path, iteration: int, source: str, target: str) -> None:
    """Translate the answers of one direction."""
    from lidr.run_dir import RowFile, RunDir
    from lidr.stages import translations

    run, config = RunDir.load(path)
    model = run.model(config, iteration - 1)
    made_from = translations.inputs(config, run, iteration, source, target)
    file = RowFile(run.translations(iteration, source, target), made_from)
    if not file.sealed:
        direction = translations._Direction(config, run, iteration, source, target, model)
        direction.translate(file, lambda: _open_engine(config, model.folder))
    _free()


def ask_mgsm(path: Path, iteration: int, language: str) -> None:
    """Answer the questions of MGSM in one language; they are scored by the step of the run that comes after."""
    from lidr.benchmarks.mgsm import MgsmBenchmark
    from lidr.run_dir import RunDir
    from lidr.stages import evaluation

    run, config = RunDir.load(path)
    settings = config.evaluation.benchmarks.mgsm
    assert settings is not None
    model = run.model(config, iteration)
    made_from = evaluation.inputs(config, run, iteration, "mgsm")
    examinee = evaluation._Examinee(
        config, run, iteration, "mgsm", model, made_from, lambda: _open_engine(config, model.folder)
    )
    examinee.answer(language, MgsmBenchmark(**settings.model_dump()).questions(language))
    _free()


def english(model: str, engine: Any, source: Path, out: Path, limit: int) -> dict[str, Any]:
    """What `lidr prompts translate --from es --to en --with model` does, with answers of bounded length."""
    from contextlib import closing
    from itertools import islice

    from lidr.config import PromptFields
    from lidr.prompt_sets.reading import read_prompts
    from lidr.prompt_sets.translation import translate_prompts
    from lidr.translators.engine import EngineTranslator

    def prompts() -> Iterable[Any]:
        rows = read_prompts(str(source), PromptFields(), split="train", configuration=None, language=SOURCE)
        return (prompt for prompt, _ in islice(rows, limit))

    with closing(EngineTranslator(engine, model, max_new_tokens=TRANSLATION_TOKENS)) as translator:
        found = translate_prompts(
            prompts, translator, SOURCE, [DOMINANT], out, made_from=source.name, max_usd=None, say=_say
        )[DOMINANT]
    _free()
    return {"translated": found.translated, "retried": found.retried, "aside": dict(found.aside)}


def train(path: Path, iteration: int) -> None:
    """Reference pass and training."""
    from lidr.run_dir import RunDir, is_sealed
    from lidr.stages import training

    run, config = RunDir.load(path)
    if not all(is_sealed(made, made_from) for made, made_from in training.outputs(config, run, iteration)):
        training.run(config, run, iteration)
    _free()


# --- the timetable ----------------------------------------------------------------------------------------------------


class Proof:
    """One run of the recipe and one of the baseline, which takes over the first iteration's answers."""

    def __init__(
        self, options: argparse.Namespace, generate: ProcessPoolExecutor, trainer: ProcessPoolExecutor
    ) -> None:
        self.options, self.generate, self.trainer = options, generate, trainer
        self.began = time.monotonic()
        self.out: Path = options.out
        self.prompts = self.out / "prompts"
        self.saving = threading.Lock()
        self.runs: dict[str, tuple[Any, Any]] = {}  # name -> (RunDir, Config)

    def start(self, recipe: str, name: str | None = None, changes: Iterable[str] = ()) -> tuple[Any, Any]:
        """The run directory of a recipe, with this machine's paths in it; `name` is the recipe's where there is one."""
        from lidr.config import load_config
        from lidr.replacing import open_run

        given = [
            f"model.path={self.options.model}",
            f"prompts.path={self.prompts}",
            f"evaluation.benchmarks.mgsm.path={self.options.mgsm}",
            "report.samples=0",  # the questions are not ours to publish
            *self.options.set,
            *changes,
        ]
        config = load_config(recipe, given)
        run = open_run(config, self.out / (name or recipe), _say)
        run.model(config, 0)  # hashes the weights once; the workers find the fingerprint
        self.runs[name or recipe] = (run, config)
        return run, config

    def note(self, what: str, **values: Any) -> None:
        seconds = round(time.monotonic() - self.began, 1)
        _say(f"[{seconds:7.1f} s] {what} {json.dumps(values) if values else ''}")
        with (self.out / "timetable.jsonl").open("a", encoding="utf-8") as handle:
            handle.write(json.dumps({"seconds": seconds, "what": what, **values}) + "\n")

    def step(self, recipe: str, stage: str, iteration: int) -> None:
        """A step that needs no model, or whose answers the workers have written."""
        from lidr import loop

        run, config = self.runs[recipe]
        with run.lock() as lock:
            loop.step(stage, config, run, iteration, lock)

    def ask(self, recipe: str, iteration: int) -> list[Future[Any]]:
        """Questions of MGSM, all languages at the same time."""
        run, config = self.runs[recipe]
        languages = config.evaluation.benchmarks.mgsm.languages
        return [self.generate.submit(ask_mgsm, run.path, iteration, language) for language in languages]

    def score(self, recipe: str, iteration: int, asked: list[Future[Any]]) -> None:
        """Wait for the answers, score them, and pack what there is so far."""
        from lidr.stages.evaluation import read_metrics

        _wait(asked)
        self.step(recipe, "evaluation", iteration)
        metrics = read_metrics(self.runs[recipe][0], iteration, "mgsm")
        self.note(f"{recipe} M{iteration} on MGSM", **{code: found["accuracy"] for code, found in metrics.items()})
        self.pack()

    def answer(self, recipe: str, iteration: int) -> list[Future[Any]]:
        run, config = self.runs[recipe]
        return [self.generate.submit(respond, run.path, iteration, code) for code in config.languages]

    def translate(self, recipe: str, iteration: int) -> list[Future[Any]]:
        from lidr.stages.answers import directions

        run, config = self.runs[recipe]
        return [self.generate.submit(translate, run.path, iteration, *pair) for pair in directions(config)]

    def pairs(self, recipe: str, iteration: int) -> None:
        from lidr.stages.pairs import read_summary

        self.step(recipe, "pairs", iteration)
        self.note(f"{recipe} pairs of iteration {iteration}", **read_summary(self.runs[recipe][0], iteration)["pairs"])

    def train(self, recipe: str, iteration: int) -> Future[Any]:
        return self.trainer.submit(train, self.runs[recipe][0].path, iteration)

    def make_prompts(self, engine: Any) -> None:
        """English by translation, the other languages as they came, all with the first `limit` ids."""
        limit, source = self.options.limit, self.options.prompts
        made = self.generate.submit(
            english, str(self.options.model), engine, source / f"{SOURCE}.jsonl", self.prompts, limit
        ).result()
        self.note("English prompts", **made)
        for code in OTHERS:
            rows = (source / f"{code}.jsonl").read_text(encoding="utf-8").split("\n")[:limit]
            target = self.prompts / f"{code}.jsonl"
            if not target.exists():  # a file written anew counts as changed
                target.write_text("\n".join(filter(None, rows)) + "\n", encoding="utf-8")

    def take_over(self, name: str) -> None:
        """Answers and translations of iteration 1 are those of our run; what differs will be asked again."""
        for part in ("2_responses", "3_translations"):
            if not (self.runs[name][0].path / "iteration_1" / part).exists():
                inside = Path("iteration_1") / part
                shutil.copytree(self.runs[RECIPE][0].path / inside, self.runs[name][0].path / inside)
        self.step(name, "prompts", 1)

    def begin_baseline(self) -> None:
        """M0 is the same, and so are the prompts, answers and translations of the first iteration."""
        (ours, _), (baseline, _) = self.runs[RECIPE], self.runs[BASELINE]
        if not (baseline.path / "iteration_0").exists():
            shutil.copytree(ours.path / "iteration_0/6_evaluation", baseline.path / "iteration_0/6_evaluation")
        self.take_over(BASELINE)

    def run(self) -> None:
        """Everything, in the order in which it is worth having."""
        _, config = self.start(RECIPE)
        self.start(BASELINE)
        self.note("started")
        self.prompts.mkdir(parents=True, exist_ok=True)
        measured_0 = None
        if not (self.prompts / f"{OTHERS[-1]}.jsonl").exists():
            measured_0 = self._with_english(config)
        self.step(RECIPE, "prompts", 1)
        measured_0 = measured_0 or self.ask(RECIPE, 0)
        _wait(self.answer(RECIPE, 1))
        self.note("answers of iteration 1")
        translated = self.translate(RECIPE, 1)
        self.score(RECIPE, 0, measured_0)
        _wait(translated)
        self.note("translations of iteration 1")
        self.pairs(RECIPE, 1)
        if self.options.tries:
            self.start(RECIPE, changes=tune(self, RECIPE))
            self.step(RECIPE, "pairs", 1)  # the setting may be one of the gates
        self.train(RECIPE, 1).result()
        self.note("M1 is trained")
        self.step(RECIPE, "prompts", 2)
        measured_1, answers_2 = self.ask(RECIPE, 1), self.answer(RECIPE, 2)
        self.begin_baseline()
        baseline = [*self.answer(BASELINE, 1)]
        self.score(RECIPE, 1, measured_1)
        _wait(answers_2 + baseline)
        translated, translated_2 = self.translate(BASELINE, 1), self.translate(RECIPE, 2)
        _wait(translated)
        self.pairs(BASELINE, 1)
        baseline_trained = self.train(BASELINE, 1)
        _wait(translated_2)
        self.note("answers and translations of iteration 2")
        self.pairs(RECIPE, 2)
        trained_2 = self.train(RECIPE, 2)
        baseline_trained.result()
        self.note("the baseline is trained")
        self.score(BASELINE, 1, self.ask(BASELINE, 1))
        trained_2.result()
        self.note("M2 is trained")
        self.score(RECIPE, 2, self.ask(RECIPE, 2))
        self.note("done")
        self.pack()

    def _with_english(self, config: Any) -> list[Future[Any]]:
        """M0 is measured while one process translates the questions."""
        prompts = threading.Thread(target=self.make_prompts, args=(config.engine,))
        prompts.start()
        time.sleep(0.5)  # so that the translation is the first task
        asked = self.ask(RECIPE, 0)
        prompts.join()
        if not (self.prompts / f"{OTHERS[-1]}.jsonl").exists():
            raise RuntimeError("the English prompts could not be made; see the message above")
        return asked

    def pack(self) -> None:
        """results.json and the report as far as things are, and all but weights in one archive."""
        from lidr.results import write_results
        from lidr.stages import report

        with self.saving:
            for run, config in self.runs.values():
                try:
                    write_results(config, run)
                    report.run(config, run)
                except Exception as error:  # whatever it is, the rows are worth more than the report
                    _say(f"{run.path}: no report yet ({error})")
            aside = self.out / ".evidence.tar.gz"
            with tarfile.open(aside, "w:gz", compresslevel=3) as archive:
                for path in sorted(self.out.rglob("*")):
                    inside = path.relative_to(self.out)
                    if path.is_file() and _is_evidence(inside):
                        with suppress(FileNotFoundError):  # finished, and so renamed, at this very moment
                            archive.add(path, arcname=str(inside))
            os.replace(aside, self.out / "evidence.tar.gz")
            if self.options.deliver:
                shutil.copy(self.out / "evidence.tar.gz", self.options.deliver / "evidence.tar.gz")
                shutil.copy(self.out / "timetable.jsonl", self.options.deliver / "timetable.jsonl")


def _is_evidence(inside: Path) -> bool:
    """Whether a file, by its path in OUT, goes into the archive: everything but weights and what is still written."""
    if inside.name.endswith(_NOT_EVIDENCE) or inside.name.endswith(("evidence.tar.gz", ".tmp", "tokenizer.json")):
        return False
    return not {"tokens", "checkpoints"} & set(inside.parts) and ".partial" not in str(inside)


def _wait(futures: list[Future[Any]]) -> None:
    for future in futures:
        future.result()


def _stop(proof: Proof, pools: list[ProcessPoolExecutor]) -> None:
    """Time is up: keep what is there, end the workers and this process."""
    proof.note("time is up")
    with suppress(Exception):
        proof.pack()
    for pool in pools:
        for process in list((pool._processes or {}).values()):
            process.kill()
    os._exit(3)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="the model's folder, or lab for a rehearsal")
    for name in ("prompts", "mgsm", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=700, help="prompts per language")
    parser.add_argument("--workers", type=int, default=5, help="generating processes")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of each process")
    parser.add_argument("--held-out", type=Path, help="questions for --try, in MGSM's form")
    parser.add_argument(
        "--try", dest="tries", action="append", default=[], metavar="a.b=c,d.e=f",
        help="a setting to be tried on the held-out questions; the best one goes to MGSM",
    )  # fmt: skip
    parser.add_argument("--stop-after-s", type=float, help="pack and end after so many seconds")
    parser.add_argument("--deliver", type=Path, help="another folder for the archive, whenever it is made")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="for both recipes")
    options = parser.parse_args(arguments)
    if options.tries and not options.held_out:
        parser.error("--try needs --held-out")
    return options


def main() -> None:
    options = _parse()
    options.out.mkdir(parents=True, exist_ok=True)
    spawn = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        pools = [
            ProcessPoolExecutor(count, mp_context=spawn, initializer=_start_worker, initargs=(options.threads,))
            for count in (options.workers, 1)
        ]
        for pool in pools:
            stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        proof = Proof(options, *pools)
        if options.stop_after_s:
            timer = threading.Timer(options.stop_after_s, _stop, args=(proof, pools))
            timer.daemon = True
            timer.start()
            stack.callback(timer.cancel)
        try:
            proof.run()
        except BaseException as error:
            proof.note("failed", error=f"{type(error).__name__}: {error}"[:500])
            proof.pack()
            raise


if __name__ == "__main__":
    main()
