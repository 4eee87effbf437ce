"""Random projections of flat gradients that are drawn as they are used, never held as a [n_params, dim] matrix.

The numbers depend on the seed, the parameters' sizes and the output size alone, so training rows and queries, in blocks
of any size and in any order, pass through the very same projection.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from whence.methods.gradients.parameters import TransformRows
from whence.methods.gradients.source import Gradients

SIGNS_AT_ONCE = 1 << 24
"""Random signs that exist at one time: 64 MiB as float32."""

RANDOM_BYTES = 7
"""Bytes taken from one draw: torch draws an int64 from [0, 2^63), so the eighth byte lacks a bit."""


class Projection(Protocol):
    """A linear map of flat gradients to `dim` numbers."""

    dim: int

    def __call__(self, gradients: Float[Tensor, "batch n_params"]) -> Float[Tensor, "batch dim"]:
        """The projected rows."""


class Rademacher:
    """out = gradients @ R / sqrt(dim), R[i, j] = +1 or -1 with equal chance: dot products are kept in expectation.

    R is drawn in tiles of consecutive rows, tile k from a generator seeded with (seed, k). Source: the Rademacher
    projection of TRAK (arXiv 2303.14186) and LESS (arXiv 2402.04333, section 3.2); the draws are our own.
    """

    def __init__(self, n_params: int, dim: int, seed: int) -> None:
        self.n_params, self.dim, self.seed = n_params, dim, seed
        self.tile = max(1, SIGNS_AT_ONCE // dim)

    def __call__(self, gradients: Float[Tensor, "batch n_params"]) -> Float[Tensor, "batch dim"]:
        """The projected rows; any number of rows, the more at once the cheaper each."""
        out = torch.zeros(len(gradients), self.dim, dtype=gradients.dtype, device=gradients.device)
        for start in range(0, self.n_params, self.tile):
            stop = min(start + self.tile, self.n_params)
            signs = self.signs(start // self.tile, stop - start)
            out += gradients[:, start:stop] @ signs.to(gradients.device, gradients.dtype)
        return out / math.sqrt(self.dim)

    def signs(self, k: int, n_rows: int) -> Float[Tensor, "n_rows dim"]:
        """The first n_rows rows of tile k, +1 and -1 as float32."""
        generator = torch.Generator().manual_seed(_mixed(self.seed, k))
        n_signs = n_rows * self.dim
        draws = torch.empty(-(-n_signs // (8 * RANDOM_BYTES)), dtype=torch.int64).random_(generator=generator)
        random_bytes = draws.view(torch.uint8).reshape(-1, 8)[:, :RANDOM_BYTES].reshape(-1)
        return signs_of_bytes()[random_bytes.int()].reshape(-1)[:n_signs].reshape(n_rows, self.dim)


@cache
def signs_of_bytes() -> Float[Tensor, "256 8"]:
    """The eight signs that each byte stands for; a look-up is many times faster than shifting bits."""
    return ((torch.arange(256)[:, None] >> torch.arange(8)) & 1).float() * 2 - 1


class PermutedGroups:
    """out[j] = sum of sign[i] * gradient[i] over the i whose place after one permutation lies in group j.

    Each of the `dim` groups holds ceil(n_params / dim) consecutive places. Permutation and signs are drawn once, here.
    Dot products are kept in expectation. Source: RapidIn (arXiv 2405.11724, section 3.2), which composes several
    factorised permutations to spare memory; ours is one full permutation (4 bytes a parameter).
    """

    def __init__(self, n_params: int, dim: int, seed: int) -> None:
        self.dim = min(dim, n_params)
        generator = torch.Generator().manual_seed(_mixed(seed, 0))
        size = -(-n_params // self.dim)
        self.group: Int[Tensor, " n_params"] = (torch.randperm(n_params, generator=generator) // size).int()
        self.sign = torch.randint(0, 2, (n_params,), generator=generator, dtype=torch.int8) * 2 - 1

    def __call__(self, gradients: Float[Tensor, "batch n_params"]) -> Float[Tensor, "batch dim"]:
        """The projected rows."""
        out = torch.zeros(len(gradients), self.dim, dtype=gradients.dtype, device=gradients.device)
        signed = gradients * self.sign.to(gradients.device)
        return out.index_add_(1, self.group.to(gradients.device), signed)


def projected(
    gradients: Gradients, projection: Projection | None, before: TransformRows | None = None
) -> Float[Tensor, "n dim"]:
    """project(before(gradient)) of every row, in the rows' order, on the CPU; None for no projection."""
    dim = gradients.layout.size if projection is None else projection.dim
    out = torch.empty(len(gradients), dim, dtype=gradients.dtype)
    for rows, block in _merged(gradients):
        block = block if before is None else before(block)
        out[rows] = (block if projection is None else projection(block)).cpu()
    return out


def _merged(gradients: Gradients) -> Iterator[tuple[list[int], Tensor]]:
    """Small blocks joined up to block_bytes, because drawing the signs costs the same for one row as for many."""
    limit = max(1, gradients.subject.block_bytes // gradients.row_bytes)
    rows: list[int] = []
    parts: list[Tensor] = []
    for block_rows, block in gradients.blocks():
        if rows and len(rows) + len(block_rows) > limit:
            yield rows, torch.cat(parts)
            rows, parts = [], []
        rows, parts = rows + block_rows, [*parts, block]
    if rows:
        yield rows, torch.cat(parts)


def _mixed(seed: int, k: int) -> int:
    """One seed of two numbers; the multiplier is the odd constant of splitmix64."""
    return (seed * 0x9E3779B97F4A7C15 + k * 0xBF58476D1CE4E5B9 + 1) % (1 << 63)
