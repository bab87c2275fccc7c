"""Multilingual multiple-choice benchmarks through lm-evaluation-harness (the package `lm_eval`, extra `lidr[harness]`).

The paper measures its alignment tax this way: MMLU, HellaSwag, ARC-challenge and TruthfulQA as translated by Okapi (Lai
et al. 2023, arXiv 2307.16039). Global-MMLU (Singh et al. 2024, 2412.03304), INCLUDE (Romanou et al. 2024, 2411.19799)
and Belebele (Bandarkar et al. 2023, 2308.16884) cover languages that Okapi lacks.

`accuracy` is the harness's `acc`, the share of items whose right choice has the highest log-likelihood. For HellaSwag
and ARC the harness also reports `acc_norm` (log-likelihood per character of the choice), here `accuracy_norm`. We do
not know for certain which of the two the paper prints, but its HellaSwag average of .4724 for Llama-3-8B-Instruct fits
`acc`: a public result of that model has an `acc_norm` of .60 in Italian (data set FinancialSupport/results on the Hub).
For TruthfulQA MC2 `acc` is the share of probability that the true answers get, averaged over the questions.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import random
import sys
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar

from pydantic import model_validator

from lidr.benchmarks.base import AnswerFunction, Bench, Benchmark, BenchmarkSettings, LanguageResult, Passes
from lidr.benchmarks.metrics import ACCURACY, Aside, MetricKind
from lidr.config import LanguageCodes
from lidr.errors import ConfigError, DataError
from lidr.machine.requirements import need_package
from lidr.models import load_model, quiet
from lidr.models.chat import Chat
from lidr.records import Row
from lidr.results import Metric, Metrics
from lidr.settings import NonNegativeInt, PathText, PositiveInt
from lidr.statistics import rounded, wilson_interval

if TYPE_CHECKING:
    from lm_eval.models.huggingface import HFLM
    from lm_eval.result_schema import EvalResults, SampleResult
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks.manager import TaskDict

OKAPI = (
    "es", "fr", "de", "ru", "it", "zh", "bn", "te", "ar", "pt", "ca", "ro", "nl", "sv", "da", "sk", "hr", "hu", "id",
    "vi", "uk", "hi", "mr", "gu", "ta", "kn", "ml",
)  # fmt: skip

_OWN_TASK = (1000, 4, 150)  # see `HarnessSettings.cost`
_SEED = 1234  # the harness's own default, which draws the examples of few-shot prompts
_SHOWN_CHARACTERS = 2000
_Z95 = 1.96


class HarnessSettings(BenchmarkSettings):
    """A family of tasks of lm-evaluation-harness, one task per language."""

    metrics: ClassVar[tuple[MetricKind, ...]] = (
        replace(
            ACCURACY,
            asides=(
                Aside("truncated_prompts", "prompts whose beginning did not fit the model's context"),
                Aside("without_gold", "items whose right choice the data does not name, counted as wrong"),
            ),
            supports=("stderr", "num_fewshot"),
        ),
        MetricKind(
            "accuracy_norm", "Accuracy by likelihood per character", "normalised accuracy",
            "share of items whose right choice has the highest log-likelihood per character (the harness's acc_norm)",
            "accuracy", ("n",), is_share=True, is_told=False, in_terminal=(),
        ),
    )  # fmt: skip
    loads_weights: ClassVar[bool] = True
    path_fields: ClassVar[tuple[str, ...]] = ("include_path",)
    cost: ClassVar[tuple[int, int, int]]
    """For `lidr plan`: items of a language, passes of an item and tokens of a pass in English, without examples.

    Choices that are letters share a pass, those that are texts take one each (lm_eval 0.4.13).
    """

    languages: LanguageCodes | None = None
    """Languages to be asked; null takes those of the recipe's that the harness has the task in."""
    limit: PositiveInt | None = None
    """Only the first n items of each task; Global-MMLU and INCLUDE have several tasks in a language."""
    num_fewshot: NonNegativeInt | None = None
    """Examples before each item; null takes the task's own number."""
    apply_chat_template: bool = False
    """Ask through the model's chat template. The published figures are without."""
    task: str | None = None
    """Name of another task of the harness, or of your own, with `{language}` in it."""
    include_path: PathText | None = None
    """Folder with the YAML files of tasks of your own."""

    @model_validator(mode="after")
    def _consistent(self) -> HarnessSettings:
        if self.include_path and self.task is None:
            raise ValueError("include_path goes with task, the name of a task of your own in that folder")
        return self

    @classmethod
    @abstractmethod
    def tasks(cls) -> dict[str, str]:
        """The harness's names of the tasks by language (lm_eval 0.4.13)."""

    def check(self, field: str) -> None:
        need_package("lm_eval", "evaluation.benchmarks: lm-evaluation-harness", "harness")

    def data_in_words(self) -> str:
        return "the task's data set, as lm-evaluation-harness names it"

    def prepare(self, bench: Bench) -> Benchmark:
        config, name = bench.config, bench.folder.name
        languages = self._asked(config.languages)
        absent = [code for code in config.languages if code not in languages] if self.languages is None else []
        if not languages:
            raise ConfigError(f"evaluation.benchmarks.{name}: lm-evaluation-harness has none of {', '.join(absent)}")
        if absent:
            print(f"{name}: lm-evaluation-harness has no {', '.join(absent)}; left out", file=sys.stderr)
        engine = config.engine.model_dump(include={"device", "dtype", "batch_size"})
        return HarnessBenchmark(
            name=name, tasks=self.tasks(), model_folder=bench.model.folder,
            trust_remote_code=config.model.trust_remote_code, **self.model_dump(exclude={"languages"}), **engine,
            languages=languages,
        )  # fmt: skip

    def passes(self, languages: Sequence[str]) -> Passes | None:
        items, passes, tokens = _OWN_TASK if self.task else self.cost
        count = min(items, self.limit or items) * passes
        return Passes(self._asked(languages), count, tokens * (1 + (self.num_fewshot or 0)))

    def _asked(self, languages: Sequence[str]) -> list[str]:
        """Its languages, or those of the recipe's that the harness has."""
        if self.languages is not None:
            return list(self.languages)
        return [code for code in languages if self.task or code in self.tasks()]


@dataclass(frozen=True, slots=True)
class HarnessRow(Row):
    """One item. `score` is 1 or 0 for right or wrong, in TruthfulQA MC2 the probability on the true answers.

    `doc_id` counts from 0 within `task`, which is one part of a benchmark that has several. `prompt` is the end of what
    the model was asked. `prediction` is the choice with the highest of the `log_likelihoods`, `gold` the right one (in
    TruthfulQA MC2 the first of several); it is None if the data names none of the choices, and the harness counts
    such an item as wrong. `truncated` says that the prompt's beginning did not fit the model's context.
    """

    task: str
    doc_id: int
    language: str
    prompt: str
    choices: tuple[str, ...]
    log_likelihoods: tuple[float, ...]
    prediction: str
    gold: str | None
    score: float
    truncated: bool


class HarnessBenchmark:
    """One family of tasks over its languages, or tasks of the user's own.

    `task` is the name of a task of one's own, with `{language}` in it, and `include_path` the folder of its YAML files
    (relative paths in them count from the working directory). `limit` takes the first n items of each task; Global-MMLU
    and INCLUDE consist of several tasks per language. `num_fewshot` None is the task's own number. A task that fixes
    the number at 0 (TruthfulQA brings its examples along) keeps it, as in the harness.

    Raises ConfigError for a language that the harness lacks, and if `model_folder` has no weights: choices are
    compared by their log-likelihoods, which chat completions of a server do not give.
    """

    def __init__(
        self,
        *,
        name: str,
        tasks: dict[str, str],
        languages: Sequence[str],
        model_folder: Path,
        task: str | None = None,
        include_path: str | None = None,
        limit: int | None = None,
        num_fewshot: int | None = None,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 16,
        apply_chat_template: bool = False,
        trust_remote_code: bool = False,
    ) -> None:
        self.field = f"evaluation.benchmarks.{name}"
        self.folder = None if include_path is None else Path(include_path).expanduser()
        self.model_folder, self.device, self.dtype, self.batch_size = model_folder, device, dtype, batch_size
        self.limit, self.num_fewshot = limit, num_fewshot
        self.apply_chat_template, self.trust_remote_code = apply_chat_template, trust_remote_code
        self.names = self._names(tasks, languages, task)
        if self.folder is not None and not self.folder.is_dir():
            raise ConfigError(f"{self.field}.include_path: {self.folder} is no folder; name that of the YAML files")
        if not (model_folder / "config.json").is_file():
            raise ConfigError(
                f"{self.field}: the harness compares the log-likelihoods of the choices and so needs the model's "
                f"weights; {model_folder} has no config.json (a served model, or answers alone). Take the benchmark "
                "out, or measure the model from its weights (engine.type: transformers)"
            )

    def evaluate(self, answer: AnswerFunction) -> Iterator[LanguageResult]:
        """See `Benchmark.evaluate`; the harness asks by itself, so `answer` is not used.

        The data of all languages is loaded before the model, so a missing data set costs nothing. Raises ConfigError
        if `lm_eval` is not installed and DataError for a task that cannot be used.
        """
        lm_eval = import_harness()
        quiet()
        tasks = {language: self._load(name) for language, name in self.names.items()}
        with self._model() as lm:
            for language, name in self.names.items():
                with _without_progress_bars():
                    # Not simple_evaluate: it also calls git, which prints an error if there is no repository, and
                    # lists all packages, for every language. A test compares the two.
                    results = lm_eval.evaluate(
                        lm, tasks.pop(language), limit=self.limit, apply_chat_template=self.apply_chat_template,
                        fewshot_as_multiturn=True,
                    )  # fmt: skip
                yield self._result(language, name, results, lm)

    def _names(self, tasks: dict[str, str], languages: Sequence[str], task: str | None) -> dict[str, str]:
        """Language -> name of the task."""
        if task is None:
            if lacking := [code for code in languages if code not in tasks]:
                raise ConfigError(
                    f"{self.field}.languages: the harness has no {self.field.rpartition('.')[2]} in "
                    f"{', '.join(lacking)}; it has {', '.join(tasks)}. Leave them out, or give a task of your own "
                    f"({self.field}.task)"
                )
            return {language: tasks[language] for language in languages}
        if "{language}" not in task and len(languages) > 1:
            raise ConfigError(f"{self.field}.task: {task} is the same in every language; put {{language}} into it")
        return {language: task.replace("{language}", language) for language in languages}

    def _load(self, name: str) -> TaskDict:
        """The harness's tasks behind a name, with their data, ready to be asked."""
        import numpy

        manager = _task_manager(self.folder)
        if name not in manager.all_tasks:
            raise ConfigError(self._unknown(name, manager.all_tasks))
        # Some tasks shuffle while they are loaded; the harness seeds these two before it does.
        random.seed(_SEED)
        numpy.random.seed(_SEED)
        try:
            loaded = manager.load([name])
        except Exception as error:  # whatever the Hub, a data file, a YAML file or its Python functions may raise
            reason = (str(error).strip().splitlines() or [""])[0]
            way_out = (
                "Its data comes from the Hugging Face Hub, which must be reachable the first time; without it, copy a "
                f"filled cache (HF_HOME), or use tasks of your own on local files ({self.field}.task, .include_path)"
                if self.folder is None
                else f"Correct its YAML file in {self.folder}, or the data that the file names"
            )
            raise DataError(
                f"harness task {name}: cannot be loaded ({type(error).__name__}: {reason}). {way_out}"
            ) from error
        self._check(name, loaded)
        for task in loaded["tasks"].values():
            if self.num_fewshot is not None and task.get_config("num_fewshot") != 0:
                task.set_config(key="num_fewshot", value=self.num_fewshot)
            elif task.get_config("num_fewshot") is None:
                task.set_config(key="num_fewshot", value=0)
            task.set_fewshot_seed(seed=_SEED)
        return loaded

    def _unknown(self, name: str, known: Sequence[str]) -> str:
        if self.folder is None:
            return f"{self.field}: lm_eval {version('lm_eval')} has no task {name}; lidr is tested with 0.4.13"
        there = ", ".join(known) or "no tasks"
        return f"{self.field}.task: {self.folder} has no task {name} (it has {there}); correct the name or the folder"

    def _check(self, name: str, loaded: TaskDict) -> None:
        """Refuse tasks that do not have one accuracy."""
        for task in loaded["tasks"].values():
            if task.OUTPUT_TYPE != "multiple_choice" or "acc" not in task.aggregation():
                raise DataError(
                    f"harness task {task.task_name}: output_type {task.OUTPUT_TYPE} with the metrics "
                    f"{', '.join(task.aggregation())}; lidr reads multiple_choice tasks with the metric acc"
                )
        group = loaded["groups"].get(name)
        aggregated = [entry.metric for entry in (group.aggregate_metric_list or [])] if group else []
        if name not in loaded["tasks"] and "acc" not in aggregated:
            raise DataError(
                f"harness task {name}: a tag, or a group without acc in its aggregate_metric_list, so it has no "
                f"accuracy of its own; name one of its tasks ({', '.join(loaded['tasks'])})"
            )

    @contextmanager
    def _model(self) -> Iterator[HFLM]:
        """The model as the harness wants it. Its memory is freed at the end."""
        import torch
        from lm_eval.models.huggingface import HFLM
        from transformers import AutoTokenizer

        from lidr.machine.devices import pick_device, pick_dtype

        device = pick_device(self.device)
        # Loaded here: the harness would take another device than the one asked for without saying so.
        model = load_model(self.model_folder, self.trust_remote_code, dtype=pick_dtype(self.dtype, device))
        self.chat = Chat(AutoTokenizer.from_pretrained(self.model_folder, trust_remote_code=self.trust_remote_code))
        lm = HFLM(
            model.to(device), tokenizer=self.chat.text_tokenizer(), batch_size=self.batch_size,
            trust_remote_code=self.trust_remote_code,
        )  # fmt: skip
        try:
            yield lm
        finally:
            lm._model = None
            del model
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()

    def _result(self, language: str, name: str, results: EvalResults, lm: HFLM) -> LanguageResult:
        scores = results["results"][name]
        key = next(key for key in scores if key.startswith("acc,"))  # "acc,none": metric and the harness's filter
        chosen = key.partition(",")[2]
        rows = [
            self._row(task, language, sample, lm)
            for task, samples in results["samples"].items()
            for sample in samples
            if sample["filter"] == chosen
        ]
        if all(row.gold is None for row in rows):
            raise DataError(f"harness task {name}: no item's target is among its choices; correct its doc_to_target")
        accuracy, stderr = float(scores[key]), scores[f"acc_stderr,{chosen}"]
        stderr = None if stderr == "N/A" else float(stderr)
        values = {
            "accuracy": Metric(round(accuracy, 4), rounded(interval(accuracy, stderr, len(rows)))),
            "stderr": Metric(None if stderr is None else round(stderr, 4)),
        }
        if f"acc_norm,{chosen}" in scores:
            values["accuracy_norm"] = Metric(round(float(scores[f"acc_norm,{chosen}"]), 4))
        counts = {
            "n": len(rows),
            "truncated_prompts": sum(row.truncated for row in rows),
            "without_gold": sum(row.gold is None for row in rows),
        }
        notes = {"task": name, "num_fewshot": results["n-shot"][name], "harness_version": version("lm_eval")}
        return LanguageResult(language, rows, Metrics(values, counts, notes=notes))

    def _row(self, task: str, language: str, sample: SampleResult, lm: HFLM) -> HarnessRow:
        prompt = sample["arguments"][0][0]
        continuations = [continuation for _, continuation in sample["arguments"]]
        likelihoods = tuple(float(likelihood) for likelihood, _ in sample["filtered_resps"])
        if not all(math.isfinite(likelihood) for likelihood in likelihoods):
            raise ConfigError(
                f"{self.field}: item {sample['doc_id']} of {task} has a choice whose log-likelihood is not finite; "
                "set engine.dtype to bfloat16 or float32"
            )
        choices = tuple(continuation.strip() for continuation in continuations)
        # The harness scores the last max_length + 1 tokens and drops what precedes them.
        tokens = len(lm.tok_encode(prompt + max(continuations, key=len)))
        return HarnessRow(
            task=task,
            doc_id=sample["doc_id"],
            language=language,
            prompt=self.chat.shown(prompt)[-_SHOWN_CHARACTERS:],
            choices=choices,
            log_likelihoods=tuple(round(likelihood, 4) for likelihood in likelihoods),
            prediction=choices[likelihoods.index(max(likelihoods))],
            gold=_gold(sample["target"], choices),
            score=float(sample["acc"]),
            truncated=tokens > lm.max_length + 1,
        )


def _gold(target: object, choices: Sequence[str]) -> str | None:
    """The right choice, of which the harness keeps the index or the text; the first if there are several."""
    first = target[0] if isinstance(target, list) and target else target
    if isinstance(first, int):
        return choices[first] if 0 <= first < len(choices) else None
    return str(first).strip() if str(first).strip() in choices else None


def interval(accuracy: float, stderr: float | None, n: int) -> tuple[float, float]:
    """The 95 % interval of an accuracy: 1.96 standard errors to each side, within [0, 1].

    If the harness has no standard error (a task with a single item), or 0 because all items scored the same, it is
    Wilson's, which for scores between 0 and 1 is at least as wide as necessary.
    """
    if stderr:
        return max(0.0, accuracy - _Z95 * stderr), min(1.0, accuracy + _Z95 * stderr)
    return wilson_interval(round(accuracy * n), n)


def import_harness() -> ModuleType:
    """The module `lm_eval`, with its logging reduced to errors. Raises ConfigError if it is not installed."""
    try:
        import_module("lm_eval.tasks")  # loads its own dependencies
    except ImportError as error:
        raise ConfigError(
            f'the benchmarks of lm-evaluation-harness need it installed: pip install "lidr[harness]" ({error})'
        ) from error
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return import_module("lm_eval")


@cache
def _task_manager(folder: Path | None) -> TaskManager:
    """The index of the harness's 14,000 tasks (6 s), or only of a folder's."""
    from lm_eval.tasks import TaskManager

    return TaskManager() if folder is None else TaskManager(include_path=str(folder), include_defaults=False)


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Hide the harness's progress bars, which cannot be switched off, unless standard error is a terminal."""
    if sys.stderr.isatty():
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):
        yield
