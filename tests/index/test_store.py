"""Reading an index: filters, column names, fetching."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from fake_index import FakeEncoder, FakeExtractor, fake_examples, fake_manifest, write_index
from whence.errors import IndexFolderError, InputError
from whence.index.manifest import RECORDS
from whence.index.records import filter_columns
from whence.index.store import Index

N_ROWS = 40


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    out = tmp_path_factory.mktemp("store") / "index"
    return write_index(out, fake_examples(N_ROWS), FakeEncoder(), FakeExtractor(), fake_manifest(N_ROWS))


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("source", "source"),
        ("Quelle der Zeile", "Quelle der Zeile"),
        ("id", "meta_id"),
        ("Response", "meta_Response"),
        ("h_1", "meta_h_1"),
        ("g_norm_1", "meta_g_norm_1"),
        ("_rowid", "meta__rowid"),
        ("info.date", "info_date"),
        ("a`b", "a_b"),
        ("", "meta_"),
    ],
)
def test_metadata_columns_keep_their_name_where_it_is_free(name: str, column: str) -> None:
    (chosen,) = filter_columns({name: "str"}, 1)
    assert (chosen.name, chosen.column) == (name, column)


def test_metadata_columns_never_share_a_name() -> None:
    names = ["id", "meta_id", "a.b", "a_b", "A_B", "Source", "source"]
    columns = [column.column.lower() for column in filter_columns(dict.fromkeys(names, "int"), 1)]
    assert len(set(columns)) == len(names)


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        (None, N_ROWS),
        ("source = 'b'", N_ROWS // 2),
        ("year >= 2030", 10),
        ("score < 1.0 and checked", 1),
        ("meta_id = 'x'", N_ROWS),
        ("turn = 2", 13),
        ("source = 'nobody'", 0),
    ],
)
def test_filters_count_rows_not_records(index: Index, where: str | None, rows: int) -> None:
    assert index.count_rows(where) == rows


@pytest.mark.parametrize("where", ["sorce = 'b'", "source = = 'b'", "row", "year = 'late'", "x-y"])
def test_bad_filter_names_the_columns(index: Index, where: str) -> None:
    with pytest.raises(InputError) as caught:
        index.count_rows(where)
    message = str(caught.value)
    assert repr(where) in message
    assert "source, year, score, checked, meta_id (your column 'id')" in message
    assert ".rs:" not in message


def test_blocks_give_offsets_that_fetch_understands(index: Index) -> None:
    blocks = list(index.blocks([], where="source = 'b'", block_rows=7))
    assert max(map(len, blocks)) <= 7
    keys = [(int(row), int(turn)) for block in blocks for row, turn in zip(block.row, block.turn, strict=True)]
    assert all(row % 2 == 1 for row, _ in keys)
    offsets = [int(offset) for block in blocks for offset in block.record]
    assert [(record.row, record.turn) for record in index.fetch(offsets)] == keys


def test_fetch_keeps_order_and_repeats(index: Index) -> None:
    first, second, third = index.fetch([5, 0, 5])
    assert first == third
    assert (second.row, second.prompt, second.line) == (0, "question 0.0", 1)
    assert second.metadata == {"source": "a", "year": 2000, "score": 0.0, "checked": True, "id": "x"}
    assert index.fetch([]) == []


def test_columns_map_to_the_users_names(index: Index) -> None:
    assert index.columns["meta_id"] == "id"
    assert index.columns["source"] == "source"
    assert index.columns["loss"] == "loss"
    assert index.layers == (1,)


def test_lost_records_are_named_as_damage(index: Index, tmp_path: Path) -> None:
    shutil.copytree(index.path, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / RECORDS)
    with pytest.raises(IndexFolderError, match=r"damaged: 0 of 79 records are there"):
        Index.open(tmp_path / "copy")


def test_whole_examples_come_back_in_the_order_asked(index: Index) -> None:
    originals = list(fake_examples(N_ROWS)())
    rows = [7, 38, 0, 7]
    assert index.examples(rows) == [originals[row] for row in rows]
    assert index.examples([]) == []


def test_texts_are_every_record_in_the_order_of_the_data(index: Index) -> None:
    expected = [(row, turn) for row, example in enumerate(fake_examples(N_ROWS)()) for turn in range(1 + row % 3)]
    found = list(index.texts())
    assert [(record.row, record.turn) for record in found] == expected
    assert found[4].prompt == "question 2.1"
    assert {record.metadata["source"] for record in index.texts("source = 'b'")} == {"b"}


def test_the_mean_last_state_is_kept_where_m_is_not(index: Index) -> None:
    """Sums are stored with the shards that they are made in; here the state of each record is its h."""
    (block,) = index.blocks([(1, "h")])
    raw = block.vectors[1]["h"].unit * block.vectors[1]["h"].norm[:, None]
    assert (1, "m") not in index.manifest.places()
    torch.testing.assert_close(index.centres[1, "m"], raw.double().mean(0), rtol=0, atol=5e-3)
