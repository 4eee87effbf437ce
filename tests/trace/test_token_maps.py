"""Token maps equal the map of a full forward and backward pass, pair by pair."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oracles import signature_oracle
from oracles_words import token_map_oracle, word_map_oracle
from tiny import CHAT_TEMPLATE, tiny_model, tiny_tokenizer
from whence.data.encoding import Encoder
from whence.data.examples import Example
from whence.model.loading import LoadedModel
from whence.signatures.extract import Extractor
from whence.trace.explain.token_maps import token_map, word_map

BOUND = 1e-9
"""float64; cosines of a few dozen terms in another order, of gradients that agree to 1e-10."""


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3"])
def test_maps_are_those_of_full_passes(family: str) -> None:
    model, encoder = tiny_model(family, dtype=torch.float64), Encoder(tiny_tokenizer(CHAT_TEMPLATE))
    pairs = [("Where is Toronto?", "Toronto is in Korea."), ("Hi", "No."), ("Where is it, then?", "In Korea, 🙂 one.")]
    turns = [turn for pair in pairs for turn in encoder.encode(Example.from_pair(*pair))]
    for layer in (2, 4):
        full = [signature_oracle(model, turn, layer)[3].tolist() for turn in turns]
        extractor = Extractor(LoadedModel.wrap(model, tiny_tokenizer(CHAT_TEMPLATE)), [layer])
        found = extractor.extract(turns, token_gradients=True).tokens
        assert found is not None
        for a in range(3):
            for b in range(3):
                expected = torch.tensor(token_map_oracle(full[a], full[b]), dtype=torch.float64)
                G_query, G_row = found[layer].G[a], found[layer].G[b]
                torch.testing.assert_close(token_map(G_query, G_row), expected, atol=BOUND, rtol=0)


def test_a_zero_gradient_is_like_nothing_and_a_tiny_one_counts() -> None:
    G = torch.tensor([[3e-30, 4e-30], [0.0, 0.0], [-4.0, 3.0]])
    expected = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(token_map(G, G), expected)


@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 6))
def test_words_take_their_largest_token(seed: int, n: int, m: int) -> None:
    made = torch.Generator().manual_seed(seed)
    tokens = torch.randn(n, m, generator=made, dtype=torch.float64)
    groups = [[[i for i in range(size) if torch.rand(1, generator=made) < 0.5] for _ in range(3)] for size in (n, m)]
    expected = word_map_oracle(tokens.tolist(), *groups)
    assert word_map(tokens, *groups).tolist() == expected
