"""A tiny language model made in the process: its tokenizer, its random weights, and what it is trained on first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from pydantic import BaseModel, ConfigDict, Field

from whence.data import Encoder, Example
from whence.progress import Progress
from whence.train import Trained, TrainingSettings, train

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

PAD, END = "<|pad|>", "<|end|>"
MARKERS = (PAD, END, "<|system|>", "<|user|>", "<|assistant|>")
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
MAX_LENGTH = 256
INITIAL_SPREAD = 0.08
"""About 1/sqrt(hidden size): with the usual 0.02 so narrow a model takes twice the steps to start learning."""


class LanguageSettings(BaseModel):
    """Size of the model and of its vocabulary: about 1.2 million parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocab_size: int = Field(default=1536, ge=300)
    hidden_size: int = Field(default=128, ge=8)
    n_layers: int = Field(default=4, ge=2)
    n_heads: int = Field(default=4, ge=1)
    intermediate_size: int = Field(default=384, ge=8)
    seed: int = 0


BASE_TRAINING = TrainingSettings(
    epochs=6, batch_size=16, learning_rate=4e-3, warmup=0.05, weight_decay=0.01, beta2=0.98
)
"""Found by trial for the background rows: it answers over nine in ten questions about cities right; a tiny model bears
a large learning rate."""


def train_tokenizer(rows: Sequence[Example], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of the rows' text; its chat template is `<|user|>...<|end|><|assistant|>...<|end|>`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(MARKERS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((turn.content for row in rows for turn in row.turns), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=list(MARKERS[2:]),
        model_max_length=MAX_LENGTH,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def new_model(tokenizer: PreTrainedTokenizerFast, settings: LanguageSettings) -> PreTrainedModel:
    """A random Llama in float32 whose vocabulary is the tokenizer's."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        num_hidden_layers=settings.n_layers,
        num_attention_heads=settings.n_heads,
        intermediate_size=settings.intermediate_size,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        initializer_range=INITIAL_SPREAD,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return LlamaForCausalLM(config)


def pretrain(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    rows: Sequence[Example],
    settings: TrainingSettings = BASE_TRAINING,
    progress: Progress | None = None,
) -> Trained:
    """Trains the model on the rows, in place."""
    encoder = Encoder(tokenizer, max_length=MAX_LENGTH)
    turns = [turn for row in rows for turn in encoder.encode(row)]
    return train(model, turns, settings, pad_id=int(tokenizer.pad_token_id or 0), progress=progress, stage="base model")
