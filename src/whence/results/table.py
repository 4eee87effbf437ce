"""Hits as flat rows, for a data frame."""

from __future__ import annotations

from collections.abc import Sequence

from whence.data import Json
from whence.results.types import QueryResult

COLUMNS = ("rank", "score", "id", "file", "line", "turn", "prompt", "response", "status", "p_value", "q_value")
"""Of a hit, under their own names."""


def hit_rows(queries: Sequence[QueryResult]) -> list[dict[str, Json]]:
    """One row for each hit, queries in order, hits by rank.

    `query`: the query's number, from 0. `flagged`: whether the verdict flags the row; None without a verdict. Then
    `COLUMNS`, and what the data carried as `metadata.NAME`, what else could explain the rank as `confounds.NAME`.
    """
    rows: list[dict[str, Json]] = []
    for number, query in enumerate(queries):
        flagged = None if query.verdict is None else frozenset(query.verdict.flagged)
        for hit in query.hits:
            row: dict[str, Json] = {"query": number, "flagged": None if flagged is None else hit.id in flagged}
            row |= {name: getattr(hit, name) for name in COLUMNS}
            row |= {f"metadata.{name}": value for name, value in hit.metadata.items()}
            rows.append(row | {f"confounds.{name}": value for name, value in hit.confounds.items()})
    return rows
