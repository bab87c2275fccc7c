"""Translation models that run offline: NLLB-200, M2M-100, MADLAD-400 and OPUS-MT, in transformers or CTranslate2.

They are made for single sentences, so a line is cut into its sentences. A model's kind is recognised by how its
vocabulary names the languages.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lidr.commands.prompts.protect import Cut
from lidr.commands.prompts.translators.base import Offer, Piece, Translator, TranslatorPlugin
from lidr.config import ModelConfig
from lidr.errors import ConfigError
from lidr.languages import get_language
from lidr.models import find_model, fingerprint
from lidr.models.files import check_weights
from lidr.records import Json
from lidr.settings import PathText
from lidr.storage import hash_file

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Family = Literal["nllb", "m2m100", "madlad", "marian"]

# FLORES-200's codes that are not ISO 639-3's: it names the individual language of a macrolanguage.
_FLORES = {"zh": "zho_Hans", "ja": "jpn_Jpan", "ko": "kor_Hang", "ar": "arb_Arab", "sw": "swh_Latn", "fa": "pes_Arab",
           "et": "est_Latn"}  # fmt: skip
_ISO15924 = {"Latin": "Latn", "Cyrillic": "Cyrl", "Greek": "Grek", "Hebrew": "Hebr", "Arabic": "Arab", "Thai": "Thai",
             "Devanagari": "Deva", "Bengali": "Beng", "Gujarati": "Gujr", "Gurmukhi": "Guru", "Tamil": "Taml",
             "Telugu": "Telu", "Kannada": "Knda", "Malayalam": "Mlym"}  # fmt: skip
_SENTENCES = re.compile(r"(?<=[.!?…])(\s+)|(?<=[。！？।])(\s*)(?=.)")
_PIECES_AT_A_TIME = 512  # sentences of so many pieces are batched by length
_MAX_TOKENS = 512  # of a sentence and of its translation; OPUS-MT has no positions for more
_MADLAD = {"he": "iw"}


def flores_code(code: str) -> str:
    """NLLB's name of a language, such as `spa_Latn`."""
    language = get_language(code)
    return _FLORES.get(code) or f"{language.iso3}_{_ISO15924[language.script]}"


def split_sentences(text: str) -> list[str]:
    """Sentences at even places, what is between them at odd ones; joined they are the text."""
    parts, end = [], 0
    for gap in _SENTENCES.finditer(text):
        parts += [text[end : gap.start()], gap[0]]
        end = gap.end()
    return [*parts, text[end:]]


class Seq2Seq(TranslatorPlugin):
    """NLLB, M2M-100, MADLAD and OPUS-MT in transformers."""

    model: PathText
    """Its folder or hub id."""

    def open(self) -> Translator:
        return Seq2SeqTranslator(self.model)


class Seq2SeqTranslator:
    """A model folder (or hub id) of transformers; `backend: ctranslate2` takes one that CTranslate2 has converted.

    A converted folder needs the model's tokenizer files beside it (`--copy_files` of the converter).
    """

    cuts: tuple[Cut, Cut] = ("lines", "spans")
    usd_per_million_characters: float | None = None

    def __init__(
        self, model: str, backend: Literal["transformers", "ctranslate2"] = "transformers", batch_size: int = 32
    ) -> None:
        from transformers import AutoTokenizer

        folder = find_model(ModelConfig(path=model))
        try:
            self._tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
        except ImportError as error:  # OPUS-MT's needs sentencepiece
            raise ConfigError(f"{folder}: its tokenizer needs another package: {error}") from None
        except (OSError, ValueError) as error:
            said = " ".join(str(error).split())[:200]
            raise ConfigError(
                f"{folder}: no readable tokenizer: {said}; put the model's tokenizer files there (a converted model: "
                "ct2-transformers-converter --copy_files tokenizer.json tokenizer_config.json)"
            ) from None
        self.family = _family(folder, self._tokenizer)
        # A text that holds `</s>` or the name of a language stays text. MADLAD reads the language from the text.
        self._tokenizer.split_special_tokens = self.family != "madlad"
        self._batch_size = batch_size
        self._decode = _TransformersDecoder(folder) if backend == "transformers" else _CTranslate2Decoder(folder, self)
        weights = hash_file(folder / "model.bin") if backend == "ctranslate2" else fingerprint(folder)
        self.identity: Json = {"translator": "seq2seq", "model": weights, "backend": backend}

    def translate(
        self, pieces: Iterable[Piece], source: str, target: str, retry: bool, done: Collection[str] = frozenset()
    ) -> Iterator[Offer]:
        """A sentence of more than 512 tokens is "too_long"; a translation that does not end is "cut_off"."""
        waiting = iter(pieces)
        while chunk := list(islice(waiting, _PIECES_AT_A_TIME)):
            cut = {piece.key: split_sentences(piece.text) for piece in chunk}
            owed = {key: parts for key, parts in cut.items() if key not in done}
            wanted = _sentences(owed)
            found: dict[str, str | None] = {}
            ordered = sorted(_sentences(cut), key=lambda sentence: (len(sentence), sentence))
            for start in range(0, len(ordered), self._batch_size):
                batch = ordered[start : start + self._batch_size]
                if not wanted.isdisjoint(batch):
                    found |= self._batch(batch, source, target)
            for key, parts in owed.items():
                yield self._offer(key, parts, found)

    def _offer(self, key: str, parts: list[str], found: dict[str, str | None]) -> Offer:
        texts = [found.get(part, part) if place % 2 == 0 else part for place, part in enumerate(parts)]
        whole = [text for text in texts if text is not None]
        if len(whole) == len(texts):
            return Offer(key, "".join(whole))
        lost = [part for part, text in zip(parts, texts, strict=True) if text is None]
        return Offer(key, None, "too_long" if any(self._tokens(part) > _MAX_TOKENS for part in lost) else "cut_off")

    def _batch(self, sentences: list[str], source: str, target: str) -> dict[str, str | None]:
        """Translations by sentence; None for one that is too long or whose translation did not end."""
        prefix, first = self._target(source, target)
        asked = {sentence: prefix + sentence for sentence in sentences}
        fitting = [sentence for sentence, text in asked.items() if self._tokens(text) <= _MAX_TOKENS]
        found: dict[str, str | None] = dict.fromkeys(sentences)
        if fitting:
            texts = self._decode(self._tokenizer, [asked[sentence] for sentence in fitting], first)
            found |= {s: text and text.strip() for s, text in zip(fitting, texts, strict=True)}
        return found

    def _tokens(self, text: str) -> int:
        return len(self._tokenizer(text)["input_ids"])

    def _target(self, source: str, target: str) -> tuple[str, int | None]:
        """(prefix of the text, first token): one of them names the target language to the model.

        Neither does for OPUS models with one target language. Raises ConfigError for one that the model does not know.
        """
        if self.family == "marian":
            known = getattr(self._tokenizer, "supported_language_codes", [])
            codes = (target, get_language(target).iso3, flores_code(target).split("_")[0], {"zh": "cmn"}.get(target))
            name = next((code for code in known if code.strip("<>").split("_")[0] in codes), None)
            if known and name is None:
                raise ConfigError(f"this model does not translate into {target}; it has {', '.join(known)}")
            return (f"{name} " if name else ""), None
        if self.family == "nllb":
            self._tokenizer.src_lang, name = flores_code(source), flores_code(target)
        elif self.family == "m2m100":
            self._tokenizer.src_lang, name = source, f"__{target}__"
        else:
            name = f"<2{_MADLAD.get(target, target)}>"
        token: int | None = self._tokenizer.convert_tokens_to_ids(name)
        if token in (None, self._tokenizer.unk_token_id):
            raise ConfigError(f"this model does not know the language {name}")
        return (f"{name} ", None) if self.family == "madlad" else ("", token)

    def close(self) -> None:
        self._decode = None  # type: ignore[assignment]


def _family(folder: Path, tokenizer: PreTrainedTokenizerBase) -> Family:
    vocabulary = tokenizer.get_vocab()
    names: dict[str, Family] = {"<2es>": "madlad", "spa_Latn": "nllb", "__es__": "m2m100"}
    found = next((family for name, family in names.items() if name in vocabulary), None)
    if found or "marian" in type(tokenizer).__name__.lower():
        return found or "marian"
    raise ConfigError(
        f"{folder}: no translation model that lidr knows; it takes NLLB-200, M2M-100, MADLAD-400 and OPUS-MT (for a "
        "chat model: --with model)"
    )


def _sentences(cut: dict[str, list[str]]) -> set[str]:
    return {sentence for parts in cut.values() for sentence in parts[0::2] if sentence.strip()}


def _longest(tokens: int) -> int:
    """The limit of a translation in tokens, so that one that loops ends."""
    return min(_MAX_TOKENS, 2 * tokens + 32)


class _TransformersDecoder:
    """Beam search with four beams, as these models were evaluated. A text that did not end is None."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForSeq2SeqLM

        device = "cuda" if torch.cuda.is_available() else "cpu"
        check_weights(folder, str(folder))
        self.model = AutoModelForSeq2SeqLM.from_pretrained(folder, use_safetensors=True).to(device).eval()

    def __call__(
        self, tokenizer: PreTrainedTokenizerBase, texts: list[str], first_token: int | None
    ) -> list[str | None]:
        import torch

        inputs = tokenizer(texts, return_tensors="pt", padding=True)
        inputs = {name: inputs[name].to(self.model.device) for name in ("input_ids", "attention_mask")}
        forced = {} if first_token is None else {"forced_bos_token_id": first_token}
        limit = _longest(inputs["input_ids"].shape[1])
        with torch.inference_mode():
            found = self.model.generate(**inputs, num_beams=4, max_new_tokens=limit, **forced)
        decoded = tokenizer.batch_decode(found, skip_special_tokens=True)
        # NLLB's decoder begins with the end token, and OPUS-MT is made to put it last if the limit is reached.
        ended = (found[:, 1:limit] == tokenizer.eos_token_id).any(dim=1).tolist()
        return [text if whole else None for text, whole in zip(decoded, ended, strict=True)]


class _CTranslate2Decoder:
    """The same search in CTranslate2, which takes and gives the tokenizer's tokens."""

    def __init__(self, folder: Path, translator: Seq2SeqTranslator) -> None:
        try:
            import ctranslate2
        except ImportError:
            raise ConfigError("--with ctranslate2 needs it: pip install 'lidr[ctranslate2]'") from None
        if not (folder / "model.bin").exists():
            raise ConfigError(f"{folder}: no model.bin; convert the model first (ct2-transformers-converter)")
        self.model = ctranslate2.Translator(str(folder), device="auto")

    def __call__(
        self, tokenizer: PreTrainedTokenizerBase, texts: list[str], first_token: int | None
    ) -> list[str | None]:
        tokens = [tokenizer.convert_ids_to_tokens(ids) for ids in tokenizer(texts)["input_ids"]]
        prefix = None if first_token is None else [[tokenizer.convert_ids_to_tokens(first_token)]] * len(texts)
        found = self.model.translate_batch(
            tokens,
            target_prefix=prefix,
            beam_size=4,
            max_decoding_length=_longest(max(map(len, tokens))),
            return_end_token=True,
        )
        best = [result.hypotheses[0] for result in found]
        decoded = tokenizer.batch_decode(list(map(tokenizer.convert_tokens_to_ids, best)), skip_special_tokens=True)
        return [
            text if tokenizer.eos_token in hypothesis else None for text, hypothesis in zip(decoded, best, strict=True)
        ]
