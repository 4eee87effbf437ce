"""Token maps: which response token of a training row pulls where which response token of the query pulls.

G is the gradient of a turn's loss with respect to H(l) at every position that predicts a response token, so row i of G
belongs to response token i. The maps are made for the first hits only, from the model, and never stored.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def token_map(G_query: Float[Tensor, "n hidden"], G_row: Float[Tensor, "m hidden"]) -> Float[Tensor, "n m"]:
    """Cosines of the gradients of every two response tokens; in [-1, 1].

    M[i, j] = unit(G_query)[i] . unit(G_row)[j], where unit(0) = 0.

    Source: RepT (arXiv 2510.02334), token level. Different: it sums i away, see `response_words.paper`.
    """
    return unit(G_query) @ unit(G_row).T


def kernel_map(
    M: Float[Tensor, "n m"], H_query: Float[Tensor, "n hidden"], H_row: Float[Tensor, "m hidden"]
) -> Float[Tensor, "n m"]:
    """Pulls the same way, from a like state: M, a map of cosines, times the states', negative ones as 0; in [0, 1].

    K[i, j] = max(0, M[i, j]) max(0, unit(H_query)[i] . unit(H_row)[j]), H centred hidden states at the same positions

    For a linear map the product of the parameter gradients of two examples is the sum over token pairs of the product
    of these two similarities, lengths included.
    """
    return M.clamp_min(0) * (unit(H_query) @ unit(H_row).T).clamp_min(0)


def word_map(
    tokens: Float[Tensor, "n m"], query_words: Sequence[Sequence[int]], row_words: Sequence[Sequence[int]]
) -> Float[Tensor, "n_words m_words"]:
    """The map between words: the largest entry over the tokens of both; 0 for a word without a token.

    query_words, row_words: for each word the indices of its tokens, into the rows and columns of `tokens`.
    """
    columns = _largest(tokens, row_words)  # [n, m_words], then over the query's words: [m_words, n_words]
    return _largest(columns.T.contiguous(), query_words).T.contiguous()


def _largest(tokens: Float[Tensor, "n m"], words: Sequence[Sequence[int]]) -> Float[Tensor, "n words"]:
    found = tokens.new_zeros(len(tokens), len(words))
    for word, columns in enumerate(words):
        if columns:
            # A word is as alike as its best token: its other pieces may be spelling.
            found[:, word] = tokens[:, list(columns)].amax(1)
    return found


def unit(rows: Float[Tensor, "n hidden"]) -> Float[Tensor, "n hidden"]:
    """The direction of each row, zeros for a row of zeros. Norms are taken in float64: a sure model's are tiny."""
    # A sure model's gradients are 1e-30 and less, whose squares vanish in float32.
    wide = rows.double()
    norms = wide.norm(dim=1, keepdim=True)
    return (wide / torch.where(norms > 0, norms, torch.ones_like(norms))).to(rows.dtype)


__all__ = ["kernel_map", "token_map", "unit", "word_map"]
