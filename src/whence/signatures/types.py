"""The signature of one encoded turn, and of many."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

VECTORS = ("h", "g", "m", "e", "dh", "dm")
"""The names of a signature's vectors, in the order of its fields."""

CONTRASTS = ("dh", "dm")
"""Those of them that need the model before fine-tuning."""


@dataclass(frozen=True, slots=True)
class Signatures:
    """Signatures of n encoded turns at one layer, in the order they were given; float32 or float64, on the CPU.

    `h[i]` is the hidden state H(l) at the last prompt token of turn i, `g[i]` the gradient of the turn's loss with
    respect to it. With j over the positions that predict a response token, and H0 the states of the model before
    fine-tuning:

        m = mean_j H[j]     e = mean_j G[j] / |G[j]|     dh = H[t] - H0[t]     dm = mean_j (H - H0)[j]

    dh and dm are None where there is no such model. No vector is normalised; a position without gradient counts as zero
    in e.
    """

    h: Float[Tensor, "batch hidden"]
    g: Float[Tensor, "batch hidden"]
    m: Float[Tensor, "batch hidden"] | None = None
    e: Float[Tensor, "batch hidden"] | None = None
    dh: Float[Tensor, "batch hidden"] | None = None
    dm: Float[Tensor, "batch hidden"] | None = None

    def named(self) -> dict[str, Float[Tensor, "batch hidden"]]:
        """The vectors that there are, by name. A new vector becomes a column of the index by being a field here."""
        return {name: found for name in VECTORS if (found := getattr(self, name)) is not None}


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
    rise: Float[Tensor, " batch"] | None = None
    """How much likelier fine-tuning made the whole response, in nats: sum_j log p(y_j) - log p0(y_j). None without the
    model before fine-tuning."""


__all__ = ["CONTRASTS", "VECTORS", "Extracted", "Signatures", "TokenGradients"]
