"""Hits as flat rows, for a data frame or a data set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from whence.data import EXACT, INT64, Json, is_wide
from whence.results.types import QueryResult

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

COLUMNS = ("rank", "score", "id", "file", "line", "turn", "prompt", "response", "status", "p_value", "q_value")
"""Of a hit, under their own names."""


def hit_rows(queries: Sequence[QueryResult]) -> list[dict[str, Json]]:
    """One row for each hit, queries in order, hits by rank.

    `query`: the query's number, from 0. `flagged`: whether the verdict flags the row; None without a verdict. Then
    `COLUMNS`, and what the data carried as `metadata.NAME`, what else could explain the rank as `confounds.NAME`.
    """
    rows: list[dict[str, Json]] = []
    for number, query in enumerate(queries):
        said = query.verdict
        # A verdict that was not calibrated tested no row.
        flagged = frozenset(said.flagged) if said is not None and said.null_model else None
        for hit in query.hits:
            row: dict[str, Json] = {"query": number, "flagged": None if flagged is None else hit.id in flagged}
            row |= {name: getattr(hit, name) for name in COLUMNS}
            row |= {f"metadata.{name}": value for name, value in hit.metadata.items()}
            rows.append(row | {f"confounds.{name}": value for name, value in hit.confounds.items()})
    return rows


def hit_frame(queries: Sequence[QueryResult]) -> pd.DataFrame:
    """`hit_rows` as a data frame.

    A column with a whole number that a float would round holds Python's own values: pandas makes floats of all of them
    beside a float, and where a row lacks the column.
    """
    import pandas as pd

    rows = hit_rows(queries)
    frame = pd.DataFrame(rows)
    for name in frame.columns:
        values = [row.get(name) for row in rows]
        if any(map(is_wide, values)):
            frame[name] = pd.Series(values, index=frame.index, dtype=object)
    return frame


def hit_table(queries: Sequence[QueryResult]) -> pa.Table:
    """`hit_rows` as an Arrow table: its columns with their types whatever the hits, the data's own after them.

    A column of the data whose values are of several types, or are lists or objects, holds them as JSON text; so does
    one with whole numbers that neither 64 bits nor the floats beside them hold.
    """
    import pyarrow as pa

    rows = hit_rows(queries)
    found = dict.fromkeys(name for row in rows for name in row)
    table = {name: pa.array([row[name] for row in rows], kind) for name, kind in _kinds(pa).items()}
    for name in found:
        if name in table:
            continue
        values = [row.get(name) for row in rows]
        kinds = {type(value) for value in values if value is not None}
        limit = EXACT if float in kinds else INT64
        exact = all(value in limit for value in values if type(value) is int)
        if (kinds <= {int, float} and exact) or kinds in ({str}, {bool}):
            table[name] = pa.array(values, pa.float64() if float in kinds else None)
        else:
            texts = [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]
            table[name] = pa.array(texts, pa.string())
    return pa.table(table)


def _kinds(pa: Any) -> dict[str, object]:
    """Column -> its Arrow type, of the columns that every result has."""
    text, number, whole = pa.string(), pa.float64(), pa.int64()
    return {
        "query": whole, "flagged": pa.bool_(), "rank": whole, "score": number, "id": text, "file": text, "line": whole,
        "turn": whole, "prompt": text, "response": text, "status": text, "p_value": number, "q_value": number,
    }  # fmt: skip
