"""Where a model's weights are: on one device, or spread by accelerate's device map over several, the CPU and the disk.

A module whose weights are kept elsewhere holds tensors without content (`meta`). accelerate's hook puts the stored ones
in their place for the length of its forward pass, and moves what goes in to the device where it runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from whence.errors import InputError

DeviceMap = Literal["auto", "balanced", "balanced_low_0", "sequential"]
"""accelerate's names for how layers are spread."""

UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}

SHARE = 0.9
"""Of the free memory of a device for which no limit was given; the rest is for what a batch needs."""


class Placement(NamedTuple):
    """Where a model is put: on one device, or, with a device map, on several.

    device: auto, cpu, cuda, cuda:N or mps. device_map: see DeviceMap. max_memory: the most of each device, as in
    {"0": "70GiB", "cpu": "200GiB"}, numbers being GPUs; of a device that is not named, `SHARE` of what is free.
    """

    device: str = "auto"
    device_map: DeviceMap | None = None
    max_memory: Mapping[str, str] | None = None


def as_placement(found: str | Placement) -> Placement:
    """A device's name as a placement."""
    return found if isinstance(found, Placement) else Placement(found)


def parse_limits(limits: Mapping[str, str]) -> dict[int | str, int]:
    """{"0": "70GiB", "cpu": "200GiB"} in bytes, GPUs by number. Raises InputError."""
    found: dict[int | str, int] = {}
    for device, text in limits.items():
        size = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?i?B)", text.strip(), re.IGNORECASE)
        if size is None or not (device.isdecimal() or device in ("cpu", "mps")):
            raise InputError(
                f"--max-memory {device}={text} cannot be read.",
                "Expected the number of a GPU, cpu or mps, and a size, as in 0=70GiB,cpu=200GiB.",
                "Weights that fit none of them are read from the disk.",
            )
        found[int(device) if device.isdecimal() else device] = int(float(size[1]) * UNITS[size[2].upper()])
    return found


def memory_limits(limits: Mapping[str, str] | None) -> dict[int | str, int] | None:
    """Bytes of every device that weights may take; None leaves it to transformers.

    Raises InputError for a device that is not here.
    """
    if not limits:
        return None
    from accelerate.utils import get_max_memory

    asked = parse_limits(limits)
    free = get_max_memory()
    strange = sorted(str(device) for device in asked if device not in free)
    if strange:
        raise InputError(
            f"--max-memory names {strange[0]}, which this machine does not have.",
            f"It has {', '.join(str(device) for device in free)}.",
            "GPUs are numbered from 0.",
        )
    return {device: asked.get(device, int(SHARE * size)) for device, size in free.items()}


def run_device(module: nn.Module) -> torch.device:
    """The device on which a module computes, wherever its weights are kept."""
    for parameter in module.parameters():
        if not parameter.is_meta:
            return parameter.device
    for inner in module.modules():
        for hook in _hooks(inner):
            if getattr(hook, "execution_device", None) is not None:
                return torch.device(hook.execution_device)  # type: ignore[attr-defined]
    return torch.device("cpu")


def is_offloaded(model: nn.Module) -> bool:
    """Whether some weights are kept elsewhere than where they are computed with: on the CPU or the disk."""
    return any(True for _ in _kept(model))


def weights_of(model: nn.Module) -> dict[str, Callable[[], Tensor]]:
    """Every entry of the state dict, each read when it is called; those that are kept elsewhere come from there."""
    found: dict[str, Callable[[], Tensor]] = {
        name: (lambda tensor=tensor: tensor)  # type: ignore[misc]
        for name, tensor in model.state_dict().items()
    }
    for prefix, module, elsewhere in _kept(model):
        for name in _offloaded_names(module):
            full = f"{prefix}.{name}" if prefix else name
            if full in found:
                found[full] = lambda kept=elsewhere, name=name: kept[name]  # type: ignore[misc]
    return found


def stored_weight(module: nn.Module, name: str = "weight") -> Tensor:
    """One weight of a module, on the device where the module computes."""
    own: Tensor = getattr(module, name)
    if not own.is_meta:
        return own
    for _, inner, elsewhere in _kept(module):
        if inner is module:
            return elsewhere[name].to(run_device(module), own.dtype)
    return own


@contextmanager
def stand_ins(model: nn.Module) -> Iterator[None]:
    """While open, a weight that is kept elsewhere is a zero on its computing device that is repeated over its shape.

    It takes no memory, and says to who asks it where an adapter's weights belong.
    """
    replaced: list[tuple[nn.Module, str, nn.Parameter]] = []
    for _, module, _ in _kept(model):
        device = run_device(module)
        for name, own in list(module.named_parameters(recurse=False)):
            if own.is_meta:
                zero = torch.zeros((), dtype=own.dtype, device=device).expand(own.shape)
                module._parameters[name] = nn.Parameter(zero, requires_grad=False)
                replaced.append((module, name, own))
    try:
        yield
    finally:
        for module, name, own in replaced:
            module._parameters[name] = own


def _kept(model: nn.Module) -> Iterator[tuple[str, nn.Module, Mapping[str, Tensor]]]:
    """Each module whose weights a hook keeps elsewhere: its name, itself, and the weights by name."""
    for prefix, module in model.named_modules():
        for hook in _hooks(module):
            if getattr(hook, "offload", False) and getattr(hook, "weights_map", None) is not None:
                yield prefix, module, hook.weights_map  # type: ignore[attr-defined]


def _offloaded_names(module: nn.Module) -> list[str]:
    tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    return [name for name, tensor in tensors if tensor.is_meta]


def _hooks(module: nn.Module) -> list[object]:
    """accelerate's hooks of a module; several stand in one that calls them in turn."""
    hook = getattr(module, "_hf_hook", None)
    return [] if hook is None else [*getattr(hook, "hooks", [hook])]


__all__ = [
    "DeviceMap",
    "Placement",
    "as_placement",
    "is_offloaded",
    "memory_limits",
    "parse_limits",
    "run_device",
    "stand_ins",
    "stored_weight",
    "weights_of",
]
