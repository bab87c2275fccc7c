"""Make a laboratory's model: a tokenizer, a small Llama and its weights, from a seed, on one core."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lidr.errors import ConfigError
from lidr.lab import MODEL_PATHS, corpus, hard_corpus
from lidr.lab.corpus import Conversation, Corpus

START, END, PAD = "<|im_start|>", "<|im_end|>", "<|pad|>"
PAD_ID = 0  # the first token of the vocabulary
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CONTEXT = 512
PEAK_LEARNING_RATE = 3e-3
PART = 16  # conversations of a batch that are padded to one length
CHUNK = 50  # batches that are made and tokenised at a time

Example = tuple[list[int], int]  # tokens of a conversation, and the index of the assistant's first token


def corpus_of(laboratory: str, **quality: float) -> Corpus:
    """The corpus of a laboratory by its name; `quality` are the knobs of `lab-hard`. Raises ConfigError."""
    if laboratory not in MODEL_PATHS:
        raise ConfigError(f"there is no laboratory {laboratory}; use {' or '.join(MODEL_PATHS)}")
    if laboratory == "lab-hard":
        return hard_corpus.corpus(hard_corpus.Quality(**quality))
    if quality:
        raise ConfigError(f"the corpus of {laboratory} has no {' and no '.join(quality)} to set; that of lab-hard has")
    return corpus.CORPUS


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer with a token for every word of some texts; it spells all else in bytes, so that any text round-trips.

    It is a byte-level BPE without merges: with `ignore_merges` a word of the vocabulary is one token.
    """
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = {word for text in texts for word, _ in splitter.pre_tokenize_str(text)}
    letters = sorted(splitter.alphabet())
    vocabulary = [PAD, START, END, *letters, *sorted(words - set(letters))]
    bpe = models.BPE({token: index for index, token in enumerate(vocabulary)}, merges=[], ignore_merges=True)
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens=[START],
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A Llama with 0.64 M parameters; a quarter of them is the embedding, which the output layer shares."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def pretrain(
    out: Path, source: Corpus, seed: int = 0, steps: int | None = None, log: Callable[[str], None] = print
) -> None:
    """Train the model on the corpus and save it as a plain Hugging Face folder.

    It starts from random weights, or from those of the trained model that the corpus continues. The result is
    deterministic on one machine, because it uses one thread. The loss is on the assistant's tokens.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        tokenizer = build_tokenizer(source.texts())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = build_model(tokenizer)
        if source.continues:
            _take_over(model, tokenizer, source.continues)
        _train(model, _batches(tokenizer, source, seed), steps or source.steps, log)
    finally:
        torch.set_num_threads(threads)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model.generation_config = GenerationConfig(do_sample=False, **ends)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def _take_over(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Copy the weights of a trained model of the same shape, and the embeddings of the words that both have.

    The random embeddings of the other words are scaled to the size of the trained ones.
    """
    trained = LlamaForCausalLM.from_pretrained(folder, local_files_only=True)
    known = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True).get_vocab()
    new, old = model.get_input_embeddings().weight.data, trained.get_input_embeddings().weight.data
    new *= old.std() / new.std()
    for word, index in tokenizer.get_vocab().items():
        if word in known:
            new[index] = old[known[word]]
    inner = {name: tensor for name, tensor in trained.model.state_dict().items() if name != "embed_tokens.weight"}
    model.model.load_state_dict({**inner, "embed_tokens.weight": new})


def _train(model: LlamaForCausalLM, batches: Iterator[list[Example]], steps: int, log: Callable[[str], None]) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, total_steps=steps, pct_start=0.1)
    start, running = time.monotonic(), 0.0
    model.train()
    for step, batch in enumerate(islice(batches, steps), 1):
        total = sum(len(tokens) - begin for tokens, begin in batch)
        # Questions are half as long as translations, so parts by length save most of the padding.
        batch.sort(key=lambda example: len(example[0]))
        for first in range(0, len(batch), PART):
            loss = _summed_loss(model, batch[first : first + PART]) / total
            loss.backward()
            running += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == steps:
            log(f"step {step}/{steps}  loss {running / (step % 100 or 100):.4f}  {time.monotonic() - start:.0f} s")
            running = 0.0


def _summed_loss(model: LlamaForCausalLM, batch: list[Example]) -> torch.Tensor:
    """Sum of the negative log-likelihoods of the assistant's tokens. Padding is on the right, so no token sees it."""
    width = max(len(tokens) for tokens, _ in batch)
    tokens = torch.tensor([tokens + [PAD_ID] * (width - len(tokens)) for tokens, _ in batch])  # (batch, width)
    position = torch.arange(width)
    begins = torch.tensor([begin for _, begin in batch])[:, None]
    ends = torch.tensor([len(tokens) for tokens, _ in batch])[:, None]
    predicted = (position >= begins - 1) & (position < ends - 1)  # (batch, width): the next token is the assistant's
    hidden = model.model(input_ids=tokens, use_cache=False).last_hidden_state[predicted]
    return torch.nn.functional.cross_entropy(model.lm_head(hidden), tokens.roll(-1, dims=1)[predicted], reduction="sum")


def _batches(tokenizer: PreTrainedTokenizerFast, source: Corpus, seed: int) -> Iterator[list[Example]]:
    stream, size = source.conversations(seed), source.batch_size
    while True:
        examples = _encode(tokenizer, list(islice(stream, size * CHUNK)))
        for start in range(0, len(examples), size):
            yield examples[start : start + size]


def _encode(tokenizer: PreTrainedTokenizerFast, chunk: list[Conversation]) -> list[Example]:
    prompts = tokenizer.apply_chat_template(
        [conversation.messages[:-1] for conversation in chunk], tokenize=False, add_generation_prompt=True
    )
    replies = [conversation.assistant + END for conversation in chunk]
    prompt_ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    reply_ids = tokenizer(replies, add_special_tokens=False)["input_ids"]
    return [(prompt + reply, len(prompt)) for prompt, reply in zip(prompt_ids, reply_ids, strict=True)]


if __name__ == "__main__":
    name = sys.argv[1]
    pretrain(MODEL_PATHS[name], corpus_of(name))
