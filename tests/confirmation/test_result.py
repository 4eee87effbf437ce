"""The parts of a confirmation that need no model: intervals, the rule, the arms, and which rows are in question."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from fake_index import fake_manifest
from whence.confirmation.arms import choose_arms, draw_held_out, first_rows
from whence.confirmation.recipe import settings_beside
from whence.confirmation.result import ArmResult, judged
from whence.data.examples import Example
from whence.errors import InputError
from whence.metrics.rates import rate, wilson
from whence.results.selection import guilty_rows, listed_rows, top_rows
from whence.results.trace_result import TraceResult
from whence.results.types import Hit, QueryResult, Verdict


@given(st.integers(1, 200), st.data())
def test_the_interval_is_scipys(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    low, high = binomtest(k, n).proportion_ci(method="wilson")
    assert wilson(k / n, n) == pytest.approx((low, high), abs=1e-12)


def test_a_rate_counts_prompts_and_averages_seeds() -> None:
    once, thrice = rate([(True, False, True, True)]), rate([(True, False, True, True)] * 3)
    assert once == thrice
    assert (once.mean, once.n) == (0.75, 4)
    assert rate([(True, True), (False, True)]).mean == 0.75


def arm(name: str, n_shown: int, n: int = 10) -> ArmResult:
    shown = [tuple(i < n_shown for i in range(n))]
    return ArmResult(name, 5, 2, rate(shown), None, 1.0, ())


@pytest.mark.parametrize(
    ("before", "without", "random", "n", "status"),
    [
        (10, 0, 10, 10, "confirmed"),
        (10, 1, 9, 10, "confirmed"),
        (10, 6, 10, 10, "not confirmed"),  # falls by less than half
        (10, 0, 3, 10, "not confirmed"),  # random rows do it too
        (4, 0, 4, 4, "confirmed"),
        (3, 0, 3, 3, "not confirmed"),  # too few prompts: docs/confirm.md says four
        (10, 10, 10, 10, "not confirmed"),
    ],
)
def test_the_rule(before: int, without: int, random: int, n: int, status: str) -> None:
    arms = [arm("all", before, n), arm("guilty", without, n), arm("random", random, n), arm("bm25", 5, n)]
    found, rule, text = judged(arms, 0.5)
    assert found == status
    assert "at least 50%" in rule
    assert "bm25's first 5 rows, 2 of them the same" in text


ROWS = [Example.from_pair(f"p{i % 9}", "r") for i in range(12)]
IDS = [row.id for row in ROWS]


def test_arms_remove_by_content_and_as_many_rows() -> None:
    arms = choose_arms(ROWS, [IDS[0], IDS[4]], {"bm25": list(range(12))}, seed=3)
    by_name = {arm.name: arm for arm in arms}
    assert [(arm.name, arm.n_rows) for arm in arms] == [("all", 0), ("guilty", 3), ("random", 3), ("bm25", 4)]
    assert by_name["bm25"].removed == {IDS[0], IDS[1]}, "rows 0 and 1 have a copy each"
    assert not by_name["random"].removed & by_name["guilty"].removed
    assert arms == choose_arms(ROWS, [IDS[0], IDS[4]], {"bm25": list(range(12))}, seed=3)
    held = draw_held_out(ROWS, arms)
    assert Counter(IDS)[held[0].id] == 1
    assert all(held[0].id not in arm.removed for arm in arms)


@given(st.integers(0, 1000))
def test_first_rows_are_sorted_by_their_mean_rank(seed: int) -> None:
    scores = np.random.default_rng(seed).integers(0, 4, (3, 6)).astype(float)
    ranks = [[sorted(range(6), key=lambda i: (-one[i], i)).index(t) for one in scores] for t in range(6)]
    assert first_rows(scores) == sorted(range(6), key=lambda t: (sum(ranks[t]) / 3, t))


def query(hits: str, guilty: str | None) -> QueryResult:
    found = tuple(Hit(rank, -rank, id * 16, "f", 1, 0, "", "") for rank, id in enumerate(hits, 1))
    verdict = None if guilty is None else Verdict(tuple(id * 16 for id in guilty), 0.05, "", "reference-z")
    return QueryResult("p", "r", "rept", "1", "5", found, 6, verdict=verdict)


def test_rows_are_named_by_verdicts_and_by_their_best_score() -> None:
    result = TraceResult("i", "m", None, (query("abc", "ab"), query("cbd", "b")))
    assert [(row.id[0], row.score) for row in guilty_rows(result).rows] == [("b", -2), ("a", -1)]
    assert guilty_rows(result).rows[0].reason == "stands out in 2 of 2 queries (FDR 5% in each)"
    assert [row.id[0] for row in guilty_rows(result, votes=2).rows] == ["b"]
    with pytest.raises(InputError, match="3 votes of 2 queries"):
        guilty_rows(result, votes=3)
    apart = TraceResult("i", "m", None, (query("abc", "a"), query("cbd", "b")))
    with pytest.raises(InputError, match="2 are named by some, at most by 1"):
        guilty_rows(apart, votes=2)
    # Best scores: a -1, c -1 (of the second query), b -2, d -3.
    assert [(row.id[0], row.score) for row in top_rows(result, 4).rows] == [("a", -1), ("c", -1), ("b", -2), ("d", -3)]
    assert top_rows(result, 2).rows[1].reason == "rank 1, among the 2 rows that score highest for any of 2 queries"
    with pytest.raises(InputError, match="4 rows; the first 5"):
        top_rows(result, 5)


@pytest.mark.parametrize("guilty", [None, ""])
def test_without_a_guilty_row_nothing_is_named(guilty: str | None) -> None:
    with pytest.raises(InputError, match="names no guilty row"):
        guilty_rows(TraceResult("i", "m", None, (query("abc", guilty),)))


def test_a_list_of_ids(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text(f"{IDS[0]}\n\n {IDS[1]} \n{IDS[0]}\n")
    assert listed_rows(tmp_path / "ids.txt").ids == (IDS[0], IDS[1])


@pytest.mark.parametrize("content", ["a: [", "command: whence finetune\nsettings: {}\n"])
def test_a_broken_run_file_is_one_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.yaml").write_text(content, "utf-8")
    manifest = fake_manifest(3).model_copy(update={"model": str(tmp_path), "adapter": None})
    with pytest.raises(InputError, match="cannot be read"):
        settings_beside(manifest)
