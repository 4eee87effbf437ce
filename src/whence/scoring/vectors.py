"""Blocks of vectors, as direction and length: what a score form reads of queries and of training examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from whence.signatures import Signatures


@dataclass(frozen=True, slots=True)
class Vectors:
    """n vectors as direction and length. A zero vector has norm 0 and a direction of zeros."""

    unit: Float[Tensor, "n dim"]
    norm: Float[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.norm)

    def cosines(self, query: Vectors) -> Float[Tensor, "n_query n"]:
        """query.unit[q] . unit[t]"""
        return query.unit @ self.unit.T  # [n_query, dim] @ [dim, n]

    def rows(self, places: Int[Tensor, " k"] | slice) -> Vectors:
        """Some of them, in this order."""
        return Vectors(self.unit[places], self.norm[places])


class VectorBlock(Protocol):
    """What a score form reads of the vectors of training rows: `Vectors`, or how an index holds them."""

    @property
    def unit(self) -> Float[Tensor, "n dim"]: ...

    @property
    def norm(self) -> Float[Tensor, " n"]: ...

    def cosines(self, query: Vectors) -> Float[Tensor, "n_query n"]: ...

    def rows(self, places: Int[Tensor, " k"] | slice) -> Vectors: ...


Block = Mapping[int, Mapping[str, Vectors]]
"""Vectors of a run of examples: block[layer][vector], a vector being a field of `Signatures`, or one + CENTRED."""

RowBlock = Mapping[int, Mapping[str, VectorBlock]]
"""The same of training rows, in whatever form they are held."""

CENTRED = " centred"
"""Behind a vector's name: the vector less its mean over all records. Never stored, made when it is read."""

Centres = Mapping[tuple[int, str], Float[Tensor, " dim"]]
"""Mean of each vector over all records of an index, float64, by (layer, vector)."""


def queries_in(block: RowBlock) -> int:
    """The number of queries of a block: it holds one vector of each kind for each."""
    return len(next(iter(next(iter(block.values())).values())).norm)


def rows_of(block: RowBlock, places: Int[Tensor, " k"] | slice) -> dict[int, dict[str, Vectors]]:
    """Some queries or rows of a block, in this order."""
    return {
        layer: {name: vectors.rows(places) for name, vectors in by_name.items()} for layer, by_name in block.items()
    }


def to_vectors(raw: Float[Tensor, "n dim"], dtype: torch.dtype | None = None) -> Vectors:
    """Direction and length of each row, in `dtype` (left out, that of the rows). Norms are taken in float64.

    norm[i] = sqrt(sum_d raw[i, d]^2);  unit[i, d] = raw[i, d] / norm[i], and 0 where norm[i] is 0 in `dtype`
    """
    dtype = dtype or raw.dtype
    # The gradients of a confident model are so small that their squares vanish in float32.
    wide = raw.double()
    exact = wide.norm(dim=1)  # [n]
    norm = exact.to(dtype)
    unit = wide / torch.where(norm > 0, exact, torch.ones_like(exact))[:, None]  # [n, dim]
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


__all__ = [
    "CENTRED",
    "Block",
    "Centres",
    "RowBlock",
    "VectorBlock",
    "Vectors",
    "queries_in",
    "rows_of",
    "to_block",
    "to_vectors",
]
