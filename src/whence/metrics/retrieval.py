"""How well a ranking finds the faulty rows. Every metric is checked against scikit-learn or scipy in the tests.

A ranking is a query's scores over the training rows; `relevant[t]` says whether row t is faulty. A search keeps rows
with equal scores in the order of the data; a metric is the mean over all orders of them, so that scores which say
nothing are at chance. scikit-learn instead treats equal scores as one step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from whence.errors import InputError

Scores = Float[np.ndarray, " n_train"]
Relevant = Bool[np.ndarray, " n_train"]
Counts = Int[np.ndarray, " n_group"]


class Interval(NamedTuple):
    """A mean over queries with its bootstrap interval, which says nothing where there is one query."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return shown(self.mean, self.low, self.high, self.n)


def shown(mean: float, low: float, high: float, n: int, *, digits: int = 3) -> str:
    """A mean over n queries with its interval, as it is printed: of one query the value alone."""
    return f"{mean:.{digits}f}" + (f" [{low:.{digits}f}, {high:.{digits}f}]" if n > 1 else "")


def ranking(scores: ArrayLike) -> np.ndarray:
    """Rows from the highest score to the lowest; equal scores in the order of the rows."""
    return np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")


def precision_at_k(scores: ArrayLike, relevant: ArrayLike, k: int) -> float:
    """Share of the k first rows that are faulty, in [0, 1]. Fewer rows than k count as k."""
    return _hits(_ties(scores, relevant), k) / k


def recall_at_k(scores: ArrayLike, relevant: ArrayLike, k: int) -> float:
    """Share of the faulty rows that are among the k first, in [0, 1]."""
    ties = _ties(scores, relevant)
    return _hits(ties, k) / int(ties.relevant.sum())


def average_precision(scores: ArrayLike, relevant: ArrayLike) -> float:
    """Mean over the faulty rows of the precision at their rank, over the full ranking, in (0, 1].

    AP = (1 / R) sum_r relevant[r] (faulty rows among the r first) / r

    Of t rows with equal scores, f of them faulty, the row at place j among them is faulty with chance f / t, and then
    so is each of the j - 1 before it with chance (f - 1) / (t - 1).
    """
    ties = _ties(scores, relevant)
    size, faulty = np.repeat(ties.size, ties.size), np.repeat(ties.relevant, ties.size)
    rank = np.arange(1, len(size) + 1)
    place = rank - np.repeat(ties.before, ties.size)
    found_before = np.repeat(np.cumsum(ties.relevant) - ties.relevant, ties.size)
    found = found_before + 1 + (place - 1) * (faulty - 1) / np.maximum(size - 1, 1)
    return float((faulty / size * found / rank).sum() / ties.relevant.sum())


def reciprocal_rank(scores: ArrayLike, relevant: ArrayLike) -> float:
    """1 / rank of the first faulty row, in (0, 1].

    Of t rows with equal scores, f of them faulty, the first faulty one is at place j with chance
    f / (t - j + 1) prod_{i < j} (t - f - i + 1) / (t - i + 1).
    """
    ties = _ties(scores, relevant)
    first = int(np.argmax(ties.relevant > 0))
    size, faulty, before = int(ties.size[first]), int(ties.relevant[first]), int(ties.before[first])
    left = np.arange(size, faulty - 1, -1)
    missed = np.concatenate([[1.0], np.cumprod((left - faulty) / left)[:-1]])
    return float((missed * faulty / left / (before + 1 + size - left)).sum())


def auc(scores: ArrayLike, positive: ArrayLike, negative: ArrayLike) -> float:
    """Chance that a positive row scores above a negative one, equal scores counting half, in [0, 1].

    positive, negative: masks over the rows, such as faulty rows and their hard negatives; rows in neither do not count.
    """
    values = np.asarray(scores, dtype=np.float64)
    high, low = values[np.asarray(positive, dtype=bool)], values[np.asarray(negative, dtype=bool)]
    if not len(high) or not len(low):
        raise InputError(
            f"AUC of {len(high)} positive and {len(low)} negative rows.",
            "It compares at least one of each.",
            "Check labels.",
        )
    order = np.sort(low)
    below, up_to = np.searchsorted(order, high, "left"), np.searchsorted(order, high, "right")
    return float(((below + up_to) / 2).mean() / len(low))


def pooled_auprc(scores: ArrayLike, relevant: ArrayLike, k: int, *, seed: int = 0) -> float:
    """The paper's figure: average precision over the pooled first k rows of all queries, in [0, 1].

    scores, relevant: [n_query, n_train] each. The k best (query, row) pairs of each query are thrown together and
    ranked by score; faulty rows outside every top k do not count against it, so it flatters. It is 0 when none is in.
    Which of a query's rows with equal scores are among its k best is drawn by the seed.

    Source: the released code of RepT (arXiv 2510.02334), there called auPRC.
    """
    all_scores, all_relevant = np.atleast_2d(np.asarray(scores, float)), np.atleast_2d(np.asarray(relevant, bool))
    pooled: list[tuple[float, bool]] = []
    rng = np.random.default_rng(seed)
    for row, marks in zip(all_scores, all_relevant, strict=True):
        drawn = rng.permutation(len(row))
        top = drawn[ranking(row[drawn])][: _checked_k(k)]
        pooled += zip(row[top].tolist(), marks[top].tolist(), strict=True)
    values, marks = (np.array(part) for part in zip(*pooled, strict=True))
    return average_precision(values, marks) if marks.any() else 0.0


def linear_datamodeling_score(predicted: ArrayLike, measured: ArrayLike) -> float:
    """Rank correlation (Spearman) between predicted and measured outcomes of retrainings on subsets, in [-1, 1].

    predicted[s]: sum of a query's scores over the rows of subset s. measured[s]: the query's outcome (such as its loss,
    negated) under a model trained on subset s alone.

    Source: Park et al. 2023 (TRAK, arXiv 2303.14186), section 2.
    """
    from scipy.stats import spearmanr

    a, b = np.asarray(predicted, dtype=np.float64), np.asarray(measured, dtype=np.float64)
    if len(a) != len(b) or len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        raise InputError(
            f"A rank correlation of {len(a)} predictions and {len(b)} outcomes is undefined.",
            "It needs at least three pairs that are not all equal.",
            "Retrain on more subsets.",
        )
    return float(spearmanr(a, b).statistic)


def bootstrap(values: Sequence[float], *, n_resamples: int = 2000, level: float = 0.95, seed: int = 0) -> Interval:
    """Mean of the values with its percentile bootstrap interval over them (queries, or seeds)."""
    sample = np.asarray(values, dtype=np.float64)
    if not len(sample) or not np.isfinite(sample).all():
        raise InputError(
            f"A mean of {len(sample)} values ({np.count_nonzero(~np.isfinite(sample))} not finite).",
            "Expected at least one, all finite.",
            "Check that some query shows the fault.",
        )
    draws = np.random.default_rng(seed).integers(len(sample), size=(n_resamples, len(sample)))
    tail = (1 - level) / 2
    low, high = np.quantile(sample[draws].mean(axis=1), [tail, 1 - tail])
    return Interval(float(sample.mean()), float(low), float(high), len(sample))


def over_queries(
    metric: Callable[[Scores, Relevant], float], scores: ArrayLike, relevant: ArrayLike, *, seed: int = 0
) -> Interval:
    """Mean of a metric over queries with its bootstrap interval.

    scores: [n_query, n_train]. relevant: the same shape, or [n_train] for all queries alike.
    """
    rows = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    marks = np.broadcast_to(np.asarray(relevant, dtype=bool), rows.shape)
    return bootstrap([metric(row, mark) for row, mark in zip(rows, marks, strict=True)], seed=seed)


class _Ties(NamedTuple):
    """Groups of rows with equal scores, the best first: rows before the group, rows in it, faulty ones of these."""

    before: Counts
    size: Counts
    relevant: Counts


def _hits(ties: _Ties, k: int) -> float:
    """Faulty rows among the k first, a group that k cuts with its share."""
    inside = np.clip((_checked_k(k) - ties.before) / ties.size, 0, 1)
    return float((ties.relevant * inside).sum())


def _ties(scores: ArrayLike, relevant: ArrayLike) -> _Ties:
    values, marks = np.asarray(scores, dtype=np.float64), np.asarray(relevant, dtype=bool)
    if values.shape != marks.shape or values.ndim != 1:
        raise InputError(f"Scores of shape {values.shape}, labels of shape {marks.shape}.", "Expected one label a row.")
    if not np.isfinite(values).all():
        raise InputError(
            f"{np.count_nonzero(~np.isfinite(values))} scores are not finite.", "A ranking needs numbers.", ""
        )
    if not marks.any():
        raise InputError(
            "None of the rows is faulty.", "Without one no ranking is right or wrong.", "Check the labels."
        )
    _, group, size = np.unique(-values, return_inverse=True, return_counts=True)
    return _Ties(np.cumsum(size) - size, size, np.bincount(group[marks], minlength=len(size)))


def _checked_k(k: int) -> int:
    if k < 1:
        raise InputError(f"k = {k}", "At least one row must be looked at.", "Give 1 or more.")
    return k
