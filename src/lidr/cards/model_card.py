"""The model card: what the model was made from and how, what it is better and worse at, and how it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel

from lidr.cards.base import (
    Published,
    base_model,
    code_block,
    given_license,
    hub_id,
    hub_link,
    license_fields,
    render_card,
)
from lidr.cards.collect import RunFacts
from lidr.config import Config, dump_config
from lidr.report.benchmarks import measure_table
from lidr.report.findings import findings, paragraphs
from lidr.report.formatting import join_names, language_name, percent
from lidr.report.markdown import SafeMarkdown, lines_table
from lidr.report.measures import Measure
from lidr.strategies.base import strategy_of

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

_LONGEST_SHOWN = 512  # max_new_tokens of the example on the card


def model_card(facts: RunFacts, published: Published) -> str:
    """The text of README.md in the model's repository."""
    config = facts.config
    _, base = base_model(config, facts.base_id, published)
    context = {
        "config": config,
        "iteration": facts.iteration,
        "base": base,
        "data_repo": hub_link(published.data_repo, "datasets/") if published.data_repo else None,
        "license": given_license(config, published),
        "weak": join_names([language_name(code) for code in config.non_dominant]),
        "entries": facts.entries,
        "total": facts.total - sum(facts.too_long.values()),
        "summary": paragraphs(findings(facts.measures, config)),
        "measures": [(measure, measure_table(measure)) for measure in facts.measures],
        "compared": any(len(measure.models) > 1 for measure in facts.measures),
        "counts": _count_table(facts),
        "training": lines_table(["Setting", "Value"], training_rows(config)),
        "usage": _usage(config, published),
        "limitations": limitations(facts),
        "recipe": dump_config(config),
    }
    return render_card("card_model.md", _metadata(facts, published), context)


def _metadata(facts: RunFacts, published: Published) -> ModelCardData:
    from huggingface_hub import ModelCardData

    config = facts.config
    name, _ = base_model(config, facts.base_id, published)
    sources = [name for name in (published.data_repo, facts.prompts_id) if name]
    results = eval_results(facts)
    return ModelCardData(
        language=list(config.languages),
        **license_fields(given_license(config, published)),
        library_name="transformers",
        pipeline_tag="text-generation",
        base_model=name,
        base_model_relation="finetune" if name else None,
        datasets=sources or None,
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        tags=["lidr", config.training.objective, "multilingual", "self-improvement"],
        model_name=_model_name(facts, published) if results else None,
        eval_results=results or None,
    )


def _model_name(facts: RunFacts, published: Published) -> str:
    return (published.model_repo or f"{facts.config.name}-M{facts.iteration}").rpartition("/")[2]


def eval_results(facts: RunFacts) -> list[EvalResult]:
    """What was measured of this model, for the Hub's `model-index`; shares are from 0 to 1, as in results.json."""
    from huggingface_hub import EvalResult

    results = []
    for measure in facts.measures:
        column = measure.models.index(f"M{facts.iteration}")
        for row in measure.rows:
            if cell := row.cells[column]:
                results.append(
                    EvalResult(
                        task_type="text-generation",
                        task_name="Text generation",
                        dataset_type=_dataset_type(facts.config, measure),
                        dataset_name=f"{measure.benchmark} ({row.name})",
                        dataset_config=row.code,
                        metric_type=measure.kind.key,
                        metric_name=measure.kind.title,
                        metric_value=round(cell.value, 4),
                    )
                )
    return results


def _dataset_type(config: Config, measure: Measure) -> str:
    """The benchmark's name on the Hub, if its questions come from the default place."""
    section = config.evaluation.benchmarks.get(measure.benchmark)
    path = getattr(section, "path", None)
    if isinstance(section, BaseModel) and path and path == type(section).model_fields["path"].default:
        return hub_id(path) or measure.benchmark
    return measure.benchmark


def training_rows(config: Config) -> list[tuple[str, str]]:
    """What the training did, by the settings' usual names."""
    training = config.training
    lora = training.lora
    is_dpo = training.objective == "dpo"
    objective = f"DPO + {training.alpha:g} × NLL of the chosen answer" if is_dpo else "NLL of the chosen answer (SFT)"
    rows = [("Objective", objective)]
    if is_dpo:
        reference = "the model before this iteration" if config.training.reference == "previous" else "the base model"
        rows += [("β", f"{training.beta:g}"), ("Reference policy", reference)]
    return [
        *rows,
        ("Trained weights", f"LoRA, rank {lora.rank}, alpha {lora.alpha}, merged" if lora else "all"),
        (
            "Optimiser",
            f"AdamW, weight decay {training.weight_decay:g}, gradients clipped to {training.max_grad_norm:g}",
        ),
        ("Learning rate", f"{training.learning_rate:g}, {training.schedule}, warm-up {percent(training.warmup_ratio)}"),
        ("Epochs", f"{training.epochs} per iteration"),
        ("Batch size", f"{training.batch_size} pairs"),
        ("Longest prompt and answer", f"{training.max_length:,} tokens"),
        ("Precision", training.precision),
        ("Seed", f"{config.seed}"),
    ]


def limitations(facts: RunFacts) -> list[str]:
    """What a user must not expect, in sentences."""
    config = facts.config
    dominant = language_name(config.dominant)
    found = [
        *strategy_of(config).caveats(dominant),
        "Its safety, its biases and its knowledge of the world were not measured here. Training can change how it "
        "refuses; test that before anybody relies on it.",
        "Other languages than the trained ones may have become better or worse.",
        "One run is one seed; with another one the figures differ somewhat.",
    ]
    if any(measure.kind.key == "off_target" for measure in facts.measures):
        found.append(
            "Which language an answer is in was identified by a program, which says nothing of very short answers."
        )
    return found


def _count_table(facts: RunFacts) -> SafeMarkdown:
    header = ["Pairs", *(language_name(code) for code in facts.config.languages), "All"]
    rows = [
        [
            f"Iteration {entry.iteration}",
            *(f"{entry.pairs.get(code, 0):,}" for code in facts.config.languages),
            f"{sum(entry.pairs.values()):,}",
        ]
        for entry in facts.entries
    ]
    return lines_table(header, rows)


def _usage(config: Config, published: Published) -> SafeMarkdown:
    """An example that runs as it is; the system prompt and the penalty are those of the run."""
    code = ", trust_remote_code=True" if config.model.trust_remote_code else ""
    weak = language_name(config.non_dominant[0])
    system = [{"role": "system", "content": config.system_prompt}] if config.system_prompt else []
    messages = [*system, {"role": "user", "content": f"Your question, in {weak} for example."}]
    penalty = config.responses.repetition_penalty
    settings = f"max_new_tokens={min(config.responses.max_new_tokens, _LONGEST_SHOWN)}, do_sample=False"
    settings += f", repetition_penalty={penalty:g}" if penalty != 1 else ""
    return code_block(
        [
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            f"name = {published.model_repo or 'path/to/this/folder'!r}",
            f"tokenizer = AutoTokenizer.from_pretrained(name{code})",
            f"model = AutoModelForCausalLM.from_pretrained(name, dtype='auto'{code})",
            "",
            "messages = [",
            *(f"    {message!r}," for message in messages),
            "]",
            "inputs = tokenizer.apply_chat_template(",
            "    messages, add_generation_prompt=True, return_tensors='pt', return_dict=True",
            ")",
            f"outputs = model.generate(**inputs, {settings})",
            "print(tokenizer.decode(outputs[0, inputs['input_ids'].shape[1] :], skip_special_tokens=True))",
        ]
    )
