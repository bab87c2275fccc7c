"""Small tokenizers of the kinds that models have, each with a chat template."""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for turn in messages %}{{ '<|im_start|>' + turn['role'] + '\\n' + turn['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# Zephyr's way: the roles are ordinary text, and the answer follows a line break.
ROLES = (
    "{% for turn in messages %}{{ '<|' + turn['role'] + '|>\\n' + turn['content'] + eos_token + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
# Llama 2's way: a blank before the answer, and one after it.
INSTRUCT = (
    "{% for turn in messages %}{% if turn['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + turn['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + turn['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
CONTROL = ("<|pad|>", "<|im_start|>", "<|im_end|>", "<|stop|>")
_TEXTS = [
    "The red fox is near the blue sea. It is warm, and the wind is cold!",
    "What is the colour of the small house? I know that the house is green.",
    "El zorro rojo está cerca del mar azul; la casa pequeña es verde, ¿no?\nSí.",
    "Tell me about the old tree. Hello, user and assistant",
]


def byte_level(template: str = CHATML, markup: tuple[str, ...] = (), eos: str = "<|im_end|>") -> Any:
    """As Qwen's and SmolLM's; `markup` are added tokens that are not special."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        _TEXTS, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=list(CONTROL))
    )
    core.add_tokens([AddedToken(token, normalized=False) for token in markup])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=eos,
        pad_token="<|pad|>",
        chat_template=template,
        extra_special_tokens=["<|im_start|>"],
    )


def sentencepiece(template: str = ROLES, kind: str = "first") -> Any:
    """As Llama 2's and Mistral's: `first` and `always` say where a blank is added, `legacy` does it as a normalizer.

    `unigram` is as XLM-R's, whose vocabulary holds the control tokens as ordinary pieces.
    """
    special = ["<unk>", "<s>", "</s>"]
    core = Tokenizer(models.Unigram() if kind == "unigram" else models.BPE(unk_token="<unk>"))
    if kind == "legacy":
        core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        scheme = "always" if kind == "unigram" else kind
        core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=kind == "unigram")
    letters = sorted(set("".join(_TEXTS) + "▁<>|/[]_abcdefghijklmnopqrstuvwxyz0123456789"))
    trainer: Any = trainers.UnigramTrainer if kind == "unigram" else trainers.BpeTrainer
    extra = {"unk_token": "<unk>"} if kind == "unigram" else {"max_token_length": 8}
    core.train_from_iterator(
        _TEXTS * 3, trainer(vocab_size=300, special_tokens=special, initial_alphabet=letters, **extra)
    )
    core.decoder = decoders.Metaspace(prepend_scheme="first")
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        chat_template=template,
    )
