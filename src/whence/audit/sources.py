"""Responsibility by a metadata column: which source delivered the flagged rows, against how many rows it delivered."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from whence.audit.flagged import FlaggedRows
from whence.audit.outputs import Output
from whence.errors import InputError
from whence.files import did_you_mean
from whence.index import Index
from whence.results import SourceShare, SourceTable

RESAMPLES = 2000
"""Of the bootstrap, and permutations of the null."""
LEVEL = 0.95
FROM_ONE = 0.9
"""An output is said to hang on a source that delivered this share of what its flagged rows weigh."""
MOST_DAYS = 31
"""Different days that are shown as they are; of more, months are."""
MOST_SHARE = 0.5
"""Different values over rows, above which a column names rows, not sources."""
NOTHING = "(no value)"
_DAY = re.compile(r"(\d{4}-\d{2})-\d{2}(?:[T ].*)?")


@dataclass(frozen=True, slots=True)
class ColumnValues:
    """A column's value of each row, by the row's number, as text; months where it holds many days."""

    name: str
    of_row: Mapping[int, str]


def column_values(index: Index, names: Sequence[str], where: str | None) -> list[ColumnValues]:
    """The columns of every row, in one pass over the index.

    Raises InputError for a column that no row has, and for one with nearly as many values as rows.
    """
    found: dict[str, dict[int, str]] = {name: {} for name in names}
    known: Counter[str] = Counter()
    rows: set[int] = set()
    for record in index.texts(where) if names else ():
        if record.row in rows:
            continue
        rows.add(record.row)
        known.update(name for name, value in record.metadata.items() if value is not None)
        for name in names:
            value = record.metadata.get(name)
            found[name][record.row] = NOTHING if value is None or value == "" else str(value)
    for name in names:
        if not known[name]:
            listed = f"Columns: {', '.join(sorted(known))}." if known else "The rows have no columns beside their text."
            raise InputError(
                f"No row has a column {name!r}.", listed, did_you_mean(name, known, "Give --by one of these.")
            )
        found[name] = _by_month(found[name])
        n_values = len(set(found[name].values()))
        if len(rows) > 1 and n_values > MOST_SHARE * len(rows):
            raise InputError(
                f"The column {name!r} has {n_values:,} values in {len(rows):,} rows.",
                "Expected few values, each of many rows, such as a source or a date.",
                "Give --by another column; the rows themselves are listed in each group.",
            )
    return [ColumnValues(name, of_row) for name, of_row in found.items()]


def source_table(
    column: ColumnValues, outputs: Sequence[Output], flagged: FlaggedRows, *, seed: int = 0
) -> SourceTable:
    """Each value's share of responsibility, the highest above its share of the rows first.

        A[i, s] = sum of w[i, t] over output i's flagged rows t of source s,   share[s] = mean over outputs with a cause

    The weight of near-duplicates is split over the sources that they come from. Intervals draw the outputs again
    (percentile bootstrap). Under the null the column says nothing about which rows are flagged: its values are drawn
    again for the flagged rows, without replacement, and p[s] compares the standardised excess over the share of rows
    with the highest of all sources (Westfall and Young 1993), so that it is corrected for their number.
    """
    values = sorted(set(column.of_row.values()))
    place = {value: s for s, value in enumerate(values)}
    counts = Counter(column.of_row.values())
    row_share = np.array([counts[value] for value in values]) / len(column.of_row)
    asked = [number for number, weights in enumerate(flagged.weights) if weights]
    if not asked:
        return SourceTable(column.name, 0, ())
    times = np.array([outputs[number].count for number in asked], dtype=float)  # [n_output]
    table, of_rows = _table(column, place, asked, times, flagged)
    share = times @ table / times.sum()  # [n_source]
    low, high = _interval(table, times, seed)
    p = _p_values(column, place, of_rows, share, row_share, seed)
    alone = times @ (table >= FROM_ONE) / times.sum()
    order = sorted(range(len(values)), key=lambda s: (p[s], -(share[s] - row_share[s]), values[s]))
    rows = tuple(
        SourceShare(
            value=values[s],
            n_rows=counts[values[s]],
            row_share=float(row_share[s]),
            share=float(share[s]),
            low=float(low[s]),
            high=float(high[s]),
            p_value=float(p[s]),
            alone=float(alone[s]),
        )
        for s in order
    )
    return SourceTable(column.name, int(times.sum()), rows)


def _table(
    column: ColumnValues,
    place: Mapping[str, int],
    asked: Sequence[int],
    times: Float[np.ndarray, " n_output"],
    flagged: FlaggedRows,
) -> tuple[Float[np.ndarray, "n_output n_source"], Float[np.ndarray, " n_flagged"]]:
    """A[i, s], and the weight of each set of near-duplicates over all outputs."""
    copies: dict[int, list[int]] = {}
    for row, first in flagged.first.items():
        copies.setdefault(first, []).append(place[column.of_row[row]])
    table = np.zeros((len(asked), len(place)))
    total: dict[int, float] = {}
    for i, number in enumerate(asked):
        for row, weight in flagged.weights[number].items():
            for s in copies[row]:
                table[i, s] += weight / len(copies[row])
            total[row] = total.get(row, 0.0) + weight * times[i]
    return table, np.array(list(total.values())) / times.sum()


def _interval(
    table: Float[np.ndarray, "n_output n_source"], times: Float[np.ndarray, " n_output"], seed: int
) -> Float[np.ndarray, "2 n_source"]:
    """The percentile bootstrap's interval of each share, over the different outputs, each as often as it is logged.

    An output that a log holds 500 times is one trial, not 500.
    """
    rng = np.random.default_rng(seed)
    n = len(times)
    drawn = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES) * times  # [n_resample, n_output]
    tail = (1 - LEVEL) / 2
    return np.asarray(np.quantile(drawn @ table / drawn.sum(axis=1, keepdims=True), [tail, 1 - tail], axis=0))


def _p_values(
    column: ColumnValues,
    place: Mapping[str, int],
    of_rows: Float[np.ndarray, " n_flagged"],
    share: Float[np.ndarray, " n_source"],
    row_share: Float[np.ndarray, " n_source"],
    seed: int,
) -> Float[np.ndarray, " n_source"]:
    """Against values drawn again for the flagged rows; the highest of all sources, so corrected for their number."""
    rng = np.random.default_rng([seed, 1])
    labels = np.array([place[value] for value in column.of_row.values()])
    drawn = np.empty((RESAMPLES, len(place)))
    for k in range(RESAMPLES):
        own = rng.choice(labels, len(of_rows), replace=False)
        drawn[k] = np.bincount(own, weights=of_rows, minlength=len(place))
    spread = np.maximum(drawn.std(axis=0), 1e-12)
    highest = ((drawn - row_share) / spread).max(axis=1)  # [n_resample]
    excess = (share - row_share) / spread
    return np.asarray((1 + (highest[:, None] >= excess - 1e-9).sum(axis=0)) / (1 + RESAMPLES))


def _by_month(of_row: dict[int, str]) -> dict[int, str]:
    """Months in place of days, where there are many days."""
    days = set(of_row.values()) - {NOTHING}
    if len(days) <= MOST_DAYS or not all(_DAY.fullmatch(day) for day in days):
        return of_row
    return {row: value if value == NOTHING else value[:7] for row, value in of_row.items()}


__all__ = ["ColumnValues", "column_values", "source_table"]
