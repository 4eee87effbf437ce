"""Rows of int8 vectors as they are stored, and cosines with them in integer arithmetic.

With x[t] = scale[t] q[t] a stored vector, c the mean that a centred form takes away (else 0), and the query's direction
rounded to step p[i], p integer:

    cos[q, t] = (step scale[t] sum_i p[i] q[t, i] - step p . c) / |x[t] - c|
    |x[t] - c|^2 = norm[t]^2 - 2 scale[t] (q[t] . c) + |c|^2

The sum is exact, in 32 bits. A query is rounded to 7 bits, one less than rows: processors without 8-bit dot products
multiply pairs of bytes into 16 bits, where 255 * 63 * 2 fits and 255 * 127 * 2 does not. Its rounding moves a cosine by
some 0.0005 at 1,024 dimensions; the same rounded query is taken from x and from c, so that nothing large is left over.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from jaxtyping import Float, Int, Int8, Int32
from torch import Tensor

from whence.scoring import Vectors

QUERY_LARGEST = 63
INTEGER_DIM = 256
"""Fewer numbers are multiplied in float32: there the query's rounding would move a cosine by more than 0.001."""
PRODUCTS_AT_ONCE = 1 << 18
"""Integer products held at once, queries times rows: 1 MiB, which stays in a core's cache."""
FEW = 4096
"""Rows whose directions are kept once they are made: an approximate search scores its candidates twice."""
CENTRE_PARTS = 4
"""7 bits each: q . c is taken from norms that can be a hundred times what is left, and must be right to float32."""


class PackedVectors:
    """n stored int8 vectors, less `centre` where it is given. `unit` and `norm` as of `whence.scoring.Vectors`.

    q: contiguous rows; they may lie in a mapped file.
    """

    def __init__(
        self,
        q: Int8[Tensor, "n dim"],
        scale: Float[Tensor, " n"],
        norm: Float[Tensor, " n"],
        centre: Float[Tensor, " dim"] | None = None,
    ) -> None:
        self.q, self._scale, self._stored_norm, self._centre = q, scale, norm, centre

    def __len__(self) -> int:
        return len(self.q)

    @property
    def unit(self) -> Float[Tensor, "n dim"]:
        """Their directions, in float32: made anew at each call, but of a few rows."""
        return self._few_units if len(self) <= FEW else self.rows(torch.arange(len(self))).unit

    @cached_property
    def _few_units(self) -> Float[Tensor, "n dim"]:
        return self.rows(torch.arange(len(self))).unit

    @cached_property
    def norm(self) -> Float[Tensor, " n"]:
        """|x - c|, float32."""
        if self._centre is None:
            return self._stored_norm
        c = self._centre.double()
        shared = torch.zeros(len(self), dtype=torch.float64)  # q . c
        for step, part in _parts(c, CENTRE_PARTS):
            shared += step * integer_products(part[None], self.q)[0]
        square = self._stored_norm.double() ** 2 - 2 * self._scale.double() * shared + c @ c
        return square.clamp_min(0).sqrt().float()

    @cached_property
    def _factor(self) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """scale / |x - c| and 1 / |x - c|; 0 where nothing is left."""
        some = self.norm > 0
        inverse = torch.where(some, 1 / torch.where(some, self.norm, torch.ones_like(self.norm)), 0.0)
        return self._scale * inverse, inverse

    def cosines(self, query: Vectors) -> Float[Tensor, "n_query n"]:
        """query.unit[q] . unit[t]; float32. Of float64 queries and of narrow vectors without the query's rounding."""
        if query.unit.dtype == torch.float64 or self.q.shape[1] < INTEGER_DIM:
            return query.unit @ self.unit.to(query.unit.dtype).T
        p, step = rounded(query.unit)
        found = torch.empty(len(p), len(self))
        by_scale, inverse = self._factor
        of_centre = None if self._centre is None else step * (p.double() @ self._centre.double()).float()  # [n_query]
        rows = max(1, PRODUCTS_AT_ONCE // max(1, len(p)))
        for start in range(0, len(self), rows):
            piece = slice(start, start + rows)
            out = found[:, piece]
            torch.mul(integer_products(p, self.q[piece]), step[:, None], out=out).mul_(by_scale[piece])
            if of_centre is not None:
                out.addcmul_(of_centre[:, None], inverse[piece][None], value=-1)
        return found

    def rows(self, places: Int[Tensor, " k"] | slice) -> Vectors:
        """Some of them, in this order, in float32."""
        # In units of the scale, so that the squares of a small gradient are not lost.
        scale = self._scale[places]
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        raw = self.q[places].float()
        if self._centre is not None:
            raw -= self._centre.float() / scale[:, None]
        length = torch.linalg.vector_norm(raw, dim=1)
        raw /= torch.where(length > 0, length, torch.ones_like(length))[:, None]
        return Vectors(raw, length * scale)

    @property
    def held_bytes(self) -> int:
        """Memory of the vectors as they are held."""
        return self.q.nbytes + self._scale.nbytes + self._stored_norm.nbytes


def rounded(x: Float[Tensor, "n dim"]) -> tuple[Int8[Tensor, "n dim"], Float[Tensor, " n"]]:
    """(p, step): step p is x with its numbers rounded, p in [-63, 63]; as long as x, so that no cosine is above 1."""
    p, _ = _nearest(x)
    length = torch.linalg.vector_norm(p.to(x.dtype), dim=1)
    step = torch.linalg.vector_norm(x, dim=1) / torch.where(length > 0, length, torch.ones_like(length))
    return p, step


def _nearest(x: Float[Tensor, "n dim"]) -> tuple[Int8[Tensor, "n dim"], Float[Tensor, " n"]]:
    """(p, step): x to the nearest step p with p in [-63, 63]."""
    largest = x.abs().amax(1)
    step = torch.where(largest > 0, largest, torch.ones_like(largest)) / QUERY_LARGEST
    return (x / step[:, None]).round().to(torch.int8), step


def integer_products(p: Int8[Tensor, "n_query dim"], q: Int8[Tensor, "n dim"]) -> Int32[Tensor, "n_query n"]:
    """sum_i p[k, i] q[t, i], exactly."""
    if q.shape[1] % 8 or not hasattr(torch, "_int_mm"):
        # Whole numbers are exact in float64.
        return (p.double() @ q.double().T).to(torch.int32)
    if len(p) == 1:
        # As a product with one column, which is read at the speed of memory.
        return torch._int_mm(q, p.T).T
    return torch._int_mm(p, q.T)


def _parts(x: Float[Tensor, " dim"], n: int) -> Sequence[tuple[float, Int8[Tensor, " dim"]]]:
    """x as a sum of n products step p, each with what the ones before left over."""
    found = []
    for _ in range(n):
        p, step = _nearest(x[None])
        found.append((float(step[0]), p[0]))
        x = x - step[0] * p[0].double()
    return found


__all__ = ["PackedVectors", "integer_products", "rounded"]
