"""A fingerprint changes with what it stands for and with nothing else."""

from __future__ import annotations

import torch
from peft import LoraConfig, get_peft_model

from tiny import CHAT_TEMPLATE, tiny_model, tiny_tokenizer
from whence.model.fingerprints import fingerprint, hash_tokenizer
from whence.model.loading import LoadedModel


def loaded(**changes: object) -> LoadedModel:
    return LoadedModel.wrap(tiny_model("llama", **changes), tiny_tokenizer(CHAT_TEMPLATE))


def test_the_same_model_has_the_same_fingerprint() -> None:
    assert fingerprint(loaded(), CHAT_TEMPLATE) == fingerprint(loaded(), CHAT_TEMPLATE)


def test_one_changed_weight_changes_the_weights_hash_alone() -> None:
    before, model = fingerprint(loaded(), CHAT_TEMPLATE), loaded()
    with torch.no_grad():
        model.model.lm_head.weight[17, 3] += 1e-3
    after = fingerprint(model, CHAT_TEMPLATE)
    assert after.weights != before.weights
    assert after.model_copy(update={"weights": before.weights}) == before


def test_the_dtype_belongs_to_the_weights() -> None:
    assert fingerprint(loaded(dtype=torch.bfloat16), "").weights != fingerprint(loaded(), "").weights


def test_the_template_has_its_own_hash() -> None:
    before, after = fingerprint(loaded(), CHAT_TEMPLATE), fingerprint(loaded(), CHAT_TEMPLATE + " ")
    assert after.template != before.template
    assert after.model_copy(update={"template": before.template}) == before


def test_an_adapter_is_hashed_apart_from_its_base() -> None:
    alone = fingerprint(loaded(), "")

    def with_adapter(seed: int) -> LoadedModel:
        model = tiny_model("llama")
        torch.manual_seed(seed)
        config = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
        return LoadedModel.wrap(get_peft_model(model, config), tiny_tokenizer(CHAT_TEMPLATE))

    one, same, other = (fingerprint(with_adapter(seed), "") for seed in (1, 1, 2))
    assert alone.adapter == ""
    assert one.weights == alone.weights
    assert one == same
    assert one.adapter != other.adapter


def test_the_tokenizer_hash_ignores_truncation_and_padding_of_earlier_calls() -> None:
    tokenizer = tiny_tokenizer()
    before = hash_tokenizer(tokenizer)
    tokenizer(["one", "two three four"], padding=True, truncation=True, max_length=2)
    assert hash_tokenizer(tokenizer) == before
    tokenizer.add_tokens(["zebra"])
    assert hash_tokenizer(tokenizer) != before
