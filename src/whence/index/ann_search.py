"""Approximate search: candidates from Lance's index of shorter vectors, each scored exactly.

    1.  candidates of the query            C1 = nearest(P Q),     scores s[q, t] for t in C1, as a scan gives them
    2.  the expanded query                 from the best rows of C1, and the mean score of all records, Q . mean X
    3.  candidates of the expanded query   C2 = nearest(P Q'),    scores s'[q, t] for t in C1 and C2

P is the projection that `whence.index.ann_build` made, Q and X are as in `whence.index.linear`. A candidate row is
scored by all its turns. What is missed are rows that neither search gave.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import lance
import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load

from whence.errors import IndexFolderError
from whence.index.ann_summary import ANN
from whence.index.best_rows import Match
from whence.index.block_reader import BlockReader
from whence.index.linear import joined_queries
from whence.index.offsets import RecordOffsets
from whence.index.reading import damage_named
from whence.index.records import opened
from whence.index.scanning import mixed_query
from whence.index.store import Index, number_columns
from whence.model import learned_fraction
from whence.scoring import Block, FormLayers, RowBlock, ScoreForm, rows_of

VECTORS = "vectors.lance"
PROJECTION = "projection.safetensors"
METRIC = "dot"
FIRST_SHARE = 2 / 3
"""Of the candidates, for the first search: only its few best rows are mixed into the query."""


class AnnFound(NamedTuple):
    """What was found of one query: its best rows, and every candidate row with its exact score, by row number.

    asked: the query as it was scored in the end, with rows mixed in where the form does that.
    """

    matches: list[Match]
    rows: Int[np.ndarray, " n_candidate"]
    scores: Float[np.ndarray, " n_candidate"]
    asked: Block


class AnnSearch:
    """The approximate search of one index for one form. Memory: 28 bytes a record.

    Raises IndexFolderError where its files are missing or damaged.
    """

    def __init__(self, index: Index, form: ScoreForm, roles: FormLayers, blocks: BlockReader | None = None) -> None:
        self._form, self._roles = form, roles
        self._blocks = blocks or BlockReader(index)
        self._basis, self._mean = _projection(index)
        with damage_named(index.path):
            self._dataset = _opened(index)
            self._offsets, self._record = (
                RecordOffsets(self._dataset),
                number_columns(self._dataset, ["record"])["record"],
            )
            numbers = number_columns(index.dataset, ["row", "turn", "log_likelihood_gain"])
        self._row, self._turn = numbers["row"], numbers["turn"]
        self._rows = np.unique(self._row)
        self._gain = torch.from_numpy(numbers["log_likelihood_gain"]) if form.by_learned_fraction else None
        self._blocks.prepare(form.reads(roles), gain=form.by_learned_fraction)

    @property
    def rows(self) -> Int[np.ndarray, " n"]:
        """Numbers of all rows with a record, ascending."""
        return self._rows

    def row_of(self, record: int) -> int:
        """Number of the row that a record belongs to."""
        return int(self._row[record])

    def search(self, query: Block, *, k: int, n_probes: int, n_candidates: int) -> AnnFound:
        """The best rows of one query (a block of one), best first, and its candidates. Work does not grow with n."""
        expand = self._form.expand
        first = n_candidates if expand is None else math.ceil(FIRST_SHARE * n_candidates)
        records = self._all_turns(self._nearest(query, n_probes, first))
        vectors = self._vectors(records)
        scores = self._scores(query, records, vectors)
        if expand is not None:
            best = self._best(records, scores, expand.rows)
            mean = float(joined_queries(self._form, self._roles, query)[0].double() @ self._mean)
            places = torch.from_numpy(np.searchsorted(records, [match.record for match in best]))
            query = mixed_query(query, rows_of(vectors, places), best, mean, expand)
            more = np.setdiff1d(self._all_turns(self._nearest(query, n_probes, n_candidates)), records)
            scores = self._scores(query, records, vectors)
            if len(more):
                scores = np.concatenate([scores, self._scores(query, more, self._vectors(more))])
                records = np.concatenate([records, more])
        rows, by_row = np.unique(self._row[records], return_inverse=True)
        highest = np.full(len(rows), -np.inf, dtype=np.float32)
        np.maximum.at(highest, by_row, scores)
        return AnnFound(self._best(records, scores, k), rows, highest, query)

    def score(self, asked: Block, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Exact scores of these rows (ascending numbers), by the best turn of each; -inf for a row without a record."""
        records = self._of_rows(rows)
        found = np.full(len(rows), -np.inf, dtype=np.float32)
        scores = self._scores(asked, records, self._vectors(records))
        np.maximum.at(found, np.searchsorted(rows, self._row[records]), scores)
        return found

    def _nearest(self, query: Block, n_probes: int, n: int) -> Int[np.ndarray, " n"]:
        asked = (joined_queries(self._form, self._roles, query) @ self._basis)[0].numpy()
        nearest = {"column": "vector", "q": asked, "k": n, "nprobes": n_probes, "metric": METRIC}
        # By their addresses: reading the column of those rows costs as much as the search of a few partitions.
        found = self._dataset.scanner(columns=["_distance"], with_row_address=True, nearest=nearest).to_table()
        return np.asarray(self._record[self._offsets.of(found["_rowaddr"].to_numpy())], dtype=np.int64)

    def _all_turns(self, records: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
        """The records with all others of their rows, ascending."""
        if len(self._rows) == len(self._row):  # one a row
            return np.unique(records)
        return self._of_rows(np.unique(self._row[records]))

    def _of_rows(self, rows: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
        # The records of one row are adjacent, and rows ascend.
        starts, ends = np.searchsorted(self._row, rows, "left"), np.searchsorted(self._row, rows, "right")
        counts = ends - starts
        first = np.repeat(starts - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
        return np.asarray(first + np.arange(counts.sum()), dtype=np.int64)

    def _vectors(self, records: Int[np.ndarray, " n"]) -> RowBlock:
        return self._blocks.packed(records, self._form.reads(self._roles))

    def _scores(self, query: Block, records: Int[np.ndarray, " n"], vectors: RowBlock) -> Float[np.ndarray, " n"]:
        scores = self._form.function(query, vectors, self._roles)[0]
        if self._gain is not None:
            scores = scores * learned_fraction(self._gain[torch.from_numpy(records)].double()).to(scores.dtype)
        return np.asarray(scores.numpy())

    def _best(self, records: Int[np.ndarray, " n"], scores: Float[np.ndarray, " n"], k: int) -> list[Match]:
        rows, turns = self._row[records], self._turn[records]
        order = np.lexsort((turns, rows, -scores))
        # In this order a row's first place is its best turn, as in `BestRows`.
        chosen = order[np.sort(np.unique(rows[order], return_index=True)[1])[:k]]
        numbers = zip(rows[chosen].tolist(), turns[chosen].tolist(), records[chosen].tolist(), strict=True)
        return [Match(score, *of) for score, of in zip(scores[chosen].tolist(), numbers, strict=True)]


def _opened(index: Index) -> lance.LanceDataset:
    return opened(index.path / ANN / VECTORS)


def _projection(index: Index) -> tuple[torch.Tensor, torch.Tensor]:
    """(basis [dim, short], mean of X over all records [dim], float64)"""
    try:
        found = load((index.path / ANN / PROJECTION).read_bytes())
        return found["basis"], found["mean"]
    except (OSError, KeyError, SafetensorError) as error:
        raise IndexFolderError(
            f"The approximate search of {index.path} is damaged: {PROJECTION} cannot be read ({error}).",
            "It was made by `whence ann build`.",
            f"Make it again (whence ann build {index.path}), or ask with --exact.",
        ) from error


__all__ = ["METRIC", "PROJECTION", "VECTORS", "AnnFound", "AnnSearch"]
