"""Tiny models of many architectures, with random weights."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM

VOCABULARY, WINDOW = 97, 6
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
WIDE = {"head_dim": 8, "sliding_window": WINDOW}
ALTERNATING = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
# Architectures whose pairs can be packed for training ...
PACKED: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama": ("LlamaConfig", SMALL),
    "Qwen2": ("Qwen2Config", SMALL),
    "Qwen3": ("Qwen3Config", SMALL | {"head_dim": 8}),
    "Mistral, sliding window": ("MistralConfig", SMALL | {"sliding_window": WINDOW}),
    "Gemma 2, soft-capped": ("Gemma2Config", SMALL | WIDE | {"query_pre_attn_scalar": 8}),
    "Gemma 3, alternating windows": ("Gemma3TextConfig", SMALL | WIDE | ALTERNATING | {"query_pre_attn_scalar": 8}),
    "Phi-3": ("Phi3Config", SMALL | {"pad_token_id": 0}),
    "GPT-OSS, experts and sinks": (
        "GptOssConfig",
        SMALL | WIDE | ALTERNATING | {"num_local_experts": 4, "num_experts_per_tok": 2},
    ),
    "Qwen3, experts": ("Qwen3MoeConfig", SMALL | EXPERTS),
    "Granite, scaled logits": ("GraniteConfig", SMALL | {"logits_scaling": 3.0}),
    "Cohere, scaled logits": ("CohereConfig", SMALL | {"logit_scale": 0.3}),
}
# ... and those whose pairs cannot be packed, with the reason that is given.
PADDED: dict[str, tuple[str, dict[str, Any], str]] = {
    "Mamba": ("MambaConfig", {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2}, "linear_attention"),
    "Llama 4": ("Llama4TextConfig", SMALL | {"head_dim": 8, "num_local_experts": 2}, "chunked_attention"),
    "Bloom": ("BloomConfig", {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4}, "differ by"),
}

_HEADS = {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4}
_LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [1.0, 4.0, 16.0, 32.0],
}
_FALCON = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
_NOISE = {"attention_dropout": 0.5, "hidden_dropout": 0.5}
CONTEXT = 16  # of the models below whose rotary frequencies change beyond it
# Architectures that are random in training mode, or whose answers depend on what else is in the pass.
PECULIAR: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama, attention dropout": ("LlamaConfig", SMALL | {"attention_dropout": 0.5}),
    "Llama, dynamic": (
        "LlamaConfig",
        SMALL
        | {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}}
        | {"max_position_embeddings": CONTEXT},
    ),
    "Phi-3, longrope": (
        "Phi3Config",
        SMALL
        | {"pad_token_id": 0, "max_position_embeddings": 64, "original_max_position_embeddings": CONTEXT}
        | {"rope_parameters": _LONGROPE | {"original_max_position_embeddings": CONTEXT}},
    ),
    "Mixtral, router jitter": (
        "MixtralConfig",
        SMALL | {"num_local_experts": 4, "num_experts_per_tok": 2, "router_jitter_noise": 0.5},
    ),
    "PhiMoE": ("PhimoeConfig", SMALL | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "OLMoE": ("OlmoeConfig", SMALL | {"num_experts": 4, "num_experts_per_tok": 2, "attention_dropout": 0.5}),
    "Falcon, ALiBi": ("FalconConfig", _FALCON | _NOISE | {"alibi": True, "multi_query": False}),
    "Falcon, rotary": ("FalconConfig", _FALCON | _NOISE),
    "Bloom, dropout": ("BloomConfig", _HEADS | _NOISE),
    "GPT-2, dropout": (
        "GPT2Config",
        _HEADS | {"n_embd": 32} | dict.fromkeys(("resid_pdrop", "attn_pdrop", "embd_pdrop"), 0.5),
    ),
    "OPT, dropout": (
        "OPTConfig",
        SMALL | {"ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.5, "attention_dropout": 0.5},
    ),
    "Llama 4": (
        "Llama4TextConfig",
        PADDED["Llama 4"][1] | {"attention_dropout": 0.5, "attention_chunk_size": 8, "pad_token_id": 0},
    ),
}


def build(name: str, settings: dict[str, Any]) -> Any:
    """A tiny model with weights large enough to make its predictions differ."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(getattr(transformers, name)(**settings), dtype=torch.float32)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return model.train()
