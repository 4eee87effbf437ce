"""An index that was tampered with is found out, and told how."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from fake_index import FakeEncoder, FakeExtractor, fake_examples, fake_manifest, write_index
from whence.index.manifest import BACKUP, RECORDS, REJECTED, require_manifest
from whence.index.store import Index
from whence.index.verification import verify

N_ROWS, DIM = 40, 8


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Index:
    out = tmp_path_factory.mktemp("verify") / "index"
    rows = fake_examples(N_ROWS, unencodable=(7,))
    return write_index(out, rows, FakeEncoder(), FakeExtractor(), fake_manifest(N_ROWS))


def without_checksums(folder: Path) -> None:
    """Makes the index one that was built before checksums were kept."""
    manifest = require_manifest(folder)
    manifest.model_copy(update={"files": "", "records_version": None}).write(folder)
    shutil.rmtree(folder / BACKUP)
    (folder / manifest.files_name).unlink()


def replaced(table: pa.Table, name: str, values: object) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(name), pa.array(values, table.schema.field(name).type))


def stretched(table: pa.Table) -> pa.Table:
    units = np.array(table["h_1"].combine_chunks().flatten().to_numpy()).reshape(-1, DIM)
    units[3] *= np.float16(1.1)
    units[4] = 0
    return replaced(table, "h_1", pa.FixedSizeListArray.from_arrays(units.reshape(-1), DIM))


def with_value(name: str, place: int, value: float) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        values = table[name].to_pylist()
        values[place] = value
        return replaced(table, name, values)

    return change


@pytest.mark.parametrize(
    ("change", "problems"),
    [
        (lambda table: table, []),
        (
            lambda table: table.filter(pc.not_equal(table["row"], 5)),
            [
                "1 rows are missing: 5",
                "74 records are there, the manifest counts 77",
                "38 rows are there, the manifest counts 39",
            ],
        ),
        (
            lambda table: pa.concat_tables([table, table.slice(76)]),
            ["1 rows out of order or with a turn twice: 39", "78 records are there, the manifest counts 77"],
        ),
        (
            with_value("row", 76, 40),
            ["1 rows outside the data: 40", "1 rows are missing: 39", "38 rows are there, the manifest counts 39"],
        ),
        (with_value("loss", 2, float("nan")), ["1 rows with a loss that is not finite: 1"]),
        (
            with_value("g_norm_1", 2, float("inf")),
            ["1 rows with a norm of g at layer 1 that is not finite: 1"],
        ),
        (stretched, ["2 rows with a direction of h at layer 1 that has not norm 1: 2, 2"]),
        (with_value("g_norm_1", 0, 0.0), ["1 rows with a direction of g at layer 1 that has not norm 1: 0"]),
        (lambda table: table.drop_columns(["g_1", "source"]), ["columns are missing: g_1, source"]),
    ],
    ids=range(9),
)
def test_each_damage_has_its_line(
    whole: Index, tmp_path: Path, change: Callable[[pa.Table], pa.Table], problems: list[str]
) -> None:
    shutil.copytree(whole.path, tmp_path / "index")
    shutil.rmtree(tmp_path / "index" / RECORDS)
    lance.write_dataset(change(whole.dataset.to_table()), str(tmp_path / "index" / RECORDS))
    without_checksums(tmp_path / "index")
    assert verify(tmp_path / "index") == problems


def test_a_file_that_is_cut_off_is_found(whole: Index, tmp_path: Path) -> None:
    shutil.copytree(whole.path, tmp_path / "index")
    data = sorted((tmp_path / "index" / RECORDS / "data").iterdir())[1]
    data.write_bytes(data.read_bytes()[:-100])
    (problem,) = verify(tmp_path / "index")
    assert problem.startswith(f"{RECORDS}/data/{data.name} has ")
    without_checksums(tmp_path / "index")
    (problem,) = verify(tmp_path / "index")
    assert problem.startswith("records cannot be read: ")
    data.unlink()
    (problem,) = verify(tmp_path / "index")
    assert problem.startswith("records cannot be read: ")


def test_a_row_may_be_absent_only_with_a_reason(whole: Index, tmp_path: Path) -> None:
    assert verify(whole) == []
    shutil.copytree(whole.path, tmp_path / "index")
    (tmp_path / "index" / REJECTED).unlink()
    assert verify(tmp_path / "index")[0] == f"{REJECTED} is missing"
    without_checksums(tmp_path / "index")
    assert verify(tmp_path / "index") == ["1 rows are missing: 7"]
