"""A whole model's weights, and the proof that all of them are the stored ones.

transformers fills a weight that a checkpoint lacks with random numbers and leaves one that it does not know aside, both
with a warning. Here either is an error.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pydantic import JsonValue
from torch import nn

from whence.errors import ModelError, install_extra
from whence.model.placement import is_offloaded, weights_of
from whence.model.places import check_weight_files, first_line, has_weights, read_json, stored_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedModel

PREFIXES = {
    "_orig_mod.": "torch.compile",
    "_fsdp_wrapped_module.": "FSDP",
    "_checkpoint_wrapped_module.": "activation checkpointing",
    "module.": "DistributedDataParallel",
}
"""What training wrappers leave in the names of weights, and which of them does."""

READ_QUANTISED = ("bitsandbytes_4bit", "bitsandbytes_8bit")
"""Stored quantisations that are read, on a CUDA device; the names are those of transformers."""

NAMED = 3

NO_CLASS = "Unrecognized configuration class"
"""How transformers begins when a model type has no class of the kind asked for."""


def load_checkpoint(place: str, options: Mapping[str, object], tell: Callable[[str], None]) -> PreTrainedModel:
    """The causal language model at `place`, a folder or a hub name; `options` are those of from_pretrained.

    Raises ModelError unless every weight of the model was in the checkpoint, in its shape, and no other was.
    """
    if Path(place).is_dir() and not has_weights(place):
        raise ModelError(
            f"No causal language model could be loaded from {place!r}: the folder holds no weights.",
            "Expected a folder saved by save_pretrained (config.json, model.safetensors).",
            "Give the folder with the weights; an intermediate checkpoint may have to be converted first.",
        )
    model, info = _from_pretrained(place, options)
    found = _prefixes([*info["unexpected_keys"]])
    if found and info["missing_keys"]:
        again, known = _from_pretrained(place, {**options, "key_mapping": _without(found)})
        if not any(known.values()):
            model, info = again, known
            tell(f"The names of the weights in {place} were read without {_listed(found)}")
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ModelError(
            f"{place} holds an adapter beside the model.",
            "whence reads an adapter on its own, so that it can be turned off.",
            f"Give the base as MODEL and the adapter with --adapter {place}.",
        )
    _refuse_strange(place, type(model).__name__, info)
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """Silences the warnings of libraries while they load: what they would say of the weights is checked here."""
    said = logging.getLogger("accelerate.big_modeling")
    level = said.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        said.setLevel(logging.ERROR)
        try:
            yield
        finally:
            said.setLevel(level)


def _from_pretrained(place: str, options: Mapping[str, object]) -> tuple[PreTrainedModel, dict[str, list[str]]]:
    """The model, and the names of its weights that are missing, unexpected or of another shape."""
    from transformers import AutoModelForCausalLM

    try:
        with quiet():
            # Another shape is refused below, with the names, which the error of from_pretrained does not give.
            model, info = AutoModelForCausalLM.from_pretrained(
                place, output_loading_info=True, ignore_mismatched_sizes=True, **options
            )
    except Exception as error:  # a damaged file can raise anything, from the reader of any part
        config = stored_file(place, "config.json", _text(options.get("revision")))
        if config is not None:
            check_weight_files(config.parent)
            if NO_CLASS in str(error):
                raise _without_class(place, config) from error
        raise ModelError(
            f"No causal language model could be loaded from {place!r}: {first_line(error)}",
            "Expected a folder saved by save_pretrained (config.json, model.safetensors) or a hub name.",
            "Check the path; weights must be safetensors, never pickle; own code needs --trust-remote-code.",
        ) from error
    shapes = [f"{name} {tuple(stored)} instead of {tuple(own)}" for name, stored, own in info["mismatched_keys"]]
    names = {kind: sorted(info[kind]) for kind in ("missing_keys", "unexpected_keys")}
    return model, {**names, "mismatched_keys": sorted(shapes), "error_msgs": list(info.get("error_msgs", ()))}


def _without_class(place: str, config: Path) -> ModelError:
    kind = read_json(config, "a model's config").get("model_type")
    return ModelError(
        f"No causal language model could be loaded from {place!r}: transformers has none for the model type {kind!r}.",
        "Expected a model type that AutoModelForCausalLM knows; some that take images as well have only a class of "
        "their own.",
        "Give a text model, or save this one's language model and its head as a causal language model of text.",
    )


def _refuse_strange(place: str, kind: str, info: Mapping[str, list[str]]) -> None:
    missing, unexpected, shapes = info["missing_keys"], info["unexpected_keys"], info["mismatched_keys"]
    parts = [
        f"{len(names)} {what} ({_few(names)})"
        for names, what in (
            (missing, "are missing"),
            (unexpected, "have no place in it"),
            (shapes, "have another shape"),
        )
        if names
    ]
    if not parts and not info["error_msgs"]:
        return
    if not parts:
        parts = [f"some could not be read ({_few(info['error_msgs'])})"]
    raise ModelError(
        f"The weights in {place} are not those of {kind}: {', '.join(parts)}.",
        "Expected every weight of the model and no other; a weight that is missing would be random.",
        _repair(missing, unexpected, shapes),
    )


def _repair(missing: list[str], unexpected: list[str], shapes: list[str]) -> str:
    if any(re.search(r" \((0,|\d.*, 0\)|.*, 0,)", shape) for shape in shapes):
        return (
            "Empty weights are what DeepSpeed ZeRO-3 leaves where it did not gather them: run zero_to_fp32.py in the "
            "checkpoint's folder, and save that with save_pretrained."
        )
    if any(".base_layer." in name or ".lora_" in name for name in unexpected):
        return (
            "They are those of a PEFT model that was not merged: save model.merge_and_unload() with save_pretrained, "
            "or save the adapter alone and give it with --adapter."
        )
    if found := _prefixes(unexpected):
        return (
            f"Their names carry {_listed(found)}: unwrap the model before it is saved "
            "(accelerator.unwrap_model(model).save_pretrained(FOLDER))."
        )
    return "Save the whole model again with save_pretrained; check that config.json belongs to these weights."


def _prefixes(names: Iterable[str]) -> list[str]:
    """The wrappers' prefixes that stand in these names."""
    joined = ["." + name for name in names]
    return [prefix for prefix in PREFIXES if any("." + prefix in name for name in joined)]


def _without(prefixes: Iterable[str]) -> dict[str, str]:
    """from_pretrained's key_mapping that takes prefixes out of names; `module.` can be a name, but not at the front."""
    return {("^" if prefix == "module." else r"(?<![^.])") + re.escape(prefix): "" for prefix in prefixes}


def _listed(prefixes: Iterable[str]) -> str:
    return " and ".join(f"the prefix {prefix!r} of {PREFIXES[prefix]}" for prefix in prefixes)


def _few(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")


def stored_quantisation(place: str, revision: str | None = None) -> str | None:
    """How the weights are stored quantised, by the name that transformers has for it; None if they are not.

    Raises ModelError for a damaged config.json.
    """
    path = stored_file(place, "config.json", revision)
    config: dict[str, JsonValue] = read_json(path, "a model's config") if path is not None else {}
    text = config.get("text_config")
    for part in (config, text if isinstance(text, dict) else {}):
        found = part.get("quantization_config") or part.get("compression_config")
        if isinstance(found, dict):
            return _method(found)
    return None


def _method(found: Mapping[str, JsonValue]) -> str:
    method = found.get("quant_method")
    if found.get("load_in_4bit") or found.get("_load_in_4bit"):
        return "bitsandbytes_4bit"
    if method in (None, "bitsandbytes") and (found.get("load_in_8bit") or found.get("_load_in_8bit")):
        return "bitsandbytes_8bit"
    return str(method or "an unknown method")


def check_quantisation(place: str, method: str, device: torch.device, adapter: str | None, asked: str | None) -> None:
    """Raises ModelError for a model stored quantised in a way that cannot be read here."""
    from importlib.util import find_spec

    found = f"{place} is stored quantised with {method}"
    give = (
        f"Give the unquantised model as MODEL, with --adapter {adapter}."
        if adapter
        else "Give the unquantised model as MODEL."
    )
    if method not in READ_QUANTISED:
        raise ModelError(
            f"{found}, which whence does not read.",
            "Expected float32, bfloat16 or float16 weights, or bitsandbytes on a CUDA device.",
            give,
        )
    if device.type != "cuda" or find_spec("bitsandbytes") is None:
        missing = "a CUDA device" if device.type != "cuda" else "the package bitsandbytes"
        raise ModelError(
            f"{found}, which needs {missing}; it is not here.",
            "4 and 8 bit run on CUDA with bitsandbytes.",
            f"{give} Or go to a machine with a GPU. {install_extra('quantized')}",
        )
    if asked is not None:
        raise ModelError(
            f"{found} already.", "--quantization is for weights that are not.", "Leave --quantization out."
        )


@torch.no_grad()
def check_finite(model: nn.Module, place: str) -> None:
    """Raises ModelError that names the weights that hold NaN or infinity, or that lie on the disk in another shape."""
    stored = weights_of(model)
    if not is_offloaded(model) and any(weight.is_meta for weight in model.parameters()):
        raise ModelError(
            f"The weights of {place} were left wholly on the disk, where these versions of transformers and "
            "accelerate read none.",
            "A part must fit into memory.",
            "Give more with --max-memory, or install newer ones (pip install -U transformers accelerate).",
        )
    bad, shapes = [], []
    for name, own in model.named_parameters():
        weight = stored[name]()
        if weight.shape != own.shape:
            shapes.append(f"{name} {tuple(weight.shape)} instead of {tuple(own.shape)}")
        elif not _is_finite(weight):
            bad.append(name)
    info = {"missing_keys": [], "unexpected_keys": [], "mismatched_keys": sorted(shapes), "error_msgs": []}
    _refuse_strange(place, type(model).__name__, info)
    if bad:
        raise ModelError(
            f"{len(bad)} of the weights in {place} hold NaN or infinity ({_few(bad)}).",
            "Expected finite numbers.",
            "Training diverged, or the file is damaged: give an earlier checkpoint, or --dtype float32 or bfloat16 if "
            "the weights overflow in float16.",
        )


def _is_finite(weight: torch.Tensor) -> bool:
    if not weight.is_floating_point() or weight.dtype.itemsize < 2 or not weight.numel() or weight.is_meta:
        return True
    # The extremes carry a NaN on, and cost one pass without a copy.
    return bool(torch.stack(torch.aminmax(weight)).isfinite().all())


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


__all__ = [
    "READ_QUANTISED",
    "check_finite",
    "check_quantisation",
    "load_checkpoint",
    "quiet",
    "stored_quantisation",
]
