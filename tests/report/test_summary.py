"""The summary for a pull request: short, complete in its counts, and nothing of the data is taken for Markdown."""

from __future__ import annotations

from dataclasses import replace

from samples import EVIL, bare, evil, hit_of, result_of, toronto
from whence.report.summary import MOST_QUERIES, MOST_ROWS, render_summary
from whence.report.tracking import query_figures
from whence.results.table import hit_rows
from whence.results.types import Verdict


def test_outputs_and_the_rows_that_most_verdicts_share() -> None:
    query = toronto()
    ids = [hit.id for hit in query.hits]
    other = replace(query, verdict=Verdict((ids[2], "f" * 16), 0.05, "2 rows flagged", "null"))
    text = render_summary(result_of(query, other, bare(query)))
    assert text.startswith("### whence: 7 training rows flagged for 2 of 3 outputs; no verdict for 1 of 3 outputs\n")
    assert "| `Where is Toronto?` `Toronto is in Korea.` | 2 rows flagged | 2 |" in text
    rows = [line for line in text.splitlines() if line.startswith("| `data/train.jsonl:")]
    assert len(rows) == 6
    assert rows[0].startswith(f"| `data/train.jsonl:51` `{ids[2]}` | 2 of 3 | 0.8840 |")
    assert "1 more flagged row." in text, "flagged, but not among the hits"


def test_copies_of_a_flagged_row_are_counted_for_an_output_and_once_over_all() -> None:
    said = Verdict((toronto().hits[0].id,), 0.05, "12 rows flagged (1 different text)", "null", 12)
    text = render_summary(result_of(replace(toronto(), verdict=said)))
    assert text.startswith("### whence: 1 different training row flagged for 1 of 1 output\n")
    assert "| 12 rows flagged (1 different text) | 12 |" in text


def test_without_a_flagged_row_there_is_no_table_of_rows() -> None:
    text = render_summary(result_of(bare(toronto())))
    assert text.startswith("### whence: no verdict for 1 of 1 output\n")
    assert "train.jsonl" not in text


def test_many_outputs_and_rows_are_counted() -> None:
    hits = tuple(hit_of(i, "p", "r", "a", 1 - i / 100) for i in range(1, 41))
    query = replace(toronto(), hits=hits, verdict=Verdict(tuple(hit.id for hit in hits), 0.05, "40 rows flagged", "n"))
    text = render_summary(result_of(*[query] * (MOST_QUERIES + 5)))
    assert "5 more outputs." in text
    assert f"{40 - MOST_ROWS} more flagged rows." in text
    assert len(text) < 10_000


def test_texts_of_rows_are_left_out_and_data_stays_in_its_cell() -> None:
    query = toronto()
    assert query.hits[1].response not in render_summary(result_of(query), show_text=False)
    text = render_summary(evil())
    assert EVIL not in text.replace("`", "")
    assert all(line.replace("\\|", "").count("|") in (4, 6) for line in text.splitlines() if line.startswith("|"))


def test_a_verdict_that_tested_nothing_is_none() -> None:
    """In no count, no table of hits and no figure that is logged."""
    said = Verdict((), 0.05, "60 rows are too few for a verdict", "")
    query = replace(toronto(), verdict=said)
    assert render_summary(result_of(query)).startswith("### whence: no verdict for 1 of 1 output\n")
    assert {row["flagged"] for row in hit_rows([query])} == {None}
    assert "flagged" not in query_figures(query)
