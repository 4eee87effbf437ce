"""The signature of one encoded turn, and of many."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Signatures:
    """Signatures of n encoded turns at one layer, in the order they were given; float32 or float64, on the CPU.

    `h[i]` is the hidden state H(l) at the last prompt token of turn i, `g[i]` the gradient of the turn's loss with
    respect to it, `m[i]` the mean of H(l) over the positions that predict a response token. None is normalised.
    """

    h: Float[Tensor, "batch hidden"]
    g: Float[Tensor, "batch hidden"]
    m: Float[Tensor, "batch hidden"] | None = None


@dataclass(frozen=True, slots=True)
class TokenGradients:
    """`G[i]`: gradient of the turn's loss with respect to H(l) at every position that predicts a response token."""

    G: tuple[Float[Tensor, "n hidden"], ...]
    H: tuple[Float[Tensor, "n hidden"], ...]
    """The hidden states at the same positions."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """What the extractor returns for a list of encoded turns."""

    layers: dict[int, Signatures]
    """Signatures at each asked layer; layer 0 is the embedding output, layer n_layers is after the final norm."""
    loss: Float[Tensor, " batch"]
    """Mean cross-entropy over the response tokens, nats per token."""
    n_response: Int[Tensor, " batch"]
    tokens: dict[int, TokenGradients] | None = None


__all__ = ["Extracted", "Signatures", "TokenGradients"]
