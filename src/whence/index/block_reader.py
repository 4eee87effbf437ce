"""The vectors of an index, for several passes over them: mapped where they lie, or decoded once and held."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch

from whence.index.ann_summary import ANN
from whence.index.manifest import RECORDS, StoredVector
from whence.index.mapped import Run, mapped_runs
from whence.index.packed import PackedVectors
from whence.index.reading import damage_named
from whence.index.remote_cache import COLUMNS, cached_vectors, columns_in
from whence.index.store import Index, RecordBlock, number_columns
from whence.object_path import is_remote
from whence.scoring import CENTRED, Block, RowBlock, VectorBlock, Vectors

Reads = Sequence[tuple[int, str]]
"""(layer, vector) of each vector that is read, a vector's name perhaps with CENTRED behind it."""

HELD_BYTES = 1 << 30
"""Vectors that are kept for later passes; an index with more is read from disk at every pass. 1 GiB is some 300,000
records of the default form at hidden 4,096, and little beside the model itself."""
MAPPED_ROWS = 1 << 15
"""Most rows of a block of mapped vectors: 32 MiB of 1,024 dimensions, and 8 MiB of scores of 64 queries."""


class BlockReader:
    """The blocks of one index under one filter.

    Int8 vectors of a whole index are mapped (`whence.index.mapped`), and every pass reads them in place. Others are
    read from disk by the first pass, and found in memory by later ones over the same vectors, or some of them, where
    all of them fit `HELD_BYTES`. Values are the same either way.
    """

    def __init__(self, index: Index, where: str | None = None, block_rows: int = 8192) -> None:
        self.index, self.where, self._block_rows = index, where, block_rows
        self._held: list[RecordBlock] = []
        self._of: tuple[frozenset[tuple[int, str]], torch.dtype, bool] | None = None
        self._places: tuple[np.ndarray, np.ndarray] | None = None
        self._lies: tuple[list[Run], dict[str, np.ndarray]] | None = None
        self.mapped = False
        """Whether the last pass read mapped vectors."""

    def blocks(self, reads: Reads, *, dtype: torch.dtype, gain: bool = False) -> Iterator[RecordBlock]:
        """As `Index.blocks`; what was held before may have more vectors than are asked for."""
        if self._holds(reads, dtype, gain):
            yield from self._held
            return
        self._held, self._of, self._places = [], None, None
        mapped = self._mapped(reads, gain) if dtype == torch.float32 and self.where is None else None
        self.mapped = mapped is not None
        if mapped is not None:
            self._held, self._of = mapped, (frozenset(reads), dtype, gain)
            yield from mapped
            return
        fits = self._bytes(reads, dtype) <= HELD_BYTES
        kept: list[RecordBlock] = []
        for block in self.index.blocks(
            list(reads), where=self.where, block_rows=self._block_rows, dtype=dtype, gain=gain
        ):
            if fits:
                kept.append(block)
            yield block
        if fits:
            self._held, self._of = kept, (frozenset(reads), dtype, gain)

    def vectors(self, records: Sequence[int] | np.ndarray, reads: Reads, *, dtype: torch.dtype) -> Block:
        """As `Index.vectors`: the vectors of the records at these offsets, in this order."""
        if not self._holds(reads, dtype, False):
            return self.index.vectors(records, reads, dtype=dtype)
        if self._places is None:
            offsets = np.concatenate([np.empty(0, np.int64), *(block.record for block in self._held)])
            self._places = np.sort(offsets), np.argsort(offsets, kind="stable")
        ordered, order = self._places
        # Place of each record among all held ones, one block behind the other; then its block and the place in it.
        places = order[np.searchsorted(ordered, np.asarray(records, dtype=np.int64))]
        starts = np.cumsum([0, *(len(block) for block in self._held)])
        found: dict[int, dict[str, Vectors]] = {}
        for layer, name in reads:
            parts = [block.vectors[layer][name] for block in self._held]
            found.setdefault(layer, {})[name] = _picked(parts, places, starts)
        return found

    def prepare(self, reads: Reads, *, gain: bool = False) -> None:
        """Maps the vectors for `packed` and `vectors`, where they can be mapped, without reading them."""
        if self._holds(reads, torch.float32, gain) or self.where is not None:
            return
        mapped = self._mapped(reads, gain)
        self.mapped = mapped is not None
        if mapped is not None:
            self._held, self._of, self._places = mapped, (frozenset(reads), torch.float32, gain), None

    def packed(self, records: np.ndarray, reads: Reads) -> RowBlock:
        """The vectors of the records at these offsets (each once, ascending), as `blocks` holds them, for float32."""
        if not self.mapped or not self._holds(reads, torch.float32, False):
            return self.index.packed(records, reads)
        assert self._lies is not None
        runs, numbers = self._lies
        # Ascending records lie in stretches, each in one run: [first, last) of each.
        starts = np.array([run.start for run in runs])
        run = np.searchsorted(starts, records, side="right") - 1
        cuts = np.concatenate([[0], np.flatnonzero(np.diff(run)) + 1, [len(run)]]).tolist()
        stored = {vector.place: vector for vector in self.index.manifest.vectors}
        found: dict[int, dict[str, VectorBlock]] = {}
        for layer, name in reads:
            vector = stored[layer, name.removesuffix(CENTRED)]
            q = np.empty((len(records), vector.stored_dim), dtype=np.int8)
            for first, last in pairwise(cuts):
                one = runs[run[first]]
                np.take(one.numbers[vector.column], records[first:last] - one.start, axis=0, out=q[first:last])
            found.setdefault(layer, {})[name] = PackedVectors(
                torch.from_numpy(q),
                torch.from_numpy(numbers[vector.scale_column][records]),
                torch.from_numpy(numbers[vector.norm_column][records]),
                self.index.stored_centres[vector.place] if name.endswith(CENTRED) else None,
            )
        return found

    def _holds(self, reads: Reads, dtype: torch.dtype, gain: bool) -> bool:
        if self._of is None:
            return False
        held, held_dtype, held_gain = self._of
        return held_dtype == dtype and held.issuperset(reads) and (held_gain or not gain)

    def _bytes(self, reads: Reads, dtype: torch.dtype) -> int:
        """Memory of these vectors for every record, whatever the filter."""
        stored = {vector.place: vector for vector in self.index.manifest.vectors}
        vectors = [stored[layer, name.removesuffix(CENTRED)] for layer, name in set(reads)]
        return self.index.n_records * sum(_held_bytes(vector, dtype) for vector in vectors)

    def _mapped(self, reads: Reads, gain: bool) -> list[RecordBlock] | None:
        """The whole index in blocks whose int8 vectors lie in its files; None where they cannot be mapped."""
        index = self.index
        stored = {vector.place: vector for vector in index.manifest.vectors}
        vectors = list(dict.fromkeys(stored[layer, name.removesuffix(CENTRED)] for layer, name in reads))
        if not vectors or any(vector.precision != "int8" for vector in vectors):
            return None
        columns = ["row", "turn", *(["log_likelihood_gain"] if gain else [])]
        columns += [column for vector in vectors for column in (vector.norm_column, vector.scale_column)]
        found_columns = _in_place(index, vectors, columns)
        if found_columns is None:
            return None
        runs, numbers = self._lies = found_columns
        blocks = []
        for run in runs:
            piece = slice(run.start, run.start + run.n)
            found: dict[int, dict[str, VectorBlock]] = {}
            for layer, name in reads:
                vector = stored[layer, name.removesuffix(CENTRED)]
                found.setdefault(layer, {})[name] = PackedVectors(
                    torch.from_numpy(run.numbers[vector.column]),
                    torch.from_numpy(numbers[vector.scale_column][piece]),
                    torch.from_numpy(numbers[vector.norm_column][piece]),
                    index.stored_centres[vector.place] if name.endswith(CENTRED) else None,
                )
            gains = torch.from_numpy(numbers["log_likelihood_gain"][piece].astype(np.float64)) if gain else None
            record = np.arange(piece.start, piece.stop)
            blocks.append(RecordBlock(numbers["row"][piece], numbers["turn"][piece], record, found, gains))
        return blocks


def _in_place(
    index: Index, vectors: Sequence[StoredVector], columns: Sequence[str]
) -> tuple[list[Run], dict[str, np.ndarray]] | None:
    """The int8 vectors in runs, and these columns whole; of an index in an object store from its cache here."""
    if is_remote(index.path):
        names = [vector.column for vector in vectors]
        with damage_named(index.path):
            return cached_vectors(index.manifest, index.dataset, names, columns, MAPPED_ROWS)
    runs = mapped_runs(index.path / RECORDS, index.dataset, vectors, MAPPED_ROWS)
    if runs is not None:
        return runs, number_columns(index.dataset, columns)
    ann = index.manifest.ann
    if ann is None or ann.generation != index.manifest.generation:
        return None
    # An approximate search has its own copy of vectors that cannot be mapped where Lance has them.
    found = columns_in(
        index.path / ANN / COLUMNS, index.dataset, [vector.column for vector in vectors], (), MAPPED_ROWS
    )
    return None if found is None else (found.runs, number_columns(index.dataset, columns))


def _held_bytes(vector: StoredVector, dtype: torch.dtype) -> int:
    """Of one record: int8 numbers are held as they are, for scores in float32."""
    if vector.precision == "int8" and dtype == torch.float32:
        return vector.stored_dim + 2 * dtype.itemsize
    return (vector.stored_dim + 1) * dtype.itemsize


def _picked(parts: Sequence[VectorBlock], places: np.ndarray, starts: np.ndarray) -> Vectors:
    """Rows of several blocks, by their place in all of them."""
    block = np.searchsorted(starts, places, side="right") - 1
    found, order = [], []
    for number in np.unique(block):
        mine = np.flatnonzero(block == number)
        found.append(parts[number].rows(torch.from_numpy(places[mine] - starts[number])))
        order.append(mine)
    back = torch.from_numpy(np.argsort(np.concatenate(order), kind="stable"))
    unit, norm = (torch.cat([getattr(one, side) for one in found])[back] for side in ("unit", "norm"))
    return Vectors(unit, norm)


__all__ = ["HELD_BYTES", "BlockReader", "Reads"]
