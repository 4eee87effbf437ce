"""An index in an object store is the index of the same rows in a folder, and is asked, checked and changed as it is."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch

from stores import KEYS, refusing_server, s3_server
from whence.errors import IndexFolderError, InputError
from whence.files import write_atomically
from whence.index import (
    BlockReader,
    Index,
    ann_build,
    append_rows,
    build_ann,
    build_index,
    compact_index,
    delete_rows,
    repair,
    verify,
)
from whence.index.remote_cache import cache_bound, cache_folder, cache_root, make_room
from whence.object_path import ObjectPath, place
from whence.trace import Tracer
from whence.trace.rank import approximate
from worlds import World, rows, write_jsonl

INDEX = "s3://indexes/of/train"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[fsspec.AbstractFileSystem]:
    """A bucket, and a cache of its own."""
    monkeypatch.setenv("WHENCE_CACHE", str(tmp_path / "cache"))
    with s3_server(monkeypatch, "indexes") as store:
        yield store


def built(world: World) -> Index:
    return build_index(world.model, world.data, INDEX, max_length=64, shard_rows=12)


def hits(index: Index | str | Path) -> list[tuple[int, str, str, float]]:
    found = Tracer(index).trace("Where is place 3?", "It is in Canada.", k=6)
    return [(hit.rank, hit.id, hit.response, round(hit.score, 6)) for hit in found.hits]


def test_the_index_is_that_of_a_folder(s3: fsspec.AbstractFileSystem, world: World, tmp_path: Path) -> None:
    here = build_index(world.model, world.data, tmp_path / "here", max_length=64, shard_rows=12)
    there = built(world)
    assert str(there.path) == INDEX
    columns = [name for name in here.dataset.schema.names if name != "shard"]
    assert there.dataset.to_table(columns=columns).equals(here.dataset.to_table(columns=columns))
    assert verify(INDEX) == []
    assert hits(INDEX) == hits(here)
    assert list(Path.cwd().glob("s3:*")) == [], "nothing is taken for a folder of this machine"


def test_credentials_are_in_no_object_and_the_cache_alone_is_written(
    s3: fsspec.AbstractFileSystem, world: World, tmp_path: Path
) -> None:
    index = built(world)
    before = s3.find("indexes")
    written = b"".join(s3.cat_file(path) for path in before)
    for value in KEYS.values():
        assert value.encode() not in written
    first, kept = hits(index), cache_folder(index.manifest) / "columns"
    assert s3.find("indexes") == before
    vector = index.manifest.vectors[0]
    assert {f"{vector.column}.raw", "row.raw"} <= {path.name for path in kept.iterdir()}
    assert all(path.suffix == ".raw" for path in kept.iterdir())
    assert hits(INDEX) == first
    assert not (tmp_path / "of").exists()


def test_a_cache_that_is_damaged_or_too_small(
    s3: fsspec.AbstractFileSystem, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = built(world)
    first = hits(index)
    vectors = cache_folder(index.manifest) / "columns" / f"{index.manifest.vectors[0].column}.raw"
    vectors.write_bytes(vectors.read_bytes()[:-1])
    assert hits(INDEX) == first, "a file that is cut is read again"
    shutil.rmtree(cache_root())
    monkeypatch.setenv("WHENCE_CACHE_GB", "0.000001")
    with pytest.warns(UserWarning, match=r"more than the cache takes .*WHENCE_CACHE_GB"):
        assert hits(INDEX) == first
    assert not list(cache_root().rglob("*.raw"))
    monkeypatch.setenv("WHENCE_CACHE_GB", "much")
    shutil.rmtree(cache_root(), ignore_errors=True)
    with pytest.raises(InputError, match="WHENCE_CACHE_GB"):
        hits(INDEX)


@pytest.mark.parametrize("wrong", ["much", "inf", "nan"])
def test_a_bound_of_the_cache_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("WHENCE_CACHE_GB", wrong)
    with pytest.raises(InputError, match=f"WHENCE_CACHE_GB is '{wrong}'"):
        cache_bound()


def test_what_was_asked_for_longest_ago_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHENCE_CACHE", str(tmp_path))
    monkeypatch.setenv("WHENCE_CACHE_GB", "0.0000025")
    for number, name in enumerate(("old", "older", "mine")):
        (tmp_path / "indexes" / name).mkdir(parents=True)
        (tmp_path / "indexes" / name / "a.raw").write_bytes(b"0" * 1000)
        os.utime(tmp_path / "indexes" / name, (1000 - number, 1000 - number))
    make_room(tmp_path / "indexes" / "mine", 500)
    assert sorted(path.name for path in (tmp_path / "indexes").iterdir()) == ["mine", "old"]


def test_rows_come_and_go(s3: fsspec.AbstractFileSystem, world: World, tmp_path: Path) -> None:
    new = write_jsonl(tmp_path / "new.jsonl", [row | {"prompt": f"New: {row['prompt']}"} for row in rows(5)])
    gone = [record.id for record in built(world).fetch([0, 7])]
    joined = append_rows(INDEX, new)
    hits(joined)
    kept = cache_folder(joined.manifest)
    (kept / "references").mkdir()
    (kept / "references" / "answered-1.safetensors").write_text("Where is place 7?")
    delete_rows(INDEX, gone)
    assert not kept.exists(), "what this machine kept may hold deleted text"
    changed = compact_index(INDEX)
    assert verify(INDEX) == []
    assert changed.n_rows == 24 + 5 - 2
    assert b"Where is place 7?" not in b"".join(s3.cat_file(path) for path in s3.find("indexes"))
    left = [row for number, row in enumerate(rows()) if number not in (0, 7)]
    both = write_jsonl(tmp_path / "both.jsonl", [*left, *map(json.loads, new.read_text().splitlines())])
    fresh = build_index(world.model, both, tmp_path / "fresh", max_length=64)
    assert [one[1] for one in hits(changed)] == [one[1] for one in hits(fresh)]


def test_damage_is_named_and_repaired(s3: fsspec.AbstractFileSystem, world: World) -> None:
    built(world)
    (path,) = [one for one in s3.find("indexes") if one.endswith(".lance")][:1]
    content = bytearray(s3.cat_file(path))
    content[len(content) // 2] ^= 1
    s3.pipe_file(path, bytes(content))
    s3.rm_file("indexes/of/train/centres.safetensors")
    found = verify(INDEX)
    assert any("was changed since it was written" in line for line in found)
    assert any("centres.safetensors is missing" in line for line in found)
    repair(INDEX)
    assert verify(INDEX) == []


def test_a_build_that_was_cut_goes_on(s3: fsspec.AbstractFileSystem, world: World) -> None:
    from whence.index import Job, build_part, finish_index

    build_part(world.model, world.data, INDEX, Job(1, 2), max_length=64, shard_rows=12)
    with pytest.raises(IndexFolderError, match="is not finished"):
        Index.open(INDEX)
    build_part(world.model, world.data, INDEX, Job(2, 2), max_length=64, shard_rows=12)
    assert finish_index(place(INDEX), max_rejected=0.05).n_rows == 24
    again = build_index(world.model, world.data, INDEX, max_length=64, shard_rows=12, overwrite=True)
    assert verify(again) == []


def test_an_approximate_search_there(
    s3: fsspec.AbstractFileSystem, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ann_build, "LEAST_RECORDS", 10)
    monkeypatch.setattr(ann_build, "N_QUERIES", 4)
    monkeypatch.setattr(approximate, "LEAST_RECORDS", 10)
    built(world)
    assert build_ann(INDEX).curve[-1].recall == 1
    found = Tracer(INDEX).trace("Where is place 3?", "It is in Canada.", k=3, verdict=False, recall=0.9)
    assert found.queries[0].approximate is not None
    assert [hit.id for hit in found.hits] == [one[1] for one in hits(INDEX)[:3]]


def test_commands(s3: fsspec.AbstractFileSystem, world: World, whence) -> None:
    built(world)
    status, out, _ = whence("info", INDEX)
    assert status == 0
    assert f"{INDEX}: 24 rows" in out
    status, out, err = whence("trace", INDEX, "-p", "Where is place 3?", "-r", "Canada.", "-k", "2", "--no-verdict")
    assert status == 0, err
    assert "WHENCE_CACHE_GB" in err, "where its vectors are kept, and how many at most"
    assert whence("verify", INDEX, "--sample", "1")[0] == 0
    status, _, err = whence("serve", INDEX)
    assert (status, "on this machine" in err) == (2, True)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("s3://nowhere/index", "There is no bucket s3://nowhere"),
        ("s3://indexes/none", "There is no index at s3://indexes/none"),
        ("s3://indexes", "names a bucket, not a folder"),
        ("https://example.org/index", "An index cannot lie at"),
        ("s3://me:topsecret@indexes/a", "holds credentials"),
    ],
)
def test_addresses_that_cannot_be(s3: fsspec.AbstractFileSystem, whence, address: str, said: str) -> None:
    status, out, err = whence("info", address)
    assert (status, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 3
    assert "topsecret" not in err


def test_no_permission(monkeypatch: pytest.MonkeyPatch, world: World, whence) -> None:
    with refusing_server(monkeypatch):
        for words in (("info", INDEX), ("index", world.model, world.data, "-o", INDEX, "-q")):
            status, _, err = whence(*words)
            assert status == 2
            assert f"Error: {INDEX}" in err
            assert "PermissionError" in err
            assert "credentials in the environment" in err
            assert not any(value in err for value in KEYS.values())


def test_what_a_path_here_can_do_is_refused_or_done_there(s3: fsspec.AbstractFileSystem) -> None:
    path = place("s3://indexes/a/b")
    assert isinstance(path / "c", ObjectPath)
    assert str((path / "c").parent) == "s3://indexes/a/b"
    with pytest.raises(TypeError, match="not on this machine"):
        os.stat(path)
    with pytest.raises(TypeError, match="not on this machine"):
        path.touch()
    with pytest.raises(FileNotFoundError):
        (path / "none").read_bytes()
    write_atomically(path / "c", "text")
    assert (path / "c").read_text() == "text"
    assert [one.name for one in path.iterdir()] == ["c"]
    assert np.isclose((path / "c").stat().st_size, 4)


def test_blocks_with_a_filter_are_read_from_the_store(s3: fsspec.AbstractFileSystem, world: World) -> None:
    index = built(world)
    reader, place_of = BlockReader(index, "source = 'vendor_a'"), index.manifest.vectors[0].place
    found = [row for block in reader.blocks([place_of], dtype=torch.float32) for row in block.row.tolist()]
    assert found == list(range(0, 24, 2))
    assert not reader.mapped
