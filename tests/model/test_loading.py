"""Loading from folders (the hub's code path), adapters, and everything that can be wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from chat_templates import family_tokenizer
from tiny import CHAT_TEMPLATE, tiny_model, tiny_tokenizer
from whence.errors import ModelError
from whence.model.loading import LoadedModel, ModelSettings, load_model, load_tokenizer


def save_model(folder: Path, family: str = "llama", **changes: object) -> Path:
    tiny_model(family, **changes).save_pretrained(folder)
    tiny_tokenizer(CHAT_TEMPLATE).save_pretrained(folder)
    return folder


def save_adapter(base: Path, folder: Path, **config: object) -> Path:
    model = load_model(ModelSettings(model=str(base))).model
    lora = LoraConfig(**({"r": 2, "target_modules": ["q_proj"], "init_lora_weights": False} | config))
    get_peft_model(model, lora).save_pretrained(folder)
    return folder


def test_a_folder(tmp_path: Path) -> None:
    loaded = load_model(ModelSettings(model=str(save_model(tmp_path / "m"))))
    assert (loaded.n_layers, loaded.hidden_size, loaded.vocab_size) == (4, 32, 400)
    assert loaded.tokenizer.chat_template == CHAT_TEMPLATE
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert not loaded.model.training


def test_dtype_and_device(tmp_path: Path) -> None:
    folder = str(save_model(tmp_path / "m", dtype=torch.bfloat16))
    assert load_model(ModelSettings(model=folder, device="cpu")).dtype == torch.float32
    assert load_model(ModelSettings(model=folder, device="cpu", dtype="bfloat16")).dtype == torch.bfloat16
    with pytest.raises(ModelError, match="device 'quantum' cannot be used"):
        load_model(ModelSettings(model=folder, device="quantum"))


def test_an_adapter_beside_its_base_and_merged_is_the_same_function(tmp_path: Path) -> None:
    base = save_model(tmp_path / "base")
    adapter = save_adapter(base, tmp_path / "lora")
    loaded = load_model(ModelSettings(model=str(base), adapter=str(adapter)))
    assert isinstance(loaded.model, PeftModel)
    ids = torch.tensor([[5, 6, 7, 8]])
    with_adapter = loaded.model(input_ids=ids).logits
    loaded.model.merge_and_unload().save_pretrained(tmp_path / "merged")
    tiny_tokenizer(CHAT_TEMPLATE).save_pretrained(tmp_path / "merged")
    merged = load_model(ModelSettings(model=str(tmp_path / "merged")))
    torch.testing.assert_close(merged.model(input_ids=ids).logits, with_adapter)
    alone = load_model(ModelSettings(model=str(base))).model(input_ids=ids).logits
    assert not torch.allclose(alone, with_adapter)


def test_an_adapter_folder_alone_brings_its_base(tmp_path: Path) -> None:
    base = save_model(tmp_path / "base")
    loaded = load_model(ModelSettings(model=str(save_adapter(base, tmp_path / "lora"))))
    assert loaded.settings.model == str(base)
    assert loaded.settings.adapter == str(tmp_path / "lora")


OWN_TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"


def loaded_with_files(tmp_path: Path, *names: str, template: str | None = OWN_TEMPLATE) -> tuple[LoadedModel, str]:
    """An adapter whose folder has these of a tokenizer's files, loaded, and what was said."""
    base = save_model(tmp_path / "base")
    adapter = save_adapter(base, tmp_path / "lora")
    tiny_tokenizer(template).save_pretrained(tmp_path / "files")
    for name in names:
        (tmp_path / "files" / name).rename(adapter / name)
    said: list[str] = []
    return load_model(ModelSettings(model=str(adapter)), notify=said.append), "; ".join(said)


WHOLE = ("tokenizer.json", "tokenizer_config.json")


@pytest.mark.parametrize("names", [("chat_template.jinja",), ("chat_template.jinja", "tokenizer.json")])
def test_a_template_in_the_folder_of_an_adapter_is_its_own(tmp_path: Path, names: tuple[str, ...]) -> None:
    loaded, said = loaded_with_files(tmp_path, *names)
    assert loaded.tokenizer.chat_template == OWN_TEMPLATE
    assert f"The chat template is that of the adapter ({tmp_path / 'lora' / 'chat_template.jinja'})" in said
    assert loaded.tokenizer.eos_token == "<|end|>"


def test_an_adapter_with_its_whole_tokenizer(tmp_path: Path) -> None:
    loaded, said = loaded_with_files(tmp_path, *WHOLE, "chat_template.jinja")
    assert (loaded.tokenizer.chat_template, said) == (OWN_TEMPLATE, "")


def test_a_tokenizer_of_an_adapter_without_a_template_takes_that_of_the_model(tmp_path: Path) -> None:
    loaded, said = loaded_with_files(tmp_path, *WHOLE, template=None)
    assert loaded.tokenizer.chat_template == CHAT_TEMPLATE
    assert said == (
        f"The chat template is that of {tmp_path / 'base'}: the tokenizer of the adapter {tmp_path / 'lora'} has none"
    )


def test_files_of_another_tokenizer_beside_an_adapter_are_refused(tmp_path: Path) -> None:
    base = save_model(tmp_path / "base")
    adapter = save_adapter(base, tmp_path / "lora")
    other = family_tokenizer("none")
    other.save_pretrained(adapter)
    settings = ModelSettings(model=str(adapter))
    with pytest.raises(ModelError, match=r"lora brings a tokenizer without a chat template, and the model .*base"):
        load_model(settings)
    both = ModelSettings(model=str(base), adapter=str(adapter))
    with pytest.raises(ModelError, match="template for other tokens"):
        load_tokenizer(both)
    assert load_tokenizer(both, template_given=True).chat_template is None
    (adapter / "tokenizer_config.json").unlink()
    with pytest.raises(ModelError, match=r"lora has a tokenizer.json of other tokens than .*base"):
        load_model(settings)
    (adapter / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=r"lora/tokenizer.json is damaged"):
        load_model(settings)


@pytest.mark.parametrize("other", [{"hidden_size": 64}, {"num_hidden_layers": 2}])
def test_an_adapter_for_another_model(tmp_path: Path, other: dict[str, int]) -> None:
    base = save_model(tmp_path / "base")
    adapter = save_adapter(base, tmp_path / "lora")
    wrong = save_model(tmp_path / "wrong", **other)
    with pytest.raises(ModelError, match=r"does not fit LlamaForCausalLM[\s\S]*names the base model .*base"):
        load_model(ModelSettings(model=str(wrong), adapter=str(adapter)))


def test_an_adapter_of_another_family(tmp_path: Path) -> None:
    adapter = save_adapter(save_model(tmp_path / "base"), tmp_path / "lora")
    wrong = save_model(tmp_path / "wrong", "gpt2")
    with pytest.raises(ModelError, match="does not fit GPT2LMHeadModel"):
        load_model(ModelSettings(model=str(wrong), adapter=str(adapter)))


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    base = save_model(tmp_path / "base")
    adapter = save_adapter(base, tmp_path / "lora")
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match="never pickle"):
        load_model(ModelSettings(model=str(base), adapter=str(adapter)))
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    with pytest.raises(ModelError, match="never pickle"):
        load_model(ModelSettings(model=str(base)))


def test_places_that_hold_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no model folder at '/no/such/place'"):
        load_model(ModelSettings(model="/no/such/place"))
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ModelError, match=r"is no model: it has no config.json \(it holds notes.txt\)"):
        load_model(ModelSettings(model=str(tmp_path)))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    tiny_tokenizer(CHAT_TEMPLATE).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="No causal language model could be loaded"):
        load_model(ModelSettings(model=str(tmp_path)))


def test_a_hub_name_goes_to_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A name that is no folder is handed on as it is, with its revision and without trust in its code."""
    import huggingface_hub
    from transformers import AutoModelForCausalLM, AutoTokenizer

    asked: list[tuple[str, object, object]] = []
    named: list[str] = []

    def tokenizer_of(name: str, **kwargs: object) -> object:
        named.append(name)
        return tiny_tokenizer(CHAT_TEMPLATE)

    def from_pretrained(name: str, **kwargs: object) -> object:
        asked.append((name, kwargs["revision"], kwargs["trust_remote_code"]))
        raise OSError("org/name is not a local folder\nand no network is here")

    nothing = huggingface_hub._CACHED_NO_EXIST
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *place, **options: nothing)
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", tokenizer_of)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", from_pretrained)
    with pytest.raises(ModelError, match="loaded from 'org/name': org/name is not a local folder\n"):
        load_model(ModelSettings(model="org/name", revision="v2"))
    assert asked == [("org/name", "v2", False)]
    assert named == ["org/name"]


def test_a_hub_that_cannot_be_reached_is_asked_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    asked: list[str] = []

    def hf_hub_download(place: str, name: str, **options: object) -> str:
        asked.append(place)
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    with pytest.raises(
        ModelError, match=r"'org/nowhere' is no folder here, and the hub did not give it: no connection"
    ):
        load_model(ModelSettings(model="org/nowhere"))
    assert asked == ["org/nowhere"]
    (tmp_path / "my-lora").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"Did you mean my-lora\?"):
        load_model(ModelSettings(model="my-loraa"))


def test_quantisation_without_its_needs_says_so(tmp_path: Path) -> None:
    folder = str(save_model(tmp_path / "m"))
    with pytest.raises(ModelError, match=r'Loading in 4bit needs a CUDA device[\s\S]*pip install -e "\.\[quantized\]"'):
        load_model(ModelSettings(model=folder, device="cpu", quantization="4bit"))


def test_a_model_in_memory(tokenizer: object) -> None:
    model = tiny_model("gpt2").train()
    loaded = LoadedModel.wrap(model, tokenizer)  # type: ignore[arg-type]
    assert not model.training
    assert loaded.n_layers == 4
