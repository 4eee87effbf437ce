"""A baseline that knows no model under diagnosis: cosine of sentence embeddings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from whence.errors import InputError
from whence.methods.base import Method, Subject, TurnSet

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Pooling = Literal["mean", "cls"]


class TextEmbedding(Method):
    """scores[q, t] = cos(e(prompt and response of q), e(prompt and response of t)), in [-1, 1].

    e is the encoder's last hidden state, averaged over the text's tokens (or its first token's, where a
    sentence-transformers folder says so). Source: Reimers and Gurevych 2019 (arXiv 1908.10084).

    encoder: a local folder of a transformers encoder or of sentence-transformers; left out, the subject's text_encoder.
    """

    name = "text-embedding"
    version = "1"

    def __init__(self, subject: Subject, *, encoder: str | None = None, batch_size: int = 32) -> None:
        super().__init__(subject)
        self.encoder, self.batch_size = encoder or subject.text_encoder, batch_size

    def fit(self, train: TurnSet) -> None:
        """Loads the encoder and embeds the training rows. Raises InputError without a usable folder."""
        if self.encoder is None:
            raise InputError(
                "text-embedding needs a sentence encoder; none was given.",
                "Expected a local folder of a transformers encoder or of sentence-transformers.",
                "Give one with --text-encoder FOLDER.",
            )
        self._tokenizer, self._model, self._pooling = load_encoder(Path(self.encoder))
        self._limit = token_limit(Path(self.encoder), self._tokenizer, self._model)
        self._train = self._embedded(train)

    def score(self, queries: TurnSet) -> Float[Tensor, "n_query n_train"]:
        """Cosines."""
        return self._embedded(queries) @ self._train.T

    def bytes_per_row(self) -> float:
        """The embedding."""
        return float(self._train[0].nbytes)

    @torch.no_grad()
    def _embedded(self, rows: TurnSet) -> Float[Tensor, "n dim"]:
        texts = [f"{p}\n{r}".strip() for p, r in zip(rows.prompts, rows.responses, strict=True)]
        found = []
        for start in range(0, len(texts), self.batch_size):
            batch = self._tokenizer(
                texts[start : start + self.batch_size],
                padding=True,
                truncation=True,
                max_length=self._limit,
                return_tensors="pt",
            )
            hidden = self._model(**batch).last_hidden_state.float()
            found.append(pooled(hidden, batch["attention_mask"], self._pooling))
        return F.normalize(torch.cat(found), dim=1)


def pooled(hidden: Float[Tensor, "batch seq dim"], mask: Tensor, pooling: Pooling) -> Float[Tensor, "batch dim"]:
    """The mean over the positions where mask is 1, or the first position."""
    if pooling == "cls":
        return hidden[:, 0]
    weight = mask[..., None].to(hidden.dtype)
    return (hidden * weight).sum(dim=1) / weight.sum(dim=1).clamp_min(1)


def load_encoder(folder: Path) -> tuple[PreTrainedTokenizerBase, PreTrainedModel, Pooling]:
    """Tokenizer, encoder and pooling from a local folder. Raises InputError; nothing is fetched from anywhere."""
    from transformers import AutoModel, AutoTokenizer

    inside = _transformer_folder(folder)
    if not (inside / "config.json").exists():
        raise InputError(
            f"There is no encoder at {folder} (no config.json).",
            "Expected a local folder of a transformers encoder or of sentence-transformers.",
            "Check --text-encoder.",
        )
    pooling = _pooling(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(inside, local_files_only=True)
        model = AutoModel.from_pretrained(inside, local_files_only=True, use_safetensors=True, dtype=torch.float32)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(
            f"The encoder in {folder} could not be loaded: {str(error).splitlines()[0]}",
            "Expected config.json, tokenizer.json and model.safetensors.",
            "Save it again with save_pretrained.",
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, model.eval(), pooling


def token_limit(folder: Path, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> int:
    """Most tokens of a text that the encoder reads: what its positions, its tokenizer and sentence-transformers allow.

    Raises InputError for a sentence_bert_config.json without a usable max_seq_length.
    """
    limits = [int(tokenizer.model_max_length)]
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None:
        # RoBERTa and its like count positions from behind that of their padding.
        table = next((m for name, m in model.named_modules() if name.endswith("position_embeddings")), None)
        padding = getattr(table, "padding_idx", None)
        limits.append(positions if padding is None else positions - padding - 1)
    file = _transformer_folder(folder) / "sentence_bert_config.json"
    if file.exists():
        try:
            own = json.loads(file.read_text("utf-8")).get("max_seq_length")
            limits += [] if own is None else [int(own)]
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f"{file} cannot be read: {error}.",
                "Expected a JSON object with max_seq_length, a number of tokens.",
                "Save the encoder again with sentence-transformers.",
            ) from error
    return min(limits)


def _transformer_folder(folder: Path) -> Path:
    return folder / "0_Transformer" if (folder / "0_Transformer").is_dir() else folder


def _pooling(folder: Path) -> Pooling:
    """Mean, unless a sentence-transformers folder asks for the first token. Raises InputError for anything else."""
    modules = folder / "modules.json"
    if not modules.exists():
        return "mean"
    kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in json.loads(modules.read_text("utf-8"))]
    config = folder / "1_Pooling" / "config.json"
    settings = json.loads(config.read_text("utf-8")) if config.exists() else {"pooling_mode_mean_tokens": True}
    modes = [key for key, on in settings.items() if key.startswith("pooling_mode_") and on is True]
    if set(kinds) - {"Transformer", "Pooling", "Normalize"} or modes not in (
        ["pooling_mode_mean_tokens"],
        ["pooling_mode_cls_token"],
    ):
        raise InputError(
            f"The sentence encoder {folder} has parts {kinds} and pooling {modes}.",
            "Expected Transformer, Pooling (mean or first token) and at most Normalize.",
            "Choose an encoder of that kind.",
        )
    return "cls" if modes == ["pooling_mode_cls_token"] else "mean"
