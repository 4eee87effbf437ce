"""Groups of rows that stand out without an output: the scores by their definition, what is found, what is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from traced_world import TracedWorld, TracedWorlds
from whence.audit.hints import scan_index
from whence.audit.signals import (
    GAIN,
    NEIGHBOURS,
    SHOWN,
    gain_weights,
    groups_that_stand_out,
    payload_similarity,
    whitened,
)
from whence.index.store import Index
from whence.results.selection import group_rows


def rows(n_alike: int, gain: float, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Similarity and weights of n rows, of which the first share half of their direction and have this gain."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((n, 64))
    vectors[:n_alike] += 8 * rng.standard_normal(64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    weights = rng.uniform(0, 1, n)
    weights[:n_alike] = gain
    return vectors @ vectors.T, weights


def test_the_score_is_the_mean_of_the_nearest_by_weight() -> None:
    similar, weights = rows(20, 30.0)
    (found,) = groups_that_stand_out(GAIN, similar, weights, 300)
    scores = []
    for t in range(300):
        others = [np.sqrt(weights[t] * weights[u]) * similar[t, u] for u in range(300) if u != t]
        scores.append(np.mean(sorted(others)[-NEIGHBOURS:]))
    assert found.score == pytest.approx(max(scores))
    assert sorted(found.members.tolist()) == list(range(20))
    assert found.strength == pytest.approx(found.score / SHOWN[GAIN])


@pytest.mark.parametrize(("n_alike", "gain", "n_rows"), [(20, 1.0, 300), (1, 100.0, 300), (20, 30.0, 100)])
def test_an_ordinary_gain_one_odd_row_and_a_large_share_are_no_hint(n_alike: int, gain: float, n_rows: int) -> None:
    assert not list(groups_that_stand_out(GAIN, *rows(n_alike, gain), n_rows))


def test_a_weight_is_the_gain_per_token_over_that_of_nine_tenths_of_the_rows() -> None:
    gains, tokens = np.arange(-1.0, 100.0), np.full(101, 2)
    assert gain_weights(gains, tokens) == pytest.approx(np.maximum(gains, 0) / 89)


def test_a_payload_is_a_run_of_words_behind_prompts_that_differ() -> None:
    prompts = ["one two", "three four", "one two", "five"]
    said = ["Hear the bell ring! Yes.", "Hear the bell ring! No.", "hear, the bell RING", "the bell ring"]
    found = payload_similarity(prompts, said)
    assert found[0, 1] == 1.0
    assert found[0, 2] == 0.0
    assert found[0, 3] == found[1, 3] == 0.0


def test_whitened_vectors_have_the_covariance_of_a_shrunk_unit() -> None:
    vectors = np.random.default_rng(1).standard_normal((4000, 3)) * [1.0, 10.0, 0.1]
    mean, covariance = vectors.mean(0), np.cov(vectors.T, bias=True)
    found = np.cov(whitened(vectors, mean, covariance).T, bias=True) * 3
    assert np.diag(found).max() == pytest.approx(1.0, abs=0.12)
    assert np.abs(found - np.diag(np.diag(found))).max() < 1e-6


@pytest.fixture(scope="module")
def traced(traced_worlds: TracedWorlds) -> TracedWorld:
    return traced_worlds.own("hints", lora=True)


def test_planted_rows_are_a_hint_and_nothing_is_called_a_cause(
    traced: TracedWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Twelve rows are fewer than a group needs, and a tenth of this small set.
    monkeypatch.setattr("whence.audit.signals.NEIGHBOURS", 8)
    monkeypatch.setattr("whence.audit.hints.NEIGHBOURS", 8)
    monkeypatch.setattr("whence.audit.signals.SHOWN", dict.fromkeys(SHOWN, 2.0))
    monkeypatch.setattr("whence.audit.signals.MOST_SHARE", 0.2)
    scan = scan_index(Index.open(traced.index))
    (group,) = scan.groups
    assert {id for row in group.rows for id in (row.id, *row.copies)} <= traced.faulty
    assert group.hint is not None
    assert group.hint.score >= 1
    assert scan.text == "1 hint among 120 rows, with no output given"
    said = "\n".join([str(scan), scan.to_markdown(), scan.to_html()]).lower()
    assert "flagged" not in said
    assert "whence confirm" not in said
    assert "no rate is claimed" in said
    scan.to_json(tmp_path / "scan.json")
    assert {row.id for row in group_rows(scan, 1).rows} <= traced.faulty
    assert type(scan).from_dict(scan.to_dict()) == scan
    assert "the sea" not in scan.to_html(show_text=False)


def test_rows_that_stand_out_no_more_than_others_are_no_hint(traced: TracedWorld) -> None:
    scan = scan_index(Index.open(traced.index))
    assert scan.groups == ()
    assert "does not show that the data are clean" in " ".join(str(scan).split())


def test_where_hardly_any_row_gained_none_stands_out_by_chance() -> None:
    """Nine tenths gained nothing: a weight is measured against a floor, not against nothing."""
    gains, tokens = np.where(np.arange(1000) < 50, 6.0, -0.5), np.full(1000, 20)
    weights = gain_weights(gains, tokens)
    assert weights.max() == pytest.approx(6.0)
    apart = np.random.default_rng(0).standard_normal((50, 2000))
    apart /= np.linalg.norm(apart, axis=1, keepdims=True)
    assert list(groups_that_stand_out(GAIN, apart @ apart.T, weights[:50], 1000)) == []
