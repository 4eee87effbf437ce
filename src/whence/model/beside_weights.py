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

POSITIONS = """
rope_parameters partial_rotary_factor rotary_dim rotary_pct rope_interleave layer_rope_theta compress_rope_theta
position_embedding_type alibi no_rope_layers no_rope_layer_interval log_scaling_alpha log_scaling_n_floor
"""
ATTENTION = """
num_attention_heads num_key_value_heads num_kv_heads head_dim num_attention_heads_per_layer swa_num_attention_heads
swa_num_key_value_heads num_kv_shared_layers attention_layers full_attn_idxs global_attn_every_n_layers sliding_window
use_sliding_window max_window_layers sliding_window_size window_size attention_window_size attention_chunk_size
local_attention use_bidirectional_attention index_topk query_pre_attn_scalar attention_multiplier attention_value_scale
attn_logit_softcapping attn_temperature_tuning attn_scale floor_scale attn_config clip_qkv scale_attn_weights
scale_attn_by_inverse_layer_idx use_qk_norm qk_layernorm
"""
NORMS = """
rms_norm_eps layer_norm_eps layer_norm_epsilon layernorm_epsilon norm_epsilon norm_eps mixer_rms_eps eps
do_layer_norm_before apply_residual_connection_post_layernorm parallel_attn use_parallel_residual
mamba_norm_before_gate residual_in_fp32
"""
ACTIVATIONS = """
hidden_act hidden_activation activation_function activation afn mlp_hidden_act mamba_hidden_act hidden_mamba_act
swiglu_limit swiglu_alpha activation_sparsity_pattern time_step_limit linear_allow_neg_eigval kda_lower_bound
"""
SCALES = """
embedding_multiplier embedding_scale scale_embedding scale_emb scale_depth dim_model_base mup_enabled
residual_multiplier logits_scaling logits_mup_width_multiplier logit_scale final_logit_softcapping logits_soft_cap
output_logit_soft_cap gate_soft_cap lm_head_multiplier attention_in_multiplier attention_out_multiplier key_multiplier
mlp_multipliers ssm_multipliers ssm_in_multiplier ssm_out_multiplier full_attn_alpha_factor full_attn_beta_factor
linear_attn_alpha_factor linear_attn_beta_factor mlp_alpha_factor mlp_beta_factor altup_correct_scale rescale_every
"""
EXPERTS = """
num_experts_per_tok num_experts_per_token top_k_experts moe_topk moe_k ffn_config norm_topk_prob moe_renormalize
moe_norm_min routed_scaling_factor router_scaling_factor moe_routed_scaling_factor route_scale n_group topk_group
num_expert_group topk_method scoring_func expert_selection_fn moe_apply_router_weight_on_input
moe_router_logit_softcapping
"""
OF_CONFIG = (POSITIONS + ATTENTION + NORMS + ACTIVATIONS + SCALES + EXPERTS).split()
"""Names in the configs of transformers' causal language models."""

PART_OF_TEXT = ("sliding", "chunked", "local")
"""Words in the names of types of layers that do not see the whole text."""

ADAPTERS = """
scaling randlora_alpha psoft_alpha delora_lambda lambda_pattern use_qalora qalora_group_size feedforward_modules
decompose_both coft eps block_share use_cayley_neumann num_cayley_neumann_terms cayley_neumann_eps apply_GS variant
group_size topk projection_prng_key projection_seed proj_seed random_loc_seed sparse very_sparse wavelet_family use_idwt
act_fn decomposition_method para
"""
OF_ADAPTER = ADAPTERS.split()
"""Names in the configs of PEFT's adapters that change what their weights do; LoRA's scales are read from its layers."""

BY_LENGTH = frozenset({"dynamic", "longrope"})
"""Rotations that depend on `max_position_embeddings`."""


def settings_beside(loaded: LoadedModel) -> Settings:
    """The settings that are there, as JSON; what is None is left out. Numbers that are not finite are text.

    Configs are read as loaded: transformers gives the settings of older checkpoints their names of today.
    """
    config = loaded.text_config
    found = {name: _value(config, name) for name in OF_CONFIG} | {"layer_types": _layer_types(config)}
    if any(name.endswith("rope_type") and value in BY_LENGTH for name, value in _flat("", found)):
        found["max_position_embeddings"] = _value(config, "max_position_embeddings")
    if hasattr(loaded.model, "get_base_model"):
        for peft in loaded.model.peft_config.values():
            of_adapter = {name: getattr(peft, name, None) for name in OF_ADAPTER}
            found["adapter"] = of_adapter | {"scale": _scale(loaded.model)}
    return {name: value for name, value in _flat("", found) if value is not None}


def _value(config: object, name: str) -> object:
    try:
        return getattr(config, name, None)
    except RuntimeError:
        # transformers has no single value for what differs from layer to layer.
        return [getattr(layer, name, None) for layer in config.per_layer_config]  # type: ignore[attr-defined]


def _layer_types(config: object) -> list[str] | None:
    """Which layers see a part of the text alone.

    Other types have weights of their own, and their names change between versions of transformers.
    """
    types = _value(config, "layer_types")
    if not isinstance(types, list | tuple):
        return None
    return [str(one) if any(word in str(one) for word in PART_OF_TEXT) else "other" for one in types]


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
    text = json.dumps(value, default=lambda other: getattr(other, "value", type(other).__name__))
    # JSON has no word for numbers that are not finite.
    return str(value) if "Infinity" in text or "NaN" in text else json.loads(text)


__all__ = ["Settings", "other_settings", "settings_beside"]
