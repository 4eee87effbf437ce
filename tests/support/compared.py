"""Three turns, a comparison of them, and what they score from full passes: for what leaves words out."""

from __future__ import annotations

from collections.abc import Callable

import torch

from oracles import errors_oracle, pairs_oracle, signature_oracle
from tiny import CHAT_TEMPLATE, tiny_model, tiny_tokenizer
from whence.data.encoding import Encoder
from whence.data.examples import EncodedTurn, Example
from whence.model.loading import LoadedModel
from whence.scoring.defaults import SCORES
from whence.scoring.forms import Depths
from whence.scoring.vectors import Centres, Vectors, to_block
from whence.signatures.types import Signatures
from whence.trace.explain.prompt_attribution.comparison import Comparison

LAYERS = (2, 3, 4)
"""What `rept` reads by the layer given here, what the answer's states are read at, and the last."""
PAIRS = [("Tell me, where is Toronto?", "Toronto is in Korea."), ("Is it, now?", "No 🙂."), ("Hi", "It is the sea.")]


def made(form: str = "rept-centred") -> tuple[Comparison, list[EncodedTurn]]:
    loaded = LoadedModel.wrap(tiny_model("llama", dtype=torch.float64), tiny_tokenizer(CHAT_TEMPLATE))
    encoder = Encoder(loaded.tokenizer)
    turns = [turn for pair in PAIRS for turn in encoder.encode(Example.from_pair(*pair))]
    generator = torch.Generator().manual_seed(0)
    centres: Centres = {
        (layer, name): torch.randn(32, generator=generator, dtype=torch.float64) for layer in LAYERS for name in "hgme"
    }
    return Comparison(loaded, SCORES[form], SCORES[form].layers(Depths(2, 4)), centres), turns


def plain_score(comparison: Comparison, query: EncodedTurn, row: EncodedTurn) -> float:
    """The form's score of two turns from full forward and backward passes."""
    return plain_scorer(comparison, query)(row)


def plain_scorer(comparison: Comparison, query: EncodedTurn) -> Callable[[EncodedTurn], float]:
    """`plain_score` of one query; its own signature is read once."""

    def block(turn: EncodedTurn) -> dict[int, dict[str, Vectors]]:
        layers, E = {}, errors_oracle(comparison.loaded.model, comparison.loaded.tokenizer, turn)
        for layer in LAYERS:
            h, g, H, _, _ = signature_oracle(comparison.loaded.model, turn, layer)
            layers[layer] = Signatures(h[None], g[None], H.mean(0)[None], pairs_oracle(E, H)[None])
        return to_block(layers, comparison.centres)

    own = block(query)
    return lambda row: comparison.form.function(own, block(row), comparison.roles).item()
