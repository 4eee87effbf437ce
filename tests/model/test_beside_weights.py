"""Settings beside the weights: those that change what a model says without changing a weight."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from adapters import make_adapter
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
    found = settings_beside(model)["time_step_limit"]
    assert isinstance(found, str)
    assert "inf" in found
