"""The figures of one method on one set of queries, as a flat row: what `whence eval` and `whence bench` both report."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from whence.metrics.retrieval import (
    Interval,
    auc,
    average_precision,
    bootstrap,
    pooled_auprc,
    precision_at_k,
    recall_at_k,
    reciprocal_rank,
)

Figures = dict[str, float | int | None]
"""Flat: an interval is `name`, `name_low`, `name_high`. None where a figure is undefined."""


def measure(
    scores: ArrayLike,
    faulty: ArrayLike,
    *,
    hard: ArrayLike | None = None,
    counted: ArrayLike | None = None,
    k: int = 10,
    seed: int = 0,
) -> Figures:
    """Every figure of a method's scores: means over the queries with 95% bootstrap intervals over them.

    scores: [n_query, n_train]. faulty, hard: which rows are faulty, and which are hard negatives, with the same words;
    the same shape, or [n_train] for all queries alike. counted: which rows are ranked for a query; None: all.

    `ap` average precision over the full ranking, `precision` and `recall` at k, `mrr`, `auc_hard` (chance that a faulty
    row stands above a hard negative), `pooled` (the paper's form, k rows a query; without interval), `chance` (the
    average precision that a random order has on average), `top` (see `standardised_top`). Without a faulty row only
    `top` is defined; without a hard negative `auc_hard` is not.
    """
    values = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    kept = np.broadcast_to(np.asarray(True if counted is None else counted, dtype=bool), values.shape)
    marks = np.broadcast_to(np.asarray(faulty, dtype=bool), values.shape) & kept
    near = np.broadcast_to(np.asarray(False if hard is None else hard, dtype=bool), values.shape) & kept
    ranked = [(row[ranks], mark[ranks]) for row, mark, ranks in zip(values, marks, kept, strict=True)]
    found: dict[str, Interval | None] = dict.fromkeys(("ap", "precision", "recall", "mrr", "auc_hard"))
    pooled: float | None = None
    if marks.any(axis=1).all():
        by_query: dict[str, Callable[[ArrayLike, ArrayLike], float]] = {
            "ap": average_precision,
            "precision": partial(precision_at_k, k=k),
            "recall": partial(recall_at_k, k=k),
            "mrr": reciprocal_rank,
        }
        found |= {name: bootstrap([metric(*one) for one in ranked], seed=seed) for name, metric in by_query.items()}
        pooled = pooled_auprc(np.where(kept, values, values.min() - 1), marks, k, seed=seed)
        if near.any(axis=1).all():
            found["auc_hard"] = bootstrap([auc(*row) for row in zip(values, marks, near, strict=True)], seed=seed)
    found["top"] = bootstrap([float(standardised_top(row[None])[0]) for row, _ in ranked], seed=seed)
    figures: Figures = {}
    for name, interval in found.items():
        figures |= {
            name: interval and interval.mean,
            f"{name}_low": interval and interval.low,
            f"{name}_high": interval and interval.high,
        }
    chance = None if pooled is None else float(np.mean([expected_average_precision(mark) for _, mark in ranked]))
    return figures | {"pooled": pooled, "chance": chance, "k": k, "n_queries": len(values)}


def expected_average_precision(relevant: ArrayLike) -> float:
    """The mean of average precision over all orders of the rows, in (0, 1]; a little above the share of faulty rows.

    E[AP] = (H_N + (R - 1) / (N - 1) (N - H_N)) / N, with R faulty of N rows and H_N = sum_{r=1}^N 1 / r: the row at
    rank r is faulty with chance R / N, and then so is each row before it with chance (R - 1) / (N - 1).
    """
    marks = np.asarray(relevant, dtype=bool)
    n, n_relevant = len(marks), int(marks.sum())
    if n == 1:
        return 1.0
    harmonic = float((1 / np.arange(1, n + 1)).sum())
    return (harmonic + (n_relevant - 1) / (n - 1) * (n - harmonic)) / n


def standardised_top(scores: Float[np.ndarray, "n_query n_train"]) -> Float[np.ndarray, " n_query"]:
    """A query's first row above the mean: (max - mean) / standard deviation of its scores; 0 if all are equal."""
    spread = scores.std(axis=1)
    standing: np.ndarray = (scores.max(axis=1) - scores.mean(axis=1)) / np.where(spread > 0, spread, 1.0)
    return standing
