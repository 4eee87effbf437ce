"""Decoder layers and heads are found in every family; an unknown shape is an error that says what to do."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tiny import CONFIGS, tiny_model
from whence.errors import ModelError
from whence.model.blocks import captured, find_blocks

PATHS = {"gpt2": "transformer.h", "gpt_neox": "gpt_neox.layers"}


@pytest.mark.parametrize("family", CONFIGS)
def test_layers_and_head_of_every_family(family: str) -> None:
    model = tiny_model(family)
    blocks = find_blocks(model)
    assert blocks.path == PATHS.get(family, "model.layers")
    assert len(blocks.layers) == model.config.num_hidden_layers
    ids = torch.tensor([[5, 6, 7, 8]])
    output = model(input_ids=ids, output_hidden_states=True)
    with captured(blocks, range(5), leaf=False) as seen:
        last = blocks.decoder(input_ids=ids).last_hidden_state
    for layer, hidden in seen.items():
        torch.testing.assert_close(hidden, output.hidden_states[layer])
    torch.testing.assert_close(blocks.head(last), output.logits)


@pytest.mark.parametrize(
    ("family", "scale", "softcap"),
    [("falcon_h1", 0.5, None), ("recurrent_gemma", 1.0, 2.0), ("xlstm", 1.0, 2.0), ("llama4_text", 1.0, None)],
)
def test_heads_that_are_scaled_or_capped(family: str, scale: float, softcap: float | None) -> None:
    model = tiny_model(family)
    blocks = find_blocks(model)
    assert (blocks.head.scale, blocks.head.softcap) == (scale, softcap)
    ids = torch.tensor([[5, 6, 7, 8]])
    last = blocks.decoder(input_ids=ids, use_cache=False).last_hidden_state
    torch.testing.assert_close(blocks.head(last), model(input_ids=ids, use_cache=False).logits)


def test_the_layers_inside_an_adapter_are_found() -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(tiny_model("llama"), LoraConfig(r=2, target_modules=["q_proj"]))
    assert find_blocks(model).path == "model.layers"


def test_an_unknown_model_lists_what_was_found_and_the_flag() -> None:
    model = tiny_model("llama")
    model.model.twin = nn.ModuleList(nn.Identity() for _ in range(4))
    with pytest.raises(ModelError, match=r"model\.layers \(4\), model\.twin \(4\)[\s\S]*--blocks PATH"):
        find_blocks(model)
    assert find_blocks(model, "model.layers").path == "model.layers"
    with pytest.raises(ModelError, match=r"no list of modules at 'model\.blocks'"):
        find_blocks(model, "model.blocks")


def test_a_model_without_an_output_head_is_refused() -> None:
    with pytest.raises(ModelError, match="LlamaModel has no decoder with an output head"):
        find_blocks(tiny_model("llama").model)


def test_a_head_that_does_more_than_we_know_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    forward = model.forward

    def doubled(*args: object, **kwargs: object) -> object:
        output = forward(*args, **kwargs)
        output.logits = output.logits * 2
        return output

    monkeypatch.setattr(model, "forward", doubled)
    with pytest.raises(ModelError, match="output head of LlamaForCausalLM does more"):
        find_blocks(model)


def test_a_layer_that_takes_several_states_a_token_is_refused() -> None:
    """As Gemma 3n's do: [altup, batch, seq, hidden]."""
    blocks = find_blocks(tiny_model("llama"))
    for state in (torch.zeros(2, 1, 3, 32), None):
        with captured(blocks, [1]), pytest.raises(ModelError, match="LlamaDecoderLayer takes"):
            blocks.layers[1](state)
