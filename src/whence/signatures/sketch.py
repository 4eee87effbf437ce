"""A fixed-size sketch of sums of outer products, in which inner products are those of all pairs of tokens.

For A = sum_j a_j b_j^T and C = sum_i c_i d_i^T the inner product is sum_{i,j} (a_j . c_i)(b_j . d_i): every token of
one text against every token of the other. A itself has hidden x hidden entries; its sketch has `SKETCH_DIM`, and

    E <sketch(A), sketch(C)> = <A, C>,    standard deviation about |A| |C| / sqrt(SKETCH_DIM)

(TensorSketch: Pham and Pagh 2013, KDD; count sketches of both sides, convolved.)
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Int, UInt64
from torch import Tensor

SKETCH_DIM = 1024
"""Entries of a sketch, whatever the hidden size: cosines are right to about 0.03. A half or twice as many changed the
average precision by 0.002 (docs/log.md)."""

SKETCHED_AT_ONCE = 1 << 21
"""Entries of token sketches held at once: 8 MiB in float32, and some four times that in their making."""

_SEEDS = (0x9E3779B97F4A7C15, 0xD1B54A32D192ED03)


def answer_sketch(
    E: Float[Tensor, "n hidden"],
    H: Float[Tensor, "n hidden"],
    weights: Float[Tensor, " n"],
    row: Int[Tensor, " n"],
    n_rows: int,
) -> Float[Tensor, "n_rows sketch"]:
    """`Signatures.eh` (whence.signatures.types) of n_rows turns, in the weights' dtype.

    found[i] = sum_{j: row[j] = i} w[j] sketch(hat(E[j]) hat(H[j])^T) / sum_{j: row[j] = i} w[j]

    E, H: errors and states at the predicting positions of all turns; row: whose each position is.
    """
    total = weights.new_zeros(n_rows).index_add_(0, row, weights)  # sum of the weights of each turn: [n_rows]
    share = weights / total[row]  # [n]
    found = weights.new_zeros(n_rows, SKETCH_DIM)
    step = max(1, SKETCHED_AT_ONCE // SKETCH_DIM)
    for start in range(0, len(row), step):
        piece = slice(start, start + step)
        E_hat, H_hat = _directions(E[piece].to(found.dtype)), _directions(H[piece].to(found.dtype))  # [step, hidden]
        found.index_add_(0, row[piece], share[piece, None] * pair_sketch(E_hat, H_hat))  # [step, sketch]
    return found


def _directions(x: Tensor) -> Float[Tensor, "n hidden"]:
    """Unit vectors, of gradients whose squares may be too small for float32; zero stays zero."""
    largest = x.abs().amax(1, keepdim=True)
    x = x / torch.where(largest > 0, largest, torch.ones_like(largest))
    # At least 1 after the division by the largest entry, unless x is zero.
    length: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min(1.0)
    return x / length


def pair_sketch(
    a: Float[Tensor, "*n dim_a"], b: Float[Tensor, "*n dim_b"], dim: int = SKETCH_DIM
) -> Float[Tensor, "*n {dim}"]:
    """The sketch of each outer product a b^T; linear in both, the same on every machine and in every release.

    sketch[k] = sum over entries (p, q) with (bucket_a[p] + bucket_b[q]) mod dim = k of sign_a[p] sign_b[q] a[p] b[q]
    """
    # A convolution of the two count sketches, by their spectra: dim log dim in place of dim_a times dim_b.
    spectra = [torch.fft.rfft(_counted(x, *hashes(x.shape[-1], side, dim), dim)) for side, x in enumerate((a, b))]
    found: Tensor = torch.fft.irfft(spectra[0] * spectra[1], n=dim)
    return found


@cache
def hashes(size: int, side: int, dim: int = SKETCH_DIM) -> tuple[Int[Tensor, " size"], Float[Tensor, " size"]]:
    """(bucket, sign) of each of `size` coordinates; side 0 and side 1 are hashed apart.

    SplitMix64 of the coordinate's number, so that no library's random stream decides what an index means.
    """
    x = split_mix(size, _SEEDS[side])
    bucket = (x >> np.uint64(1)) % np.uint64(dim)
    sign = np.where(x & np.uint64(1), 1.0, -1.0)
    return torch.from_numpy(bucket.astype(np.int64)), torch.from_numpy(sign)


def split_mix(size: int, seed: int) -> UInt64[np.ndarray, " size"]:
    """SplitMix64 of the numbers 1, 2, ..., size times the seed: 64 random bits each, the same everywhere and always."""
    with np.errstate(over="ignore"):
        x = (np.arange(size, dtype=np.uint64) + np.uint64(1)) * np.uint64(seed)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return x


def _counted(x: Tensor, bucket: Tensor, sign: Tensor, dim: int) -> Tensor:
    """The count sketch of each vector."""
    flat = (x * sign.to(x)).reshape(-1, x.shape[-1])
    return x.new_zeros(len(flat), dim).index_add_(1, bucket.to(x.device), flat).reshape(*x.shape[:-1], dim)


__all__ = ["SKETCH_DIM", "answer_sketch", "hashes", "pair_sketch", "split_mix"]
