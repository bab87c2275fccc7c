"""Translation models offline: tiny ones that know a few phrases by heart, so that the whole path runs.

Of the quality of real models this says nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from lidr.commands.prompts.translators.base import Offer, Piece
from lidr.commands.prompts.translators.google import batches
from lidr.commands.prompts.translators.model import EngineTranslator, OpenedModel
from lidr.commands.prompts.translators.seq2seq import Seq2SeqTranslator, flores_code, split_sentences
from lidr.config import ModelConfig
from lidr.engines.base import Completion, Sampling
from lidr.engines.openai import OpenAI
from lidr.errors import ConfigError
from lidr.languages import LANGUAGES

LETTERS = [chr(code) for code in range(33, 127)]
SMALL: dict[str, Any] = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
         "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "dropout": 0.0,
         "attention_dropout": 0.0, "activation_dropout": 0.0, "encoder_layerdrop": 0.0,
         "decoder_layerdrop": 0.0}  # fmt: skip
# What the tiny models learn by heart.
PHRASES = {"es": {"Is it red?": "Es rojo?", "No.": "Nada.", "Blue": "Azul"}, "de": {"Blue": "Blau"}}


Examples = list[tuple[list[int], list[int]]]  # token ids of sources and targets


def save_taught(build: Callable[[], Any], examples: Examples, pad: int, folder: Path) -> None:
    """Train a model until it knows the examples, from one seed after the other: a few of them get stuck."""
    import torch

    for seed in range(8):
        torch.manual_seed(seed)
        model = build()
        if teach(model, examples, pad):
            model.save_pretrained(folder)
            return
    raise AssertionError("the model did not learn its phrases")


def teach(model: Any, examples: Examples, pad: int) -> bool:
    """Whether it became sure of every token of the targets, but for the first, which may be a language's."""
    import torch

    def padded(rows: list[list[int]], filler: int) -> Any:
        width = max(map(len, rows))
        return torch.tensor([row + [filler] * (width - len(row)) for row in rows])

    sources = padded([source for source, _ in examples], pad)
    inputs = {"input_ids": sources, "attention_mask": (sources != pad).long()}
    labels = padded([target for _, target in examples], -100)
    optimizer = torch.optim.Adam(model.train().parameters(), lr=1e-2)
    for _ in range(150):
        found = model(**inputs, labels=labels)
        found.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if model.config.model_type == "marian":
            model.get_input_embeddings().weight.data[pad] = 0  # as OPUS-MT's is; CTranslate2 counts on it
        optimizer.zero_grad()
        probabilities = found.logits.softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
        if probabilities[:, 1:][labels[:, 1:] >= 0].min() > 0.8:
            return True
    return False


def madlad(folder: Path) -> Path:
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    extra = ["<2es>", "<2de>"]
    tokens = ["<pad>", "</s>", "<unk>", "<s>", "▁", *LETTERS, *extra]
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme="never"), pre_tokenizers.Split("", "isolated")]
    )
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", bos_token="<s>",
        additional_special_tokens=extra,
    )  # fmt: skip
    fast.save_pretrained(folder)
    config = T5Config(vocab_size=len(tokens), d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2, dropout_rate=0.0,
                      initializer_factor=0.3, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0)  # fmt: skip
    learned = [
        (fast(f"<2{target}> {text}")["input_ids"], fast(said)["input_ids"])
        for target, phrases in PHRASES.items()
        for text, said in phrases.items()
    ]
    save_taught(lambda: T5ForConditionalGeneration(config), learned, 0, folder)
    return folder


def nllb(folder: Path) -> Path:
    from transformers import M2M100Config, M2M100ForConditionalGeneration, NllbTokenizer

    vocabulary = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "▁", *LETTERS])}
    tokenizer = NllbTokenizer(vocab=vocabulary, merges=[])
    tokenizer.save_pretrained(folder)
    config = M2M100Config(vocab_size=len(tokenizer) + 8, pad_token_id=1, bos_token_id=0, eos_token_id=2,
                          decoder_start_token_id=2, max_position_embeddings=600, **SMALL)  # fmt: skip

    def ids(text: str, language: str) -> list[int]:
        tokenizer.src_lang = flores_code(language)
        found: list[int] = tokenizer(text)["input_ids"]
        return found

    learned = [(ids(text, "en"), ids(said, target)) for target, phrases in PHRASES.items()
               for text, said in phrases.items()]  # fmt: skip
    save_taught(lambda: M2M100ForConditionalGeneration(config), learned, 1, folder)
    return folder


def marian(folder: Path, codes: tuple[str, ...] = ()) -> Path:
    """An OPUS-MT model into Spanish; with `codes` one with several target languages that it is told."""
    from sentencepiece import SentencePieceTrainer
    from transformers import MarianConfig, MarianMTModel, MarianTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    letters = sorted({letter for text, said in PHRASES["es"].items() for letter in text + said} - {" "})
    with (folder / "spm.model").open("wb") as model_file:
        SentencePieceTrainer.train(sentence_iterator=iter(["".join(letters), "a b"]), model_writer=model_file,
                                   model_type="char", vocab_size=99, hard_vocab_limit=False, minloglevel=2,
                                   character_coverage=1.0)  # fmt: skip
    pieces = ["</s>", "<unk>", *codes, "▁", *letters, "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}))
    spm = str(folder / "spm.model")
    tokenizer = MarianTokenizer(spm, spm, str(folder / "vocab.json"), source_lang="en", target_lang="es")
    tokenizer.save_pretrained(folder)
    pad = len(pieces) - 1
    config = MarianConfig(vocab_size=len(pieces), pad_token_id=pad, eos_token_id=0, decoder_start_token_id=pad,
                          max_position_embeddings=512, **SMALL)  # fmt: skip
    prefix = f"{codes[0]} " if codes else ""
    learned = [(tokenizer(prefix + text)["input_ids"], tokenizer(text_target=said)["input_ids"])
               for text, said in PHRASES["es"].items()]  # fmt: skip
    save_taught(lambda: MarianMTModel(config), learned, pad, folder)
    return folder


def test_every_language_has_a_flores_code() -> None:
    codes = {code: flores_code(code) for code in LANGUAGES}
    assert len(set(codes.values())) == len(LANGUAGES)
    assert {code: codes[code] for code in ("es", "ru", "zh", "ar", "hi", "fa")} == {
        "es": "spa_Latn", "ru": "rus_Cyrl", "zh": "zho_Hans", "ar": "arb_Arab", "hi": "hin_Deva", "fa": "pes_Arab",
    }  # fmt: skip


def test_the_flores_codes_are_those_of_the_tokenizer() -> None:
    from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES

    assert {flores_code(code) for code in LANGUAGES} <= set(FAIRSEQ_LANGUAGE_CODES)


@pytest.mark.parametrize("text", ["One. Two?  Three!", "一。二！三", "No end", "", "3.5 is a number. Yes."])
def test_sentences_give_the_text_again(text: str) -> None:
    parts = split_sentences(text)
    assert "".join(parts) == text
    assert split_sentences("One. Two?  Three!")[0::2] == ["One.", "Two?", "Three!"]
    assert split_sentences("一。二！三")[0::2] == ["一。", "二！", "三"]
    assert split_sentences("3.5 is a number. Yes.")[0] == "3.5 is a number."


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A taught model's folder, made once."""
    make = {"madlad": madlad, "nllb": nllb, "marian": marian}
    return cache(lambda family: make[family](tmp_path_factory.mktemp(family)))


def offers(
    translator: Seq2SeqTranslator, texts: list[str], target: str = "es", done: frozenset[str] = frozenset()
) -> dict[str, str | None]:
    pieces = [Piece(str(number), text) for number, text in enumerate(texts)]
    return {offer.key: offer.text for offer in translator.translate(pieces, "en", target, False, done)}


@pytest.mark.parametrize("family", ["madlad", "nllb", "marian"])
def test_a_model_translates_sentence_by_sentence(family: str, made: Callable[[str], Path]) -> None:
    translator = Seq2SeqTranslator(str(made(family)), batch_size=2)
    assert translator.family == family
    assert offers(translator, ["Is it red?  No.", "Blue", "No."]) == {"0": "Es rojo?  Nada.", "1": "Azul", "2": "Nada."}
    if family != "marian":
        assert offers(translator, ["Blue"], "de") == {"0": "Blau"}


@pytest.mark.parametrize("family", ["nllb", "marian"])
def test_control_tokens_in_texts_are_text(
    family: str, made: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    translator = Seq2SeqTranslator(str(made(family)))
    tokenizer, seen = translator._tokenizer, []

    def noted(tokenizer: Any, texts: list[str], first: int | None) -> list[str | None]:
        seen.append([ids.count(tokenizer.eos_token_id) for ids in tokenizer(texts)["input_ids"]])
        return list(texts)

    monkeypatch.setattr(translator, "_decode", noted)
    pieces = [Piece(str(n), text) for n, text in enumerate(["a</s>b", "</s> a", "b </s>"])]
    list(translator.translate(pieces, "en", "es", retry=False))
    assert seen == [[1, 1, 1]]
    if family == "nllb":
        tokenizer.src_lang = "eng_Latn"
        assert tokenizer.convert_tokens_to_ids("deu_Latn") not in tokenizer("deu_Latn")["input_ids"]


def test_what_is_batched_together_does_not_depend_on_what_is_done(
    made: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    translator = Seq2SeqTranslator(str(made("nllb")), batch_size=2)
    decode, batches = translator._decode, list[tuple[str, ...]]()

    def note(tokenizer: Any, texts: list[str], first: int | None) -> list[str | None]:
        batches.append(tuple(texts))
        return decode(tokenizer, texts, first)

    monkeypatch.setattr(translator, "_decode", note)
    texts = ["Is it red? No.", "Blue", "Is it blue?"]
    whole = offers(translator, texts)
    assert batches == [("No.", "Blue"), ("Is it red?", "Is it blue?")]
    batches.clear()
    assert offers(translator, texts, done=frozenset("02")) == {"1": whole["1"]} and batches == [("No.", "Blue")]
    batches.clear()
    assert not offers(translator, texts, done=frozenset("012")) and not batches


def test_a_translation_without_an_end_and_a_sentence_beyond_the_limit_are_failures(
    made: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    translator = Seq2SeqTranslator(str(made("nllb")))
    monkeypatch.setattr("lidr.commands.prompts.translators.seq2seq._longest", lambda tokens: 4)
    pieces = [Piece("0", "Blue"), Piece("1", "Blue. " + "x" * 600)]
    found = {offer.key: (offer.text, offer.failure) for offer in translator.translate(pieces, "en", "es", False)}
    assert found == {"0": (None, "cut_off"), "1": (None, "too_long")}


@pytest.mark.parametrize("family", ["madlad", "nllb", "marian"])
def test_a_converted_model_gives_the_same_texts_in_ctranslate2(
    family: str, made: Callable[[str], Path], tmp_path: Path
) -> None:
    ctranslate2 = pytest.importorskip("ctranslate2")
    folder = made(family)
    copied = [file.name for file in folder.iterdir() if file.suffix in (".json", ".spm") and file.name != "config.json"]
    ctranslate2.converters.TransformersConverter(str(folder), copy_files=copied).convert(str(tmp_path / "converted"))
    translator = Seq2SeqTranslator(str(tmp_path / "converted"), backend="ctranslate2")
    assert offers(translator, ["Is it red? No.", "Blue"]) == {"0": "Es rojo? Nada.", "1": "Azul"}


def test_an_engine_gets_the_full_list_and_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    model = OpenedModel(OpenAI(base_url="http://127.0.0.1:9/v1"), ModelConfig(path="m"))
    translator = EngineTranslator(model)
    seen: dict[str, Any] = {}

    class Noting:
        def generate(self, requests: Any, sampling: Sampling, done: Any = frozenset()) -> Iterator[Completion]:
            seen.update(requests={request.request_id: request for request in requests}, done=done)
            yield Completion("0", "again", "stop")  # engines may answer what is done
            yield Completion("1", "Azul", "stop", stopped_by="</translated>")
            yield Completion("2", "", "error", error="away")

    monkeypatch.setitem(model.__dict__, "engine", Noting())
    pieces = [Piece("0", "No."), Piece("1", "Blue"), Piece("2", "Is it {x}?", ("{x}",))]
    found = list(translator.translate(pieces, "en", "es", True, frozenset("0")))
    assert found == [Offer("1", "Azul"), Offer("2", None, "translation_error", passing=True)]
    assert list(seen["requests"]) == ["0", "1", "2"] and seen["done"] == frozenset("0")
    asked = seen["requests"]["2"]
    assert asked.prefill == "<translated>\n" and "exactly as they are:\n{x}\n" in asked.messages[-1][1]
    assert "into Spanish" in asked.messages[-1][1]


def test_a_target_that_a_model_does_not_have_is_refused(made: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not know the language <2fr>"):
        offers(Seq2SeqTranslator(str(made("madlad"))), ["Blue"], "fr")
    several = Seq2SeqTranslator(str(marian(tmp_path, (">>spa<<", ">>cmn_Hans<<"))))
    assert offers(several, ["Blue"]) == {"0": "Azul"}
    assert several._target("en", "zh") == (">>cmn_Hans<< ", None)
    with pytest.raises(ConfigError, match="does not translate into fr; it has >>spa<<"):
        offers(several, ["Blue"], "fr")


def test_other_models_are_refused(tmp_path: Path, made: Callable[[str], Path]) -> None:
    Tokenizer(models.WordLevel({"a": 0, "<unk>": 1}, unk_token="<unk>")).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ConfigError, match="no translation model that lidr knows"):
        Seq2SeqTranslator(str(tmp_path))
    with pytest.raises(ConfigError, match=r"no model\.bin"):
        Seq2SeqTranslator(str(made("madlad")), backend="ctranslate2")


def test_batches_keep_within_the_limits() -> None:
    pieces = [Piece(str(n), "x" * n) for n in (4, 4, 4, 30, 1, 1)]
    assert [[len(piece.text) for piece in batch] for batch in batches(pieces, 2, 10)] == [[4, 4], [4], [30], [1, 1]]
    assert [len(batch) for batch in batches(pieces[:3], 9, 100)] == [3]
