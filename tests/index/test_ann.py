"""Approximate search finds what an exact scan finds, says how much of it, and knows when its rows are others."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fake_index import FakeEncoder, fake_examples, fake_manifest, write_index
from whence.data.examples import EncodedTurn
from whence.errors import IndexFolderError
from whence.index import Ann, AnnPoint, Index, ann_build, build_ann, delete_rows, verify
from whence.index.ann_build import principal
from whence.index.ann_search import AnnSearch
from whence.index.ann_summary import ANN
from whence.index.block_reader import BlockReader
from whence.index.held import default_form, default_layers
from whence.index.linear import joined_queries, joined_rows
from whence.index.manifest import StoredVector, require_manifest
from whence.index.scanning import ScoreRequest, scan
from whence.scoring import SCORES, Vectors, form_scores
from whence.signatures.types import Extracted, Signatures

N_ROWS, DIM = 600, 1024
NAMES = ("dm", "h", "eh")


class Clustered:
    """Vectors near one of 30 centres, by the numbers in the turn's prompt."""

    def extract(self, turns: Sequence[EncodedTurn], *, labels: Callable[[int], str] | None = None) -> Extracted:
        numbers = [[int(one) for one in re.findall(r"\d+", turn.prompt)] for turn in turns]
        raw = {name: torch.stack([vector(7 * i + k, kind) for i, k in numbers]) for kind, name in enumerate(NAMES)}
        gain = torch.tensor([float((i * 13 + k) % 50) / 5 for i, k in numbers])
        ones = torch.ones(len(turns))
        return Extracted(
            {1: Signatures(**raw)},
            ones,
            ones.long(),
            ones,
            mean_state=torch.zeros(len(turns), 4),
            log_likelihood_gain=gain,
        )


def vector(number: int, kind: int) -> torch.Tensor:
    centre = np.random.default_rng(number % 30 + 1000 * kind).standard_normal(DIM)
    return torch.from_numpy(centre + 0.7 * np.random.default_rng([number, kind]).standard_normal(DIM)).float()


def queries(n: int = 5) -> dict[int, Signatures]:
    return {
        1: Signatures(
            **{name: torch.stack([vector(9000 + q, kind) for q in range(n)]) for kind, name in enumerate(NAMES)}
        )
    }


@pytest.fixture(autouse=True, scope="module")
def few_queries() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ann_build, "N_QUERIES", 16)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ann") / "index"
    vectors = tuple(StoredVector(name=name, layer=1, dim=DIM, precision="int8") for name in NAMES)
    manifest = fake_manifest(N_ROWS, vectors=vectors, base="b", precision="int8", shard_rows=200)
    write_index(folder, fake_examples(N_ROWS), FakeEncoder(), Clustered(), manifest)
    build_ann(folder, dimensions=64)
    return folder


@pytest.mark.parametrize("name", ["rept-contrast", "rept-centred"])
def test_a_linear_form_is_an_inner_product(name: str) -> None:
    form = replace(SCORES[name], expand=None)
    generator = torch.Generator().manual_seed(0)

    def block(n: int) -> dict[int, dict[str, Vectors]]:
        raw = {read.name: torch.randn(n, 6, generator=generator, dtype=torch.float64) for read in form.needs}
        return {1: {key: Vectors(x / x.norm(dim=1, keepdim=True), x.norm(dim=1)) for key, x in raw.items()}}

    roles, asked, rows = form.all_at(1), block(3), block(7)
    gain = torch.rand(7, generator=generator, dtype=torch.float64) if form.by_learned_fraction else None
    product = joined_queries(form, roles, asked) @ joined_rows(form, roles, rows, gain).T
    torch.testing.assert_close(product, form_scores(form, asked, rows, roles, gain), rtol=0, atol=1e-12)


def test_principal_directions_keep_what_varies() -> None:
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(400, 8, generator=generator) @ torch.randn(8, 40, generator=generator) + 5
    basis, kept = principal(rows, 20, seed=0)
    assert basis.shape == (40, 16)
    assert kept == pytest.approx(1, abs=1e-4)
    again, _ = principal(rows, 20, seed=0)
    assert torch.equal(basis, again)


def test_with_all_partitions_it_gives_what_a_scan_gives(made: Path) -> None:
    compare(Index.open(made))


def compare(index: Index) -> None:
    assert index.manifest.ann is not None
    form = default_form(index.manifest)
    roles = default_layers(form, index.manifest)
    asked = queries()
    exact = scan(BlockReader(index), asked, [ScoreRequest(form, roles, k=10, every_row=True)])[0]
    assert exact.matrix is not None
    from whence.index.stored_form import queries_in_form

    whole, search = queries_in_form(index.manifest, asked, index.stored_centres), AnnSearch(index, form, roles)
    assert search.rows.tolist() == exact.matrix.rows.tolist()
    for query, matches in enumerate(exact.matches):
        one = {
            layer: {name: vectors.rows(torch.tensor([query])) for name, vectors in by_name.items()}
            for layer, by_name in whole.items()
        }
        found = search.search(one, k=10, n_probes=index.manifest.ann.n_partitions, n_candidates=index.n_records)
        assert [hit[1:] for hit in found.matches] == [hit[1:] for hit in matches]
        np.testing.assert_allclose([hit.score for hit in found.matches], [hit.score for hit in matches], atol=1e-5)
        np.testing.assert_allclose(found.scores, exact.matrix.scores[query], atol=1e-5)
        some = exact.matrix.rows[3:400:7]
        np.testing.assert_allclose(search.score(found.asked, some), exact.matrix.scores[query][3:400:7], atol=1e-5)
        few = search.search(one, k=10, n_probes=3, n_candidates=100)
        assert len(few.rows) < len(found.rows)
        known = dict(zip(exact.matrix.rows.tolist(), exact.matrix.scores[query].tolist(), strict=True))
        # Candidates' scores are exact but for the rows that the query was mixed with.
        assert np.mean([abs(known[row] - score) for row, score in zip(few.rows, few.scores, strict=True)]) < 0.01


def test_the_manifest_has_the_curve_and_the_index_is_whole(made: Path) -> None:
    manifest = require_manifest(made)
    ann = manifest.ann
    assert ann is not None
    assert [point.n_probes for point in ann.curve] == sorted({point.n_probes for point in ann.curve})
    assert ann.curve[-1].recall >= 0.99
    assert ann.point_for(ann.curve[-1].recall) is not None
    assert (ann.form, ann.kind, ann.generation) == ("rept-contrast", "IVF_RQ", 0)
    assert verify(made) == []
    text = b"".join(path.read_bytes() for path in (made / ANN).rglob("*") if path.is_file())
    assert b"question 3.0" not in text


def test_the_fewest_probes_with_the_recall() -> None:
    points = [AnnPoint(n_probes=n, recall=r, milliseconds=1) for n, r in ((1, 0.5), (2, 0.96), (4, 0.955), (8, 0.99))]
    ann = Ann.model_construct(curve=tuple(points))
    found = [ann.point_for(target) for target in (0.4, 0.95, 0.97, 0.995)]
    assert [point and point.n_probes for point in found] == [1, 2, 8, None]


def test_rows_that_go_take_it_along_and_a_new_one_answers(made: Path, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(made, tmp_path / "index")
    gone = [record.id for record in Index.open(folder).fetch([0, 500, 900])]
    delete_rows(folder, gone)
    manifest = require_manifest(folder)
    assert not (folder / ANN).exists()
    assert manifest.ann is not None
    assert manifest.ann.generation != manifest.generation
    assert build_ann(folder, dimensions=64).generation == manifest.generation
    assert (folder / ANN / "columns" / "eh_1.raw").exists(), "deleted rows keep the records from being mapped"
    assert not (made / ANN / "columns").exists()
    reader = BlockReader(Index.open(folder))
    reader.prepare([(1, "eh")])
    assert reader.mapped
    compare(Index.open(folder))
    assert verify(folder) == []


def test_what_is_missing_is_named(made: Path, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(made, tmp_path / "index")
    (folder / ANN / "projection.safetensors").write_bytes(b"no")
    index = Index.open(folder)
    form = default_form(index.manifest)
    with pytest.raises(IndexFolderError, match=r"whence ann build .*--exact"):
        AnnSearch(index, form, default_layers(form, index.manifest))
    small = tmp_path / "small"
    vectors = tuple(StoredVector(name=name, layer=1, dim=DIM, precision="int8") for name in NAMES)
    manifest = fake_manifest(20, vectors=vectors, base="b", precision="int8")
    write_index(small, fake_examples(20), FakeEncoder(), Clustered(), manifest)
    with pytest.raises(IndexFolderError, match="1,000 or more"):
        build_ann(small)


def test_rows_that_went_before_the_lock_was_held_are_not_in_the_search(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "index"
    shutil.copytree(made, folder)
    gone = next(Index.open(folder).texts()).id
    held = ann_build.locked

    @contextmanager
    def after_another(out: Path) -> Iterator[None]:
        delete_rows(folder, [gone])
        with held(out):
            yield

    monkeypatch.setattr(ann_build, "locked", after_another)
    build_ann(folder, dimensions=64)
    assert Index.open(folder).n_rows == N_ROWS - 1
    assert verify(folder) == []
