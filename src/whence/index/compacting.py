"""The files of an index without what was deleted, and without many small ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import lance
import pyarrow as pa

from whence.index.append_plan import warn_of_plan
from whence.index.changes import new_change, require_changeable
from whence.index.file_table import Fragment, IndexFile, ShardRows
from whence.index.history import Change
from whence.index.locking import locked
from whence.index.manifest import REFERENCES
from whence.index.publishing import clear, commit_all, current_records, fragments_now, next_generation, publish
from whence.index.saving import saving
from whence.index.shard_commits import write_fragment
from whence.index.store import Index
from whence.object_path import place, remove_tree


def compact_index(index: str | Path) -> Index:
    """Writes the files with deleted records again without them, and small neighbours as one; then removes the old ones.

    Behind it the text of deleted rows is in no file of the index. Values and answers stay the same. Memory: one file.

    Raises IndexFolderError: the index cannot be changed, or another run is changing it.
    """
    folder = place(index)
    with locked(folder):
        before = require_changeable(folder)
        manifest = before.manifest
        warn_of_plan(folder, manifest)
        dataset = current_records(folder, manifest)
        with saving(folder, manifest.data.n_rows):
            known = dict(before.table.by_path())
            fragments = list(_compacted(folder, dataset, before.table.fragments, manifest.shard_rows, known))
            changed = next_generation(manifest, rows=False)
            if fragments != list(before.table.fragments):
                dataset = commit_all(folder, dataset.lance_schema, fragments)
                fragments = fragments_now(dataset, fragments)
                entry: Change = new_change(manifest, change="compact", n_rows=0)
                changed = changed.model_copy(update={"history": (*manifest.history, entry)})
                changed = publish(folder, changed, dataset, fragments, sums=None, known=known)
            else:
                changed = manifest
            clear(folder, changed)
            if len(manifest.deleted_rows()):
                # A trace that was running while rows were deleted may have written their text here afterwards.
                remove_tree(folder / REFERENCES)
    return Index.open(folder)


def _compacted(
    folder: Path,
    dataset: lance.LanceDataset,
    fragments: Sequence[Fragment],
    shard_rows: int,
    known: dict[str, IndexFile],
) -> Iterator[Fragment]:
    """The fragments as they are, or written again."""
    for group in _groups(fragments, shard_rows):
        if len(group) == 1 and not group[0].has_deletions:
            yield group[0]
            continue
        tables = [dataset.get_fragment(int(str(one.lance["id"]))).to_table() for one in group]
        shards = tuple(rows for one in group for rows in one.shards)
        fragment, files = write_fragment(folder, pa.concat_tables(tables), shards, dataset)
        known.update({file.path: file for file in files})
        yield fragment


def _groups(fragments: Sequence[Fragment], shard_rows: int) -> Iterator[list[Fragment]]:
    """Runs of fragments that together span no more rows than a shard."""
    run: list[Fragment] = []
    for one in fragments:
        if run and _n_rows(run) + _n_rows([one]) > shard_rows:
            yield run
            run = []
        run.append(one)
    if run:
        yield run


def _n_rows(fragments: Sequence[Fragment]) -> int:
    rows: list[ShardRows] = [rows for one in fragments for rows in one.shards]
    return sum(one.n_rows for one in rows)


__all__ = ["compact_index"]
