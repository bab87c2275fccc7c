"""vLLM in this process: it takes requests while it has room, and yields every answer when it is finished."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import count
from multiprocessing import connection
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from lidr.engines.base import Completion, Request, Sampling, Scored, ScoreRequest
from lidr.engines.encoding import encode, encode_scored, no_room, row_seed, user_turn
from lidr.engines.vllm import Vllm
from lidr.errors import EngineError
from lidr.models import end_of_turn_ids, load_tokenizer
from lidr.models.chat import TurnEnd
from lidr.records import Json

# Both are read when vLLM is imported.
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
try:
    import vllm
    from vllm import LLM, EngineArgs, SamplingParams
    from vllm.distributed import cleanup_dist_env_and_memory
    from vllm.exceptions import VLLMValidationError
    from vllm.lora.request import LoRARequest
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine.exceptions import EngineDeadError
except ImportError as error:
    raise EngineError(
        f'engine.type vllm needs one more package: pip install "lidr[vllm]" ({error}). An environment of its own is '
        "best, because vLLM comes with versions of torch and transformers of its own"
    ) from None

if TYPE_CHECKING:
    from vllm import RequestOutput
    from vllm.v1.engine.core_client import EngineCoreClient

RequestT = TypeVar("RequestT", bound=Request | ScoreRequest)
AnswerT = TypeVar("AnswerT", bound=Completion | Scored)
# Gives a request's tokens and parameters, or the answer to yield for a request that cannot be sent.
_Prepare = Callable[[RequestT], tuple[list[int], SamplingParams] | AnswerT]

# Values that differ from vLLM's defaults or must not depend on its version; engine.arguments override them.
DEFAULTS: Json = {
    "enable_prefix_caching": True,  # all translations into a language begin alike
    "generation_config": "vllm",  # sampling defaults from the model's folder would silently change the recipe
    "max_logprobs": -1,  # no limit for Sampling.top_logprobs
    "use_tqdm_on_load": False,
}
_SET_ELSEWHERE = {"model": "model.path", "trust_remote_code": "model.trust_remote_code"}
_LORA_RANKS = (8, 16, 32, 64, 128, 256, 512)  # ranks that vLLM supports


class VllmEngine:
    """A model in vLLM's offline engine, for several GPUs through its own arguments (`tensor_parallel_size` ...).

    The other requests in a batch depend on timing, so an answer may differ between runs if two tokens are almost
    equally likely. vLLM's environment variable VLLM_BATCH_INVARIANT=1 prevents that on some GPUs, but is slower. Each
    sampled answer has its own seed.
    """

    def __init__(self, folder: Path, config: Vllm, trust_remote_code: bool = False) -> None:
        arguments = _arguments(config)
        self.tokenizer = load_tokenizer(folder, trust_remote_code)
        self.end_ids = sorted(end_of_turn_ids(folder, self.tokenizer))
        self.adapter = LoRARequest("adapter", 1, config.adapter) if config.adapter else None
        self.llm = _start(folder, arguments, trust_remote_code, self.adapter)
        self.core = self.llm.llm_engine
        _watch(self.core.engine_core)
        self.context: int = self.core.model_config.max_model_len
        # As many requests wait as run, so the next step is full even if all running ones end in one step.
        self.most: int = 2 * self.core.vllm_config.scheduler_config.max_num_seqs
        self.numbers = count()  # vLLM's ids, never used twice: an earlier call may have been given up
        self.pending: dict[str, str] = {}  # vLLM's id -> request id, of the newest `generate`

    def generate(
        self, requests: Iterable[Request], sampling: Sampling, done: Collection[str] = frozenset()
    ) -> Iterator[Completion]:
        """See `Engine.generate`. A prompt that leaves no room for an answer gets its own `error`.

        `LLM.generate` needs all prompts first and returns all completions at the end, so this uses the engine below it.
        Open requests of an earlier, unfinished call are dropped.
        """

        def prepare(request: Request) -> tuple[list[int], SamplingParams] | Completion:
            tokens = encode(self.tokenizer, request, self.end_ids)
            room = self.context - len(tokens)
            if room <= 0:
                return no_room(request.request_id, len(tokens), self.context)
            return tokens, self._params(request, sampling, room)

        yield from self._drive(requests, done, prepare, lambda name, output: self._read(name, output, sampling))

    def score(self, requests: Iterable[ScoreRequest], done: Collection[str] = frozenset()) -> Iterator[Scored]:
        """See `ScoringEngine.score`. vLLM reads the answer as part of the prompt, and writes one token more."""
        lengths: dict[str, int] = {}  # request id -> tokens of the answer
        params = SamplingParams(
            max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY
        )

        def prepare(request: ScoreRequest) -> tuple[list[int], SamplingParams] | Scored:
            encoded = encode_scored(self.tokenizer, request, self.end_ids, self.context - 1)
            if isinstance(encoded, Scored):
                return encoded
            lengths[request.request_id] = len(encoded[1])
            return encoded[0] + encoded[1], params

        def read(request_id: str, output: RequestOutput) -> Scored:
            count, tokens, found = lengths.pop(request_id), output.prompt_token_ids, output.prompt_logprobs
            if found is None:
                return Scored(request_id, None, count, "vLLM gave it up")
            pairs = zip(tokens[-count:], found[-count:], strict=True)
            return Scored(request_id, sum(entry[token].logprob for token, entry in pairs), count)

        yield from self._drive(requests, done, prepare, read)

    def _drive(
        self, requests: Iterable[RequestT], done: Collection[str], prepare: _Prepare[RequestT, AnswerT],
        read: Callable[[str, RequestOutput], AnswerT],
    ) -> Iterator[AnswerT]:  # fmt: skip
        """Yield `read` of each output of vLLM as soon as it is there."""
        self._abort(self.pending)
        pending = self.pending = {}
        owed = (request for request in requests if request.request_id not in done)
        try:
            while True:
                while len(pending) < self.most and (request := next(owed, None)) is not None:
                    refused = self._add(request, prepare, pending)
                    if refused:
                        yield refused
                if not pending:
                    return
                for output in self._step():
                    request_id = pending.pop(output.request_id, None)
                    if request_id is not None:
                        yield read(request_id, output)
                if self.pending is not pending:
                    raise RuntimeError("the engine was called again before this call was finished")
        finally:
            self._abort(pending)

    def close(self) -> None:
        """Free the model and the accelerator's memory, and end vLLM's processes."""
        if self.llm is not None:
            self.core.engine_core.shutdown()
            self.llm = self.core = None
            self.pending = {}
            cleanup_dist_env_and_memory()

    def _add(self, request: RequestT, prepare: _Prepare[RequestT, AnswerT], pending: dict[str, str]) -> AnswerT | None:
        """Give a request to vLLM, or return the answer that says why it cannot be sent."""
        number = str(next(self.numbers))
        try:
            prepared = prepare(request)
            if not isinstance(prepared, tuple):
                return prepared
            prompt = {"type": "token", "prompt_token_ids": prepared[0]}
            self.core.add_request(number, prompt, prepared[1], lora_request=self.adapter)
        except (ValueError, VLLMValidationError) as error:
            raise EngineError(f"vLLM refuses request {request.request_id}: {_said(error)}") from None
        pending[number] = request.request_id
        return None

    def _params(self, request: Request, sampling: Sampling, room: int) -> SamplingParams:
        sampled, end = sampling.temperature > 0, TurnEnd(frozenset(self.end_ids))
        if request.turn == "user":
            end = user_turn(self.tokenizer, request.messages, end.ids)[1]
        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            repetition_penalty=sampling.repetition_penalty,  # over prompt and answer, as in transformers
            max_tokens=min(sampling.max_new_tokens, room),
            stop=[*sampling.stop, *end.stop],
            stop_token_ids=sorted(end.ids),
            seed=row_seed(sampling, request.request_id) if sampled else None,
            logprobs=sampling.top_logprobs or None,
            skip_special_tokens=request.turn == "assistant",
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _step(self) -> list[RequestOutput]:
        """Compute one step; returns the requests that have ended."""
        try:
            ended: list[RequestOutput] = self.core.step()
            return ended
        except EngineDeadError as error:
            raise EngineError(
                f"vLLM's process died ({_said(error)}); its own messages are above. What was answered is kept: run "
                "the same command again, with a lower engine.arguments.gpu_memory_utilization if memory ran out"
            ) from None

    def _read(self, request_id: str, output: RequestOutput, sampling: Sampling) -> Completion:
        made = output.outputs[0]
        used = len(output.prompt_token_ids), len(made.token_ids)
        if made.finish_reason not in ("stop", "length"):
            return Completion(request_id, "", "error", *used, error=f"vLLM gave it up ({made.finish_reason})")
        first: tuple[tuple[str, float], ...] = ()
        if sampling.top_logprobs and made.logprobs:
            # The drawn token is always among them, even if it is not one of the likeliest.
            ranked = sorted(made.logprobs[0].items(), key=lambda item: item[1].rank)[: sampling.top_logprobs]
            first = tuple((self.tokenizer.decode([token]), entry.logprob) for token, entry in ranked)
        stopped_by = made.stop_reason if isinstance(made.stop_reason, str) else None  # a number is an end token
        return Completion(request_id, made.text, made.finish_reason, *used, stopped_by=stopped_by, first_token=first)

    def _abort(self, pending: dict[str, str]) -> None:
        if pending and self.llm is not None:
            self.core.abort_request(list(pending))
            pending.clear()


def _arguments(config: Vllm) -> Json:
    """The engine arguments. Raises EngineError for one that vLLM does not have or that cannot be used here."""
    known = {field.name for field in dataclasses.fields(EngineArgs)}
    for name in config.arguments:
        if name in _SET_ELSEWHERE:
            raise EngineError(f"engine.arguments.{name}: set {_SET_ELSEWHERE[name]} instead")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "remove it"
            raise EngineError(f"engine.arguments.{name}: vLLM {vllm.__version__} has no such argument; {hint}")
    replicas = config.arguments.get("data_parallel_size", 1)
    if replicas != 1:
        raise EngineError(
            f"engine.arguments.data_parallel_size {replicas}: vLLM does that in several processes only. Use "
            "engine.type ray with worker.type vllm, or engine.type openai with "
            f'launch: "vllm serve {{model}} --port {{port}} --data-parallel-size {replicas}"'
        )
    lora = {"enable_lora": True, "max_lora_rank": _lora_rank(config.adapter)} if config.adapter else {}
    return DEFAULTS | lora | config.arguments


def _lora_rank(adapter: str) -> int:
    """The smallest rank of vLLM that is enough for the adapter."""
    file = Path(adapter) / "adapter_config.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        rank = max([found["r"], *(found.get("rank_pattern") or {}).values()])
    except (OSError, ValueError, KeyError) as error:
        raise EngineError(
            f"engine.adapter {adapter}: not the folder of a LoRA adapter as PEFT saves it ({file.name}: {error!r})"
        ) from None
    return next((size for size in _LORA_RANKS if size >= rank), rank)


def _start(folder: Path, arguments: Json, trust_remote_code: bool, adapter: LoRARequest | None) -> LLM:
    """vLLM with the model and the adapter. Raises EngineError with vLLM's reason if it does not start."""
    llm = None
    try:
        llm = LLM(model=str(folder), trust_remote_code=trust_remote_code, **arguments)
        if adapter:
            llm.llm_engine.add_lora(adapter)  # now, because otherwise its errors come with the first request
    except Exception as error:  # every layer of vLLM raises its own errors
        if llm is not None:
            llm.llm_engine.engine_core.shutdown()
        cleanup_dist_env_and_memory()
        given = ", ".join(f"{name}={value!r}" for name, value in arguments.items() if name not in DEFAULTS)
        raise EngineError(
            f"vLLM {vllm.__version__} does not start with {folder} and engine.arguments ({given or 'none'}): "
            f"{_said(error)}"
        ) from error
    return llm


def _watch(client: EngineCoreClient) -> None:
    """End the wait for answers if vLLM's process is killed, for example by the kernel because memory runs out.

    vLLM 0.32 notices it, but its offline engine waits forever.
    """
    manager = getattr(getattr(client, "resources", None), "engine_manager", None)
    if manager is None:  # vLLM computes in this process
        return

    def watch() -> None:
        connection.wait(manager.sentinels())
        client.outputs_queue.put(EngineDeadError())

    threading.Thread(target=watch, daemon=True).start()


def _said(error: Exception) -> str:
    """An error's message on one line; for pydantic's errors without the list of all arguments."""
    text = "; ".join(problem["msg"] for problem in error.errors()) if isinstance(error, ValidationError) else str(error)
    return " ".join(text.split())[:1000] or type(error).__name__
