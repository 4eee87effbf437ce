"""Whose gradients: the choice of parameters, and where each lies in the flat gradient vector."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from whence.errors import ModelError
from whence.methods.base import ParameterChoice

if TYPE_CHECKING:
    from whence.model import LoadedModel

ADAPTER_MARKS = (".lora_", ".modules_to_save.", ".vera_", ".ia3_", ".hada_", ".oft_", ".trainable_tokens_")
"""Parts of the names under which PEFT keeps the weights that an adapter trains."""

TransformRows = Callable[[Float[Tensor, "batch n_params"]], Float[Tensor, "batch n_params"]]


@dataclass(frozen=True, slots=True)
class Layout:
    """The chosen parameters in the model's order. Parameter i is `[starts[i], starts[i + 1])` of a flat gradient."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    starts: tuple[int, ...]

    @property
    def size(self) -> int:
        """Length of the flat gradient."""
        return self.starts[-1]

    def slices(self) -> list[slice]:
        """One slice of the flat gradient a parameter."""
        return [slice(a, b) for a, b in zip(self.starts[:-1], self.starts[1:], strict=True)]

    def slice_of(self, name: str) -> slice:
        """The slice of one parameter."""
        i = self.names.index(name)
        return slice(self.starts[i], self.starts[i + 1])


def choose_parameters(loaded: LoadedModel, choice: ParameterChoice) -> Layout:
    """The layout of the chosen parameters; a tied weight counts once. Raises ModelError when there is none."""
    named = {name: p for name, p in loaded.model.named_parameters() if p.is_floating_point()}
    adapter = [name for name in named if any(mark in name for mark in ADAPTER_MARKS)]
    if choice == "adapter" or (choice == "auto" and adapter):
        names = adapter
    elif choice == "linear":
        names = [name for name in linear_modules(loaded) if name in named and name not in set(adapter)]
    else:
        names = list(named)
    if not names:
        raise ModelError(
            f"No parameter fits the choice {choice!r} in {type(loaded.model).__name__}.",
            "adapter: weights of a PEFT adapter; linear: linear maps inside the decoder layers; all: every weight.",
            "Load the adapter, or choose another set of parameters.",
        )
    return layout_of(loaded, names)


def layout_of(loaded: LoadedModel, names: Iterable[str]) -> Layout:
    """The layout of named parameters, in the order given."""
    named, names = dict(loaded.model.named_parameters()), tuple(names)
    if any(named[name].is_meta for name in names):
        raise ModelError(
            f"Weights of {loaded.settings.model} are kept on the CPU or the disk by a device map.",
            "Gradients of parameters need the parameters on a device.",
            "Load the model without --device-map, or choose a method that reads hidden states.",
        )
    starts = accumulate((named[name].numel() for name in names), initial=0)
    return Layout(names, tuple(tuple(named[name].shape) for name in names), tuple(starts))


def linear_modules(loaded: LoadedModel) -> dict[str, nn.Module]:
    """Linear maps (nn.Linear, GPT-2's Conv1D) inside the decoder layers, by the name of their weight."""
    from transformers.pytorch_utils import Conv1D

    inside = {id(module) for layer in loaded.blocks.layers for module in layer.modules()}
    return {
        f"{name}.weight": module
        for name, module in loaded.model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and id(module) in inside
    }


def unit_rows(gradients: Float[Tensor, "batch n_params"]) -> Float[Tensor, "batch n_params"]:
    """g / ||g||; a zero gradient stays zero, and its cosine with anything is 0."""
    return gradients / _safe(gradients.norm(dim=1, keepdim=True))


def unit_per_parameter(layout: Layout) -> TransformRows:
    """Each parameter's part divided by its own norm (TracIn-LN, RapidIn); a zero part stays zero."""

    def transform(gradients: Float[Tensor, "batch n_params"]) -> Float[Tensor, "batch n_params"]:
        return torch.cat([unit_rows(gradients[:, part]) for part in layout.slices()], dim=1)

    return transform


def _safe(norms: Tensor) -> Tensor:
    return torch.where(norms > 0, norms, torch.ones_like(norms))
