"""Whose gradients: the choice of parameters, and where each lies in the flat gradient vector."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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

ADAPTION_PROMPT = ("adaption_prompt", "adaption_gate")
"""Weights of LLaMA-Adapter, the one type whose layers are no tuner layers of PEFT."""

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


def choose_parameters(loaded: LoadedModel, choice: ParameterChoice) -> Layout:
    """The layout of the chosen parameters; a tied weight counts once. Raises ModelError when there is none.

    auto: the adapter's where the model has one, else all.
    """
    named = {name: p for name, p in loaded.model.named_parameters() if p.is_floating_point()}
    adapter = adapter_parameters(loaded.model)
    if choice == "adapter" or (choice == "auto" and getattr(loaded.model, "peft_config", None)):
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


def adapter_parameters(model: nn.Module) -> list[str]:
    """Names of the parameters that the active adapter trains, as PEFT marks them: of any type, with modules_to_save,
    trained tokens and biases. Which of them require a gradient is as before afterwards.
    """
    if not getattr(model, "peft_config", None):
        return []
    before = [(p, p.requires_grad) for p in model.parameters()]
    try:
        model.requires_grad_(False)
        _mark_trained(model)
        return [name for name, p in model.named_parameters() if p.requires_grad and p.is_floating_point()]
    finally:
        for p, required in before:
            p.requires_grad_(required)


def _mark_trained(model: nn.Module) -> None:
    """Sets requires_grad of the active adapter's weights."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    active: set[str] = set()
    for module in model.modules():
        if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper):
            module.set_adapter(module.active_adapters)
            active.update(module.active_adapters)
    configs: Mapping[str, object] = model.peft_config  # type: ignore[assignment]
    biases = {getattr(config, "bias", "none") for name, config in configs.items() if name in active}
    of_layers = {id(getattr(m, "bias", None)) for m in model.modules() if isinstance(m, BaseTunerLayer)}
    for name, p in model.named_parameters():
        of_adaption_prompt = name.rsplit(".", 1)[-1].startswith(ADAPTION_PROMPT)
        every_bias = "all" in biases and name.endswith(".bias")
        own_bias = bool(biases - {"none", "all"}) and id(p) in of_layers
        if of_adaption_prompt or every_bias or own_bias:
            p.requires_grad_(True)


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
