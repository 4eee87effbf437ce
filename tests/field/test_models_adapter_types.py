"""Every adapter type that PEFT knows: read as PEFT's own forward pass reads it, or refused by name."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel, PeftModelForCausalLM, get_peft_model

from adapters import REFUSED, SETTINGS, TYPES, make_adapter, shake
from tiny import CHAT_TEMPLATE, tiny_model, tiny_tokenizer
from whence.data.examples import EncodedTurn
from whence.errors import ModelError
from whence.model import loading
from whence.model.adapter_proof import decoder_reading, own_reading
from whence.model.before import before_tuning, check_base, has_before, weights_hash
from whence.model.fingerprints import fingerprint
from whence.model.loading import LoadedModel, ModelSettings, load_model
from whence.signatures.extract import Extractor
from worlds import save_model

READ = [kind for kind in TYPES if kind not in REFUSED]
IDS = torch.tensor([[9, 7, 41, 300, 5, 77, 210, 64]])
SAME = {"rtol": 1e-4, "atol": 1e-4}
"""One arithmetic, in another order at most."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def plain(base: Path) -> LoadedModel:
    return load_model(ModelSettings(model=str(base)))


@pytest.mark.parametrize("kind", READ)
def test_a_type_that_is_read(kind: str, base: Path, plain: LoadedModel, tmp_path: Path) -> None:
    """States and logits are PEFT's own, whole and on top of a cache; turned off it is the base, in its hash too."""
    make_adapter(base, tmp_path, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = own_reading(AutoPeftModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval(), IDS)
    loaded = load_model(ModelSettings(model=str(tmp_path)))
    assert (loaded.settings.model, loaded.settings.adapter) == (str(base), str(tmp_path))
    for cached in (False, True):
        ours = decoder_reading(loaded.blocks, IDS, loaded.text_config, cached=cached)
        torch.testing.assert_close(ours.logits, theirs.logits, **SAME)
        torch.testing.assert_close(ours.states, theirs.states, **SAME)
    alone = own_reading(plain.model, IDS)
    assert theirs.gap(alone) > 1e-3, "the adapter must change something, or the test shows nothing"
    assert has_before(loaded)
    with before_tuning(loaded):
        off = decoder_reading(loaded.blocks, IDS, loaded.text_config)
    torch.testing.assert_close(off.logits, alone.logits, rtol=1e-4, atol=1e-4)
    again = decoder_reading(loaded.blocks, IDS, loaded.text_config)
    torch.testing.assert_close(again.logits, theirs.logits, **SAME)
    found = fingerprint(loaded, "")
    assert found.adapter
    assert found.weights == weights_hash(plain)
    check_base(loaded, plain)


def save_config(base: Path, folder: Path, kind: str) -> None:
    """The config alone, as PEFT writes it; the type is refused by it."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    settings = SETTINGS.get(kind, {}) | {"task_type": "CAUSAL_LM", "base_model_name_or_path": str(base)}
    PEFT_TYPE_TO_CONFIG_MAPPING[kind](**settings).save_pretrained(folder)


@pytest.mark.parametrize("kind", [kind for kind in REFUSED if kind in TYPES])
def test_a_type_that_is_refused(kind: str, base: Path, tmp_path: Path) -> None:
    if kind == "XLORA":
        (tmp_path / "adapter_config.json").write_text(
            json.dumps({"peft_type": kind, "task_type": "CAUSAL_LM", "base_model_name_or_path": str(base)})
        )
    else:
        save_config(base, tmp_path, kind)
    with pytest.raises(ModelError, match=rf"of the type {kind}, which whence does not read: .*{REFUSED[kind]}"):
        load_model(ModelSettings(model=str(tmp_path)))


PROVEN = ["PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CARTRIDGE", "CPT", "LILY", "SHADOW"]


@pytest.mark.parametrize("kind", [kind for kind in PROVEN if kind in TYPES])
def test_the_proof_refuses_without_knowing_the_name(
    kind: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a type does is looked at as well, so that one that no list knows is refused too."""
    model = make_adapter(base, tmp_path, kind)
    monkeypatch.setattr(loading, "refuse_type", lambda name, config: None)
    with pytest.raises((ModelError, AttributeError, ValueError)) as caught:
        LoadedModel.wrap(model, tiny_tokenizer(CHAT_TEMPLATE))
    if kind != "SHADOW":  # PEFT itself cannot run this one here
        assert f"({kind}) acts outside the model's layers" in str(caught.value)


STATEFUL = {
    "mamba": ["in_proj", "x_proj"],
    "mamba2": ["in_proj"],
    "falcon_mamba": ["in_proj", "x_proj"],
    "jamba": ["q_proj", "v_proj"],
    "minimax": ["q_proj", "v_proj"],
    "rwkv": ["key", "value"],
    "xlstm": ["q", "v"],
    "gemma3n_text": ["q_proj", "v_proj"],
}
"""Families that are never read on top of a cache, and targets of LoRA in them."""


@pytest.fixture(scope="module")
def lora_on(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    def made(family: str) -> Path:
        root = tmp_path_factory.mktemp(family)
        model = tiny_model(family)
        model.save_pretrained(root / "base")
        tiny_tokenizer(CHAT_TEMPLATE).save_pretrained(root / "base")
        model.name_or_path = str(root / "base")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tuned = get_peft_model(model, LoraConfig(r=4, target_modules=STATEFUL[family], task_type="CAUSAL_LM"))
            shake(tuned)
            tuned.save_pretrained(root / "adapter")
        return root / "adapter"

    return made


@pytest.mark.filterwarnings("ignore:.*deprecated")
@pytest.mark.parametrize("family", STATEFUL)
def test_lora_on_families_that_keep_more_than_keys(family: str, lora_on: Callable[[str], Path]) -> None:
    folder = lora_on(family)
    loaded = load_model(ModelSettings(model=str(folder)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = AutoPeftModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    expected = theirs(input_ids=IDS, use_cache=False).logits[0]
    ours = decoder_reading(loaded.blocks, IDS, loaded.text_config, layers=())
    torch.testing.assert_close(ours.logits, expected, rtol=1e-3, atol=1e-3)
    with loaded.model.disable_adapter():
        assert (loaded.model(input_ids=IDS, use_cache=False).logits[0] - expected).abs().max() > 1e-2


@pytest.mark.filterwarnings("ignore:.*deprecated")
@pytest.mark.parametrize("family", ["mamba", "gemma3n_text"])
def test_the_proof_sees_what_acts_around_the_decoder_of_such_families(
    family: str, lora_on: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = lora_on(family)
    own = PeftModelForCausalLM.forward

    def forward(self: PeftModel, input_ids: torch.Tensor, **kwargs: object) -> object:
        return own(self, input_ids=(input_ids + 1) % 400, **kwargs)

    monkeypatch.setattr(PeftModelForCausalLM, "forward", forward)
    with pytest.raises(ModelError, match=r"\(LORA\) acts outside the model's layers.* differ from PEFT's by"):
        load_model(ModelSettings(model=str(folder)))


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_lora_trained_on_the_class_with_images(tmp_path: Path) -> None:
    """Its weights are named by that class; whence loads the class of text alone."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    text = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4}
    text |= {"num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 48, "max_position_embeddings": 256}
    text |= {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8}
    text |= {"linear_value_head_dim": 8, "layer_types": ["linear_attention", "full_attention"] * 2}
    sight = {"depth": 2, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32}
    torch.manual_seed(0)
    config = AutoConfig.for_model("qwen3_5", text_config=text, vision_config=sight | {"patch_size": 14})
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32).eval()
    model.save_pretrained(tmp_path / "base")
    tiny_tokenizer(CHAT_TEMPLATE).save_pretrained(tmp_path / "base")
    model.name_or_path = str(tmp_path / "base")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tuned = get_peft_model(
            model, LoraConfig(r=4, target_modules=["q_proj", "v_proj", "in_proj_qkv"], task_type="CAUSAL_LM")
        )
        shake(tuned)
        tuned.save_pretrained(tmp_path / "adapter")
    loaded = load_model(ModelSettings(model=str(tmp_path / "adapter")))
    assert type(loaded.model.get_base_model()).__name__ == "Qwen3_5ForCausalLM"
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(input_ids=IDS).logits, tuned(input_ids=IDS).logits, **SAME)


def test_a_type_of_tomorrow_that_acts_in_peft_s_forward(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_adapter(base, tmp_path, "LORA")
    own = PeftModelForCausalLM.forward

    def forward(self: PeftModel, input_ids: torch.Tensor, **kwargs: object) -> object:
        return own(self, input_ids=(input_ids + 1) % 400, **kwargs)

    monkeypatch.setattr(PeftModelForCausalLM, "forward", forward)
    with pytest.raises(ModelError, match=r"\(LORA\) acts outside the model's layers.* differ from PEFT's by"):
        load_model(ModelSettings(model=str(tmp_path)))


@pytest.mark.skipif(not hasattr(LoraConfig, "alora_invocation_tokens"), reason="this peft has no activated LoRA")
def test_activated_lora_is_refused_by_its_name_and_by_the_proof(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_adapter(base, tmp_path, "LORA", alora_invocation_tokens=[41, 300])
    with pytest.raises(ModelError, match="of the type activated LoRA, which whence does not read"):
        load_model(ModelSettings(model=str(tmp_path)))
    monkeypatch.setattr(loading, "refuse_type", lambda name, config: None)
    with pytest.raises(ModelError, match="acts outside the model's layers"):
        LoadedModel.wrap(model, tiny_tokenizer(CHAT_TEMPLATE))


@pytest.mark.parametrize(
    "changes",
    [
        {"use_dora": True},
        {"use_rslora": True, "rank_pattern": {"q_proj": 2}},
        {"target_modules": "all-linear"},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"target_parameters": ["mlp.up_proj.weight"]},
        {"trainable_token_indices": [7, 41]},
        {"modules_to_save": ["lm_head"]},
        {"modules_to_save": ["embed_tokens", "norm"]},
        {"lora_bias": True},
        {"layers_to_transform": [1]},
    ],
    ids=str,
)
def test_variants_of_lora(changes: dict[str, object], base: Path, plain: LoadedModel, tmp_path: Path) -> None:
    make_adapter(base, tmp_path, "LORA", **changes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = own_reading(AutoPeftModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval(), IDS)
    loaded = load_model(ModelSettings(model=str(tmp_path)))
    ours = decoder_reading(loaded.blocks, IDS, loaded.text_config, cached=True)
    torch.testing.assert_close(ours.logits, theirs.logits, **SAME)
    with before_tuning(loaded):
        off = decoder_reading(loaded.blocks, IDS, loaded.text_config)
    torch.testing.assert_close(off.logits, own_reading(plain.model, IDS).logits, rtol=1e-4, atol=1e-4)
    assert weights_hash(loaded) == weights_hash(plain)


def test_biases_trained_in_place_are_compared_with_the_base_by_itself(tmp_path: Path) -> None:
    """Turned off, this adapter leaves its biases in the model: that is not the base, and is not taken for it."""
    base = save_model(tmp_path / "base", "qwen2")
    model = get_peft_model(
        load_model(ModelSettings(model=str(base))).model, LoraConfig(target_modules=["q_proj"], bias="all")
    )
    shake(model)
    model.save_pretrained(tmp_path / "lora")
    loaded = load_model(ModelSettings(model=str(base), adapter=str(tmp_path / "lora")))
    ours = decoder_reading(loaded.blocks, IDS, loaded.text_config)
    torch.testing.assert_close(ours.logits, own_reading(model.eval(), IDS).logits, **SAME)
    assert not loaded.adapter_off_is_base
    assert not has_before(loaded)
    plain = load_model(ModelSettings(model=str(base)))
    check_base(loaded, plain)
    ids = tuple(IDS[0].tolist())
    turn = EncodedTurn(0, ids, 4, "", ((0, 0),) * len(ids), "", "")
    found = Extractor(loaded, [2], contrast=True, base=plain).extract([turn]).layers[2]
    H = decoder_reading(loaded.blocks, IDS, loaded.text_config).states[2] - own_reading(plain.model, IDS).states[2]
    torch.testing.assert_close(found.dm[0], H[3:7].mean(0), rtol=1e-3, atol=1e-4)


def test_an_adapter_for_another_task(base: Path, tmp_path: Path) -> None:
    make_adapter(base, tmp_path, "LORA", task_type="CAUSAL_LM")
    change_config(tmp_path, task_type="SEQ_CLS")
    with pytest.raises(ModelError, match="LORA for SEQ_CLS, which whence does not read: it was not trained as"):
        load_model(ModelSettings(model=str(tmp_path)))


def test_settings_of_a_newer_peft(base: Path, tmp_path: Path) -> None:
    """A setting left out could make another adapter; one that is off changes nothing."""
    make_adapter(base, tmp_path, "LORA")
    change_config(tmp_path, tomorrows_switch=False, tomorrows_config=None)
    load_model(ModelSettings(model=str(tmp_path)))
    change_config(tmp_path, tomorrows_switch=True)
    with pytest.raises(ModelError, match=r"does not know: tomorrows_switch\.[\s\S]*pip install -U peft"):
        load_model(ModelSettings(model=str(tmp_path)))
    change_config(tmp_path, peft_type="TOMORROW")
    with pytest.raises(ModelError, match=r"has the type 'TOMORROW', which peft .* does not know"):
        load_model(ModelSettings(model=str(tmp_path)))


@pytest.mark.parametrize("kind", ["LORA", "IA3", "LOHA"])
def test_an_adapter_that_changes_nothing(kind: str, base: Path, tmp_path: Path) -> None:
    """A new adapter, before its first step: lora_B is zero, or whatever leaves the model as it was in another type."""
    from peft import PeftType
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    config = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(kind)](**({"target_modules": ["q_proj"]} | SETTINGS.get(kind, {})))
    get_peft_model(tiny_model("llama"), config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=rf"\({kind}\) changes nothing: with it and without it the states"):
        load_model(ModelSettings(model=str(base), adapter=str(tmp_path)))


def test_loading_is_silent(base: Path, tmp_path: Path) -> None:
    make_adapter(base, tmp_path, "LORA")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_model(ModelSettings(model=str(tmp_path)))


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
