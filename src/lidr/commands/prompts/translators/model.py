"""A language model as the translator: the one that is to be trained, or any other behind one of lidr's engines."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from functools import cached_property

from pydantic import Field

from lidr.commands.prompts.protect import Cut
from lidr.commands.prompts.translators.base import Offer, Piece, Translator, TranslatorPlugin
from lidr.config import EngineConfig, ModelConfig
from lidr.engine_settings import EngineSettings, engine_identity
from lidr.engines import Engine, Request, Sampling, open_model
from lidr.languages import get_language
from lidr.models import resolve_model
from lidr.records import Json
from lidr.settings import PathText, PositiveInt
from lidr.stages.translations import parse_translation
from lidr.storage import cache_folder
from lidr.strategies.translating import PREFILL, STOP
from lidr.templates import fill_template, read_template

SYSTEM = "You are a helpful assistant."


class OpenedModel:
    """A model behind one of lidr's engines, which is opened when it is first asked.

    `model.path` is a Hugging Face folder, a hub id, a GGUF file or `lab`, or a served model's name. `identity` is all
    that shapes its texts, but for the requests and the decoding.
    """

    def __init__(self, settings: EngineSettings, model: ModelConfig) -> None:
        self._settings, self._stack, self._trusted = settings, ExitStack(), model.trust_remote_code
        if settings.server:
            self._name = model.path
            self.identity: Json = settings.server | {"model": model.path}
        else:
            cache_folder().mkdir(parents=True, exist_ok=True)
            folder, fingerprint = resolve_model(model, cache_folder() / "fingerprints.json")
            self._name = str(folder)
            self.identity = {"model": fingerprint} | engine_identity(settings)

    @cached_property
    def engine(self) -> Engine:
        return self._stack.enter_context(open_model(self._settings, self._name, self._trusted))

    def close(self) -> None:
        self._stack.close()


class Model(TranslatorPlugin):
    """Any language model, asked with the prompt of a run's own translations."""

    model: PathText
    """A folder, a hub id, a GGUF file, or the name on a server."""
    engine: EngineConfig = Field(default="transformers")  # type: ignore[assignment]
    """What runs it."""
    max_new_tokens: PositiveInt = 2048
    """Longest translation of a piece, in tokens."""

    def open(self) -> Translator:
        return EngineTranslator(OpenedModel(self.engine, ModelConfig(path=self.model)), self.max_new_tokens)


class EngineTranslator:
    """The tag protocol of a run's own translations, greedy; a retry names what must be copied."""

    cuts: tuple[Cut, Cut] = ("whole", "paragraphs")
    usd_per_million_characters: float | None = None  # servers charge by the token

    def __init__(self, model: OpenedModel, max_new_tokens: int = 2048, system: str | None = SYSTEM) -> None:
        self._model, self._system = model, system
        self._sampling = Sampling(max_new_tokens=max_new_tokens, stop=(STOP,))
        templates = [read_template("translate"), read_template("translate_strict"), PREFILL, STOP, system]
        self.identity: Json = {**model.identity, "templates": templates, "sampling": self._sampling.as_dict()}

    def translate(
        self, pieces: Iterable[Piece], source: str, target: str, retry: bool, done: Collection[str] = frozenset()
    ) -> Iterator[Offer]:
        requests = (self._request(piece, get_language(target).name, retry) for piece in pieces)
        for completion in self._model.engine.generate(requests, self._sampling, done):
            if completion.request_id not in done:
                found = parse_translation(completion)
                passing = completion.finish_reason == "error"
                yield Offer(completion.request_id, found["text"], found["failure"] or "", passing)

    def _request(self, piece: Piece, language: str, retry: bool) -> Request:
        values = {"language": language, "text": piece.text}
        if retry:
            kept = "\n".join(piece.keep) or "names"
            content = fill_template(read_template("translate_strict"), keep=kept, **values)
        else:
            content = fill_template(read_template("translate"), **values)
        turns = (("system", self._system), ("user", content)) if self._system else (("user", content),)
        return Request(piece.key, turns, prefill=PREFILL)

    def close(self) -> None:
        self._model.close()
