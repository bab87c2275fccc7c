"""Speed of the transformers engine: against its own matrix products, `generate`, continuous batching and vLLM.

    python benchmarks/generation.py --models lab SmolLM2-135M-Instruct --prompts en.jsonl --out generation.json
    python benchmarks/generation.py --models qwen2.5-coder-0.5b-instruct --prompts es.jsonl --field query --batch 64 \
        --limit 192 --dtype bfloat16 --systems lidr vllm --vllm .venv-vllm/bin/python --max-new-tokens 256

Every measurement is a process of its own; systems take turns, and medians are reported. All decode greedily with the
paper's repetition penalty from the same token ids, so they write the same answers but for rounding: how many are the
same, token for token, is reported, and for the others how close the two likeliest tokens were where they part.
Loading is not timed.

The matrix products of lidr's run are timed after it: all linear layers one after the other, for as many rows as every
pass had, on random inputs. Attention, norms, choosing tokens, reading text and waiting are not in there, so 100 % is
out of reach. vLLM runs in an environment of its own (`--vllm` is its Python), with the same token ids.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from lidr.engines.base import Request, Sampling
from lidr.engines.encoding import encode
from lidr.engines.transformers import Transformers
from lidr.engines.transformers.decoding import Generation
from lidr.engines.transformers.engine import TransformersEngine
from lidr.engines.transformers.packed_linear import PackedLinear
from lidr.lab import MODEL_PATH
from lidr.machine.devices import pick_dtype
from lidr.machine.torch_environment import TORCH_ENVIRONMENT
from lidr.models import end_of_turn_ids, load_tokenizer

SYSTEM = ("system", "You are a helpful assistant.")
SYSTEMS = {
    "lidr": "lidr",
    "generate": "`generate`, file order",
    "continuous": "`generate_batch` (continuous batching)",
    "vllm": "vLLM",
}


def read_prompts(settings: argparse.Namespace) -> list[Request]:
    """The first prompts of a JSONL file; for the laboratory's model, questions in six languages."""
    if settings.model == str(MODEL_PATH):
        from lidr.lab.world import training_prompts

        languages = ["en", "es", "fr", "de", "ru"]
        texts = [prompt.text for prompt in training_prompts(languages, seed=0)]
    else:
        with settings.prompts.open(encoding="utf-8") as lines:  # U+2028 within a text does not end a line
            texts = [json.loads(line)[settings.field] for line in lines]
    return [Request(f"{n:016x}", (SYSTEM, ("user", text))) for n, text in enumerate(texts[: settings.limit])]


# --- one measurement, in a process of its own -------------------------------------------------------------------------


def measure(settings: argparse.Namespace) -> None:
    from transformers import logging

    logging.set_verbosity_error()
    config = Transformers(device=settings.device, batch_size=settings.batch, dtype=settings.dtype)
    engine = TransformersEngine(Path(settings.model), config)
    sampling = Sampling(settings.max_new_tokens, repetition_penalty=1.1)
    requests = read_prompts(settings)
    rows = [engine._row(request, sampling) for request in requests]
    of = {"lidr": answer_with_lidr, "generate": answer_with_generate, "continuous": answer_with_continuous_batching}
    of[settings.system](engine, requests[:2], rows[:2], Sampling(2))  # what is set up at the first use is not timed
    rows = [engine._row(request, sampling) for request in requests]
    passes = watch_passes(engine) if settings.system == "lidr" and engine.device.type == "cpu" else None
    started = clock(engine)
    answers = of[settings.system](engine, requests, rows, sampling)
    seconds = clock(engine) - started
    found: dict[str, Any] = {"system": settings.system, "seconds": seconds}
    if passes is not None:
        found |= time_products(engine, passes)
    gaps = (
        first_differences(engine, rows, answers, json.loads(settings.expected.read_text())) if settings.expected else []
    )
    print("RESULT " + json.dumps(found | {"gaps": gaps, "answers": answers}))


def answer_with_lidr(
    engine: TransformersEngine, requests: list[Request], rows: list[Generation], sampling: Sampling
) -> list[list[int]]:
    """Through `Engine.generate`, so with rendering, tokenising and reading; the token ids are caught on the way."""
    answers = {}
    read = engine._read

    def caught(row: Generation, sampling: Sampling) -> Any:
        answers[row.request_id] = row.generated
        return read(row, sampling)

    engine._read = caught  # type: ignore[method-assign]
    list(engine.generate(requests, sampling))
    engine._read = read  # type: ignore[method-assign]
    return [answers[request.request_id] for request in requests]


def watch_passes(engine: TransformersEngine) -> list[list[int]]:
    """Fills up, pass by pass, with the rows that each linear layer of the model gets."""
    passes: list[list[int]] = []
    engine.model.register_forward_pre_hook(lambda *_: passes.append([]))
    for layer in linear_layers(engine):
        layer.register_forward_pre_hook(lambda layer, args: passes[-1].append(args[0].numel() // layer.in_features))
    return passes


def linear_layers(engine: TransformersEngine) -> list[Any]:
    return [layer for layer in engine.model.modules() if isinstance(layer, torch.nn.Linear | PackedLinear)]


@torch.inference_mode()
def time_products(engine: TransformersEngine, passes: list[list[int]]) -> dict[str, Any]:
    """Seconds that the linear layers of all passes take by themselves; passes alike are timed once, the median of 3."""
    layers = linear_layers(engine)
    total, steps = 0.0, Counter(map(tuple, passes))
    for sizes, count in steps.items():
        times = []
        inputs = {(n, layer.in_features): torch.randn(n, layer.in_features, dtype=engine.model.dtype)
                  for n, layer in zip(sizes, layers, strict=True)}  # fmt: skip
        for _ in range(3):
            started = time.perf_counter()
            for n, layer in zip(sizes, layers, strict=True):
                layer.forward(inputs[n, layer.in_features])
            times.append(time.perf_counter() - started)
        total += count * statistics.median(times)
    return {"products_seconds": total, "passes": len(passes)}


def answer_with_generate(
    engine: TransformersEngine, requests: list[Request], rows: list[Generation], sampling: Sampling
) -> list[list[int]]:
    for start in range(0, len(rows), engine.config.batch_size):
        engine._generate(rows[start : start + engine.config.batch_size], sampling)
    return [row.generated for row in rows]


def answer_with_continuous_batching(
    engine: TransformersEngine, requests: list[Request], rows: list[Generation], sampling: Sampling
) -> list[list[int]]:
    from transformers import ContinuousBatchingConfig, GenerationConfig

    options = GenerationConfig(
        max_new_tokens=sampling.max_new_tokens,
        do_sample=False,
        repetition_penalty=sampling.repetition_penalty,
        eos_token_id=sorted(engine.end_ids),
        pad_token_id=min(engine.end_ids),
    )
    made = engine.model.generate_batch(
        inputs=[row.prompt for row in rows],
        generation_config=options,
        continuous_batching_config=ContinuousBatchingConfig(),
    )
    return [made[key].generated_tokens for key in sorted(made, key=lambda key: int(key.rsplit("_", 1)[-1]))]


def clock(engine: TransformersEngine) -> float:
    if engine.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


@torch.inference_mode()
def first_differences(
    engine: TransformersEngine, rows: list[Generation], answers: list[list[int]], expected: list[list[int]]
) -> list[float]:
    """For every answer that differs, the logits' distance between the two tokens where it does, from a plain pass."""
    gaps = []
    for row, mine, other in zip(rows, answers, expected, strict=True):
        at = next((n for n, (a, b) in enumerate(zip(mine, other, strict=False)) if a != b), None)
        if at is not None:
            ids = torch.tensor([row.prompt + mine[:at]], device=engine.device)
            logits = engine.model(input_ids=ids).logits[0, -1].float()
            seen = logits[ids[0]]
            logits[ids[0]] = torch.where(seen < 0, seen * 1.1, seen / 1.1)
            gaps.append(abs(float(logits[mine[at]] - logits[other[at]])))
    return gaps


def measure_vllm(settings: argparse.Namespace) -> dict[str, Any]:
    """As `measure`, by a process of vLLM's environment."""
    folder = Path(settings.model)
    tokenizer = load_tokenizer(folder)
    end_ids = end_of_turn_ids(folder, tokenizer)
    dtype = pick_dtype(settings.dtype, torch.device("cpu"))
    asked = {
        "model": settings.model, "dtype": str(dtype).removeprefix("torch."), "batch": settings.batch,
        "max_new_tokens": settings.max_new_tokens, "repetition_penalty": 1.1, "eager": settings.vllm_eager,
        "prompts": [encode(tokenizer, request, end_ids) for request in read_prompts(settings)],
    }  # fmt: skip
    script = Path(__file__).with_name("generation_vllm.py")
    return run_process([str(settings.vllm), str(script)], dict(os.environ), json.dumps(asked)) | {"system": "vllm"}


def run_process(command: list[str], environment: dict[str, str], given: str = "") -> dict[str, Any]:
    """What a process prints after RESULT; ends with its last words if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, env=environment, input=given)
    found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not found:
        sys.exit(f"{' '.join(command[:2])} failed:\n{done.stderr[-4000:]}")
    row: dict[str, Any] = json.loads(found[0].removeprefix("RESULT "))
    tokens = sum(map(len, row["answers"]))
    return row | {"tokens": tokens, "tokens_per_second": tokens / row["seconds"]}


# --- all measurements -------------------------------------------------------------------------------------------------


def compare(settings: argparse.Namespace) -> dict[str, Any]:
    """All systems in turn, round after round, on one model. Answers are compared with those of `generate`."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in settings.systems}
    answers: dict[str, list[list[int]]] = {}
    reference = settings.out.with_suffix(".answers.json")
    for number in range(settings.rounds):
        for name in settings.systems:
            command = [sys.executable, __file__, *sys.argv[1:], "--system", name, "--model", settings.model]
            if "generate" in answers and name != "generate" and number == settings.rounds - 1:
                reference.write_text(json.dumps(answers["generate"]))
                command += ["--expected", str(reference)]
            environment = (TORCH_ENVIRONMENT if name == "lidr" else {}) | os.environ  # what `lidr` sets for itself
            row = measure_vllm(settings) if name == "vllm" else run_process(command, environment)
            answers[name] = row.pop("answers")
            rows[name].append(row)
            print(f"  {name}: {row}", file=sys.stderr, flush=True)
    reference.unlink(missing_ok=True)
    medians = {name: statistics.median(row["tokens_per_second"] for row in found) for name, found in rows.items()}
    lengths = sorted(map(len, answers["lidr"]))
    shares = [row["products_seconds"] / row["seconds"] for row in rows["lidr"] if "products_seconds" in row]
    reference_answers = answers.get("generate", answers["lidr"])
    return {
        "model": Path(settings.model).name,
        "answers": len(lengths),
        "lengths": {name: lengths[int(share * (len(lengths) - 1))] for name, share in QUANTILES.items()},
        "tokens_per_second": medians,
        "speed_up": {name: medians["lidr"] / value for name, value in medians.items() if name != "lidr"},
        "products_share": statistics.median(shares) if shares else None,
        "same_answers": {
            name: sum(a == b for a, b in zip(found, reference_answers, strict=True)) / len(found)
            for name, found in answers.items()
        },
        "measurements": rows,
    }


QUANTILES = {"p10": 0.1, "median": 0.5, "p90": 0.9, "longest": 1.0}


def table(found: dict[str, Any]) -> str:
    lengths = ", ".join(f"{name} {length}" for name, length in found["lengths"].items())
    reference = "`generate`" if "generate" in found["tokens_per_second"] else "lidr"
    lines = [
        f"{found['model']}, {found['answers']} answers, tokens: {lengths}",
        f"| | tokens/s | lidr is faster by | the same answers as {reference} |",
        "|---|---:|---:|---:|",
    ]
    for name, speed in found["tokens_per_second"].items():
        ratio = f"{found['speed_up'][name]:.2f} x" if name in found["speed_up"] else ""
        same = f"{found['same_answers'][name]:.1%}"
        lines.append(f"| {SYSTEMS[name]} | {speed:.1f} | {ratio} | {same} |")
    if found["products_share"]:
        lines.append(f"the matrix products of lidr's passes alone take {found['products_share']:.0%} of its time")
    if gaps := found["measurements"]["lidr"][-1]["gaps"]:
        lines.append(
            f"where an answer of lidr parts from that of `generate`, the two logits are {max(gaps):.2g} apart at most"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["lab"], help="`lab`, or folders of Hugging Face models")
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=["lidr", "generate"])
    parser.add_argument("--prompts", type=Path, help="JSONL, for models other than `lab`")
    parser.add_argument("--field", default="instruction", help="of its rows")
    parser.add_argument("--dtype", choices=["auto", "float32", "bfloat16"], default="auto")
    parser.add_argument("--vllm", type=Path, help="the Python of an environment that has vLLM")
    parser.add_argument("--vllm-eager", action="store_true", help="vLLM without torch.compile")
    parser.add_argument("--limit", type=int, default=64, help="prompts")
    parser.add_argument("--batch", type=int, default=16, help="requests answered at the same time")
    parser.add_argument("--max-new-tokens", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--out", type=Path, default=Path("generation.json"), help="everything measured, as JSON")
    parser.add_argument("--system", help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    parser.add_argument("--expected", type=Path, help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.system:
        return measure(settings)
    results = []
    for model in settings.models:
        settings.model = str(MODEL_PATH) if model == "lab" else model
        results.append(compare(settings))
        print(table(results[-1]), flush=True)
    skipped = ("out", "system", "model", "models", "expected", "prompts", "vllm")  # paths of one machine
    options = {key: value for key, value in vars(settings).items() if key not in skipped}
    document = {"threads": torch.get_num_threads(), "torch": torch.__version__, "settings": options, "results": results}
    settings.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
