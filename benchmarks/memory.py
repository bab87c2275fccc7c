"""Memory of training over many steps: the peak after 100 steps against the peak after step 3.

    python benchmarks/memory.py --steps 100 --out benchmarks/memory.json

Full training of a model of the shape of Qwen2.5-0.5B with random weights (nothing is downloaded), or of `--model`, on
made-up pairs whose lengths all differ, so that hardly two rows have the same shape. Two optimiser steps of pairs are
enough to reach the peak of everything that a step needs; what comes after step 3 is growth. `--environment` tries other
settings of oneDNN or the allocator: `--environment ONEDNN_PRIMITIVE_CACHE_CAPACITY=1024`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from training import MAX_LENGTH, machine, make_pairs, memory

from lidr.machine.torch_environment import TORCH_ENVIRONMENT

SHAPE = {
    "vocab_size": 151_936, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
    "num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": True, "max_position_embeddings": 32_768,
}  # fmt: skip


def make_model(folder: Path) -> Path:
    """Random weights in the shape of Qwen2.5-0.5B."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    model = Qwen2ForCausalLM._from_config(Qwen2Config(**SHAPE), dtype=torch.bfloat16)
    model.save_pretrained(folder)
    return folder


def measure(settings: argparse.Namespace) -> dict[str, Any]:
    """Resident memory and its peak so far, in GiB, after every step."""
    from datasets import Dataset
    from transformers import AutoConfig, TrainerCallback

    from lidr.config import load_config
    from lidr.likelihood.forward import PairForward
    from lidr.run_dir import Model
    from lidr.training.trainer import PairTrainer, training_arguments
    from lidr.training.weights import load_base

    steps: list[dict[str, float]] = []

    class Watch(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            now = {"resident_gib": memory("VmRSS"), "peak_gib": memory("VmHWM"), "seconds": time.monotonic() - started}
            steps.append({name: round(value, 3) for name, value in now.items()})
            print(f"  step {len(steps)}: {now}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(settings.model) if settings.model else make_model(Path(scratch) / "model")
        sizes = [f"training.batch_size={settings.batch}", "training.epochs=1", f"training.max_length={MAX_LENGTH}"]
        more = [f"training.token_budget={settings.token_budget}", f"training.precision={settings.precision}"]
        config = load_config("quickstart", [*sizes, *more, "engine.device=cpu", "training.learning_rate=1e-6"])
        vocabulary = AutoConfig.from_pretrained(folder).vocab_size
        longest = (settings.token_budget - 150) // 2  # no pair is longer than a row, so that every step has full rows
        pairs = make_pairs(settings.steps * settings.batch, vocabulary, longest=longest)
        # The reference's log-probabilities change nothing in the memory of a step.
        made_up = {f"reference_{side}_logps": 0.0 for side in ("chosen", "rejected")}
        dataset = Dataset.from_list([pair | made_up for pair in pairs])
        arguments = training_arguments(config, Path(scratch) / "checkpoints", len(pairs), torch.device("cpu"))
        arguments.save_strategy = "no"
        base = load_base(config, Model("M0", folder, "M0"), arguments.device)
        forward = PairForward(base, packed=True, recompute_above=settings.token_budget)
        trainer = PairTrainer(config, forward, model=base, args=arguments, train_dataset=dataset, callbacks=[Watch()])
        started = time.monotonic()
        trainer.train()
    return {"steps": steps, "growth": steps[-1]["peak_gib"] / steps[2]["peak_gib"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder of a Hugging Face model")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=4, help="pairs per optimiser step")
    parser.add_argument("--token-budget", type=int, default=1024)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--environment", nargs="*", default=[], metavar="NAME=VALUE")
    parser.add_argument("--out", type=Path, help="write everything measured as JSON")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.measure:
        print("RESULT " + json.dumps(measure(settings)))
        return
    chosen = dict(pair.split("=", 1) for pair in settings.environment)
    command = [sys.executable, __file__, "--measure", *sys.argv[1:]]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=TORCH_ENVIRONMENT | os.environ | chosen)
    if done.returncode:
        sys.exit(done.returncode)
    found = json.loads(done.stdout.rpartition("RESULT ")[2])
    first, last = found["steps"][2], found["steps"][-1]
    print(
        f"peak after step 3: {first['peak_gib']:.2f} GiB, after step {len(found['steps'])}: {last['peak_gib']:.2f}, "
        f"{found['growth']:.3f} x; {last['seconds']:.0f} s"
    )
    if settings.out:
        options = {key: value for key, value in vars(settings).items() if key not in ("out", "measure", "model")}
        document = {"machine": machine(), "settings": options, **found}
        settings.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
