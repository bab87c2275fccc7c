"""Belebele, through lm-evaluation-harness."""

from __future__ import annotations

from typing import ClassVar

from lidr.benchmarks.shared.harness import HarnessSettings

_NAMES = {
    "en": "eng_Latn", "es": "spa_Latn", "fr": "fra_Latn", "de": "deu_Latn", "ru": "rus_Cyrl", "it": "ita_Latn",
    "zh": "zho_Hans", "ja": "jpn_Jpan", "ko": "kor_Hang", "th": "tha_Thai", "sw": "swh_Latn", "bn": "ben_Beng",
    "te": "tel_Telu", "ar": "arb_Arab", "pt": "por_Latn", "ca": "cat_Latn", "ro": "ron_Latn", "nl": "nld_Latn",
    "sv": "swe_Latn", "da": "dan_Latn", "fi": "fin_Latn", "et": "est_Latn", "lt": "lit_Latn", "pl": "pol_Latn",
    "cs": "ces_Latn", "sk": "slk_Latn", "hr": "hrv_Latn", "hu": "hun_Latn", "tr": "tur_Latn", "id": "ind_Latn",
    "vi": "vie_Latn", "uk": "ukr_Cyrl", "bg": "bul_Cyrl", "el": "ell_Grek", "he": "heb_Hebr", "fa": "pes_Arab",
    "ur": "urd_Arab", "hi": "hin_Deva", "mr": "mar_Deva", "gu": "guj_Gujr", "pa": "pan_Guru", "ta": "tam_Taml",
    "kn": "kan_Knda", "ml": "mal_Mlym",
}  # fmt: skip


class Belebele(HarnessSettings):
    """Belebele, through lm-evaluation-harness."""

    cost: ClassVar[tuple[int, int, int]] = (900, 1, 200)

    @classmethod
    def tasks(cls) -> dict[str, str]:
        return {code: f"belebele_{name}" for code, name in _NAMES.items()}
