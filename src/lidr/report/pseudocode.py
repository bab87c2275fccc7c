"""A run's algorithm as pseudocode, with the recipe's own parameters: `lidr.loop`, step by step."""

from __future__ import annotations

from lidr.config import Config
from lidr.strategies.base import strategy_of


def pseudocode(config: Config) -> list[str]:
    """The lines of the algorithm; of an evaluation, what is measured and how."""
    if not config.iterations:
        return [f"Input: model M0 = {config.model.path}", *_measure(config, "M0")]
    others = ", ".join(config.non_dominant)
    lines = [
        f"Input: model M0 = {config.model.path}; dominant language d = {config.dominant}; others l = {others};",
        "       prompts x[i, l], the same prompt i in every language",
    ]
    if config.probe:
        lines.append(f"probe M0 on {config.probe.prompts} prompts, which are kept out of training")
    lines += [*_measure(config, "M0"), f"for t = 0 ... {config.iterations - 1}:"]
    steps = [
        *strategy_of(config).answers_in_words(config),
        *_pair(config),
        *_train(config),
        *_measure(config, "M[t+1]"),
    ]
    if config.probe and config.probe.stop:
        steps.append("probe M[t+1] against M[t]; stop when no language gains beyond noise")
    return lines + [f"    {step}" for step in steps]


def _pair(config: Config) -> list[str]:
    lines = strategy_of(config).pairs_in_words(config)
    gates = {name: value for name, value in config.pairs.gates.model_dump().items() if value not in (None, False)}
    if not strategy_of(config).directions(config):
        gates.pop("translation_tasks", None)  # such prompts do not matter if nothing is translated
    named = ", ".join(name if value is True else f"{name} {value}" for name, value in gates.items())
    lines += [f"drop from P what fails a gate: {named or 'none is on'}", "stop if P is empty"]
    lines.append(f"drop from P what is longer than {config.training.max_length} tokens")
    if config.training.held_out:
        lines.append(
            f"move the pairs of {config.training.held_out} prompts out of P; they are measured, not trained on"
        )
    return lines


def _train(config: Config) -> list[str]:
    training = config.training
    length = "|y_w|" if training.nll_normalization == "sequence" else "mean |y_w| of the batch"
    nll = f"{training.alpha} * -log pi(y_w|x) / {length}"
    reference = "M[t]" if config.training.reference == "previous" else "M0"
    loss = [f"loss <- mean over P of {nll}"]
    if training.objective == "dpo":
        ratio = "(log pi(y_w|x) - log ref(y_w|x)) - (log pi(y_l|x) - log ref(y_l|x))"
        loss = [
            f"loss <- mean over P of -log sigmoid({training.beta} * [{ratio}])",
            f"                       + {nll}   # y_w chosen, y_l rejected, ref = {reference}",
        ]
    what = f"rank-{training.lora.rank} adapter, merged" if training.lora else "all weights"
    epochs = f"{training.epochs} epoch{'s' if training.epochs > 1 else ''}"
    return [
        *loss,
        f"M[t+1] <- minimise loss from pi = M[t] with AdamW ({what}), {epochs}, {training.batch_size} pairs per step,",
        f"          learning rate {training.learning_rate} ({training.schedule}, warm-up over {training.warmup_ratio} "
        f"of the steps), weight decay {training.weight_decay}, gradients clipped to {training.max_grad_norm}",
    ]


def _measure(config: Config, model: str) -> list[str]:
    benchmarks = list(config.evaluation.benchmarks)
    if not benchmarks:
        return []
    judge = f", judge {config.evaluation.judge.model}" if config.evaluation.judge else ""
    return [
        f"measure {model} on {', '.join(benchmarks)}{judge}",
        f"    # {config.evaluation.in_words()}",
    ]
