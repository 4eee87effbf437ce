"""What decides a model's output beside its weights: settings of its config, and the scale of its adapter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum

from pydantic import JsonValue
from torch import nn

from whence.files import hash_of
from whence.model.loading import LoadedModel

Settings = dict[str, JsonValue]
"""Values by name; a name inside another has a dot, as in `rope_parameters.rope_theta`."""

POSITIONS = """
partial_rotary_factor rotary_dim rotary_pct rope_interleave layer_rope_theta compress_rope_theta
position_embedding_type alibi no_rope_layers no_rope_layer_interval log_scaling_alpha log_scaling_n_floor
"""
ATTENTION = """
num_attention_heads num_key_value_heads num_kv_heads head_dim num_attention_heads_per_layer swa_num_attention_heads
swa_num_key_value_heads num_kv_shared_layers attention_layers full_attn_idxs global_attn_every_n_layers sliding_window
use_sliding_window max_window_layers sliding_window_size window_size attention_window_size attention_chunk_size
local_attention use_bidirectional_attention index_topk query_pre_attn_scalar attention_multiplier attention_value_scale
attn_logit_softcapping attn_temperature_tuning attn_scale floor_scale clip_qkv scale_attn_weights
scale_attn_by_inverse_layer_idx use_qk_norm qk_layernorm attn_config.alibi attn_config.alibi_bias_max
attn_config.softmax_scale attn_config.clip_qkv attn_config.rope_theta
"""
NORMS = """
rms_norm_eps layer_norm_eps layer_norm_epsilon layernorm_epsilon norm_epsilon norm_eps mixer_rms_eps eps
do_layer_norm_before apply_residual_connection_post_layernorm parallel_attn use_parallel_residual
mamba_norm_before_gate residual_in_fp32
"""
ACTIVATIONS = """
hidden_act hidden_activation activation_function activation afn mlp_hidden_act mamba_hidden_act hidden_mamba_act
swiglu_limit swiglu_alpha activation_sparsity_pattern time_step_limit linear_allow_neg_eigval kda_lower_bound
kda_safe_gate
"""
SCALES = """
embedding_multiplier embedding_scale scale_embedding scale_emb scale_depth dim_model_base mup_enabled
residual_multiplier logits_scaling logits_mup_width_multiplier logit_scale final_logit_softcapping logits_soft_cap
output_logit_soft_cap gate_soft_cap lm_head_multiplier attention_in_multiplier attention_out_multiplier key_multiplier
mlp_multipliers ssm_multipliers ssm_in_multiplier ssm_out_multiplier full_attn_alpha_factor full_attn_beta_factor
linear_attn_alpha_factor linear_attn_beta_factor mlp_alpha_factor mlp_beta_factor altup_active_idx altup_correct_scale
rescale_every
"""
EXPERTS = """
num_experts_per_tok num_experts_per_token top_k_experts moe_topk moe_k norm_topk_prob moe_renormalize moe_norm_min
routed_scaling_factor router_scaling_factor moe_routed_scaling_factor route_scale n_group topk_group num_expert_group
topk_method scoring_func expert_selection_fn moe_apply_router_weight_on_input moe_router_logit_softcapping
shared_expert_combination_strategy ffn_config.moe_top_k ffn_config.moe_normalize_expert_weights ffn_config.ffn_act_fn
"""
OF_CONFIG = (POSITIONS + ATTENTION + NORMS + ACTIVATIONS + SCALES + EXPERTS).split()
"""Names in the configs of transformers' causal language models; with a dot, in a config inside one.

Ties of weights (`tie_word_embeddings`) are not among them: the hash of the weights as loaded shows what they do.
"""
ROTATIONS = """
rope_type rope_theta partial_rotary_factor factor original_max_position_embeddings attention_factor beta_fast beta_slow
mscale mscale_all_dim truncate short_factor long_factor low_freq_factor high_freq_factor short_mscale long_mscale
llama_4_scaling_beta
"""
OF_ROTATIONS = ROTATIONS.split()
"""Names in `rope_parameters`."""

PART_OF_TEXT = ("sliding", "chunked", "local")
"""Words in the names of types of layers that do not see the whole text."""

ADAPTERS = """
r scaling randlora_alpha psoft_alpha delora_lambda lambda_pattern use_qalora qalora_group_size feedforward_modules
decompose_both coft eps block_share use_cayley_neumann num_cayley_neumann_terms cayley_neumann_eps apply_GS variant
group_size topk projection_prng_key projection_seed proj_seed random_seed random_loc_seed regularization_alpha sparse
very_sparse wavelet_family use_idwt act_fn decomposition_method para
"""
OF_ADAPTER = ADAPTERS.split()
"""Names in the configs of PEFT's adapters that change what their weights do; LoRA's scales are read from its layers."""

IN_ADAPTER = "adapter."
"""What the names of an adapter's settings begin with."""

BY_LENGTH = frozenset({"dynamic", "longrope"})
"""Rotations that depend on `max_position_embeddings`."""


def settings_beside(loaded: LoadedModel) -> Settings:
    """The settings of the model and of its active adapter that change what the weights do, as JSON.

    Configs are read as loaded: transformers gives the settings of older checkpoints their names of today. A name that a
    config lacks is left out; one that is None there is null. Numbers that are not finite are text.
    """
    config = loaded.text_config
    found: Settings = {}
    for name in OF_CONFIG:
        found |= _setting(config, name)
    found |= _layer_types(config) | _rotations(config)
    if any(name.endswith("rope_type") and value in BY_LENGTH for name, value in found.items()):
        found |= _setting(config, "max_position_embeddings")
    if hasattr(loaded.model, "get_base_model"):
        found |= _adapters(loaded.model)
    return found


def without_adapter(settings: Mapping[str, JsonValue]) -> Settings:
    """The settings of the model that the adapter sits on."""
    return {name: value for name, value in settings.items() if not name.startswith(IN_ADAPTER)}


def _setting(config: object, name: str) -> Settings:
    """The value under its name; nothing where the config has no such name."""
    *around, last = name.split(".")
    for part in around:
        config = getattr(config, part, None)
    try:
        return {name: _json(getattr(config, last))} if hasattr(config, last) else {}
    except RuntimeError:
        # transformers has no single value for what differs from layer to layer; older versions have one.
        layers = config.per_layer_config  # type: ignore[attr-defined]
        return {f"{name} by layer": [_json(getattr(layer, last, None)) for layer in layers]}


def _rotations(config: object) -> Settings:
    """`rope_parameters`, those of each type of layer where it has them apart. What is not there is null, and the part
    of each head that is rotated all of it, as some versions of transformers write."""
    given = getattr(config, "rope_parameters", None)
    if not isinstance(given, Mapping):
        return {}
    nested = {f"{kind}.": part for kind, part in given.items() if isinstance(part, Mapping)}
    usual = {"partial_rotary_factor": getattr(config, "partial_rotary_factor", None) or 1.0}
    return {
        f"rope_parameters.{kind}{name}": _json(part.get(name, usual.get(name)))
        for kind, part in (nested or {"": given}).items()
        for name in OF_ROTATIONS
        if part
    }


def _adapters(model: nn.Module) -> Settings:
    """The settings of the active adapter, and its scale. Where several are active, each has its name before them."""
    active = sorted(name for name in model.active_adapters if name in model.peft_config)  # type: ignore[operator,union-attr]
    found: Settings = {IN_ADAPTER + "scale": _scale(model)}
    for adapter in active:
        config = model.peft_config[adapter]  # type: ignore[index]
        prefix = IN_ADAPTER + (f"{adapter}." if len(active) > 1 else "")
        found |= {f"{prefix}{name}": _json(getattr(config, name)) for name in OF_ADAPTER if hasattr(config, name)}
    return found


def _layer_types(config: object) -> Settings:
    """Which layers see a part of the text alone.

    Other types have weights of their own, and their names change between versions of transformers.
    """
    types = getattr(config, "layer_types", None)
    if not isinstance(types, list | tuple):
        return {}
    return {"layer_types": [str(one) if any(word in str(one) for word in PART_OF_TEXT) else "other" for one in types]}


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


def _json(value: object) -> JsonValue:
    """The value as it comes back out of a JSON file; of what is none its type."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, Mapping):
        return {str(name): _json(inner) for name, inner in sorted(value.items(), key=lambda pair: str(pair[0]))}
    if isinstance(value, set | frozenset):
        value = sorted(value, key=str)
    if isinstance(value, list | tuple):
        return [_json(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        # JSON has no word for it.
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else type(value).__name__


__all__ = ["IN_ADAPTER", "Settings", "other_settings", "settings_beside", "without_adapter"]
