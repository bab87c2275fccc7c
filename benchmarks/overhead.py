"""What lidr's engines add to the calls that they make: vLLM against `LLM.generate`, a server against the openai client.

    python benchmarks/overhead.py vllm --model SmolLM2-135M-Instruct --out overhead_vllm.json
    python benchmarks/overhead.py server --out overhead_server.json
    python benchmarks/overhead.py server --url http://localhost:8000/v1 --model NAME --out overhead_server.json

The two ways take turns in one process, with the same prompts, greedy, the same number of new tokens; medians over the
rounds are compared. Both render the chat template and tokenise within the time, as any caller has to. Prompts are made
here, and begin differently each time, so that no prefix cache holds them. Without `--url`, the server is a small one
that answers after `--latency` seconds: what is measured is the client alone, and a real server hides more of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lidr.engines.base import Request, Sampling
from lidr.engines.openai import OpenAI
from lidr.engines.vllm import Vllm
from lidr.lab import MODEL_PATH

Way = Callable[[list[Request]], int]  # answers requests; how many tokens (vllm) or answers (server) came back
WORDS = [
    "river",
    "stone",
    "letter",
    "garden",
    "music",
    "window",
    "horse",
    "bread",
    "winter",
    "paper",
    "market",
    "story",
]


def make_prompts(count: int, number: int, way: str) -> list[Request]:
    """Requests of 10 to 60 words, the same for both ways of a round but for what they begin with."""
    draw = random.Random(number)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(10, 60))) for _ in range(count)]
    return [Request(f"{number:08x}{n:08x}", (("user", f"{n} {way} {number}: {text}"),)) for n, text in enumerate(texts)]


def turns(request: Request) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in request.messages]


@contextmanager
def vllm_ways(settings: argparse.Namespace) -> Iterator[dict[str, Way]]:
    """One vLLM, driven by `VllmEngine` or by `LLM.generate`."""
    from lidr.engines.vllm.engine import VllmEngine  # before vllm, whose logging it makes quiet

    sampling = Sampling(settings.max_new_tokens)
    engine = VllmEngine(Path(settings.model), Vllm(arguments=settings.arguments))
    from vllm import SamplingParams

    params = SamplingParams(
        temperature=0,
        max_tokens=settings.max_new_tokens,
        stop_token_ids=engine.end_ids,
    )

    def direct(requests: list[Request]) -> int:
        texts = [
            engine.tokenizer.apply_chat_template(turns(request), tokenize=False, add_generation_prompt=True)
            for request in requests
        ]
        prompts = [{"prompt_token_ids": ids} for ids in engine.tokenizer(texts, add_special_tokens=False)["input_ids"]]
        made = engine.llm.generate(prompts, params, use_tqdm=False)
        return sum(len(output.outputs[0].token_ids) for output in made)

    def lidr(requests: list[Request]) -> int:
        return sum(completion.completion_tokens for completion in engine.generate(requests, sampling))

    try:
        yield {"lidr": lidr, "direct": direct}
    finally:
        engine.close()


@contextmanager
def server_ways(settings: argparse.Namespace) -> Iterator[dict[str, Way]]:
    """One server, asked by `OpenAIEngine` or by the official client, as many requests at a time."""
    from openai import AsyncOpenAI

    from lidr.engines.openai.engine import OpenAIEngine

    with small_server(settings.latency) if settings.url is None else existing(settings.url) as url:
        config = OpenAI(base_url=url, concurrency=settings.concurrency)
        engine = OpenAIEngine(settings.model, config)
        sampling = Sampling(settings.max_new_tokens)

        async def ask_all(requests: list[Request]) -> int:
            remaining = iter(requests)
            async with AsyncOpenAI(api_key=engine.key, base_url=url, max_retries=0) as client:

                async def ask() -> int:
                    answered = 0
                    for request in remaining:
                        reply = await client.chat.completions.create(
                            model=settings.model,
                            messages=turns(request),  # type: ignore[arg-type]
                            temperature=0,
                            top_p=1,
                            seed=sampling.seed,
                            max_tokens=settings.max_new_tokens,
                        )
                        answered += reply.choices[0].message.content is not None
                    return answered

                return sum(await asyncio.gather(*(ask() for _ in range(settings.concurrency))))

        def lidr(requests: list[Request]) -> int:
            return sum(completion.error is None for completion in engine.generate(requests, sampling))

        yield {"lidr": lidr, "direct": lambda requests: asyncio.run(ask_all(requests))}
        engine.close()


@contextmanager
def existing(url: str) -> Iterator[str]:
    yield url


@contextmanager
def small_server(latency_s: float) -> Iterator[str]:
    """The tests' server in a process of its own, so that it shares no interpreter with the clients."""
    code = (
        "import sys; from tests.openai_server import Faults, TestServer\n"
        f"with TestServer(faults=Faults(slow=1.0, slow_s={latency_s})) as server:\n"
        "    print(server.base_url, flush=True); sys.stdin.read()"
    )
    root = Path(__file__).parent.parent
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stdin
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


def measure(ways: dict[str, Way], settings: argparse.Namespace) -> list[dict[str, Any]]:
    """Seconds and what came back, of every way in every round; who begins alternates. The first round is not kept."""
    rows = []
    for number in range(settings.rounds + 1):
        order = list(ways) if number % 2 else list(reversed(ways))
        for name in order:
            requests = make_prompts(settings.prompts, number, name)
            started = time.perf_counter()
            answers = ways[name](requests)
            seconds = time.perf_counter() - started
            if number:
                rows.append({"round": number, "way": name, "seconds": seconds, "answers": answers})
                print(f"  {rows[-1]}", file=sys.stderr, flush=True)
    return rows


def compare(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of the time per token or answer, and the ratio of lidr's to the direct calls'."""
    medians = {
        name: statistics.median(row["seconds"] / row["answers"] for row in rows if row["way"] == name)
        for name in ("lidr", "direct")
    }
    return {"seconds_per_answer": medians, "overhead": medians["lidr"] / medians["direct"] - 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["vllm", "server"])
    parser.add_argument("--model", default=str(MODEL_PATH), help="folder of the model, or the server's name for it")
    parser.add_argument("--arguments", type=json.loads, default={}, help="vLLM's engine arguments, as JSON")
    parser.add_argument("--url", help="of a server that runs already")
    parser.add_argument("--latency", type=float, default=0.5, help="seconds to an answer of the small server")
    parser.add_argument("--concurrency", type=int, default=32, help="requests at a time, for a server")
    parser.add_argument("--prompts", type=int, default=256, help="of one measurement")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("overhead.json"), help="everything measured, as JSON")
    settings = parser.parse_args()
    with (vllm_ways if settings.what == "vllm" else server_ways)(settings) as ways:
        rows = measure(ways, settings)
    found = compare(rows)
    unit = "token" if settings.what == "vllm" else "answer"
    times = ", ".join(f"{name} {1000 * seconds:.3f} ms" for name, seconds in found["seconds_per_answer"].items())
    print(f"{settings.what}: per {unit} {times}; overhead {found['overhead']:+.1%}")
    options = {name: str(value) for name, value in vars(settings).items() if name != "out"}
    document = {"settings": options, **found, "measurements": rows}
    settings.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
