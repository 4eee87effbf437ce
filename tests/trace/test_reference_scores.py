"""Statistics of references' scores in blocks, against plain loops, and on a file as in memory."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean, median, pstdev

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_index import fake_manifest
from oracles_calibration import column
from whence.data import EncodedTurn
from whence.errors import InputError, NonFiniteError
from whence.index import REFERENCES
from whence.trace.verdict import reference_scores
from whence.trace.verdict.reference_cache import ReferenceCache
from whence.trace.verdict.reference_scores import MAD_TO_SD, ReferenceScores, best_rows
from whence.trace.verdict.references import ReferenceSet

TOLERANCE = 1e-9


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_statistics_are_those_of_the_plain_columns(data: st.DataObject) -> None:
    n_references, n_rows = data.draw(st.integers(3, 12)), data.draw(st.integers(1, 15))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    # Few values, so that columns without spread and ties occur.
    table = rng.choice([-1.0, 0.0, 0.1, 0.3, 1e6], (n_references, n_rows)) if data.draw(st.booleans()) else (
        rng.normal(0.3, 1e-3, (n_references, n_rows))
    )  # fmt: skip
    own = np.where(rng.random(n_references) < 0.5, rng.integers(0, n_rows, n_references), -1)
    kept = rng.random(n_references) < 0.7
    kept[:2] = True
    own[:2] = -1
    wide = np.full((n_references, 2 * n_rows), np.nan)
    wide[:, 1::2] = table
    plain = ReferenceScores(table, own)
    apart = ReferenceScores(wide, own, 1 + 2 * np.arange(n_rows))
    reference_scores.COLUMNS_AT_ONCE = data.draw(st.integers(1, 20))
    for scores in (plain, apart):
        mean, sd = scores.mean_and_sd(kept)
        for t in range(n_rows):
            everyone = column(table.tolist(), own.tolist(), t, range(n_references))
            assert scores.statistics.median[t] == median(everyone)
            spread = MAD_TO_SD * median([abs(value - median(everyone)) for value in everyone])
            assert scores.statistics.spread[t] == pytest.approx(spread, rel=TOLERANCE)
            left = column(table.tolist(), own.tolist(), t, np.flatnonzero(kept).tolist())
            assert mean[t] == pytest.approx(fmean(left), rel=TOLERANCE, abs=TOLERANCE)
            assert sd[t] == pytest.approx(pstdev(left), rel=1e-6, abs=TOLERANCE)


@pytest.fixture(autouse=True)
def columns_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_scores, "COLUMNS_AT_ONCE", reference_scores.COLUMNS_AT_ONCE)


def test_what_is_left_when_nearly_all_spread_goes_is_exact() -> None:
    """One reference is a million away and is left out: the others' spread must not be its rounding."""
    table = np.full((60, 3), 0.25)
    table[1:, 1] += 1e-7 * np.arange(59)
    table[0] = 1e6
    kept = np.arange(60) > 0
    mean, sd = ReferenceScores(table, np.full(60, -1)).mean_and_sd(kept)
    assert (mean[0], sd[0]) == (0.25, 0.0)
    assert sd[1] == pytest.approx(table[1:, 1].std(), rel=TOLERANCE)


def test_a_table_on_a_file_says_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table, own = rng.random((50, 200), dtype=np.float32), np.arange(50) - 1
    mapped = np.memmap(tmp_path / "table", np.float32, "w+", 0, table.shape)
    mapped[:] = table
    kept = np.arange(50) % 7 > 0
    for one, other in zip(
        ReferenceScores(table, own).mean_and_sd(kept), ReferenceScores(mapped, own).mean_and_sd(kept), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_bad_tables_are_refused() -> None:
    with pytest.raises(InputError, match="own rows"):
        ReferenceScores(np.zeros((3, 4)), np.zeros(2, dtype=np.int64))
    broken = np.zeros((3, 4))
    broken[2, 1] = np.inf
    with pytest.raises(NonFiniteError, match=r"scores of reference 2.*\[1\]"):
        ReferenceScores(broken, np.full(3, -1))


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, -2.0]), min_size=1, max_size=30), st.integers(1, 30))
def test_best_rows_are_the_first_of_a_stable_sort(scores: list[float], n: int) -> None:
    values = np.array(scores)
    assert best_rows(values, n).tolist() == sorted(np.argsort(-values, kind="stable")[:n].tolist())


def test_a_summary_that_was_kept_says_the_same(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    table, own = generator.normal(size=(50, 30)), np.array([3, -1] * 25)
    whole = ReferenceScores(table, own)
    cache = ReferenceCache(tmp_path, fake_manifest(30), "")
    assert cache.read_summary("asked", 30) is None
    cache.write_summary("asked", whole.summary())
    kept = cache.read_summary("asked", 30)
    assert kept is not None
    assert cache.read_summary("asked", 31) is None
    assert cache.read_summary("something else", 30) is None
    again = ReferenceScores(table, own, None, kept)
    left = generator.random(50) < 0.8
    for ours, theirs in zip(again.mean_and_sd(left), whole.mean_and_sd(left), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(again.best_rows, whole.best_rows)
    np.testing.assert_array_equal(again.best_means, whole.best_means)
    np.testing.assert_array_equal(again.related(table[0]), whole.related(table[0]))


def test_references_are_not_kept_once_rows_came_or_went(tmp_path: Path) -> None:
    manifest = fake_manifest(30)
    manifest.write(tmp_path)
    turn = EncodedTurn(0, (1, 2), 1, "a deleted text", ((0, 1), (1, 14)), "a", "deleted text")
    found = ReferenceSet((turn,), np.array([3]), {}, None, None)
    cache = ReferenceCache(tmp_path, manifest, "")
    data = manifest.data.model_copy(update={"content_hash": "others"})
    manifest.model_copy(update={"data": data, "generation": 1}).write(tmp_path)
    cache.write("asked", found)
    assert not (tmp_path / REFERENCES).exists()
    manifest.write(tmp_path)
    cache.write("asked", found)
    assert cache.read("asked") is not None
