"""A verdict from candidates is that of all rows, says that it is, and is not asked of what answers exactly at once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from traced_world import PROMPT, RESPONSE, TracedWorld, TracedWorlds
from whence.index import Index, ann_build, build_ann, default_form, default_layers
from whence.results import read_trace
from whence.trace import Query, Tracer
from whence.trace.rank import approximate
from whence.trace.verdict.calibration import NEAR, Gains, base_chance, calibrate
from whence.trace.verdict.null_models import LEARNED_P, q_values
from whence.trace.verdict.reference_scores import ReferenceScores


@pytest.fixture(scope="module")
def traced(traced_worlds: TracedWorlds) -> TracedWorld:
    world = traced_worlds.own("approximate", lora=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ann_build, "LEAST_RECORDS", 10)
        patch.setattr(ann_build, "N_CANDIDATES", 40)
        build_ann(world.index)
    return world


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index of this size is asked approximately."""
    monkeypatch.setattr(approximate, "LEAST_RECORDS", 10)
    monkeypatch.setattr(approximate, "VERDICT_CANDIDATES", 60)
    monkeypatch.setattr(approximate, "MIN_ROWS", 10)


def test_the_verdict_is_that_of_all_rows(traced: TracedWorld, small: None, tmp_path: Path) -> None:
    tracer = Tracer(traced.index)
    exact = tracer.trace(PROMPT, RESPONSE, k=15).queries[0]
    result = tracer.trace(PROMPT, RESPONSE, k=15, recall=0.9)
    found = result.queries[0]
    assert exact.verdict is not None
    assert found.verdict is not None
    assert set(exact.verdict.flagged) == traced.faulty, "the case has something to find"
    assert found.verdict.flagged == exact.verdict.flagged
    assert [hit.id for hit in found.hits[:12]] == [hit.id for hit in exact.hits[:12]]
    for one, other in zip(found.hits[:12], exact.hits[:12], strict=True):
        assert one.p_value == pytest.approx(other.p_value, abs=1e-3)
        assert one.q_value == pytest.approx(other.q_value, abs=1e-3)
    about = found.approximate
    assert about is not None
    assert 40 <= about.n_candidates < found.n_rows
    assert about.recall >= about.target == 0.9
    assert found.verdict.text.endswith(f"from {about.n_candidates} candidates of an approximate search")
    result.to_json(tmp_path / "a.json")
    assert read_trace(tmp_path / "a.json") == result
    result.to_html(tmp_path / "a.html")
    assert f"{about.n_candidates} candidates of {found.n_rows} (approximate search" in (tmp_path / "a.html").read_text(
        "utf-8"
    )


def test_a_ranking_without_a_verdict(traced: TracedWorld, small: None) -> None:
    asked = [Query.of(PROMPT, RESPONSE), Query.of("Name fruit 3", "pears")]
    tracer = Tracer(traced.index)
    exact = tracer.trace_many(asked, k=3, verdict=False)
    found = tracer.trace_many(asked, k=3, verdict=False, recall=0.9)
    for one, other in zip(found, exact, strict=True):
        assert [hit.id for hit in one.hits] == [hit.id for hit in other.hits]
        assert one.approximate is not None


def test_why_all_rows_are_scored(traced: TracedWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    index = Index.open(traced.index)
    form = default_form(index.manifest)
    roles = default_layers(form, index.manifest)

    def why(where: str | None = None, n: int = 1, recall: float = 0.9, **changes: object) -> str:
        changed = replace(index, manifest=index.manifest.model_copy(update=changes))
        return approximate.why_exact(changed, form, roles, where, n, recall)

    assert "small (120 records)" in why()
    monkeypatch.setattr(approximate, "LEAST_RECORDS", 10)
    assert why() == ""
    assert "whence ann build" in why(ann=None)
    assert "changed since" in why(generation=5)
    assert "filter" in why(where="row > 1")
    assert "one scan" in why(n=17)
    assert "every row" in why(recall=1)
    assert index.manifest.ann is not None
    assert "rept-centred" in why(ann=index.manifest.ann.model_copy(update={"form": "rept-centred"}))
    low = tuple(point.model_copy(update={"recall": 0.8}) for point in index.manifest.ann.curve)
    assert "highest recall that was measured is 0.8" in why(ann=index.manifest.ann.model_copy(update={"curve": low}))


def test_where_too_many_rows_score_high_all_are_scored(
    traced: TracedWorld, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approximate, "VERDICT_CANDIDATES", 20)
    monkeypatch.setattr(approximate, "BEST_ROWS", 3)
    index = Index.open(traced.index)
    monkeypatch.setattr("whence.trace.rank.ranking.NEAR", -100.0)
    found = Tracer(index).trace(PROMPT, RESPONSE, k=2, recall=0.9).queries[0]
    assert found.approximate is None
    assert "score near the best" in found.exact_because
    monkeypatch.setattr(approximate, "MIN_ROWS", 200)
    found = Tracer(index).trace(PROMPT, RESPONSE, k=2, recall=0.9).queries[0]
    assert "partitions that are read hold" in found.exact_because


def test_the_commands(traced: TracedWorld, small: None, whence: Callable[..., tuple[int, str, str]]) -> None:
    status, out, err = whence("trace", traced.index, "-p", PROMPT, "-r", RESPONSE, "--recall", "0.9")
    assert status == 0, err
    assert "candidates of an approximate search" in " ".join(out.split())
    assert "candidates of 120 rows scored (approximate search" in " ".join(out.split())
    assert "approximate search IVF_RQ for rept-contrast" in whence("info", traced.index)[1]
    status, _, err = whence("trace", traced.index, "-p", PROMPT, "--recall", "1.5")
    assert (status, "between 0 and 1" in err) == (2, True)
    status, out, _ = whence(
        "trace", traced.index, "-p", PROMPT, "-r", RESPONSE, "--recall", "0.9", "--exact", "-k", "1"
    )
    assert (status, "120 rows scored" in out) == (0, True)


def test_it_is_built_from_the_command_line(
    traced: TracedWorld, tmp_path: Path, whence: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(traced.index, tmp_path / "index")
    status, _, err = whence("ann", "build", folder)
    assert (status, "An approximate search is made of 1,000 or more" in err) == (2, True)
    monkeypatch.setattr(ann_build, "LEAST_RECORDS", 10)
    status, out, err = whence("ann", "build", folder, "--dimensions", "16")
    assert status == 0, err
    assert "1.000 at 1 of 1 partitions" in out
    assert "16 dimensions of" in err
    assert f"whence trace {folder} --recall 0.95" in err


@pytest.mark.parametrize("seed", range(8))
def test_rows_far_below_the_best_change_no_verdict(seed: int) -> None:
    """Calibrating the rows at `NEAR` of the best, and the number of the others, is calibrating all of them."""
    rng = np.random.default_rng(seed)
    n, n_ref, n_faulty = 900, 60, 12
    table, scores = 0.1 * rng.standard_normal((n_ref, n)), 0.1 * rng.standard_normal(n)
    scores[:n_faulty] = 1 + 0.05 * rng.standard_normal(n_faulty)
    scores[n_faulty : n_faulty + 30] = 0.8
    own = rng.choice(np.arange(n_faulty, n), n_ref, replace=False)
    rows = rng.normal(1, 3, n)
    rows[:n_faulty] = 40
    references, gains = ReferenceScores(table, own), Gains(40.0, rng.normal(0, 0.5, n_ref), rows)
    whole = calibrate(scores, references, gains)
    best = np.sort(scores)[-20:].mean()
    places = np.union1d(np.argsort(-scores)[:150], own)
    assert (np.delete(scores, places) < NEAR * best).all()
    n_others = int((base_chance(np.delete(rows, places)) <= LEARNED_P).sum())
    some = calibrate(scores[places], references.at(places), replace(gains, rows=rows[places]), n_others=n_others)
    assert len(whole.flagged) >= n_faulty
    assert places[some.flagged].tolist() == whole.flagged.tolist()
    np.testing.assert_allclose(some.q[some.flagged], whole.q[whole.flagged], rtol=1e-6, atol=1e-12)
    assert some.p_answer == whole.p_answer


def test_others_make_the_test_stricter() -> None:
    p = np.array([0.001, 0.02, 0.5])
    np.testing.assert_allclose(q_values(p, np.zeros(3), 7), [0.01, 0.1, 1.0])
