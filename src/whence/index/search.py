"""Exact search: every record is scored, block by block, and only the best rows of each query are kept.

A row counts once, by its best turn. Ties break by the lower row, then the lower turn, so hits are ordered by
(-score, row, turn).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from whence.errors import InputError, MismatchError, NonFiniteError
from whence.index.forms import (
    CENTRED,
    Block,
    LayerRoles,
    ScoreForm,
    Scores,
    Vectors,
    expanded_block,
    expansion_weights,
    taught_share,
    to_block,
)
from whence.index.manifest import Manifest
from whence.index.store import Index, RecordBlock
from whence.signatures.types import CONTRASTS, Signatures

QUERIES_AT_ONCE = 256
"""Scores held at once are this many times the block's records."""


class Match(NamedTuple):
    """A row that a query found, by its best turn. `record` is the record's offset, as `Index.fetch` takes it."""

    score: float
    row: int
    turn: int
    record: int


class ScoreMatrix(NamedTuple):
    """Scores of every row, by its best turn: scores[q, i] belongs to row rows[i]."""

    rows: np.ndarray
    scores: np.ndarray


def default_roles(form: ScoreForm, manifest: Manifest) -> LayerRoles:
    """The layers that a form reads unless told otherwise; see ScoreForm.deep_g."""
    return LayerRoles(manifest.layer, max(manifest.layers) if form.deep_g else manifest.layer)


def search(
    index: Index,
    queries: Mapping[int, Signatures],
    *,
    method: ScoreForm,
    k: int,
    roles: LayerRoles | None = None,
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
    roles = roles or default_roles(method, index.manifest)
    n_queries, dtype = _check(index, queries, method, roles)
    scan = _Scan(index, method, roles, where, block_rows, dtype)
    parts = scan.expanded(_query_parts(index, queries, n_queries))
    best = [_Best(k) for _ in range(n_queries)]
    for block, start, scores in scan.scores(parts):
        for offset, row in enumerate(scores.numpy()):
            best[start + offset].take(row, block.row, block.turn, block.record)
    return [one.matches() for one in best]


def score_matrix(
    index: Index,
    queries: Mapping[int, Signatures],
    *,
    method: ScoreForm,
    roles: LayerRoles | None = None,
    where: str | None = None,
    block_rows: int = 8192,
) -> ScoreMatrix:
    """Every row's score for every query, rows in ascending order; memory is n_query x n_rows. Raises as `search`."""
    roles = roles or default_roles(method, index.manifest)
    n_queries, dtype = _check(index, queries, method, roles)
    scan = _Scan(index, method, roles, where, block_rows, dtype)
    parts = scan.expanded(_query_parts(index, queries, n_queries))
    size = index.manifest.data.n_rows
    full = torch.full((n_queries, size), -torch.inf, dtype=dtype)
    present = np.zeros(size, dtype=bool)
    for block, start, scores in scan.scores(parts):
        present[block.row] = True
        places = torch.from_numpy(block.row.copy())
        target = full[start : start + len(scores)]
        target.scatter_reduce_(1, places.expand_as(scores), scores, reduce="amax")
    rows = np.flatnonzero(present)
    return ScoreMatrix(rows, full.numpy()[:, rows])


@dataclass(frozen=True, slots=True)
class _Scan:
    """Reading of an index from end to end with one form."""

    index: Index
    method: ScoreForm
    roles: LayerRoles
    where: str | None
    block_rows: int
    dtype: torch.dtype

    def scores(self, parts: Sequence[tuple[int, Block]]) -> Iterator[tuple[RecordBlock, int, Scores]]:
        """Each block of records with (number of the first query, scores) of each run of queries."""
        reads, taught = self.method.reads(self.roles), self.method.taught
        for block in self.index.blocks(
            reads, where=self.where, block_rows=self.block_rows, dtype=self.dtype, rise=taught
        ):
            share = None if block.rise is None else taught_share(block.rise).to(self.dtype)
            for start, part in parts:
                scores = self.method.function(part, block.vectors, self.roles)
                yield block, start, scores if share is None else scores * share

    def expanded(self, parts: list[tuple[int, Block]]) -> list[tuple[int, Block]]:
        """The queries with the first rows of a first pass mixed in, for a form that wants it; see `Expansion`."""
        expand = self.method.expand
        if expand is None or not parts:
            return parts
        n_queries = parts[-1][0] + _n_queries(parts[-1][1])
        best = [_Best(expand.rows) for _ in range(n_queries)]
        total, count = np.zeros(n_queries), 0
        for block, start, scores in self.scores(parts):
            total[start : start + len(scores)] += scores.double().sum(1).numpy()
            count += len(block) if start == 0 else 0
            for offset, row in enumerate(scores.numpy()):
                best[start + offset].take(row, block.row, block.turn, block.record)
        return [(start, self._mixed(part, best[start:], total[start:] / max(1, count))) for start, part in parts]

    def _mixed(self, part: Block, best: Sequence[_Best], mean: np.ndarray) -> Block:
        assert self.method.expand is not None
        one_by_one = []
        for query in range(_n_queries(part)):
            asked = _piece(part, slice(query, query + 1))
            matches = best[query].matches()
            if matches:
                rows = self.index.vectors([m.record for m in matches], self.method.reads(self.roles), dtype=self.dtype)
                scores = torch.tensor([[match.score for match in matches]], dtype=self.dtype)
                middle = torch.tensor(mean[query : query + 1], dtype=self.dtype)
                weights = expansion_weights(scores, middle, self.method.expand)
                asked = expanded_block(asked, rows, weights, self.method.expand.weight)
            one_by_one.append(asked)
        return {
            layer: {name: _stacked([one[layer][name] for one in one_by_one]) for name in by_name}
            for layer, by_name in one_by_one[0].items()
        }


def _n_queries(part: Block) -> int:
    return len(next(iter(next(iter(part.values())).values())).unit)


def _piece(part: Block, piece: slice) -> Block:
    return {
        layer: {name: Vectors(vectors.unit[piece], vectors.norm[piece]) for name, vectors in by_name.items()}
        for layer, by_name in part.items()
    }


def _stacked(vectors: Sequence[Vectors]) -> Vectors:
    return Vectors(torch.cat([one.unit for one in vectors]), torch.cat([one.norm for one in vectors]))


class _Best:
    """The running top k of one query.

    It is exact although it forgets: a row that falls out has k other rows before it, each by a record already seen.
    Those rows' best records can only improve, so the k stay before it. Only another record of the row can bring it
    back, and that record is scored in full when its block comes. For the same reason a record that is worse than the
    k-th row so far can be passed over; one that ties with it cannot, because ties go to the lower row.
    """

    def __init__(self, k: int) -> None:
        self._k = k
        self._score = np.empty(0)
        self._numbers = np.empty((3, 0), dtype=np.int64)

    def take(self, score: np.ndarray, row: np.ndarray, turn: np.ndarray, record: np.ndarray) -> None:
        """Merges a block's records."""
        if len(self._score) == self._k:
            near = np.flatnonzero(score >= self._score[-1])
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
        """The hits, best first."""
        rows, turns, records = self._numbers.tolist()
        return [Match(*hit) for hit in zip(self._score.tolist(), rows, turns, records, strict=True)]


def _query_parts(index: Index, queries: Mapping[int, Signatures], n_queries: int) -> list[tuple[int, Block]]:
    """Runs of queries, each with the number of its first."""
    whole = to_block(queries, index.centres)
    starts = range(0, n_queries, QUERIES_AT_ONCE)
    return [(start, _piece(whole, slice(start, start + QUERIES_AT_ONCE))) for start in starts]


def _check(
    index: Index, queries: Mapping[int, Signatures], method: ScoreForm, roles: LayerRoles
) -> tuple[int, torch.dtype]:
    """Number of queries and the dtype to score in."""
    wanted = sorted({layer for layer, _ in method.reads(roles)})
    for place, layers in (("the index", index.layers), ("the queries", tuple(queries))):
        missing = [layer for layer in wanted if layer not in layers]
        if missing:
            raise MismatchError(
                f"{method.name} asks for layer {missing[0]}, but {place} has layers {', '.join(map(str, layers))}.",
                "Index and queries must have the layers that are asked for.",
                f"Ask for another layer, or build an index with --layer {missing[0]}.",
            )
    dtypes, sizes = set(), set()
    stored = {(layer, name): dim for layer, name, dim in index.manifest.stored()}
    for layer, vector in dict.fromkeys((layer, name.removesuffix(CENTRED)) for layer, name in method.reads(roles)):
        if (layer, vector) not in stored:
            raise _not_stored(index.manifest, method, layer, vector)
    if method.taught and not index.manifest.base:
        raise MismatchError(
            f"{method.name} weighs rows by what fine-tuning taught; this index was built without a base.",
            "A model with an adapter is its own base; a fully fine-tuned one needs --base.",
            "Build the index again with --base MODEL.",
        )
    for layer in wanted:
        for name, raw in queries[layer].named().items():
            if raw.shape[1] != stored.get((layer, name), raw.shape[1]):
                raise MismatchError(
                    f"The queries' {name} at layer {layer} has {raw.shape[1]} dimensions.",
                    f"The index has {stored[layer, name]}.",
                    "Ask with the model that the index was built with.",
                )
            bad = (~raw.isfinite().all(1)).nonzero()[:, 0].tolist()
            if bad:
                raise NonFiniteError(
                    f"The signature ({name}, layer {layer}) of queries {bad[:5]} holds NaN or infinity.",
                    "Every value of a signature must be finite.",
                    "Leave these queries out, or try --dtype float32.",
                )
            dtypes.add(raw.dtype)
            sizes.add(len(raw))
    assert len(sizes) == 1, "all layers of a set of queries hold the same queries"
    return sizes.pop(), torch.float64 if torch.float64 in dtypes else torch.float32


def _not_stored(manifest: Manifest, method: ScoreForm, layer: int, vector: str) -> MismatchError:
    """Why a form cannot be asked of an index that lacks one of its vectors."""
    if vector in CONTRASTS and not manifest.base:
        return MismatchError(
            f"{method.name} compares with the model before fine-tuning; this index was built without one.",
            "A model with an adapter is its own base; a fully fine-tuned one needs --base.",
            "Build the index again with --base MODEL, or ask with --method rept-centred.",
        )
    at = ", ".join(str(at) for at, name, _ in manifest.stored() if name == vector) or "no layer"
    return MismatchError(
        f"{method.name} reads {vector} at layer {layer}; the index has it at {at}.",
        "What fine-tuning changed is stored at the layer where the default method reads it.",
        f"Leave --layer out, or build an index with --layer {layer} alone.",
    )
