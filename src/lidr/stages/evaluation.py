"""Step 6: measure a model on the recipe's benchmarks. Iteration 0 is the base model."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import cache, partial
from pathlib import Path

from lidr.benchmarks.base import Asked, AsksAhead, Bench, Benchmark, Question, benchmarks_of
from lidr.benchmarks.shared.alpaca_files import read_model_outputs
from lidr.config import Config
from lidr.engines import Completion, Engine, Request, open_engine
from lidr.errors import ConfigError, DataError
from lidr.judges import Judge, judge_identity, open_judge
from lidr.plugins import calling
from lidr.records import Json, Response, canonical_json, content_id
from lidr.results import read_metrics
from lidr.run_dir import Model, RunDir
from lidr.seals import (
    Inputs,
    Outputs,
    RowFile,
    digest,
    is_sealed,
    read_rows,
    short_changes,
    write_sealed,
)
from lidr.stages.generation import FORMAT, Part, chat, fill, sampling_of
from lidr.stages.responses import response_fields
from lidr.storage import Stamps, file_stamps, hash_file, is_url, stamps, write_text
from lidr.thinking import set_aside_thinking

# Increase it with every change to the code that changes the scores of the same answers.
_SCORING = 3


def inputs(config: Config, run: RunDir, iteration: int, benchmark: str) -> Inputs:
    """Everything that the measurements of one benchmark depend on."""
    settings = benchmarks_of(config)[benchmark]
    made_from: Inputs = {
        "format": [FORMAT, _SCORING],
        "model": run.model(config, iteration).fingerprint,
        "benchmark": settings.model_dump(mode="json"),
        "benchmark_source": settings.source,
        "benchmark_class": type(settings).__name__ if settings.source or settings.type != benchmark else None,
        "languages": config.languages if getattr(settings, "languages", None) is None else None,
        "training_prompts": digest(run.prompts(1)) if settings.knows_prompts and config.iterations else None,
        "decoding": _decoding(config),
        "system_prompt": config.system_prompt,
        "seed": config.seed,
    }
    paths = [str(path) for name in settings.path_fields if (path := getattr(settings, name, None))]
    made_from["files"] = content_id({path: stamps for path in paths if (stamps := _stamps(path, run))})
    judge = config.evaluation.judge
    if judge and settings.judged:
        made_from["judge"] = judge_identity(judge, run.model_cache)
        made_from["protocol"] = judge.protocol.defining() if judge.protocol.source else None
    if getattr(settings, "against", None) == "M0":
        made_from["opponent"] = run.model(config, 0).fingerprint
    return made_from


def outputs(config: Config, run: RunDir, iteration: int) -> Outputs:
    """The files of all benchmarks. Metrics for which the judge owes replies count as made from other inputs."""
    found = []
    for name in benchmarks_of(config):
        (metrics, made_from), *rows = output(config, run, iteration, name)
        found += [(metrics, made_from | {"owed_verdicts": _replies_owed(metrics) or None}), *rows]
    return found


def output(config: Config, run: RunDir, iteration: int, benchmark: str) -> Outputs:
    """The metrics of one benchmark, which are written last, and their rows."""
    made_from = inputs(config, run, iteration, benchmark)
    path = run.evaluation(iteration, benchmark) / "metrics.json"
    languages = read_metrics(run, iteration, benchmark) if is_sealed(path, made_from) else ()
    return [(path, made_from), *((path.with_name(f"{language}.jsonl"), made_from) for language in languages)]


def inputs_note(run: RunDir, iteration: int, benchmark: str) -> Path:
    """The file with the inputs of a begun evaluation's answers."""
    return run.evaluation(iteration, benchmark) / "answers" / "inputs.json"


def answers_lost(old: Inputs, new: Inputs, finished: bool) -> list[str]:
    """Why an evaluation of the inputs `old` would be replaced for `new`; empty if its answers all stay.

    Other scoring, more languages and a higher limit only score kept answers again. A `finished` evaluation has verdicts
    as well, which depend on the judge and the opponent.
    """
    harmless = {"training_prompts", "benchmark_source", "benchmark_class", "protocol"}
    harmless |= set() if finished else {"judge", "opponent"}
    if _answer_format(old) == _answer_format(new):
        harmless.add("format")
    if old["format"] != new["format"]:
        harmless.add("files")  # older versions identified them by their times
    if set(_asked(old)) <= set(_asked(new)):
        harmless |= {"languages", "benchmark.languages"}
    if _limit(new) >= _limit(old):
        harmless.add("benchmark.limit")
    return short_changes(old, new, harmless)


def answers_kept(old: Inputs, new: Inputs, file: Path) -> int:
    """The most rows of a file of answers that stay if `old` becomes `new`; these are its first ones."""
    scoring = {"training_prompts", "judge", "opponent", "languages", "benchmark.languages", "benchmark.limit"}
    scoring |= {"benchmark_source", "benchmark_class", "protocol"}
    defined_otherwise = _answer_format(old) != _answer_format(new) or short_changes(old, new, {*scoring, "format"})
    if defined_otherwise or file.name.partition(".")[0] not in _asked(new):
        return 0
    return new["benchmark"].get("limit") or sys.maxsize


def _limit(inputs: Inputs) -> float:
    """How many questions of a language are asked at most."""
    return inputs["benchmark"].get("limit") or math.inf


def _answer_format(inputs: Inputs) -> object:
    answers, _scoring = inputs["format"]
    return answers


def _asked(inputs: Inputs) -> list[str]:
    """The languages of a benchmark: its own, else the recipe's."""
    return inputs["benchmark"].get("languages") or inputs.get("languages") or []


def run(config: Config, run_dir: RunDir, iteration: int) -> None:
    """Answer what is owed of every benchmark, score it, and write rows per language and metrics.json."""
    with ExitStack() as stack:
        # All files are read first, so that a missing or damaged one shows before anything is spent.
        for name, benchmark, tested in _owed(config, run_dir, iteration, benchmarks_of(config), stack):
            if benchmarks_of(config)[name].loads_weights:  # they come last
                stack.close()
            folder, made_from = run_dir.evaluation(iteration, name), tested.made_from
            metrics: dict[str, Json] = {}
            if isinstance(benchmark, AsksAhead):
                tested.answer_all(benchmark.ahead())
            for result in benchmark.evaluate(tested.answer):
                rows = (row.to_json() for row in result.rows)
                write_sealed(folder / f"{result.language}.jsonl", made_from, rows)
                metrics[result.language] = result.metrics.to_json()
            write_sealed(folder / "metrics.json", made_from, [json.dumps(metrics, indent=1)])


def check(config: Config, run_dir: RunDir) -> None:
    """Read the files of every benchmark that M_0 still has to answer, without asking anything.

    Raises DataError or ConfigError for what cannot be read or used. The laboratory has no files.
    """
    with ExitStack() as stack:
        names = [name for name, found in benchmarks_of(config).items() if not found.knows_prompts]
        _owed(config, run_dir, 0, names, stack)


def _owed(
    config: Config, run_dir: RunDir, iteration: int, names: Iterable[str], stack: ExitStack
) -> list[tuple[str, Benchmark, _ModelUnderTest]]:
    """The incomplete ones of the benchmarks, with their files read and the model that answers."""
    model = run_dir.checked_model(config, iteration)
    engine = cache(lambda: stack.enter_context(open_engine(config, model.folder)))
    judge = cache(lambda: stack.enter_context(_open_judge(config, run_dir)))
    owed = []
    for name in names:
        made_from = inputs(config, run_dir, iteration, name)
        folder = run_dir.evaluation(iteration, name)
        made = all(is_sealed(*pair) for pair in output(config, run_dir, iteration, name))
        if made and not _replies_owed(folder / "metrics.json"):
            continue
        tested = _ModelUnderTest(config, run_dir, iteration, name, model, made_from, engine)
        initial = tested if iteration == 0 else _initial(config, run_dir, name, stack)
        bench = Bench(config, run_dir, iteration, model, folder, judge, initial.answer)
        settings = benchmarks_of(config)[name]
        with calling(settings, "prepare"):
            owed.append((name, settings.prepare(bench), tested))
    return owed


def _replies_owed(metrics_file: Path) -> int:
    """The requests of a measured benchmark that the judge has not answered yet (see `judges.usage`)."""
    try:
        metrics = json.loads(metrics_file.read_text(encoding="utf-8"))
        return sum(entry.get("judge", {}).get("passing", 0) for entry in metrics.values())
    except (OSError, ValueError, AttributeError, TypeError):  # missing, or damaged, which is reported elsewhere
        return 0


def _initial(config: Config, run_dir: RunDir, benchmark: str, stack: ExitStack) -> _ModelUnderTest:
    model = run_dir.model(config, 0)
    engine = cache(lambda: stack.enter_context(open_engine(config, model.folder)))
    return _ModelUnderTest(config, run_dir, 0, benchmark, model, inputs(config, run_dir, 0, benchmark), engine)


def _open_judge(config: Config, run_dir: RunDir) -> AbstractContextManager[Judge]:
    if config.evaluation.judge is None:  # a benchmark of the user's own; for the others it is checked at load
        raise ConfigError("a benchmark asks for a judge; set evaluation.judge.model and .engine")
    return open_judge(config.evaluation.judge, run_dir.judge_replies, run_dir.model_cache)


def _stamps(path: str, run: RunDir) -> Stamps:
    """Size and hash of a benchmark's files, so that a copied file counts as the same; of a URL, what its protocol says.

    Files of the run, which may be in the same folder, are not inputs.
    """
    if is_url(path):
        return stamps(path, "evaluation.benchmarks")
    own, found = run.path.resolve(), file_stamps(Path(path).expanduser())
    files = {file: stamp for file, stamp in found.items() if not Path(file).resolve().is_relative_to(own)}
    return {file: [stamp[0], _hash(file, *stamp)] for file, stamp in files.items()}


@cache
def _hash(file: str, size: int, time_ns: int) -> str:
    """SHA-256 of a file, computed once per process while its size and modification time are the same."""
    return hash_file(Path(file))


def _decoding(config: Config) -> Json:
    return config.evaluation.model_dump(exclude={"benchmarks", "judge"})


class _ModelUnderTest:
    """A model under test. Its answers are kept as they finish, without their scores, which are cheap to redo."""

    def __init__(
        self, config: Config, run_dir: RunDir, iteration: int, benchmark: str, model: Model, made_from: Inputs,
        engine: Callable[[], Engine],
    ) -> None:  # fmt: skip
        self.config, self.run_dir, self.iteration, self.benchmark = config, run_dir, iteration, benchmark
        self.model, self.made_from, self.engine = model, made_from, engine

    def answer(self, language: str, questions: list[Question], part: str = "") -> list[Completion]:
        """One completion per question, in their order. See `lidr.benchmarks.base.AnswerFunction`."""
        if self.model.recorded:
            return [set_aside_thinking(row) for row in _recorded(self.model.folder, language, questions)]
        self.answer_all([(language, questions, part)])
        answers = [
            Completion(row.id, row.text or "", row.finish_reason, 0, row.completion_tokens, row.error)
            for row in map(Response.from_dict, read_rows(self._file(language, part).path))
        ]
        return [set_aside_thinking(completion) for completion in answers]

    def answer_all(self, asked: Sequence[Asked]) -> None:
        """Make the answers of several calls of `answer` in one queue; `answer` then finds them."""
        if self.model.recorded:
            return
        owed = [(code, questions, part) for code, questions, part in asked if not self._file(code, part).sealed]
        if not owed:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(inputs_note(self.run_dir, self.iteration, self.benchmark), canonical_json(self.made_from))
        parts = [self._part(*each) for each in owed]
        only = f" {parts[0].file.path.stem}" if len(parts) == 1 else ""
        title = f"{self.model.name}  {self.benchmark}{only}"
        fill(parts, self.engine, sampling_of(self.config, self.config.evaluation), title)

    def _part(self, language: str, questions: list[Question], part: str) -> Part:
        file, requests = self._file(language, part), [self._request(question) for question in questions]

        def rows() -> Iterator[Response]:
            for request, question in zip(requests, questions, strict=True):
                yield Response(request.request_id, question.question_id, language, **file.row(request.request_id))

        where = {"iteration": self.iteration, "benchmark": self.benchmark, "language": language}
        log = partial(self.run_dir.log, "stage", stage="evaluation", **where)
        return Part(file, lambda: requests, response_fields, lambda done: log(**done), rows)

    @property
    def folder(self) -> Path:
        return self.run_dir.evaluation(self.iteration, self.benchmark) / "answers"

    def _file(self, language: str, part: str) -> RowFile:
        return RowFile(
            self.folder / f"{language}.{part}.jsonl" if part else self.folder / f"{language}.jsonl", self.made_from
        )

    def _request(self, question: Question) -> Request:
        settings = canonical_json([_decoding(self.config), self.config.system_prompt, self.config.seed])
        key = (FORMAT, self.model.fingerprint, self.benchmark, question.question_id, question.language, question.prompt)
        history = (question.history,) if question.history else ()
        *system, user = chat(self.config, question.prompt)
        return Request(content_id(*key, *history, settings), (*system, *question.history, user))


def _recorded(folder: Path, language: str, questions: list[Question]) -> list[Completion]:
    """The answers of a folder in AlpacaEval's format, which must be answers to just these questions."""
    path = folder / f"{language}.json"
    if any(question.history for question in questions):
        raise DataError(f"{folder}: recorded answers are to single questions; this benchmark has turns before them")
    rows = read_model_outputs(folder, language)
    if len(rows) < len(questions):
        raise DataError(f"{path}: {len(rows)} answers for {len(questions)} questions; add those that are missing")
    for number, (row, question) in enumerate(zip(rows, questions, strict=False), 1):
        if row.instruction != question.prompt:
            raise DataError(
                f"{path} item {number}: answers {row.instruction[:60]!r}, but the question here is "
                f"{question.prompt[:60]!r}; answers must be to the benchmark's own questions, in their order"
            )
    return [
        Completion(question.question_id, row.output, "stop") for row, question in zip(rows, questions, strict=False)
    ]
