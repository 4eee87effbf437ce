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

from whence.signatures.types import Signatures


@dataclass(frozen=True, slots=True)
class Vectors:
    """n vectors as direction and length. A zero vector has norm 0 and a direction of zeros."""

    unit: Float[Tensor, "n dim"]
    norm: Float[Tensor, " n"]


Block = Mapping[int, Mapping[str, Vectors]]
"""Vectors of a run of examples: block[layer][vector], a vector being "h", "g" or "m", or one of them + CENTRED."""

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
class ScoreForm:
    """A way to score training examples against queries from their stored vectors.

    function: (queries, training examples, layer roles) -> scores [n_query, n_train], higher is closer
    needs:    the vectors it reads, each with the role of the layer it reads it at
    deep_g:   by default, h from the index's chosen layer and g from its deepest one, not both from the chosen one
    """

    name: str
    version: str
    function: ScoreFunction
    needs: tuple[Read, ...]
    deep_g: bool = False

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
        block[layer] = {name: to_vectors(raw) for name, raw in raw_vectors(signatures).items()}
        for name, raw in raw_vectors(signatures).items():
            if centres is not None and (layer, name) in centres:
                block[layer][name + CENTRED] = to_vectors(raw.double() - centres[layer, name], raw.dtype)
    return block


def raw_vectors(signatures: Signatures) -> dict[str, Float[Tensor, "n dim"]]:
    """The vectors of a layer by name. A new vector becomes a column of the index by being added here."""
    found = {"h": signatures.h, "g": signatures.g}
    return found if signatures.m is None else found | {"m": signatures.m}
