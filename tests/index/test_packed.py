"""Integer arithmetic on int8 rows, and vectors mapped where they lie, each held to the plain way."""

from __future__ import annotations

from pathlib import Path

import lance
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stored import N, drawn, stored_index
from whence.index import block_reader, mapped
from whence.index.block_reader import BlockReader
from whence.index.manifest import RECORDS
from whence.index.packed import PackedVectors, integer_products, rounded
from whence.index.scanning import ScoreRequest, scan
from whence.index.searching import search
from whence.index.store import Index
from whence.index.stored_form import Storage, quantised
from whence.scoring.defaults import SCORES
from whence.scoring.vectors import Vectors, to_vectors
from whence.signatures.types import Signatures

QUERY_ROUNDING = 5e-3
"""A query's numbers are off by a third of a step, some 0.05 / sqrt(dim) of its length: five standard deviations on a
cosine at 256 dimensions, 5 * 0.016 / 16."""


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 70), st.sampled_from([1, 7, 8, 64, 1024]), st.integers(0, 2**31))
def test_integer_products_are_exact(n_query: int, n: int, dim: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    p = torch.randint(-63, 64, (n_query, dim), dtype=torch.int8, generator=generator)
    q = torch.randint(-127, 128, (n, dim), dtype=torch.int8, generator=generator)
    q[0], p[0] = 127, 63  # the largest sum there can be
    assert torch.equal(integer_products(p, q).long(), p.long() @ q.long().T)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("n_query", [1, 3, 64])
def test_cosines_are_those_of_the_vectors_that_are_stored(centred: bool, n_query: int) -> None:
    raw = drawn(200).get("h")
    q, scale, norm = quantised(to_vectors(raw))
    centre = (scale.double()[:, None] * q).mean(0) if centred else None
    packed = PackedVectors(q, scale, norm, centre)
    plain = scale.double()[:, None] * q - (0 if centre is None else centre)
    expected = to_vectors(plain)
    torch.testing.assert_close(packed.norm.double(), expected.norm, rtol=1e-4, atol=0)
    torch.testing.assert_close(packed.unit.double(), expected.unit, rtol=0, atol=1e-5)
    asked = to_vectors(torch.cat([plain[:1], torch.randn(n_query - 1, 256, dtype=torch.float64)]).float())
    exact = asked.unit.double() @ expected.unit.T
    torch.testing.assert_close(packed.cosines(asked).double(), exact, rtol=0, atol=QUERY_ROUNDING)
    # The rounding is of the query alone.
    p, step = rounded(asked.unit)
    same = (step[:, None] * p).double() @ expected.unit.T
    torch.testing.assert_close(packed.cosines(asked).double(), same, rtol=0, atol=1e-4)
    wide = Vectors(asked.unit.double(), asked.norm.double())
    torch.testing.assert_close(packed.cosines(wide), exact, rtol=0, atol=1e-5)


def test_a_vector_of_zeros_has_cosine_zero() -> None:
    packed = PackedVectors(torch.zeros(2, 8, dtype=torch.int8), torch.zeros(2), torch.zeros(2))
    asked = to_vectors(torch.cat([torch.ones(1, 8), torch.zeros(1, 8)]))
    assert packed.cosines(asked).tolist() == [[0, 0], [0, 0]]
    assert packed.unit.tolist() == [[0] * 8] * 2


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    out = tmp_path_factory.mktemp("packed") / "index"
    return stored_index(out, drawn(), Storage("int8"), 2 + torch.arange(N) / 10)


READS = [(1, "dm centred"), (1, "h"), (1, "h centred"), (1, "eh")]


def test_mapped_blocks_are_those_that_lance_reads(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(index.dataset.get_fragments()) > 1
    monkeypatch.setattr(block_reader, "MAPPED_ROWS", 10)
    reader = BlockReader(index)
    blocks = list(reader.blocks(READS, dtype=torch.float32, gain=True))
    assert reader.mapped
    assert max(map(len, blocks)) == 10
    (plain,) = index.blocks(READS, gain=True)
    for side in ("row", "turn", "record"):
        assert np.array_equal(np.concatenate([getattr(block, side) for block in blocks]), getattr(plain, side))
    assert torch.equal(torch.cat([block.gain for block in blocks]), plain.gain)
    for layer, name in READS:
        for side in ("unit", "norm"):
            found = torch.cat([getattr(block.vectors[layer][name], side) for block in blocks])
            assert torch.equal(found, getattr(plain.vectors[layer][name], side))
    records = [45, 3, 59, 3, 17]
    some, expected = (one.vectors(records, READS, dtype=torch.float32) for one in (reader, index))
    for layer, name in READS:
        assert torch.equal(some[layer][name].unit, expected[layer][name].unit)


def queries(n: int = 3, dtype: torch.dtype = torch.float32) -> dict[int, Signatures]:
    return {1: Signatures(**{name: raw[5 : 5 + n].to(dtype) for name, raw in drawn().named().items()})}


@pytest.mark.parametrize("method", sorted(SCORES))
def test_a_mapped_search_finds_what_a_plain_one_finds(index: Index, method: str) -> None:
    form = SCORES[method]
    layers = form.all_at(1)
    found = search(index, queries(), method=form, roles=layers, k=N)
    exact = search(index, queries(dtype=torch.float64), method=form, roles=layers, k=N)
    for ours, theirs in zip(found, exact, strict=True):
        assert ours[0].row == theirs[0].row
        scores, plain = ({match.row: match.score for match in matches} for matches in (ours, theirs))
        assert max(abs(scores[row] - plain[row]) for row in plain) < 2 * QUERY_ROUNDING


def test_a_filter_reads_through_lance_and_scores_alike(index: Index) -> None:
    form = SCORES["rept-contrast"]
    request = [ScoreRequest(form, form.all_at(1), k=5)]
    whole, part = BlockReader(index), BlockReader(index, "turn = 0")
    first, second = (scan(one, queries(), request)[0].matches for one in (whole, part))
    assert (whole.mapped, part.mapped) == (True, False)
    assert [[m.row for m in one] for one in first] == [[m.row for m in one] for one in second]
    np.testing.assert_allclose([m.score for m in first[0]], [m.score for m in second[0]], atol=1e-6)


def test_what_cannot_be_mapped_is_read_through_lance(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = stored_index(tmp_path / "narrow", drawn(), Storage("int8", 24), torch.ones(N))
    # Newer versions of Lance pack narrow vectors in a way of their own; of older ones they can be mapped.
    (plain,) = narrow.blocks([(1, "h")])
    found = torch.cat(
        [block.vectors[1]["h"].unit for block in BlockReader(narrow).blocks([(1, "h")], dtype=torch.float32)]
    )
    assert torch.equal(found, plain.vectors[1]["h"].unit)
    half = BlockReader(stored_index(tmp_path / "half", drawn(), Storage("float16"), torch.ones(N)))
    assert sum(len(block) for block in half.blocks([(1, "h")], dtype=torch.float32)) == N
    monkeypatch.setattr(mapped, "_as_lance_reads", lambda *_: False)
    other = BlockReader(index)
    assert sum(len(block) for block in other.blocks([(1, "h")], dtype=torch.float32)) == N
    assert [half.mapped, other.mapped] == [False] * 2


def test_deleted_records_are_not_mapped(tmp_path: Path) -> None:
    index = stored_index(tmp_path / "index", drawn(), Storage("int8"), torch.ones(N))
    index.dataset.delete("row = 7")
    vectors = [vector for vector in index.manifest.vectors if vector.name == "h"]
    records = tmp_path / "index" / RECORDS
    assert mapped.mapped_runs(records, lance.dataset(str(records)), vectors, 1000) is None


def test_pages_that_differ_from_what_lance_reads_are_not_mapped(index: Index) -> None:
    vectors = [vector for vector in index.manifest.vectors if vector.name in ("h", "eh")]
    runs = mapped.mapped_runs(index.path / RECORDS, index.dataset, vectors, 1000)
    assert runs is not None
    runs[0].numbers["h_1"][0, 3] += 1  # a private copy of the page: the file stays as it is
    assert not mapped._as_lance_reads(index.dataset, runs, [0], vectors)
    assert mapped.mapped_runs(index.path / RECORDS, index.dataset, vectors, 1000) is not None
