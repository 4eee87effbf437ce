"""Null models: what scores look like where there is no cause, and the p-values of a query's scores under each.

    model(scores s[t], references R[r, t], p-values of the rows' gains, fdr) -> p[t]

Each is a pure function of arrays. Which p-values make a verdict: `whence.trace.verdict.calibration`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float

from whence.trace.verdict.reference_scores import MAD_TO_SD, PerRow, ReferenceScores

MIN_REFERENCES = 40
"""A conformal p-value of 5% needs 19 references; some are left out because their own row is a suspected cause."""
LEARNED_P = 0.05
"""A row is tested if a response drawn from the base would be made so much likelier with at most this chance. It is the
false discovery rate that verdicts have by default: docs/verdicts.md, the second question."""

NullModel = Callable[[PerRow, ReferenceScores, PerRow, float, int], PerRow]
"""(scores of the query, references, p-values of the rows' gains, fdr, number of other rows) -> p-values of the scores.

Other rows are those that `q_values` counts beside the rows whose scores are given."""


def robust_z(scores: PerRow, references: ReferenceScores, p_rows: PerRow, fdr: float, n_others: int = 0) -> PerRow:
    """A normal distribution over the rows of the query alone.

    p[t] = 1 - Phi((s[t] - median s) / (1.4826 MAD s))
    """
    return _normal_tail(_over_rows(scores))


def reference_z(scores: PerRow, references: ReferenceScores, p_rows: PerRow, fdr: float, n_others: int = 0) -> PerRow:
    """A normal distribution of each row over benign references, so that a row near every query gets no small p-value.

    1.  z0[t] = (s[t] - median_r R[r, t]) / (1.4826 MAD_r R[r, t]),   suspects = {t: q0[t] <= fdr},  q0 of 1 - Phi(z0)
    2.  p[t] = 1 - Phi((s[t] - mean_r R[r, t]) / sd_r R[r, t]),       over the references r with own[r] not suspected
                                                                      that share few of their best rows with the query

    The first step finds suspected causes: median and MAD are robust to references that share the query's cause. Those
    references are left out of the second step, since they belong to no null distribution of this query. Mean and
    standard deviation are the more precise estimates. Where fewer than half of `MIN_REFERENCES` would be left, all
    are kept.
    """
    of_rows = references.statistics
    # Step 1: [n_train] booleans, robust to references that share the cause.
    suspects = q_values(_normal_tail(_ratio(scores - of_rows.median, of_rows.spread)), p_rows, n_others) <= fdr
    kept = unsuspected(references, suspects) & ~references.related(scores)  # [n_reference]
    # Twenty references give the mean to about a fifth of a standard deviation; with fewer, all are kept.
    if kept.sum() < MIN_REFERENCES // 2:
        kept = np.ones_like(kept)
    # Step 2: mean and sd of each row, [n_train].
    mean, sd = references.mean_and_sd(kept)
    return _normal_tail(_ratio(scores - mean, sd))


def empirical_null(
    scores: PerRow, references: ReferenceScores, p_rows: PerRow, fdr: float, n_others: int = 0
) -> PerRow:
    """Location and scale from the middle of the query's scores, the tail from the references' scores, taken alike.

    p[t] = (1 + #{(r, u): z[r, u] >= z[t]}) / (1 + #(r, u)),   z over the rows of each query as in `robust_z`

    Heavy tails of benign queries are in the null. Counted one reference at a time.

    Source: Efron 2004 (JASA 99), the empirical null. Different: its tail is not normal but what references show.
    """
    asked = _over_rows(scores)  # [n_train]
    above, n = np.zeros(len(scores), dtype=np.int64), 0
    for reference in range(len(references)):
        z = _over_rows(references.others(reference))
        z = np.sort(z[~np.isnan(z)])  # without the reference's own row
        above += len(z) - np.searchsorted(z, asked, side="left")
        n += len(z)
    return np.asarray((1 + above) / (1 + n))


def conformal(scores: PerRow, references: ReferenceScores, p_rows: PerRow, fdr: float, n_others: int = 0) -> PerRow:
    """Is it more than a benign query's best row?

    p[t] = (1 + #{r: max_u R[r, u] >= s[t]}) / (1 + n_reference)

    Source: Vovk, Gammerman and Shafer 2005, with the references as calibration set.
    """
    # [n_reference], ascending
    best = np.sort([np.nanmax(references.others(reference)) for reference in range(len(references))])
    return np.asarray((1 + len(best) - np.searchsorted(best, scores, side="left")) / (1 + len(best)))


NULL_MODELS: Mapping[str, NullModel] = MappingProxyType(
    {
        "robust-z": robust_z,
        "reference-z": reference_z,
        "empirical-null": empirical_null,
        "conformal": conformal,
    }
)
DEFAULT_NULL_MODEL = "reference-z"
"""With the gains it finds 0.912 of the faulty rows, as robust-z does (0.913), and flags a row for 0.030 of the shuffled
queries, where robust-z flags one for 0.053: docs/verdicts.md, the table of benchmarks/verdicts.py."""


def unsuspected(
    references: ReferenceScores, suspects: Bool[np.ndarray, " n_train"]
) -> Bool[np.ndarray, " n_reference"]:
    """Which references were not drawn from a suspected cause."""
    return np.asarray((references.own < 0) | ~suspects[references.own])


def q_values(p: PerRow, p_rows: PerRow, n_others: int = 0) -> PerRow:
    """Benjamini-Hochberg over the rows that were learned and those of which it is not known; 1 for the others.

    q[t] = min over u with p[u] >= p[t] of n p[u] / #{v: p[v] <= p[u]},   n: rows that are tested

    A row whose gain was not measured (p_rows NaN) counts with p = 1: it makes the others' test stricter. So do n_others
    rows that are tested and not among these.
    """
    from scipy.stats import false_discovery_control

    unknown = np.isnan(p_rows)
    # Untested rows do not enter n: independent filtering, which a false discovery rate allows where the filter does not
    # depend on the p-value of a row that is no cause.
    tested = unknown | (p_rows <= LEARNED_P)
    q = np.ones(len(p))
    if tested.any():
        asked = np.where(unknown, 1.0, p)[tested]
        q[tested] = false_discovery_control(np.concatenate([asked, np.ones(n_others)]))[: len(asked)]
    return q


def _over_rows(scores: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Robust z over the rows, NaN left out."""
    above = scores - np.nanmedian(scores)
    return _ratio(above, MAD_TO_SD * np.nanmedian(np.abs(above)))


def _ratio(above: np.ndarray, spread: np.ndarray | float) -> np.ndarray:
    """above / spread; 0 where nothing spreads, since then no score is above the others."""
    spread = np.broadcast_to(spread, above.shape)
    return np.asarray(np.divide(above, spread, out=np.zeros_like(above), where=~(spread <= 0)))


def _normal_tail(z: np.ndarray) -> PerRow:
    from scipy.stats import norm

    return np.asarray(norm.sf(z))


__all__ = [
    "DEFAULT_NULL_MODEL",
    "LEARNED_P",
    "MIN_REFERENCES",
    "NULL_MODELS",
    "NullModel",
    "conformal",
    "empirical_null",
    "q_values",
    "reference_z",
    "robust_z",
    "unsuspected",
]
