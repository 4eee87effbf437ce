"""An adapter's files, and the adapter on its base: read, fitted, and tried with and without."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pydantic import JsonValue
from torch import Tensor

from whence.errors import ModelError
from whence.model.adapter_proof import Reading, own_reading, probe_ids, tolerance
from whence.model.checkpoint import quiet
from whence.model.placement import is_offloaded, stand_ins
from whence.model.places import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    check_place,
    check_safetensors,
    first_line,
    local_folder,
    read_json,
)

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel

ADAPTER_FILES = [ADAPTER_CONFIG, ADAPTER_WEIGHTS, "*token*", "*.jinja", "vocab*", "merges.txt", "*.model"]
"""What is fetched of an adapter on the hub."""

OTHER_TASKS = ("SEQ_CLS", "SEQ_2_SEQ_LM", "TOKEN_CLS", "QUESTION_ANS")

AROUND_EMBEDDINGS = ("", "base_layer.", "modules_to_save.", "token_adapter.base_layer.")
"""What stands between the name of an embedding and its weight in an adapter's file."""

NEED_BASE_WEIGHTS = (
    "use_dora",
    "use_qalora",
    "modules_to_save",
    "target_parameters",
    "trainable_token_indices",
    "layer_replication",
    "arrow_config",
)
"""Settings of LoRA with which it reads or replaces weights of the base."""

NOT_AGAIN = {
    "pissa_niter": "that PEFT approximates at random, each time another",
    "corda": "that PEFT finds with the data it had then",
    "lora_ga": "that PEFT finds from gradients on the data it had then",
}
"""Initialisations of LoRA (their names begin so) that change the base in a way that loading does not repeat."""

REFUSED: dict[str, str] = {
    "XLORA": "it weighs several adapters by a first pass over the whole prompt",
    "POLY": "it needs to be told the task of each example",
    "LILY": "what it does to a token depends on the mean over the whole text, its end included",
    "SHADOW": "it hands a second stream of states from layer to layer",
}
"""Adapter types that no reading through the decoder can follow, besides those of virtual tokens, and why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter's files, read and found whole. name: as the user gave it, with its type."""

    place: str
    folder: Path
    config: PeftConfig
    weights: Mapping[str, Tensor]

    @property
    def type(self) -> str:
        """PEFT's name for what it does, as in LORA."""
        return str(getattr(self.config.peft_type, "value", self.config.peft_type))

    @property
    def name(self) -> str:
        """Where it is and what type it has."""
        return f"{self.place} ({self.type})"


def triggers(config: PeftConfig) -> list[int]:
    """Token ids that an adapter's config names: it may act on these only."""
    found: list[int] = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        for one in value.values() if isinstance(value, dict) else [value]:
            if isinstance(one, list | tuple) and "token" in field.name and all(type(i) is int for i in one):
                found += one
    return found


def read_adapter(place: str) -> Adapter:
    """Reads an adapter's config and weights. Raises ModelError for one that is damaged or of a type not read."""
    check_place(place, ADAPTER_CONFIG, "adapter")
    folder = local_folder(place, ADAPTER_FILES)
    check_place(str(folder), ADAPTER_CONFIG, "adapter")
    content = read_json(folder / ADAPTER_CONFIG, "an adapter's config")
    config = _config(place, folder, content)
    refuse_type(place, config)
    path = folder / ADAPTER_WEIGHTS
    if not path.exists():
        raise ModelError(
            f"The adapter {place} has no {ADAPTER_WEIGHTS}.",
            "whence reads safetensors only, never pickle.",
            "Save it again with a current peft (save_pretrained writes safetensors).",
        )
    check_safetensors(path)
    from safetensors.torch import load_file

    weights = load_file(path)
    _refuse_weights(place, path, weights)
    return Adapter(place, folder, config, weights)


def _config(place: str, folder: Path, content: Mapping[str, JsonValue]) -> PeftConfig:
    from importlib.metadata import version

    from peft import PeftConfig
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    kind = content.get("peft_type")
    known = {str(getattr(name, "value", name)): config for name, config in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    if kind not in known:
        raise ModelError(
            f"The adapter {place} has the type {kind!r}, which peft {version('peft')} does not know.",
            f"Expected peft_type in {folder / ADAPTER_CONFIG} to be one of {', '.join(sorted(known))}.",
            "Install a newer peft (pip install -U peft), or repair the file.",
        )
    own = {field.name for field in dataclasses.fields(known[str(kind)])}
    strange = sorted(key for key, value in content.items() if key not in own and value)
    if strange:
        raise ModelError(
            f"The config of the adapter {place} has settings that peft {version('peft')} does not know: "
            f"{', '.join(strange)}.",
            "Left out, they might make another adapter of it.",
            "Install a newer peft (pip install -U peft).",
        )
    try:
        with quiet():
            return PeftConfig.from_pretrained(str(folder))
    except Exception as error:  # a damaged config can raise anything from peft's own checks
        raise ModelError(
            f"{folder / ADAPTER_CONFIG} is damaged: {first_line(error)}.",
            "Expected an adapter's config, as save_pretrained writes it.",
            "Copy or download that file again, or save the adapter again.",
        ) from error


def refuse_type(place: str, config: PeftConfig) -> None:
    """Raises ModelError for an adapter of a type that whence is known not to read."""
    kind = str(getattr(config.peft_type, "value", config.peft_type))
    why = REFUSED.get(kind)
    if config.is_prompt_learning:
        why = "it puts virtual tokens before the prompt in PEFT's own forward pass"
    elif getattr(config, "alora_invocation_tokens", None):
        kind, why = "activated LoRA", "PEFT's own forward pass turns it on where its invocation tokens stand"
    elif getattr(config, "task_type", None) in OTHER_TASKS:
        kind, why = f"{kind} for {config.task_type}", "it was not trained as a causal language model"
    if why is not None:
        raise ModelError(
            f"The adapter {place} is of the type {kind}, which whence does not read: {why}.",
            "whence reads adapters whose weights act inside the model's layers; see docs/compatibility.md.",
            "Use another checkpoint, or train with LoRA.",
        )


def _refuse_weights(place: str, path: Path, weights: Mapping[str, Tensor]) -> None:
    empty = sorted(name for name, weight in weights.items() if not weight.numel())
    if not weights or empty:
        raise ModelError(
            f"{len(empty)} of the {len(weights)} weights in {path} are empty: {', '.join(empty[:3]) or 'it has none'}.",
            "Expected the trained numbers of the adapter.",
            "DeepSpeed ZeRO-3 leaves empty weights where it did not gather them: run zero_to_fp32.py in the "
            "checkpoint's folder, or save from a gathered model.",
        )
    broken = sorted(name for name, one in weights.items() if one.is_floating_point() and not one.isfinite().all())
    if broken:
        raise ModelError(
            f"{len(broken)} of the weights of the adapter {place} hold NaN or infinity, the first {broken[0]}.",
            "Expected finite numbers.",
            "Training diverged, or the file is damaged: give an earlier checkpoint.",
        )


def fit(model: PreTrainedModel, adapter: Adapter) -> tuple[PeftModel, bool]:
    """The base with the adapter on it, and whether it is the base again once the adapter is turned off.

    Raises ModelError for an adapter that does not fit the model or that changes nothing.
    """
    vocab = int(model.get_input_embeddings().weight.shape[0])
    _check_divided(model, adapter)
    _resize(model, adapter)
    ids = probe_ids(model, vocab, triggers(adapter.config))
    with quiet():
        before = own_reading(model, ids)
        with _hidden_map(model), stand_ins(model):
            wrapped = _wrapped(model, adapter)
        on = _on(wrapped, ids, adapter)
        off = _off(wrapped, ids)
    _refuse_idle(adapter, before, on)
    is_base = off is not None and before.gap(off) <= tolerance(model)
    return wrapped, is_base


@contextmanager
def _hidden_map(model: PreTrainedModel) -> Iterator[None]:
    """While open, PEFT does not see that the model is divided.

    It would take the model's hooks off and divide it again by a map of its own, and write a second copy of weights that
    lie on the disk.
    """
    found = model.__dict__.pop("hf_device_map", None)
    try:
        yield
    finally:
        if found is not None:
            model.hf_device_map = found


def _check_divided(model: PreTrainedModel, adapter: Adapter) -> None:
    """Raises ModelError for an adapter that needs weights of the base where a device map keeps them elsewhere."""
    if not is_offloaded(model):
        return
    config = adapter.config
    why = next((f"{name} is set" for name in NEED_BASE_WEIGHTS if getattr(config, name, None)), "")
    if adapter.type != "LORA":
        why = f"it is of the type {adapter.type}"
    elif getattr(config, "bias", "none") != "none":
        why = "it brings biases of the base"
    elif getattr(config, "init_lora_weights", True) not in (True, False, "gaussian"):
        why = f"it changes the base's weights (init_lora_weights={config.init_lora_weights!r})"
    elif any(".lora_" not in key for key in adapter.weights):
        why = "it brings weights of the base"
    if why:
        raise ModelError(
            f"The adapter {adapter.name} cannot be put on a base that is partly kept on the CPU or disk: {why}.",
            "With --device-map, where the GPUs do not hold the whole model, plain LoRA adapters are read.",
            "Merge the adapter (model.merge_and_unload()), save the model, and give that as MODEL with --base.",
        )


def _refuse_idle(adapter: Adapter, before: Reading, on: Reading) -> None:
    if before.gap(on) == 0.0:
        raise ModelError(
            f"The adapter {adapter.name} changes nothing: with it and without it the states and logits are equal.",
            "Expected the weights of a trained adapter; those of a new one begin at zero (lora_B).",
            "Give the checkpoint of a later step; in bfloat16 or float16 try --dtype float32.",
        )


def _on(wrapped: PeftModel, ids: Tensor, adapter: Adapter) -> Reading:
    try:
        return own_reading(wrapped.eval(), ids)
    except Exception as error:  # PEFT's forward pass is the adapter's own code
        raise ModelError(
            f"The adapter {adapter.name} cannot be run on a plain text: {first_line(error)}.",
            "whence reads adapters whose weights act inside the model's layers; see docs/compatibility.md.",
            "Use another checkpoint, or train with LoRA.",
        ) from error


def _off(wrapped: PeftModel, ids: Tensor) -> Reading | None:
    try:
        with wrapped.disable_adapter():
            return own_reading(wrapped, ids)
    except Exception:  # an adapter that cannot be turned off has its own way to say so
        return None
    finally:
        wrapped.requires_grad_(False)


def _resize(model: PreTrainedModel, adapter: Adapter) -> None:
    """Gives the base the rows that the adapter's saved embeddings have, as PEFT's Auto classes do.

    New rows are the mean of the old ones, so that they are the same each time; the adapter's replace them.
    """
    rows = int(model.get_input_embeddings().weight.shape[0])
    wanted = _stored_rows(model, adapter)
    if wanted is None or wanted <= rows:
        return
    heads = [model.get_input_embeddings(), model.get_output_embeddings()]
    with quiet(), torch.no_grad():
        model.resize_token_embeddings(wanted, mean_resizing=False)
        heads = [model.get_input_embeddings(), model.get_output_embeddings()]
        for weight in (head.weight for head in heads if head is not None):
            weight[rows:] = weight[:rows].float().mean(0).to(weight.dtype)


def _stored_rows(model: PreTrainedModel, adapter: Adapter) -> int | None:
    """Rows of the input or output embeddings that the adapter brings; None if it brings none."""
    parts = {id(model.get_input_embeddings()), id(model.get_output_embeddings())}
    names = [name for name, module in model.named_modules() if id(module) in parts]
    rows = [
        int(weight.shape[0])
        for key, weight in adapter.weights.items()
        for name in names
        if f".{key}".endswith(tuple(f".{name}.{inside}weight" for inside in AROUND_EMBEDDINGS))
    ]
    return max(rows, default=None)


def _wrapped(model: PreTrainedModel, adapter: Adapter) -> PeftModel:
    from peft import PeftModel

    kind = type(model).__name__
    _refuse_drawn(adapter)
    if hasattr(adapter.config, "progressbar"):
        adapter.config.progressbar = False
    try:
        names = _of_text_class(model, adapter)
        wrapped = PeftModel.from_pretrained(
            model, str(adapter.folder), is_trainable=False, config=adapter.config, **names
        )
        # Loaded once more, because only this call says which weights found no place.
        result = wrapped.load_adapter(str(adapter.folder), "default", is_trainable=False, **names)
    except Exception as error:  # a weight in a wrong place or shape can raise anything from peft
        raise ModelError(
            f"The adapter {adapter.name} does not fit {kind}: {first_line(error)}",
            *_fitting(model, adapter),
        ) from error
    missing = _not_shared(wrapped, result.missing_keys)
    homeless = [key for key in result.unexpected_keys if not _drawn_alike(wrapped, adapter, key)]
    strange = sorted({*missing, *homeless})
    if strange:
        raise ModelError(
            f"The adapter {adapter.name} does not fit {kind}: {len(homeless)} of its weights have no "
            f"place there and {len(missing)} are missing, the first {strange[0]}.",
            *_fitting(model, adapter),
        )
    return wrapped


def _refuse_drawn(adapter: Adapter) -> None:
    """Raises ModelError where training began by changing the base in a way that loading does not repeat."""
    begun = getattr(adapter.config, "init_lora_weights", True)
    why = next((why for name, why in NOT_AGAIN.items() if isinstance(begun, str) and begun.startswith(name)), None)
    if why is not None:
        raise ModelError(
            f"The adapter {adapter.name} sits on a base that cannot be made again (init_lora_weights={begun!r}).",
            f"Training took a part of the base's weights away {why}.",
            "Save it as plain LoRA where it was trained: save_pretrained(..., path_initial_model_for_weight_conversion="
            "...), or merge it and give the merged model with --base. If MODEL is the base as training changed it, put "
            '"init_lora_weights": true into adapter_config.json.',
        )


def _of_text_class(model: PreTrainedModel, adapter: Adapter) -> dict[str, object]:
    """PEFT's key_mapping for an adapter of a class with images, where this model is the class of text alone."""
    inside = "language_model."
    if not all(f".{inside}" in key for key in adapter.weights) or any(inside in key for key in model.state_dict()):
        return {}
    own = getattr(model, "_checkpoint_conversion_mapping", None) or {}
    return {"key_mapping": {**own, rf"(?<![^.]){re.escape(inside)}": ""}}


def _not_shared(wrapped: PeftModel, missing: Sequence[str]) -> list[str]:
    """The missing weights that are no second name of one that was loaded, as a vector bank of many layers has."""
    if not missing:
        return []
    weights = wrapped.state_dict(keep_vars=True)
    loaded = {weight.data_ptr() for name, weight in weights.items() if name not in set(missing)}
    return [name for name in missing if name not in weights or weights[name].data_ptr() not in loaded]


def _drawn_alike(wrapped: PeftModel, adapter: Adapter, key: str) -> bool:
    """Whether PEFT, which before 0.19 reads no saved projections of VeRA, drew from their seed what was saved."""
    name = key.removeprefix("base_model.")
    drawn = getattr(wrapped.base_model, name, None) if name in ("vera_A", "vera_B") else None
    if drawn is None or key not in adapter.weights:
        return False
    saved, own = adapter.weights[key], drawn["default"]
    return saved.shape == own.shape and bool((saved.to(own) == own).all())


def _fitting(model: PreTrainedModel, adapter: Adapter) -> tuple[str, str]:
    base = adapter.config.base_model_name_or_path
    named = f"Its config names the base model {base!r}." if base else "Its config names no base model."
    rows, own = _stored_rows(model, adapter), int(model.get_input_embeddings().weight.shape[0])
    sizes = f" Its embeddings have {rows} rows, the model's {own}." if rows not in (None, own) else ""
    return f"An adapter fits only the model it was trained on.{sizes}", f"{named} Give that one as MODEL."


__all__ = ["REFUSED", "Adapter", "fit", "read_adapter", "refuse_type", "triggers"]
