"""References of a kind that is itself out of the ordinary: a fault that would hide another one.

References are answers to training prompts. Where two faults fill a tenth of the data each, one reference in ten shows
the one and one in ten the other; each is left out for its own outputs (`ReferenceScores.related`), and passes for an
ordinary answer beside the other's. In a model of which fine-tuning changed few answers, references with a cause of
their own are left out for it. In one that learned most answers every reference has such rows, and what tells a fault
is that a whole kind of answers stands far above all others.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from whence.trace.verdict.reference_scores import MAD_TO_SD

KIND_SHARE = 0.5
"""References that share this part of their best rows are of one kind. On the development case 0.4, 0.5 and 0.6 found
the same two kinds; at 0.25 all references were one (docs/log.md, "Two faults that hide each other")."""
LEAST_OF_KIND = 3
"""Two answers alike are no kind."""
FAR_OUT = 3.0
"""Robust standard deviations of log v above the median of the rest. Both faults of the development case stand at 3.5
and more, every kind of ordinary answers below 1."""
LEAST_V = 1e-6


def kinds(best_rows: Int[np.ndarray, "n_reference n_best"]) -> Int[np.ndarray, " n_reference"]:
    """The kind of each reference: connected components where two references share `KIND_SHARE` of their best rows."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    n_reference, n_best = best_rows.shape
    # has[r, t] = 1 where row t is among the best of r; shared = has has^T, [n_reference, n_reference]
    _, columns = np.unique(best_rows, return_inverse=True)
    places = np.repeat(np.arange(n_reference), n_best), columns.reshape(-1)
    has = csr_matrix((np.ones(n_reference * n_best, dtype=np.int32), places))
    shared = (has @ has.T).toarray()
    found: Int[np.ndarray, " n_reference"] = connected_components(
        csr_matrix(shared >= KIND_SHARE * n_best), directed=False
    )[1]
    return found


def outlying(
    best_rows: Int[np.ndarray, "n_reference n_best"], v: Float[np.ndarray, " n_reference"], fdr: float
) -> Bool[np.ndarray, " n_reference"]:
    """Which references are of a kind that would be said to be out of the ordinary, were its median answer a query.

    v: height times peak gain of each reference, as answers are compared by. From the kind K with the highest median on:

        rest  = references of no kind found before, without K
        p     = (1 + #{r in rest: v[r] >= median v of K}) / (1 + |rest|)
        z     = (log median v of K - median log v[rest]) / (1.4826 MAD log v[rest])
        K is found where p <= fdr and z >= `FAR_OUT`; at the first kind that is not, nothing more is found

    Never more than half of the references: what most of them are is ordinary.
    """
    of_kind = kinds(best_rows)
    found = np.zeros(len(v), dtype=bool)
    log_v = np.log(np.maximum(v, LEAST_V))
    sizes = np.bincount(of_kind)
    medians = {kind: float(np.median(v[of_kind == kind])) for kind in np.flatnonzero(sizes >= LEAST_OF_KIND)}
    for kind in sorted(medians, key=lambda one: -medians[one]):
        members = of_kind == kind
        rest = ~found & ~members
        if (found | members).sum() > len(v) / 2:
            break
        p = (1 + int((v[rest] >= medians[kind]).sum())) / (1 + int(rest.sum()))
        middle = np.median(log_v[rest])
        spread = MAD_TO_SD * np.median(np.abs(log_v[rest] - middle))
        if p > fdr or np.log(max(medians[kind], LEAST_V)) - middle < FAR_OUT * spread:
            break
        found |= members
    return found


__all__ = ["FAR_OUT", "KIND_SHARE", "LEAST_OF_KIND", "kinds", "outlying"]
