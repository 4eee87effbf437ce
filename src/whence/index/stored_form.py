"""How a vector is stored, and read again: a direction in few bits, and its length.

    float16, all dimensions    direction and length of the vector as it was extracted
    float16, fewer             the same of its projection (whence.index.projection)
    int8                       q[i] = round(y[i] / scale), scale = max_i |y[i]| / 127, of the projection y (a rotation
                               where all dimensions are kept); the vector is scale q, and its norm is that of scale q

Columns of a vector v at layer L: v_L, v_norm_L (float32), for int8 also v_scale_L (float32); and v_sum_L, in one of the
records that were made together the sum of these records' vectors as they were extracted, null in the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int8
from torch import Tensor

from whence.index.manifest import Manifest, Precision, StoredVector
from whence.index.projection import projected
from whence.scoring import Block, Vectors, to_block, to_vectors
from whence.scoring import Centres as Means
from whence.signatures import Signatures

LARGEST = 127
"""Of an int8 number: -128 is left out, so that a vector and its opposite are stored alike."""


class Storage(NamedTuple):
    """How the vectors of an index are stored. dimensions: at most so many of each; None: all."""

    precision: Precision = "float16"
    dimensions: int | None = None

    def vector(self, name: str, layer: int, dim: int) -> StoredVector:
        """A vector of `dim` dimensions as it is stored."""
        width = None if self.dimensions is None or self.dimensions >= dim else self.dimensions
        return StoredVector(name=name, layer=layer, dim=dim, width=width, precision=self.precision)


def column_types(vector: StoredVector) -> dict[str, pa.DataType]:
    """The columns of a vector, in their order."""
    number = pa.int8() if vector.precision == "int8" else pa.float16()
    types = {vector.column: pa.list_(number, vector.stored_dim), vector.norm_column: pa.float32()}
    if vector.precision == "int8":
        types[vector.scale_column] = pa.float32()
    return types | {vector.sum_column: pa.list_(pa.float32())}


def read_columns(vector: StoredVector) -> list[str]:
    """The columns that scores are made of."""
    return [name for name in column_types(vector) if name != vector.sum_column]


def stored_columns(vector: StoredVector, raw: Float[Tensor, "n dim"]) -> dict[str, object]:
    """The columns of n records that are made together, from the vectors as they were extracted."""
    total = raw.double().sum(0).float().numpy()
    columns: dict[str, object] = {vector.sum_column: [total, *[None] * (len(raw) - 1)]}
    found = in_form(vector, raw)
    if vector.precision == "float16":
        numbers, norm = found.unit.to(torch.float16), found.norm.float()
    else:
        numbers, scale, norm = quantised(found)
        columns[vector.scale_column] = scale.numpy()
    flat = pa.array(numbers.numpy().reshape(-1))
    columns[vector.column] = pa.FixedSizeListArray.from_arrays(flat, vector.stored_dim)
    columns[vector.norm_column] = norm.numpy()
    return columns


def in_form(vector: StoredVector, raw: Float[Tensor, "n dim"]) -> Vectors:
    """Direction and length of vectors in the coordinates that the index holds, before they are rounded."""
    found = to_vectors(raw)
    if not vector.rotated:
        return found
    # Of the direction, so that the squares of a small gradient are not lost; its length comes behind.
    turned = to_vectors(projected(found.unit, vector.stored_dim))
    return Vectors(turned.unit, turned.norm * found.norm)


def quantised(
    vectors: Vectors,
) -> tuple[Int8[Tensor, "n dim"], Float[Tensor, " n"], Float[Tensor, " n"]]:
    """(q, scale, norm) of each vector: the nearest scale q with q in [-127, 127], and |scale q|; zero stays zero."""
    unit = vectors.unit.double()
    largest = unit.abs().amax(1, keepdim=True)
    q = (unit * (LARGEST / torch.where(largest > 0, largest, torch.ones_like(largest)))).round()
    scale = largest[:, 0] / LARGEST * vectors.norm.double()
    norm = scale * torch.linalg.vector_norm(q, dim=1)
    return q.to(torch.int8), scale.float(), norm.float()


def directions(
    vector: StoredVector, batches: Sequence[pa.RecordBatch], dtype: torch.dtype
) -> Float[Tensor, "n stored"]:
    """Unit vectors of the records, in `dtype`.

    They are normalised again, so that rounding leaves every cosine in [-1, 1].
    """
    numpy_dtype = np.float64 if dtype == torch.float64 else np.float32
    found = np.empty((sum(map(len, batches)), vector.stored_dim), dtype=numpy_dtype)
    start = 0
    for batch in batches:
        found[start : start + len(batch)] = batch.column(vector.column).flatten().to_numpy().reshape(len(batch), -1)
        start += len(batch)
    unit = torch.from_numpy(found)
    length = torch.linalg.vector_norm(unit, dim=1, keepdim=True)
    unit /= torch.where(length > 0, length, torch.ones_like(length))
    return unit


def int8_numbers(vector: StoredVector, batches: Sequence[pa.RecordBatch]) -> Int8[Tensor, "n stored"]:
    """q of the records."""
    parts = [batch.column(vector.column).flatten().to_numpy().reshape(len(batch), -1) for batch in batches]
    return torch.from_numpy(np.concatenate(parts))


def queries_in_form(manifest: Manifest, queries: Mapping[int, Signatures], means: Means) -> Block:
    """The block of queries, in the coordinates of the index's vectors; a vector that it does not hold is left out.

    means: of the stored vectors, which centred forms take away.
    """
    layers: dict[int, dict[str, Tensor]] = {}
    for vector in manifest.vectors:
        raw = queries[vector.layer].named().get(vector.name) if vector.layer in queries else None
        if raw is not None:
            turned = projected(raw, vector.stored_dim) if vector.rotated else raw
            layers.setdefault(vector.layer, {})[vector.name] = turned
    return to_block({layer: Signatures(**named) for layer, named in layers.items()}, means)


__all__ = [
    "LARGEST",
    "Storage",
    "column_types",
    "directions",
    "in_form",
    "int8_numbers",
    "quantised",
    "queries_in_form",
    "read_columns",
    "stored_columns",
]
