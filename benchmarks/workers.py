"""How much faster two workers of the ray engine answer than one, with one CPU core each.

    python benchmarks/workers.py --models lab /path/to/SmolLM2-135M-Instruct --out workers.json

One worker and two are open at the same time and take turns, and medians are reported. Loading is not timed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import ray

from lidr.cli import TORCH_ENVIRONMENT
from lidr.config import RayConfig, TransformersConfig
from lidr.engines import Engine, Request, Sampling, open_model
from lidr.lab import MODEL_PATH

TOPICS = ["a river", "the number seven", "bread", "a long journey", "winter", "music", "an old friend", "glass"]
ASKS = ["Write one sentence about {}.", "Name three things that go with {}.", "Tell a story about {}.", "What is {}?"]


def make_requests(count: int, seed: int = 0) -> list[Request]:
    """Short questions in a fixed order, some after a paragraph of text."""
    rng = random.Random(seed)
    requests = []
    for number in range(count):
        question = rng.choice(ASKS).format(rng.choice(TOPICS))
        context = " ".join(f"There was once {rng.choice(TOPICS)}." for _ in range(rng.choice([0, 0, 5, 15])))
        requests.append(Request(f"{number:016x}", (("user", f"{context} {question}".strip()),)))
    return requests


def measure(engine: Engine, requests: list[Request], sampling: Sampling) -> dict[str, Any]:
    started = time.perf_counter()
    completions = list(engine.generate(requests, sampling))
    seconds = time.perf_counter() - started
    assert len(completions) == len(requests)
    tokens = sum(completion.completion_tokens for completion in completions)
    return {"seconds": seconds, "tokens": tokens, "tokens_per_second": tokens / seconds}


def compare(settings: argparse.Namespace, model: Path) -> dict[str, Any]:
    """One worker and two in turn, round after round; the first calls are not counted."""
    requests = make_requests(settings.requests)
    sampling = Sampling(settings.max_new_tokens, repetition_penalty=1.1)
    worker = TransformersConfig(device="cpu", batch_size=settings.batch)
    rows: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
    with ExitStack() as stack:
        engines = {
            workers: stack.enter_context(
                open_model(RayConfig(type="ray", worker=worker, workers=workers, gpus_per_worker=0), str(model))
            )
            for workers in rows
        }
        for engine in engines.values():
            measure(engine, requests[: 2 * settings.batch], sampling)
        for _ in range(settings.rounds):
            for workers, engine in engines.items():
                rows[workers].append(measure(engine, requests, sampling))
                print(f"  {workers} workers: {rows[workers][-1]}", file=sys.stderr, flush=True)
    medians = {workers: statistics.median(row["tokens_per_second"] for row in found) for workers, found in rows.items()}
    return {
        "model": "lab" if model == MODEL_PATH else model.name,
        "tokens_per_second": medians,
        "speed_up": medians[2] / medians[1],
        "measurements": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["lab"], help="`lab`, or folders of Hugging Face models")
    parser.add_argument("--requests", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8, help="requests that a worker answers at the same time")
    parser.add_argument("--max-new-tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write everything measured as JSON")
    settings = parser.parse_args()
    os.environ.update(TORCH_ENVIRONMENT | {"RAY_USAGE_STATS_ENABLED": "0"})
    # A core more than are used: the workers of the engine whose turn it is not are idle.
    ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    results = []
    for name in settings.models:
        found = compare(settings, MODEL_PATH if name == "lab" else Path(name).resolve())
        one, two = found["tokens_per_second"].values()
        speed_up = f"{found['speed_up']:.2f} x"
        print(f"{found['model']}: {one:.1f} tokens/s, with two workers {two:.1f}: {speed_up}", flush=True)
        results.append(found)
    if settings.out:
        options = {key: value for key, value in vars(settings).items() if key != "out"}
        document = {"cores": os.cpu_count(), "ray": ray.__version__, "settings": options, "results": results}
        settings.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
