"""Every knob of a run, as closed typed models: an unknown key or an impossible combination fails at load.

A recipe is a YAML file with these fields; `--set a.b=c` overrides one of them. Each field's docstring is its help.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from lidr.credentials import mask, mask_setting
from lidr.engine_settings import EngineSettings
from lidr.errors import ConfigError
from lidr.languages import get_language
from lidr.plugins import Plugin, built_in, load, reader
from lidr.records import Json
from lidr.settings import (
    HidesValue,
    NonNegativeFloat,
    NonNegativeInt,
    PathText,
    PositiveFloat,
    PositiveInt,
    Section,
)
from lidr.yaml_input import MAX_DEPTH, read_mapping, read_value

LABORATORIES = ("lab", "lab-hard")  # the built-in worlds, each with prompts and a model


def may_be_hub_id(path: str) -> bool:
    """Whether a recipe's path that is not on disk has the form of a hub id, `org/name`."""
    return path.count("/") == 1 and not path.startswith((".", "/", "~")) and not path.endswith(".gguf")


def _known_languages(languages: list[str]) -> list[str]:
    for code in languages:
        get_language(code)
    if len(set(languages)) != len(languages):
        raise ValueError("a language is listed twice")
    if not languages:
        raise ValueError("no language is listed")
    return languages


LanguageCodes = Annotated[list[str], AfterValidator(_known_languages)]


class ModelConfig(Section):
    path: PathText
    """M_0: a Hugging Face folder, on disk or behind a URL such as `s3://bucket/folder`; a hub id; a `.gguf` file; or
    `lab` or `lab-hard` for a small model that comes with the package."""
    revision: str | None = None
    """Commit or tag of a hub model."""
    trust_remote_code: bool = False
    """Run Python code that a hub model brings along. Leave off unless you have read that code."""


class PromptFields(Section):
    id: str | None = "id"
    """Column with the prompt's id, the same in every language; null numbers the rows of each language's file, so that
    rows at the same place are the same prompt."""
    text: str = "instruction"
    """Column with the prompt's text (of a conversation, its first user turn), or a pattern of several columns such as
    `"{instruction}\\n\\n{input}"`, whose paragraphs are left out where their columns are blank."""
    language: str = "language"
    """Column with the language, where one table holds all languages: a code (`es`, `spa`) or a name (`Spanish`)."""
    answer: str | None = None
    """Column with the right answer, a number or a text, if the prompts have one. Only the probe looks at it. Of a
    worked solution that ends as GSM8K's do, what follows `####` counts."""


class PromptsConfig(Section):
    path: PathText
    """A folder of `<language>.jsonl|json|csv|tsv|parquet` files, one such table with a language column, a Hugging Face
    data set (hub id or folder), or `lab` or `lab-hard`. Files and folders may be on disk or behind a URL (`s3://`,
    `gs://`, `hf://` ... through fsspec), which must hold no password."""
    fields: PromptFields = PromptFields()
    """The names of the columns."""
    split: str = "train"
    """Split of a Hugging Face data set."""
    configuration: str | None = None
    """Configuration (subset) of a Hugging Face data set that has none per language, such as `main` of openai/gsm8k."""
    limit: PositiveInt | None = None
    """Take only the first n prompts."""
    on_missing: Literal["error", "skip"] = "error"
    """A prompt id that some language lacks: stop, or leave that prompt out in that language and count it."""
    task: Literal["general", "arithmetic"] = "general"
    """`arithmetic` wraps every prompt in a request for step-by-step reasoning in the prompt's language."""

    @model_validator(mode="after")
    def _consistent(self) -> PromptsConfig:
        if self.fields.id is None and self.on_missing == "skip":
            raise ValueError(
                "on_missing skip needs fields.id: rows without ids are joined by their place, so a missing row would "
                "shift all later ones"
            )
        return self


EngineConfig = Annotated[
    EngineSettings,
    BeforeValidator(reader("engines", "transformers")),
    PlainSerializer(Plugin.as_recipe),
    Field(validate_default=True),
]


def _temperature(value: float) -> float:
    if 0 < value < 0.001:
        raise ValueError("logits divided by so small a number overflow; use 0 for greedy decoding, or 0.001 and more")
    return value


class DecodingConfig(Section):
    max_new_tokens: PositiveInt = 2400
    """Longest answer, in tokens; a longer one is cut off and marked as such."""
    temperature: Annotated[NonNegativeFloat, AfterValidator(_temperature)] = 0.0
    """0 is greedy decoding."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus sampling; only with a temperature above 0."""
    repetition_penalty: PositiveFloat = 1.1
    """Penalty on tokens already seen (1 is none)."""

    def in_words(self) -> str:
        how = f"temperature {self.temperature}, top-p {self.top_p}" if self.temperature else "greedy"
        return f"{how}, repetition penalty {self.repetition_penalty}, at most {self.max_new_tokens} new tokens"


class TranslationsConfig(DecodingConfig):
    max_new_tokens: PositiveInt = 4096
    """Longest translation, in tokens."""
    repetition_penalty: PositiveFloat = 1.0
    """The paper translates without a penalty: names and terms must be allowed to come back."""
    recover: bool = True
    """Accept a turn that ended without the closing tag, and translate paragraph by paragraph what was cut off, broke
    the format, came back unchanged, or came back with under a fifth of its characters."""
    text_first: bool = False
    """Put the text before the request. A weak model that reads the request first may sum the text up instead: of 24
    English answers Qwen2.5-Coder-0.5B gave 3 back whole in Spanish or German then, and 16 with the text first."""


class GatesConfig(Section):
    identical: bool = True
    """Drop a pair whose two sides are the same text."""
    max_similarity: Annotated[float, Field(gt=0, le=1)] | None = 0.95
    """Drop a pair whose sides share more than this part of their words (Jaccard index); null is off."""
    max_line_repeats: PositiveInt | None = 5
    """Drop a pair in which the same line occurs this often on one side; null is off."""
    loops: bool = True
    """Drop a pair with a side that ends in a loop (a phrase repeated five times or more, 60 characters at least)."""
    wrong_language: Literal["chosen", "either"] | None = "chosen"
    """Which side has to be in the prompt's language; too short to tell counts as right. `either` also drops pairs that
    reject an answer in the wrong language: such pairs teach the language quickly and little else (docs/laboratory.md
    has both, measured). null is off."""
    wrong_lines: bool = True
    """Judge the chosen side line by line and sentence by sentence, too: one in another language drops the pair. A text
    that switches to English half-way is identified as Spanish as a whole, and teaches to switch. Code, formulas, names,
    fewer than five words, and answers to prompts that ask for another language are excused. false judges the text as a
    whole alone; off if `wrong_language` is null."""
    max_foreign_words: Annotated[float, Field(ge=0, lt=1)] | None = 0.05
    """Drop a pair whose chosen side has more than this share of words that are the dominant language's, by what the
    run's own prompts and direct answers use. A half-translated sentence is identified as Spanish as a whole, and
    teaches to switch. null is off."""
    result_kept: bool = False
    """For prompts that ask for a number. Drop a pair whose translated (or guided) chosen side ends in another number
    than the answer that it was made from, or in none: something was lost on the way."""
    results_differ: bool = False
    """For prompts that ask for a number. Drop a pair whose sides end in the same number: it teaches style alone."""
    max_length_ratio: Annotated[float, Field(gt=1)] | None = 4.0
    """Drop a pair whose longer side has more than this many times the characters of the shorter; null is off."""
    truncated: bool | Literal["chosen"] = True
    """Drop a pair with a side that was cut off by the length limit, and do not translate such answers. `chosen` keeps a
    pair of which only the rejected side was cut off, which teaches a model that rambles to come to an end. false drops
    none. The end of turn is not trained on after a text that was cut off."""
    translation_tasks: Literal["drop", "keep_source"] | None = "drop"
    """Prompts that ask for a translation: drop them, or prefer the untranslated dominant answer (as the paper
    does); null treats them as any other prompt."""


StrategyConfig = Annotated[
    Plugin, BeforeValidator(reader("strategies")), PlainSerializer(Plugin.as_recipe), Field(validate_default=True)
]


class PairsConfig(Section):
    strategy: StrategyConfig = "imbalance"  # type: ignore[assignment]
    """How answers become chosen and rejected: `imbalance` is the paper's way, and docs/strategies.md has the others.
    With settings it is `{type: verified_majority, samples: 4}`; `path/file.py:Name` takes one of your own."""
    dominant_rejected: str = "one"
    """Whose back-translated answers are the dominant language's rejected side: `one` language per prompt in rotation,
    `all` of them (one pair each), a single language code, or `none` for no pairs in the dominant language."""
    gates: GatesConfig = GatesConfig()
    """What a pair must pass; every drop is counted under one reason."""
    minimum: PositiveInt | None = None
    """Fewest pairs that are trained on; with fewer, the run ends before training and says why. null is two steps'
    worth, twice `training.batch_size`."""
    max_fault_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Largest share of the candidates that one fault may take (answers cut off, translations that failed, the wrong
    language, loops, errors) before the run ends before training and says which setting mends it. 1 never does."""


class LoraSection(Section):
    rank: PositiveInt = 16
    """Rank of the adapter's matrices."""
    alpha: PositiveInt = 32
    """The adapter's output is scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout before the adapter."""
    targets: Literal["all-linear"] | Annotated[list[str], Field(min_length=1)] = "all-linear"
    """Modules that get an adapter: every linear layer but the output, or a list of names such as `q_proj`."""
    quantize: Literal["nf4"] | None = None
    """`nf4` keeps the frozen weights in 4 bits (QLoRA; needs a GPU and `lidr[qlora]`)."""


class TrainingConfig(Section):
    reference: Literal["previous", "initial"] = "previous"
    """DPO's reference policy: M_t (the paper) or always M_0."""
    objective: Literal["dpo", "sft"] = "dpo"
    """`dpo` is DPO + alpha NLL; `sft` is the NLL alone, on the chosen side (the Multilingual Alignment baseline)."""
    beta: PositiveFloat = 0.1
    """Strength of the pull towards the reference policy in DPO."""
    alpha: NonNegativeFloat = 1.0
    """Weight of the NLL of the chosen side."""
    nll_normalization: Literal["sequence", "batch_token"] = "sequence"
    """Divide each answer's NLL by its own length (Pang et al. 2024), or by the mean length of the batch (TRL), so that
    long answers weigh more."""
    learning_rate: PositiveFloat = 5e-7
    """Peak learning rate of AdamW."""
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    """Learning-rate schedule after the warm-up."""
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.03
    """Share of the steps over which the learning rate rises from 0. A training of fewer than six steps begins at the
    full rate, because the first step of a rise teaches nothing."""
    weight_decay: NonNegativeFloat = 0.0
    """AdamW's weight decay."""
    max_grad_norm: PositiveFloat = 1.0
    """Gradients are clipped to this norm."""
    epochs: PositiveInt = 1
    """Passes over the pairs."""
    batch_size: PositiveInt = 16
    """Pairs per optimiser step, over all processes and forward passes together."""
    token_budget: PositiveInt = 4096
    """Tokens of one forward pass on one device: pairs are packed into it without padding. Bounds the memory; changes
    nothing else. A pair that is longer goes alone, see `gradient_checkpointing`."""
    max_length: PositiveInt = 4096
    """Longest prompt + answer in tokens; longer pairs are left out and counted as `too_long`."""
    lora: LoraSection | None = None
    """Train a low-rank adapter (LoRA), merged into the weights at the end of the iteration; null trains all weights."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Matrix products in training; trained weights are float32 always. `auto` is bfloat16 where that is
    fast: GPUs that support it, CPUs with AMX, AMD's CPUs with AVX512-BF16."""
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    """Recompute activations in the backward pass: less memory, up to a third more time. `auto` does so if a pair is
    longer than the token budget, for as many layers as it takes to stay within the memory of that many tokens."""
    held_out: NonNegativeInt = 0
    """Prompts whose pairs, in all languages, are not trained on but measured: loss, margin, accuracy."""
    eval_steps: PositiveInt = 50
    """Optimiser steps between measurements on held-out pairs; before the first step and at the end too."""
    save_steps: PositiveInt = 100
    """Optimiser steps between checkpoints; a killed training continues from the last one."""
    save_minutes: PositiveFloat | None = 10
    """Minutes after which a checkpoint is written too, at the end of a step; null writes none by time."""
    report_to: list[Literal["tensorboard", "wandb", "mlflow", "trackio"]] = []
    """Experiment trackers that get the training's values too; each is a package of its own to install."""
    num_processes: PositiveInt | None = None
    """Training processes on this machine, one per GPU; null takes every visible GPU, or one process without any."""
    distributed: PathText = "ddp"
    """How several processes share the work: `ddp` (each holds the model), `fsdp2` or `zero3` (each holds a share), or
    the path of an accelerate configuration."""
    launch: str | None = None
    """A command line of your own that starts the training processes, for several machines: `srun torchrun ...`, see
    docs/training.md. What is to be run is appended."""

    @model_validator(mode="after")
    def _consistent(self) -> TrainingConfig:
        if self.lora and self.distributed != "ddp" and self.lora.quantize:
            raise ValueError("lora.quantize works with distributed: ddp only; 4-bit weights are not sharded")
        if self.objective == "sft" and self.alpha == 0:
            raise ValueError("objective sft with alpha 0 leaves no loss at all; set alpha to 1")
        return self


def _named(given: object) -> object:
    """Benchmarks by name, each with its `type`, which is the name if none is given; null leaves one out."""
    if not isinstance(given, dict):
        return given
    own = given.get("own")  # where those from outside the package were
    named = {name: settings for name, settings in given.items() if name != "own"}
    named |= own if isinstance(own, dict) else {}
    for name in named:
        if not str(name).isidentifier() or name == "own":
            raise ValueError(f"{name!r}: name it with letters, digits and _, and not own")
    return {
        name: {"type": name} | settings if isinstance(settings, dict) else settings
        for name, settings in named.items()
        if settings is not None
    }


Benchmark = Annotated[Plugin, BeforeValidator(reader("benchmarks")), PlainSerializer(Plugin.as_recipe)]


class JudgeConfig(Section):
    model: PathText
    """The judge: a served model's name, or with a local engine a Hugging Face folder or hub id."""
    revision: str | None = None
    """Commit or tag of a hub model."""
    trust_remote_code: bool = False
    """Run Python code that the judge's model brings along. Leave off unless you have read that code."""
    engine: EngineConfig = "transformers"  # type: ignore[assignment]
    """What runs it."""
    protocol: Annotated[
        Plugin, BeforeValidator(reader("judges")), PlainSerializer(Plugin.as_recipe), Field(validate_default=True)
    ] = "standard"  # type: ignore[assignment]
    """What it is asked and how its replies are read: `standard` uses the package's templates; `path/file.py:Name` takes
    a protocol of your own."""
    logprobs: bool = True
    """Ask for the log-probabilities of the two labels, which gives a preference between 0 and 1; if the server has
    none, the label itself counts."""
    max_new_tokens: PositiveInt = 512
    """Longest reply, in tokens."""
    max_requests: PositiveInt | None = None
    """Stop before more than so many requests of one run; the same command with a higher number goes on."""
    budget_usd: PositiveFloat | None = None
    """Stop before the requests of one run cost more than this; needs the two prices."""
    usd_per_million_input_tokens: NonNegativeFloat | None = None
    """The server's price of what it reads."""
    usd_per_million_output_tokens: NonNegativeFloat | None = None
    """The server's price of what it writes."""

    @model_validator(mode="after")
    def _consistent(self) -> JudgeConfig:
        if self.budget_usd and None in (self.usd_per_million_input_tokens, self.usd_per_million_output_tokens):
            raise ValueError("budget_usd needs usd_per_million_input_tokens and usd_per_million_output_tokens")
        return self


class EvaluationConfig(DecodingConfig):
    max_new_tokens: PositiveInt = 2048
    """Longest answer, in tokens."""
    benchmarks: Annotated[dict[str, Benchmark], BeforeValidator(_named)] = {}
    """What is measured on M_0 and after every iteration, each by a name for the results: `{mgsm: {limit: 50}}`, or
    `{riddles: {type: riddles.py:Riddles}}` for one of your own. null takes one out."""
    judge: JudgeConfig | None = None
    """Who compares and scores answers, for the benchmarks that need it and for the probe."""

    @model_validator(mode="after")
    def _named_apart(self) -> EvaluationConfig:
        for name, benchmark in self.benchmarks.items():
            if benchmark.type != name and name in built_in("benchmarks"):
                raise ValueError(f"benchmarks.{name}: name it not like a built-in one")
        return self

    @model_validator(mode="after")
    def _has_judge(self) -> EvaluationConfig:
        judged = [name for name, settings in self.benchmarks.items() if getattr(settings, "judged", False)]
        if judged and self.judge is None:
            raise ValueError(f"{', '.join(judged)} needs a judge; set evaluation.judge.model and .engine")
        return self


class ProbeConfig(Section):
    prompts: PositiveInt = 50
    """Size of the sample, in prompts; they are kept out of training."""
    languages: LanguageCodes | None = None
    """Languages to be probed; null takes the recipe's. A run that obeys notes here what it started from."""
    dominant: str | None = None
    """The dominant language, unless another is better beyond noise; null takes the recipe's. Noted in the same way."""
    by: Literal["auto", "verified", "judge", "both"] = "auto"
    """Who says which answer is better: the prompts' known answers, the judge, or each of them. `auto` takes what there
    is, the known answers first."""
    obey: bool = False
    """Leave out the languages that the probe advises to drop, and teach from the dominant language that it found."""
    stop: bool = False
    """Measure every new model against the one before it, and stop when no language gains beyond noise."""


class ReportConfig(Section):
    samples: NonNegativeInt = 10
    """Random pairs per language shown in the report."""


class AboutConfig(Section):
    affiliation: str | None = None
    """Who does the research, for reproducibility.md; null says that it is not given."""
    license: str | None = None
    """The Hub's name of the licence under which pairs and models may be passed on, such as `apache-2.0`, for the cards;
    null says that none is given. The licences of the base model and of the prompts bind you."""


def _name(name: str) -> str:
    if not re.fullmatch(r"\w[\w.-]*", name) or len(name.encode()) > 100:
        raise ValueError(
            "letters, digits, _, . and - are allowed, a letter or digit first, up to 100 bytes; it names the folder of "
            "the run"
        )
    return name


class Config(Section):
    """A whole run. See `lidr recipes` for the shipped ones."""

    name: Annotated[str, AfterValidator(_name)]
    """Name of the recipe, and of its run directory under `runs/`: letters, digits, `_`, `.` and `-`."""
    description: str = ""
    """One line for `lidr recipes`."""
    model: ModelConfig
    """The model to be improved."""
    languages: LanguageCodes
    """Training languages, the dominant one included."""
    dominant: str = "en"
    """The model's best language, which teaches the others."""
    iterations: NonNegativeInt = 2
    """How often to answer, translate, pair and train; 0 only measures the model."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    """Seeds decoding, the order of training and the report's samples; from 0 to 4294967295, as numpy takes it."""
    system_prompt: str | None = "You are a helpful assistant."
    """System turn of every conversation; null for models that have none."""
    isolation: Literal["auto", "process", "inline"] = "auto"
    """`process` runs every GPU stage as a child process, so that its memory comes back; `auto` does so with a GPU."""
    prompts: PromptsConfig | None = None
    """Where the prompts come from; needed if there are iterations."""
    engine: EngineConfig = "transformers"  # type: ignore[assignment]
    """What answers and translates."""
    responses: DecodingConfig = DecodingConfig()
    """Decoding of the answers."""
    translations: TranslationsConfig = TranslationsConfig()
    """Decoding of the translations, and their recovery."""
    pairs: PairsConfig = Field(default_factory=PairsConfig)  # a strategy's file imports this one
    """Strategy and gates."""
    training: TrainingConfig = TrainingConfig()
    """DPO + NLL, or the SFT baseline."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Benchmarks."""
    probe: ProbeConfig | None = None
    """The imbalance probe before training, and the rule that ends it."""
    report: ReportConfig = ReportConfig()
    """The report."""
    about: AboutConfig = AboutConfig()
    """What only you can say; nothing is computed from it."""

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if self.prompts and self.prompts.path in LABORATORIES and self.prompts.task != "general":
            raise ValueError("prompts.task: the laboratory has general prompts only")
        if self.iterations:
            self._check_training()
        elif self.probe:
            raise ValueError("probe: there is nothing to probe for with iterations 0")
        return self

    def _check_training(self) -> None:
        if self.prompts is None:
            raise ValueError("prompts: missing; set prompts.path (only iterations: 0 needs no prompts)")
        if self.dominant not in self.languages:
            raise ValueError(f"dominant {self.dominant!r} is not among languages {self.languages}")
        policy = self.pairs.dominant_rejected
        if policy not in ("one", "all", "none", *self.non_dominant):
            raise ValueError(f"pairs.dominant_rejected {policy!r}: use one, all, none or one of {self.non_dominant}")
        if self.prompts.limit and self.training.held_out >= self.prompts.limit:
            raise ValueError(
                f"training.held_out {self.training.held_out}: no prompt of {self.prompts.limit} (prompts.limit) is "
                "left to train on; hold out fewer"
            )
        if len(self.languages) < 2:
            raise ValueError("at least two languages are needed, the dominant one and one to be improved")
        self.engine.check_trainable()

    @property
    def non_dominant(self) -> list[str]:
        """The training languages without the dominant one, in the recipe's order."""
        return [code for code in self.languages if code != self.dominant]

    @property
    def prompt_source(self) -> PromptsConfig:
        """Where the prompts come from, in a recipe that trains."""
        assert self.prompts is not None  # checked at load wherever there are iterations
        return self.prompts

    @property
    def plugins(self) -> list[Plugin]:
        """The parts of the recipe that may come from outside the package."""
        judge = self.evaluation.judge
        parts = [self.pairs.strategy, self.engine, *self.evaluation.benchmarks.values()]
        parts += [judge.protocol, judge.engine] if judge else []
        return [part for part in parts if isinstance(part, Plugin)]

    @property
    def device(self) -> str:
        """Where the model's weights are: `auto` or a torch device."""
        return self.engine.torch_device()


def shipped_recipes() -> dict[str, Path]:
    """Name -> file of every recipe that comes with the package."""
    folder = Path(str(files("lidr"))) / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_config(recipe: str | Path, overrides: list[str] | None = None) -> Config:
    """Read a recipe (shipped name or YAML path), apply `a.b=c` overrides and validate.

    Raises ConfigError with one line per problem: the field's path, what is wrong, and the remedy.
    """
    path = _find_recipe(recipe)
    data = read_mapping(path)
    data.setdefault("name", path.stem)
    for override in overrides or []:
        _apply_override(data, override)
    _follow_moves(data, path)
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        problems = list(dict.fromkeys(explain(problem) for problem in error.errors()))
        more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        lines = "\n".join(f"  {line}" for line in [*problems[:_SHOWN], *more])
        raise ConfigError(f"{path}: this recipe cannot be used:\n{lines}") from None


_SHOWN = 10  # of the problems of a recipe
_MOVED = {"reference": "training.reference"}  # top-level fields that are elsewhere now


def _follow_moves(data: Json, path: Path) -> None:
    """Take over fields that an older version wrote into a run's recipe. Raises ConfigError for another recipe's."""
    of_run = path.name == "recipe.yaml" and (path.parent / "environment.json").exists()
    _follow_guided(data, path, of_run)
    for old, new in _MOVED.items():
        if old not in data:
            continue
        if not of_run:
            raise ConfigError(f"{path}: {old} is {new} now")
        _apply_override(data, f"{new}={data.pop(old)}")


def _follow_guided(data: Json, path: Path, of_run: bool) -> None:
    """As `_follow_moves`, for the switch that is a strategy now."""
    translations, pairs = data.get("translations"), data.get("pairs") or {}
    if not isinstance(translations, dict) or "guided" not in translations or not isinstance(pairs, dict):
        return
    strategy = pairs.get("strategy", "imbalance")
    if not translations["guided"] or not _translates(reader("strategies")(strategy)):  # it did nothing
        translations.pop("guided")
        return
    if not of_run:
        wanted = {"type": "guided", "of": strategy}
        shown = yaml.safe_dump(wanted, default_flow_style=True, sort_keys=False, width=1000).partition("\n")[0]
        raise ConfigError(f"{path}: translations.guided is a strategy now; remove it, and set pairs.strategy: {shown}")
    translations.pop("guided")
    data["pairs"] = pairs | {"strategy": {"type": "guided", "of": strategy}}


def _translates(strategy: Plugin) -> bool:
    """Whether a strategy, or the one that it goes around, asks for translations at all."""
    inner = getattr(strategy, "of", None)
    if isinstance(inner, Plugin):
        return _translates(inner)
    return any("directions" in vars(each) and each.__name__ != "Strategy" for each in type(strategy).__mro__)


def dump_config(config: Config) -> str:
    """The resolved recipe as YAML that `load_config` reads back to an equal Config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def flatten(value: object, prefix: str = "") -> Json:
    """Nested mappings as one level with dotted names."""
    if not isinstance(value, dict):
        return {prefix: value}
    flat: Json = {}
    for key, inner in value.items():
        flat |= flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    return flat


def changes(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    """What differs between two nested mappings, as lines such as `training.beta: 0.1 -> 0.2`."""
    before, after = flatten(old), flatten(new)
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return [
        f"{name}: {mask_setting(name, before.get(name))} -> {mask_setting(name, after.get(name))}" for name in names
    ]


_MISSING = object()
_FORMER = {"translations.guided": False}  # inputs that are no field any more, with their default


def is_default(name: str, value: object) -> bool:
    """Whether a stage's input, such as `training.beta`, has the value of a field that no recipe has set.

    Inputs are named by the section that they come from, see `inputs` in the stages.
    """
    if name in _FORMER:
        return value == _FORMER[name]
    section, *fields = name.split(".")
    if not fields:
        return section in Config.model_fields and Config.model_fields[section].default == value
    for model in _input_sections().get(section, ()):
        found: object = model.model_construct()
        for field in fields:
            found = getattr(found, field, _MISSING)
        if found == value:
            return True
    return False


def _input_sections() -> dict[str, list[type[BaseModel]]]:
    benchmarks: list[type[BaseModel]] = [load("benchmarks", name)[0] for name in built_in("benchmarks")]
    return {
        "prompts": [PromptsConfig],
        "responses": [DecodingConfig],
        "translations": [TranslationsConfig],
        "pairs": [PairsConfig],
        "training": [TrainingConfig],
        "decoding": [EvaluationConfig],
        "benchmark": benchmarks,
    }


def _find_recipe(recipe: str | Path) -> Path:
    path = Path(recipe)
    shipped = shipped_recipes()
    if str(recipe) in shipped and not path.is_file():
        return shipped[str(recipe)]
    if (path / "recipe.yaml").is_file():
        raise ConfigError(f"{path} is a run; its recipe is {path / 'recipe.yaml'}")
    if path.exists():
        return path
    near = difflib.get_close_matches(str(recipe), shipped, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ConfigError(f"no recipe {recipe!s}: {hint}It is neither a file nor one of: {', '.join(shipped)}")


_PLUGIN_FIELDS = ("engine", "protocol", "strategy")  # a name alone is {type: NAME}


def _apply_override(data: Json, override: str) -> None:
    name, equals, text = override.partition("=")
    parts = [part.strip() for part in name.split(".")]
    if not equals or not all(parts) or len(parts) > MAX_DEPTH:
        raise ConfigError(f"--set {_short(name)}: write it as field=value, for example training.beta=0.2")
    value = read_value(text, f"--set {_short(name)}")
    *parents, last = parts
    for parent in parents:
        inner = data.setdefault(parent, {})
        if inner is None:
            inner = data[parent] = {}
        if isinstance(inner, str) and (parent in _PLUGIN_FIELDS or ".benchmarks." in f".{name}"):
            inner = data[parent] = {"type": inner}
        if not isinstance(inner, dict):
            whole = (
                f"is a list; give it whole, {parent}=[...]" if isinstance(inner, list) else "has no fields of its own"
            )
            raise ConfigError(f"--set {_short(name)}: {parent} {whole}")
        data = inner
    data[last] = value


def _short(text: str) -> str:
    """The beginning of a long text, its credentials masked before anything is cut off."""
    masked = " ".join(mask(text[:4000]).split())
    return masked if len(masked) <= 80 else f"{masked[:80]} ..."


def explain(problem: ErrorDetails) -> str:
    """One of pydantic's problems with a recipe as a line: the field, what is wrong, and the remedy if there is one."""
    location = [_short(str(part)) for part in problem["loc"]]
    where = ".".join(location) or "recipe"
    hidden = problem.get("ctx", {}).get("error")
    if isinstance(hidden, HidesValue):
        return f"{'.'.join([*location, *([hidden.field] if hidden.field else [])])} {hidden}"
    if problem["type"] == "extra_forbidden":
        known = set(_fields_at(location[:-1])) - {location[-1]}
        near = difflib.get_close_matches(location[-1], sorted(known), n=1, cutoff=0.5)
        return f"{where}: no such field" + (f"; did you mean {near[0]}?" if near else "; remove it")
    if problem["type"] == "missing":
        return f"{where}: missing; add it to the recipe or give --set {where}=..."
    got = "" if isinstance(problem["input"], dict) else f" (got {_short(repr(problem['input']))})"
    if problem["type"] == "string_type" and isinstance(problem["input"], bool | int | float):
        got += ", which YAML does not read as text; put it in quotes"
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}{got}"


def _fields_at(location: list[str]) -> list[str]:
    sections: list[type[BaseModel]] = [Config]
    for part in location:
        annotations = [section.model_fields[part].annotation for section in sections if part in section.model_fields]
        options = [option for annotation in annotations for option in getattr(annotation, "__args__", (annotation,))]
        options = [getattr(option, "__origin__", option) for option in options]
        sections = [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
    return [name for section in sections for name in section.model_fields]
