"""Whether the saved model is the trained model: how much of the gain on a sample of pairs is left after saving.

Saving rounds the weights to M_0's number format, and the engine rounds them to its own. This measures both: M_t and
M_{t+1} are loaded from disk in the engine's format and score a fixed sample of pairs in the arithmetic of training, so
only the weights differ.
"""

from __future__ import annotations

import gc
import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from lidr.config import Config
from lidr.engine_settings import EngineSettings
from lidr.engines.base import plugin_of
from lidr.engines.transformers import Transformers
from lidr.engines.transformers.engine import load_weights
from lidr.likelihood.forward import PairForward, RowLayout, read_layout
from lidr.machine.devices import pick_device, uses_bf16
from lidr.results import Saved
from lidr.run_dir import RunDir
from lidr.storage import partial_path, write_text
from lidr.training.reference import pair_logps
from lidr.training.weights import stored_dtype

if TYPE_CHECKING:
    from datasets import Dataset

PAIRS = 32  # in the sample
ENOUGH = 0.9  # the share of the gain that must be left
TOO_LITTLE = 1e-4  # a gain this small may come from the rounding of log-probabilities
_TRAINED = "trained.json"


def alarm(saved: Saved) -> str | None:
    """What to change if too little of a training's gain is left; None if enough is."""
    if saved.kept is None or saved.kept >= ENOUGH:
        return None
    if "quantised" in saved.loaded:
        remedy = "Set engine.quantize to null"
    elif saved.loaded != saved.stored:
        remedy = f"Set the engine's dtype to {saved.stored}"
    else:
        remedy = f"The updates are too small for {saved.stored}: raise training.learning_rate or training.epochs"
    return (
        f"The saved model is not the one that was trained: of a gain of {saved.trained:.4g} ({saved.measure}) on "
        f"{saved.pairs} training pairs {saved.kept:.0%} is left once the {saved.stored} weights are loaded as "
        f"{saved.loaded}. {remedy}."
    )


def share_kept(trained: float, saved: float) -> float | None:
    """The share of a gain that is left; None if training gained nothing that can be measured."""
    return round(saved / trained, 4) if trained > TOO_LITTLE else None


def sample(trained_on: Dataset, config: Config) -> Dataset:
    """A sample of the training pairs whose sides differ; the seed alone decides it."""
    order = torch.randperm(len(trained_on), generator=torch.Generator().manual_seed(config.seed)).tolist()
    differing = (place for place in order if (row := trained_on[place])["chosen_ids"] != row["rejected_ids"])
    return trained_on.select(sorted(list(islice(differing, PAIRS)) or order[:PAIRS]))


def note_trained(folder: Path, metrics: dict[str, float]) -> None:
    """Keep the trained model's metrics on the sample in `folder` until the saved model is measured."""
    write_text(folder / _TRAINED, json.dumps(metrics) + "\n")


def measure_saved(config: Config, run_dir: RunDir, iteration: int, pairs: Dataset) -> Saved:
    """Compare M_{t+1} in its partial folder with what `note_trained` kept; `pairs` is the result of `sample`."""
    folder = run_dir.training(iteration)
    measure: Literal["margin", "chosen_logp"] = "margin" if config.training.objective == "dpo" else "chosen_logp"
    after = json.loads((folder / _TRAINED).read_text(encoding="utf-8"))[measure]
    layout = read_layout(folder / "packing.json")
    old, new = run_dir.model(config, iteration - 1).folder, partial_path(run_dir.model_folder(iteration))
    stored, engine = stored_dtype(new), loading(config.engine, stored_dtype(new))
    exact = engine.model_copy(update={"dtype": "float32", "quantize": None})

    def value(model: Path, how: Transformers) -> float:
        return _value(config, model, how, layout, pairs)

    before = value(old, exact)
    lossless = engine.quantize is None and engine.dtype in ("float32", _name(stored_dtype(old)))
    before_loaded = before if lossless else value(old, engine)
    loaded = f"{engine.quantize} (quantised)" if engine.quantize else engine.dtype
    gained = value(new, engine) - before_loaded
    trained = after - before
    kept = share_kept(trained, gained)
    return Saved(len(pairs), measure, round(trained, 6), round(gained, 6), _name(stored), loaded, kept)


def loading(engine: EngineSettings, stored: torch.dtype) -> Transformers:
    """How an engine loads weights that are `stored` on disk: device, dtype (never `auto`) and quantisation."""
    dtype, quantize = plugin_of(engine).loads_as(_name(stored))
    return Transformers.model_validate({"device": engine.torch_device(), "dtype": dtype, "quantize": quantize})


def _value(config: Config, folder: Path, how: Transformers, layout: RowLayout, pairs: Dataset) -> float:
    """Mean margin, or mean log-probability of the chosen side, of the pairs under a model on disk."""
    device = pick_device(config.device)
    model = load_weights(folder, how, device, config.model.trust_remote_code)
    if how.quantize is None:
        frozen_bf16 = config.training.lora and uses_bf16(config.training, device)
        model = model.to(torch.bfloat16 if frozen_bf16 else torch.float32)
    forward = PairForward(model, layout.packed, alone_above=layout.alone_above)
    rows = pairs.to_list()
    found = sorted(pair_logps(config, model, forward, rows))
    del model, forward
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if config.training.objective == "sft":
        return sum(chosen for _, chosen, _ in found) / len(found)
    margins = [
        (chosen - rejected) - (rows[place]["reference_chosen_logps"] - rows[place]["reference_rejected_logps"])
        for place, chosen, rejected in found
    ]
    return float(config.training.beta * sum(margins) / len(margins))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
