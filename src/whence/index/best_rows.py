"""The best rows of one query, kept while an index is scored block by block."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Match(NamedTuple):
    """A row that a query found, by its best turn. `record` is the record's offset, as `Index.fetch` takes it."""

    score: float
    row: int
    turn: int
    record: int


class BestRows:
    """The running top k of one query, ordered by (-score, row, turn); a row counts once, by its best turn.

    It is exact although it forgets: a row that falls out has k other rows before it, each by a record already seen.
    Those rows' best records can only improve, so the k stay before it. Only another record of the row can bring it
    back, and that record is scored in full when its block comes. For the same reason a record that is worse than the
    k-th row so far can be passed over; one that ties with it cannot, because ties go to the lower row.
    """

    def __init__(self, k: int) -> None:
        self._k = k
        self._score = np.empty(0)
        self._numbers = np.empty((3, 0), dtype=np.int64)

    @property
    def least(self) -> float:
        """A record that scores less changes nothing."""
        return float(self._score[-1]) if len(self._score) == self._k else -np.inf

    def take(self, score: np.ndarray, row: np.ndarray, turn: np.ndarray, record: np.ndarray) -> None:
        """Merges a block's records."""
        least = self.least if len(self._score) == self._k else _least_of_block(score, row, self._k)
        if least > -np.inf:
            near = np.flatnonzero(score >= least)
            if not len(near):
                return
            score, row, turn, record = score[near], row[near], turn[near], record[near]
        scores = np.concatenate([self._score, score])
        numbers = np.concatenate([self._numbers, np.stack([row, turn, record])], axis=1)
        order = np.lexsort((numbers[1], numbers[0], -scores))
        # In this order a row's first place is its best turn.
        first = np.sort(np.unique(numbers[0][order], return_index=True)[1])[: self._k]
        self._score, self._numbers = scores[order[first]], numbers[:, order[first]]

    def matches(self) -> list[Match]:
        """The rows, best first."""
        rows, turns, records = self._numbers.tolist()
        return [Match(*hit) for hit in zip(self._score.tolist(), rows, turns, records, strict=True)]


def _least_of_block(score: np.ndarray, row: np.ndarray, k: int) -> float:
    """A score that at least k rows of this block reach, so that what is below it can be passed over; -inf for none.

    The n-th highest score of a block is reached by n records, of at least n / (most records of one row) rows. Sorting
    what is left costs a small part of sorting the block, which is most of a search's time with many queries.
    """
    turns = int(np.bincount(row - row.min()).max()) if len(row) else 1
    n = k * turns
    return float(np.partition(score, -n)[-n]) if n < len(score) else -np.inf


__all__ = ["BestRows", "Match"]
