"""Every knob of a run, as closed typed models: an unknown key or an impossible combination fails at load.

A recipe is a YAML file with these fields; `--set a.b=c` overrides one of them. Each field's docstring is its help.
"""

from __future__ import annotations

import difflib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lidr.errors import ConfigError
from lidr.languages import get_language


def may_be_hub_id(path: str) -> bool:
    """Whether a recipe's path that is not on disk has the form of a hub id, `org/name`."""
    return path.count("/") == 1 and not path.startswith((".", "/", "~"))


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]


class ModelConfig(_Section):
    path: str
    """M_0: a local Hugging Face folder, a hub id, or `lab` for the small model that comes with the package."""
    revision: str | None = None
    """Commit or tag of a hub model."""
    trust_remote_code: bool = False
    """Run Python code that a hub model brings along. Leave off unless you have read that code."""


class PromptFields(_Section):
    id: str = "id"
    """Column with the prompt's id, the same in every language."""
    text: str = "instruction"
    """Column with the prompt's text."""
    language: str = "language"
    """Column with the language code, where one table holds all languages."""


class PromptsConfig(_Section):
    path: str
    """A folder of `<language>.jsonl|json|csv|parquet` files, one such table with a language column, a Hugging Face
    data set (hub id or local folder), or `lab`."""
    fields: PromptFields = PromptFields()
    """The names of the columns."""
    split: str = "train"
    """Split of a Hugging Face data set."""
    limit: PositiveInt | None = None
    """Take only the first n prompts."""
    on_missing: Literal["error", "skip"] = "error"
    """A prompt id that some language lacks: stop, or leave that prompt out in that language and count it."""
    task: Literal["general", "arithmetic"] = "general"
    """`arithmetic` wraps every prompt in a request for step-by-step reasoning in the prompt's language."""


class EngineConfig(_Section):
    type: Literal["transformers"] = "transformers"
    """Which engine answers and translates."""
    device: str = "auto"
    """`auto` takes the GPU where there is one; else a torch device such as `cpu` or `cuda:1`."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """`auto` is bfloat16 where the hardware multiplies it natively (GPU, CPU with AMX), else float32."""
    batch_size: PositiveInt = 16
    """Requests answered together; similar lengths are put in one batch."""


class DecodingConfig(_Section):
    max_new_tokens: PositiveInt = 2400
    """Longest answer, in tokens; a longer one is cut off and marked as such."""
    temperature: NonNegativeFloat = 0.0
    """0 is greedy decoding."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus sampling; only with a temperature above 0."""
    repetition_penalty: PositiveFloat = 1.1
    """Penalty on tokens already seen (1 is none)."""


class TranslationsConfig(DecodingConfig):
    max_new_tokens: PositiveInt = 4096
    """Longest translation, in tokens."""
    repetition_penalty: PositiveFloat = 1.0
    """The paper translates without a penalty: names and terms must be allowed to come back."""
    recover: bool = True
    """Accept a turn that ended without the closing tag, and translate a cut-off text paragraph by paragraph."""


class GatesConfig(_Section):
    identical: bool = True
    """Drop a pair whose two sides are the same text."""
    max_similarity: Annotated[float, Field(gt=0, le=1)] | None = 0.95
    """Drop a pair whose sides share more than this part of their words (Jaccard index); null is off."""
    max_line_repeats: PositiveInt | None = 5
    """Drop a pair in which the same line stands this often on one side; null is off."""
    loops: bool = True
    """Drop a pair with a side that ends in a loop (a phrase repeated five times or more, 60 characters at least)."""
    wrong_language: Literal["chosen", "either"] | None = "chosen"
    """Which side has to be in the prompt's language; too short to tell counts as right. `either` also drops pairs that
    reject an answer in the wrong language: such pairs teach the language quickly and little else (docs/laboratory.md
    has both, measured). null is off."""
    max_length_ratio: Annotated[float, Field(gt=1)] | None = 4.0
    """Drop a pair whose longer side has more than this many times the characters of the shorter; null is off."""
    truncated: bool = True
    """Drop a pair with a side that was cut off by the length limit, and do not translate such answers."""
    translation_tasks: Literal["drop", "keep_source"] | None = "drop"
    """Prompts that ask for a translation: drop them, or prefer the untranslated dominant answer (as the paper
    does); null treats them as any other prompt."""


class PairsConfig(_Section):
    strategy: Literal["imbalance"] = "imbalance"
    """How answers become chosen and rejected; see `lidr/strategies`."""
    dominant_rejected: str = "one"
    """Whose back-translated answers are the dominant language's rejected side: `one` language per prompt in rotation,
    `all` of them (one pair each), a single language code, or `none` for no pairs in the dominant language."""
    gates: GatesConfig = GatesConfig()
    """What a pair must pass; every drop is counted under one reason."""


class LoraSection(_Section):
    rank: PositiveInt = 16
    """Rank of the adapter's matrices."""
    alpha: PositiveInt = 32
    """The adapter's output is scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout before the adapter."""
    targets: Literal["all-linear"] | list[str] = "all-linear"
    """Modules that get an adapter: every linear layer but the output, or a list of names such as `q_proj`."""
    quantize: Literal["nf4"] | None = None
    """`nf4` keeps the frozen weights in 4 bits (QLoRA; needs a GPU and `lidr[qlora]`)."""


class TrainingConfig(_Section):
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
    """Share of the steps over which the learning rate rises."""
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
    """Matrix products in training; trained weights are float32 always. `auto` is bfloat16 on GPUs that support it."""
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    """Recompute activations in the backward pass: less memory, up to a third more time. `auto` does so where a pair is
    longer than the token budget, for as many layers as it takes to stay within the memory of that many tokens."""
    held_out: Annotated[int, Field(ge=0)] = 0
    """Prompts whose pairs, in all languages, are not trained on but measured: loss, margin, accuracy."""
    eval_steps: PositiveInt = 50
    """Optimiser steps between measurements on held-out pairs; before the first step and at the end too."""
    save_steps: PositiveInt = 100
    """Optimiser steps between checkpoints; a killed training continues from the last one."""
    report_to: list[Literal["tensorboard", "wandb", "mlflow", "trackio"]] = []
    """Experiment trackers that get the training's values too; each is a package of its own to install."""
    num_processes: PositiveInt | None = None
    """Training processes on this machine, one per GPU; null takes every visible GPU, or one process without any."""
    distributed: str = "ddp"
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


class LabBenchmarkConfig(_Section):
    languages: list[str] = ["en", "es", "fr", "de", "ru", "it"]
    """Languages of the laboratory to be asked."""


class MgsmConfig(_Section):
    path: str = "juletxara/mgsm"
    """A folder of `<language>.jsonl` files (`query`, `response`), or a Hugging Face data set (hub id or folder)."""
    languages: list[str] = ["en", "es", "fr", "de", "ru", "zh", "ja", "th", "sw", "bn", "te"]
    """Languages to be asked."""
    limit: PositiveInt | None = None
    """Ask only the first n questions of each language."""
    instruction: bool = True
    """Wrap the question in the request for step-by-step reasoning in its language."""


class BenchmarksConfig(_Section):
    lab: LabBenchmarkConfig | None = None
    """Facts of the laboratory's world."""
    mgsm: MgsmConfig | None = None
    """Grade-school arithmetic (Shi et al. 2022, arXiv 2210.03057)."""


class EvaluationConfig(DecodingConfig):
    max_new_tokens: PositiveInt = 2048
    """Longest answer, in tokens."""
    benchmarks: BenchmarksConfig = BenchmarksConfig()
    """What is measured on M_0 and after every iteration."""


class ReportConfig(_Section):
    samples: Annotated[int, Field(ge=0)] = 10
    """Random pairs per language shown in the report."""


class Config(_Section):
    """A whole run. See `lidr recipes` for the shipped ones."""

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    """Name of the recipe, and of its run directory under `runs/`."""
    description: str = ""
    """One line for `lidr recipes`."""
    model: ModelConfig
    """The model to be improved."""
    languages: list[str]
    """Training languages, the dominant one included."""
    dominant: str = "en"
    """The model's best language, which teaches the others."""
    iterations: PositiveInt = 2
    """How often to answer, translate, pair and train."""
    reference: Literal["previous", "initial"] = "previous"
    """DPO's reference policy: M_t (the paper) or always M_0."""
    seed: int = 42
    """Seeds decoding, the order of training and the report's samples."""
    system_prompt: str | None = "You are a helpful assistant."
    """System turn of every conversation; null for models that have none."""
    isolation: Literal["auto", "process", "inline"] = "auto"
    """`process` runs every GPU stage as a child process, so that its memory comes back; `auto` does so with a GPU."""
    prompts: PromptsConfig
    """Where the prompts come from."""
    engine: EngineConfig = EngineConfig()
    """What answers and translates."""
    responses: DecodingConfig = DecodingConfig()
    """Decoding of the answers."""
    translations: TranslationsConfig = TranslationsConfig()
    """Decoding of the translations, and their recovery."""
    pairs: PairsConfig = PairsConfig()
    """Strategy and gates."""
    training: TrainingConfig = TrainingConfig()
    """DPO + NLL, or the SFT baseline."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Benchmarks."""
    report: ReportConfig = ReportConfig()
    """The report."""

    @field_validator("languages")
    @classmethod
    def _known_languages(cls, languages: list[str]) -> list[str]:
        for code in languages:
            get_language(code)
        if len(set(languages)) != len(languages):
            raise ValueError("a language is listed twice")
        if len(languages) < 2:
            raise ValueError("at least two languages are needed, the dominant one and one to be improved")
        return languages

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if self.dominant not in self.languages:
            raise ValueError(f"dominant {self.dominant!r} is not among languages {self.languages}")
        policy = self.pairs.dominant_rejected
        if policy not in ("one", "all", "none", *self.non_dominant):
            raise ValueError(f"pairs.dominant_rejected {policy!r}: use one, all, none or one of {self.non_dominant}")
        if self.prompts.path == "lab" and self.prompts.task != "general":
            raise ValueError("prompts.task: the laboratory has general prompts only")
        return self

    @property
    def non_dominant(self) -> list[str]:
        """The training languages without the dominant one, in the recipe's order."""
        return [code for code in self.languages if code != self.dominant]


def shipped_recipes() -> dict[str, Path]:
    """Name -> file of every recipe that comes with the package."""
    folder = Path(str(files("lidr"))) / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_config(recipe: str | Path, overrides: list[str] | None = None) -> Config:
    """Read a recipe (shipped name or YAML path), apply `a.b=c` overrides and validate.

    Raises ConfigError with one line per problem: the field's path, what is wrong, and the remedy.
    """
    path = _find_recipe(recipe)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a recipe is a mapping of fields to values")
    data.setdefault("name", path.stem)
    for override in overrides or []:
        _apply_override(data, override)
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        lines = "\n".join(f"  {_explain(problem)}" for problem in error.errors())
        raise ConfigError(f"{path}: this recipe cannot be used:\n{lines}") from None


def dump_config(config: Config) -> str:
    """The resolved recipe as YAML that `load_config` reads back to an equal Config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level with dotted names."""
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    return flat


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs between two nested mappings, as lines such as `training.beta: 0.1 -> 0.2`."""
    before, after = flatten(old), flatten(new)
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return [f"{name}: {before.get(name)} -> {after.get(name)}" for name in names]


def _find_recipe(recipe: str | Path) -> Path:
    path = Path(recipe)
    if path.is_file():
        return path
    shipped = shipped_recipes()
    if str(recipe) in shipped:
        return shipped[str(recipe)]
    near = difflib.get_close_matches(str(recipe), shipped, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ConfigError(f"no recipe {recipe!s}: {hint}It is neither a file nor one of: {', '.join(shipped)}")


def _apply_override(data: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"--set {override}: write it as field=value, for example training.beta=0.2")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override}: the value is not valid YAML; quote it") from None
    *parents, last = name.strip().split(".")
    for parent in parents:
        inner = data.setdefault(parent, {})
        if inner is None:
            inner = data[parent] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {override}: {parent} has no fields of its own")
        data = inner
    data[last] = value


def _explain(problem: Any) -> str:
    location = [str(part) for part in problem["loc"]]
    where = ".".join(location) or "recipe"
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(location[-1], _fields_at(location[:-1]), n=1, cutoff=0.5)
        return f"{where}: no such field" + (f"; did you mean {near[0]}?" if near else "; remove it")
    if problem["type"] == "missing":
        return f"{where}: missing; add it to the recipe or give --set {where}=..."
    return f"{where}: {problem['msg'].removeprefix('Value error, ')} (got {problem['input']!r:.60})"


def _fields_at(location: list[str]) -> list[str]:
    section: Any = Config
    for part in location:
        annotation = section.model_fields[part].annotation
        options = getattr(annotation, "__args__", (annotation,))
        section = next((option for option in options if hasattr(option, "model_fields")), None)
        if section is None:
            return []
    return list(section.model_fields)
