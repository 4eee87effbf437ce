"""What a score form is: a pure function from blocks of vectors to scores, and the vectors that it reads.

The forms themselves, with their formulas, are in whence.trace.scoring.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from whence.signatures.types import CONTRASTS, Signatures


@dataclass(frozen=True, slots=True)
class Vectors:
    """n vectors as direction and length. A zero vector has norm 0 and a direction of zeros."""

    unit: Float[Tensor, "n dim"]
    norm: Float[Tensor, " n"]


Block = Mapping[int, Mapping[str, Vectors]]
"""Vectors of a run of examples: block[layer][vector], a vector being a field of `Signatures`, or one + CENTRED."""

CENTRED = " centred"
"""Behind a vector's name: the vector less its mean over all records. Never stored, made when it is read."""

Centres = Mapping[tuple[int, str], Float[Tensor, " dim"]]
"""Mean of each vector over all records of an index, float64, by (layer, vector)."""


class LayerRoles(NamedTuple):
    """Which layer a form takes h from, and which g."""

    h_layer: int
    g_layer: int

    def __str__(self) -> str:
        h, g = self
        return str(h) if h == g else f"h:{h},g:{g}"


Read = tuple[Literal["h_layer", "g_layer"], str]
"""A stored vector and the role of the layer it is read at."""

Scores = Float[Tensor, "n_query n_train"]
ScoreFunction = Callable[[Block, Block, LayerRoles], Scores]


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

    weight: float = 2.0
    rows: int = 60
    least: float = 0.3


@dataclass(frozen=True, slots=True)
class ScoreForm:
    """A way to score training examples against queries from their stored vectors.

    function: (queries, training examples, layer roles) -> scores [n_query, n_train], higher is closer
    needs:    the vectors it reads, each with the role of the layer it reads it at
    deep_g:   by default, h from the index's chosen layer and g from its deepest one, not both from the chosen one
    taught:   each score is multiplied by the row's `taught_share`
    expand:   the first rows of a search are asked too, and the search is done again; see `Expansion`
    """

    name: str
    version: str
    function: ScoreFunction
    needs: tuple[Read, ...]
    deep_g: bool = False
    taught: bool = False
    expand: Expansion | None = None

    @property
    def contrasts(self) -> bool:
        """Whether it reads vectors that need the model before fine-tuning."""
        return any(vector.removesuffix(CENTRED) in CONTRASTS for _, vector in self.needs)

    def reads(self, roles: LayerRoles) -> list[tuple[int, str]]:
        """(layer, vector) of each stored vector that the form reads under these roles."""
        return [(getattr(roles, role), vector) for role, vector in self.needs]


def to_vectors(raw: Float[Tensor, "n dim"], dtype: torch.dtype | None = None) -> Vectors:
    """Direction and length of each row, in `dtype` (left out, that of the rows). Norms are taken in float64.

    The gradients of a confident model are so small that their squares vanish in float32.
    """
    dtype = dtype or raw.dtype
    wide = raw.double()
    exact = wide.norm(dim=1)
    norm = exact.to(dtype)
    unit = wide / torch.where(norm > 0, exact, torch.ones_like(exact))[:, None]
    return Vectors(torch.where(norm[:, None] > 0, unit, torch.zeros_like(unit)).to(dtype), norm)


def to_block(layers: Mapping[int, Signatures], centres: Centres | None = None) -> dict[int, dict[str, Vectors]]:
    """The block of freshly extracted signatures: every vector that `Signatures` has, at every layer.

    With `centres` also each vector's centred form, under its name and CENTRED.
    """
    block: dict[int, dict[str, Vectors]] = {}
    for layer, signatures in layers.items():
        block[layer] = {name: to_vectors(raw) for name, raw in signatures.named().items()}
        for name, raw in signatures.named().items():
            if centres is not None and (layer, name) in centres:
                block[layer][name + CENTRED] = to_vectors(raw.double() - centres[layer, name], raw.dtype)
    return block


def expansion_weights(
    scores: Float[Tensor, "n_query n"], mean: Float[Tensor, " n_query"], expansion: Expansion
) -> Float[Tensor, "n_query n"]:
    """a_t / sum a of `Expansion`, for the scores of each query's best rows, of which the highest is its maximum.

    All 0 where no score is above the mean.
    """
    above = scores - mean[:, None]
    highest = above.amax(1, keepdim=True)
    share = above / torch.where(highest > 0, highest, torch.ones_like(highest))
    share = torch.where((share >= expansion.least) & (highest > 0), share, torch.zeros_like(share))
    total = share.sum(1, keepdim=True)
    return share / torch.where(total > 0, total, torch.ones_like(total))


def expanded_block(
    query: Block, rows: Block, weights: Float[Tensor, "n_query n"], weight: float
) -> dict[int, dict[str, Vectors]]:
    """The queries with rows mixed in, so that a form linear in the query's unit vectors gives score' of `Expansion`.

    The mixed vectors stand in `unit`, although their lengths are not 1.
    """

    def mixed(asked: Vectors, found: Vectors) -> Vectors:
        unit = (asked.unit + weight * weights.to(found.unit.dtype) @ found.unit) / (1 + weight)
        return Vectors(unit, torch.linalg.vector_norm(unit, dim=1))

    return {
        layer: {name: mixed(query[layer][name], found) for name, found in by_name.items()}
        for layer, by_name in rows.items()
    }


def taught_share(rise: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """1 - exp(-max(0, rise)), in [0, 1]: 0 for a row that the model before fine-tuning answered as readily.

    rise: log p(y | x) - log p0(y | x) of each row, nats. Whatever such a row looks like, it had nothing to teach.
    """
    return 1 - torch.exp(-rise.clamp_min(0))


def form_scores(
    form: ScoreForm, query: Block, train: Block, roles: LayerRoles, rise: Float[Tensor, " n_train"] | None = None
) -> Scores:
    """All scores of the form for blocks that are held whole, with its second pass where it has one.

    rise: of the training examples, nats; needed by a form that weighs by `taught_share`.
    """
    share = None
    if form.taught:
        assert rise is not None, f"{form.name} weighs rows by what fine-tuning taught"
        share = taught_share(rise)

    def scored(asked: Block) -> Scores:
        scores = form.function(asked, train, roles)
        return scores if share is None else scores * share.to(scores.dtype)

    scores = scored(query)
    if form.expand is None:
        return scores
    best, which = scores.topk(min(form.expand.rows, scores.shape[1]), dim=1)
    weights = torch.zeros_like(scores).scatter(1, which, expansion_weights(best, scores.mean(1), form.expand))
    needed: dict[int, dict[str, Vectors]] = {}
    for layer, name in form.reads(roles):
        needed.setdefault(layer, {})[name] = train[layer][name]
    return scored(expanded_block(query, needed, weights, form.expand.weight))
