"""The figures of a row: against the metrics one by one, and chance against many random orders."""

from __future__ import annotations

import numpy as np
import pytest

from whence.metrics.figures import expected_average_precision, measure, standardised_top
from whence.metrics.retrieval import auc, average_precision, pooled_auprc

N_ORDERS = 4000
CHANCE_TOLERANCE = 0.01
"""Three standard errors of a mean over N_ORDERS orders whose average precision spreads by about 0.15."""


@pytest.mark.parametrize(("n", "n_relevant"), [(30, 1), (30, 7), (8, 8), (1, 1)])
def test_chance_is_the_mean_over_random_orders(n: int, n_relevant: int) -> None:
    relevant = np.arange(n) < n_relevant
    rng = np.random.default_rng(0)
    found = np.mean([average_precision(rng.random(n), relevant) for _ in range(N_ORDERS)])
    assert expected_average_precision(relevant) == pytest.approx(found, abs=CHANCE_TOLERANCE)


def test_figures_are_means_over_queries() -> None:
    rng = np.random.default_rng(1)
    scores, faulty, hard = rng.random((4, 20)), np.arange(20) < 5, np.arange(20) > 14
    found = measure(scores, faulty, hard=hard, k=3)
    assert found["ap"] == pytest.approx(np.mean([average_precision(row, faulty) for row in scores]))
    assert found["auc_hard"] == pytest.approx(np.mean([auc(row, faulty, hard) for row in scores]))
    assert found["pooled"] == pooled_auprc(scores, np.tile(faulty, (4, 1)), 3)
    assert found["ap_low"] <= found["ap"] <= found["ap_high"]
    assert (found["k"], found["n_queries"]) == (3, 4)


def test_rows_that_do_not_count_are_not_ranked() -> None:
    scores, faulty = np.array([[5.0, 4.0, 3.0, 2.0], [5.0, 4.0, 3.0, 2.0]]), np.array([True, False, True, False])
    counted = np.array([[False, True, True, True], [True] * 4])
    found = measure(scores, faulty, counted=counted, k=2)
    assert found["ap"] == pytest.approx(np.mean([1 / 2, (1 + 2 / 3) / 2]))
    assert found["precision"] == 0.5
    assert found["recall"] == np.mean([1, 1 / 2])
    chances = [expected_average_precision([False, True, False]), expected_average_precision(faulty)]
    assert found["chance"] == pytest.approx(np.mean(chances))
    assert found["top"] == pytest.approx(
        np.mean(np.concatenate([standardised_top(scores[:1, 1:]), standardised_top(scores[1:])]))
    )
    assert found["pooled"] == pooled_auprc(np.array([[1.0, 4.0, 3.0, 2.0], scores[1]]), faulty & counted, 2)


def test_without_a_faulty_row_only_the_top_is_defined() -> None:
    found = measure(np.random.default_rng(2).random((3, 10)), np.zeros(10, bool))
    assert found["ap"] is None
    assert found["pooled"] is None
    assert found["chance"] is None
    assert found["top"] > 0


def test_without_hard_negatives_their_auc_alone_is_missing() -> None:
    found = measure(np.random.default_rng(2).random((3, 10)), np.arange(10) < 2)
    assert found["auc_hard"] is None
    assert found["ap"] is not None


def test_the_top_of_equal_scores_does_not_stand_out() -> None:
    assert standardised_top(np.ones((1, 5))).tolist() == [0.0]
    assert standardised_top(np.array([[0.0, 0.0, 0.0, 2.0]]))[0] == pytest.approx(1.5 / np.sqrt(0.75))
