"""A result as a data frame."""

from __future__ import annotations

from dataclasses import replace

from samples import result_of, toronto


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
