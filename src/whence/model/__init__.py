"""Checkpoints, adapters and tokenizers: loaded, their layers found, hashed and chosen; likelihoods and answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whence.lazy import attach

if TYPE_CHECKING:
    from whence.model.adapter_place import base_revision
    from whence.model.before import (
        base_settings,
        before_tuning,
        check_base,
        has_before,
        named_base,
        recorded_base,
        weights_hash,
    )
    from whence.model.beside_weights import IN_ADAPTER, other_settings, settings_beside, without_adapter
    from whence.model.blocks import Head, captured, keeps_keys
    from whence.model.changed_turns import TurnGroup, turn_groups
    from whence.model.checkpoint import quiet
    from whence.model.fingerprints import Fingerprint, fingerprint, hash_template
    from whence.model.generation import Answer, generate, stream_answer
    from whence.model.layer_choice import (
        LayerChoice,
        LayerRequest,
        choose_layer_from,
        early_note,
        probe_similarities,
        settle_layers,
    )
    from whence.model.likelihood import (
        LOGITS_AT_ONCE,
        TokenLikelihood,
        TokenShift,
        head_likelihood,
        learned_fraction,
        likelihood_of_logits,
        log_probabilities,
        positions_at_once,
        shift_between,
        token_shifts,
        wide,
    )
    from whence.model.loading import LoadedModel, ModelSettings, load_model, load_tokenizer
    from whence.model.matmul_rate import bfloat16_speedup, dtype_note
    from whence.model.padding import Layout, laid_out
    from whence.model.placement import SHARE, DeviceMap, Placement, as_placement, parse_limits
    from whence.model.places import adapter_config, is_adapter
    from whence.model.prefixes import last_states, shares_prefixes
    from whence.model.rope import batches_alike, depends_on_length
    from whence.model.shape import ModelShape, is_config_only, model_shape
    from whence.model.spellings import SameWords, same_words

__all__ = [
    "IN_ADAPTER",
    "LOGITS_AT_ONCE",
    "SHARE",
    "Answer",
    "DeviceMap",
    "Fingerprint",
    "Head",
    "LayerChoice",
    "LayerRequest",
    "Layout",
    "LoadedModel",
    "ModelSettings",
    "ModelShape",
    "Placement",
    "SameWords",
    "TokenLikelihood",
    "TokenShift",
    "TurnGroup",
    "adapter_config",
    "as_placement",
    "base_revision",
    "base_settings",
    "batches_alike",
    "before_tuning",
    "bfloat16_speedup",
    "captured",
    "check_base",
    "choose_layer_from",
    "depends_on_length",
    "dtype_note",
    "early_note",
    "fingerprint",
    "generate",
    "has_before",
    "hash_template",
    "head_likelihood",
    "is_adapter",
    "is_config_only",
    "keeps_keys",
    "laid_out",
    "last_states",
    "learned_fraction",
    "likelihood_of_logits",
    "load_model",
    "load_tokenizer",
    "log_probabilities",
    "model_shape",
    "named_base",
    "other_settings",
    "parse_limits",
    "positions_at_once",
    "probe_similarities",
    "quiet",
    "recorded_base",
    "same_words",
    "settings_beside",
    "settle_layers",
    "shares_prefixes",
    "shift_between",
    "stream_answer",
    "token_shifts",
    "turn_groups",
    "weights_hash",
    "wide",
    "without_adapter",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "adapter_place": ["base_revision"],
        "before": [
            "base_settings",
            "before_tuning",
            "check_base",
            "has_before",
            "named_base",
            "recorded_base",
            "weights_hash",
        ],
        "beside_weights": ["IN_ADAPTER", "other_settings", "settings_beside", "without_adapter"],
        "blocks": ["Head", "captured", "keeps_keys"],
        "changed_turns": ["TurnGroup", "turn_groups"],
        "checkpoint": ["quiet"],
        "fingerprints": ["Fingerprint", "fingerprint", "hash_template"],
        "generation": ["Answer", "generate", "stream_answer"],
        "layer_choice": [
            "LayerChoice",
            "LayerRequest",
            "choose_layer_from",
            "early_note",
            "probe_similarities",
            "settle_layers",
        ],
        "likelihood": [
            "LOGITS_AT_ONCE",
            "TokenLikelihood",
            "TokenShift",
            "head_likelihood",
            "learned_fraction",
            "likelihood_of_logits",
            "log_probabilities",
            "positions_at_once",
            "shift_between",
            "token_shifts",
            "wide",
        ],
        "loading": ["LoadedModel", "ModelSettings", "load_model", "load_tokenizer"],
        "matmul_rate": ["bfloat16_speedup", "dtype_note"],
        "padding": ["Layout", "laid_out"],
        "placement": ["SHARE", "DeviceMap", "Placement", "as_placement", "parse_limits"],
        "places": ["adapter_config", "is_adapter"],
        "prefixes": ["last_states", "shares_prefixes"],
        "rope": ["batches_alike", "depends_on_length"],
        "shape": ["ModelShape", "is_config_only", "model_shape"],
        "spellings": ["SameWords", "same_words"],
    },
)
