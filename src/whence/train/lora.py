"""A fresh LoRA adapter on a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from torch import nn

from whence.errors import InputError
from whence.files import did_you_mean

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def with_adapter(
    model: PreTrainedModel, *, r: int, alpha: float, dropout: float, targets: Sequence[str] | Literal["all-linear"]
) -> PreTrainedModel:
    """The model with an adapter of rank r on the modules of these names. Raises InputError for one that has none."""
    from peft import LoraConfig, get_peft_model

    names = "all-linear" if targets == "all-linear" else list(targets)
    _check_targets(model, names)
    config = LoraConfig(task_type="CAUSAL_LM", r=r, lora_alpha=alpha, lora_dropout=dropout, target_modules=names)
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise InputError(
            f"PEFT puts no adapter on {names}: {' '.join(str(error).split())[:200]}",
            "Expected modules that it knows, such as linear maps.",
            f"--lora-target takes one of {', '.join(_linear_names(model))}.",
        ) from error


def _check_targets(model: PreTrainedModel, names: Sequence[str]) -> None:
    """Raises InputError for a name that no module has: of several, PEFT would take the others alone."""
    if names == "all-linear":
        return
    known = [f".{name}" for name, _ in model.named_modules()]
    for name in names:
        if not any(one.endswith(f".{name}") for one in known):
            linear = _linear_names(model)
            raise InputError(
                f"The model has no module {name!r} that could get an adapter.",
                f"Its linear maps are {', '.join(linear)}.",
                did_you_mean(name, linear, "Give one of these with --lora-target, or leave it out for all."),
            )


def _linear_names(model: PreTrainedModel) -> list[str]:
    """The last parts of the names of the model's linear maps, and of GPT-2's, which are of a class of their own."""
    kinds = (nn.Linear,)
    found = [name for name, part in model.named_modules() if isinstance(part, kinds) or type(part).__name__ == "Conv1D"]
    return list(dict.fromkeys(name.rpartition(".")[2] for name in found))


__all__ = ["with_adapter"]
