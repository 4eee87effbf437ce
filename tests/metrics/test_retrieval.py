"""Every metric against scikit-learn or scipy, its ends, and what is undefined."""

from __future__ import annotations

from functools import partial
from inspect import signature
from itertools import permutations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score

from whence.errors import InputError
from whence.metrics.figures import expected_average_precision
from whence.metrics.retrieval import (
    auc,
    average_precision,
    bootstrap,
    linear_datamodeling_score,
    over_queries,
    pooled_auprc,
    precision_at_k,
    recall_at_k,
    reciprocal_rank,
)

PERCENTILE_TOLERANCE = 0.05
"""Two bootstraps of 2,000 resamples with other random numbers; in units of the values' spread."""


@st.composite
def rankings(draw: st.DrawFn, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    marks = np.array(draw(st.lists(st.booleans(), min_size=2, max_size=30)))
    assume(marks.any() and not marks.all())
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    return (rng.integers(0, 4, len(marks)).astype(float) if ties else rng.permutation(len(marks)) / 7.0), marks


@given(rankings())
def test_average_precision_is_scikit_learns(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, marks = case
    assert average_precision(scores, marks) == pytest.approx(average_precision_score(marks, scores))


@given(rankings(ties=True))
def test_auc_is_scikit_learns_with_ties(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, marks = case
    assert auc(scores, marks, ~marks) == pytest.approx(roc_auc_score(marks, scores))


@given(rankings(), st.integers(1, 40))
def test_precision_and_recall_by_counting(case: tuple[np.ndarray, np.ndarray], k: int) -> None:
    scores, marks = case
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    hits = sum(bool(marks[i]) for i in order[:k])
    assert precision_at_k(scores, marks, k) == pytest.approx(hits / k)
    assert recall_at_k(scores, marks, k) == pytest.approx(hits / marks.sum())
    assert reciprocal_rank(scores, marks) == pytest.approx(1 / next(r for r, i in enumerate(order, 1) if marks[i]))


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=2, max_size=4), st.integers(1, 5))
def test_equal_scores_count_as_the_mean_over_all_their_orders(rows: list[tuple[int, bool]], k: int) -> None:
    scores, marks = np.array([score for score, _ in rows], float), np.array([mark for _, mark in rows])
    assume(marks.any())
    broken = [scores + 1e-6 * np.array(order) for order in permutations(range(len(rows)))]
    for metric in (average_precision, reciprocal_rank, partial(precision_at_k, k=k), partial(recall_at_k, k=k)):
        assert metric(scores, marks) == pytest.approx(np.mean([metric(one, marks) for one in broken]))


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_scores_that_say_nothing_are_at_chance_whatever_the_order_of_the_rows(marks: list[bool]) -> None:
    assume(any(marks))
    assert average_precision(np.zeros(len(marks)), marks) == pytest.approx(expected_average_precision(marks))


def test_the_pooled_form_takes_equal_scores_at_random() -> None:
    marks = np.zeros(100, bool)
    marks[:5] = True
    assert pooled_auprc(np.zeros((50, 100)), np.tile(marks, (50, 1)), 5) < 0.15
    assert pooled_auprc(np.zeros((50, 100)), np.tile(marks[::-1], (50, 1)), 5) < 0.15


def test_the_papers_pooled_form_sees_only_the_tops() -> None:
    scores = np.array([[3.0, 2.0, 1.0], [9.0, 8.0, 7.0]])
    marks = np.array([[True, False, True], [False, True, True]])
    tops, labels = [3.0, 2.0, 9.0, 8.0], [1, 0, 0, 1]
    assert pooled_auprc(scores, marks, 2) == pytest.approx(average_precision_score(labels, tops))
    assert pooled_auprc(scores, [[False, False, True]] * 2, 2) == 0.0


@given(rankings(), st.integers(0, 1000))
def test_datamodeling_score_is_spearmans(case: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    scores, _ = case
    assume(len(scores) >= 3)
    outcome = np.random.default_rng(seed).standard_normal(len(scores))
    assert linear_datamodeling_score(scores, outcome) == pytest.approx(spearmanr(scores, outcome).statistic)


def test_bootstrap_is_seeded_and_close_to_scipys() -> None:
    values = np.random.default_rng(0).random(40)
    found = bootstrap(values.tolist())
    assert found == bootstrap(values.tolist())
    seed = {"rng" if "rng" in signature(scipy_bootstrap).parameters else "random_state": 1}  # renamed in scipy 1.15
    theirs = scipy_bootstrap((values,), np.mean, method="percentile", n_resamples=2000, **seed).confidence_interval
    assert found.mean == pytest.approx(values.mean())
    assert abs(found.low - theirs.low) < PERCENTILE_TOLERANCE * values.std()
    assert abs(found.high - theirs.high) < PERCENTILE_TOLERANCE * values.std()
    assert str(bootstrap([0.5, 0.5])) == "0.500 [0.500, 0.500]"
    assert str(bootstrap([0.5])) == "0.500", "one query has no interval"


def test_over_queries_takes_one_label_vector_for_all() -> None:
    found = over_queries(average_precision, [[3.0, 2.0], [1.0, 2.0]], [True, False])
    assert (found.mean, found.n) == (0.75, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: average_precision([1.0, 2.0], [False, False]), "None of the rows is faulty"),
        (lambda: average_precision([1.0, np.nan], [True, False]), "1 scores are not finite"),
        (lambda: average_precision([1.0], [True, False]), "Expected one label a row"),
        (lambda: precision_at_k([1.0], [True], 0), "k = 0"),
        (lambda: auc([1.0, 2.0], [True, True], [False, False]), "2 positive and 0 negative"),
        (lambda: linear_datamodeling_score([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]), "undefined"),
        (lambda: bootstrap([]), "A mean of 0 values"),
        (lambda: bootstrap([float("nan")]), "1 not finite"),
    ],
)
def test_what_is_undefined_is_an_error(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
