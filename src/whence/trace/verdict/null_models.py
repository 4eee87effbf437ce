"""Does a row's score stand out? Four ways to give scores p-values, against references or against the other rows.

Everything here is a pure function of arrays. Which p-values make a verdict: `whence.trace.verdict.calibration`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np
from jaxtyping import Float, Int

from whence.errors import InputError, NonFiniteError

PValues = Float[np.ndarray, " n_train"]

MIN_REFERENCES = 40
"""A conformal p-value of 5% needs 19 references; some are left out because their own row is under suspicion."""
TAUGHT = 0.05
"""A row is tested if an answer drawn from the base would be made so much likelier with at most this chance."""
MAD_TO_SD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


@dataclass(frozen=True)
class References:
    """What reference queries score on the same rows: scores[r, t] of reference r and row t.

    own[r] is the column of the training row whose prompt reference r is, or -1. That cell is left out everywhere: a row
    matches itself, which says nothing about other rows.
    """

    scores: Float[np.ndarray, "n_reference n_train"]
    own: Int[np.ndarray, " n_reference"]

    def __post_init__(self) -> None:
        if len(self.own) != len(self.scores):
            raise InputError(f"{len(self.own)} own rows for {len(self.scores)} references.", "One each; -1 for none.")
        check_finite(self.scores, "the references' scores")

    def __len__(self) -> int:
        return len(self.scores)

    @cached_property
    def others(self) -> Float[np.ndarray, "n_reference n_train"]:
        """The scores with NaN in each reference's own row."""
        found = np.array(self.scores, dtype=np.float64)
        drawn = np.flatnonzero(self.own >= 0)
        found[drawn, self.own[drawn]] = np.nan
        return found

    @cached_property
    def bulk(self) -> tuple[Float[np.ndarray, " n_train"], Float[np.ndarray, " n_train"]]:
        """Median and robust standard deviation of each row over the references."""
        middle = np.nanmedian(self.others, axis=0)
        return middle, MAD_TO_SD * np.nanmedian(np.abs(self.others - middle), axis=0)

    @cached_property
    def best(self) -> Float[np.ndarray, " n_reference"]:
        """The score of each reference's best row, ascending."""
        return np.sort(np.nanmax(self.others, axis=1))

    @cached_property
    def tail(self) -> Float[np.ndarray, " n"]:
        """Robust z of every score over the rows of its reference, ascending."""
        z = _over_rows(self.others).ravel()
        return np.sort(z[~np.isnan(z)])


Way = Callable[[PValues, References, PValues, float], PValues]
"""(scores of the query, references, p-values of the rows' rises, fdr) -> p-values of the scores."""


def robust_z(scores: PValues, references: References, p_rows: PValues, fdr: float) -> PValues:
    """p[t] = 1 - Phi((s[t] - median s) / (1.4826 MAD s)), over the rows of the query alone."""
    return _normal_tail(_over_rows(scores))


def reference_z(scores: PValues, references: References, p_rows: PValues, fdr: float) -> PValues:
    """Each row against what benign references score on it, so that a row near everything counts for nothing.

    p[t] = 1 - Phi((s[t] - mean_r R[r, t]) / sd_r R[r, t]), over the references that are not suspects. A first pass with
    median and MAD, which bear suspects among the references, finds the rows under suspicion; a reference drawn from
    such a row shows the same behaviour as the query and cannot vouch for it.
    """
    middle, spread = references.bulk
    suspects = q_values(_normal_tail(_ratio(scores - middle, spread)), p_rows) <= fdr
    kept = unsuspected(references, suspects)
    others = references.others[kept if kept.sum() >= MIN_REFERENCES // 2 else slice(None)]
    return _normal_tail(_ratio(scores - np.nanmean(others, axis=0), np.nanstd(others, axis=0)))


def empirical_null(scores: PValues, references: References, p_rows: PValues, fdr: float) -> PValues:
    """Location and scale from the middle of the query's scores, the tail from the references' scores, taken alike.

    p[t] = (1 + #{(r, u): z[r, u] >= z[t]}) / (1 + #(r, u)), z over the rows of each query as in `robust_z`. Heavy tails
    of benign queries are in the null.

    Source: Efron 2004 (JASA 99), the empirical null. Different: its tail is not normal but what references show.
    """
    return _share_above(references.tail, _over_rows(scores))


def conformal(scores: PValues, references: References, p_rows: PValues, fdr: float) -> PValues:
    """p[t] = (1 + #{r: max_u R[r, u] >= s[t]}) / (1 + n_reference): is it more than a benign query's best row?

    Source: Vovk, Gammerman and Shafer 2005, with the references as calibration set.
    """
    return _share_above(references.best, scores)


WAYS: Mapping[str, Way] = MappingProxyType(
    {
        "robust-z": robust_z,
        "reference-z": reference_z,
        "empirical-null": empirical_null,
        "conformal": conformal,
    }
)
DEFAULT_WAY = "reference-z"
"""The best by measurement: docs/verdicts.md."""


def unsuspected(references: References, suspects: np.ndarray) -> np.ndarray:
    """Which references were not drawn from a row under suspicion."""
    return np.asarray((references.own < 0) | ~suspects[references.own])


def _share_above(null: Float[np.ndarray, " n"], values: np.ndarray) -> PValues:
    """(1 + #{null >= value}) / (1 + n) of each value; `null` is ascending."""
    above = len(null) - np.searchsorted(null, values, side="left")
    return np.asarray((1 + above) / (1 + len(null)))


def _over_rows(scores: np.ndarray) -> np.ndarray:
    """Robust z over the last axis."""
    middle = np.nanmedian(scores, axis=-1, keepdims=True)
    return _ratio(scores - middle, MAD_TO_SD * np.nanmedian(np.abs(scores - middle), axis=-1, keepdims=True))


def _ratio(above: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """above / spread; 0 where nothing spreads, since then nothing can be said to stand out."""
    spread = np.broadcast_to(spread, above.shape)
    return np.asarray(np.divide(above, spread, out=np.zeros_like(above), where=~(spread <= 0)))


def _normal_tail(z: np.ndarray) -> PValues:
    from scipy.stats import norm

    return np.asarray(norm.sf(z))


def q_values(p: PValues, p_rows: PValues) -> PValues:
    """Benjamini-Hochberg over the taught rows and those of which it is not known; 1 for the others."""
    from scipy.stats import false_discovery_control

    unknown = np.isnan(p_rows)
    tested = unknown | (p_rows <= TAUGHT)
    q = np.ones(len(p))
    if tested.any():
        q[tested] = false_discovery_control(np.where(unknown, 1.0, p)[tested])
    return q


def check_finite(values: np.ndarray, what: str) -> None:
    """Raises NonFiniteError, which says how many are not and where the first stands."""
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        raise NonFiniteError(
            f"{len(bad)} of {what} are NaN or infinite, the first at {bad[0].tolist()}.", "Every value must be finite."
        )


__all__ = [
    "DEFAULT_WAY",
    "MIN_REFERENCES",
    "TAUGHT",
    "WAYS",
    "PValues",
    "References",
    "Way",
    "check_finite",
    "conformal",
    "empirical_null",
    "q_values",
    "reference_z",
    "robust_z",
    "unsuspected",
]
