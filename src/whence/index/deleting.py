"""Rows taken out of an index that is complete.

A deleted row is in no answer from then on. Its bytes stay in the files, marked as deleted, until `compact_index`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import lance
import numpy as np

from whence.errors import InputError
from whence.index.append_plan import warn_of_plan
from whence.index.centres import Sums, kept_sums, sum_columns, sums_in, sums_of
from whence.index.changes import changed_manifest, new_change, require_changeable
from whence.index.history import described_numbers
from whence.index.locking import locked
from whence.index.manifest import Counts, Manifest
from whence.index.publishing import clear, current_records, fragments_now, publish
from whence.index.saving import saving
from whence.index.store import Index
from whence.object_path import place

ROWS_AT_ONCE = 5000
"""Rows named in one condition."""
SHOWN = 5
_ID = re.compile(r"[0-9a-f]{16}")


def delete_rows(index: str | Path, ids: Iterable[str], *, missing_ok: bool = False) -> Index:
    """Deletes the rows of these ids from a complete index; all rows of an id, where several have it.

    The index then answers as one that was built from the rows that are left. Centres of stored vectors follow. Means of
    vectors as they were extracted stay those of the rows before, as what a deleted row added to them is not kept; turns
    that are read anew are centred by them (a part of an answer, words, the second stage).

    ids: 16 hexadecimal digits each, as a trace shows them. missing_ok: pass over ids that no row has.

    Raises:
        InputError: an id is none, no row has it, or no row would be left. Nothing is deleted then.
        IndexFolderError: the index cannot be changed, or another run is changing it.
    """
    folder, wanted = place(index), set(_checked(ids))
    with locked(folder):
        before = require_changeable(folder)
        manifest = before.manifest
        dataset = current_records(folder, manifest)
        rows, found = _rows_of(dataset, wanted)
        _check_found(folder, wanted - found, before.counts.n_rows - len(rows), missing_ok)
        if not len(rows):
            return Index.open(folder)
        warn_of_plan(folder, manifest)
        with saving(folder, manifest.data.n_rows):
            gone = _counts_of(dataset, rows)
            left = Counts(
                n_rows=before.counts.n_rows - gone.n_rows,
                n_records=before.counts.n_records - gone.n_records,
                n_rejected=before.counts.n_rejected,
                n_truncated=before.counts.n_truncated - gone.n_truncated,
            )
            sums = _sums_left(folder, manifest, dataset, rows, left.n_records)
            for condition in _conditions(rows):
                dataset.delete(condition)
            dataset = current_records(folder, manifest.model_copy(update={"records_version": None}))
            change = new_change(manifest, change="delete", n_rows=len(rows), rows=described_numbers(rows))
            fragments = fragments_now(dataset, before.table.fragments)
            known = before.table.by_path()
            changed = changed_manifest(manifest, change, left)
            published = publish(folder, changed, dataset, fragments, sums=sums, known=known)
            clear(folder, published, before=before.manifest)
    return Index.open(folder)


def read_ids(path: Path) -> list[str]:
    """The ids of a text file, one a line; what stands behind the first blank of a line is left aside.

    Raises InputError for a file that cannot be read or holds none.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}", "Expected a text file with one id a line.", "") from error
    ids = [line.split()[0] for line in lines if line.strip()]
    if not ids:
        raise InputError(f"{path} holds no id.", "Expected one id a line.", "A trace shows each row's id.")
    return ids


def _checked(ids: Iterable[str]) -> Iterator[str]:
    for one in ids:
        if _ID.fullmatch(one.strip()) is None:
            raise InputError(
                f"{one!r} is no id of a row.", "An id is 16 hexadecimal digits.", "A trace shows each row's id."
            )
        yield one.strip()


def _rows_of(dataset: lance.LanceDataset, wanted: set[str]) -> tuple[np.ndarray, set[str]]:
    """Numbers of the rows with these ids, ascending, and which of the ids were found."""
    rows: list[int] = []
    found: set[str] = set()
    for batch in dataset.scanner(columns=["row", "id"]).to_batches():
        for row, one in zip(batch.column("row").to_pylist(), batch.column("id").to_pylist(), strict=True):
            if one in wanted:
                rows.append(row)
                found.add(one)
    return np.unique(np.array(rows, dtype=np.int64)), found


def _check_found(folder: Path, missing: set[str], n_left: int, missing_ok: bool) -> None:
    if missing and not missing_ok:
        shown = ", ".join(sorted(missing)[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
        raise InputError(
            f"{len(missing)} of the ids are not in {folder}: {shown}.",
            "Every id is that of a row of the index. Nothing was deleted.",
            "Take them out of the list, or pass over them with --missing-ok.",
        )
    if n_left <= 0:
        raise InputError(
            f"These are all rows of {folder}.", "An index has at least one row.", "Remove the folder instead."
        )


def _counts_of(dataset: lance.LanceDataset, rows: np.ndarray) -> Counts:
    n_records = n_truncated = 0
    for condition in _conditions(rows):
        n_records += dataset.count_rows(filter=condition)
        n_truncated += dataset.count_rows(filter=f"({condition}) AND truncated > 0")
    return Counts(n_rows=len(rows), n_records=n_records, n_rejected=0, n_truncated=n_truncated)


def _sums_left(folder: Path, manifest: Manifest, dataset: lance.LanceDataset, rows: np.ndarray, n_left: int) -> Sums:
    """The sums over the records that are left; those that are kept as sums alone are scaled to them."""
    assert manifest.counts is not None
    left = dict(sums_in(folder, manifest))
    scaled = {name: left.pop(name) * (n_left / manifest.counts.n_records) for name in kept_sums(manifest)}
    for condition in _conditions(rows):
        gone = sums_of(manifest, dataset.scanner(columns=sum_columns(manifest), filter=condition).to_batches())
        left = {name: total - gone[name] for name, total in left.items()}
    return left | scaled


def _conditions(rows: np.ndarray) -> Iterator[str]:
    for start in range(0, len(rows), ROWS_AT_ONCE):
        yield f"row IN ({', '.join(map(str, rows[start : start + ROWS_AT_ONCE].tolist()))})"


__all__ = ["delete_rows", "read_ids"]
