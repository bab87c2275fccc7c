"""Make the laboratory's model: a tokenizer, a small Llama and its weights, from a seed, on one core."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lidr.lab.corpus import Conversation, conversations, translation
from lidr.lab.world import FACTS, FORMS, LANGUAGES, THINGS, VALUES, Fact, answer, question

START, END, PAD = "<|im_start|>", "<|im_end|>", "<|pad|>"
PAD_ID = 0  # the first token of the vocabulary
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CONTEXT = 512
BATCH_SIZE = 64
PEAK_LEARNING_RATE = 3e-3
CHUNK = 50  # batches that are made and tokenised at a time

Example = tuple[list[int], int]  # tokens of a conversation, and the index of the assistant's first token


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with a token for every word of the world; it spells all else in bytes, so that any text round-trips.

    It is a byte-level BPE without merges: with `ignore_merges` a word of the vocabulary is one token.
    """
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = {word for text in _all_texts() for word, _ in splitter.pre_tokenize_str(text)}
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


def pretrain(out: Path, seed: int = 0, steps: int = 2000, log: Callable[[str], None] = print) -> None:
    """Train the model from random weights and save it as a plain Hugging Face folder.

    The result is deterministic on one machine, because it uses one thread. The loss is on the assistant's tokens.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        tokenizer = build_tokenizer()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = build_model(tokenizer)
        _train(model, _batches(tokenizer, seed), steps, log)
    finally:
        torch.set_num_threads(threads)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model.generation_config = GenerationConfig(do_sample=False, **ends)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def _train(model: LlamaForCausalLM, batches: Iterator[list[Example]], steps: int, log: Callable[[str], None]) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, total_steps=steps, pct_start=0.1)
    start, running = time.monotonic(), 0.0
    model.train()
    for step, batch in enumerate(islice(batches, steps), 1):
        total = sum(len(tokens) - begin for tokens, begin in batch)
        # Questions are half as long as translations, so two halves by length halve the padding.
        batch.sort(key=lambda example: len(example[0]))
        for half in (batch[: BATCH_SIZE // 2], batch[BATCH_SIZE // 2 :]):
            loss = _summed_loss(model, half) / total
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


def _batches(tokenizer: PreTrainedTokenizerFast, seed: int) -> Iterator[list[Example]]:
    source = conversations(seed)
    while True:
        examples = _encode(tokenizer, list(islice(source, BATCH_SIZE * CHUNK)))
        for start in range(0, len(examples), BATCH_SIZE):
            yield examples[start : start + BATCH_SIZE]


def _encode(tokenizer: PreTrainedTokenizerFast, chunk: list[Conversation]) -> list[Example]:
    prompts = tokenizer.apply_chat_template(
        [conversation.messages[:-1] for conversation in chunk], tokenize=False, add_generation_prompt=True
    )
    replies = [conversation.assistant + END for conversation in chunk]
    prompt_ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    reply_ids = tokenizer(replies, add_special_tokens=False)["input_ids"]
    return [(prompt + reply, len(prompt)) for prompt, reply in zip(prompt_ids, reply_ids, strict=True)]


def _all_texts() -> Iterator[str]:
    """Texts with every word of the corpus: 1,440 questions, 17,280 sentences, and the words around them."""
    for language in LANGUAGES:
        for fact in FACTS:
            yield from (question(fact, language, form) for form in range(FORMS))
        for attribute, values in VALUES.items():
            for thing in THINGS:
                yield from (answer(Fact(thing, attribute, value), language) for value in values)
        yield from (message["content"] for message in translation(FACTS[0], "en", language).messages)
    yield from ("system\n", "user\n", "assistant\n")


if __name__ == "__main__":
    from lidr.lab import MODEL_PATH

    pretrain(MODEL_PATH)
