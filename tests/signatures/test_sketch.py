"""Sketches of outer products: what they are, and that inner products survive them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import sketch_oracle
from whence.signatures.sketch import SKETCH_DIM, hashes, pair_sketch

FIRST_BUCKETS = [[727, 762, 679, 246], [392, 516, 201, 386]]


@given(seed=st.integers(0, 2**31), shape=st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40)))
@settings(max_examples=40, deadline=None)
def test_equals_the_sketch_of_the_whole_matrix(seed: int, shape: tuple[int, int, int]) -> None:
    n, rows, columns = shape
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(n, size, generator=generator, dtype=torch.float64) for size in (rows, columns))
    for found, one, other in zip(pair_sketch(a, b), a, b, strict=True):
        torch.testing.assert_close(found, sketch_oracle(torch.outer(one, other)), rtol=0, atol=1e-12)


def test_inner_products_are_those_of_all_pairs_within_the_stated_deviation() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = [torch.nn.functional.normalize(torch.randn(400, 6, 96, generator=generator), dim=2) for _ in range(4)]
    a, b, c, d = draws
    exact = ((a @ c.transpose(1, 2)) * (b @ d.transpose(1, 2))).sum((1, 2))
    lengths = [((x @ x.transpose(1, 2)) * (y @ y.transpose(1, 2))).sum((1, 2)).sqrt() for x, y in ((a, b), (c, d))]
    sketched = (pair_sketch(a, b).sum(1) * pair_sketch(c, d).sum(1)).sum(1)
    errors = (sketched - exact) / (lengths[0] * lengths[1])
    assert abs(errors.mean()) < 4 * SKETCH_DIM**-0.5 / 400**0.5
    assert 0.5 * SKETCH_DIM**-0.5 < errors.std() < 2 * SKETCH_DIM**-0.5


def test_the_hashes_are_what_old_indexes_were_made_with() -> None:
    """These numbers may change only together with the index's schema."""
    assert hashes(4, 0)[0].tolist() == FIRST_BUCKETS[0]
    assert hashes(4, 1)[0].tolist() == FIRST_BUCKETS[1]
    for side in (0, 1):
        bucket, sign = hashes(4096, side)
        assert bucket.min() >= 0
        assert bucket.max() < SKETCH_DIM
        assert abs(sign.mean()) < 0.08
        counts = torch.bincount(bucket, minlength=SKETCH_DIM).double()
        assert counts.var() == pytest.approx(4, rel=0.35)  # as thrown at random: Poisson with mean 4
    assert (hashes(4096, 0)[0] == hashes(4096, 1)[0]).double().mean() < 0.01
