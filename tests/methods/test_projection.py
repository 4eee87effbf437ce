"""Projections are the same for any block of rows, equal to a dense matrix, and keep dot products in expectation."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from whence.methods.gradients import projection
from whence.methods.gradients.projection import PermutedGroups, Rademacher


def dense(map_, n_params: int) -> torch.Tensor:
    """The map's matrix, by what it does to each unit vector."""
    return map_(torch.eye(n_params, dtype=torch.float64))


@pytest.mark.parametrize("kind", [Rademacher, PermutedGroups])
def test_rows_pass_through_the_same_map_in_any_block_and_any_instance(kind) -> None:
    g = torch.randn(10, 301, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = kind(301, 32, seed=5)(g)
    apart = torch.cat([kind(301, 32, seed=5)(part) for part in g.split([1, 4, 5])])
    assert torch.allclose(whole, apart, atol=1e-12)
    assert not torch.allclose(whole, kind(301, 32, seed=6)(g), atol=0.1)


def test_rademacher_in_tiles_equals_its_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "SIGNS_AT_ONCE", 32 * 50)
    map_ = Rademacher(301, 32, seed=5)
    assert map_.tile == 50
    R = torch.cat([map_.signs(k, min(50, 301 - 50 * k)) for k in range(7)]).double()
    assert set(R.flatten().tolist()) == {-1.0, 1.0}
    assert torch.allclose(dense(map_, 301), R / 32**0.5)
    tiles = [R[50 * k : 50 * k + 50] for k in range(6)]
    assert all((a == b).double().mean() < 0.6 for a, b in pairwise(tiles))


def test_permuted_groups_are_one_permutation_with_signs() -> None:
    S = dense(PermutedGroups(301, 32, seed=5), 301)
    assert ((S != 0).sum(dim=1) == 1).all()
    assert set(S[S != 0].tolist()) == {-1.0, 1.0}
    assert (S != 0).sum(dim=0).tolist() == [10] * 30 + [1, 0]
    assert not torch.equal(S.abs().argmax(dim=1), torch.arange(301) // 10)


def test_permuted_groups_with_room_for_every_parameter_are_exact() -> None:
    g = torch.randn(4, 100, dtype=torch.float64)
    out = PermutedGroups(100, 65_536, seed=1)(g)
    assert torch.allclose(out @ out.T, g @ g.T)


@pytest.mark.parametrize("kind", [Rademacher, PermutedGroups])
def test_dot_products_are_kept_in_expectation(kind) -> None:
    """The mean over 400 seeds lies within four standard errors; a map without its signs lies far outside."""
    g = torch.randn(2, 200, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    g[1] += g[0]
    found = torch.stack([(lambda p: p[0] @ p[1])(kind(200, 16, seed)(g)) for seed in range(400)])
    error = found.std() / 400**0.5
    assert abs(found.mean() - g[0] @ g[1]) < 4 * error
    assert error < 0.1 * g[0] @ g[1]
