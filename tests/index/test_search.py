"""Blocked search against a full sort."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_index import FakeEncoder, FakeExtractor, GivenExtractor, fake_examples, fake_manifest, write_index
from oracles import search_oracle
from whence.data.examples import ASSISTANT, Example, Turn
from whence.errors import InputError, MismatchError, NonFiniteError
from whence.index import scanning as scan_module
from whence.index.held import default_layers
from whence.index.manifest import ADAPTER_OFF
from whence.index.searching import score_matrix, search
from whence.index.store import Index
from whence.scoring.defaults import SCORES, score_form
from whence.scoring.forms import Read, form_scores
from whence.scoring.vectors import to_block
from whence.signatures.types import Signatures

EXACT = torch.tensor([[1.0, 0, 0, 0], [0, -1, 0, 0], [0.5, 0.5, 0.5, 0.5], [0.5, -0.5, 0.5, -0.5], [0, 0, 0, 0]])
"""Directions that float16 holds exactly and whose cosines are multiples of a quarter: ties are ties in any block."""

STORED_TOLERANCE = 2e-3
"""On a cosine: both halves of the stored vectors are rounded to float16 (2^-11)."""


def given_index(
    out: Path, turns_of: list[int], signatures: Signatures, shard_rows: int, gain: torch.Tensor | None = None
) -> Index:
    """An index whose record i has the i-th raw vectors; row r has turns_of[r] turns."""
    names = [f"question {row}.{turn}" for row, n in enumerate(turns_of) for turn in range(n)]

    def rows() -> Iterator[Example]:
        for row, n in enumerate(turns_of):
            pairs = [
                (Turn("user", f"question {row}.{turn}"), Turn(ASSISTANT, "yes " * (1 + row % 4))) for turn in range(n)
            ]
            yield Example(
                tuple(turn for pair in pairs for turn in pair), "train.jsonl", row + 1, {"source": "ab"[row % 2]}
            )

    extractor = GivenExtractor(signatures, {name: i for i, name in enumerate(names)}, gain)
    dim, vectors = signatures.h.shape[1], signatures.named()
    base = "" if gain is None else ADAPTER_OFF
    manifest = fake_manifest(len(turns_of), dim=dim, names=list(vectors), rows=rows(), shard_rows=shard_rows, base=base)
    return write_index(out, rows, FakeEncoder(), extractor, manifest)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_blocked_search_equals_a_full_sort(data: st.DataObject) -> None:
    turns_of = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=25), "turns of each row")
    n_records, n_queries = sum(turns_of), data.draw(st.integers(1, 4), "queries")
    picks = st.lists(st.integers(0, len(EXACT) - 1), min_size=n_records, max_size=n_records)
    h, g = EXACT[data.draw(picks, "h")] * 4, EXACT[data.draw(picks, "g")] / 8
    queries = {1: Signatures(h=EXACT[torch.arange(n_queries)], g=EXACT[torch.arange(n_queries) + 1])}
    method = SCORES[data.draw(st.sampled_from(["repsim", "g-cosine", "rept-balanced"]))]
    k = data.draw(st.integers(1, 30), "k")
    shard_rows, block_rows = data.draw(st.integers(1, 10), "shard"), data.draw(st.integers(1, 40), "block")
    where = data.draw(st.sampled_from([None, "source = 'b'", "turn > 0"]))

    keys = [(row, turn) for row, n in enumerate(turns_of) for turn in range(n)]
    passes = [where is None or (turn > 0 if "turn" in where else row % 2 == 1) for row, turn in keys]
    roles = method.all_at(1)
    scores = method.function(to_block(queries), to_block({1: Signatures(h=h, g=g)}), roles)
    with tempfile.TemporaryDirectory() as folder:
        index = given_index(Path(folder) / "index", turns_of, Signatures(h=h, g=g), shard_rows)
        found = search(index, queries, method=method, k=k, where=where, block_rows=block_rows)
        matrix = score_matrix(index, queries, method=method, where=where, block_rows=block_rows)
        fetched = [
            [(record.row, record.turn) for record in index.fetch([hit.record for hit in hits])] for hits in found
        ]

    kept = [i for i, passed in enumerate(passes) if passed]
    assert matrix.rows.tolist() == sorted({keys[i][0] for i in kept})
    for query in range(n_queries):
        expected = search_oracle(scores[query, kept].tolist(), [keys[i] for i in kept], k)
        assert [(hit.score, hit.row, hit.turn) for hit in found[query]] == expected
        assert fetched[query] == [(row, turn) for _, row, turn in expected]
        whole = search_oracle(scores[query, kept].tolist(), [keys[i] for i in kept], len(keys))
        assert matrix.scores[query].tolist() == [score for score, _, _ in sorted(whole, key=lambda hit: hit[1])]


@pytest.mark.parametrize("method", sorted(SCORES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stored_vectors_give_the_scores_of_the_raw_ones(tmp_path: Path, method: str, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    scales = {"h": 30, "g": 1e-3, "m": 30, "eh": 0.3, "dm": 1}
    drawn = {name: scale * torch.randn(50, 64, generator=generator) for name, scale in scales.items()}
    gain = 2 + torch.arange(50) / 10
    gain[0] = -0.5
    index = given_index(tmp_path / "index", [1] * 50, Signatures(**drawn), 20, gain)
    raw = {1: Signatures(**{name: vectors[:3].to(dtype) for name, vectors in drawn.items()})}
    centres = {(1, name): vectors.double().mean(0) for name, vectors in drawn.items()}
    train = to_block({1: Signatures(**{name: vectors.to(dtype) for name, vectors in drawn.items()})}, centres)
    exact = form_scores(SCORES[method], to_block(raw, centres), train, SCORES[method].all_at(1), gain)
    matrix = score_matrix(index, raw, method=SCORES[method])
    assert matrix.scores.dtype == (np.float64 if dtype == torch.float64 else np.float32)
    np.testing.assert_allclose(matrix.scores, exact.numpy(), atol=STORED_TOLERANCE)
    assert np.abs(matrix.scores).max() <= 1 + 1e-6
    # A row asked with its own signature finds itself, if its log-likelihood gain is above 0.
    first, *others = [hits[0].row for hits in search(index, raw, method=SCORES[method], k=1)]
    assert others == [1, 2]
    assert (first == 0) is not SCORES[method].by_learned_fraction


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    out = tmp_path_factory.mktemp("search") / "index"
    extractor = FakeExtractor(layers=(1, 4))
    return write_index(out, fake_examples(40), FakeEncoder(), extractor, fake_manifest(40, layers=(1, 4)))


def queries(n: int, layers: tuple[int, ...] = (1, 4), dim: int = 8) -> dict[int, Signatures]:
    generator = torch.Generator().manual_seed(0)
    return {
        layer: Signatures(**dict(zip("hg", torch.randn(2, n, dim, generator=generator), strict=True)))
        for layer in layers
    }


def test_many_queries_are_scored_in_parts(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = search(index, queries(11), method=SCORES["rept"], k=5)
    monkeypatch.setattr(scan_module, "QUERIES_AT_ONCE", 4)
    parts = search(index, queries(11), method=SCORES["rept"], k=5)
    assert [[hit.row for hit in hits] for hits in parts] == [[hit.row for hit in hits] for hits in whole]


def test_more_hits_than_rows_gives_all_rows(index: Index) -> None:
    (hits,) = search(index, queries(1), method=SCORES["repsim"], k=1000)
    assert sorted(hit.row for hit in hits) == list(range(40))
    assert search(index, queries(1), method=SCORES["repsim"], k=3, where="source = 'nobody'") == [[]]


def test_only_what_the_method_needs_is_read(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[list[str]] = []
    original = type(index.dataset).scanner

    def spy(self: object, columns: list[str] | None = None, **rest: object) -> object:
        read.append(columns)
        return original(self, columns=columns, **rest)

    monkeypatch.setattr(type(index.dataset), "scanner", spy)
    search(index, queries(1), method=SCORES["repsim"], k=3)
    assert read == [["row", "turn", "h_1", "h_norm_1"]]


def test_each_vector_is_read_at_its_own_depth(index: Index) -> None:
    plain = SCORES["rept-balanced"]
    deep = replace(plain, name="deep", needs=(Read("h", "rule"), Read("g", "last")))
    assert default_layers(deep, index.manifest) == (1, 4)
    assert default_layers(plain, index.manifest) == (1, 1)
    assert deep.described((1, 4)) == "h:1,g:4"
    assert deep.described((4, 4)) == "4"
    by_default = search(index, queries(2), method=deep, k=5)
    assert by_default == search(index, queries(2), method=plain, k=5, roles=(1, 4))
    assert by_default != search(index, queries(2), method=plain, k=5)


def test_weight_reaches_the_search(index: Index) -> None:
    all_h = search(index, queries(2), method=score_form("rept-balanced", weight=1.0), k=5)
    assert all_h == search(index, queries(2), method=SCORES["repsim"], k=5)


def test_questions_that_cannot_be_answered_are_refused(index: Index) -> None:
    form = SCORES["rept"]
    with pytest.raises(InputError, match="k = 0"):
        search(index, queries(1), method=form, k=0)
    with pytest.raises(InputError, match="Columns: row, turn"):
        search(index, queries(1), method=form, k=1, where="nothing here")
    with pytest.raises(MismatchError, match=r"h at layer 2; the index has it at 1, 4(.|\n)*--add rept --layer 2"):
        search(index, queries(1, layers=(2,)), method=form, k=1, roles=form.all_at(2))
    with pytest.raises(MismatchError, match=r"m at layer 3; the index does not hold it(.|\n)*--add rept-centred;"):
        search(index, queries(1), method=SCORES["rept-centred"], k=1)
    with pytest.raises(MismatchError, match="h at layer 1, which the queries' signatures do not have"):
        search(index, queries(1, layers=(4,)), method=form, k=1)
    with pytest.raises(MismatchError, match="h at layer 1 has 9 dimensions"):
        search(index, queries(1, dim=9), method=form, k=1)
    broken = queries(3)
    broken[1].g[2, 0] = torch.inf
    with pytest.raises(NonFiniteError, match=r"queries \[2\]"):
        search(index, broken, method=form, k=1)
