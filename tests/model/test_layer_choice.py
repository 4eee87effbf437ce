"""The layer rule on tables of similarities, and the similarities on a real (tiny) model."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from tiny import CHAT_TEMPLATE, tiny_model, tiny_tokenizer
from whence.data.encoding import Encoder
from whence.data.examples import Example
from whence.errors import ModelError
from whence.model.layer_choice import choose_layer_from, probe_similarities
from whence.model.loading import LoadedModel


def test_the_upper_layer_of_the_least_similar_pair() -> None:
    choice = choose_layer_from(torch.tensor([[0.9, 0.8, 0.2, 0.7, 0.9]] * 5))
    assert (choice.layer, choice.share) == (3, {3: 1.0})
    assert choice.similarity == pytest.approx([0.9, 0.8, 0.2, 0.7, 0.9])


def test_the_last_pair_and_the_embedding_are_left_out() -> None:
    assert choose_layer_from(torch.tensor([[0.1, 0.8, 0.7, 0.1]] * 5)).layer == 3


def test_without_a_clear_minimum_the_last_layer() -> None:
    # Three probes, each with its own minimum: resamples cannot agree.
    probes = torch.tensor([[0.9, 0.1, 0.5, 0.5, 0.9], [0.9, 0.5, 0.1, 0.5, 0.9], [0.9, 0.5, 0.5, 0.1, 0.9]])
    choice = choose_layer_from(probes)
    assert choice.layer == 5
    assert "no clear minimum" in choice.reason
    assert sum(choice.share.values()) == pytest.approx(1.0)
    assert max(choice.share.values()) < 0.5


def test_the_bootstrap_is_seeded() -> None:
    similarities = torch.rand(7, 6, generator=torch.Generator().manual_seed(0))
    assert choose_layer_from(similarities, seed=3) == choose_layer_from(similarities, seed=3)


@pytest.mark.parametrize("pairs", [1, 2])
def test_a_model_of_one_or_two_layers_has_no_choice(pairs: int) -> None:
    choice = choose_layer_from(torch.rand(3, pairs))
    assert choice.layer == pairs
    assert f"a model of {pairs} layers" in choice.reason


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3_text"])
def test_similarities_are_those_of_the_hidden_states(family: str) -> None:
    loaded = LoadedModel.wrap(tiny_model(family), tiny_tokenizer(CHAT_TEMPLATE))
    encoder = Encoder(loaded.tokenizer)
    probes = [encoder.encode(Example.from_pair(prompt, "Yes."))[0] for prompt in ("Where is it?", "Why")]
    found = probe_similarities(loaded, probes)
    for row, probe in zip(found, probes, strict=True):
        ids = torch.tensor([probe.input_ids[: probe.response_start]])
        states = loaded.model(input_ids=ids, output_hidden_states=True).hidden_states
        expected = [F.cosine_similarity(a[0, -1], b[0, -1], dim=0) for a, b in pairwise(states)]
        torch.testing.assert_close(row.float(), torch.stack(expected))


def test_no_probe_is_an_error() -> None:
    with pytest.raises(ModelError, match="no probe"):
        probe_similarities(LoadedModel.wrap(tiny_model(), tiny_tokenizer()), [])
