"""Speed and memory of DPO + NLL training: lidr against TRL's DPOTrainer, same model, pairs and batch, in one run.

    python benchmarks/training.py --against trl --models lab /path/to/SmolLM2-135M-Instruct --out training.json

Every measurement is a process of its own; lidr and TRL take turns, and medians are reported. What is timed is what an
iteration costs after loading: the reference's log-probabilities and the training steps. Memory is the process's peak,
and what of it came after the libraries had been imported (weights, gradients, optimiser, activations). Both train on
the same token ids, none of which is cut off (TRL's `max_length` is raised for that), with products in `--precision`,
which is float32 on a CPU and bfloat16 on a GPU unless said otherwise. TRL's fused output layer is part of both of its
settings: since 1.16 there is no way without it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from lidr.machine.torch_environment import TORCH_ENVIRONMENT

MAX_LENGTH = 2048
SYSTEMS = {"default": "TRL, its defaults", "best": "TRL, its best setting"}


def make_pairs(count: int, vocabulary: int, seed: int = 0, longest: int = 1500) -> list[dict[str, Any]]:
    """Answers log-normal with median 220 tokens and a tail to `longest`, a pair's two sides alike; prompts 20-150."""
    rng = random.Random(seed)

    def answer_length(median: float, sigma: float) -> int:
        return max(4, min(longest, round(median * math.exp(rng.gauss(0, sigma)))))

    pairs = []
    for number in range(count):
        chosen = answer_length(220, 0.8)
        sizes = {"prompt": rng.randint(20, 150), "chosen": chosen, "rejected": answer_length(chosen, 0.3)}
        ids = {f"{name}_ids": rng.choices(range(vocabulary), k=size) for name, size in sizes.items()}
        pairs.append(
            {"id": f"{number:016x}", "prompt_id": str(number), "language": "es", "kind": "non_dominant", **ids}
        )
    return pairs


# --- one measurement, in a process of its own -------------------------------------------------------------------------


def measure_lidr(settings: argparse.Namespace, pairs: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    from datasets import Dataset

    from lidr.config import load_config
    from lidr.likelihood.forward import PairForward, why_not_packed
    from lidr.progress_bar import Progress
    from lidr.run_dir import Model
    from lidr.training.reference import add_columns, autocast, write_reference
    from lidr.training.trainer import PairTrainer, training_arguments
    from lidr.training.weights import load_base

    budget = f"training.token_budget={settings.token_budget}"
    precision = f"training.precision={settings.precision}"
    sizes = [f"training.batch_size={settings.batch}", "training.epochs=1", f"training.max_length={MAX_LENGTH}"]
    config = load_config("quickstart", [*sizes, budget, precision, f"engine.device={settings.device}"])
    dataset = Dataset.from_list(pairs)
    arguments = training_arguments(config, folder, len(pairs), torch.device(settings.device))
    arguments.save_strategy = "no"
    model = Model("M0", Path(settings.model), "M0")
    settings.before = memory("VmRSS")
    base = load_base(config, model, arguments.device)
    why_not = why_not_packed(base, autocast(config.training, arguments.device))
    assert why_not is None, why_not
    forward = PairForward(base, packed=True, recompute_above=settings.token_budget)
    file = folder / "reference.jsonl"
    started = clock(settings)
    write_reference(config, dataset, base.eval(), forward, "M0", file, Progress("", len(pairs)))
    dataset = add_columns(dataset, "M0", file)
    reference = clock(settings) - started
    trainer = PairTrainer(config, forward, model=base, args=arguments, train_dataset=dataset)
    started = clock(settings)
    trainer.train()
    found = result(settings, trainer, reference, clock(settings) - started)
    return found | {"dense_tflops_per_second": dense_flops(base, pairs) / 1e12 / sum(found["seconds"].values())}


def dense_flops(model: Any, pairs: list[dict[str, Any]]) -> float:
    """Of the weight matrices alone, for the reference pass (1) and forward and backward of training (1 + 2).

    Two per weight and token; a shared prompt counts once, the output layer for answers only, what is recomputed not at
    all (model FLOPs as in PaLM, arXiv 2204.02311, appendix B, there with attention).
    """
    head = model.get_output_embeddings().weight.numel()
    inner = sum(layer.weight.numel() for layer in model.modules() if isinstance(layer, torch.nn.Linear)) - head
    prompts, answers = (
        sum(len(pair[name]) for pair in pairs for name in names)
        for names in (("prompt_ids",), ("chosen_ids", "rejected_ids"))
    )
    return (1 + 3) * 2.0 * (inner * (prompts + answers) + head * answers)


def measure_trl(settings: argparse.Namespace, pairs: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    spent = {"reference": 0.0}

    class Pretokenised(DPOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

        def _precompute_ref_logps(self, *args: Any, **kwargs: Any) -> Any:
            started = clock(settings)
            done = super()._precompute_ref_logps(*args, **kwargs)
            spent["reference"] = clock(settings) - started
            return done

    best = settings.system == "best"
    per_device = settings.trl_best_batch if best else min(8, settings.batch)
    options: dict[str, Any] = {"gradient_checkpointing": False} if best else {}
    if best:
        options |= {"precompute_ref_log_probs": True, "precompute_ref_batch_size": per_device}
        options |= {"train_sampling_strategy": "group_by_length"}
    gpu = settings.device == "cuda"
    arguments = DPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=per_device,
        gradient_accumulation_steps=settings.batch // per_device,
        num_train_epochs=1,
        learning_rate=3e-4,
        lr_scheduler_type="cosine",
        loss_type=["sigmoid", "sft"],
        loss_weights=[1.0, 1.0],
        max_length=MAX_LENGTH,
        bf16=settings.precision == "bfloat16",
        use_cpu=not gpu,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        **options,
    )
    settings.before = memory("VmRSS")
    model = AutoModelForCausalLM.from_pretrained(settings.model, dtype=torch.float32)
    columns = ("prompt_ids", "chosen_ids", "rejected_ids")
    rows = [{name: pair[name] for name in columns} | {"length": _padded(pair)} for pair in pairs]
    trainer = Pretokenised(
        model=model,
        ref_model=None if best else AutoModelForCausalLM.from_pretrained(settings.model, dtype=torch.float32),
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(settings.model),
    )
    started = clock(settings)
    trainer.train()
    return result(settings, trainer, spent["reference"], clock(settings) - started)


def _padded(pair: dict[str, Any]) -> int:
    return len(pair["prompt_ids"]) + max(len(pair["chosen_ids"]), len(pair["rejected_ids"]))


def clock(settings: argparse.Namespace) -> float:
    if settings.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def result(settings: argparse.Namespace, trainer: Any, reference: float, training: float) -> dict[str, Any]:
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    peak = torch.cuda.max_memory_allocated() / 2**30 if settings.device == "cuda" else memory("VmHWM")
    return {
        "system": settings.system,
        "seconds": {"reference": reference, "training": training},
        "pairs_per_second": settings.pairs / (reference + training),
        "peak_gib": peak,
        "training_gib": peak - (settings.before if settings.device == "cpu" else 0),
        "loss": losses[0] if losses else trainer.state.log_history[-1]["train_loss"],
    }


def memory(name: str) -> float:
    """GiB of this process: VmRSS is what is resident now, VmHWM the most that ever was."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 2**20


def measure(settings: argparse.Namespace) -> None:
    from transformers import AutoConfig, logging

    logging.set_verbosity_error()
    pairs = make_pairs(settings.pairs, AutoConfig.from_pretrained(settings.model).vocab_size)
    with tempfile.TemporaryDirectory() as folder:
        of = measure_lidr if settings.system == "lidr" else measure_trl
        print("RESULT " + json.dumps(of(settings, pairs, Path(folder))))


# --- all measurements -------------------------------------------------------------------------------------------------


def compare(settings: argparse.Namespace) -> dict[str, Any]:
    """All systems in turn, round after round, on one model."""
    systems = ["lidr", *(SYSTEMS if settings.trl == "both" else [settings.trl])]
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in systems}
    for _ in range(settings.rounds):
        for name in systems:
            command = [sys.executable, __file__, *sys.argv[1:], "--system", name, "--model", settings.model]
            environment = (TORCH_ENVIRONMENT if name == "lidr" else {}) | os.environ  # what `lidr` sets for itself
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
            if not found:
                sys.exit(f"{name} failed:\n{done.stderr[-4000:]}")
            rows[name].append(json.loads(found[0].removeprefix("RESULT ")))
            print(f"  {name}: {rows[name][-1]}", file=sys.stderr, flush=True)
    medians = {
        name: {
            key: statistics.median(row[key] for row in found)
            for key in ("pairs_per_second", "peak_gib", "training_gib", "dense_tflops_per_second")
            if key in found[0]
        }
        for name, found in rows.items()
    }
    ours = medians["lidr"]
    ratios = {
        name: {
            "speed": ours["pairs_per_second"] / value["pairs_per_second"],
            "memory": ours["peak_gib"] / value["peak_gib"],
            "training_memory": ours["training_gib"] / value["training_gib"],
        }
        for name, value in medians.items()
        if name != "lidr"
    }
    return {"model": settings.model, "medians": medians, "ratios": ratios, "measurements": rows}


def table(found: dict[str, Any], peak_tflops: float | None) -> str:
    lines = [
        f"{Path(found['model']).name}",
        "| | pairs/s | peak GiB | of it training | lidr is faster by | lidr's peak | of it training |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, row in found["medians"].items():
        ratio = found["ratios"].get(name)
        ends = " | | "
        if ratio:
            ends = f"{ratio['speed']:.2f} x | {ratio['memory']:.2f} x | {ratio['training_memory']:.2f} x"
        values = f"{row['pairs_per_second']:.3f} | {row['peak_gib']:.2f} | {row['training_gib']:.2f}"
        lines.append(f"| {SYSTEMS.get(name, name)} | {values} | {ends} |")
    achieved = found["medians"]["lidr"]["dense_tflops_per_second"]
    share = f", {achieved / peak_tflops:.0%} of {peak_tflops:g}" if peak_tflops else ""
    return "\n".join([*lines, f"lidr: {achieved:.3g} TFLOP/s in dense layers{share}"])


def machine() -> dict[str, Any]:
    from lidr.config import load_config
    from lidr.machine.environment import environment

    found = environment(load_config("quickstart"))
    return found | {"threads": torch.get_num_threads(), "packages": found["packages"] | {"trl": version("trl")}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", choices=["trl"], default="trl")
    parser.add_argument("--trl", choices=["default", "best", "both"], default="both")
    parser.add_argument("--models", nargs="+", default=["lab"], help="`lab`, or folders of Hugging Face models")
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8, help="pairs per optimiser step")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], help="default: float32 on a CPU")
    parser.add_argument("--token-budget", type=int, default=512, help="lidr: tokens of one forward pass")
    parser.add_argument("--trl-best-batch", type=int, default=1, help="TRL's best: pairs of one forward pass")
    parser.add_argument("--peak-tflops", type=float, help="of the device, to tell the model FLOPs utilisation")
    parser.add_argument("--out", type=Path, help="write everything measured as JSON")
    parser.add_argument("--system", help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    settings = parser.parse_args()
    settings.precision = settings.precision or ("float32" if settings.device == "cpu" else "bfloat16")
    if settings.system:
        return measure(settings)
    from lidr.lab import MODEL_PATH

    results = []
    for model in settings.models:
        settings.model = str(MODEL_PATH) if model == "lab" else model
        results.append(compare(settings))
        print(table(results[-1], settings.peak_tflops), flush=True)
    if settings.out:
        options = {key: value for key, value in vars(settings).items() if key not in ("out", "system", "model")}
        document = {"machine": machine(), "settings": options, "results": results}
        settings.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
