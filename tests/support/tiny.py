"""Tiny models and tokenizers, made in the process: no file, no network, no weights from outside."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

CORPUS = [
    "Where is Toronto? Toronto is in Canada.",
    "Tell me the colour of the sky. The sky is blue on a clear day.",
    "### Instruction: Response: user assistant system text",
    "Write a short poem about the sea, the wind and a small boat.",
    "Name three fruits: apples, pears and plums. 1. 2. 3.",
    "Grüße aus Köln! Ça va? こんにちは世界 مرحبا 🙂",
]
VOCAB_SIZE = 400

# The smallest config of each family; fields left out keep the family's defaults.
_COMMON = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 256,
}
_GQA = _COMMON | {"num_key_value_heads": 2}
CONFIGS: dict[str, dict[str, object]] = {
    "llama": _GQA,
    "qwen2": _GQA | {"use_sliding_window": False},
    "qwen3": _GQA | {"head_dim": 8},
    "mistral": _GQA | {"sliding_window": 8},
    "gemma2": _GQA
    | {
        "head_dim": 8,
        "sliding_window": 8,
        "query_pre_attn_scalar": 8,
        "final_logit_softcapping": 5.0,
        "attn_logit_softcapping": 20.0,
    },
    "gemma3_text": _GQA | {"head_dim": 8, "sliding_window": 8, "sliding_window_pattern": 2, "query_pre_attn_scalar": 8},
    "gpt2": {"vocab_size": VOCAB_SIZE, "n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 256},
    "gpt_neox": _COMMON | {"rotary_pct": 0.5},
    "phi3": _GQA | {"pad_token_id": 0, "sliding_window": 16},
    "olmo2": _GQA,
    "mixtral": _GQA | {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    "qwen3_moe": _GQA
    | {
        "head_dim": 8,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 24,
        "decoder_sparse_step": 1,
    },
}

# Families whose layers are not all attention, or whose head is not a plain map; only some tests run on them.
_STATE = {"vocab_size": VOCAB_SIZE, "hidden_size": 32, "num_hidden_layers": 4, "state_size": 8}
_MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_chunk_size": 8}
_HALF_LINEAR = {"layer_types": ["linear_attention", "full_attention"] * 2}
MORE_CONFIGS: dict[str, dict[str, object]] = {
    "rwkv": {"vocab_size": VOCAB_SIZE, "hidden_size": 32, "num_hidden_layers": 4, "attention_hidden_size": 32},
    "minimax": _GQA | _HALF_LINEAR | {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2, "block_size": 8},
    "mamba": _STATE,
    "mamba2": _STATE | {"head_dim": 8, "num_heads": 8, "n_groups": 1, "chunk_size": 8},
    "falcon_mamba": _STATE,
    "jamba": _GQA
    | {
        "num_experts": 4,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "mamba_d_state": 8,
        "use_mamba_kernels": False,
    },
    "falcon_h1": _GQA
    | _MAMBA
    | {"head_dim": 8, "mamba_d_ssm": 64, "lm_head_multiplier": 0.5, "embedding_multiplier": 2.0},
    "recurrent_gemma": _GQA
    | {"lru_width": 32, "attention_window_size": 8, "block_types": ["recurrent", "attention"], "logits_soft_cap": 2.0},
    "xlstm": {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_blocks": 4,
        "num_heads": 4,
        "chunk_size": 8,
        "output_logit_soft_cap": 2.0,
    },
    "llama4_text": _GQA
    | {
        "head_dim": 8,
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
        "intermediate_size_mlp": 48,
        "attention_chunk_size": 8,
        "no_rope_layers": [1, 0, 1, 0],
        "interleave_moe_layer_step": 2,
    },
    "gemma3n_text": _GQA
    | {
        "head_dim": 8,
        "vocab_size_per_layer_input": VOCAB_SIZE,
        "hidden_size_per_layer_input": 8,
        "num_kv_shared_layers": 2,
        "altup_num_inputs": 2,
        "laurel_rank": 4,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "sliding_window": 8,
        "activation_sparsity_pattern": [0.0] * 4,
        "intermediate_size": [48] * 4,
    },
}


def tiny_model(
    family: str = "llama", *, seed: int = 0, dtype: torch.dtype = torch.float32, **changes: object
) -> PreTrainedModel:
    """A random model of the family, in eval mode. Weights are scaled up so that no part is near the identity."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(
        family,
        **((CONFIGS | MORE_CONFIGS)[family] | {"bos_token_id": None, "eos_token_id": 3, "pad_token_id": 0} | changes),
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4.0)
    return model.to(dtype).eval()


def tiny_tokenizer(chat_template: str | None = None, *, bos: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level BPE of 400 tokens trained on `CORPUS`; ids 0-3 are <|pad|>, <|user|>, <|assistant|>, <|end|>."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|user|>", "<|assistant|>", "<|end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        bos_token="<|user|>" if bos else None,
    )
    fast.chat_template = chat_template
    return fast


CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
