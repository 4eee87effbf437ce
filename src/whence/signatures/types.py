"""The signature of one encoded turn, and of many."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from whence.model import TokenShift

VECTORS = ("h", "g", "m", "eh", "dm", "dh")
"""The names of a signature's vectors, in the order of its fields."""

NEEDS_BASE = ("dm", "dh")
"""Those of them that need the model before fine-tuning."""

MIN_TOKEN_GAIN = 0.01
"""Least weight of a token, in nats: in an answer without a gain at any token, all tokens count alike."""

Place = tuple[int, str]
"""(layer, vector): which vector of a signature, and at which layer."""


@dataclass(frozen=True, slots=True)
class Signatures:
    """Signatures of n encoded turns at one layer, in the order they were given; float32 or float64, on the CPU.

    Those vectors that were not asked for are None. `h[i]` is the hidden state H(l) at the last prompt token of turn i,
    `g[i]` the gradient of the turn's loss with respect to it. With j over the positions that predict a response token,
    the first of them the last prompt token, and H0 the states of the model before fine-tuning:

        m = mean_j H[j]     dm = mean_j (H - H0)[j]     dh = (H - H0) at the first j
        eh = sketch of sum_j w[j] hat(E[j]) hat(H[j])^T / sum_j w[j]

    hat is the unit vector (of zero: zero), w[j] = max(`MIN_TOKEN_GAIN`, the log-likelihood gain of response token j),
    and 1 where there is no model before fine-tuning. E[j] is the error at j, `TokenGradients.E`, in which "Peru" and
    " Peru" are one word. eh stands for the matrix of which error was made in which state, sketched by
    whence.signatures.sketch. No vector is normalised.
    """

    h: Float[Tensor, "batch hidden"] | None = None
    g: Float[Tensor, "batch hidden"] | None = None
    m: Float[Tensor, "batch hidden"] | None = None
    eh: Float[Tensor, "batch sketch"] | None = None
    dm: Float[Tensor, "batch hidden"] | None = None
    dh: Float[Tensor, "batch hidden"] | None = None

    def named(self) -> dict[str, Float[Tensor, "batch dim"]]:
        """The vectors that there are, by name. A new vector becomes a column of the index by being a field here."""
        return {name: found for name in VECTORS if (found := getattr(self, name)) is not None}

    def get(self, name: str) -> Float[Tensor, "batch dim"]:
        """The vector of that name, which must be there."""
        found = getattr(self, name)
        assert isinstance(found, Tensor), f"{name} was not extracted"
        return found


@dataclass(frozen=True, slots=True)
class TokenGradients:
    """States, errors and gradients at every position that predicts a response token, a tensor a turn."""

    H: tuple[Float[Tensor, "n hidden"], ...]
    """The hidden states H(l) there."""
    E: tuple[Float[Tensor, "n hidden"], ...]
    """The errors there, at the output whatever the layer: E[j] = J^T A (p - 1_y) times the token's weight in the loss.
    J: the logits' Jacobian at the last hidden state. A: the mean over tokens of the same word
    (whence.model.spellings); without it E would be G of the last layer."""
    G: tuple[Float[Tensor, "n hidden"], ...] = ()
    """Gradients of the turn's loss with respect to H(l); () where they were not asked for."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """What the extractor returns for a list of encoded turns."""

    layers: dict[int, Signatures]
    """Signatures at each asked layer; layer 0 is the embedding output, layer n_layers is after the final norm."""
    loss: Float[Tensor, " batch"]
    """Mean cross-entropy over the response tokens, nats per token."""
    n_response: Int[Tensor, " batch"]
    gradient_norm: Float[Tensor, " batch"]
    """|g| at the last layer, at the last prompt token: the size of the first response token's error."""
    mean_state: Float[Tensor, "batch hidden"]
    """m at the last layer, of which an index keeps the mean over its rows where it does not keep m."""
    tokens: dict[int, TokenGradients] | None = None
    log_likelihood_gain: Float[Tensor, " batch"] | None = None
    """How much likelier fine-tuning made the whole response, in nats: sum_j log p(y_j) - log p_base(y_j). None without
    the model before fine-tuning."""
    shifts: tuple[TokenShift, ...] | None = None
    """The same token by token, and the base's largest probability of another token; None without that model."""


__all__ = [
    "MIN_TOKEN_GAIN",
    "NEEDS_BASE",
    "VECTORS",
    "Extracted",
    "Place",
    "Signatures",
    "TokenGradients",
]
