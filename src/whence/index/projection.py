"""A fixed random projection of vectors to fewer dimensions, in which inner products stay what they were.

    y[k] = sqrt(dim / width) sum_i C[kept[k], i] sign[i] x[i],      C: the orthonormal cosine transform, dim x dim

with random signs and a random choice of `width` of the `dim` coefficients. Linear, so that a mean is projected as its
vectors are. Where all coefficients are kept it is a rotation, and exact; else

    E <Px, Py> = <x, y>,    standard deviation about |x| |y| sqrt((1 - width / dim) / width)

whatever the vectors are (a subsampled randomized transform: Ailon and Chazelle 2009, SIAM J. Comput. 39). A state's few
coordinates with huge values are spread over all of a vector, so that one scale fits them all.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from whence.signatures import split_mix

_SIGN_SEED, _CHOICE_SEED = 0xA0761D6478BD642F, 0xE7037ED1A0B428DB
"""Odd, so that no two coordinates share a number. Another seed would be another index schema."""


class _Draw(NamedTuple):
    sign: Float[Tensor, " dim"]
    kept: Int[Tensor, " width"]


def projected(x: Float[Tensor, "n dim"], width: int) -> Float[Tensor, "n {width}"]:
    """The projection of each row to `width` <= dim dimensions, in the rows' dtype (float32 or float64).

    The same on every machine and in every release, up to rounding.
    """
    dim = x.shape[1]
    draw = _drawn(dim, width)
    turned: Tensor = cosine_transform(x * draw.sign.to(x.dtype))[:, draw.kept]
    return turned * math.sqrt(dim / width)


def cosine_transform(x: Float[Tensor, "n dim"]) -> Float[Tensor, "n dim"]:
    """The orthonormal DCT-II of each row, by a Fourier transform of the same length (Makhoul 1980).

    y[k] = c[k] sum_i x[i] cos(pi k (2 i + 1) / (2 dim)),    c[0] = sqrt(1 / dim), else sqrt(2 / dim)
    """
    dim = x.shape[1]
    # Even coordinates forwards, odd ones backwards: the transform of this row holds every cosine once.
    spectrum = torch.fft.fft(torch.cat([x[:, ::2], x[:, 1::2].flip(1)], dim=1))
    angle = torch.arange(dim, dtype=torch.float64) * (-math.pi / (2 * dim))
    turned = (spectrum * torch.polar(torch.ones_like(angle), angle).to(spectrum.dtype)).real
    factor = torch.full((dim,), math.sqrt(2 / dim), dtype=torch.float64)
    factor[0] = math.sqrt(1 / dim)
    found: Tensor = turned * factor.to(x.dtype)
    return found


@cache
def _drawn(dim: int, width: int) -> _Draw:
    assert 0 < width <= dim, f"{width} of {dim} dimensions"
    signs = np.where(split_mix(dim, _SIGN_SEED) & np.uint64(1), 1.0, -1.0)
    # The first `width` of a random order, ascending.
    kept = np.sort(np.argsort(split_mix(dim, _CHOICE_SEED), kind="stable")[:width])
    return _Draw(torch.from_numpy(signs), torch.from_numpy(kept))


__all__ = ["cosine_transform", "projected"]
