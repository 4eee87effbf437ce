"""What reference queries score on the rows of an index, and each row's statistics over them, in blocks of columns.

The table may be a file (`reference_cache`): no more of it is in memory than a block of columns or one reference, so a
verdict needs memory for a few numbers a row, however many references there are. What it says of each row and of each
reference is kept as well (`ReferenceSummary`), so that a later verdict reads the table of the references that it leaves
out alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from whence.errors import InputError, NonFiniteError
from whence.trace.settings import BEST_ROWS

PerRow = Float[np.ndarray, " n_train"]

MAD_TO_SD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""
COLUMNS_AT_ONCE = 4096
"""128 references of so many rows are 4 MiB of float64, which stays in a core's cache."""
RELATED_SHARE = 0.25
"""A reference that shares this part of its twenty best rows with a query's is answered from the same rows. Between a
tenth and a half nothing changed on two development cases of a real model (docs/log.md, "References that share the
cause")."""
LEAST_SQUARES_LEFT = 1e-6
"""Of a row's sum of squares. Where leaving references out leaves less, rounding is no longer small beside what is left
(2^-52 / 1e-6 = 2e-10), and the row's mean and spread are computed anew from the references that stay."""


class RowStatistics(NamedTuple):
    """Of each row t over references r, a reference's own row left out; d[r, t] = R[r, t] - median[t]."""

    median: PerRow
    spread: PerRow
    """`MAD_TO_SD` median_r |d[r, t]|."""
    n: PerRow
    """References that say something of the row: all but those whose own row it is."""
    total: PerRow
    """sum_r d[r, t]"""
    squares: PerRow
    """sum_r d[r, t]^2"""


class ReferenceSummary(NamedTuple):
    """What a table says of each row, and of each reference; of finite scores alone."""

    statistics: RowStatistics
    best_rows: Int[np.ndarray, "n_reference n_best"]
    best_means: Float[np.ndarray, " n_reference"]


@dataclass(frozen=True)
class ReferenceScores:
    """What reference queries score on the same rows: R[r, t] of reference r and row t is scores[r, columns[t]].

    own[r] is the t of the training row whose prompt reference r is, or -1. That cell is left out everywhere: a row
    matches itself, which says nothing about other rows. columns: None where row t is column t. kept: what `summary` of
    the same table said before.
    """

    scores: Float[np.ndarray, "n_reference n_column"]
    own: Int[np.ndarray, " n_reference"]
    columns: Int[np.ndarray, " n_train"] | None = None
    kept: ReferenceSummary | None = None

    def __post_init__(self) -> None:
        if len(self.own) != len(self.scores):
            raise InputError(f"{len(self.own)} own rows for {len(self.scores)} references.", "One each; -1 for none.")
        for reference in range(len(self)) if self.kept is None else ():
            check_finite(self.row(reference), f"the scores of reference {reference}")

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def n_rows(self) -> int:
        return self.scores.shape[1] if self.columns is None else len(self.columns)

    def row(self, reference: int) -> PerRow:
        """The scores of one reference, its own row's too; a copy."""
        whole = self.scores[reference]
        return np.array(whole if self.columns is None else whole[self.columns], dtype=np.float64)

    def others(self, reference: int) -> PerRow:
        """The scores of one reference, with NaN at its own row."""
        found = self.row(reference)
        if self.own[reference] >= 0:
            found[self.own[reference]] = np.nan
        return found

    def block(self, rows: Int[np.ndarray, " n_block"]) -> Float[np.ndarray, "n_reference n_block"]:
        """The scores of all references on some rows (ascending), with NaN at each reference's own row."""
        found = np.array(self.scores[:, rows if self.columns is None else self.columns[rows]], dtype=np.float64)
        # Where each reference's own row stands in this block, [n_reference]; most stand in another, or own is -1.
        places = np.searchsorted(rows, self.own)
        here = np.flatnonzero((places < len(rows)) & (rows[np.minimum(places, len(rows) - 1)] == self.own))
        found[here, places[here]] = np.nan
        return found

    def blocks(self) -> Iterator[tuple[slice, Float[np.ndarray, "n_reference n_block"]]]:
        """Every row, `COLUMNS_AT_ONCE` at a time."""
        for start in range(0, self.n_rows, COLUMNS_AT_ONCE):
            stop = min(start + COLUMNS_AT_ONCE, self.n_rows)
            yield slice(start, stop), self.block(np.arange(start, stop))

    @cached_property
    def statistics(self) -> RowStatistics:
        """Of every row over all references."""
        if self.kept is not None:
            return self.kept.statistics
        found = RowStatistics(*(np.empty(self.n_rows) for _ in RowStatistics._fields))
        for rows, scores in self.blocks():  # scores: [n_reference, n_block]
            median = _medians(scores)  # [n_block]
            d = scores - median  # [n_reference, n_block], NaN at own rows
            found.median[rows] = median
            found.spread[rows] = MAD_TO_SD * _medians(np.abs(d))
            found.n[rows] = (~np.isnan(d)).sum(0)
            found.total[rows] = np.nansum(d, axis=0)
            found.squares[rows] = np.nansum(d * d, axis=0)
        return found

    @cached_property
    def best_rows(self) -> Int[np.ndarray, "n_reference n_best"]:
        """The `BEST_ROWS` rows that score highest for each reference, its own row left out; ascending by number."""
        if self.kept is not None:
            return self.kept.best_rows
        n = min(BEST_ROWS, self.n_rows)
        found = np.empty((len(self), n), dtype=np.int64)
        for reference in range(len(self)):
            found[reference] = best_rows(np.nan_to_num(self.others(reference), nan=-np.inf), n)
        return found

    @cached_property
    def best_means(self) -> Float[np.ndarray, " n_reference"]:
        """Mean score of each reference's `best_rows`."""
        if self.kept is not None:
            return self.kept.best_means
        return np.array([self.row(r)[rows].mean() for r, rows in enumerate(self.best_rows)])

    def at(self, places: Int[np.ndarray, " k"]) -> ReferenceScores:
        """The same of some of the rows, by ascending place. What is said of each reference is still of all rows."""

        def moved(rows: Int[np.ndarray, " *n"]) -> Int[np.ndarray, " *n"]:
            found = np.minimum(np.searchsorted(places, rows), len(places) - 1)
            return np.where(places[found] == rows, found, -1)

        of_rows = RowStatistics(*(values[places] for values in self.statistics))
        kept = ReferenceSummary(of_rows, moved(self.best_rows), self.best_means)
        columns = places if self.columns is None else self.columns[places]
        return ReferenceScores(self.scores, moved(self.own), columns, kept)

    def summary(self) -> ReferenceSummary:
        """All that a verdict reads of the table, but for the references that it leaves out."""
        return ReferenceSummary(self.statistics, self.best_rows, self.best_means)

    def related(self, scores: PerRow) -> Bool[np.ndarray, " n_reference"]:
        """Which references are answered from the same rows as the query whose scores these are.

            related[r] = |best(r) and best(query)| >= RELATED_SHARE BEST_ROWS, unless that holds for most references

        References are drawn from training prompts: where one row in ten is faulty, one reference in ten shows the
        fault, and is no null for it.
        """
        asked = best_rows(scores, self.best_rows.shape[1])
        shared = np.isin(self.best_rows, asked).sum(1)
        related = np.asarray(shared >= RELATED_SHARE * max(1, len(asked)))
        # What most ordinary prompts share with the query is no fault; these are the answers to compare it with.
        return related if related.mean() <= 0.5 else np.zeros_like(related)

    def mean_and_sd(self, kept: Bool[np.ndarray, " n_reference"]) -> tuple[PerRow, PerRow]:
        """Mean and standard deviation of each row over the references that are kept.

            count[t] = n[t] - #{r left out},   S1[t] = total[t] - sum_{r left out} d[r, t],   S2[t] likewise of d^2
            mean[t] = median[t] + S1[t] / count[t],   sd[t] = sqrt(S2[t] / count[t] - (S1[t] / count[t])^2)

        The sums are taken of distances from the median, so that nothing large cancels (|mean - median| <= sd). Work:
        one row of the table for each reference left out, not all of the table for each query.
        """
        whole = self.statistics
        count, total, squares = whole.n.copy(), whole.total.copy(), whole.squares.copy()
        # Each reference that is left out is taken from the sums: few are, those drawn from suspects.
        for reference in np.flatnonzero(~kept):
            d = self.others(int(reference)) - whole.median
            count -= ~np.isnan(d)
            np.nan_to_num(d, copy=False)
            total -= d
            squares -= d * d
        shift = total / count  # mean - median, [n_train]
        mean, variance = whole.median + shift, np.maximum(squares / count - shift**2, 0.0)
        # What is left of a sum after nearly all of it was taken away is rounding; these rows are computed anew.
        unsure = np.flatnonzero(squares < LEAST_SQUARES_LEFT * whole.squares)
        for start in range(0, len(unsure), COLUMNS_AT_ONCE):
            rows = unsure[start : start + COLUMNS_AT_ONCE]
            left = self.block(rows)[kept]
            mean[rows], variance[rows] = np.nanmean(left, axis=0), np.nanvar(left, axis=0)
        return mean, np.sqrt(variance)


def best_rows(scores: PerRow, n: int) -> Int[np.ndarray, " n"]:
    """The n rows that score highest, ascending by number; of equal scores the first rows."""
    if n >= len(scores):
        return np.arange(len(scores))
    # Without sorting all of them: those above the n-th highest score, and the first of those equal to it.
    least = np.partition(scores, -n)[-n]
    above, equal = np.flatnonzero(scores > least), np.flatnonzero(scores == least)
    return np.sort(np.concatenate([above, equal[: n - len(above)]]))


def _medians(values: Float[np.ndarray, "n_reference n_block"]) -> Float[np.ndarray, " n_block"]:
    """The median of each column without its NaN; NaN for a column of them alone."""
    ordered = np.sort(values, axis=0)  # NaN last
    n = (~np.isnan(values)).sum(0)
    middle = np.stack([np.maximum(n - 1, 0) // 2, np.minimum(n // 2, len(values) - 1)])
    found: np.ndarray = np.take_along_axis(ordered, middle, axis=0).mean(0)
    return found


def check_finite(values: np.ndarray, what: str) -> None:
    """Raises NonFiniteError, which says how many are not and where the first stands."""
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        raise NonFiniteError(
            f"{len(bad)} of {what} are NaN or infinite, the first at {bad[0].tolist()}.", "Every value must be finite."
        )


__all__ = [
    "BEST_ROWS",
    "MAD_TO_SD",
    "PerRow",
    "ReferenceScores",
    "ReferenceSummary",
    "RowStatistics",
    "best_rows",
    "check_finite",
]
