"""A result as a data frame, a Parquet file and a data set."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from samples import result_of, toronto
from whence.errors import InputError


def test_a_row_for_each_hit() -> None:
    query = toronto()
    frame = result_of(query, replace(query, verdict=None, hits=query.hits[:2])).to_pandas()
    assert len(frame) == len(query.hits) + 2
    assert frame["query"].tolist() == [0] * len(query.hits) + [1, 1]
    first = frame.iloc[0]
    hit = query.hits[0]
    assert (first["rank"], first["score"], first["id"], first["prompt"]) == (hit.rank, hit.score, hit.id, hit.prompt)
    assert first["metadata.label"] == hit.metadata["label"]
    assert first["confounds.length"] == hit.confounds["length"]
    flagged = {row["id"] for _, row in frame[frame["query"] == 0].iterrows() if row["flagged"]}
    assert flagged == set(query.verdict.flagged) & {hit.id for hit in query.hits}
    assert frame[frame["query"] == 1]["flagged"].isna().all()


def test_a_result_without_hits_is_an_empty_frame() -> None:
    assert len(result_of(replace(toronto(), hits=())).to_pandas()) == 0


def test_a_file_and_a_data_set_hold_the_same_rows(tmp_path: Path) -> None:
    query = toronto()
    odd = [{"n": 1, "mixed": 1, "tags": ["a"]}, {"n": 2.5, "mixed": "x", "flag": True}]
    hits = tuple(replace(hit, metadata=more) for hit, more in zip(query.hits, odd, strict=False))
    result = result_of(replace(query, hits=hits), replace(query, hits=(), verdict=None))
    result.to_parquet(tmp_path / "hits.parquet")
    data = result.to_dataset()
    assert data.to_list() == pq.read_table(tmp_path / "hits.parquet").to_pylist()
    assert data[0]["score"] == query.hits[0].score
    assert data["metadata.n"][:] == [1.0, 2.5]
    assert data["metadata.mixed"][:] == ["1", '"x"']
    assert data["metadata.tags"][:] == ['["a"]', None]
    assert data["metadata.flag"][:] == [None, True]
    assert data.column_names[:3] == ["query", "flagged", "rank"]


@pytest.mark.parametrize("other", [0.5, None, 2**70, -1])
def test_no_whole_number_is_rounded(other: float | None) -> None:
    query, wide = toronto(), 2**53 + 1
    values = [{"n": wide}, {} if other is None else {"n": other}]
    hits = tuple(replace(hit, metadata=more) for hit, more in zip(query.hits, values, strict=False))
    result = result_of(replace(query, hits=hits))
    assert str(result.to_pandas()["metadata.n"][0]) == str(wide)
    data = result.to_dataset()["metadata.n"][:]
    assert str(data[0]) == str(wide)
    assert str(data[1]) == str(other)


def test_columns_have_their_types_without_any_hit() -> None:
    full, empty = result_of(toronto()).to_dataset(), result_of(replace(toronto(), hits=())).to_dataset()
    assert len(empty) == 0
    assert {name: full.features[name] for name in empty.features} == dict(empty.features)


def test_without_pandas_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match=r'pandas is not installed[\s\S]*pip install -e "\.\[tables\]"'):
        result_of(toronto()).to_pandas()
