"""The sizes of a model, from its config alone: no weight is read, and none need be there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from whence.errors import ModelError
from whence.model.adapter_place import settle
from whence.model.blocks import decoder_layers
from whence.model.checkpoint import quiet
from whence.model.loading import DTYPES, ModelSettings
from whence.model.places import first_line, has_weights

QUANTISED = {"4bit": 0.5 + 4 / 64, "8bit": 1.0}
"""Bytes of a number in a linear layer as bitsandbytes stores it; in 4 bits with a float32 scale for each 64."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of a causal language model, bytes in `dtype`, or quantised where that was asked for.

    intermediate_size: the largest, where layers differ.
    parts: bytes of what a device map does not split: the embedding, each decoder layer, and the rest with the head.
    """

    name: str
    dtype: str
    n_parameters: int
    n_layers: int
    hidden_size: int
    intermediate_size: int
    vocab_size: int
    parts: tuple[int, ...]

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        return DTYPES[self.dtype].itemsize

    @property
    def weights(self) -> int:
        """Bytes of all weights."""
        return sum(self.parts)


def is_config_only(settings: ModelSettings) -> bool:
    """Whether MODEL, or the base of an adapter, is a folder with a config and no weights.

    Raises ModelError for a base that is not there.
    """
    folder = settle(settings.model, settings.adapter, settings.revision).model
    return (Path(folder) / "config.json").is_file() and not has_weights(folder)


def model_shape(settings: ModelSettings) -> ModelShape:
    """The sizes of MODEL, or of the base that an adapter names. dtype "auto" is the config's own, as on a GPU.

    Raises ModelError for a config that is not one of a causal language model.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    place = settle(settings.model, settings.adapter, settings.revision)
    trust = settings.trust_remote_code
    try:
        with quiet(), torch.device("meta"):
            config = AutoConfig.from_pretrained(place.model, revision=place.revision, trust_remote_code=trust)
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust)
        text = config.get_text_config()
        hidden, vocab = int(text.hidden_size), int(text.vocab_size)
        inner = getattr(text, "intermediate_size", None) or 4 * hidden
        widest = int(max(inner)) if isinstance(inner, list | tuple) else int(inner)
    except Exception as error:  # a config can be wrong in any way
        raise ModelError(
            f"The config of {place.model!r} gives no causal language model: {first_line(error)}",
            "Expected a folder with config.json, or a hub name.",
            "Check the path and the file.",
        ) from error
    own = str(getattr(config, "dtype", None) or torch.float32).removeprefix("torch.")
    own = own if own in DTYPES else "bfloat16"
    dtype = own if settings.dtype == "auto" else settings.dtype
    layers = decoder_layers(model, settings.blocks)
    embedding, whole = _count(model.get_input_embeddings()), _count(model)
    inside = [_count(layer) for layer in layers]
    kept = [size * DTYPES[dtype].itemsize for size in (embedding, *inside, whole - embedding - sum(inside))]
    saved = _saved(model, layers, settings.quantization, DTYPES[dtype].itemsize)
    return ModelShape(
        name=place.model,
        dtype=dtype,
        n_parameters=whole,
        n_layers=len(layers),
        hidden_size=hidden,
        intermediate_size=widest,
        vocab_size=vocab,
        parts=tuple(size - less for size, less in zip(kept, saved, strict=True)),
    )


def _saved(model: nn.Module, layers: Sequence[nn.Module], quantization: str | None, itemsize: int) -> list[int]:
    """Bytes that quantisation saves of each part. It takes every linear layer but the head; other weights stay."""
    if quantization is None:
        return [0] * (len(layers) + 2)
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()  # type: ignore[operator]

    def saved(module: nn.Module) -> int:
        linear = [one for one in module.modules() if isinstance(one, nn.Linear | Conv1D) and one is not head]
        return round(sum(one.weight.numel() for one in linear) * (itemsize - QUANTISED[quantization]))

    inside = [saved(layer) for layer in layers]
    return [0, *inside, saved(model) - sum(inside)]


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


__all__ = ["ModelShape", "is_config_only", "model_shape"]
