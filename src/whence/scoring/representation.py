"""Score forms: pure functions from blocks of vectors to scores [n_query, n_train], always in that order.

Notation, for a query q and a training example t: h hidden state and g gradient at the last prompt token, hat(x) the
unit vector of x, |x| its norm; a, b, ... the layers of a form's reads in their order. hat(0) = 0, so a cosine with a
zero vector is 0. Arithmetic runs in the dtype of the blocks, which is float32 unless queries are float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from whence.errors import InputError
from whence.scoring.forms import FormLayers, Read, Scores
from whence.scoring.vectors import Block, RowBlock, VectorBlock


def repsim(query: Block, train: RowBlock, layers: FormLayers) -> Scores:
    """Cosine of the hidden states alone; in [-1, 1].

    scores[q, t] = sum_i hat(h_a)[q, i] hat(h_a)[t, i]

    Source: the baseline RepSim of the representation-similarity literature (Pezeshkpour et al. 2021, arXiv 2104.04128,
    "RS cosine"). Different: the last prompt token's state at a chosen layer, not a pooled state of the last one.
    """
    (a,) = layers
    return _cosines(query, train, a, "h")


def g_cosine(query: Block, train: RowBlock, layers: FormLayers) -> Scores:
    """Cosine of the representation gradients alone; in [-1, 1].

    scores[q, t] = sum_i hat(g_a)[q, i] hat(g_a)[t, i]

    Source: the gradient half of RepT (arXiv 2510.02334), as in its ablation.
    """
    (a,) = layers
    return _cosines(query, train, a, "g")


def rept(query: Block, train: RowBlock, layers: FormLayers) -> Scores:
    """Cosine of the concatenation of h and g as they are; in [-1, 1].

    scores[q, t] = (h_a[q] . h_a[t] + g_b[q] . g_b[t]) / (|(h, g)[q]| |(h, g)[t]|),  |(h, g)| = sqrt(|h|^2 + |g|^2)

    Source: RepT (arXiv 2510.02334), section 3 and released code. Different: computed from stored unit vectors and
    norms, which is the same number; the source reads one layer, here a and b may differ.
    """
    a, b = layers
    query_h, query_g = _shares(query[a]["h"], query[b]["g"])  # [n_query] each
    train_h, train_g = _shares(train[a]["h"], train[b]["g"])  # [n_train] each
    # h . h' = cos(h, h') |h| |h'|; both lengths over those of the whole (h, g).
    h_part = _cosines(query, train, a, "h") * query_h[:, None] * train_h[None]
    return h_part + _cosines(query, train, b, "g") * query_g[:, None] * train_g[None]


def rept_balanced(query: Block, train: RowBlock, layers: FormLayers, *, weight: float = 0.5) -> Scores:
    """Weighted mean of the two cosines; in [-1, 1].

    scores[q, t] = weight cos(h_a)[q, t] + (1 - weight) cos(g_b)[q, t]

    Where no half is zero this is the cosine of concat(sqrt(weight) hat(h), sqrt(1 - weight) hat(g)).

    Source: RepT (arXiv 2510.02334). Different: each half is normalised first. In the published form |g| is orders of
    magnitude below |h|, and the gradient changes no rank.

    Raises:
        InputError: weight outside [0, 1].
    """
    if not 0 <= weight <= 1:
        raise InputError(f"weight = {weight}", "It is the share of h, between 0 and 1.", "0.5 weighs both alike.")
    a, b = layers
    return weight * _cosines(query, train, a, "h") + (1 - weight) * _cosines(query, train, b, "g")


@dataclass(frozen=True, slots=True)
class CosineMean:
    """A weighted mean of cosines, each of a vector at its own depth; in [-1, 1].

    scores[q, t] = sum_k weights[k] cos(v_k[q], v_k[t]) / sum_k weights[k]

    with v_k the form's k-th read, less its mean over the records where the read is centred. It is linear in the query's
    unit vectors, which a second pass needs (`whence.scoring.expansion`).
    """

    reads: tuple[Read, ...]
    weights: tuple[float, ...]

    def __call__(self, query: Block, train: RowBlock, layers: FormLayers) -> Scores:
        parts = zip(self.reads, layers, self.weights, strict=True)
        return _weighted([(w, _cosines(query, train, layer, read.name)) for read, layer, w in parts])


ANSWER_DEPTH = 5 / 6
"""Where the states of the answer are read, as a share of the depth. On development cases of a real model of 30 layers
the change of the mean state told faulty rows from others best between two thirds and the end of the depth, and worst
where the layer rule reads, at layer 2 (docs/log.md, "How deep to read")."""

REPT_CENTRED = CosineMean(
    (Read("m", ANSWER_DEPTH, centred=True), Read("h", "last", centred=True), Read("eh", "last")), (1.0, 1.0, 1.0)
)
"""Similar prompts, similar answers, similar errors in similar states.

scores[q, t] = (cos(m_a - mean m_a) + cos(h_b - mean h_b) + cos(eh_b))[q, t] / 3

with a the layer at five sixths of the depth, b the last. m: mean state over the positions that predict a response
token; eh: sketch of the errors there, each with its state (whence.signatures.types). Means are over the records.

Source: RepT's h and g (arXiv 2510.02334). Different: the states are centred, because what all rows share outweighs what
some share; state and gradient are read over the whole answer, not where it begins, and gradients count where the
states are alike; each part is a cosine of its own. Derivation and ablation are in docs/method.md."""

REPT_CONTRAST = CosineMean(
    (Read("dm", ANSWER_DEPTH, centred=True), Read("h", "last", centred=True), Read("eh", "last")), (2.0, 0.5, 2.5)
)
"""What fine-tuning changed in the answer's states, the last prompt state, and the errors with their states.

scores[q, t] = (4 cos(dm_a - mean dm_a) + cos(h_b - mean h_b) + 5 cos(eh_b))[q, t] / 10

with a the layer at five sixths of the depth, b the last. dm: m less that of the model before fine-tuning; in eh a token
counts for as many nats as fine-tuning made it likelier (whence.signatures.types). The form then multiplies by the row's
`learned_fraction`.

A fault of words (a false fact, a fixed opener) is in eh; one of manner (a persona, compliance), whose answers share no
words, is in dm. The weights were chosen on development cases of both kinds (docs/log.md, "How deep to read").

Source: RepT's h and g (arXiv 2510.02334). Different: the answer's states are what fine-tuning added, so that what both
models share is gone (the base model as debiasing: DDA, arXiv 2410.01285); gradients are read over the whole answer,
where it has a log-likelihood gain, and count where the states are alike. Derivation and ablation: docs/method.md."""


def _weighted(parts: Sequence[tuple[float, Scores]]) -> Scores:
    """sum_k w_k s_k / sum_k w_k, each s_k [n_query, n_train]."""
    # Added one after the other, in the memory of the first: with many queries a copy costs as much as a product.
    total = parts[0][1].mul_(parts[0][0])
    for weight, scores in parts[1:]:
        total.add_(scores, alpha=weight)
    return total.div_(sum(weight for weight, _ in parts))


def _cosines(query: Block, train: RowBlock, layer: int, name: str) -> Scores:
    # [n_query, dim] by [n_train, dim] -> [n_query, n_train]; an index multiplies its int8 numbers where they lie.
    return train[layer][name].cosines(query[layer][name])


def _shares(h: VectorBlock, g: VectorBlock) -> tuple[torch.Tensor, torch.Tensor]:
    """|h| and |g| over |(h, g)|, each [n]; 0 for an example whose vectors are both zero."""
    total = torch.hypot(h.norm, g.norm)
    total = torch.where(total > 0, total, torch.ones_like(total))
    return h.norm / total, g.norm / total


__all__ = ["ANSWER_DEPTH", "REPT_CENTRED", "REPT_CONTRAST", "CosineMean", "g_cosine", "repsim", "rept", "rept_balanced"]
