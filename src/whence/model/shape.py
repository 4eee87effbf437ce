"""The sizes of a model, from its config alone: no weight is read, and none need be there."""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of a causal language model, bytes in `dtype`.

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
    except Exception as error:  # a config can be wrong in any way
        raise ModelError(
            f"The config of {place.model!r} gives no causal language model: {first_line(error)}",
            "Expected a folder with config.json, or a hub name.",
            "Check the path and the file.",
        ) from error
    text = config.get_text_config()
    own = str(getattr(config, "dtype", None) or torch.float32).removeprefix("torch.")
    own = own if own in DTYPES else "bfloat16"
    dtype = own if settings.dtype == "auto" else settings.dtype
    sizes = _sizes(model, settings.blocks)
    return ModelShape(
        name=place.model,
        dtype=dtype,
        n_parameters=sum(sizes),
        n_layers=len(sizes) - 2,
        hidden_size=int(text.hidden_size),
        intermediate_size=int(getattr(text, "intermediate_size", None) or 4 * text.hidden_size),
        vocab_size=int(text.vocab_size),
        parts=tuple(size * DTYPES[dtype].itemsize for size in sizes),
    )


def _sizes(model: nn.Module, blocks: str | None) -> list[int]:
    """Parameters of the embedding, of each decoder layer, and of the rest; a tied head has none of its own."""
    layers = [_count(layer) for layer in decoder_layers(model, blocks)]
    embedding = _count(model.get_input_embeddings())  # type: ignore[operator]
    return [embedding, *layers, _count(model) - embedding - sum(layers)]


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


__all__ = ["ModelShape", "is_config_only", "model_shape"]
