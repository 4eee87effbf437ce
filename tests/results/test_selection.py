"""Which rows a trace names: by its verdicts, by its scores, or by a list."""

from __future__ import annotations

from pathlib import Path

import pytest

from whence.data.examples import Example
from whence.errors import InputError
from whence.results import Hit, QueryResult, SelectedRows, TraceResult, Verdict, flagged_rows, listed_rows, top_rows

IDS = [Example.from_pair(f"p{i}", "r").id for i in range(2)]


def query(hits: str, flagged: str | None) -> QueryResult:
    found = tuple(Hit(rank, -rank, id * 16, "f", 1, 0, "", "") for rank, id in enumerate(hits, 1))
    verdict = None if flagged is None else Verdict(tuple(id * 16 for id in flagged), 0.05, "", "reference-z")
    return QueryResult("p", "r", "rept", "1", "5", found, 6, verdict=verdict)


def test_rows_are_selected_by_verdicts_and_by_their_best_score() -> None:
    result = TraceResult("i", "m", None, (query("abc", "ab"), query("cbd", "b")))
    assert [(row.id[0], row.score) for row in flagged_rows(result).rows] == [("b", -2), ("a", -1)]
    assert flagged_rows(result).rows[0].reason == "flagged in 2 of 2 queries (FDR 5% in each)"
    assert [row.id[0] for row in flagged_rows(result, votes=2).rows] == ["b"]
    with pytest.raises(InputError, match="3 votes of 2 queries"):
        flagged_rows(result, votes=3)
    apart = TraceResult("i", "m", None, (query("abc", "a"), query("cbd", "b")))
    with pytest.raises(InputError, match="2 are flagged by some, at most by 1"):
        flagged_rows(apart, votes=2)
    # Best scores: a -1, c -1 (of the second query), b -2, d -3.
    assert [(row.id[0], row.score) for row in top_rows(result, 4).rows] == [("a", -1), ("c", -1), ("b", -2), ("d", -3)]
    assert top_rows(result, 2).rows[1].reason == "rank 1, among the 2 rows that score highest for any of 2 queries"
    with pytest.raises(InputError, match=r"4 different rows .*from -k 3; the first 5(.|\n)*larger -k than 3, or ask"):
        top_rows(result, 5)


@pytest.mark.parametrize("flagged", [None, ""])
def test_without_a_flagged_row_nothing_is_selected(flagged: str | None) -> None:
    with pytest.raises(InputError, match="flags no row"):
        flagged_rows(TraceResult("i", "m", None, (query("abc", flagged),)))


def test_a_list_of_ids(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text(f"{IDS[0]}\n\n {IDS[1]} \n{IDS[0]}\n")
    assert listed_rows(tmp_path / "ids.txt").ids == (IDS[0], IDS[1])


def test_given_ids_count_once_and_keep_their_order() -> None:
    selected = SelectedRows.given(["b", "a", "b"], "said so")
    assert selected.ids == ("b", "a")
    assert {row.reason for row in selected.rows} == {"said so"}


def test_ids_as_other_editors_save_them(tmp_path: Path) -> None:
    listed = tmp_path / "ids.txt"
    listed.write_bytes(b"\xef\xbb\xbf0123456789abcdef\r\n")
    assert listed_rows(listed).ids == ("0123456789abcdef",)
    listed.write_bytes("0123456789abcdef\r\n".encode("utf-16"))
    with pytest.raises(InputError, match="is not UTF-8"):
        listed_rows(listed)
