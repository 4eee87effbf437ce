"""Settings beside the weights: those that change what a model says without changing a weight."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from adapters import TYPES, make_adapter
from tiny import tiny_model, tiny_tokenizer
from whence.model.beside_weights import other_settings, settings_beside
from whence.model.fingerprints import fingerprint
from whence.model.loading import LoadedModel, ModelSettings, load_model
from worlds import save_model

IDS = torch.tensor([[9, 7, 41, 300, 5, 77, 210, 64]])


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_model(tmp_path / "base")


@pytest.fixture
def lora(tmp_path: Path, base: Path) -> Path:
    make_adapter(base, tmp_path / "lora", "LORA", lora_alpha=8)
    return tmp_path / "lora"


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def save_as(folder: Path, family: str) -> None:
    tiny_model(family).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)


def loaded_again(model: LoadedModel, folder: Path) -> LoadedModel:
    model.model.save_pretrained(folder / "again")
    tiny_tokenizer().save_pretrained(folder / "again")
    return loaded(folder / "again")


def loaded(folder: Path) -> LoadedModel:
    return load_model(ModelSettings(model=str(folder)))


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"rms_norm_eps": 0.01}, "rms_norm_eps"),
        ({"hidden_act": "relu"}, "hidden_act"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}}, "rope_parameters.rope_theta"),
    ],
)
def test_a_setting_of_the_config_that_no_weight_shows(base: Path, values: dict[str, object], name: str) -> None:
    before = loaded(base)
    change(base / "config.json", **values)
    after = loaded(base)
    assert fingerprint(after, "") == fingerprint(before, "")
    assert not torch.equal(after.model(input_ids=IDS).logits, before.model(input_ids=IDS).logits)
    found, known = settings_beside(after), settings_beside(before)
    assert other_settings(known, found) == {name: found[name]}


@pytest.mark.parametrize(
    "values", [{"lora_alpha": 16}, {"use_rslora": True}, {"alpha_pattern": {"layers.1.self_attn.q_proj": 2}}]
)
def test_the_scale_of_an_adapter(lora: Path, values: dict[str, object]) -> None:
    before = loaded(lora)
    change(lora / "adapter_config.json", **values)
    after = loaded(lora)
    assert fingerprint(after, "") == fingerprint(before, "")
    assert not torch.equal(after.model(input_ids=IDS).logits, before.model(input_ids=IDS).logits)
    assert list(other_settings(settings_beside(before), settings_beside(after))) == ["adapter.scale"]


def test_one_scale_is_said_as_a_number(lora: Path, base: Path) -> None:
    assert settings_beside(loaded(lora))["adapter.scale"] == 2.0
    assert "adapter.scale" not in settings_beside(loaded(base))


def test_loaded_twice_a_model_has_the_same_settings(lora: Path) -> None:
    first = settings_beside(loaded(lora))
    assert json.loads(json.dumps(first, allow_nan=False)) == first == settings_beside(loaded(lora))
    assert {"rms_norm_eps", "hidden_act", "num_attention_heads"} <= set(first)


def test_a_name_that_one_of_them_lacks_says_nothing() -> None:
    assert other_settings({}, {"rms_norm_eps": 1e-5}) == other_settings({"rms_norm_eps": 1e-5}, {}) == {}


def test_where_rotations_depend_on_the_length_its_limit_belongs_to_them(base: Path) -> None:
    assert "max_position_embeddings" not in settings_beside(loaded(base))
    change(base / "config.json", rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0})
    assert "max_position_embeddings" in settings_beside(loaded(base))


def test_numbers_that_are_not_finite_are_text(base: Path) -> None:
    model = loaded(base)
    model.model.config.time_step_limit = (0.0, float("inf"))
    assert settings_beside(model)["time_step_limit"] == [0.0, "inf"]


def test_what_was_none_and_what_becomes_none_is_another_setting(tmp_path: Path) -> None:
    save_as(tmp_path / "gemma", "gemma2")
    before = loaded(tmp_path / "gemma")
    assert settings_beside(before)["rope_parameters.attention_factor"] is None
    change(tmp_path / "gemma" / "config.json", final_logit_softcapping=None)
    after = loaded(tmp_path / "gemma")
    assert fingerprint(after, "") == fingerprint(before, "")
    assert not torch.equal(after.model(input_ids=IDS).logits, before.model(input_ids=IDS).logits)
    assert other_settings(settings_beside(before), settings_beside(after)) == {"final_logit_softcapping": None}
    assert other_settings(settings_beside(after), settings_beside(before)) == {"final_logit_softcapping": 5.0}


def test_versions_of_a_config_inside_a_config_say_nothing(tmp_path: Path) -> None:
    config = AutoConfig.for_model("mpt", d_model=32, n_heads=4, n_layers=2, vocab_size=400, max_seq_len=64)
    model = LoadedModel.wrap(AutoModelForCausalLM.from_config(config), tiny_tokenizer())
    found = settings_beside(model)
    assert found["attn_config.alibi_bias_max"] == 8
    assert not any("version" in name for name in found)
    assert other_settings(found, settings_beside(loaded_again(model, tmp_path))) == {}


def test_what_differs_by_layer_is_not_held_against_one_value(base: Path) -> None:
    model = loaded(base)
    known = settings_beside(model)
    model.model.config.per_layer_config = {1: {"rms_norm_eps": 0.5}}
    found = settings_beside(model)
    assert found["rms_norm_eps by layer"] == [known["rms_norm_eps"], 0.5, known["rms_norm_eps"], known["rms_norm_eps"]]
    assert other_settings(known, found) == {}


@pytest.mark.parametrize("family", ["gemma3_text", "phi3", "falcon_h1", "mamba2"])
def test_in_memory_and_in_a_folder_a_model_has_the_same_settings(family: str, tmp_path: Path) -> None:
    model = LoadedModel.wrap(tiny_model(family), tiny_tokenizer())
    assert settings_beside(loaded_again(model, tmp_path)) == settings_beside(model)


def test_the_rank_of_an_adapter_whose_weights_do_not_have_it(base: Path, tmp_path: Path) -> None:
    if "UNILORA" not in TYPES:
        pytest.skip("this PEFT has no UniLoRA")
    make_adapter(base, tmp_path / "uni", "UNILORA")
    before = loaded(tmp_path / "uni")
    change(tmp_path / "uni" / "adapter_config.json", r=5)
    after = loaded(tmp_path / "uni")
    assert fingerprint(after, "") == fingerprint(before, "")
    assert other_settings(settings_beside(before), settings_beside(after)) == {"adapter.r": 5}


def test_an_adapter_that_is_not_active_says_nothing(base: Path) -> None:
    model = get_peft_model(tiny_model("llama"), LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj"]))
    alone = settings_beside(LoadedModel.wrap(model, tiny_tokenizer()))
    model.add_adapter("other", LoraConfig(r=4, lora_alpha=64, target_modules=["q_proj"]))
    assert settings_beside(LoadedModel.wrap(model, tiny_tokenizer())) == alone
