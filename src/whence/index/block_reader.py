"""The vectors of an index, decoded once for several passes over them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from whence.index.store import Index, RecordBlock
from whence.scoring import CENTRED, Block, Vectors

Reads = Sequence[tuple[int, str]]
"""(layer, vector) of each vector that is read, a vector's name perhaps with CENTRED behind it."""

HELD_BYTES = 1 << 30
"""Decoded vectors that are kept for later passes; an index with more is read from disk at every pass. 1 GiB is some
28,000 records of a model of width 4,096, and little beside the model itself."""


class BlockReader:
    """The blocks of one index under one filter.

    The first pass reads them from disk; where all of them fit `HELD_BYTES`, later passes over the same vectors, or some
    of them, find them in memory. Values are the same either way.
    """

    def __init__(self, index: Index, where: str | None = None, block_rows: int = 8192) -> None:
        self.index, self.where, self._block_rows = index, where, block_rows
        self._held: list[RecordBlock] = []
        self._of: tuple[frozenset[tuple[int, str]], torch.dtype, bool] | None = None
        self._places: tuple[np.ndarray, np.ndarray] | None = None

    def blocks(self, reads: Reads, *, dtype: torch.dtype, gain: bool = False) -> Iterator[RecordBlock]:
        """As `Index.blocks`; what was held before may have more vectors than are asked for."""
        if self._holds(reads, dtype, gain):
            yield from self._held
            return
        fits = self._bytes(reads, dtype) <= HELD_BYTES
        self._held, self._of, self._places = [], None, None
        kept: list[RecordBlock] = []
        for block in self.index.blocks(
            list(reads), where=self.where, block_rows=self._block_rows, dtype=dtype, gain=gain
        ):
            if fits:
                kept.append(block)
            yield block
        if fits:
            self._held, self._of = kept, (frozenset(reads), dtype, gain)

    def vectors(self, records: Sequence[int], reads: Reads, *, dtype: torch.dtype) -> Block:
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

    def _holds(self, reads: Reads, dtype: torch.dtype, gain: bool) -> bool:
        if self._of is None:
            return False
        held, held_dtype, held_gain = self._of
        return held_dtype == dtype and held.issuperset(reads) and (held_gain or not gain)

    def _bytes(self, reads: Reads, dtype: torch.dtype) -> int:
        """Memory of these vectors for every record, whatever the filter: unit [dim] and norm of each."""
        dims = {vector.place: vector.stored_dim for vector in self.index.manifest.vectors}
        width = sum(dims[layer, name.removesuffix(CENTRED)] + 1 for layer, name in set(reads))
        return self.index.n_records * width * dtype.itemsize


def _picked(parts: Sequence[Vectors], places: np.ndarray, starts: np.ndarray) -> Vectors:
    """Rows of several blocks, by their place in all of them."""
    first = parts[0]
    unit = first.unit.new_empty(len(places), first.unit.shape[1])
    norm = first.norm.new_empty(len(places))
    for part, start in zip(parts, starts, strict=False):
        mine = np.flatnonzero((places >= start) & (places < start + len(part.norm)))
        at = torch.from_numpy(places[mine] - start)
        unit[mine], norm[mine] = part.unit[at], part.norm[at]
    return Vectors(unit, norm)


__all__ = ["HELD_BYTES", "BlockReader", "Reads"]
