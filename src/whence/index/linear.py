"""A score as one inner product, for the forms that are weighted means of cosines.

    s[q, t] = f[t] sum_k (w_k / W) cos(v_k[q], v_k[t]) = Q[q] . X[t]

    Q[q] = (sqrt(w_k / W) hat(v_k[q]))_k,    X[t] = f[t] (sqrt(w_k / W) hat(v_k[t]))_k,    W = sum_k w_k

with f the learned fraction where the form has it, else 1. Q may be a mixture (whence.scoring.expansion).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from whence.model import learned_fraction
from whence.scoring import Block, CosineMean, FormLayers, RowBlock, ScoreForm


def is_linear(form: ScoreForm) -> bool:
    """Whether the form's score is such an inner product."""
    return isinstance(form.function, CosineMean)


def joined_queries(form: ScoreForm, roles: FormLayers, block: Block) -> Float[Tensor, "n dim"]:
    """Q of each query."""
    return _joined(form, roles, block)


def joined_rows(
    form: ScoreForm, roles: FormLayers, block: RowBlock, gain: Float[Tensor, " n"] | None
) -> Float[Tensor, "n dim"]:
    """X of each record. gain: log-likelihood gains, nats; None where the form does not weigh by them."""
    joined = _joined(form, roles, block)
    return joined if gain is None else joined * learned_fraction(gain).to(joined.dtype)[:, None]


def _joined(form: ScoreForm, roles: FormLayers, block: RowBlock) -> Float[Tensor, "n dim"]:
    assert isinstance(form.function, CosineMean), f"{form.name} is no mean of cosines"
    total = sum(form.function.weights)
    parts = zip(form.reads(roles), form.function.weights, strict=True)
    return torch.cat([block[layer][name].unit * (weight / total) ** 0.5 for (layer, name), weight in parts], dim=1)


__all__ = ["is_linear", "joined_queries", "joined_rows"]
