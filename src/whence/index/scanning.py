"""One scan of an index for several score forms: every record is scored, block by block.

    pass 1   s[q, u] of every query q and record u, for every form that is asked for
    pass 2   s'[q, u], for forms with an `Expansion`, over blocks that pass 1 has decoded

Which rows a query is expanded with is known only when all of them are scored, and s' needs the score of each of these
rows t with every row u; s holds the query's own scores with them and no more. So pass 2 is arithmetic that cannot be
had from pass 1, but no second reading: the blocks are in memory, unless the index is larger than `HELD_BYTES`.

A row counts once, by its best turn. Ties break by the lower row, then the lower turn, so hits are ordered by
(-score, row, turn).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from whence.errors import MismatchError, NonFiniteError
from whence.index.best_rows import BestRows, Match
from whence.index.block_reader import BlockReader, Reads
from whence.index.held import check_held
from whence.index.store import Index, RecordBlock
from whence.index.stored_form import queries_in_form
from whence.model import learned_fraction
from whence.scoring import (
    Block,
    Expansion,
    FormLayers,
    ScoreForm,
    Scores,
    Vectors,
    expanded_block,
    expansion_weights,
    queries_in,
    rows_of,
)
from whence.signatures import Signatures

QUERIES_AT_ONCE = 256
"""Scores held at once are this many times the block's records."""


class ScoreMatrix(NamedTuple):
    """Scores of every row, by its best turn: scores[q, i] belongs to row rows[i]."""

    rows: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """A form that a scan scores, and what is wanted of it: each query's `k` best rows, every row's score, or both.

    out: where every row's score is written by the row's number, [n_query, n_rows of the data] of -inf, such as a file
         in memory; its matrix is then `out` itself. None: made in memory, with the rows that the filter lets through.
    """

    form: ScoreForm
    roles: FormLayers
    k: int = 0
    every_row: bool = False
    out: np.ndarray | None = None


class Scored(NamedTuple):
    """What was wanted of one request; the matrix is None, and the lists are empty, where it was not."""

    matches: list[list[Match]]
    matrix: ScoreMatrix | None


def scan(blocks: BlockReader, queries: Mapping[int, Signatures], requests: Sequence[ScoreRequest]) -> list[Scored]:
    """The requests' scores for all queries, in the requests' order, in one reading of the index.

    queries: signatures of the queries by layer, as `Extracted.layers`; float64 ones are scored in float64.

    Raises:
        InputError: a filter that cannot be evaluated.
        MismatchError: a layer or a vector that the index or the queries do not have.
        NonFiniteError: a query with NaN or infinity.
    """
    index = blocks.index
    checked = [_check(index, queries, request.form, request.roles) for request in requests]
    n_queries, dtype = checked[0][0], max((dtype for _, dtype in checked), key=lambda dtype: dtype.itemsize)
    whole = queries_in_form(index.manifest, queries, index.stored_centres)
    return scan_blocks(blocks, whole, requests, n_queries=n_queries, dtype=dtype)


def scan_blocks(
    blocks: BlockReader, queries: Block, requests: Sequence[ScoreRequest], *, n_queries: int, dtype: torch.dtype
) -> list[Scored]:
    """As `scan`, of queries in the coordinates of the index's vectors."""
    index = blocks.index
    starts = range(0, n_queries, QUERIES_AT_ONCE)
    parts = [(start, rows_of(queries, slice(start, start + QUERIES_AT_ONCE))) for start in starts]
    wanted = [_Wanted(request, n_queries, index, dtype) for request in requests]
    first_rows = [_FirstRows(n_queries, request) if request.form.expand else None for request in requests]
    for block in blocks.blocks(_reads(requests), dtype=dtype, gain=_weighed(requests)):
        for request, own, first in zip(requests, wanted, first_rows, strict=True):
            for start, scores in _scored(request, parts, block, dtype):
                (own if first is None else first).take(block, start, scores)
    again = [
        (request, own, [(start, first.mixed(blocks, part, start, dtype)) for start, part in parts])
        for request, own, first in zip(requests, wanted, first_rows, strict=True)
        if first is not None
    ]
    if again:
        expanding = [request for request, _, _ in again]
        for block in blocks.blocks(_reads(expanding), dtype=dtype, gain=_weighed(expanding)):
            for request, own, mixed in again:
                for start, scores in _scored(request, mixed, block, dtype):
                    own.take(block, start, scores)
    return [own.scored() for own in wanted]


def _reads(requests: Sequence[ScoreRequest]) -> Reads:
    """Every vector that the requests read, once each."""
    return list(dict.fromkeys(read for request in requests for read in request.form.reads(request.roles)))


def _weighed(requests: Sequence[ScoreRequest]) -> bool:
    """Whether any of the forms needs the rows' log-likelihood gains."""
    return any(request.form.by_learned_fraction for request in requests)


def _scored(
    request: ScoreRequest, parts: Sequence[tuple[int, Block]], block: RecordBlock, dtype: torch.dtype
) -> Iterator[tuple[int, Scores]]:
    """(number of the first query, scores [n_query, n_record]) of each run of queries."""
    share = None
    if request.form.by_learned_fraction:
        assert block.gain is not None, f"{request.form.name} weights rows by their learned fraction"
        share = learned_fraction(block.gain).to(dtype)
    for start, part in parts:
        scores = request.form.function(part, block.vectors, request.roles)
        yield start, scores if share is None else scores.mul_(share)


@dataclass(slots=True)
class _FirstRows:
    """Pass 1 of a form with an `Expansion`: each query's best rows, and the mean of its scores."""

    n_queries: int
    request: ScoreRequest
    _best: list[BestRows] = field(init=False)
    _total: np.ndarray = field(init=False)
    _count: int = 0

    def __post_init__(self) -> None:
        assert self.request.form.expand is not None
        self._best = [BestRows(self.request.form.expand.rows) for _ in range(self.n_queries)]
        self._total = np.zeros(self.n_queries)

    def take(self, block: RecordBlock, start: int, scores: Scores) -> None:
        self._total[start : start + len(scores)] += scores.sum(1, dtype=torch.float64).numpy()
        self._count += len(block) if start == 0 else 0
        _take(self._best, block, start, scores)

    def mixed(self, blocks: BlockReader, part: Block, start: int, dtype: torch.dtype) -> Block:
        """The queries of a part, from number `start` on, with their best rows mixed in; see `Expansion`."""
        form, mean = self.request.form, self._total / max(1, self._count)
        assert form.expand is not None
        best = [self._best[start + query].matches() for query in range(queries_in(part))]
        # The first rows of all queries at once: each look-up of a few costs as much.
        records = [match.record for matches in best for match in matches]
        every = blocks.vectors(records, form.reads(self.request.roles), dtype=dtype) if records else {}
        one_by_one, first = [], 0
        for query, matches in enumerate(best):
            asked: Block = rows_of(part, slice(query, query + 1))
            if matches:
                rows = rows_of(every, slice(first, first + len(matches)))
                first += len(matches)
                asked = mixed_query(asked, rows, matches, float(mean[start + query]), form.expand)
            one_by_one.append(asked)
        return {
            layer: {name: _stacked([one[layer][name] for one in one_by_one]) for name in by_name}
            for layer, by_name in one_by_one[0].items()
        }


def mixed_query(asked: Block, rows: Block, matches: Sequence[Match], mean: float, expand: Expansion) -> Block:
    """One query with its best rows mixed in, as `Expansion` says.

    rows: vectors of the matches, in their order. mean: of the query's scores over all records.
    """
    dtype = next(iter(next(iter(asked.values())).values())).unit.dtype
    scores = torch.tensor([[match.score for match in matches]], dtype=dtype)
    weights = expansion_weights(scores, torch.tensor([mean], dtype=dtype), expand)
    return expanded_block(asked, rows, weights, expand.weight)


class _Wanted:
    """The scores of a form's last pass, as the request wants them."""

    def __init__(self, request: ScoreRequest, n_queries: int, index: Index, dtype: torch.dtype) -> None:
        self._best = [BestRows(request.k) for _ in range(n_queries)] if request.k else []
        size = index.manifest.data.n_rows
        self._given = request.out is not None
        self._full: torch.Tensor | None = None
        if request.out is not None:
            self._full = torch.from_numpy(request.out)
        elif request.every_row:
            self._full = torch.full((n_queries, size), -torch.inf, dtype=dtype)
        self._present = np.zeros(size, dtype=bool)

    def take(self, block: RecordBlock, start: int, scores: Scores) -> None:
        _take(self._best, block, start, scores)
        if self._full is not None and len(block):
            self._present[block.row] = True
            mine = self._full[start : start + len(scores)]
            first, last = int(block.row[0]), int(block.row[-1])
            if last - first == len(block) - 1 and (np.diff(block.row) == 1).all():
                # One record a row, without a gap, as most data have.
                torch.maximum(mine[:, first : last + 1], scores, out=mine[:, first : last + 1])
            else:
                places = torch.from_numpy(block.row.copy()).expand_as(scores)
                mine.scatter_reduce_(1, places, scores, reduce="amax")

    def scored(self) -> Scored:
        matrix = None
        if self._full is not None:
            rows, full = np.flatnonzero(self._present), self._full.numpy()
            matrix = ScoreMatrix(rows, full if self._given else full[:, rows])
        return Scored([one.matches() for one in self._best], matrix)


def _take(best: Sequence[BestRows], block: RecordBlock, start: int, scores: Scores) -> None:
    if not best or not len(block):
        return
    highest = scores.amax(1).tolist()
    for offset, (row, most) in enumerate(zip(scores.numpy(), highest, strict=True)):
        if most >= best[start + offset].least:
            best[start + offset].take(row, block.row, block.turn, block.record)


def _stacked(vectors: Sequence[Vectors]) -> Vectors:
    return Vectors(torch.cat([one.unit for one in vectors]), torch.cat([one.norm for one in vectors]))


def _check(
    index: Index, queries: Mapping[int, Signatures], method: ScoreForm, roles: FormLayers
) -> tuple[int, torch.dtype]:
    """Number of queries and the dtype to score in."""
    check_held(method, roles, index.manifest)
    dims = {vector.place: vector.dim for vector in index.manifest.vectors}
    dtypes, sizes = set(), set()
    for layer, name in dict.fromkeys(method.vectors(roles)):
        raw = queries[layer].named().get(name) if layer in queries else None
        if raw is None:
            raise MismatchError(
                f"{method.name} reads {name} at layer {layer}, which the queries' signatures do not have.",
                "Queries must have the vectors that a method reads.",
                "Extract them: Extractor(model, vectors=index.manifest.places()).",
            )
        if raw.shape[1] != dims[layer, name]:
            raise MismatchError(
                f"The queries' {name} at layer {layer} has {raw.shape[1]} dimensions.",
                f"The index has {dims[layer, name]}.",
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


__all__ = ["ScoreMatrix", "ScoreRequest", "Scored", "mixed_query", "scan", "scan_blocks"]
