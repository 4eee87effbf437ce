"""Vectors as an index stores them, held to the vectors that were extracted."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest
import torch

from fake_index import FakeEncoder, GivenExtractor, fake_examples, fake_manifest, write_index
from stored import DIM, N, drawn, stored_index
from whence.errors import IndexFolderError
from whence.index.centres import read_centres
from whence.index.contents import index_contents
from whence.index.manifest import ADAPTER_OFF, RECORDS
from whence.index.projection import cosine_transform, projected
from whence.index.records import open_records
from whence.index.searching import score_matrix, search
from whence.index.settings import BuildSettings
from whence.index.stored_form import Storage, in_form, quantised
from whence.index.verification import _check_records, verify
from whence.scoring.defaults import SCORES
from whence.scoring.forms import form_scores
from whence.scoring.vectors import Vectors, to_block, to_vectors
from whence.signatures.types import Signatures


def dense_projection(dim: int, width: int) -> torch.Tensor:
    """The projection as a matrix [width, dim], by its formula; the oracle of the fast one."""
    k, i = torch.arange(dim)[:, None].double(), torch.arange(dim)[None].double()
    matrix = math.sqrt(2 / dim) * torch.cos(math.pi * k * (2 * i + 1) / (2 * dim))
    matrix[0] /= math.sqrt(2)
    bits = [_split_mix(number, 0xA0761D6478BD642F) for number in range(1, dim + 1)]
    sign = torch.tensor([1.0 if bit & 1 else -1.0 for bit in bits], dtype=torch.float64)
    order = sorted(range(dim), key=lambda number: _split_mix(number + 1, 0xE7037ED1A0B428DB))
    return math.sqrt(dim / width) * matrix[sorted(order[:width])] * sign


def _split_mix(number: int, seed: int) -> int:
    """SplitMix64's output function in Python's own integers."""
    mask = (1 << 64) - 1
    x = number * seed & mask
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & mask
    x = (x ^ x >> 27) * 0x94D049BB133111EB & mask
    return x ^ x >> 31


@pytest.mark.parametrize(("dim", "width"), [(1, 1), (2, 1), (7, 7), (9, 4), (64, 64), (96, 31)])
def test_the_projection_is_its_matrix(dim: int, width: int) -> None:
    x = torch.randn(5, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(dim))
    matrix = dense_projection(dim, width)
    torch.testing.assert_close(projected(x, width), x @ matrix.T, rtol=0, atol=1e-10)
    torch.testing.assert_close(projected(x.float(), width).double(), x @ matrix.T, rtol=0, atol=1e-4)
    if dim == width:
        torch.testing.assert_close(matrix @ matrix.T, torch.eye(dim, dtype=torch.float64), rtol=0, atol=1e-10)


def test_a_single_huge_coordinate_is_spread_over_all() -> None:
    one = torch.zeros(1, 512)
    one[0, 5] = 1000
    assert projected(one, 512).abs().max() <= 1000 * math.sqrt(2 / 512) + 1e-3
    assert cosine_transform(one).norm() == pytest.approx(1000, rel=1e-5)


def test_inner_products_of_a_projection_err_as_its_docstring_says() -> None:
    x, y = (torch.randn(4000, 512, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    x, y = (side / side.norm(dim=1, keepdim=True) for side in (x, y))
    width = 128
    errors = (projected(x, width) * projected(y, width)).sum(1) - (x * y).sum(1)
    expected = math.sqrt((1 - width / 512) / width)
    assert errors.mean().abs() < 5 * expected / math.sqrt(len(errors))
    assert 0.8 * expected < errors.std() < 1.25 * expected


def test_int8_keeps_each_number_to_half_a_step() -> None:
    vectors = to_vectors(torch.cat([torch.randn(20, 50), torch.zeros(1, 50)]))
    q, scale, norm = quantised(vectors)
    raw = vectors.unit * vectors.norm[:, None]
    assert q.dtype == torch.int8
    assert q[:20].abs().amax(1).tolist() == [127] * 20
    assert ((scale[:, None] * q - raw).abs() <= scale[:, None] / 2 + 1e-6).all()
    torch.testing.assert_close(norm, (scale[:, None] * q).norm(dim=1))
    assert (q[20].any().item(), scale[20].item(), norm[20].item()) == (False, 0.0, 0.0)
    opposite, same, _ = quantised(Vectors(-vectors.unit, vectors.norm))
    assert (opposite == -q).all()
    assert (same == scale).all()


FORMS = {
    "float16": (Storage("float16"), 3e-3),
    # A number is off by a third of a step, some 0.025 / sqrt(dim) of the vector's length: on a cosine of centred
    # vectors, a tenth as long as the whole ones here, five standard deviations are about 0.01.
    "int8": (Storage("int8"), 1e-2),
    # sqrt((1 - 128/256) / 128) = 0.063 on one cosine; a form's parts average, five standard deviations.
    "projected": (Storage("float16", 128), 0.25),
    "both": (Storage("int8", 128), 0.25),
}


@pytest.mark.parametrize("form", FORMS)
def test_scores_are_those_of_the_full_vectors(tmp_path: Path, form: str) -> None:
    storage, bound = FORMS[form]
    signatures, gain = drawn(), 2 + torch.arange(N) / 10
    index = stored_index(tmp_path / "index", signatures, storage, gain)
    asked = {1: Signatures(**{name: raw[:4] for name, raw in signatures.named().items()})}
    centres = {(1, name): raw.double().mean(0) for name, raw in signatures.named().items()}
    queries, train = to_block(asked, centres), to_block({1: signatures}, centres)
    for method in SCORES.values():
        layers = method.all_at(1)
        exact = form_scores(method, queries, train, layers, gain).numpy()
        found = score_matrix(index, asked, method=method, roles=layers).scores
        np.testing.assert_allclose(found, exact, atol=bound, err_msg=method.name)
        assert np.abs(found).max() <= 1 + 1e-5
        assert [hits[0].row for hits in search(index, asked, method=method, roles=layers, k=1)] == [0, 1, 2, 3]
    assert verify(index) == []


@pytest.mark.parametrize("form", FORMS)
def test_centres_are_means_of_both_kinds(tmp_path: Path, form: str) -> None:
    signatures = drawn()
    index = stored_index(tmp_path / "index", signatures, FORMS[form][0], torch.ones(N))
    centres = read_centres(index.path, index.manifest)
    for vector in index.manifest.vectors:
        raw = signatures.get(vector.name).double()
        scale = raw.norm(dim=1).mean().item()
        torch.testing.assert_close(centres.extracted[vector.place], raw.mean(0), rtol=0, atol=1e-6 * scale)
        expected = projected(raw, vector.stored_dim).mean(0) if vector.rotated else raw.mean(0)
        torch.testing.assert_close(centres.stored[vector.place], expected, rtol=0, atol=1e-3 * scale)
    (block,) = index.blocks([(1, "h centred")], dtype=torch.float64)
    centred = block.vectors[1]["h centred"]
    total = (centred.unit * centred.norm[:, None]).sum(0)
    assert total.norm() < 1e-3 * centred.norm.sum()


def test_a_small_gradient_keeps_its_direction(tmp_path: Path) -> None:
    signatures = drawn()
    vector = Storage("int8").vector("g", 1, DIM)
    found = in_form(vector, signatures.get("g"))
    expected = projected(to_vectors(signatures.get("g").double()).unit, DIM)
    torch.testing.assert_close(found.unit.double(), expected, rtol=0, atol=1e-5)
    assert (found.norm > 0).all()


def test_wider_dimensions_than_there_are_store_all() -> None:
    for dimensions in (None, 256, 1024):
        vector = Storage("float16", dimensions).vector("h", 1, 256)
        assert (vector.stored_dim, vector.rotated, vector.width) == (256, False, None)
    assert Storage("int8", 1024).vector("h", 1, 256).rotated
    assert Storage("float16", 128).vector("h", 1, 256).stored_dim == 128


def test_the_default_form_takes_four_kilobytes_at_hidden_4096(tmp_path: Path) -> None:
    """dm and h of 4,096 and eh of 1,024, with all that a record has beside its text."""
    generator = torch.Generator().manual_seed(0)
    n, dims = 256, {"dm": 4096, "h": 4096, "eh": 1024}
    signatures = Signatures(**{name: torch.randn(n, dim, generator=generator) for name, dim in dims.items()})
    storage = BuildSettings(model="m", data="d", out="o").storage
    order = {f"question {row}.{turn}": row for row in range(n) for turn in range(3)}
    vectors = tuple(storage.vector(name, 1, dim) for name, dim in dims.items())
    manifest = fake_manifest(
        n, vectors=vectors, precision="int8", dimensions=1024, base=ADAPTER_OFF, shard_rows=n
    )  # fmt: skip
    index = write_index(
        tmp_path / "index", fake_examples(n), FakeEncoder(), GivenExtractor(signatures, order, torch.ones(n)), manifest
    )
    size = sum(path.stat().st_size for path in (index.path / RECORDS / "data").iterdir())
    assert 3 * 1024 < size / index.n_records < 4096


@pytest.mark.parametrize("column", ["h_scale_1", "h_1"])
def test_tampering_with_int8_is_found(tmp_path: Path, column: str) -> None:
    index = stored_index(tmp_path / "index", drawn(), Storage("int8"), torch.ones(N))
    dataset = open_records(index.path)
    assert dataset is not None
    table = dataset.to_table()
    place = table.schema.get_field_index(column)
    if column == "h_1":
        numbers = table[column].combine_chunks().flatten().to_numpy().copy().reshape(N, -1)
        numbers[3] //= 2
        values: pa.Array = pa.FixedSizeListArray.from_arrays(pa.array(numbers.reshape(-1)), numbers.shape[1])
    else:
        scales = table[column].to_numpy().copy()
        scales[3] *= 1.1
        values = pa.array(scales)
    changed = table.set_column(place, table.schema.field(column), values)
    shutil.rmtree(index.path / RECORDS)
    dataset = lance.write_dataset(changed, str(index.path / RECORDS))
    assert _check_records(index.path, index.manifest, dataset) == [
        "1 rows with a scale of h at layer 1 that does not give its norm: 3"
    ]


def test_contents_count_every_byte_of_the_records(tmp_path: Path) -> None:
    index = stored_index(tmp_path / "index", drawn(), Storage("int8", 128), torch.ones(N))
    found = index_contents(index.path)
    by_name = {column.name: column for column in found.columns}
    assert set(by_name) == set(index.dataset.schema.names)
    assert (found.n_rows, found.n_records) == (N, N)
    # Exactly the numbers, and what Lance adds to a narrow column.
    assert 128 * N <= by_name["h_1"].n_bytes <= 1.1 * 128 * N
    assert by_name["h_1"].holds == "h at layer 1: 128 of 256 numbers, int8"
    assert by_name["source"].holds == "metadata, for filters"
    in_columns = sum(column.n_bytes for column in found.columns)
    data = sum(path.stat().st_size for path in (index.path / RECORDS / "data").iterdir())
    assert 0.5 * data < in_columns <= data
    assert found.bytes_per_row == found.record_bytes / N


def test_contents_of_an_index_that_is_not_finished(tmp_path: Path) -> None:
    fake_manifest(7).write(tmp_path)
    found = index_contents(tmp_path)
    assert (found.n_records, found.columns, found.manifest.status) == (0, (), "building")
    with pytest.raises(IndexFolderError, match="no index at"):
        index_contents(tmp_path / "nowhere")
