"""Int8 vectors read from where they lie: pages of Lance's data files, mapped into memory.

Lance writes a wide column of fixed-size lists without nulls as one run of bytes a page. Where its file says that a page
has exactly as many bytes as its rows have numbers, the page is mapped, and a scan reads it at the speed of memory,
without a copy. The system keeps mapped pages as long as it has room; they are no memory of the process's own. What is
mapped is held to what Lance reads, in the first and the last row of every page; where anything differs (deleted rows,
narrow vectors, another layout) nothing is mapped, and the index is read through Lance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import lance
import numpy as np

from whence.index.manifest import StoredVector

Pages = list[np.ndarray]
"""The rows of one vector in one fragment, a page each, [n, dim] int8."""


class Run(NamedTuple):
    """Consecutive records, from number `start` on, that lie in one page of every vector: [n, dim] by column."""

    start: int
    numbers: dict[str, np.ndarray]

    @property
    def n(self) -> int:
        """Records."""
        return len(next(iter(self.numbers.values())))


def mapped_runs(
    folder: Path, dataset: lance.LanceDataset, vectors: Sequence[StoredVector], most: int
) -> list[Run] | None:
    """All records in their order, in runs of at most `most`; None where the vectors cannot be mapped.

    folder: of the records.
    """
    try:
        fields = {field.name(): field.id() for field in dataset.lance_schema.fields()}
        runs, edges = [], []
        first = 0
        for fragment in dataset.get_fragments():
            n = fragment.count_rows()
            pages = _pages(folder, fragment, fields, vectors)
            if fragment.num_deletions or pages is None or any(sum(map(len, one)) != n for one in pages.values()):
                return None
            for start, stop in _bounds(pages, n, most):
                runs.append(Run(first + start, {name: _slice(one, start, stop) for name, one in pages.items()}))
            edges += [first + edge for one in pages.values() for edge in _page_edges(one)]
            first += n
        return runs if _as_lance_reads(dataset, runs, sorted(set(edges)), vectors) else None
    except (OSError, ValueError, AttributeError, ImportError, RuntimeError):
        # What Lance does not say in this release, or cannot read, is read the slow way, which has its own errors.
        return None


def _pages(
    folder: Path, fragment: lance.LanceFragment, fields: Mapping[str, int], vectors: Sequence[StoredVector]
) -> dict[str, Pages] | None:
    """Of each vector's column. fields: Lance's number of each column."""
    from lance.file import LanceFileReader

    found: dict[str, Pages] = {}
    for file in fragment.data_files():
        mine = [vector for vector in vectors if fields.get(vector.column) in file.fields]
        if not mine:
            continue
        path = folder / "data" / file.path
        metadata = LanceFileReader(str(path)).metadata()
        # Private pages: torch wants memory that could be written, the file stays as it is.
        whole = np.memmap(path, np.int8, "c")
        for vector in mine:
            column = metadata.columns[file.column_indices[file.fields.index(fields[vector.column])]]
            pages = []
            for page in column.pages:
                if len(page.buffers) != 1 or page.buffers[0].size % vector.stored_dim:
                    return None
                start, size = page.buffers[0].position, page.buffers[0].size
                pages.append(whole[start : start + size].reshape(-1, vector.stored_dim))
            found[vector.column] = pages
    return found if len(found) == len({vector.column for vector in vectors}) else None


def _page_edges(pages: Pages) -> Iterator[int]:
    """Numbers of the first and the last row of each page."""
    start = 0
    for page in pages:
        if len(page):
            yield start
            yield start + len(page) - 1
        start += len(page)


def _bounds(pages: dict[str, Pages], n: int, most: int) -> Iterator[tuple[int, int]]:
    """Where runs begin and end: at every page's end, and after `most` rows."""
    ends = {int(end) for one in pages.values() for end in np.cumsum([len(page) for page in one])} | {n}
    start = 0
    for end in sorted(ends):
        while start < end:
            yield start, min(start + most, end)
            start = min(start + most, end)


def _slice(pages: Pages, start: int, stop: int) -> np.ndarray:
    """Rows of one page, by their numbers in the fragment."""
    first = 0
    for page in pages:
        if start < first + len(page):
            return page[start - first : stop - first]
        first += len(page)
    raise ValueError(f"there is no row {start}")


def _as_lance_reads(
    dataset: lance.LanceDataset, runs: Sequence[Run], edges: Sequence[int], vectors: Sequence[StoredVector]
) -> bool:
    """Whether the records at these numbers are the same both ways."""
    if not edges:
        return False
    table = dataset.take(list(edges), columns=[vector.column for vector in vectors])
    starts = np.array([run.start for run in runs])
    places = np.searchsorted(starts, edges, side="right") - 1
    for vector in vectors:
        read = table[vector.column].combine_chunks().flatten().to_numpy().reshape(len(edges), -1)
        for row, edge, place in zip(read, edges, places, strict=True):
            run = runs[place]
            if not np.array_equal(run.numbers[vector.column][edge - run.start], row):
                return False
    return True


__all__ = ["Run", "mapped_runs"]
