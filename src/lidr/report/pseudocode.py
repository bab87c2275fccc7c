"""A run's algorithm as pseudocode, with the recipe's own parameters: `lidr.loop`, step by step."""

from __future__ import annotations

from lidr.config import Config, DecodingConfig


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
    steps = [*_answer(config), *_pair(config), *_train(config), *_measure(config, "M[t+1]")]
    if config.probe and config.probe.stop:
        steps.append("probe M[t+1] against M[t]; stop when no language gains beyond noise")
    return lines + [f"    {step}" for step in steps]


def _decoding(decoding: DecodingConfig) -> str:
    how = f"temperature {decoding.temperature}, top-p {decoding.top_p}" if decoding.temperature else "greedy"
    return f"{how}, repetition penalty {decoding.repetition_penalty}, at most {decoding.max_new_tokens} new tokens"


def _answer(config: Config) -> list[str]:
    if config.pairs.strategy == "verified_majority":
        samples = f"k = 1 ... {config.responses.samples}"
        return [
            f"y[i, l, k] <- M[t](x[i, l])   for every i, every l and d, and {samples}",
            f"    # {_decoding(config.responses)}",
        ]
    back = {
        "one": "y[i, l->d] <- M[t](translate y[i, l] into d)   for every i, and one l per i in rotation",
        "all": "y[i, l->d] <- M[t](translate y[i, l] into d)   for every i, l",
    }
    named = f"y[i, l->d] <- M[t](translate y[i, l] into d)   for every i, and l = {config.pairs.dominant_rejected}"
    lines = [
        "y[i, l] <- M[t](x[i, l])   for every i, every l and d",
        f"    # {_decoding(config.responses)}",
        "y[i, d->l] <- M[t](translate y[i, d] into l)   for every i, l",
    ]
    if config.pairs.dominant_rejected != "none":
        lines.append(back.get(config.pairs.dominant_rejected, named))
    recover = "; one that is cut off is made anew paragraph by paragraph" if config.translations.recover else ""
    return [*lines, f"    # {_decoding(config.translations)}{recover}"]


def _candidates(config: Config) -> list[str]:
    both = config.pairs.dominant_rejected != "none"
    if config.pairs.strategy == "verified_majority":
        return [
            "a[i] <- the number that most y[i, l, k] end in, over all l, d and k, by two votes at least   for every i",
            "P <- {(prompt x[i, l], chosen y[i, l, k] that ends in a[i], rejected y[i, l, m] that ends elsewhere)}",
            f"     for every i, {'l and d' if both else 'l'}; of all k, m the two nearest in length",
        ]
    lines = ["P <- {(prompt x[i, l], chosen y[i, d->l], rejected y[i, l])}   for every i, l"]
    if both:
        lines.append("P <- P + {(prompt x[i, d], chosen y[i, d], rejected y[i, l->d])}   for the i, l above")
    if config.pairs.strategy == "random_sides":
        lines.append("exchange chosen and rejected in a random half of P   # the control")
    return lines


def _pair(config: Config) -> list[str]:
    lines = _candidates(config)
    gates = {name: value for name, value in config.pairs.gates.model_dump().items() if value not in (None, False)}
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
    reference = "M[t]" if config.reference == "previous" else "M0"
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
    benchmarks = [name for name, value in config.evaluation.benchmarks if value is not None]
    if not benchmarks:
        return []
    judge = f", judge {config.evaluation.judge.model}" if config.evaluation.judge else ""
    return [
        f"measure {model} on {', '.join(benchmarks)}{judge}",
        f"    # {_decoding(config.evaluation)}",
    ]
