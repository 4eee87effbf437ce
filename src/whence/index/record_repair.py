"""The records of an index of which files are damaged: these files' rows computed again, the others kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from whence.errors import IndexFolderError
from whence.index.data_parts import check_part, examples_of
from whence.index.engines.local import LocalEngine, ShardSpec
from whence.index.file_checks import part_of
from whence.index.file_table import FileTable, Fragment, ShardRows
from whence.index.manifest import RECORDS, Manifest
from whence.index.publishing import commit_all, fragments_now
from whence.index.records import record_schema, record_table
from whence.index.reopening import OpenWorkbench
from whence.index.sameness import check_reading
from whence.index.shard_commits import write_fragment
from whence.object_path import remove_tree


class RemadeRecords(NamedTuple):
    """The records as a new version, its fragments, and what was done."""

    dataset: lance.LanceDataset
    fragments: list[Fragment]
    told: list[str]


def remade_records(
    folder: Path,
    manifest: Manifest,
    table: FileTable,
    damaged: set[str],
    workbench: OpenWorkbench,
    notify: Callable[[str], None] | None = None,
) -> RemadeRecords:
    """Writes the records anew: fragments of whole files as they are, the others computed from the data.

    damaged: paths of the files that cannot be trusted. Deleted records do not come back.

    Raises:
        DataError: the data that the rows came from have changed.
        IndexFolderError: the data gave other records than before, or the index's version read rows otherwise.
    """
    lost = [one for one in table.fragments if _is_damaged(one, damaged)]
    # What is to be computed is checked before anything is touched.
    computed = _computed(folder, manifest, lost, workbench, notify) if lost else {}
    for name in ("_versions", "_transactions"):
        remove_tree(folder / RECORDS / name)
    schema = pa.schema([record_schema(manifest).field(name) for name in table.columns])
    whole = [_without_deletions(one) for one in table.fragments if one not in lost]
    dataset = commit_all(folder, schema, whole)
    kept = iter(fragments_now(dataset, whole))
    deleted, fragments = manifest.deleted_rows(), []
    for one in table.fragments:
        if one in lost:
            records = without_rows(computed[one.shards[0].shard], deleted).select(table.columns)
            fragments.append(write_fragment(folder, records, one.shards, dataset)[0])
            continue
        here = next(kept)
        if one.has_deletions:
            records = without_rows(dataset.get_fragment(int(str(here.lance["id"]))).to_table(), deleted)
            here = write_fragment(folder, records, one.shards, dataset)[0]
        fragments.append(here)
    fragments = [one for one in fragments if one.n_stored]
    dataset = commit_all(folder, dataset.lance_schema, fragments)
    remove_tree(folder / RECORDS / "_deletions")
    lines = [f"rows {one.shards[0].first_row} to {_last_row(one)} were computed again" for one in lost]
    return RemadeRecords(
        dataset, fragments_now(dataset, fragments), lines or ["the list of the records was written again"]
    )


def without_rows(table: pa.Table, deleted: np.ndarray) -> pa.Table:
    """The records of other rows than these."""
    return table.filter(pc.invert(pc.is_in(table["row"], pa.array(deleted, pa.int64())))) if len(deleted) else table


def _computed(
    folder: Path,
    manifest: Manifest,
    lost: Sequence[Fragment],
    workbench: OpenWorkbench,
    notify: Callable[[str], None] | None,
) -> dict[int, pa.Table]:
    """The records of each lost fragment, deleted rows included, by its first shard."""
    check_reading(folder, manifest)
    parts = manifest.parts()
    wanted = {rows.shard: rows for one in lost for rows in one.shards}
    for part in {id(part): part for part in (part_of(parts, shard) for shard in wanted)}.values():
        check_part(part)
    encoder, extractor = workbench(manifest)
    engine, tables = LocalEngine(encoder, extractor), {}
    for shard, rows in sorted(wanted.items()):
        if notify is not None:
            notify(f"Computing rows {rows.first_row} to {rows.first_row + rows.n_rows - 1}")
        part = part_of(parts, shard)
        start = rows.first_row - part.first_row
        group = list(islice(examples_of(part), start, start + rows.n_rows))
        spec = ShardSpec(shard, rows.first_row, partial(record_table, manifest, shard))
        tables[shard] = engine.compute_shard(spec, group).table
    found = {one.shards[0].shard: _joined(tables[rows.shard] for rows in one.shards) for one in lost}
    for one in lost:
        _check_count(one, found[one.shards[0].shard], manifest.deleted_rows())
    return found


def _check_count(fragment: Fragment, made: pa.Table, deleted: np.ndarray) -> None:
    """A fragment that was compacted holds fewer records than its shards, by those of deleted rows."""
    left = len(without_rows(made, deleted))
    if not left <= fragment.n_stored <= len(made):
        raise IndexFolderError(
            f"Rows from {fragment.shards[0].first_row} on gave {left} records, {fragment.n_stored} were stored.",
            "The same rows give the same records.",
            "Build the index again with --overwrite.",
        )


def _joined(tables: Iterable[pa.Table | None]) -> pa.Table:
    return pa.concat_tables([table for table in tables if table is not None])


def _is_damaged(fragment: Fragment, damaged: set[str]) -> bool:
    return any(f"{RECORDS}/data/{name}" in damaged for name in fragment.data_files)


def _without_deletions(fragment: Fragment) -> Fragment:
    return Fragment(lance={**fragment.lance, "deletion_file": None}, shards=fragment.shards)


def _last_row(fragment: Fragment) -> int:
    last: ShardRows = fragment.shards[-1]
    return last.first_row + last.n_rows - 1


__all__ = ["RemadeRecords", "remade_records", "without_rows"]
