"""Data that lie elsewhere are read as files here are, under their addresses."""

from __future__ import annotations

import gzip
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from stores import s3_server
from whence.data.readers import read_examples
from whence.data.scanning import scan
from whence.errors import DataError, InputError
from whence.object_path import place


def lines(start: int, stop: int) -> bytes:
    rows = [{"prompt": f"question {i}", "response": f"answer {i}", "source": "a"} for i in range(start, stop)]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[fsspec.AbstractFileSystem]:
    """A store in this process, with files train-0, train-1 (packed), test and a note; temporary files are under it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = fsspec.filesystem("memory")
    store.pipe_file("/bucket/train-0.jsonl", lines(0, 5))
    store.pipe_file("/bucket/train-1.jsonl.gz", gzip.compress(lines(5, 8)))
    store.pipe_file("/bucket/test.jsonl", lines(8, 9))
    store.pipe_file("/bucket/README.md", b"a note")
    yield store
    store.rm("/bucket", recursive=True)


@pytest.mark.parametrize(
    ("address", "split", "n"),
    [
        ("memory://bucket/train-0.jsonl", None, 5),
        ("memory://bucket/train-*", None, 8),
        ("memory://bucket", None, 9),
        ("memory://bucket/", "train", 8),
        ("memory://bucket/train-1.jsonl.gz", None, 3),
    ],
)
def test_files_folders_and_patterns(
    memory: fsspec.AbstractFileSystem, tmp_path: Path, address: str, split: str | None, n: int
) -> None:
    found = list(read_examples(address, split=split))
    assert len(found) == n
    assert found[-1].file.startswith("memory:///bucket/t")
    assert found[0].metadata == {"source": "a"}
    assert scan(address, split=split).n_rows == n
    assert list(tmp_path.iterdir()) == [], "what was fetched is removed"


def test_what_is_wrong_is_named_by_its_address(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    memory.pipe_file("/bucket/train-0.jsonl", lines(0, 30) + b"{not JSON\n")
    found = scan("memory://bucket/train-0.jsonl", rejects_path=tmp_path / "rejected.jsonl")
    assert found.n_rejected == 1
    assert json.loads((tmp_path / "rejected.jsonl").read_text())["file"] == "memory:///bucket/train-0.jsonl"
    memory.pipe_file("/bucket/bad.jsonl", "prompt".encode("utf-16"))
    with pytest.raises(DataError, match=r"memory:///bucket/bad\.jsonl"):
        list(read_examples("memory://bucket/bad.jsonl"))
    for address in ("memory://bucket/none.jsonl", "memory://bucket/*.csv", "memory://nothing"):
        with pytest.raises(DataError, match="there is no file at"):
            read_examples(address)
    with pytest.raises(DataError, match="has no split 'dev'"):
        read_examples("memory://bucket", split="dev")


def test_addresses_without_a_library() -> None:
    with pytest.raises(DataError, match=r"nowhere://bucket/a.jsonl cannot be read"):
        read_examples("nowhere://bucket/a.jsonl")


@pytest.mark.parametrize(
    "address",
    [
        "s3://AKIA123:topsecret@bucket/a.jsonl",
        "s3://AKIA123:top/topsecret@bucket/a.jsonl",
        "https://example.org/a.jsonl?X-Amz-Signature=topsecret",
        "https://example.org/a.jsonl?part=1&sig=topsecret",
        "https://example.org/a.jsonl?access_token=topsecret",
    ],
)
def test_credentials_in_an_address_are_refused_and_not_shown(address: str) -> None:
    with pytest.raises(DataError, match=r"holds credentials(.|\n)*environment") as caught:
        read_examples(address)
    assert "topsecret" not in str(caught.value)
    assert "AKIA123" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "nowhere://host.example:9000/data/rows@v2.jsonl",
        "nowhere://bucket/2026-01-01T00:00:00/rows@v2.jsonl",
        "nowhere://host/x.jsonl?t=12:30&u=a@b&partition_key=3&next_token=4",
    ],
)
def test_what_only_looks_like_credentials_is_none(address: str) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_examples(address)


@pytest.mark.parametrize("mark", ["#", "?", "%"])
def test_an_index_has_no_characters_that_stores_read_differently(mark: str) -> None:
    with pytest.raises(InputError, match=f"has the characters {re.escape(mark)}"):
        place(f"s3://bucket/run{mark}1/index")


def test_clean_needs_the_data_here(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    from whence.cleaning import clean
    from whence.results import listed_rows

    (tmp_path / "ids.txt").write_text("0123456789abcdef\n")
    with pytest.raises(InputError, match="not on this machine"):
        clean("memory://bucket/train-*", tmp_path / "out", listed_rows(tmp_path / "ids.txt"))


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[fsspec.AbstractFileSystem]:
    with s3_server(monkeypatch, "rows") as store:
        yield store


def test_an_index_of_rows_in_s3(s3: fsspec.AbstractFileSystem, world, tmp_path: Path) -> None:
    from whence.index import build_index

    s3.pipe_file("rows/train/a.jsonl", world.data.read_bytes())
    index = build_index(world.model, "s3://rows/train/*.jsonl", tmp_path / "index", max_length=64)
    assert index.n_rows == 24
    assert index.manifest.data.source == "s3://rows/train/*.jsonl"
    assert index.fetch([0])[0].file == "s3://rows/train/a.jsonl"
    assert build_index(world.model, "s3://rows/train/*.jsonl", tmp_path / "index", max_length=64).n_rows == 24
    written = b"".join(path.read_bytes() for path in (tmp_path / "index").rglob("*") if path.is_file())
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"):
        assert os.environ[name].encode() not in written
    with pytest.raises(DataError, match=r"there is no file at s3://rows/none|cannot be read"):
        read_examples("s3://rows/none.jsonl")
    with pytest.raises(DataError, match=r"there is no file at s3://nowhere|cannot be read"):
        read_examples("s3://nowhere/a.jsonl")
