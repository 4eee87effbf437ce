"""What decides a model's output beside its weights: settings of its config, and the scale of its adapter."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from pydantic import JsonValue
from torch import nn

from whence.files import hash_of
from whence.model.loading import LoadedModel

Settings = dict[str, JsonValue]
"""Values by name; a name inside another has a dot, as in `rope_parameters.rope_theta`."""

OF_CONFIG = (
    # positions
    "rope_parameters",
    "partial_rotary_factor",
    "rotary_pct",
    "position_embedding_type",
    "alibi",
    "no_rope_layers",
    # attention
    "num_attention_heads",
    "num_key_value_heads",
    "layer_types",
    "sliding_window",
    "use_sliding_window",
    "max_window_layers",
    "attention_chunk_size",
    "use_bidirectional_attention",
    "query_pre_attn_scalar",
    "attention_multiplier",
    "attn_logit_softcapping",
    "attn_temperature_tuning",
    "attn_scale",
    "floor_scale",
    "attn_config",
    "ffn_config",
    "clip_qkv",
    "scale_attn_weights",
    "scale_attn_by_inverse_layer_idx",
    "use_qk_norm",
    "qk_layernorm",
    # norms, activations, the order of blocks
    "rms_norm_eps",
    "layer_norm_eps",
    "layer_norm_epsilon",
    "layernorm_epsilon",
    "norm_eps",
    "norm_epsilon",
    "hidden_act",
    "hidden_activation",
    "activation_function",
    "swiglu_limit",
    "activation_sparsity_pattern",
    "parallel_attn",
    "use_parallel_residual",
    "do_layer_norm_before",
    "apply_residual_connection_post_layernorm",
    "time_step_limit",
    # scales
    "embedding_multiplier",
    "residual_multiplier",
    "logits_scaling",
    "logit_scale",
    "final_logit_softcapping",
    "scale_emb",
    "scale_depth",
    "dim_model_base",
    # experts
    "num_experts_per_tok",
    "norm_topk_prob",
    "n_group",
    "topk_group",
    "topk_method",
    "scoring_func",
    "routed_scaling_factor",
)
"""Names in the configs of transformers' causal language models."""

OF_ADAPTER = ("coft", "eps", "apply_GS", "scaling", "random_loc_seed", "feedforward_modules", "topk", "sparse")
"""Names in the configs of PEFT's adapters that change what their weights do; LoRA's scales are read from its layers."""

BY_LENGTH = frozenset({"dynamic", "longrope"})
"""Rotations that depend on `max_position_embeddings`."""


def settings_beside(loaded: LoadedModel) -> Settings:
    """The settings that are there, as JSON; what is None is left out. Numbers that are not finite are text.

    Configs are read as loaded: transformers gives the settings of older checkpoints their names of today.
    """
    config = loaded.text_config
    found = {name: getattr(config, name, None) for name in OF_CONFIG}
    if any(name.endswith("rope_type") and value in BY_LENGTH for name, value in _flat("", found)):
        found["max_position_embeddings"] = getattr(config, "max_position_embeddings", None)
    if hasattr(loaded.model, "get_base_model"):
        for peft in loaded.model.peft_config.values():
            of_adapter = {name: getattr(peft, name, None) for name in OF_ADAPTER}
            found["adapter"] = of_adapter | {"scale": _scale(loaded.model)}
    return {name: value for name, value in _flat("", found) if value is not None}


def other_settings(ours: Mapping[str, JsonValue], theirs: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Of `theirs`, those that `ours` has with another value.

    A name that one of them lacks says nothing: it may be of another version of transformers, PEFT or whence.
    """
    return {name: value for name, value in theirs.items() if name in ours and ours[name] != value}


def _scale(model: nn.Module) -> JsonValue:
    """What each layer of the adapter multiplies its change by: one number where all agree, else a hash of all."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    scales: list[JsonValue] = []
    values: set[float] = set()
    for path, module in model.named_modules():
        by_adapter = getattr(module, "scaling", None)
        if isinstance(module, BaseTunerLayer) and isinstance(by_adapter, Mapping):
            own = [float(by_adapter[name]) for name in module.active_adapters if name in by_adapter]
            scales += [path, *own]
            values.update(own)
    if len(values) < 2:
        return next(iter(values), None)
    return hash_of(scales)


def _flat(prefix: str, value: object) -> Iterator[tuple[str, JsonValue]]:
    """Names and values of nested mappings, and of configs inside configs."""
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    if isinstance(value, Mapping):
        for name, inner in sorted(value.items(), key=lambda pair: str(pair[0])):
            yield from _flat(f"{prefix}.{name}" if prefix else str(name), inner)
    else:
        yield prefix, _json(value)


def _json(value: object) -> JsonValue:
    """The value as it comes back out of a JSON file."""
    if isinstance(value, set | frozenset):
        value = sorted(value)
    text = json.dumps(value, default=str)
    # JSON has no word for numbers that are not finite.
    return str(value) if "Infinity" in text or "NaN" in text else json.loads(text)


__all__ = ["Settings", "other_settings", "settings_beside"]
