"""The translation models of `seq2seq` in CTranslate2."""

from __future__ import annotations

from lidr.commands.prompts.translators.base import Translator
from lidr.commands.prompts.translators.seq2seq import Seq2Seq, Seq2SeqTranslator


class CTranslate2(Seq2Seq):
    """NLLB, M2M-100, MADLAD and OPUS-MT, converted for CTranslate2."""

    def open(self) -> Translator:
        return Seq2SeqTranslator(self.model, backend="ctranslate2")
