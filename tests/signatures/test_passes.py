"""Models whose prompts cannot be run apart, or whose rows cannot stand in any batch, equal full passes over one row."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from oracles import before_oracle, signature_oracle
from tiny import CONFIGS, VOCAB_SIZE, tiny_model, tiny_tokenizer
from whence.data.examples import EncodedTurn
from whence.model.likelihood import log_probabilities
from whence.model.loading import LoadedModel
from whence.signatures.extract import Extractor
from whence.signatures.passes import splits_prompts

BOUND = 1e-5
"""Relative; float32."""
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0] * 4,
    "long_factor": [1.0, 2.0, 4.0, 8.0],
    "original_max_position_embeddings": 16,
    "factor": 16.0,
}


def turn(length: int, n_response: int = 4) -> EncodedTurn:
    return EncodedTurn(0, tuple(range(10, 10 + length)), length - n_response, "", (), "", "")


def mamba() -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model("mamba", vocab_size=VOCAB_SIZE, hidden_size=32, num_hidden_layers=4, state_size=4)
    return AutoModelForCausalLM.from_config(config).eval()


def check(model: PreTrainedModel, turns: list[EncodedTurn], theirs: int = 2) -> None:
    """Signatures at layer 2, with and without a backward pass, and likelihoods.

    theirs: the place of H(2) in the model's own hidden_states.
    """
    loaded = LoadedModel.wrap(model, tiny_tokenizer())
    forward = Extractor(loaded, vectors=[(2, "h"), (2, "m")], max_tokens=1000).extract(turns).layers[2]
    backward = Extractor(loaded, vectors=[(2, "h"), (2, "g")], max_tokens=1000).extract(turns).layers[2]
    log_probs = log_probabilities(loaded, turns, max_tokens=1000)
    for i, one in enumerate(turns):
        h, g, H, _, loss = signature_oracle(model, one, theirs)
        for found, expected in (
            (forward.get("h")[i], h),
            (forward.get("m")[i], H.mean(0)),
            (backward.get("h")[i], h),
            (backward.get("g")[i], g),
        ):
            assert (found - expected).abs().max() <= BOUND * expected.abs().max()
        assert -log_probs[i].mean().item() == pytest.approx(loss, rel=BOUND)
        assert (-log_probs[i] - before_oracle(model, one, theirs)[1]).abs().max() <= BOUND * loss


def test_rows_are_rotated_as_alone_whatever_stands_beside_them() -> None:
    """17 tokens are the first with the long factors, and 16 of them are run without the last one."""
    check(tiny_model("llama", rope_parameters=LONGROPE), [turn(n) for n in (12, 15, 16, 17, 19, 30)])


def test_a_recurrent_model_is_run_whole() -> None:
    check(mamba(), [turn(n) for n in (6, 9, 14)], theirs=1)  # Mamba's begin behind its first layer


@pytest.mark.parametrize("family", CONFIGS)
def test_models_with_attention_alone_run_their_prompts_apart(family: str) -> None:
    for dtype in (torch.float32, torch.float64):
        assert splits_prompts(LoadedModel.wrap(tiny_model(family, dtype=dtype), tiny_tokenizer()))


def test_other_models_do_not() -> None:
    for model in (mamba(), tiny_model("llama", rope_parameters=LONGROPE)):
        assert not splits_prompts(LoadedModel.wrap(model, tiny_tokenizer()))


def test_a_model_that_takes_another_kind_of_cache_is_read_whole() -> None:
    assert not splits_prompts(LoadedModel.wrap(tiny_model("xlstm"), tiny_tokenizer()))
