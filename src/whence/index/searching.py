"""Exact search: the best rows of each query, or every row's score, in one scan of the index."""

from __future__ import annotations

from collections.abc import Mapping

from whence.errors import InputError
from whence.index.best_rows import Match
from whence.index.block_reader import BlockReader
from whence.index.held import default_layers
from whence.index.scanning import ScoreMatrix, ScoreRequest, scan
from whence.index.store import Index
from whence.scoring import FormLayers, ScoreForm
from whence.signatures import Signatures


def search(
    index: Index,
    queries: Mapping[int, Signatures],
    *,
    method: ScoreForm,
    k: int,
    roles: FormLayers | None = None,
    where: str | None = None,
    block_rows: int = 8192,
) -> list[list[Match]]:
    """The k best rows of each query, best first; fewer if fewer rows pass the filter.

    queries: signatures of the queries by layer, as `Extracted.layers`; float64 ones are scored in float64.
    where:   an SQL condition on the records' columns.

    Raises:
        InputError: k below 1, or a filter that cannot be evaluated.
        MismatchError: a layer or a vector that the index or the queries do not have.
        NonFiniteError: a query with NaN or infinity.
    """
    if k < 1:
        raise InputError(f"k = {k}", "At least one hit must be asked for.", "Give -k 1 or more.")
    request = ScoreRequest(method, roles or default_layers(method, index.manifest), k=k)
    return scan(BlockReader(index, where, block_rows), queries, [request])[0].matches


def score_matrix(
    index: Index,
    queries: Mapping[int, Signatures],
    *,
    method: ScoreForm,
    roles: FormLayers | None = None,
    where: str | None = None,
    block_rows: int = 8192,
) -> ScoreMatrix:
    """Every row's score for every query, rows in ascending order; memory is n_query x n_rows. Raises as `search`."""
    request = ScoreRequest(method, roles or default_layers(method, index.manifest), every_row=True)
    matrix = scan(BlockReader(index, where, block_rows), queries, [request])[0].matrix
    assert matrix is not None, "every row was asked for"
    return matrix


__all__ = ["Match", "ScoreMatrix", "score_matrix", "search"]
