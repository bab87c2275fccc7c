"""A server that speaks OpenAI's chat completions: an API, vLLM, llama.cpp, `transformers serve` ..."""

from __future__ import annotations

import os
import re
import shlex
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from lidr.credentials import looks_like_key
from lidr.engines.base import Engine, EnginePlugin
from lidr.engines.memory import EngineUse
from lidr.engines.openai.serving import check_command
from lidr.engines.vllm import vllm_use
from lidr.errors import ConfigError
from lidr.machine.hardware import Hardware
from lidr.machine.requirements import need_package
from lidr.models.architecture import Architecture
from lidr.records import Json
from lidr.settings import HidesValue, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Trimmed


class OpenAI(EnginePlugin):
    """A server that speaks OpenAI's chat completions: an API, vLLM, llama.cpp, `transformers serve` ..."""

    base_url: Trimmed = "https://api.openai.com/v1"
    """Where it is, usually ending in /v1; not used with `launch`."""
    launch: str | None = None
    """A command that serves a model on this machine, such as `vllm serve {model} --port {port}`; no shell reads it. It
    is started for the model that is to answer and stopped after it, so a model in training can be served, too. `$NAME`
    is filled in from the environment when it starts, which is the way to give it a key."""
    launch_timeout_s: PositiveFloat = 900.0
    """Seconds that the launched server may take until it answers."""
    prefill: Literal["auto", "continue", "instruction"] = "auto"
    """How an answer is begun for the model: `continue` lets the server continue a turn of the assistant (vLLM, SGLang),
    `instruction` asks in words for that beginning. `auto` asks the server what it is."""
    batch: bool = False
    """Send the requests through OpenAI's batch mode: cheaper, and answered within a day. A run that is interrupted
    meanwhile picks its batches up again."""
    api_key_env: Trimmed = "OPENAI_API_KEY"
    """Name of the environment variable with the key; servers of your own need none. The key itself is never stored."""
    concurrency: PositiveInt = 16
    """Requests under way at the same time."""
    timeout_s: PositiveFloat = 120.0
    """Seconds after which a request counts as failed and is sent again."""
    max_retries: NonNegativeInt = 8
    """How often a request is sent again after 429, 5xx, a timeout, a lost connection or a damaged reply."""
    extra_body: Json = Field(default_factory=dict)
    """Fields of the server's own to be sent with every request; null leaves out one that is sent by itself (`seed:
    null`), for servers that refuse it. A key goes into the environment, see `api_key_env`."""
    usd_per_million_input_tokens: NonNegativeFloat | None = None
    """The server's price of what it reads, for `lidr plan`."""
    usd_per_million_output_tokens: NonNegativeFloat | None = None
    """The server's price of what it writes, for `lidr plan`."""

    @field_validator("api_key_env")
    @classmethod
    def _is_variable(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", name) or looks_like_key(name):
            raise HidesValue(
                "the name of an environment variable is needed, such as OPENAI_API_KEY; the key itself goes into that "
                "variable"
            )
        return name

    @field_validator("base_url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
            is_url &= url.isprintable() and " " not in url and not parts.query and not parts.fragment
        except ValueError:  # a port that is not a number
            is_url = False
        if not is_url:
            raise ValueError("a URL is needed, such as http://localhost:8000/v1")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _consistent(self) -> OpenAI:
        if self.launch is not None and ("{model}" not in self.launch or "{port}" not in self.launch):
            raise ValueError("launch needs {model} and {port} in it, such as: vllm serve {model} --port {port}")
        if self.launch is not None:
            try:
                shlex.split(self.launch)
            except ValueError as error:
                raise ValueError(f"launch is no command line: {error}") from None
        if self.launch is not None and self.batch:
            raise ValueError("batch is for APIs; a server that is launched here has no batch mode")
        return self

    @property
    def server(self) -> Json | None:
        return {"base_url": self.base_url, "extra_body": self.extra_body} if self.launch is None else None

    def open(self, model: str, trust_remote_code: bool) -> Engine:
        if self.batch:
            from lidr.engines.openai.batches import BatchEngine

            return BatchEngine(model, self)
        from lidr.engines.openai.engine import OpenAIEngine

        return OpenAIEngine(model, self)

    def identity(self) -> Json:
        return {"extra_body": self.extra_body}

    def check_trainable(self) -> None:
        if self.server:
            raise ValueError(
                "engine.type openai: a model on a server can only be measured (iterations: 0); with engine.launch the "
                "model in training is served on this machine"
            )

    def check(self, field: str) -> None:
        need_package("openai", f"{field}.type openai", "openai")
        if self.launch is not None:
            check_command(shlex.split(self.launch), f"{field}.launch")
        elif "//api.openai.com" in self.base_url and not os.environ.get(self.api_key_env, "").strip():
            raise ConfigError(
                f"{field}: {self.base_url} needs a key: set the environment variable {self.api_key_env}, or name "
                "another one in api_key_env"
            )

    def at_once(self) -> int:
        return self.concurrency

    def use(self, shape: Architecture, hardware: Hardware, longest: float, mean: float) -> EngineUse:
        """The use of a launched server, which is assumed to be vLLM."""
        found = re.search(r"(?:--tensor-parallel-size|-tp)[ =](\d+)", self.launch or "")
        arguments = {"tensor_parallel_size": int(found[1])} if found else {}
        return vllm_use(arguments, shape, hardware, longest, mean, self.concurrency)

    @property
    def discount(self) -> float:
        return 0.5 if self.batch else 1.0

    def notes(self) -> list[str]:
        return ["Batch mode answers within a day; how long it waits is not in the times."] if self.batch else []

    def usd(self, read: float, written: float) -> float | None:
        if self.launch is not None:
            return 0.0
        if self.usd_per_million_input_tokens is None or self.usd_per_million_output_tokens is None:
            return None
        usd = self.usd_per_million_input_tokens * read + self.usd_per_million_output_tokens * written
        return self.discount * usd / 1e6
