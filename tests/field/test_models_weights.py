"""Weights of a checkpoint: every one in its place, or an error that says which are not, and what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from adapters import make_adapter
from whence.errors import ModelError
from whence.model.checkpoint import READ_QUANTISED
from whence.model.loading import ModelSettings, load_model
from worlds import save_model

IDS = torch.tensor([[9, 7, 41, 300, 5, 77, 210, 64]])
Change = Callable[[dict[str, Tensor]], dict[str, Tensor]]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_model(tmp_path / "model")


def change(folder: Path, how: Change, name: str = "model.safetensors") -> None:
    save_file(how(load_file(folder / name)), folder / name, metadata={"format": "pt"})


def refused(folder: Path, words: str, **settings: str) -> None:
    with pytest.raises(ModelError, match=words):
        load_model(ModelSettings(model=str(folder), **settings))


def test_a_model_type_without_a_class_of_text_is_named(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"model_type": "mistral3", "text_config": {}}))
    refused(model, "transformers has none for the model type 'mistral3'")


@pytest.mark.parametrize(
    ("rename", "wrapper"),
    [
        (lambda name: "_orig_mod." + name, "torch.compile"),
        (lambda name: name.replace("layers.2.", "layers.2._orig_mod."), "torch.compile"),
        (lambda name: "module." + name, "DistributedDataParallel"),
        (lambda name: "module._orig_mod." + name, "torch.compile"),
        (lambda name: name.replace("mlp.", "mlp._checkpoint_wrapped_module."), "activation checkpointing"),
        (lambda name: "_fsdp_wrapped_module." + name, "FSDP"),
    ],
)
def test_a_wrapper_s_prefix_is_taken_away_and_said(model: Path, rename: Callable[[str], str], wrapper: str) -> None:
    expected = load_model(ModelSettings(model=str(model))).model(input_ids=IDS).logits
    change(model, lambda weights: {rename(name): weight for name, weight in weights.items()})
    said: list[str] = []
    loaded = load_model(ModelSettings(model=str(model)), notify=said.append)
    assert torch.equal(loaded.model(input_ids=IDS).logits, expected)
    assert len(said) == 1
    assert f"of {wrapper}" in said[0]


def test_a_layer_that_is_missing(model: Path) -> None:
    change(model, lambda weights: {name: weight for name, weight in weights.items() if "layers.2." not in name})
    refused(model, r"not those of LlamaForCausalLM: 9 are missing \(model\.layers\.2\.input_layernorm\.weight, ")


def test_a_weight_that_has_no_place(model: Path) -> None:
    change(model, lambda weights: weights | {"v_head.summary.weight": torch.zeros(1, 32)})
    refused(model, r"1 have no place in it \(v_head\.summary\.weight\)")


def test_a_weight_of_another_shape(model: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    change(model, lambda weights: weights | {name: weights[name][:-1].contiguous()})
    refused(model, rf"1 have another shape \({name} \(47, 32\) instead of \(48, 32\)\)")


def test_a_half_gathered_checkpoint(model: Path) -> None:
    change(model, lambda weights: {k: v.new_zeros(0) if "layers.1.mlp" in k else v for k, v in weights.items()})
    refused(model, r"3 have another shape[\s\S]*DeepSpeed ZeRO-3 leaves[\s\S]*zero_to_fp32\.py")


def test_a_peft_model_saved_without_merging(model: Path) -> None:
    def how(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name.replace("q_proj.", "q_proj.base_layer."): weight for name, weight in weights.items()}

    change(model, how)
    refused(model, r"4 are missing[\s\S]*4 have no place[\s\S]*not merged: save model\.merge_and_unload\(\)")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(model: Path, bad: float) -> None:
    name = "model.layers.3.mlp.down_proj.weight"

    def how(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        weights[name][5, 5] = bad
        return weights

    change(model, how)
    refused(model, rf"1 of the weights in .* hold NaN or infinity \({name}\)")


def test_what_a_checkpoint_may_leave_out(tmp_path: Path) -> None:
    """A tied head is stored once, and rotary frequencies of an old checkpoint have no place: neither is an error."""
    tied = save_model(tmp_path / "tied", tie_word_embeddings=True)
    assert "lm_head.weight" not in load_file(tied / "model.safetensors")
    change(tied, lambda weights: weights | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)})
    loaded = load_model(ModelSettings(model=str(tied)))
    assert loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight
    for family in ("gpt2", "gpt_neox", "gemma3_text", "qwen3_moe"):
        load_model(ModelSettings(model=str(save_model(tmp_path / family, family))))


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def random_bytes(path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    path.write_bytes(bytes(torch.randint(256, (1000,), generator=generator).tolist()))


@pytest.mark.parametrize("damage", [cut_off, random_bytes])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_file_of_the_model(model: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(model / name)
    refused(model, rf"{name} is damaged: ")


@pytest.mark.parametrize("damage", [cut_off, random_bytes])
@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json", "tokenizer.json"])
def test_a_damaged_file_of_the_adapter(model: Path, name: str, damage: Callable[[Path], None], tmp_path: Path) -> None:
    make_adapter(model, tmp_path / "lora", "LORA")
    for own in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(model / own, tmp_path / "lora")
    damage(tmp_path / "lora" / name)
    for settings in ({"model": tmp_path / "lora"}, {"model": model, "adapter": tmp_path / "lora"}):
        with pytest.raises(ModelError, match=rf"lora/{name} is damaged: "):
            load_model(ModelSettings(**{part: str(place) for part, place in settings.items()}))


@pytest.mark.parametrize("content", ["[]", '"text"', "{}", '{"version": "1.0"}'])
def test_a_tokenizer_file_that_is_json_but_no_tokenizer(model: Path, content: str) -> None:
    (model / "tokenizer.json").write_text(content)
    refused(model, r"tokenizer\.json is damaged|No tokenizer could be loaded")


def test_shards(tmp_path: Path, model: Path) -> None:
    """One that the index names and the folder lacks, one that is cut off, and an index that is no JSON."""
    sharded = tmp_path / "sharded"
    shutil.copytree(model, sharded)
    (sharded / "model.safetensors").unlink()
    AutoModelForCausalLM.from_pretrained(model).save_pretrained(sharded, max_shard_size="60KB")
    shards = sorted(sharded.glob("model-*"))
    assert len(shards) > 2
    load_model(ModelSettings(model=str(sharded)))
    whole = shards[1].read_bytes()
    shards[1].unlink()
    refused(sharded, rf"{shards[1].name} is missing: model\.safetensors\.index\.json says")
    shards[1].write_bytes(whole[:-100])
    refused(sharded, rf"{shards[1].name} is damaged: ")
    shards[1].write_bytes(whole)
    (sharded / "model.safetensors.index.json").write_text("{")
    refused(sharded, r"model\.safetensors\.index\.json is damaged: ")


def test_empty_and_broken_weights_of_an_adapter(model: Path, tmp_path: Path) -> None:
    lora = tmp_path / "lora"
    make_adapter(model, lora, "LORA")
    name = "adapter_model.safetensors"
    change(lora, lambda weights: {k: v.new_zeros(0) if "lora_B" in k else v for k, v in weights.items()}, name)
    refused(lora, r"8 of the 16 weights in .* are empty: [\s\S]*zero_to_fp32\.py")
    make_adapter(model, lora, "LORA")
    change(lora, lambda weights: {k: v / 0 if "layers.3" in k else v for k, v in weights.items()}, name)
    refused(lora, r"4 of the weights of the adapter .* hold NaN or infinity, the first .*layers\.3")
    make_adapter(model, lora, "LORA")
    change(lora, lambda weights: {k: v for k, v in weights.items() if "layers.3" not in k}, name)
    refused(lora, r"does not fit LlamaForCausalLM: 0 of its weights have no place there and 4 are missing")
    make_adapter(model, lora, "LORA")
    change(lora, lambda weights: {k.replace("layers.3", "layers.9"): v for k, v in weights.items()}, name)
    refused(lora, r"4 of its weights have no place there and 4 are missing, the first .*layers\.")


STORED = {
    "bitsandbytes_4bit": {"quant_method": "bitsandbytes", "load_in_4bit": True},
    "bitsandbytes_8bit": {"quant_method": "bitsandbytes", "load_in_8bit": True},
}


def quantisations() -> list[str]:
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    return list(AUTO_QUANTIZATION_CONFIG_MAPPING)


@pytest.mark.parametrize("method", [*quantisations(), "tomorrow"])
def test_a_base_stored_quantised(method: str, model: Path, tmp_path: Path) -> None:
    """One sentence that says what it is and what to give, on a machine that cannot read it; as MODEL and as a base."""
    config = json.loads((model / "config.json").read_text())
    config["quantization_config"] = STORED.get(method, {"quant_method": method})
    (model / "config.json").write_text(json.dumps(config))
    why = "which needs a CUDA device" if method in READ_QUANTISED else "which whence does not read"
    refused(model, rf"is stored quantised with {method}, {why}[\s\S]*Give the unquantised model as MODEL", device="cpu")
    (tmp_path / "lora").mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": str(model), "target_modules": ["q_proj"]}
    (tmp_path / "lora" / "adapter_config.json").write_text(json.dumps(config))
    words = rf"stored quantised with {method}[\s\S]*as MODEL, with --adapter .*lora"
    refused(tmp_path / "lora", words, device="cpu")
