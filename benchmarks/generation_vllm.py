"""vLLM's part of `generation.py --vllm PYTHON`: runs in an environment of its own, where lidr is not installed.

Reads {"model", "dtype", "prompts": token ids, "batch", "max_new_tokens", "repetition_penalty"} from standard input.
"""

from __future__ import annotations

import json
import os
import sys
import time

SETTINGS = {
    "VLLM_CPU_KVCACHE_SPACE": "4",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
}


def main() -> None:
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    from vllm import LLM, SamplingParams

    asked = json.load(sys.stdin)
    engine = LLM(
        model=asked["model"],
        dtype=asked["dtype"],
        max_num_seqs=asked["batch"],
        max_model_len=max(map(len, asked["prompts"])) + asked["max_new_tokens"] + 1,
        enforce_eager=asked["eager"],
        enable_prefix_caching=False,  # the prompts' own beginnings are alike
    )
    prompts = [{"prompt_token_ids": ids} for ids in asked["prompts"]]
    options = {"temperature": 0.0, "repetition_penalty": asked["repetition_penalty"]}
    engine.generate(prompts[:2], SamplingParams(max_tokens=2, **options), use_tqdm=False)
    started = time.perf_counter()
    outputs = engine.generate(prompts, SamplingParams(max_tokens=asked["max_new_tokens"], **options), use_tqdm=False)
    seconds = time.perf_counter() - started
    answers = [list(output.outputs[0].token_ids) for output in outputs]
    print("RESULT " + json.dumps({"seconds": seconds, "answers": answers}))


if __name__ == "__main__":
    main()
