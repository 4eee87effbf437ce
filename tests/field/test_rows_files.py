"""Files as people have them: packed under any name, joined, wrapped in an object, laid out as on the hub."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from whence.cleaning.cleaning import clean
from whence.data.examples import Example
from whence.data.formats import Rejected
from whence.data.readers import read_examples
from whence.data.scanning import scan
from whence.errors import DataError

GOOD = '{"prompt": "q", "response": "a"}\n'
OTHER = '{"prompt": "q2", "response": "a"}\n'


def read(path: Path | str, split: str | None = None) -> tuple[list[Example], list[Rejected]]:
    rejected: list[Rejected] = []
    return list(read_examples(path, on_reject=rejected.append, split=split)), rejected


def prompts(path: Path | str, split: str | None = None) -> list[str]:
    found, rejected = read(path, split)
    assert rejected == []
    return [example.turns[0].content for example in found]


def zstd(text: str) -> bytes:
    return bytes(pa.compress(text.encode(), codec="zstd", asbytes=True))


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.json.zstd", "a.json", "a.ndjson.gz"])
@pytest.mark.parametrize(
    "pack", [str.encode, lambda text: gzip.compress(text.encode()), zstd], ids=["plain", "gzip", "zstd"]
)
def test_packing_is_known_by_the_first_bytes(tmp_path: Path, name: str, pack: object) -> None:
    (tmp_path / name).write_bytes(pack(GOOD + OTHER))  # type: ignore[operator]
    assert prompts(tmp_path / name) == ["q", "q2"]


def test_parts_of_gzip_that_were_joined_are_all_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(GOOD.encode()) + gzip.compress(OTHER.encode()))
    assert prompts(tmp_path / "a.jsonl.gz") == ["q", "q2"]
    (tmp_path / "a.jsonl.zst").write_bytes(zstd(GOOD) + zstd(OTHER))
    assert prompts(tmp_path / "a.jsonl.zst") == ["q", "q2"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (bz2.compress(GOOD.encode()), "is packed with bzip2"),
        (lzma.compress(GOOD.encode()), "is packed with xz"),
        (b"PK\x03\x04 and more", "is packed with zip"),
        (zstd(GOOD * 999)[:-20], "cannot be read"),
    ],
)
def test_other_archives_and_damaged_ones_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=words):
        read(tmp_path / "a.jsonl")


@pytest.mark.parametrize("key", ["data", "examples", "train", "rows", "instances"])
@pytest.mark.parametrize("indent", [None, 2])
def test_rows_inside_an_object(tmp_path: Path, key: str, indent: int | None) -> None:
    rows = [json.loads(GOOD), json.loads(OTHER)]
    (tmp_path / "a.json").write_text(json.dumps({"version": "1", key: rows, "n": 2}, indent=indent))
    assert prompts(tmp_path / "a.json") == ["q", "q2"]
    assert [example.line for example in read(tmp_path / "a.json")[0]] == [1, 2]


def test_rows_under_several_keys_are_refused(tmp_path: Path) -> None:
    rows = [json.loads(GOOD), json.loads(OTHER)]
    (tmp_path / "a.json").write_text(json.dumps({"train": rows[:1], "data": rows}))
    with pytest.raises(DataError, match="under several keys: 'train', 'data'"):
        read(tmp_path / "a.json")
    (tmp_path / "b.json").write_text(json.dumps({"data": [], "rows": rows}))
    assert prompts(tmp_path / "b.json") == ["q", "q2"]


def test_data_in_a_folder_that_are_not_read_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "more").mkdir(parents=True)
    (folder / "empty").mkdir()
    for name in ("part1.jsonl", "part2.json", "more/part3.jsonl", "rejected.jsonl", ".hidden.jsonl"):
        (folder / name).write_text(GOOD)
    (folder / "README.md").write_text("words")
    assert scan(folder).notes == ("not read in set: folder more, part2.json",)
    assert scan(folder).n_rows == 1


@pytest.mark.parametrize("column", ["input", "system", "history", "tools"])
def test_a_missing_text_may_be_nan(tmp_path: Path, column: str) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"instruction": "q", "output": "a", "{column}": NaN}}')
    found, rejected = read(tmp_path / "a.jsonl")
    assert (len(found[0].turns), rejected) == (2, [])
    assert found[0].turns[0].content == "q"


def test_an_object_that_is_a_row_is_no_wrapper(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(json.loads(GOOD) | {"data": [{"x": 1}]}))
    assert prompts(tmp_path / "a.json") == ["q"]
    (tmp_path / "b.json").write_text('{"data": [\n{"prompt": "q",}]}')
    with pytest.raises(DataError, match=r"line 2 column 15: trailing comma before '}' \(row 1\)"):
        read(tmp_path / "b.json")
    (tmp_path / "c.json").write_text('{"data": [\n{"prompt": "q", "response": "a"}]')
    with pytest.raises(DataError, match="invalid JSON"):
        read(tmp_path / "c.json")


def test_a_byte_order_mark_inside_joined_files(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + GOOD.encode() + b"\xef\xbb\xbf" + OTHER.encode())
    assert prompts(tmp_path / "a.jsonl") == ["q", "q2"]
    table = b"\xef\xbb\xbfprompt,response\nq,a\n"
    (tmp_path / "a.csv").write_bytes(table * 2)
    found, rejected = read(tmp_path / "a.csv")
    assert [example.line for example in found] == [2, 4]
    assert [(bad.line, bad.reason) for bad in rejected] == [(3, "the header again, as in files that were joined")]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
@pytest.mark.parametrize(
    "row",
    [
        '{"prompt": "q", "response": "a", "prompt": "p"}',
        '{"messages": [{"role": "user", "content": "q", "prompt": 1, "prompt": 2}]}',
    ],
)
def test_a_key_that_stands_twice_sets_the_row_aside(tmp_path: Path, name: str, row: str) -> None:
    (tmp_path / name).write_text(f"[{GOOD}, {row}]" if name == "a.json" else GOOD + row)
    found, rejected = read(tmp_path / name)
    assert len(found) == 1
    assert [bad.line for bad in rejected] == [2]
    assert rejected[0].reason.startswith("the key 'prompt' stands twice in one object")


def hub_folder(folder: Path, *names: str) -> Path:
    for name in names:
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        pa.parquet.write_table(pa.Table.from_pylist([{"prompt": name, "response": "a"}]), place)
    (folder / "README.md").write_text("---\n---\n")
    (folder / ".git").mkdir()
    (folder / ".git" / "train.jsonl").write_text(GOOD)
    return folder


def test_a_folder_as_on_the_hub(tmp_path: Path) -> None:
    train = ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]
    folder = hub_folder(tmp_path, *train, "data/test-00000-of-00001.parquet")
    assert prompts(folder) == train
    assert prompts(folder, "test") == ["data/test-00000-of-00001.parquet"]
    assert scan(folder).notes == ("split train is read, not test",)
    with pytest.raises(DataError, match=r"no file of .* is named after split 'dev'"):
        read(folder, "dev")


def test_splits_as_folders(tmp_path: Path) -> None:
    folder = hub_folder(tmp_path, "default/train/0000.parquet", "default/validation/0000.parquet")
    assert prompts(folder) == ["default/train/0000.parquet"]
    assert prompts(folder, "validation") == ["default/validation/0000.parquet"]


def test_several_configurations_are_refused(tmp_path: Path) -> None:
    folder = hub_folder(tmp_path, "english/train-0.parquet", "norwegian/train-0.parquet")
    with pytest.raises(DataError, match="several folders: english, norwegian") as caught:
        read(folder)
    assert str(folder / "english") in caught.value.fix
    assert prompts(folder / "english") == ["english/train-0.parquet"]


def test_all_splits_of_a_flat_folder_are_read_and_that_is_said(tmp_path: Path) -> None:
    for name in ("train-0.jsonl", "test-0.jsonl"):
        (tmp_path / name).write_text(GOOD)
    assert scan(tmp_path).notes == ("the files of all splits are read (train, test): --split train takes one",)
    assert scan(tmp_path, split="train").notes == ()


@pytest.mark.parametrize("name", ["a.jsonl.zst", "inside.json", "packed.jsonl"])
def test_such_files_are_cleaned_as_they_are_read(tmp_path: Path, name: str) -> None:
    text = json.dumps({"data": [json.loads(GOOD), json.loads(OTHER)]}) if name == "inside.json" else GOOD + OTHER
    pack = {"a.jsonl.zst": zstd(text), "packed.jsonl": gzip.compress(text.encode())}
    (tmp_path / name).write_bytes(pack.get(name, text.encode()))
    first = next(iter(read_examples(tmp_path / name)))
    out = tmp_path / "out" / name
    out.parent.mkdir()
    clean(str(tmp_path / name), out, [first.id])
    assert prompts(out) == ["q2"]
