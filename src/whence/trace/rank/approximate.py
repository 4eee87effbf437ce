"""Rankings from candidates: the approximate search of an index put to work on encoded queries.

A verdict needs every row that scores at least `NEAR` of the best ones, and nothing of those below: they are never
flagged, whatever they score. Where so many candidates score as high that others may as well, all rows are scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from whence.index import Ann, AnnFound, AnnPoint, AnnSearch, Index, queries_in_form
from whence.results import Approximate
from whence.scoring import FormLayers, ScoreForm, queries_in, rows_of
from whence.signatures import Signatures
from whence.trace.settings import BEST_ROWS, MIN_ROWS

LEAST_RECORDS = 50_000
"""Of fewer records an exact search takes less than a tenth of a second on two cores."""
MOST_QUERIES = 16
"""One exact scan answers many queries together, and with more of them costs less than a search for each."""
VERDICT_CANDIDATES = 2_000
"""Taken for a verdict, from each of a query's two searches: flagged rows are among them."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What an approximate search found of some queries, one after the other."""

    search: AnnSearch
    found: Sequence[AnnFound]
    told: Sequence[Approximate]

    @property
    def rows(self) -> Int[np.ndarray, " n_candidate"]:
        """Numbers of the candidate rows of all queries, ascending."""
        return np.unique(np.concatenate([one.rows for one in self.found]))

    def scores(self, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n_query n"]:
        """Exact scores of these rows (ascending) for every query."""
        return np.stack([self.search.score(one.asked, rows) for one in self.found])


def why_exact(index: Index, form: ScoreForm, roles: FormLayers, where: str | None, n: int, recall: float) -> str:
    """Why n queries are not answered approximately with this recall; "" where they are."""
    ann = index.manifest.ann
    if recall >= 1:
        return "every row was asked for"
    if index.n_records < LEAST_RECORDS:
        return f"the index is small ({index.n_records:,} records)"
    if ann is None:
        return f"no approximate search was built (whence ann build {index.path})"
    if ann.generation != index.manifest.generation:
        return f"the index was changed since its approximate search was built (whence ann build {index.path})"
    if where is not None:
        return "a filter was given"
    if (ann.form, ann.version, ann.layers) != (form.name, form.version, form.described(roles)):
        return f"the approximate search is of {ann.form} {ann.version} at layer {ann.layers}"
    if n > MOST_QUERIES:
        return f"{n} queries are scored in one scan"
    if ann.point_for(recall) is None:
        return f"the highest recall that was measured is {max(point.recall for point in ann.curve):g}"
    return ""


def candidates(
    search: AnnSearch,
    index: Index,
    signatures: Mapping[int, Signatures],
    *,
    k: int,
    recall: float,
    near: float | None = None,
) -> Candidates | str:
    """The candidates of each query, where `why_exact` had no reason; or why all rows must be scored.

    near: for a verdict, the share of the best rows' mean score that every flagged row has.
    """
    ann, whole = index.manifest.ann, queries_in_form(index.manifest, signatures, index.stored_centres)
    point = ann.point_for(recall) if ann is not None else None
    assert ann is not None
    assert point is not None
    n_candidates = max(ann.n_candidates, 5 * k, 0 if near is None else VERDICT_CANDIDATES)
    found = []
    for query in range(queries_in(whole)):
        asked = rows_of(whole, torch.tensor([query]))
        # one.rows [n_candidate] ascending, one.scores [n_candidate]: exact scores s_j of the candidates alone.
        one = search.search(asked, k=k, n_probes=point.n_probes, n_candidates=n_candidates)
        if near is not None and len(one.rows) < MIN_ROWS:
            return f"the partitions that are read hold {len(one.rows)} rows"
        # A flagged row has s_j >= near * mean of the twenty best. Where half of the candidates do, so may rows that are
        # no candidates: all rows are scored then.
        n_near = int((one.scores >= near * _best_mean(one.scores)).sum()) if near is not None else 0
        if n_near > len(one.rows) / 2:  # fewer than n_candidates where few partitions are read, or rows have turns
            return f"{n_near:,} of {len(one.rows):,} candidates score near the best"
        found.append(one)
    return Candidates(search, found, [_told(one, ann, point, recall) for one in found])


def _told(found: AnnFound, ann: Ann, point: AnnPoint, target: float) -> Approximate:
    return Approximate(len(found.rows), target, point.recall, ann.n_queries, point.n_probes)


def _best_mean(scores: Float[np.ndarray, " n"]) -> float:
    return float(np.sort(scores)[-BEST_ROWS:].mean())


__all__ = ["LEAST_RECORDS", "MOST_QUERIES", "VERDICT_CANDIDATES", "Candidates", "candidates", "why_exact"]
