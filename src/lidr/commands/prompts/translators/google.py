"""Google Cloud Translation v3, which the paper translated its prompts with; through Google's own client."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator

from lidr.commands.prompts.protect import Cut
from lidr.commands.prompts.translators.base import Offer, Piece, Translator, TranslatorPlugin
from lidr.errors import ConfigError, EngineError
from lidr.records import Json
from lidr.settings import NonNegativeFloat

# Limits of translateText (cloud.google.com/translate/quotas, 2026): 1,024 texts and 30,720 code points in a request.
MAX_TEXTS, MAX_CODE_POINTS = 1024, 30_000
# List price of the neural model beyond the free half million a month (cloud.google.com/translate/pricing, 2026).
USD_PER_MILLION_CHARACTERS = 20.0
_RETRY_S = 600.0  # a quota per minute ends after one; one per day is not worth waiting for
_CODES = {"zh": "zh-CN"}


class Google(TranslatorPlugin):
    """Google Cloud Translation v3."""

    project: str | None = None
    """The Google Cloud project; null takes GOOGLE_CLOUD_PROJECT, or that of the credentials."""
    location: str = "global"
    """Where it translates."""
    api_endpoint: str | None = None
    """Another address than Google's."""
    usd_per_million_characters: NonNegativeFloat | None = None
    """Your price; null takes the list price."""

    def open(self) -> Translator:
        return GoogleTranslator(**self.model_dump())


class GoogleTranslator:
    """Credentials are those of Google's libraries (`gcloud auth application-default login`, or
    GOOGLE_APPLICATION_CREDENTIALS); the project is GOOGLE_CLOUD_PROJECT's or the credentials' own unless it is given.

    `api_endpoint` is another address than Google's; one that begins with `http://` gets no credentials.
    """

    cuts: tuple[Cut, Cut] = ("blocks", "spans")

    def __init__(
        self,
        project: str | None = None,
        location: str = "global",
        api_endpoint: str | None = None,
        usd_per_million_characters: float | None = None,
    ) -> None:
        try:
            import google.auth
            from google.auth.credentials import AnonymousCredentials
            from google.auth.exceptions import DefaultCredentialsError
            from google.cloud import translate_v3
        except ImportError:
            raise ConfigError("--with google needs Google's client: pip install 'lidr[google]'") from None
        try:
            if api_endpoint and api_endpoint.startswith("http://"):
                credentials, own = AnonymousCredentials(), None
            else:
                credentials, own = google.auth.default()
        except DefaultCredentialsError as error:
            raise ConfigError(f"--with google: {error}") from None
        project = project or os.environ.get("GOOGLE_CLOUD_PROJECT") or own
        if not project:
            raise ConfigError("--with google needs a project: give --project or set GOOGLE_CLOUD_PROJECT")
        options = {"api_endpoint": api_endpoint} if api_endpoint else None
        self._client = translate_v3.TranslationServiceClient(
            credentials=credentials, transport="rest", client_options=options
        )
        self._parent = f"projects/{project}/locations/{location}"
        self.identity: Json = {"translator": "google", "location": location}
        given = usd_per_million_characters
        self.usd_per_million_characters: float | None = USD_PER_MILLION_CHARACTERS if given is None else given

    def translate(
        self, pieces: Iterable[Piece], source: str, target: str, retry: bool, done: Collection[str] = frozenset()
    ) -> Iterator[Offer]:
        """Raises EngineError if Google refuses, for lack of permission or a quota that is used up."""
        owed = (piece for piece in pieces if piece.key not in done)
        for batch in batches(owed, MAX_TEXTS, MAX_CODE_POINTS):
            if len(batch[0].text) > MAX_CODE_POINTS:
                yield Offer(batch[0].key, None, "too_long")
                continue
            texts = self._ask([piece.text for piece in batch], _CODES.get(source, source), _CODES.get(target, target))
            yield from (Offer(piece.key, text) for piece, text in zip(batch, texts, strict=True))

    def _ask(self, texts: list[str], source: str, target: str) -> list[str]:
        from google.api_core import exceptions
        from google.api_core.retry import Retry, if_exception_type
        from google.auth.exceptions import GoogleAuthError
        from requests.exceptions import ConnectionError as Disconnected

        passing = if_exception_type(
            exceptions.TooManyRequests, exceptions.ServerError, exceptions.RetryError, Disconnected
        )
        request = {
            "parent": self._parent, "contents": texts, "mime_type": "text/plain",
            "source_language_code": source, "target_language_code": target,
        }  # fmt: skip
        again = Retry(predicate=passing, initial=min(1.0, _RETRY_S / 4), maximum=60.0, timeout=_RETRY_S)
        try:
            answer = self._client.translate_text(request=request, retry=again, timeout=60.0)
        except GoogleAuthError as error:
            raise EngineError(
                f"Google's credentials: {error}. Renew them (gcloud auth application-default login); what was "
                "translated is kept, and the same command goes on"
            ) from error
        except (exceptions.GoogleAPICallError, exceptions.RetryError, OSError) as error:
            cause = error.cause if isinstance(error, exceptions.RetryError) and error.cause else error
            hint = "its quota is used up; " if isinstance(cause, exceptions.TooManyRequests) else ""
            raise EngineError(
                f"Google Cloud Translation: {cause}. {hint[:1].upper()}{hint[1:]}what was translated is kept; the same "
                "command goes on"
            ) from error
        found = [translation.translated_text for translation in answer.translations]
        if len(found) != len(texts):
            raise EngineError(
                f"Google Cloud Translation: {len(found)} translations came for {len(texts)} texts. What was translated "
                "before is kept; the same command goes on"
            )
        return found

    def close(self) -> None:
        self._client.transport.close()


def batches(pieces: Iterable[Piece], texts: int, code_points: int) -> Iterator[list[Piece]]:
    """Pieces in order, as many at a time as fit; one that does not fit goes alone."""
    batch: list[Piece] = []
    size = 0
    for piece in pieces:
        if batch and (len(batch) == texts or size + len(piece.text) > code_points):
            yield batch
            batch, size = [], 0
        batch.append(piece)
        size += len(piece.text)
    if batch:
        yield batch
