"""Bytes that change on disk are found, every one, and what is damaged is made again."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import lance
import pyarrow as pa
import pytest

from fake_index import FakeEncoder, FakeExtractor, fake_examples, fake_manifest, write_index
from whence.errors import DataError, IndexFolderError
from whence.index.build import build_index
from whence.index.manifest import BACKUP, CENTRES, MANIFEST, RECORDS, REJECTED, RUN, require_manifest
from whence.index.publishing import back_up, read_table, small_files, version_file
from whence.index.repairing import repair
from whence.index.store import Index
from whence.index.verification import verify
from worlds import World

FLIPS = 300


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("repair") / "index"
    rows = fake_examples(40, unencodable=(7,))
    return write_index(out, rows, FakeEncoder(), FakeExtractor(), fake_manifest(40)).path


@pytest.fixture(scope="module")
def real(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of three shards by a model."""
    out = tmp_path_factory.mktemp("repair") / "index"
    return build_index(world.model, world.data, out, layers=2, max_length=64, shard_rows=8).path


def files_of(folder: Path) -> list[str]:
    manifest = require_manifest(folder)
    table = read_table(folder, manifest)
    assert table is not None
    small = small_files(manifest)
    return sorted({*(file.path for file in table.files), *small, *(f"{BACKUP}/{name}" for name in small)})


def data_files(folder: Path) -> list[str]:
    """Of the shards, in their order."""
    table = read_table(folder, require_manifest(folder))
    assert table is not None
    return [f"{RECORDS}/data/{name}" for fragment in table.fragments for name in fragment.data_files]


def records(folder: Path) -> pa.Table:
    return Index.open(folder).dataset.to_table()


def test_every_file_is_known(whole: Path) -> None:
    there = {str(path.relative_to(whole)) for path in whole.rglob("*") if path.is_file()}
    unknown = there - set(files_of(whole))
    kinds = {"_transactions" if "_transactions" in name else Path(name).name for name in unknown}
    # Newer versions of Lance write the hint.
    assert kinds - {"latest_version_hint.json"} == {".whence.lock", "_transactions"}


def test_every_flipped_byte_and_every_cut_is_found(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    shutil.copytree(whole, folder)
    names, rng = files_of(folder), random.Random(0)
    for i in range(FLIPS):
        path = folder / names[i % len(names)]
        content = path.read_bytes()
        place = rng.randrange(len(content))
        flipped = bytes([content[place] ^ (1 << rng.randrange(8))])
        path.write_bytes(content[:place] + flipped + content[place + 1 :] if i % 4 else content[:place])
        assert any(names[i % len(names)] in line for line in verify(folder)), f"{path} at {place}"
        path.write_bytes(content)
    assert verify(folder) == []


def test_a_damaged_manifest_is_refused_and_comes_back(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    shutil.copytree(whole, folder)
    place = folder / MANIFEST
    place.write_text(place.read_text().replace('"n_records": ', '"n_records": 1'))
    with pytest.raises(IndexFolderError, match=r"is damaged(.|\n)*whence verify .* --repair"):
        Index.open(folder)
    assert repair(folder) == [f"{MANIFEST} was restored"]
    assert place.read_bytes() == (whole / MANIFEST).read_bytes()
    place.unlink()
    assert verify(folder) == [f"{MANIFEST} is missing"]
    repair(folder)
    assert verify(folder) == []
    for broken in (place, folder / BACKUP / MANIFEST):
        broken.write_text("{")
    with pytest.raises(IndexFolderError, match="cannot be read"):
        verify(folder)


@pytest.mark.parametrize("name", [CENTRES, RUN, REJECTED, "files-0.jsonl"])
def test_small_files_come_back_from_their_copies(whole: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "index"
    shutil.copytree(whole, folder)
    (folder / name).unlink()
    (folder / BACKUP / MANIFEST).write_text("")
    assert f"{name} was restored" in repair(folder)
    assert (folder / name).read_bytes() == (whole / name).read_bytes()
    assert verify(folder) == []


def test_without_copies_what_can_be_made_is_made(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    shutil.copytree(whole, folder)
    for name in (CENTRES, RUN):
        (folder / name).write_bytes(b"")
    shutil.rmtree(folder / BACKUP)
    repair(folder)
    assert verify(folder) == []
    centres, expected = Index.open(folder).centres, Index.open(whole).centres
    assert all((centres[place] - expected[place]).abs().max() < 1e-12 for place in expected)
    (folder / REJECTED).unlink()
    shutil.rmtree(folder / BACKUP)
    with pytest.raises(IndexFolderError, match="so is its copy"):
        repair(folder)


def test_lances_list_of_versions_is_written_again(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    shutil.copytree(whole, folder)
    (folder / RECORDS / "_versions" / version_file(folder, 1)).write_bytes(b"nothing")
    assert repair(folder) == ["the list of the records was written again"]
    assert verify(folder) == []
    assert records(folder).equals(records(whole))


def test_damaged_rows_are_computed_again_and_no_others(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "index"
    shutil.copytree(real, folder)
    first, second, third = data_files(folder)
    content = bytearray((folder / second).read_bytes())
    content[100] ^= 1
    (folder / second).write_bytes(content)
    assert verify(folder) == [f"{second} was changed since it was written: rows 8 to 15 (train.jsonl)"]
    kept = (folder / first).stat().st_mtime_ns
    assert repair(folder) == ["rows 8 to 15 were computed again"]
    assert verify(folder, sample=4) == []
    assert records(folder).equals(records(real))
    assert (folder / first).stat().st_mtime_ns == kept
    assert not (folder / second).exists()
    (folder / first).unlink()
    (folder / third).write_bytes(b"")
    assert len(repair(folder)) == 2
    assert records(folder).equals(records(real))


def test_rows_are_computed_of_the_same_data_or_not_at_all(real: Path, world: World, tmp_path: Path) -> None:
    folder, data = tmp_path / "index", tmp_path / "train.jsonl"
    data.write_bytes(world.data.read_bytes())
    build_index(world.model, data, folder, layers=2, max_length=64, shard_rows=8)
    (folder / data_files(folder)[0]).unlink()
    whole = data.read_text()
    data.write_text(whole.replace("place 20", "place 200"))
    with pytest.raises(DataError, match="not those that the index was built from"):
        repair(folder)
    data.write_text(whole)
    repair(folder)
    assert records(folder).drop_columns(["file"]).equals(records(real).drop_columns(["file"]))


def test_values_that_the_model_does_not_give_are_found(real: Path, tmp_path: Path) -> None:
    assert verify(real, sample=24) == []
    folder = tmp_path / "index"
    shutil.copytree(real, folder)
    table = records(folder)
    place = table.schema.get_field_index("loss")
    wrong = pa.array([loss + (i == 5) for i, loss in enumerate(table["loss"].to_pylist())], pa.float32())
    shutil.rmtree(folder / RECORDS)
    lance.write_dataset(table.set_column(place, table.schema.field(place), wrong), str(folder / RECORDS))
    manifest = require_manifest(folder)
    manifest.model_copy(update={"files": "", "records_version": None}).write(folder)
    assert verify(folder, sample=24) == ["row 5 is stored with other values than the model gives: loss"]


def test_an_index_without_checksums_gets_them(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    shutil.copytree(whole, folder)
    manifest = require_manifest(folder)
    manifest.model_copy(update={"files": "", "records_version": None, "history": ()}).write(folder)
    (folder / "files-0.jsonl").unlink()
    shutil.rmtree(folder / BACKUP)
    assert verify(folder) == []
    assert repair(folder) == ["checksums of all files were added"]
    assert verify(folder) == []
    table = read_table(folder, require_manifest(folder))
    assert table is not None
    assert [one.shards[0].first_row for one in table.fragments] == [0, 16, 32]


def test_the_command_says_what_is_wrong_and_mends_it(whence, real: Path, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    shutil.copytree(real, folder)
    assert whence("verify", folder)[:2] == (0, f"{folder}: nothing wrong was found\n")
    (folder / data_files(folder)[2]).unlink()
    status, out, said = whence("verify", folder)
    assert status == 2
    assert "is missing: rows 16 to 23" in out
    assert f"whence verify {folder} --repair" in said
    status, out, _ = whence("verify", folder, "--repair")
    assert status == 0, out
    assert "rows 16 to 23 were computed again" in out
    manifest = require_manifest(folder)
    moved = manifest.model_copy(update={"settings": manifest.settings | {"model": str(tmp_path / "gone")}})
    moved.write(folder)
    back_up(folder, moved)
    status, out, said = whence("verify", folder)
    assert "No row was computed again" in said
    assert whence("verify", folder, "--model", tmp_path / "nowhere")[0] == 2
