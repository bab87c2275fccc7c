"""How much faster two workers of the ray engine answer than one, with one CPU core each.

    python benchmarks/workers.py --models lab /path/to/SmolLM2-135M-Instruct --out workers.json

One worker and two are open at the same time and take turns, and medians are reported. Loading is not timed. Two plain
processes, which halve the requests between them without Ray, take their turn too: they tell what the machine gives,
since two cores share its memory.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import ray

from lidr.engines import Engine, Request, Sampling, open_model
from lidr.engines.ray import Ray
from lidr.engines.transformers import Transformers
from lidr.lab import MODEL_PATH
from lidr.machine.torch_environment import TORCH_ENVIRONMENT

Answer = Callable[[list[Request], Sampling], int]  # answers requests; how many tokens it wrote
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


def answer(engine: Engine, requests: list[Request], sampling: Sampling) -> int:
    """The number of tokens written."""
    completions = list(engine.generate(requests, sampling))
    assert len(completions) == len(requests)
    return sum(completion.completion_tokens for completion in completions)


def serve(connection: Connection, worker: Transformers, model: str) -> None:
    """What a plain process runs: it answers lists of requests until it is sent None."""
    with open_model(worker, model) as engine:
        while (asked := connection.recv()) is not None:
            connection.send(answer(engine, *asked))


@contextmanager
def plain_processes(worker: Transformers, model: str) -> Iterator[Answer]:
    """Two processes of one core each, with every other request."""
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    connections, processes = [], []
    for _ in range(2):
        here, there = context.Pipe()
        connections.append(here)
        processes.append(context.Process(target=serve, args=(there, worker, model)))
        processes[-1].start()

    def answer_all(requests: list[Request], sampling: Sampling) -> int:
        for number, connection in enumerate(connections):
            connection.send((requests[number::2], sampling))
        return sum(connection.recv() for connection in connections)

    try:
        yield answer_all
    finally:
        for connection, process in zip(connections, processes, strict=True):
            connection.send(None)
            process.join()


@contextmanager
def ray_workers(worker: Transformers, model: str, workers: int) -> Iterator[Answer]:
    config = Ray(worker=worker, workers=workers, gpus_per_worker=0)
    with open_model(config, model) as engine:
        yield lambda requests, sampling: answer(engine, requests, sampling)


def measure(way: Answer, requests: list[Request], sampling: Sampling) -> dict[str, Any]:
    started = time.perf_counter()
    tokens = way(requests, sampling)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "tokens": tokens, "tokens_per_second": tokens / seconds}


def compare(settings: argparse.Namespace, model: Path) -> dict[str, Any]:
    """All in turn, round after round; the first calls are not counted."""
    requests = make_requests(settings.requests)
    sampling = Sampling(settings.max_new_tokens, repetition_penalty=1.1)
    worker = Transformers(device="cpu", batch_size=settings.batch)
    with ExitStack() as stack:
        ways = {
            "1 worker": stack.enter_context(ray_workers(worker, str(model), 1)),
            "2 workers": stack.enter_context(ray_workers(worker, str(model), 2)),
            "2 processes": stack.enter_context(plain_processes(worker, str(model))),
        }
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
        for way in ways.values():
            measure(way, requests[: 2 * settings.batch], sampling)
        for _ in range(settings.rounds):
            for name, way in ways.items():
                rows[name].append(measure(way, requests, sampling))
                print(f"  {name}: {rows[name][-1]}", file=sys.stderr, flush=True)
    medians = {name: statistics.median(row["tokens_per_second"] for row in found) for name, found in rows.items()}
    return {
        "model": "lab" if model == MODEL_PATH else model.name,
        "tokens_per_second": medians,
        "speed_up": {name: rate / medians["1 worker"] for name, rate in medians.items()},
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
        rates = (f"{name} {rate:.1f}" for name, rate in found["tokens_per_second"].items())
        speed_up = found["speed_up"]
        print(
            f"{found['model']}: {', '.join(rates)} tokens/s; two workers {speed_up['2 workers']:.2f} x one, two plain "
            f"processes {speed_up['2 processes']:.2f} x",
            flush=True,
        )
        results.append(found)
    if settings.out:
        options = {key: value for key, value in vars(settings).items() if key != "out"}
        document = {"cores": os.cpu_count(), "ray": ray.__version__, "settings": options, "results": results}
        settings.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
