"""How much of what training gained is left once the weights are saved, for several ways of saving them.

    python benchmarks/saving.py RUN --rates 5e-7 5e-6 1e-5

RUN is a run that has the pairs of iteration 1 (`lidr pair RUN -i 1`). Its M_0 is trained twice over on them, as two
iterations are, with the recipe's settings and each learning rate. The figures are mean reward margins on the training
pairs in relation to M_0, as an engine in bfloat16 sees the weights:

    trained      the float32 weights as training left them, with no rounding at all
    nearest      rounded to the nearest bfloat16 number; a float32 checkpoint gives the same in such an engine
    stochastic   rounded stochastically (what lidr saves), and the second training starts from these weights
    master       rounded stochastically, and the second training starts from the float32 weights

Nothing is written into the run.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from lidr.config import Config
from lidr.likelihood.forward import PairForward, why_not_packed
from lidr.progress_bar import track
from lidr.run_dir import Model, RunDir
from lidr.stages.training import _tokenize
from lidr.training.reference import autocast, pair_logps
from lidr.training.rounding import round_stochastically
from lidr.training.trainer import PairTrainer, training_arguments
from lidr.training.weights import load_base

Weights = dict[str, torch.Tensor]
CPU = torch.device("cpu")


def main() -> None:
    """Print one row per learning rate and iteration."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--rates", type=float, nargs="+", default=[5e-7, 5e-6, 1e-5])
    arguments = parser.parse_args()
    run, config = RunDir.load(arguments.run)
    start = run.model(config, 0)
    pairs = _pairs(config, run, start)
    table = Table("learning rate", "iteration", "steps", "trained", "nearest", "stochastic", "master", box=None)
    for rate in arguments.rates:
        training = config.training.model_copy(update={"learning_rate": rate, "held_out": 0, "lora": None})
        for row in measure(config.model_copy(update={"training": training}), start, pairs):
            table.add_row(f"{rate:g}", *row)
    Console(width=110).print(table)


def measure(config: Config, start: Model, pairs: Any) -> list[list[str]]:
    """The rows of one learning rate: what is left after one and after two trainings."""
    model = load_base(config, start, CPU)
    base = copy_of(model)
    before = margin(config, model, base, pairs)

    def gain(weights: Weights) -> float:
        return margin(config, model, weights, pairs) - before

    first, steps = fit(config, model, base, pairs)
    saved = {name: rounded(name, value) for name, value in first.items()}
    rows = [_row(1, steps, [gain(first), gain(nearest(first)), gain(saved), gain(saved)])]
    exact, _ = fit(config, model, first, pairs)
    lost, _ = fit(config, model, nearest(first), pairs)
    from_saved, _ = fit(config, model, saved, pairs)
    second = [{name: rounded(name, value) for name, value in weights.items()} for weights in (from_saved, exact)]
    rows.append(_row(2, 2 * steps, [gain(exact), gain(nearest(lost)), *map(gain, second)]))
    return rows


def nearest(weights: Weights) -> Weights:
    return {name: value.bfloat16().float() for name, value in weights.items()}


def rounded(name: str, value: torch.Tensor) -> torch.Tensor:
    return round_stochastically(value, torch.bfloat16, name).float()


def copy_of(model: Any) -> Weights:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def fit(config: Config, model: Any, weights: Weights, pairs: Any) -> tuple[Weights, int]:
    """The weights that a training from `weights` leaves; its reference is the model that it starts from."""
    model.load_state_dict(weights)
    forward = forward_of(config, model)
    found = sorted(pair_logps(config, model.eval(), forward, pairs.to_list()))
    known = pairs.add_column("reference_chosen_logps", [chosen for _, chosen, _ in found])
    known = known.add_column("reference_rejected_logps", [rejected for _, _, rejected in found])
    with tempfile.TemporaryDirectory() as folder:
        arguments = training_arguments(config, Path(folder) / "checkpoints", len(known), CPU)
        arguments.save_strategy = "no"
        trainer = PairTrainer(config, forward, model=model, args=arguments, train_dataset=known)
        trainer.train()
    return copy_of(model), arguments.max_steps


def margin(config: Config, model: Any, weights: Weights, pairs: Any) -> float:
    """beta times the mean of log p(chosen) - log p(rejected), nats."""
    model.load_state_dict(weights)
    found = list(pair_logps(config, model.eval(), forward_of(config, model), pairs.to_list()))
    return config.training.beta * sum(chosen - rejected for _, chosen, rejected in found) / len(found)


def forward_of(config: Config, model: Any) -> PairForward:
    """The model's way to log-probabilities, made once: it replaces the model's own `forward`."""
    if not hasattr(model, "_pair_forward"):
        reason = why_not_packed(model, autocast(config.training, CPU))
        model._pair_forward = PairForward(model, packed=reason is None)
    return model._pair_forward  # type: ignore[no-any-return]


def _pairs(config: Config, run: RunDir, start: Model) -> Any:
    """The run's pairs as token ids, in memory."""
    with tempfile.TemporaryDirectory() as folder, track("tokenise", 1) as progress:
        run.training = lambda iteration: Path(folder)  # type: ignore[method-assign]
        data, _ = _tokenize(config, run, 1, start, progress)
        return type(data).from_list(data.to_list(), features=data.features)


def _row(iteration: int, steps: int, gains: list[float]) -> list[str]:
    trained = gains[0]
    shares = [f"{gain:.4f} ({gain / trained:.0%})" for gain in gains[1:]]
    return [str(iteration), str(steps), f"{trained:.4f}", *shares]


if __name__ == "__main__":
    main()
