"""Places of records in a version of Lance, from the addresses that a scan gives."""

from __future__ import annotations

import lance
import numpy as np

ROW_SHIFT = 32
"""Lance's row address: the fragment's number in the upper 32 bits, the offset in its files in the lower."""


class RecordOffsets:
    """Turns row addresses into offsets in the dataset, as `LanceDataset.take` counts them.

    An address counts deleted records, an offset does not. Memory: eight bytes for each record of the fragments that
    have deletions, none for the others.
    """

    def __init__(self, dataset: lance.LanceDataset) -> None:
        fragments = dataset.get_fragments()
        self._first = np.zeros(max((one.fragment_id for one in fragments), default=-1) + 1, dtype=np.int64)
        self._live: dict[int, np.ndarray] = {}
        total = 0
        for fragment in fragments:
            self._first[fragment.fragment_id] = total
            total += fragment.count_rows()
            if fragment.num_deletions:
                addresses = fragment.scanner(columns=[], with_row_address=True).to_table()["_rowaddr"].to_numpy()
                self._live[fragment.fragment_id] = np.sort(_offset(addresses))

    def of(self, addresses: np.ndarray) -> np.ndarray:
        """The offset of each address, int64."""
        fragments, offsets = (addresses >> ROW_SHIFT).astype(np.int64), _offset(addresses)
        for fragment, live in self._live.items():
            here = fragments == fragment
            if here.any():
                offsets[here] = np.searchsorted(live, offsets[here])
        return np.asarray(self._first[fragments] + offsets)


def _offset(addresses: np.ndarray) -> np.ndarray:
    return (addresses & 0xFFFFFFFF).astype(np.int64)


__all__ = ["RecordOffsets"]
