"""Plain, slow versions of what calibration and confounds compute: loops over rows and references."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, median, pstdev

Matrix = Sequence[Sequence[float]]


def q_values_oracle(p: Sequence[float]) -> list[float]:
    """Benjamini-Hochberg: q[t] = min over rows u with p[u] >= p[t] of n p[u] / #{p <= p[u]}, at most 1."""
    raised = [(u, len(p) * u / sum(v <= u for v in p)) for u in p]
    return [min(1.0, min(value for u, value in raised if u >= mine)) for mine in p]


def robust_oracle(values: Sequence[float]) -> list[float]:
    middle = median(values)
    spread = 1.4826 * median([abs(value - middle) for value in values])
    return [(value - middle) / spread if spread > 0 else 0.0 for value in values]


def column(references: Matrix, own: Sequence[int], t: int, kept: Sequence[int]) -> list[float]:
    """What the kept references score on row t, without the one that row t's prompt is."""
    return [references[r][t] for r in kept if own[r] != t]


def p_oracle(null_model: str, scores: Sequence[float], references: Matrix, own: Sequence[int]) -> list[float]:
    """p-values of the scores alone; "reference-z" with every reference, as where nothing is under suspicion."""
    everyone = range(len(references))
    if null_model == "robust-z":
        return [1 - NormalDist().cdf(z) for z in robust_oracle(scores)]
    if null_model == "reference-z":
        found = []
        for t, score in enumerate(scores):
            others = column(references, own, t, everyone)
            spread = pstdev(others)
            found.append(1 - NormalDist().cdf((score - fmean(others)) / spread if spread > 0 else 0.0))
        return found
    left = [[score for t, score in enumerate(row) if t != own[r]] for r, row in enumerate(references)]
    if null_model == "conformal":
        return [(1 + sum(max(row) >= score for row in left)) / (1 + len(left)) for score in scores]
    null = [z for row in left for z in robust_oracle(row)]
    return [(1 + sum(other >= z for other in null)) / (1 + len(null)) for z in robust_oracle(scores)]


def gain_oracle(gain: float, references: Sequence[float]) -> float:
    bound = min(1.0, math.exp(-gain)) if gain > -700 else 1.0
    return max(bound, (1 + sum(other >= gain for other in references)) / (1 + len(references)))


def percentile_oracle(values: Sequence[float]) -> list[float]:
    n = len(values)
    return [100 * (sum(v < mine for v in values) + sum(v == mine for v in values) / 2) / n for mine in values]


def rank_oracle(scores: Sequence[float]) -> list[int]:
    return [
        1 + sum(other > mine or (other == mine and u < t) for u, other in enumerate(scores))
        for t, mine in enumerate(scores)
    ]
