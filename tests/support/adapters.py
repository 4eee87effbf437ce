"""One adapter of every type that PEFT knows, on a tiny Llama, with random weights that do change the model."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import torch
from peft import PeftModel, PeftType, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

from tiny import tiny_model

TYPES = [kind.value for kind in PeftType]
VIRTUAL = {"num_virtual_tokens": 3}

SETTINGS: dict[str, dict[str, object]] = {
    "PROMPT_TUNING": VIRTUAL,
    "MULTITASK_PROMPT_TUNING": VIRTUAL | {"num_tasks": 2},
    "P_TUNING": VIRTUAL | {"encoder_hidden_size": 16},
    "PREFIX_TUNING": VIRTUAL,
    "CARTRIDGE": VIRTUAL,
    "CPT": {"cpt_token_ids": [5, 6], "cpt_mask": [1, 1], "cpt_tokens_type_mask": [1, 2]},
    "ADAPTION_PROMPT": {"adapter_len": 3, "adapter_layers": 2, "target_modules": None},
    "ADALORA": {"total_step": 10, "init_r": 4, "target_r": 2},
    "TRAINABLE_TOKENS": {"token_indices": [7, 9], "target_modules": ["embed_tokens"]},
    "IA3": {"feedforward_modules": []},
    "LN_TUNING": {"target_modules": ["input_layernorm"]},
    "VBLORA": {"vector_length": 8, "num_vectors": 16},
    "OFT": {"oft_block_size": 4},
    "C3A": {"block_size": 8},
    "BOFT": {"boft_block_size": 4},
    "FOURIERFT": {"n_frequency": 20},
    "WAVEFT": {"n_frequency": 20},
    "ROAD": {"group_size": 4},
    "ADAMSS": {"r": 8, "num_subspaces": 2},
    "OSF": {"effective_rank": 4},
    "FROD": {"progressbar": False},
}
"""What a type needs besides target_modules; r is 4 wherever a type has one and this names no other."""


def make_adapter(base: Path, folder: Path, kind: str, **changes: object) -> PeftModel:
    """Saves an adapter of this type for the tiny model saved at `base`, and gives the model as it was in memory."""
    config_type = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(kind)]
    fields = {field.name for field in dataclasses.fields(config_type)}
    settings: dict[str, object] = {"task_type": "CAUSAL_LM", "base_model_name_or_path": str(base)}
    settings |= {"target_modules": ["q_proj", "v_proj"]} if "target_modules" in fields else {}
    settings |= {"r": 4} if "r" in fields and kind not in ("OFT", "ADALORA", "SUPERTUNING") else {}
    model = tiny_model("llama")
    model.name_or_path = str(base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = get_peft_model(model, config_type(**(settings | SETTINGS.get(kind, {}) | changes)))
        shake(made)
        made.save_pretrained(folder)
    return made.eval()


def shake(model: torch.nn.Module, size: float = 0.1) -> None:
    """Adds noise to all that is trained: a new adapter begins where it changes nothing."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.is_floating_point():
                parameter.add_(size * torch.randn_like(parameter))


REFUSED = {
    "PROMPT_TUNING": "virtual tokens",
    "MULTITASK_PROMPT_TUNING": "virtual tokens",
    "P_TUNING": "virtual tokens",
    "PREFIX_TUNING": "virtual tokens",
    "CARTRIDGE": "virtual tokens",
    "CPT": "virtual tokens",
    "XLORA": "weighs several adapters",
    "POLY": "task of each example",
    "LILY": "mean over the whole text",
    "SHADOW": "second stream of states",
}
"""Types that are refused, each with words of its message."""
