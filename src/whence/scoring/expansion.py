"""Query expansion: a search done again with its own first rows as further queries."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from whence.scoring.vectors import Block, Vectors


@dataclass(frozen=True, slots=True)
class Expansion:
    """How a search is done again with its own first rows, for a form that is linear in the query's unit vectors.

    With s the scores of the first pass, T its `rows` best rows, and for t in T
    a_t = max(0, (s_t - mean s) / (max s - mean s)), or 0 where that is below `least`:

        score'[u] = (s[u] + weight sum_t a_t s(t, u) / sum_t a_t) / (1 + weight)

    where s(t, u) is the form's score of row u for row t as a query. Rows of one fault find the others, and a query's
    own wording counts for less.

    Source: query expansion with the first results, Rocchio 1971, weighted as alpha query expansion (Radenovic et al.
    2018, arXiv 1711.02512).
    """

    # Chosen on the bench's development seeds; what each is worth is in docs/method.md.
    weight: float = 2.0
    rows: int = 60
    least: float = 0.3


def expansion_weights(
    scores: Float[Tensor, "n_query n"], mean: Float[Tensor, " n_query"], expansion: Expansion
) -> Float[Tensor, "n_query n"]:
    """a_t / sum a of `Expansion`, for the scores of each query's best rows, of which the highest is its maximum.

    All 0 where no score is above the mean.
    """
    above = scores - mean[:, None]  # s_t - mean s: [n_query, n]
    highest = above.amax(1, keepdim=True)  # max s - mean s: [n_query, 1]
    share = above / torch.where(highest > 0, highest, torch.ones_like(highest))
    share = torch.where((share >= expansion.least) & (highest > 0), share, torch.zeros_like(share))  # a_t
    total = share.sum(1, keepdim=True)
    return share / torch.where(total > 0, total, torch.ones_like(total))


def expanded_block(
    query: Block, rows: Block, weights: Float[Tensor, "n_query n"], weight: float
) -> dict[int, dict[str, Vectors]]:
    """The queries with rows mixed in, so that a form linear in the query's unit vectors gives score' of `Expansion`.

    unit'[q] = (unit[q] + weight sum_t weights[q, t] unit[t]) / (1 + weight)

    The mixed vectors stand in `unit`, although their lengths are not 1.
    """

    def mixed(asked: Vectors, found: Vectors) -> Vectors:
        # [n_query, dim] + [n_query, n] @ [n, dim]
        unit = (asked.unit + weight * weights.to(found.unit.dtype) @ found.unit) / (1 + weight)
        return Vectors(unit, torch.linalg.vector_norm(unit, dim=1))

    return {
        layer: {name: mixed(query[layer][name], found) for name, found in by_name.items()}
        for layer, by_name in rows.items()
    }


__all__ = ["Expansion", "expanded_block", "expansion_weights"]
