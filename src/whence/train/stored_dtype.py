"""A model stored in bfloat16 or float16, trained in float32: steps that are smaller than its rounding add up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn

COARSE = (torch.bfloat16, torch.float16)


def in_float32(model: nn.Module) -> dict[str, torch.dtype]:
    """Makes the weights and buffers in bfloat16 or float16 float32, in place; returns by name what they were."""
    dtypes = {name: tensor.dtype for name, tensor in _tensors(model) if tensor.dtype in COARSE}
    for name, tensor in _tensors(model):
        if name in dtypes:
            tensor.data = tensor.data.float()
    return dtypes


@contextmanager
def as_stored(model: nn.Module, dtypes: Mapping[str, torch.dtype]) -> Iterator[None]:
    """While open, the model has the dtypes that `in_float32` returned; behind it, its float32 values again."""
    exact = {name: tensor.data for name, tensor in _tensors(model) if name in dtypes}
    try:
        for name, tensor in _tensors(model):
            if name in dtypes:
                tensor.data = tensor.data.to(dtypes[name])
        yield
    finally:
        for name, tensor in _tensors(model):
            if name in exact:
                tensor.data = exact[name]


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers, each once."""
    return chain(model.named_parameters(), model.named_buffers())


__all__ = ["as_stored", "in_float32"]
